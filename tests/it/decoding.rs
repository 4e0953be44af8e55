//! Decoding: every dialect, every required field, every fixture; nothing panics and nothing leaks.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail the test")]

mod clerk;
mod clerk_fields;
mod fixtures;
mod mutations;
mod redaction;
mod stripe;
mod stripe_fields;

use billsync::domain::billing::facts::Fact;
use billsync::domain::event::{Content, Event, Snapshot, Source};
use billsync::domain::rules::Rules;
use billsync::domain::signature::VerifiedBody;
use billsync::domain::stripe::MalformedEvent;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

fn verified(body: &[u8]) -> VerifiedBody {
    VerifiedBody::from_operator(bytes::Bytes::copy_from_slice(body))
}

fn decode_stripe(body: &[u8]) -> Result<Event, MalformedEvent> {
    billsync::domain::stripe::decode_event(&verified(body), Source::Webhook, &Rules::default())
}

fn decode_clerk(body: &[u8]) -> Result<Event, MalformedEvent> {
    billsync::domain::clerk::decode_event(&verified(body), "msg_1", Source::Webhook, &Rules::default())
}

fn stripe_body(event_type: &str, object: Value) -> Value {
    json!({"id": "evt_1", "object": "event", "type": event_type, "created": 1_700_000_000, "livemode": false,
        "api_version": "2025-09-30.clover", "data": {"object": object}})
}

fn stripe_event(event_type: &str, object: Value) -> Event {
    decode_stripe(stripe_body(event_type, object).to_string().as_bytes()).expect("an event")
}

fn stripe_update(event_type: &str, object: Value, previous: Value) -> Event {
    let mut body = stripe_body(event_type, object);
    body["data"]["previous_attributes"] = previous;
    decode_stripe(body.to_string().as_bytes()).expect("an event")
}

fn clerk_body(event_type: &str, data: Value) -> Value {
    json!({"type": event_type, "object": "event", "timestamp": 1_760_000_000_835_i64, "instance_id": "ins_1", "data": data,
        "event_attributes": {"http_request": {"client_ip": "203.0.113.7", "user_agent": "Mozilla"}}})
}

fn clerk_event(event_type: &str, data: Value) -> Event {
    decode_clerk(clerk_body(event_type, data).to_string().as_bytes()).expect("an event")
}

fn the_snapshot(event: &Event) -> &Snapshot {
    match event.snapshots() {
        [snapshot] => snapshot,
        _ => panic!("not one snapshot: {:?}", event.content),
    }
}

fn fact(event: &Event) -> Fact {
    the_snapshot(event).fact.as_deref().expect("a fact").clone()
}

/// The variant's content, or a failed test.
macro_rules! fact_as {
    ($event:expr, $variant:ident) => {
        match $crate::decoding::fact(&$event) {
            billsync::domain::billing::facts::Fact::$variant(fact) => fact,
            other => panic!("not a {}: {other:?}", stringify!($variant)),
        }
    };
}
use fact_as;

fn unreadable(event: &Event) -> &str {
    match &event.content {
        Content::Unreadable { reason } => reason,
        other => panic!("not unreadable: {other:?}"),
    }
}

fn ignored(event: &Event) -> &str {
    match &event.content {
        Content::Ignored { reason } => reason,
        other => panic!("not ignored: {other:?}"),
    }
}

fn object(snapshot: &Snapshot) -> Value {
    serde_json::from_str(snapshot.object.as_ref().expect("an object")).expect("JSON")
}

fn at(seconds: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(seconds, 0)
}
