//! Every required field of every type that the projection reads, missing and of the wrong JSON type in turn: the event is
//! kept as `failed`, naming the path, and nothing else of it is.

use chrono::TimeDelta;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::database::TestDatabase;
use crate::support::events::{Webhook, stripe_event, subscription, user_created};
use crate::support::server::{TestServer, now, server};

/// An object that is read, and the pointers to what it cannot be read without.
struct Case {
    kind: &'static str,
    object: Value,
    required: &'static [&'static str],
}

fn stripe_cases() -> Vec<Case> {
    let invoice = json!({"id": "in_1", "object": "invoice", "customer": "cus_1", "status": "paid", "created": 1});
    let card = json!({"id": "pm_1", "object": "payment_method", "type": "card", "customer": "cus_1", "created": 1});
    let session = json!({"id": "cs_1", "object": "checkout.session", "status": "complete", "customer": "cus_1", "created": 1});
    let schedule = json!({"id": "sub_sched_1", "object": "subscription_schedule", "status": "active", "phases": [],
        "customer": "cus_1", "created": 1});
    let customer = json!({"id": "cus_1", "object": "customer"});
    vec![
        Case { kind: "customer.updated", object: customer, required: &["/object"] },
        Case {
            kind: "customer.subscription.updated",
            object: subscription(1, now()),
            required: &["/object", "/customer", "/status", "/items", "/items/data", "/created"],
        },
        Case { kind: "invoice.paid", object: invoice, required: &["/object", "/status"] },
        Case { kind: "payment_method.attached", object: card, required: &["/object", "/type"] },
        Case { kind: "checkout.session.completed", object: session, required: &["/object", "/status"] },
        Case { kind: "subscription_schedule.updated", object: schedule, required: &["/object", "/status", "/phases"] },
    ]
}

fn remove(value: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).unwrap();
}

/// What this field cannot be.
fn wrong_values(right: &Value) -> Vec<Value> {
    let all = [json!(null), json!(true), json!(7), json!("text"), json!([]), json!({})];
    let is_same_kind = |it: &Value| std::mem::discriminant(it) == std::mem::discriminant(right);
    // An expanded object may stand where an id may.
    all.into_iter().filter(|it| !is_same_kind(it)).collect()
}

async fn fails(server: &TestServer, database: &TestDatabase, webhook: &Webhook, about: &str) {
    assert_eq!(server.outcome(webhook).await, "failed", "{about}");
    let reason: Option<String> =
        database.ask(&format!("select reason from billsync.webhook_events where event_id = '{}'", webhook.id)).await;
    assert!(reason.is_some_and(|reason| !reason.is_empty()), "{about}");
}

#[tokio::test]
async fn a_required_field_of_stripe_that_is_missing_or_wrong_fails_and_leaves_no_fact() {
    let (server, database) = server().await;
    let mut number = 0;
    for case in stripe_cases() {
        let whole = stripe_event(&format!("evt_whole_{}", case.kind), case.kind, now(), case.object.clone());
        assert_ne!(server.outcome(&whole).await, "failed", "{} as it should be", case.kind);
        database.execute("delete from billsync.provider_objects").await;
        for pointer in case.required {
            let mut without = case.object.clone();
            remove(&mut without, pointer);
            let mut wrong: Vec<Value> = vec![without];
            for value in wrong_values(case.object.pointer(pointer).unwrap()) {
                let mut with = case.object.clone();
                *with.pointer_mut(pointer).unwrap() = value;
                wrong.push(with);
            }
            for object in wrong {
                number += 1;
                let about = format!("{} {pointer}: {object}", case.kind);
                let webhook = stripe_event(&format!("evt_{number}"), case.kind, now(), object);
                fails(&server, &database, &webhook, &about).await;
                assert_eq!(database.ask::<i64>("select count(*) from billsync.provider_objects").await, 0, "{about}");
            }
        }
    }
}

#[tokio::test]
async fn a_user_of_clerk_without_an_id_fails_and_leaves_no_row() {
    let (server, database) = server().await;
    let right: Value = serde_json::from_slice(&user_created(1, now()).body).unwrap();
    for (number, id) in [None, Some(json!(null)), Some(json!(7)), Some(json!({})), Some(json!([]))].into_iter().enumerate() {
        for kind in ["user.created", "user.updated", "user.deleted"] {
            let mut body = right.clone();
            body["type"] = json!(kind);
            match &id {
                Some(id) => body["data"]["id"] = id.clone(),
                None => remove(&mut body, "/data/id"),
            }
            let webhook = Webhook::clerk(&format!("msg_{number}_{kind}"), body.to_string());
            fails(&server, &database, &webhook, &format!("{kind} {id:?}")).await;
        }
    }
    assert_eq!(database.ask::<i64>("select count(*) from users").await, 0);
}

#[tokio::test]
async fn no_text_of_a_sender_is_too_long_to_keep() {
    let (server, database) = server().await;
    // Digests, because an index compresses what repeats itself.
    let long: String = (0..2000).map(|n: u32| hex::encode(Sha256::digest(n.to_le_bytes()))).collect();
    let whole = stripe_event("evt_0", "customer.updated", now(), json!({"id": "cus_1", "object": "customer"}));
    let whole: Value = serde_json::from_slice(&whole.body).unwrap();
    for (number, pointer) in
        ["/account", "/api_version", "/data/object/object", "/data/object/customer", "/data/object/id"].into_iter().enumerate()
    {
        let mut body = whole.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        body["id"] = json!(format!("evt_long_{number}"));
        body.pointer_mut(parent).unwrap()[key] = json!(long);
        let webhook = Webhook::stripe(&format!("evt_long_{number}"), body.to_string());
        let answer = server.send(&webhook).await;
        assert_eq!(answer.status, 200, "{pointer}: {answer:?}");
        let reason: Option<String> =
            database.ask(&format!("select reason from billsync.webhook_events where event_id = '{}'", webhook.id)).await;
        assert!(!reason.as_deref().unwrap_or_default().contains("SQLSTATE"), "{pointer}: {reason:?}");
    }
    let foreign = "select count(*) from billsync.provider_objects where account <> '' and object_id = 'cus_1'";
    assert_eq!(database.ask::<i64>(foreign).await, 1, "mirrored under an account of its own, not under ours");
}

#[tokio::test]
async fn what_a_failed_event_changed_stays_told_when_it_fails_again() {
    let (server, database) = server().await;
    server.link_users(1, 2).await;
    let mut object = subscription(1, now());
    remove(&mut object, "/status");
    let unreadable = stripe_event("evt_twice", "customer.subscription.updated", now() + TimeDelta::seconds(1), object);
    let told = "select effects::text from billsync.webhook_payloads where event_id = 'evt_twice'";
    fails(&server, &database, &unreadable, "no status").await;
    let effects: String = database.ask(told).await;
    assert!(effects.contains("billing_sync_status") && effects.contains("last_webhook_event"), "{effects}");
    fails(&server, &database, &unreadable, "no status, once more").await;
    assert_eq!(database.ask::<String>(told).await, effects);
}
