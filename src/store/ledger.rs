//! The ledger: `billsync.webhook_events` and `billsync.webhook_payloads`.

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
    /// A known event is one that had failed and was tried again: what its earlier attempts changed stays told. Both tables at
    /// once: they always go together.
    RECORD_EVENTS = "\
        events_recorded as ( \
            insert into billsync.webhook_events as e (provider, event_id, event_type, object_id, owner_id, occurred_at, \
                received_at, api_version, livemode, source, outcome, reason) \
            select x.provider, x.event_id, x.event_type, x.object_id, x.owner_id, x.occurred_at, x.received_at, \
                x.api_version, x.livemode, x.source, x.outcome, x.reason \
            from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[], \
                $8::text[], $9::bool[], $10::text[], $11::text[], $12::text[]) \
                as x(provider, event_id, event_type, object_id, owner_id, occurred_at, received_at, api_version, livemode, \
                    source, outcome, reason) \
            on conflict (provider, event_id) do update set outcome = excluded.outcome, reason = excluded.reason, \
                object_id = excluded.object_id, owner_id = excluded.owner_id \
                where e.outcome = 'failed' \
        ), payloads_recorded as ( \
        insert into billsync.webhook_payloads as p (received_at, provider, event_id, payload, payload_raw, effects) \
        select x.received_at, x.provider, x.event_id, x.payload::jsonb, x.payload_raw, x.effects::jsonb \
        from unnest($7::timestamptz[], $1::text[], $2::text[], $13::text[], $14::bytea[], $15::text[]) \
            as x(received_at, provider, event_id, payload, payload_raw, effects) \
        on conflict (received_at, provider, event_id) do update set payload = excluded.payload, \
            payload_raw = excluded.payload_raw, \
            effects = nullif(coalesce(p.effects, '[]') || coalesce(excluded.effects, '[]'), '[]'))";
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
    let fits = |entry: &LedgerEntry<'_>| entry.event.payload.fits_jsonb && !entry.payload_as_bytes;
    // Nothing is kept of an event about somebody who was erased.
    let text = |entry: &&LedgerEntry<'_>| !entry.event.payload.text.is_empty();
    let texts: Vec<Option<&str>> =
        entries.iter().map(|e| Some(e).filter(text).filter(|e| fits(e)).map(|e| e.event.payload.text.as_ref())).collect();
    let bytes: Vec<Option<&[u8]>> =
        entries.iter().map(|e| Some(e).filter(text).filter(|e| !fits(e)).map(|e| e.event.payload.text.as_bytes())).collect();
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
        .bind(texts)
        .bind(bytes)
        .bind(entries.iter().map(|entry| effects_text(entry.effects)).collect::<Vec<_>>())
}

fn effects_text(effects: &[Effect]) -> Option<String> {
    if effects.is_empty() { None } else { serde_json::to_string(effects).ok() }
}
