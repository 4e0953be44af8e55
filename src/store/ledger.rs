//! The ledger: `billsync.webhook_events`.

use chrono::{DateTime, Utc};

use crate::domain::billing::rows::Effect;
use crate::domain::event::{Event, EventId, Outcome, Provider};
use crate::store::error::StoreError;
use crate::store::pool::{Statement, Store};

statements! {
    /// By provider, among the ledger's newest: the whole of it may be large.
    LIST_NEWEST_EVENT_TIMES = "\
        select e.provider, max(e.occurred_at) \
        from (select provider, occurred_at, source from billsync.webhook_events order by received_at desc limit 20000) e \
        where e.source not in ('reconcile', 'job') group by e.provider";
    /// For a provider that has been silent for so long that the above has nothing of it.
    FIND_NEWEST_EVENT_TIME = "\
        select max(occurred_at) from billsync.webhook_events where provider = $1 and source not in ('reconcile', 'job')";
}

parts! {
    /// A known event is one that had failed and was tried again.
    RECORD_EVENTS = "\
        events_recorded as ( \
            insert into billsync.webhook_events as e (provider, event_id, event_type, object_id, owner_id, occurred_at, \
                received_at, api_version, livemode, source, outcome, reason) \
            select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], \
                $7::timestamptz[], $8::text[], $9::bool[], $10::text[], $11::text[], $12::text[]) \
            on conflict (provider, event_id) do update set outcome = excluded.outcome, reason = excluded.reason, \
                object_id = excluded.object_id, owner_id = excluded.owner_id \
                where e.outcome = 'failed')";
}

/// An event that the ledger has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownEvent {
    pub key: EventId,
    /// Then it is to be tried again.
    pub failed: bool,
    /// Where its payload is.
    pub received_at: DateTime<Utc>,
}

/// What the ledger gets of an event.
#[derive(Clone, Debug)]
pub struct LedgerEntry<'a> {
    pub event: &'a Event,
    pub outcome: Outcome,
    pub reason: Option<&'a str>,
    pub effects: &'a [Effect],
    /// When it came first; with the key, where its payload is.
    pub received_at: DateTime<Utc>,
    /// Whether it has a row already, since it failed then.
    pub had_failed: bool,
    /// Whether the payload is kept as bytes although it is said to fit `jsonb`: the database refused the event.
    pub payload_as_bytes: bool,
}

impl Store {
    /// When the newest event of each provider occurred that it delivered, as far as that can be found within seconds.
    pub async fn list_newest_event_times(&self) -> Result<Vec<(Provider, DateTime<Utc>)>, StoreError> {
        let mut tx = self.begin().await?;
        let rows: Vec<(String, DateTime<Utc>)> = tx.query_as(LIST_NEWEST_EVENT_TIMES).fetch_all(tx.connection()?).await?;
        let mut found: Vec<(Provider, DateTime<Utc>)> =
            rows.into_iter().filter_map(|(provider, at)| Some((Provider::parse(&provider)?, at))).collect();
        for provider in [Provider::Stripe, Provider::Clerk] {
            if found.iter().all(|(known, _)| *known != provider) {
                let query = tx.query_as::<(Option<DateTime<Utc>>,)>(FIND_NEWEST_EVENT_TIME).bind(provider.as_str());
                let (at,) = query.fetch_one(tx.connection()?).await?;
                found.extend(at.map(|at| (provider, at)));
            }
        }
        tx.commit().await?;
        Ok(found)
    }
}

/// Binds [`RECORD_EVENTS`]; one entry per event.
pub(crate) fn bind_record(query: Statement, entries: &[LedgerEntry<'_>]) -> Statement {
    query
        .bind(entries.iter().map(|entry| entry.event.provider.as_str()).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.event.id.as_str()).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.event.event_type.as_str()).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.event.object_id.as_deref()).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.event.owner_id.as_deref()).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.event.occurred_at).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.received_at).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.event.api_version.as_deref()).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.event.livemode).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.event.source.as_str()).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.outcome.as_str()).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.reason).collect::<Vec<_>>())
}
