//! One batch of events in one transaction: lock, load, fold, write, commit.

use std::sync::Arc;

use thiserror::Error;

use crate::clock::Clock;
use crate::domain::event::{Event, Outcome};
use crate::domain::rules::Rules;
use crate::store::Store;

/// What became of one event of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub outcome: Outcome,
    pub reason: Option<String>,
}

/// Why a batch did not commit; says whether and how a retry can help. Nothing of the batch is kept.
#[derive(Debug, Error)]
pub enum BatchError {
    /// 55P03, 40P01, 40001, 57014: somebody else holds what it needs. Halve and retry.
    #[error("contended: {0}")]
    Contended(String),
    /// Classes 22, 23, 54: an event that Postgres refuses. Bisect.
    #[error("refused by the database: {0}")]
    Poison(String),
    /// The connection broke, perhaps during COMMIT: run the batch once more.
    #[error("connection lost: {0}")]
    ConnectionLost(String),
    /// Everything else: the senders retry.
    #[error("database unavailable: {0}")]
    Unavailable(String),
}

/// Commits the events, in order. One receipt per event, in the same order.
pub async fn commit(store: &Store, events: &[Arc<Event>], rules: &Rules, clock: &Clock) -> Result<Vec<Receipt>, BatchError> {
    let _ = (store, events, rules, clock);
    Ok(Vec::new())
}

/// Records an event that Postgres refuses as `failed`, in a transaction of its own.
pub async fn commit_failed(store: &Store, event: &Event, reason: &str, clock: &Clock) -> Result<Receipt, BatchError> {
    let _ = (store, event, reason, clock);
    Ok(Receipt { outcome: Outcome::Failed, reason: None })
}
