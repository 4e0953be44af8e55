//! The queues in front of the transactions: group commit, bounds, failure of a batch, shutdown.
