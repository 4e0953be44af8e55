//! `billsync.webhook_payloads`: what the events said and what they changed.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::billing::rows::Effect;
use crate::domain::billing::stored::StoredObject;
use crate::domain::event::Provider;
use crate::store::ledger::LedgerEntry;
use crate::store::pool::Statement;

parts! {
    /// The payloads, read once: the objects that lie in them are taken out of them ([`numbers_of`]). A failed event that
    /// is tried again keeps what its first attempt changed; only for it is a row looked for.
    RECORD_PAYLOADS = "\
        payloads as materialized ( \
            select x.number, x.received_at, x.provider, x.event_id, x.payload::jsonb as payload, x.payload_raw, \
                x.effects::jsonb as effects, x.had_failed \
            from unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::bool[]) \
                with ordinality as x(received_at, provider, event_id, payload, payload_raw, effects, had_failed, number) \
        ), payloads_recorded as ( \
            insert into billsync.webhook_payloads (received_at, provider, event_id, payload, payload_raw, effects) \
            select x.received_at, x.provider, x.event_id, x.payload, x.payload_raw, x.effects from payloads x \
            where not x.had_failed \
        ), payloads_recorded_again as ( \
            insert into billsync.webhook_payloads as p (received_at, provider, event_id, payload, payload_raw, effects) \
            select x.received_at, x.provider, x.event_id, x.payload, x.payload_raw, x.effects from payloads x \
            where x.had_failed \
            on conflict (received_at, provider, event_id) do update set payload = excluded.payload, \
                payload_raw = excluded.payload_raw, \
                effects = nullif(coalesce(p.effects, '[]') || coalesce(excluded.effects, '[]'), '[]'))";
}

/// Binds [`RECORD_PAYLOADS`]; one entry per event.
pub(crate) fn bind_record(query: Statement, entries: &[LedgerEntry<'_>]) -> Statement {
    query
        .bind(entries.iter().map(|entry| entry.received_at).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.event.provider.as_str()).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.event.id.as_str()).collect::<Vec<_>>())
        .bind(entries.iter().map(json_of).collect::<Vec<_>>())
        .bind(entries.iter().map(bytes_of).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| effects_text(entry.effects)).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.had_failed).collect::<Vec<_>>())
}

/// Of each object, in which payload of the same statement it lies as it is to be stored, counted from 1: reading the same
/// text twice is a tenth of what an event costs Postgres. `None` for one that has to be given by itself.
pub(crate) fn numbers_of(objects: &[StoredObject], entries: &[LedgerEntry<'_>]) -> Vec<Option<i64>> {
    let numbered = entries.iter().zip(1_i64..);
    let by_event: HashMap<_, _> =
        numbered.map(|(entry, n)| ((entry.event.provider, entry.event.id.as_str()), (entry, n))).collect();
    let number_of = |object: &StoredObject| {
        let winner = object.winner.as_ref()?;
        let (entry, number) = by_event.get(&(object.key.provider, winner.event_id.as_str()))?;
        let lies_there = object_in(object.key.provider, json_of(entry)?)? == winner.object.as_deref()?;
        lies_there.then_some(*number)
    };
    objects.iter().map(number_of).collect()
}

/// A payload that `jsonb` takes. Nothing is kept of an event about somebody who was erased.
fn json_of<'a>(entry: &LedgerEntry<'a>) -> Option<&'a str> {
    let payload = &entry.event.payload;
    (payload.fits_jsonb && !entry.payload_as_bytes && !payload.text.is_empty()).then_some(payload.text.as_ref())
}

/// One that it does not take.
fn bytes_of<'a>(entry: &LedgerEntry<'a>) -> Option<&'a [u8]> {
    let text = &entry.event.payload.text;
    (json_of(entry).is_none() && !text.is_empty()).then_some(text.as_bytes())
}

fn effects_text(effects: &[Effect]) -> Option<String> {
    if effects.is_empty() { None } else { serde_json::to_string(effects).ok() }
}

/// The text at the place that the statement takes an object from.
fn object_in<'a>(provider: Provider, payload: &'a str) -> Option<&'a str> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        object: &'a RawValue,
    }
    // A structure would be read from an array, too.
    let object = |text: &'a str| text.trim_start().starts_with('{').then_some(text);
    let data = serde_json::from_str::<Envelope<'_>>(object(payload)?).ok()?.data.get();
    match provider {
        Provider::Stripe => Some(serde_json::from_str::<Data<'_>>(object(data)?).ok()?.object.get()),
        Provider::Clerk => Some(data),
        Provider::Import => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_found_where_the_statement_takes_it_from() {
        let stripe = r#"{"id": "evt_1", "data": {"previous_attributes": {"object": 1}, "object": {"id":"cus_1"} }}"#;
        assert_eq!(object_in(Provider::Stripe, stripe), Some(r#"{"id":"cus_1"}"#));
        assert_eq!(object_in(Provider::Clerk, r#"{"data": {"id": "user_1"}}"#), Some(r#"{"id": "user_1"}"#));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_found() {
        for payload in [r#"{"data": {"object": 1}, "data": {"object": 2}}"#, r#"{"data": {"object": 1, "object": 2}}"#] {
            assert_eq!(object_in(Provider::Stripe, payload), None, "{payload}");
        }
        for payload in ["", "{}", r#"{"data": 1}"#, r#"{"data": {}}"#, r#"{"data": [1]}"#, r#"[{"object": 1}]"#] {
            assert_eq!(object_in(Provider::Stripe, payload), None, "{payload}");
        }
    }
}
