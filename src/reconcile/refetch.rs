//! The refetch queue: objects of which only the provider can say how they look. An entry lives as long as the facts leave the
//! question open, whatever made it.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use crate::domain::clerk::ApiRead;
use crate::domain::event::{Provider, Source};
use crate::metrics;
use crate::reconcile::absorb::{Asked, Scope};
use crate::reconcile::clerk_users::decode_clerk;
use crate::reconcile::{Mode, ReconcileError, Reconciler, Report};
use crate::store::QueuedRefetch;
use crate::stripe_api::Resource;

/// Asked about at a time.
const BATCH: i64 = 50;

/// The pause after the first attempt in vain; it doubles from there: 4 s, 8 s, 16 s, …
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(4);
/// An object that the provider does not know, or cannot describe, is asked for once an hour.
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
        // Postponed before an error of the API's is passed on, so that no entry keeps the others from their turn.
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
        let (of_clerk, of_stripe): (Vec<&QueuedRefetch>, Vec<_>) =
            open.iter().partition(|entry| entry.provider.as_deref() == Some(Provider::Clerk.as_str()));
        let asked = self.ask_stripe(&of_stripe, drained).await;
        self.ask_clerk(&of_clerk, drained).await?;
        asked
    }

    async fn ask_stripe(&self, open: &[&QueuedRefetch], drained: &mut Drained) -> Result<(), ReconcileError> {
        let Some(api) = &self.apis.stripe else { return Ok(()) };
        let asks = open.iter().filter_map(|entry| {
            let id = entry.object_id.as_str();
            let resource = Resource::of_object(entry.object_type.as_deref().unwrap_or_default(), id)?;
            Some(async move { (entry, api.fetch(resource, id).await) })
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

    /// Users by their id, billing objects by their user's subscription. Of a payment attempt Clerk's API tells nothing.
    async fn ask_clerk(&self, open: &[&QueuedRefetch], drained: &mut Drained) -> Result<(), ReconcileError> {
        let Some(api) = &self.apis.clerk else { return Ok(()) };
        let mut asked = BTreeSet::new();
        let mut reads = Vec::new();
        let mut failed = None;
        for entry in open {
            let is_user = entry.object_type.as_deref() == Some("user");
            let Some(user) = (if is_user { Some(&entry.object_id) } else { entry.owner_id.as_ref() }) else { continue };
            // Several objects of a subscription are answered by one question.
            if !asked.insert((is_user, user)) {
                continue;
            }
            let answer = if is_user { api.fetch_user(user).await } else { api.fetch_billing(user).await };
            match answer {
                Ok(Some(read)) => reads.push((entry, user, read)),
                Ok(None) => tracing::warn!(object = entry.object_id, "Clerk does not know an object that it has named"),
                Err(error) => failed = Some(error),
            }
        }
        // An answer that is no newer than what it is to decide between decides nothing, and is asked for again.
        reads.retain(|(entry, _, read)| entry.as_of.is_none_or(|as_of| read.as_of > as_of && !is_outdated(&read.text, as_of)));
        let reads = reads.into_iter().map(|(_, user, read)| {
            let payer = Some(user.clone());
            (read.text, ApiRead { as_of: read.as_of, source: Source::Reconcile, settles: true, payer })
        });
        let events = decode_clerk(reads, &mut drained.report);
        self.absorb_events(events, Mode::Apply, &mut drained.report).await?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Whether the object says of itself that it is older: the answer comes from a copy that lags behind.
fn is_outdated(text: &str, as_of: DateTime<Utc>) -> bool {
    #[derive(Deserialize)]
    struct Dated {
        object: String,
        updated_at: Option<i64>,
    }
    let dated = serde_json::from_str::<Dated>(text).ok();
    // Of billing objects events tell when they were sent, which is later than the change.
    let updated_at = dated.filter(|dated| dated.object == "user").and_then(|dated| dated.updated_at);
    updated_at.is_some_and(|updated_at| updated_at < as_of.timestamp_millis())
}

fn next_attempt(entry: QueuedRefetch, now: DateTime<Utc>) -> (String, DateTime<Utc>) {
    let doublings = u32::try_from(entry.attempts).unwrap_or_default().min(16);
    let pause = FIRST_PAUSE.checked_mul(2_i32.pow(doublings)).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
    let jitter = Duration::from_millis(fastrand::u64(0..1000));
    (entry.object_id, now + pause + TimeDelta::from_std(jitter).unwrap_or_default())
}
