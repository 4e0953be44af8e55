//! What a batch is made of, and what it is committed by.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use tracing::Instrument;

use super::health::Accepted;
use super::{BatchError, Clock, Event, Receipt, Reservation, Rules, Store, SubmitError};
use crate::ingest::transaction;

/// Commits batches. The database does; a test scripts it.
pub trait Transactions: Send + Sync + 'static {
    /// Commits all of them or none: one receipt per event, in the same order.
    fn commit(&self, events: &[Arc<Event>]) -> impl Future<Output = Result<Vec<Receipt>, BatchError>> + Send;

    /// Records an event that the database refuses, in a transaction of its own.
    fn commit_failed(&self, event: &Event, reason: &str) -> impl Future<Output = Result<Receipt, BatchError>> + Send;

    /// As much of a commit as can be tried without an event: tells whether the database accepts writes again.
    fn probe(&self) -> impl Future<Output = Result<(), BatchError>> + Send;
}

/// The real thing: [`transaction`].
#[derive(Clone, Debug)]
pub struct Database {
    store: Store,
    rules: Arc<Rules>,
    clock: Clock,
}

impl Database {
    /// Commits into that store, by those rules.
    pub fn new(store: Store, rules: Arc<Rules>, clock: Clock) -> Database {
        Database { store, rules, clock }
    }
}

impl Transactions for Database {
    async fn commit(&self, events: &[Arc<Event>]) -> Result<Vec<Receipt>, BatchError> {
        // Below what the log is set to: for traces, which have it whatever is logged.
        let span = tracing::trace_span!("batch", events = events.len());
        transaction::commit(&self.store, events, &self.rules, &self.clock).instrument(span).await
    }

    async fn commit_failed(&self, event: &Event, reason: &str) -> Result<Receipt, BatchError> {
        transaction::commit_failed(&self.store, event, reason, &self.rules, &self.clock).await
    }

    async fn probe(&self) -> Result<(), BatchError> {
        transaction::commit(&self.store, &[], &self.rules, &self.clock).await.map(|_receipts| ())
    }
}

/// An event in the queue, with the sender that waits for it.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) event: Arc<Event>,
    /// The hash of what its events are routed by: its owner, else its object.
    pub(super) account: u64,
    pub(super) bytes: usize,
    pub(super) reply: oneshot::Sender<Result<Receipt, SubmitError>>,
    /// Since when somebody else's lock is in its way.
    pub(super) contended_since: Option<Instant>,
    pub(super) accepted: Accepted,
    pub(super) slot: OwnedSemaphorePermit,
    pub(super) reservation: Reservation,
}

impl Pending {
    /// Tells the sender, who may have gone: that is no concern of the event's.
    pub(super) fn answer(self, answer: Result<Receipt, SubmitError>) {
        // The place in the queue is free before the sender knows, so that its next event finds it.
        drop((self.accepted, self.slot, self.reservation, self.event));
        let _sender_gone = self.reply.send(answer);
    }
}
