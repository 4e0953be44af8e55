//! Every field of every fixture, dropped and retyped in turn: only the required ones make an event unreadable, and only
//! the envelope's make it none; nothing panics, and what is kept is JSON.

use std::collections::BTreeSet;

use billsync::domain::event::{Content, Event};
use billsync::domain::stripe::MalformedEvent;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixtures::bodies;
use super::{decode_clerk, decode_stripe};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Malformed,
    Unreadable,
    Ignored,
    Kept,
}

fn outcome(decoded: &Result<Event, MalformedEvent>) -> Expected {
    let Ok(event) = decoded else { return Expected::Malformed };
    let kept = |text: &str| assert!(serde_json::from_str::<Value>(text).is_ok(), "{text}");
    kept(&event.payload.text);
    match &event.content {
        Content::Unreadable { .. } => Expected::Unreadable,
        Content::Ignored { .. } => Expected::Ignored,
        Content::Snapshots(snapshots) => {
            snapshots.iter().filter_map(|snapshot| snapshot.object.as_deref()).for_each(kept);
            Expected::Kept
        }
    }
}

/// The paths of every value inside.
fn paths(value: &Value, prefix: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.replace('/', "~1"), value)).collect(),
        Value::Array(elements) => elements.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => return,
    };
    for (name, child) in children {
        let path = format!("{prefix}/{name}");
        paths(child, &path, found);
        found.push(path);
    }
}

fn mutate(body: &Value, path: &str, replacement: Option<&Value>) -> Value {
    let mut body = body.clone();
    let (parent, name) = path.rsplit_once('/').expect("a path");
    match (replacement, body.pointer_mut(parent).expect("a parent")) {
        (Some(value), Value::Object(members)) => drop(members.insert(name.to_owned(), value.clone())),
        (Some(value), Value::Array(elements)) => elements[name.parse::<usize>().expect("an index")] = value.clone(),
        (None, Value::Object(members)) => drop(members.remove(name)),
        (None, Value::Array(elements)) => drop(elements.remove(name.parse().expect("an index"))),
        _ => {}
    }
    body
}

fn replacements() -> Vec<Option<Value>> {
    let values = [
        json!(null),
        json!(1),
        json!("x"),
        json!(""),
        json!(true),
        json!([]),
        json!({}),
        json!([1]),
        json!(-1e300),
        json!("x".repeat(300)),
    ];
    std::iter::once(None).chain(values.into_iter().map(Some)).collect()
}

fn is_text(value: Option<&Value>) -> bool {
    value.and_then(Value::as_str).is_some_and(|text| !text.is_empty())
}

fn is_id(value: Option<&Value>) -> bool {
    value.and_then(Value::as_str).is_some_and(|text| !text.is_empty() && text.len() < 256)
}

/// What the rules say of a mutated Stripe fixture.
fn expected_of_stripe(body: &Value) -> Expected {
    let event_type = body["type"].as_str().unwrap_or_default();
    let is_event = matches!(body.get("object"), None | Some(Value::Null)) || body["object"] == json!("event");
    let has_time = body["created"].as_f64().is_some_and(|created| created > -1e9);
    if !is_event || !is_id(body.get("id")) || !is_id(body.get("type")) || !has_time {
        return Expected::Malformed;
    }
    let object = &body["data"]["object"];
    if !object.is_object() || !is_text(object.get("object")) {
        return Expected::Unreadable;
    }
    if event_type == "invoice.upcoming" {
        return Expected::Ignored;
    }
    let required = match object["object"].as_str().unwrap_or_default() {
        "subscription" => {
            let customer =
                is_id(object.get("customer")) || is_id(object["customer"].get("id")) || is_id(object.get("customer_account"));
            customer && is_text(object.get("status")) && object["created"].is_number() && object["items"]["data"].is_array()
        }
        "subscription_schedule" => is_text(object.get("status")) && object["phases"].is_array(),
        "payment_method" => is_text(object.get("type")),
        "invoice" | "checkout.session" => is_text(object.get("status")),
        "customer" | "card" | "source" | "payment_intent" | "test_helpers.test_clock" => true,
        _ if is_id(object.get("id")) => return Expected::Kept,
        _ => return Expected::Ignored,
    };
    // Nothing is read of an object in somebody else's account.
    let is_ours = !is_text(body.get("account"));
    if is_id(object.get("id")) && (required || !is_ours) { Expected::Kept } else { Expected::Unreadable }
}

/// What the rules say of a mutated Clerk fixture.
fn expected_of_clerk(body: &Value) -> Expected {
    let is_event = matches!(body.get("object"), None | Some(Value::Null)) || body["object"] == json!("event");
    if !is_event || !is_id(body.get("type")) || body["timestamp"].as_f64().is_none_or(|time| time < -1e9) {
        return Expected::Malformed;
    }
    let data = &body["data"];
    let by_type = body["type"].as_str().and_then(|event_type| event_type.split('.').next()).unwrap_or_default();
    let object = match data.get("object").and_then(Value::as_str) {
        Some(object) => object.trim_start_matches("commerce_"),
        None => by_type,
    };
    let item_is_readable = |item: &Value| is_id(item.get("id")) && is_text(item.get("status"));
    let payer = is_id(data["payer"].get("user_id"));
    let is_readable = match object {
        "user" => is_id(data.get("id")),
        "subscription_item" | "subscriptionItem" | "subscription" | "payment_attempt" | "paymentAttempt" => {
            if !payer && is_text(data["payer"].get("organization_id")) {
                return Expected::Ignored;
            }
            let items = data["items"].as_array().filter(|_| object == "subscription").cloned().unwrap_or_default();
            let is_item = object.starts_with("subscription") && object != "subscription";
            is_id(data.get("id"))
                && (items.is_empty() || payer && items.iter().all(item_is_readable))
                && (!is_item || payer && item_is_readable(data))
        }
        _ => return Expected::Ignored,
    };
    if data.is_object() && is_readable { Expected::Kept } else { Expected::Unreadable }
}

fn check_all(folder: &str, decode: fn(&[u8]) -> Result<Event, MalformedEvent>, expected: fn(&Value) -> Expected) -> usize {
    let mut seen = [0; 4];
    let mut object_types = BTreeSet::new();
    for (name, body) in bodies(folder) {
        let body: Value = serde_json::from_str(&body).expect("JSON");
        // One of each object is enough; `invoice.upcoming` is an object of its own.
        let object_type =
            body.pointer("/data/object/object").map(|object_type| (object_type.to_string(), name == "invoice.upcoming"));
        if object_type.is_some_and(|object_type| !object_types.insert(object_type)) {
            continue;
        }
        let mut all = Vec::new();
        paths(&body, "", &mut all);
        for path in &all {
            for replacement in replacements() {
                let mutated = mutate(&body, path, replacement.as_ref());
                let decoded = outcome(&decode(mutated.to_string().as_bytes()));
                assert_eq!(decoded, expected(&mutated), "{name}: {path} = {replacement:?}");
                seen[decoded as usize] += 1;
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 100), "every outcome was met: {seen:?}");
    seen.iter().sum()
}

#[test]
fn every_field_of_stripe() {
    assert!(check_all("stripe", decode_stripe, expected_of_stripe) > 5_000);
}

#[test]
fn every_field_of_clerk() {
    assert!(check_all("clerk", decode_clerk, expected_of_clerk) > 10_000);
}

proptest! {
    #[test]
    fn several_mutations_at_once(
        is_stripe in any::<bool>(),
        fixture in any::<prop::sample::Index>(),
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..6),
    ) {
        let (folder, decode): (_, fn(&[u8]) -> _) = if is_stripe { ("stripe", decode_stripe) } else { ("clerk", decode_clerk) };
        let expected = if is_stripe { expected_of_stripe } else { expected_of_clerk };
        let all = bodies(folder);
        let mut body: Value = serde_json::from_str(&fixture.get(&all).1).expect("JSON");
        for (path, replacement) in mutations {
            let mut all = Vec::new();
            paths(&body, "", &mut all);
            if all.is_empty() {
                break;
            }
            body = mutate(&body, path.get(&all[..]).as_str(), replacement.get(&replacements()).as_ref());
        }
        prop_assert_eq!(outcome(&decode(body.to_string().as_bytes())), expected(&body), "{}", body);
    }

    #[test]
    fn altered_bytes(fixture in any::<prop::sample::Index>(), alterations in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        for (folder, decode) in [("stripe", decode_stripe as fn(&[u8]) -> _), ("clerk", decode_clerk)] {
            let all = bodies(folder);
            let mut body = fixture.get(&all).1.clone().into_bytes();
            for (at, byte) in &alterations {
                *at.get_mut(&mut body) = *byte;
            }
            outcome(&decode(&body));
        }
    }
}
