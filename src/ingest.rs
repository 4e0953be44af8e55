//! From a decoded event to committed rows. `transaction` is one batch, `committer` the queues in front of it.

pub mod committer;
pub mod erasure;
pub mod import;
pub mod missing_user;
pub mod rebuild;
pub mod replay;
pub mod transaction;
