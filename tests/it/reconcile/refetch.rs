//! The refetch queue: asked about while the facts leave the question open, dropped as soon as they do not.

use billsync::schedule::{Work, run_due, tasks};
use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{World, card, customer};
use crate::support::events::{stripe_event, subscription};
use crate::support::server::now;
use crate::support::stripe::Fault;

/// User 1, whose customer names a payment method that no event has brought.
async fn with_unknown_payment_method() -> World {
    let world = World::with_linked_customer().await;
    let mut named = customer(1);
    named["invoice_settings"] = json!({"default_payment_method": "pm_9"});
    world.fake.put([named.clone()]);
    world.deliver(&stripe_event("evt_c", "customer.updated", now() - TimeDelta::minutes(5), named)).await;
    world.deliver(&stripe_event("evt_s", "customer.subscription.created", now(), subscription(1, now()))).await;
    assert_eq!(queue(&world).await, json!([["pm_9", 0]]));
    assert_eq!(world.column("user_subscriptions", "billing_sync_status").await, "needs_reconcile");
    world
}

async fn queue(world: &World) -> Value {
    world
        .database
        .ask("select coalesce(jsonb_agg(jsonb_build_array(object_id, attempts)), '[]') from billsync.refetch_queue")
        .await
}

#[tokio::test]
async fn the_task_fetches_an_unknown_payment_method() {
    let world = with_unknown_payment_method().await;
    world.fake.put([card("pm_9", 1, "1881")]);
    let work = Work::new(world.store.clone(), world.rules.clone(), world.clock.clone());
    let all = tasks(0, Some(&world.reconciler));
    let task = all.iter().find(|task| task.name == "refetch").unwrap();
    assert!(task.interval.as_secs() <= 5);
    let report = run_due(task, &work).await.unwrap().unwrap();
    assert_eq!((report.error, report.summary.unwrap().rows), (None, 1));
    assert_eq!(world.column("user_billing", "card_last_4").await, "1881");
    assert_eq!(world.column("user_subscriptions", "billing_sync_status").await, "synced");
    assert_eq!(queue(&world).await, json!([]));
}

#[tokio::test]
async fn an_entry_whose_question_is_closed_is_dropped_unasked() {
    let world = with_unknown_payment_method().await;
    world.deliver(&stripe_event("evt_p", "payment_method.attached", now(), card("pm_9", 1, "1881"))).await;
    let drained = world.reconciler.drain_refetches().await.unwrap();
    assert_eq!((drained.dropped, drained.settled, drained.postponed), (1, 0, 0));
    assert!(world.fake.asked().is_empty());
    assert_eq!(queue(&world).await, json!([]));
}

#[tokio::test]
async fn a_payment_method_that_nobody_names_any_more_is_dropped_unasked() {
    let world = with_unknown_payment_method().await;
    world.deliver(&stripe_event("evt_d", "customer.updated", now() + TimeDelta::seconds(1), customer(1))).await;
    let drained = world.reconciler.drain_refetches().await.unwrap();
    assert_eq!((drained.dropped, world.fake.asked().len()), (1, 0));
}

#[tokio::test]
async fn what_stripe_does_not_know_is_asked_for_ever_more_seldom() {
    let world = with_unknown_payment_method().await;
    let mut asked = 0;
    for seconds in [0, 10, 20, 40, 80] {
        world.clock.set(now() + TimeDelta::seconds(seconds));
        let drained = world.reconciler.drain_refetches().await.unwrap();
        asked += 1;
        assert_eq!((drained.postponed, drained.settled), (1, 0), "after {seconds} s");
        assert_eq!(world.reconciler.drain_refetches().await.unwrap().postponed, 0, "not due again at once");
        assert_eq!(queue(&world).await, json!([["pm_9", asked]]));
    }
    assert_eq!(world.fake.asked().len(), asked);
    world.clock.set(now() + TimeDelta::hours(2));
    world.fake.put([card("pm_9", 1, "1881")]);
    assert_eq!(world.reconciler.drain_refetches().await.unwrap().settled, 1);
}

#[tokio::test]
async fn a_failing_stripe_postpones_and_is_reported() {
    let world = with_unknown_payment_method().await;
    world.fake.put([card("pm_9", 1, "1881")]);
    world.fake.fail_always("/v1/payment_methods/pm_9", Fault::Status(500, ""));
    let error = world.reconciler.drain_refetches().await.unwrap_err();
    assert!(error.to_string().contains("payment_methods/pm_9"), "{error}");
    assert_eq!(queue(&world).await, json!([["pm_9", 1]]));
    world.fake.recover();
    world.clock.set(now() + TimeDelta::minutes(1));
    assert_eq!(world.reconciler.drain_refetches().await.unwrap().settled, 1);
    assert_eq!(world.column("user_billing", "card_last_4").await, "1881");
}

#[tokio::test]
async fn a_second_that_cannot_be_ordered_is_settled_by_asking() {
    let world = World::with_linked_customer().await;
    let at = now() - TimeDelta::seconds(1);
    let (mut one, mut other) = (subscription(1, at), subscription(1, at));
    (one["cancel_at_period_end"], other["status"]) = (true.into(), "past_due".into());
    for (id, object) in [("evt_1", &one), ("evt_2", &other)] {
        world.deliver(&stripe_event(id, "customer.subscription.updated", at, object.clone())).await;
    }
    assert_eq!(world.column("user_subscriptions", "billing_sync_status").await, "needs_reconcile");
    world.fake.put([one]);
    assert_eq!(world.reconciler.drain_refetches().await.unwrap().settled, 0, "not before two seconds have passed");
    world.clock.set(at + TimeDelta::seconds(4));
    assert_eq!(world.reconciler.drain_refetches().await.unwrap().settled, 1);
    assert_eq!(world.column("user_subscriptions", "subscription_status").await, "active");
    assert_eq!(world.column("user_subscriptions", "billing_sync_status").await, "synced");
    assert_eq!(queue(&world).await, json!([]));
}

#[tokio::test]
async fn on_a_test_clock_nobody_is_asked() {
    let world = with_unknown_payment_method().await;
    let mut on_clock = customer(1);
    (on_clock["test_clock"], on_clock["invoice_settings"]) = ("clock_1".into(), json!({"default_payment_method": "pm_9"}));
    world.deliver(&stripe_event("evt_t", "customer.updated", now() + TimeDelta::seconds(1), on_clock)).await;
    let drained = world.reconciler.drain_refetches().await.unwrap();
    assert_eq!((drained.dropped, world.fake.asked().len()), (1, 0));
}

#[tokio::test]
async fn a_detached_card_that_is_still_named_is_known_once_it_was_asked_for() {
    let world = with_unknown_payment_method().await;
    let mut detached = card("pm_9", 1, "1881");
    detached["customer"] = Value::Null;
    world.fake.put([detached]);
    assert_eq!(world.reconciler.drain_refetches().await.unwrap().settled, 1);
    assert_eq!(world.column("user_billing", "payment_method_id").await, Value::Null);
    assert_eq!(world.column("user_subscriptions", "billing_sync_status").await, "synced");
    assert_eq!(queue(&world).await, json!([]));
}

#[tokio::test]
async fn what_is_known_as_somebody_elses_is_asked_for_as_long_as_a_row_names_it() {
    let world = with_unknown_payment_method().await;
    // Events tell of the card as another customer's, so of whose it is as the row names it only Stripe can say.
    world.deliver(&stripe_event("evt_other", "payment_method.attached", now(), card("pm_9", 2, "1881"))).await;
    world.fake.put([card("pm_9", 2, "1881")]);
    assert_eq!(world.reconciler.drain_refetches().await.unwrap().postponed, 1);
    assert_eq!(world.column("user_subscriptions", "billing_sync_status").await, "needs_reconcile");
    assert_eq!(world.column("user_billing", "card_last_4").await, Value::Null);
    world.clock.set(now() + TimeDelta::minutes(1));
    world.fake.put([card("pm_9", 1, "1881")]);
    assert_eq!(world.reconciler.drain_refetches().await.unwrap().settled, 1);
    assert_eq!(world.column("user_billing", "card_last_4").await, "1881");
    assert_eq!(world.column("user_subscriptions", "billing_sync_status").await, "synced");
}

#[tokio::test]
async fn a_source_that_names_no_customer_is_asked_for() {
    let world = World::with_linked_customer().await;
    let source = |customer: Value| {
        json!({"id": "src_1", "object": "source", "type": "card", "customer": customer, "created": 1_760_000_000,
            "card": {"brand": "Visa", "last4": "0077", "exp_month": 8, "exp_year": 2031}})
    };
    world.deliver(&stripe_event("evt_src", "source.chargeable", now() - TimeDelta::minutes(5), source(Value::Null))).await;
    let mut named = customer(1);
    named["default_source"] = json!("src_1");
    world.fake.put([named.clone()]);
    world.deliver(&stripe_event("evt_c", "customer.updated", now() - TimeDelta::minutes(4), named)).await;
    assert_eq!(queue(&world).await, json!([["src_1", 0]]));
    world.fake.put([source(json!("cus_1"))]);
    assert_eq!(world.reconciler.drain_refetches().await.unwrap().settled, 1);
    assert_eq!(world.column("user_billing", "card_last_4").await, "0077");
}
