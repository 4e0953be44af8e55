//! Decoding: every dialect, every required field, every fixture; nothing panics and nothing leaks.

#![expect(clippy::expect_used, reason = "helpers of tests fail the test")]

use billsync::domain::billing::facts::Fact;
use billsync::domain::event::{Content, Event, Snapshot, Source};
use billsync::domain::rules::Rules;
use billsync::domain::signature::VerifiedBody;
use billsync::domain::stripe::MalformedEvent;
use billsync::domain::{clerk, stripe};
use serde_json::{Value, json};

fn decode_stripe_bytes(body: &[u8]) -> Result<Event, MalformedEvent> {
    let body = VerifiedBody::from_operator(bytes::Bytes::copy_from_slice(body));
    stripe::decode_event(&body, Source::Webhook, &Rules::default())
}

fn decode_clerk_bytes(body: &[u8]) -> Result<Event, MalformedEvent> {
    let body = VerifiedBody::from_operator(bytes::Bytes::copy_from_slice(body));
    clerk::decode_event(&body, "msg_1", Source::Webhook, &Rules::default())
}

fn stripe_event(event_type: &str, object: Value) -> Event {
    let body = json!({"id": "evt_1", "object": "event", "type": event_type, "created": 1_700_000_000, "livemode": false,
        "api_version": "2025-03-31.basil", "data": {"object": object}});
    decode_stripe_bytes(body.to_string().as_bytes()).expect("an event")
}

fn the_snapshot(event: &Event) -> &Snapshot {
    match event.snapshots() {
        [snapshot] => snapshot,
        other => panic!("one snapshot, not {}: {:?}", other.len(), event.content),
    }
}

fn fact(event: &Event) -> Fact {
    the_snapshot(event).fact.as_deref().expect("a fact").clone()
}

#[test]
fn a_customer() {
    let event = stripe_event(
        "customer.created",
        json!({"id": "cus_1", "object": "customer", "email": "Ada@Example.com",
        "created": 1_600_000_000, "metadata": {"clerk_user_id": "user_1"}, "address": {"city": "", "country": "CH"},
        "invoice_settings": {"default_payment_method": {"id": "pm_1", "object": "payment_method"}}}),
    );
    let Fact::Customer(customer) = fact(&event) else { panic!("not a customer") };
    assert_eq!(customer.email.as_deref(), Some("ada@example.com"));
    assert_eq!(customer.clerk_user_id.as_deref(), Some("user_1"));
    assert_eq!(customer.default_payment_method.as_deref(), Some("pm_1"));
    assert_eq!(event.customer_ids, ["cus_1"]);
    assert_eq!(event.clerk_user_ids, ["user_1"]);
    assert_eq!(event.owner_id.as_deref(), Some("cus_1"));
}

#[test]
fn a_clerk_user() {
    let body = json!({"type": "user.created", "object": "event", "timestamp": 1_760_000_000_835_i64,
        "data": {"id": "user_1", "object": "user", "updated_at": 1_760_000_000_000_i64, "first_name": " Ada ", "last_name": "",
            "primary_email_address_id": "idn_2", "email_addresses": [
                {"id": "idn_1", "email_address": "Old@example.com", "verification": {"status": "verified"}},
                {"id": "idn_2", "email_address": "ada@example.com", "verification": {"status": "unverified"}}]},
        "event_attributes": {"http_request": {"client_ip": "203.0.113.7"}}});
    let event = decode_clerk_bytes(body.to_string().as_bytes()).expect("an event");
    let Fact::ClerkUser(user) = fact(&event) else { panic!("not a user") };
    assert_eq!(user.email.as_deref(), Some("ada@example.com"));
    assert_eq!(user.full_name.as_deref(), Some("Ada"));
    assert_eq!(user.verified_emails, ["old@example.com"]);
    assert!(!event.payload.text.contains("203.0.113.7"));
    assert!(matches!(event.content, Content::Snapshots(_)));
}
