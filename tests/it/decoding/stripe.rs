//! Stripe's envelope, what becomes of each kind of event, ordering evidence, and owners.

use billsync::domain::event::{Content, Provider, Source, TypeRank};
use billsync::domain::rules::{Livemode, Rules};
use billsync::domain::stripe::{ApiRead, decode_event, decode_object};
use serde_json::{Value, json};

use super::{
    at, decode_stripe, fact_as, ignored, object, stripe_body, stripe_event, stripe_update, the_snapshot, unreadable, verified,
};

fn subscription() -> Value {
    json!({"id": "sub_1", "object": "subscription", "customer": "cus_1", "status": "active", "created": 1_600_000_000,
        "items": {"object": "list", "data": []}})
}

#[test]
fn what_is_no_event() {
    let good = stripe_body("customer.created", json!({"id": "cus_1", "object": "customer"}));
    let without = |name: &str| {
        let mut body = good.clone();
        body.as_object_mut().expect("an object").remove(name);
        body
    };
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let mut bodies: Vec<Vec<u8>> = ["", " ", "{", "nonsense", "[]", "null", "1", "\"event\"", "{}", "{\"id\":\"evt_1\"}"]
        .into_iter()
        .map(|text| text.as_bytes().to_vec())
        .collect();
    bodies.push(b"{\"id\":\"\xff\"}".to_vec());
    bodies.push(format!("{good} x").into_bytes());
    bodies.push(format!("\u{feff}{good}").into_bytes());
    for name in ["id", "type", "created"] {
        bodies.push(without(name).to_string().into_bytes());
        for wrong in [json!(null), json!([]), json!({}), json!(true), json!("")] {
            bodies.push(with(name, wrong).to_string().into_bytes());
        }
    }
    for (name, wrong) in [
        ("id", json!(1)),
        ("id", json!("e".repeat(256))),
        ("type", json!(1)),
        ("created", json!("1700000000")),
        ("created", json!(99_999_999_999_999_i64)),
        ("created", json!(1e300)),
        ("object", json!("customer")),
        ("object", json!(1)),
    ] {
        bodies.push(with(name, wrong).to_string().into_bytes());
    }
    for body in bodies {
        let decoded = decode_stripe(&body);
        assert!(decoded.is_err(), "{}", String::from_utf8_lossy(&body));
    }
    assert!(decode_stripe(without("object").to_string().as_bytes()).is_ok());
}

#[test]
fn the_envelope() {
    let event = stripe_event("customer.created", json!({"id": "cus_1", "object": "customer"}));
    assert_eq!((event.provider, event.id.as_str(), event.event_type.as_str()), (Provider::Stripe, "evt_1", "customer.created"));
    assert_eq!(Some(event.occurred_at), at(1_700_000_000));
    assert_eq!(event.api_version.as_deref(), Some("2025-09-30.clover"));
    assert_eq!((event.livemode, event.account.as_str(), event.source), (Some(false), "", Source::Webhook));
    assert_eq!(event.object_id.as_deref(), Some("cus_1"));
    assert!(event.payload.fits_jsonb);
    let snapshot = the_snapshot(&event);
    assert_eq!((snapshot.key.object_id.as_str(), snapshot.object_type.as_str()), ("cus_1", "customer"));
    assert_eq!((snapshot.event_id.as_str(), Some(snapshot.as_of)), ("evt_1", at(1_700_000_000)));
    assert_eq!(snapshot.api_version.as_deref(), Some("2025-09-30.clover"));
    assert!(!snapshot.from_read && !snapshot.terminal && !snapshot.deletion && snapshot.previous_attributes.is_none());
}

#[test]
fn thin_events_are_ignored() {
    let mut body = json!({"id": "evt_test_1", "object": "v2.core.event", "type": "v2.core.account.updated",
        "created": "2025-10-09T08:53:20.123Z", "livemode": false, "related_object": {"id": "acct_1", "type": "v2.core.account"}});
    let event = decode_stripe(body.to_string().as_bytes()).expect("an event");
    ignored(&event);
    assert_eq!(event.occurred_at.timestamp(), 1_760_000_000);
    assert_eq!(event.object_id.as_deref(), Some("acct_1"));
    body["created"] = json!("yesterday");
    assert!(decode_stripe(body.to_string().as_bytes()).is_err());
}

#[test]
fn the_other_livemode_is_ignored() {
    let body = |livemode: Value| {
        let mut body = stripe_body("customer.subscription.updated", json!({"id": "sub_1", "object": "subscription"}));
        body["livemode"] = livemode;
        verified(body.to_string().as_bytes())
    };
    let decode = |livemode: Value, rule: Livemode| {
        let rules = Rules { livemode: rule, ..Rules::default() };
        decode_event(&body(livemode), Source::Webhook, &rules).expect("an event")
    };
    ignored(&decode(json!(true), Livemode::Test));
    ignored(&decode(json!(false), Livemode::Live));
    for (livemode, rule) in [
        (json!(true), Livemode::Live),
        (json!(false), Livemode::Test),
        (json!(true), Livemode::Any),
        (json!(null), Livemode::Live),
    ] {
        unreadable(&decode(livemode, rule));
    }
}

#[test]
fn connect_is_mirrored_under_its_account() {
    let mut body = stripe_body("customer.updated", json!({"id": "cus_1", "object": "customer", "email": "a@example.com"}));
    body["account"] = json!("acct_1");
    let event = decode_stripe(body.to_string().as_bytes()).expect("an event");
    let snapshot = the_snapshot(&event);
    assert_eq!((event.account.as_str(), snapshot.key.account.as_str()), ("acct_1", "acct_1"));
    assert!(snapshot.fact.is_none() && snapshot.object.is_some());
    body["account"] = json!("a".repeat(300));
    assert!(the_snapshot(&decode_stripe(body.to_string().as_bytes()).expect("an event")).fact.is_none());
    // Nothing of it is read, so nothing of it can be unreadable.
    body["data"]["object"] = json!({"id": "sub_1", "object": "subscription"});
    assert!(the_snapshot(&decode_stripe(body.to_string().as_bytes()).expect("an event")).fact.is_none());
    body["data"]["object"]["status"] = json!("canceled");
    assert!(the_snapshot(&decode_stripe(body.to_string().as_bytes()).expect("an event")).terminal);
}

#[test]
fn every_other_object_is_mirrored() {
    let event = stripe_event("charge.succeeded", json!({"id": "ch_1", "object": "charge", "customer": "cus_1"}));
    let snapshot = the_snapshot(&event);
    assert_eq!((snapshot.object_type.as_str(), snapshot.owner_id.as_deref()), ("charge", Some("cus_1")));
    assert!(snapshot.fact.is_none());
    assert_eq!(event.customer_ids, ["cus_1"]);
}

#[test]
fn objects_without_an_id_are_ignored() {
    ignored(&stripe_event("balance.available", json!({"object": "balance", "available": []})));
    ignored(&stripe_event("invoice.upcoming", json!({"object": "invoice", "customer": "cus_1", "status": "draft"})));
    let upcoming = json!({"id": "upcoming_in_1", "object": "invoice", "customer": "cus_1", "status": "draft"});
    let event = stripe_event("invoice.upcoming", upcoming);
    ignored(&event);
    assert_eq!(event.owner_id.as_deref(), Some("cus_1"));
}

#[test]
fn what_cannot_be_read_says_where_and_names_its_owner() {
    let mut broken = subscription();
    broken["status"] = json!(["active", "a secret"]);
    let event = stripe_update("customer.subscription.updated", broken, json!({"customer": "cus_0"}));
    assert_eq!(unreadable(&event), "data.object.status: not a string");
    assert_eq!(event.object_id.as_deref(), Some("sub_1"));
    assert_eq!(event.owner_id.as_deref(), Some("cus_1"));
    assert_eq!(event.customer_ids, ["cus_1", "cus_0"]);
    let nothing = decode_stripe(br#"{"id":"evt_1","type":"customer.created","created":1700000000}"#).expect("an event");
    assert_eq!(unreadable(&nothing), "data.object: not an object");
}

#[test]
fn nesting() {
    let nested = |depth: usize| {
        let body = stripe_body("customer.updated", json!({"id": "cus_1", "object": "customer", "metadata": {"deep": "@"}}));
        let deep = "[".repeat(depth - 4) + &"]".repeat(depth - 4);
        decode_stripe(body.to_string().replace("\"@\"", &deep).as_bytes()).expect("an event")
    };
    assert!(nested(128).payload.fits_jsonb);
    the_snapshot(&nested(128));
    for depth in [129, 100_000] {
        let event = nested(depth);
        assert!(unreadable(&event).contains("128"));
        assert!(!event.payload.fits_jsonb);
        assert_eq!(event.owner_id.as_deref(), Some("cus_1"));
    }
}

#[test]
fn text_that_jsonb_refuses_is_kept_and_applied() {
    for (name, refused, mended) in [
        (r#""\ud800""#, r#"\ud800"#, json!("\u{fffd}")),
        ("1e400000", "1e400000", json!(null)),
        (r#""x\udc00""#, r#"\udc00"#, json!("x\u{fffd}")),
    ] {
        let text =
            stripe_body("customer.updated", json!({"id": "cus_1", "object": "customer", "email": "a@example.com", "name": "@"}));
        let text = text.to_string().replace("\"@\"", name);
        let event = decode_stripe(text.as_bytes()).expect("an event");
        assert!(!event.payload.fits_jsonb);
        assert!(event.payload.text.contains(refused), "kept as it came");
        assert_eq!(object(the_snapshot(&event))["name"], mended);
        assert_eq!(fact_as!(event, Customer).email.as_deref(), Some("a@example.com"));
    }
    let nul =
        stripe_event("customer.updated", json!({"id": "cus_1", "object": "customer", "email": "a\u{0}b", "name": "\\u0000"}));
    assert!(nul.payload.fits_jsonb);
    assert_eq!(fact_as!(nul, Customer).email.as_deref(), Some("a\u{fffd}b"));
    assert_eq!(object(the_snapshot(&nul))["name"], json!("\\u0000"));
}

#[test]
fn the_last_of_two_keys_counts() {
    let text = r#"{"id":"evt_1","type":"x","type":"customer.updated","created":1,"created":1700000000,"data":{"object":{"id":"cus_0",
        "object":"customer","id":"cus_1","email":"old@example.com","email":"NEW@example.com"}}}"#;
    let event = decode_stripe(text.as_bytes()).expect("an event");
    assert_eq!((event.event_type.as_str(), event.object_id.as_deref()), ("customer.updated", Some("cus_1")));
    assert_eq!(fact_as!(event, Customer).email.as_deref(), Some("new@example.com"));
}

#[test]
fn ends_are_terminal() {
    for (status, terminal) in
        [("canceled", true), ("incomplete_expired", true), ("active", false), ("unpaid", false), ("something_new", false)]
    {
        let mut object = subscription();
        object["status"] = json!(status);
        assert_eq!(the_snapshot(&stripe_event("customer.subscription.updated", object)).terminal, terminal, "{status}");
    }
    let method = json!({"id": "pm_1", "object": "payment_method", "type": "card", "card": {}, "customer": null});
    let detached = stripe_update("payment_method.detached", method.clone(), json!({"customer": "cus_1"}));
    assert!(the_snapshot(&detached).terminal);
    assert!(!the_snapshot(&stripe_event("payment_method.updated", method)).terminal);
}

#[test]
fn type_ranks_and_deletions() {
    let source = json!({"id": "card_1", "object": "card", "customer": "cus_1"});
    for (event_type, rank, deletion) in [
        ("customer.source.created", TypeRank::Created, false),
        ("customer.source.updated", TypeRank::Other, false),
        ("customer.source.deleted", TypeRank::Deleted, true),
    ] {
        let event = stripe_event(event_type, source.clone());
        assert_eq!((the_snapshot(&event).type_rank, the_snapshot(&event).deletion), (rank, deletion));
        assert!(the_snapshot(&event).fact.is_some(), "a deleted object still competes");
    }
    let flagged =
        stripe_event("customer.updated", json!({"id": "cus_1", "object": "customer", "deleted": true, "email": "a@b.c"}));
    assert!(the_snapshot(&flagged).deletion && the_snapshot(&flagged).fact.is_some());
    for object_type in ["customer", "subscription", "payment_method", "charge"] {
        let stub = stripe_event("customer.deleted", json!({"id": "x_1", "object": object_type, "deleted": true}));
        let stub = the_snapshot(&stub);
        assert!(stub.deletion && stub.object.is_none() && stub.fact.is_none());
    }
}

#[test]
fn owners_come_from_the_event_alone() {
    let detached = json!({"id": "pm_1", "object": "payment_method", "type": "card", "customer": null});
    let event = stripe_update("payment_method.detached", detached, json!({"customer": "cus_9"}));
    assert_eq!((event.owner_id.as_deref(), the_snapshot(&event).owner_id.as_deref()), (Some("cus_9"), Some("cus_9")));
    let method = fact_as!(event, PaymentMethod);
    assert!(method.detached && method.customer.is_none());
    let mut by_account = subscription();
    by_account["customer"] = json!(null);
    by_account["customer_account"] = json!("acct_9");
    let event = stripe_event("customer.subscription.updated", by_account);
    assert_eq!((event.owner_id.as_deref(), fact_as!(event, Subscription).customer.as_str()), (Some("acct_9"), "acct_9"));
    let moved = stripe_update(
        "payment_method.attached",
        json!({"id": "pm_1", "object": "payment_method", "type": "card",
        "customer": {"id": "cus_2", "object": "customer"}}),
        json!({"customer": "cus_1"}),
    );
    assert_eq!(moved.customer_ids, ["cus_2", "cus_1"]);
    assert_eq!(moved.owner_id.as_deref(), Some("cus_2"));
}

#[test]
fn previous_attributes_are_kept_with_the_snapshot() {
    let event =
        stripe_update("customer.updated", json!({"id": "cus_1", "object": "customer"}), json!({"email": null, "n": {"a": [1]}}));
    let previous = the_snapshot(&event).previous_attributes.as_ref().expect("previous attributes");
    assert_eq!(serde_json::from_str::<Value>(previous.as_str()).expect("JSON"), json!({"email": null, "n": {"a": [1]}}));
    let odd = stripe_update("customer.updated", json!({"id": "cus_1", "object": "customer"}), json!("odd"));
    assert!(the_snapshot(&odd).previous_attributes.is_none());
    let former = json!({"metadata": {"clerk_user_id": "user_old"}});
    let event = stripe_update(
        "customer.updated",
        json!({"id": "cus_1", "object": "customer", "metadata": {"clerk_user_id": "user_new"}}),
        former,
    );
    assert_eq!(event.clerk_user_ids, ["user_new", "user_old"]);
}

#[test]
fn an_api_read_is_an_event_of_its_own() {
    let read = |as_of: i64| ApiRead {
        as_of: at(as_of).expect("a time") + chrono::TimeDelta::milliseconds(900),
        api_version: Some("2025-09-30.clover".to_owned()),
        source: Source::Reconcile,
    };
    let rules = Rules::default();
    let text = r#"{"id":"sub_1","object":"subscription","customer":"cus_1","status":"canceled","created":1600000000,"items":{"data":[]}}"#;
    let event = decode_object(text, &read(1_700_000_000), &rules).expect("an event");
    let snapshot = the_snapshot(&event);
    assert!(snapshot.from_read && snapshot.terminal);
    assert_eq!((Some(snapshot.as_of), snapshot.type_rank), (at(1_700_000_000), TypeRank::Other));
    assert!(event.id.starts_with("read:sub_1:1700000000000:") && event.id.len() == "read:sub_1:1700000000000:".len() + 64);
    assert_eq!((event.source, event.owner_id.as_deref()), (Source::Reconcile, Some("cus_1")));
    // Order of members and white space do not make another event; a value does.
    let same = r#" {"items": {"data": []}, "created": 1600000000, "status": "canceled",
        "customer": "cus_1", "object": "subscription", "id": "sub_1"}"#;
    assert_eq!(decode_object(same, &read(1_700_000_000), &rules).expect("an event").id, event.id);
    let other = text.replace("canceled", "active");
    assert_ne!(decode_object(&other, &read(1_700_000_000), &rules).expect("an event").id, event.id);
    let deleted = decode_object(r#"{"id":"cus_1","object":"customer","deleted":true}"#, &read(1_700_000_000), &rules);
    assert!(the_snapshot(&deleted.expect("an event")).deletion);
    for malformed in ["", "[]", "{}", r#"{"id":"x"}"#, r#"{"object":"customer"}"#] {
        assert!(decode_object(malformed, &read(0), &rules).is_err());
    }
    assert!(matches!(
        decode_object(r#"{"id":"pm_1","object":"payment_method"}"#, &read(0), &rules).map(|e| e.content),
        Ok(Content::Unreadable { .. })
    ));
}
