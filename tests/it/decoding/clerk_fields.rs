//! Clerk Billing: subscriptions with their items, items of either shape, trial slots, payment attempts, payers.

use billsync::domain::billing::facts::Fact;
use billsync::domain::event::{Event, TypeRank};
use serde_json::{Value, json};

use super::{clerk_event, fact_as, ignored, the_snapshot, unreadable};

const ENVELOPE: i64 = 1_760_000_000_835;

fn item(fields: Value) -> Value {
    let mut item = json!({"id": "csub_item_1", "object": "commerce_subscription_item", "status": "active", "is_free_trial": false,
        "created_at": 1_760_000_000_000_i64, "updated_at": 1_999_999_999_999_i64, "period_start": 1_760_000_000_000_i64,
        "period_end": 1_762_592_000_000_i64, "interval": "month", "plan_id": "cplan_1",
        "plan": {"id": "cplan_1", "slug": "glow_up", "is_recurring": true, "amount": 9900}, "payer": {"user_id": "user_1", "organization_id": ""}});
    for (name, value) in fields.as_object().expect("an object") {
        item[name] = value.clone();
    }
    item
}

fn item_event(fields: Value) -> Event {
    clerk_event("subscriptionItem.active", item(fields))
}

#[test]
fn an_item() {
    let event = item_event(json!({"canceled_at": 1_760_000_001_000_i64, "past_due_at": 1_760_000_002_000_i64}));
    let snapshot = the_snapshot(&event);
    assert_eq!((snapshot.object_type.as_str(), snapshot.key.object_id.as_str()), ("commerce_subscription_item", "csub_item_1"));
    assert_eq!(snapshot.as_of.timestamp_millis(), ENVELOPE, "never its own updated_at");
    assert!(!snapshot.terminal);
    assert_eq!((event.owner_id.as_deref(), snapshot.owner_id.as_deref()), (Some("user_1"), Some("user_1")));
    assert_eq!(event.clerk_user_ids, ["user_1"]);
    let item = fact_as!(event, ClerkItem);
    assert_eq!((item.user_id.as_str(), item.status.as_str(), item.plan_slug.as_deref()), ("user_1", "active", Some("glow_up")));
    let milliseconds = |time: Option<chrono::DateTime<chrono::Utc>>| time.map(|time| time.timestamp_millis());
    assert_eq!(
        (milliseconds(item.period_start), milliseconds(item.period_end)),
        (Some(1_760_000_000_000), Some(1_762_592_000_000))
    );
    assert_eq!(
        (milliseconds(item.canceled_at), milliseconds(item.past_due_at)),
        (Some(1_760_000_001_000), Some(1_760_000_002_000))
    );
    assert_eq!(milliseconds(item.created_at), Some(1_760_000_000_000));
    assert!(!item.is_default_plan && !item.is_free_trial);
    for ended in ["canceled", "ended", "abandoned", "expired", "incomplete", "upcoming", "a_new_one"] {
        let event = item_event(json!({"status": ended}));
        assert!(!the_snapshot(&event).terminal);
        assert_eq!(fact_as!(event, ClerkItem).status, ended);
    }
}

#[test]
fn the_old_shape_of_an_item() {
    let old = json!({"id": "csub_item_1", "object": "commerce_subscription_item", "status": "active", "plan_period": "month",
        "period_start": 1_760_000_000_000_i64, "period_end": 1_762_592_000_000_i64, "next_payment_amount": 9900,
        "amount": {"amount": 9900}, "plan": {"id": "cplan_1", "slug": "glow_up", "is_default": false, "is_recurring": true, "amount": 9900},
        "payer": {"user_id": "user_1"}});
    let old = fact_as!(clerk_event("subscriptionItem.active", old), ClerkItem);
    let new = fact_as!(item_event(json!({"created_at": null})), ClerkItem);
    assert_eq!(old, new);
}

#[test]
fn default_plans() {
    for (plan, is_default) in [
        (json!({"is_default": true, "amount": 100, "is_recurring": true}), true),
        (json!({"amount": 0, "is_recurring": false}), true),
        (json!({"fee": {"amount": 0}, "is_recurring": false}), true),
        (json!({"amount": {"amount": 0}, "is_recurring": false}), true),
        (json!({"amount": 0, "is_recurring": true}), false),
        (json!({"amount": 0}), false),
        (json!({"amount": 100, "is_recurring": false}), false),
        (json!({"is_recurring": false}), false),
        (json!(null), false),
        (json!("cplan_1"), false),
    ] {
        assert_eq!(fact_as!(item_event(json!({"plan": plan})), ClerkItem).is_default_plan, is_default, "{plan}");
    }
}

#[test]
fn a_trial_keeps_a_slot_of_its_own() {
    let event = item_event(json!({"is_free_trial": true}));
    let [own, slot] = event.snapshots() else { panic!("not two: {:?}", event.content) };
    assert_eq!((slot.key.object_id.as_str(), slot.object_type.as_str()), ("csub_item_1#trial", "clerk_item_trial"));
    assert_eq!((slot.as_of, slot.owner_id.as_deref(), slot.type_rank), (own.as_of, Some("user_1"), TypeRank::Other));
    assert_eq!(slot.object, own.object);
    let Some(Fact::ClerkItemTrial(trial)) = slot.fact.as_deref() else { panic!("not a trial") };
    assert_eq!((trial.user_id.as_str(), trial.item_id.as_str()), ("user_1", "csub_item_1"));
    assert_eq!(trial.period_end.map(|time| time.timestamp_millis()), Some(1_762_592_000_000));
}

#[test]
fn a_subscription_brings_its_items() {
    let mut inner = item(json!({"status": "past_due"}));
    inner.as_object_mut().expect("an object").remove("payer");
    let mut trial = inner.clone();
    trial["id"] = json!("csub_item_2");
    trial["is_free_trial"] = json!(true);
    trial["status"] = json!("active");
    let subscription = json!({"id": "csub_1", "object": "commerce_subscription", "status": "past_due", "past_due_at": 1_760_000_000_500_i64,
        "payer": {"user_id": "user_1"}, "items": [inner, trial]});
    let event = clerk_event("subscription.created", subscription);
    let keys: Vec<&str> = event.snapshots().iter().map(|snapshot| snapshot.key.object_id.as_str()).collect();
    assert_eq!(keys, ["csub_1", "csub_item_1", "csub_item_2", "csub_item_2#trial"]);
    assert!(
        event
            .snapshots()
            .iter()
            .all(|snapshot| snapshot.as_of.timestamp_millis() == ENVELOPE && snapshot.owner_id.as_deref() == Some("user_1"))
    );
    assert!(event.snapshots().iter().all(|snapshot| snapshot.type_rank == TypeRank::Created));
    let past_due = |at: usize| match event.snapshots()[at].fact.as_deref() {
        Some(Fact::ClerkItem(item)) => item.past_due_at.map(|time| time.timestamp_millis()),
        other => panic!("not an item: {other:?}"),
    };
    assert_eq!((past_due(1), past_due(2)), (Some(1_760_000_000_500), None), "the subscription's, where the item is past due");
    let Some(Fact::ClerkSubscription(subscription)) = event.snapshots()[0].fact.as_deref() else { panic!("not a subscription") };
    assert_eq!((subscription.user_id.as_deref(), subscription.status.as_deref()), (Some("user_1"), Some("past_due")));
}

#[test]
fn payers() {
    let organisation = json!({"payer": {"user_id": "", "organization_id": "org_1"}});
    ignored(&item_event(organisation.clone()));
    ignored(&clerk_event("subscription.updated", json!({"id": "csub_1", "payer": organisation["payer"], "items": [{"id": 7}]})));
    ignored(&clerk_event("paymentAttempt.created", json!({"id": "cpayatt_1", "payer": organisation["payer"]})));
    assert_eq!(
        fact_as!(item_event(json!({"payer": {"user_id": "user_2", "organization_id": "org_1"}})), ClerkItem).user_id,
        "user_2"
    );
    for nobody in [json!(null), json!({}), json!({"user_id": "", "organization_id": ""}), json!({"user_id": 7}), json!("user_1")]
    {
        assert_eq!(unreadable(&item_event(json!({"payer": nobody}))), "data.payer.user_id: missing or not an id");
    }
}

#[test]
fn what_cannot_be_read_says_where() {
    for (fields, reason) in [
        (json!({"id": null}), "data.id: missing"),
        (json!({"id": 7}), "data.id: not a string"),
        (json!({"status": null}), "data.status: missing"),
        (json!({"status": ["secret"]}), "data.status: not a string"),
    ] {
        let event = item_event(fields);
        assert_eq!(unreadable(&event), reason);
        assert_eq!(event.owner_id.as_deref(), Some("user_1"));
    }
    let subscription =
        json!({"id": "csub_1", "payer": {"user_id": "user_1"}, "items": [item(json!({})), item(json!({"status": 1}))]});
    assert_eq!(unreadable(&clerk_event("subscription.updated", subscription)), "data.items[1].status: not a string");
    assert_eq!(unreadable(&clerk_event("subscription.updated", json!({"payer": {"user_id": "user_1"}}))), "data.id: missing");
    assert_eq!(unreadable(&clerk_event("subscriptionItem.active", json!([]))), "data: not an object");
}

#[test]
fn a_payment_attempt() {
    let attempt = json!({"id": "cpayatt_1", "status": "paid", "paid_at": 1_760_000_003_000_i64, "payer": {"user_id": "user_1", "organization_id": ""},
        "subscription_items": [{"id": "csub_item_1", "period_start": 1_760_000_000_000_i64}, {"id": "csub_item_2"}, 7]});
    let event = clerk_event("paymentAttempt.updated", attempt);
    assert_eq!(the_snapshot(&event).object_type, "commerce_payment_attempt");
    let attempt = fact_as!(event, ClerkPaymentAttempt);
    assert_eq!((attempt.user_id.as_deref(), attempt.status.as_str()), (Some("user_1"), "paid"));
    assert_eq!(attempt.paid_at.map(|time| time.timestamp_millis()), Some(1_760_000_003_000));
    let starts: Vec<_> = attempt.item_starts.iter().map(|(id, start)| (id.as_str(), start.timestamp())).collect();
    assert_eq!(starts, [("csub_item_1", 1_760_000_000)]);
}

#[test]
fn objects_are_told_by_their_name_whatever_billing_is_called() {
    for (name, expected) in [
        ("commerce_subscription_item", "commerce_subscription_item"),
        ("billing_subscription_item", "commerce_subscription_item"),
        ("subscription_item", "commerce_subscription_item"),
    ] {
        assert_eq!(the_snapshot(&item_event(json!({"object": name}))).object_type, expected);
    }
}
