//! Clerk's envelope, users, and what becomes of every other event.

use billsync::domain::event::{Provider, Source, TypeRank};
use billsync::domain::rules::Rules;
use serde_json::{Value, json};

use super::{clerk_body, clerk_event, decode_clerk, fact_as, ignored, the_snapshot, unreadable, verified};

#[test]
fn what_is_no_event() {
    let good = clerk_body("user.created", json!({"id": "user_1", "object": "user"}));
    let mut bodies: Vec<Vec<u8>> = ["", "{", "[]", "null", "{}"].iter().map(|text| text.as_bytes().to_vec()).collect();
    bodies.push(b"\xff".to_vec());
    for name in ["type", "timestamp"] {
        for wrong in [json!(null), json!([]), json!(""), json!(true), json!("1760000000835"), json!({})] {
            if name == "type" && wrong == json!("1760000000835") {
                continue;
            }
            let mut body = good.clone();
            body[name] = wrong;
            bodies.push(body.to_string().into_bytes());
        }
        let mut body = good.clone();
        body.as_object_mut().expect("an object").remove(name);
        bodies.push(body.to_string().into_bytes());
    }
    for wrong in [json!(9e300), json!(999_999_999_999_999_999_i64), json!(-99_999_999_999_999_i64)] {
        let mut body = good.clone();
        body["timestamp"] = wrong;
        bodies.push(body.to_string().into_bytes());
    }
    let mut body = good.clone();
    body["object"] = json!("user");
    bodies.push(body.to_string().into_bytes());
    for body in bodies {
        assert!(decode_clerk(&body).is_err(), "{}", String::from_utf8_lossy(&body));
    }
    for id in ["", &"m".repeat(256)] {
        let body = verified(good.to_string().as_bytes());
        assert!(billsync::domain::clerk::decode_event(&body, id, Source::Webhook, &Rules::default()).is_err());
    }
}

#[test]
fn the_envelope() {
    let event = clerk_event("user.created", json!({"id": "user_1", "object": "user", "updated_at": 1_760_000_000_123_i64}));
    assert_eq!((event.provider, event.id.as_str(), event.event_type.as_str()), (Provider::Clerk, "msg_1", "user.created"));
    assert_eq!(event.occurred_at.timestamp_millis(), 1_760_000_000_835);
    assert_eq!((event.livemode, event.account.as_str(), event.api_version.as_deref()), (None, "", None));
    let mut seconds = clerk_body("user.created", json!({"id": "user_1", "object": "user"}));
    seconds["timestamp"] = json!(1_760_000_000);
    let event = decode_clerk(seconds.to_string().as_bytes()).expect("an event");
    assert_eq!(event.occurred_at.timestamp(), 1_760_000_000);
}

#[test]
fn a_user() {
    let event = clerk_event(
        "user.updated",
        json!({"id": "user_1", "object": "user", "created_at": 1_750_000_000_000_i64, "updated_at": 1_760_000_000_123_i64,
            "first_name": " Ada ", "last_name": "King", "primary_email_address_id": "idn_2", "email_addresses": [
                {"id": "idn_1", "email_address": "Old@Example.com", "verification": {"status": "verified"}},
                {"id": "idn_2", "email_address": "Ada@example.com", "verification": {"status": "unverified"}},
                {"id": "idn_3", "email_address": "old@example.com", "verification": {"status": "verified"}},
                {"id": "idn_4", "email_address": "a@example.com", "verification": {"status": "verified"}}, 7],
            "private_metadata": {"stripe_customer_id": "cus_1"}, "public_metadata": {"stripe_customer_id": "cus_2"},
            "unsafe_metadata": {"stripe_customer_id": "cus_3"}}),
    );
    let snapshot = the_snapshot(&event);
    assert_eq!((snapshot.object_type.as_str(), snapshot.as_of.timestamp_millis()), ("user", 1_760_000_000_123));
    assert_eq!((snapshot.type_rank, snapshot.terminal, snapshot.deletion), (TypeRank::Other, false, false));
    assert_eq!((event.owner_id.as_deref(), snapshot.owner_id.as_deref()), (Some("user_1"), Some("user_1")));
    assert_eq!(
        (event.customer_ids.as_slice(), event.clerk_user_ids.as_slice()),
        (&["cus_1".to_owned()][..], &["user_1".to_owned()][..])
    );
    let user = fact_as!(event, ClerkUser);
    assert_eq!(user.created_at.map(|time| time.timestamp()), Some(1_750_000_000));
    assert_eq!((user.email.as_deref(), user.full_name.as_deref()), (Some("Ada@example.com"), Some("Ada King")));
    assert_eq!(user.verified_emails, ["a@example.com", "old@example.com"]);
    assert_eq!(user.stripe_customer_id.as_deref(), Some("cus_1"));
}

fn user_with(fields: Value) -> billsync::domain::billing::facts::ClerkUser {
    let mut user = json!({"id": "user_1", "object": "user"});
    for (name, value) in fields.as_object().expect("an object") {
        user[name] = value.clone();
    }
    fact_as!(clerk_event("user.updated", user), ClerkUser)
}

#[test]
fn the_claim_of_a_user() {
    let claim = |fields: Value| user_with(fields).stripe_customer_id;
    assert_eq!(claim(json!({"public_metadata": {"stripe_customer_id": "cus_2"}})).as_deref(), Some("cus_2"));
    let empty = json!({"private_metadata": {"stripe_customer_id": ""}, "public_metadata": {"stripe_customer_id": "cus_2"}});
    assert_eq!(claim(empty).as_deref(), Some("cus_2"));
    for nothing in [
        json!({"unsafe_metadata": {"stripe_customer_id": "cus_3"}}),
        json!({"private_metadata": null, "public_metadata": "cus_1"}),
        json!({"private_metadata": {"stripe_customer_id": 7}}),
    ] {
        assert_eq!(claim(nothing), None);
    }
}

#[test]
fn the_address_and_the_name_of_a_user() {
    let entry = json!([{"id": "idn_1", "email_address": "a@example.com"}]);
    for dangling in [json!("idn_9"), json!(null), json!(""), json!(1)] {
        assert_eq!(user_with(json!({"primary_email_address_id": dangling, "email_addresses": entry})).email, None);
    }
    for (first, last, expected) in [
        (json!(null), json!(null), None),
        (json!(""), json!("  "), None),
        (json!(" Ada"), json!(null), Some("Ada")),
        (json!(null), json!("King "), Some("King")),
        (json!("Ada"), json!(7), Some("Ada")),
    ] {
        assert_eq!(user_with(json!({"first_name": first, "last_name": last})).full_name.as_deref(), expected);
    }
}

#[test]
fn a_deleted_user() {
    let event = clerk_event("user.deleted", json!({"id": "user_1", "object": "user", "deleted": true}));
    let snapshot = the_snapshot(&event);
    assert!(snapshot.deletion && snapshot.object.is_none() && snapshot.fact.is_none());
    assert_eq!((snapshot.as_of.timestamp_millis(), snapshot.type_rank), (1_760_000_000_835, TypeRank::Deleted));
    assert_eq!(event.owner_id.as_deref(), Some("user_1"));
    let nobody = clerk_event("user.deleted", json!({"object": "user", "deleted": true}));
    assert_eq!(unreadable(&nobody), "data.id: missing");
    let whole = clerk_event("user.deleted", json!({"id": "user_1", "object": "user", "first_name": "Ada", "updated_at": 1}));
    assert!(the_snapshot(&whole).deletion && the_snapshot(&whole).fact.is_some());
}

#[test]
fn other_events_name_their_user_and_are_kept_in_the_ledger_alone() {
    let event = clerk_event(
        "session.created",
        json!({"id": "sess_1", "object": "session", "user_id": "user_1", "user": {"id": "user_2"}}),
    );
    ignored(&event);
    assert_eq!((event.object_id.as_deref(), event.owner_id.as_deref()), (Some("sess_1"), Some("user_1")));
    let event = clerk_event("session.created", json!({"id": "sess_1", "object": "session", "user": {"id": "user_2"}}));
    assert_eq!(event.owner_id.as_deref(), Some("user_2"));
    for (event_type, data) in [
        ("passkey.created", json!({"id": "idn_x", "object": "passkey"})),
        ("organization.created", json!({"id": "org_1", "object": "organization", "created_by": "user_1"})),
        ("waitlistEntry.created", json!({"id": "wle_1", "object": "waitlist_entry"})),
        ("something.new", json!(null)),
        ("user.something", json!({"id": "x_1", "object": "user_something"})),
    ] {
        let event = clerk_event(event_type, data);
        ignored(&event);
        assert_eq!(event.owner_id, None);
    }
}

#[test]
fn nesting_and_refused_text() {
    let user = clerk_body("user.updated", json!({"id": "user_1", "object": "user", "unsafe_metadata": "@"})).to_string();
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let event = decode_clerk(user.replace("\"@\"", &deep).as_bytes()).expect("an event");
    assert!(unreadable(&event).contains("128"));
    assert_eq!((event.payload.fits_jsonb, event.owner_id.as_deref()), (false, Some("user_1")));
    let lone = decode_clerk(user.replace('@', "\\ud800").as_bytes()).expect("an event");
    assert!(!lone.payload.fits_jsonb && the_snapshot(&lone).fact.is_some());
}
