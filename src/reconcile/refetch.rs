//! The refetch queue: objects of which only Stripe can say how they look. An entry lives as long as the facts leave the
//! question open, whatever made it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::metrics;
use crate::reconcile::absorb::{Asked, Scope};
use crate::reconcile::{Mode, ReconcileError, Reconciler, Report};
use crate::store::QueuedRefetch;
use crate::stripe_api::Resource;

/// Asked about at a time.
const BATCH: i64 = 50;

/// The pause after the first attempt in vain; it doubles from there: 4 s, 8 s, 16 s, …
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(4);
/// An object that Stripe does not know, or cannot describe, is asked for once an hour.
const LONGEST_PAUSE: TimeDelta = TimeDelta::hours(1);

/// What became of the entries that were due.
#[derive(Clone, Debug, Default)]
pub struct Drained {
    /// Answered: the object is a fact, and the question is closed.
    pub settled: u64,
    /// Dropped without asking: something else had closed the question.
    pub dropped: u64,
    /// Open still; asked again later.
    pub postponed: u64,
    pub report: Report,
}

impl Reconciler {
    /// Asks about everything that is due, until nothing is.
    pub async fn drain_refetches(&self) -> Result<Drained, ReconcileError> {
        let mut drained = Drained::default();
        loop {
            let due = self.store.list_due_refetches(self.clock.now(), BATCH).await?;
            if due.is_empty() {
                metrics::record_refetch_queue(self.store.count_refetches().await?);
                return Ok(drained);
            }
            self.drain_batch(&due, &mut drained).await?;
        }
    }

    async fn drain_batch(&self, due: &[String], drained: &mut Drained) -> Result<(), ReconcileError> {
        let (open, closed) = self.judge(due).await?;
        drained.dropped += closed.len() as u64;
        self.store.delete_refetches(&closed).await?;
        let asked = self.ask_about(&open, drained).await;
        let ids: Vec<String> = open.iter().map(|entry| entry.object_id.clone()).collect();
        let (open, settled) = self.judge(&ids).await?;
        drained.settled += settled.len() as u64;
        self.store.delete_refetches(&settled).await?;
        drained.postponed += open.len() as u64;
        let now = self.clock.now();
        let next: Vec<(String, DateTime<Utc>)> = open.into_iter().map(|entry| next_attempt(entry, now)).collect();
        // Postponed before an error of Stripe's is passed on, so that no entry keeps the others from their turn.
        self.store.postpone_refetches(&next).await?;
        asked
    }

    /// The entries whose question is open, and the ids of those whose is not.
    async fn judge(&self, ids: &[String]) -> Result<(Vec<QueuedRefetch>, Vec<String>), ReconcileError> {
        if ids.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let (open, closed): (Vec<_>, Vec<_>) =
            self.store.find_refetch_conditions(ids).await?.into_iter().partition(|entry| entry.holds);
        Ok((open, closed.into_iter().map(|entry| entry.object_id).collect()))
    }

    async fn ask_about(&self, open: &[QueuedRefetch], drained: &mut Drained) -> Result<(), ReconcileError> {
        let asks = open.iter().filter_map(|entry| {
            let id = entry.object_id.as_str();
            let resource = Resource::of_object(entry.object_type.as_deref().unwrap_or_default(), id)?;
            Some(async move { (entry, self.api.fetch(resource, id).await) })
        });
        let mut reads = Vec::new();
        let mut failed = None;
        for (entry, answer) in futures_util::future::join_all(asks).await {
            match answer {
                Ok(Some(read)) => reads.push(Asked { read, customer_id: entry.named_by.clone() }),
                Ok(None) => tracing::warn!(object = entry.object_id, "Stripe does not know an object that it has named"),
                Err(error) => failed = Some(error),
            }
        }
        self.absorb_asked(reads, Mode::Apply, Scope::Everything, &mut drained.report).await?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

fn next_attempt(entry: QueuedRefetch, now: DateTime<Utc>) -> (String, DateTime<Utc>) {
    let doublings = u32::try_from(entry.attempts).unwrap_or_default().min(16);
    let pause = FIRST_PAUSE.checked_mul(2_i32.pow(doublings)).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
    let jitter = Duration::from_millis(fastrand::u64(0..1000));
    (entry.object_id, now + pause + TimeDelta::from_std(jitter).unwrap_or_default())
}
