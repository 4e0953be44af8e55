//! Settling a batch: commit it, or find out which of its events stand in the way and let the others through.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::batch::{Pending, Transactions};
use super::health::Health;
use super::{BatchError, Event, Options, Receipt, SubmitError, is_past};
use crate::metrics;

/// What every writer settles batches with.
#[derive(Debug)]
pub(super) struct Desk<T> {
    pub(super) transactions: T,
    pub(super) options: Options,
    pub(super) health: Arc<Health>,
    /// Accounts that are tried aside, and how many events of each.
    aside: Mutex<HashMap<u64, usize>>,
}

/// What a batch left behind.
#[derive(Debug, Default)]
pub(super) struct Leftover {
    /// Events that somebody else's lock keeps from being committed, not answered yet.
    pub(super) contended: Vec<Pending>,
    /// Whether the database refused for a reason of its own: a pause is due before the next try.
    pub(super) unavailable: bool,
}

impl<T: Transactions> Desk<T> {
    pub(super) fn new(transactions: T, options: Options, health: Arc<Health>) -> Desk<T> {
        Desk { transactions, options, health, aside: Mutex::default() }
    }

    /// Commits the batch and answers its senders, but for the contended ones, which are given back.
    pub(super) async fn settle(&self, batch: Vec<Pending>) -> Leftover {
        let mut leftover = Leftover::default();
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            match self.commit(&part).await {
                Ok(receipts) => self.answer_committed(part, receipts),
                Err(BatchError::Contended(cause)) => self.set_contended(part, &cause, &mut leftover),
                Err(BatchError::Poison(reason)) if part.len() > 1 => {
                    tracing::warn!(events = part.len(), reason, "the database refuses an event of a batch; searching for it");
                    let second_half = part.split_off(part.len() / 2);
                    parts.push(second_half);
                    parts.push(part);
                }
                Err(BatchError::Poison(reason)) => {
                    for pending in part {
                        self.settle_poison(pending, &reason, &mut leftover).await;
                    }
                }
                Err(BatchError::ConnectionLost(cause) | BatchError::Unavailable(cause)) => {
                    self.answer_unavailable(part, &cause, &mut leftover);
                }
            }
        }
        leftover
    }

    /// One transaction; a second one if the connection broke, perhaps after the commit: then all are found as duplicates.
    async fn commit(&self, part: &[Pending]) -> Result<Vec<Receipt>, BatchError> {
        let events: Vec<Arc<Event>> = part.iter().map(|pending| Arc::clone(&pending.event)).collect();
        let started = Instant::now();
        let mut result = self.transactions.commit(&events).await;
        if let Err(BatchError::ConnectionLost(cause)) = &result {
            tracing::warn!(cause, events = events.len(), "lost the connection; running the batch once more");
            result = self.transactions.commit(&events).await;
        }
        metrics::record_batch(events.len(), started.elapsed());
        match result {
            Ok(receipts) if receipts.len() != events.len() => {
                Err(BatchError::Unavailable(format!("{} receipts for {} events", receipts.len(), events.len())))
            }
            result => result,
        }
    }

    async fn settle_poison(&self, pending: Pending, reason: &str, leftover: &mut Leftover) {
        tracing::error!(
            provider = pending.event.provider.as_str(),
            event_id = pending.event.id,
            event_type = pending.event.event_type,
            reason,
            "the database refuses this event; recorded as failed"
        );
        let mut result = self.transactions.commit_failed(&pending.event, reason).await;
        if let Err(BatchError::ConnectionLost(_)) = &result {
            result = self.transactions.commit_failed(&pending.event, reason).await;
        }
        match result {
            Ok(receipt) => self.answer_committed(vec![pending], vec![receipt]),
            Err(BatchError::Contended(cause)) => self.set_contended(vec![pending], &cause, leftover),
            Err(error) => self.answer_unavailable(vec![pending], &error.to_string(), leftover),
        }
    }

    fn answer_committed(&self, part: Vec<Pending>, receipts: Vec<Receipt>) {
        self.health.committed();
        for (pending, receipt) in part.into_iter().zip(receipts) {
            metrics::count_event(&pending.event, receipt.outcome);
            pending.answer(Ok(receipt));
        }
    }

    fn answer_unavailable(&self, part: Vec<Pending>, cause: &str, leftover: &mut Leftover) {
        leftover.unavailable = true;
        self.health.failed(cause, part.len());
        for pending in part {
            pending.answer(Err(SubmitError::Unavailable));
        }
    }

    fn set_contended(&self, part: Vec<Pending>, cause: &str, leftover: &mut Leftover) {
        metrics::count_lock_wait();
        tracing::debug!(cause, events = part.len(), "an account is locked by somebody else");
        let now = Instant::now();
        for mut pending in part {
            pending.contended_since.get_or_insert(now);
            if is_past(pending.contended_since, self.options.lock_patience) {
                tracing::warn!(
                    provider = pending.event.provider.as_str(),
                    event_id = pending.event.id,
                    cause,
                    "still locked by somebody else; its sender was asked to retry"
                );
                pending.answer(Err(SubmitError::Contended));
            } else {
                leftover.contended.push(pending);
            }
        }
    }

    /// Marks an event's account as tried aside. False when so many are already that one more is not taken.
    pub(super) fn enter_aside(&self, account: u64) -> bool {
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        let events: usize = aside.values().sum();
        if events >= self.options.queue_events.div_ceil(2) {
            return false;
        }
        *aside.entry(account).or_default() += 1;
        true
    }

    /// The inverse of [`Desk::enter_aside`], for `events` of an account.
    pub(super) fn leave_aside(&self, account: u64, events: usize) {
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = aside.get_mut(&account) {
            *count = count.saturating_sub(events);
            if *count == 0 {
                aside.remove(&account);
            }
        }
    }

    /// Takes out the events of accounts that are tried aside: with them the whole batch would wait for the lock again.
    pub(super) fn take_aside(&self, batch: &mut Vec<Pending>) -> Vec<Pending> {
        let aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        if aside.is_empty() {
            return Vec::new();
        }
        batch.extract_if(.., |pending| aside.contains_key(&pending.account)).collect()
    }
}
