//! The commands as an operator meets them: exit codes, JSON, what is said when the key is wrong, and `serve` mending by itself.

use std::process::{Output, Stdio};

use billsync::clock::Clock;
use billsync::reconcile::Mode;
use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{World, card, customer};
use crate::support::events::{stripe_event, subscription};
use crate::support::server::now;
use crate::support::service::{Service, billsync};
use crate::support::stripe::{API_KEY, Fault};
use crate::support::until;

async fn run(world: &World, arguments: &[&str]) -> Output {
    run_with(world, arguments, Some(API_KEY)).await
}

async fn run_with(world: &World, arguments: &[&str], key: Option<&str>) -> Output {
    let base = world.fake.base();
    let mut settings = vec![("DATABASE_URL", world.database.url.as_str()), ("STRIPE_API_BASE", base.as_str())];
    settings.extend(key.map(|key| ("STRIPE_API_KEY", key)));
    let mut command = billsync(&settings);
    command.args(arguments).stdout(Stdio::piped());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn drift_ends_with_3_and_is_told_field_by_field() {
    let world = World::with_linked_customer().await;
    world.clock.set(Clock::System.now());
    let began = now() - TimeDelta::minutes(50);
    world.deliver(&stripe_event("evt_1", "customer.subscription.created", began, subscription(1, began))).await;
    let mut theirs = subscription(1, began);
    theirs["status"] = "past_due".into();
    let missed =
        stripe_event("evt_2", "customer.subscription.updated", Clock::System.now() - TimeDelta::hours(1), theirs.clone());
    world.fake.put([theirs, serde_json::from_slice(&missed.body).unwrap()]);
    for arguments in [&["reconcile", "--user", "user_1", "--dry-run", "--json"][..], &["reconcile", "--all", "--json"]] {
        let output = run(&world, arguments).await;
        assert_eq!(output.status.code(), Some(3), "{}", text(&output));
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        let drift = &shown["drift"][0];
        assert_eq!(
            (&drift["object"], &drift["field"], &drift["ours"], &drift["theirs"], &drift["user"]),
            (&json!("sub_1"), &json!("status"), &json!("active"), &json!("past_due"), &json!("user_1"))
        );
        assert_eq!(drift["missed_event"]["id"], "evt_2");
        assert_eq!(shown["dry_run"], arguments.contains(&"--dry-run"));
    }
    assert_eq!(world.column("user_subscriptions", "subscription_status").await, "past_due");
    let output = run(&world, &["reconcile", "--user", "user_1"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("none differs"), "{}", text(&output));
}

#[tokio::test]
async fn what_is_wrong_is_said_without_the_key() {
    let world = World::with_linked_customer().await;
    for (arguments, fault, code, expected) in [
        (&["reconcile", "--user", "user_9"][..], None, 1, "there is no user user_9"),
        (&["reconcile"], None, 2, "--user"),
        (&["reconcile", "--user", "user_1", "--all"], None, 2, "cannot be used with"),
        (&["backfill", "--type", "cats"], None, 2, "payment-methods"),
        (&["reconcile", "--all"], Some(Fault::Status(401, "")), 1, "does not accept STRIPE_API_KEY"),
        (&["reconcile", "--all"], Some(Fault::Status(403, "")), 1, "rak_made_up_read"),
    ] {
        world.fake.recover();
        if let Some(fault) = fault {
            world.fake.fail_always("/v1/customers", fault);
        }
        let output = run(&world, arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(expected), "{arguments:?}: {}", text(&output));
        assert!(!text(&output).contains("51Fake"), "{}", text(&output));
    }
    let output = run_with(&world, &["reconcile", "--all"], None).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("STRIPE_API_KEY is not set"), "{}", text(&output));
}

#[tokio::test]
async fn a_scope_that_is_missing_leaves_out_its_part_alone() {
    let world = World::with_linked_customer().await;
    world.fake.put([subscription(1, now()), card("pm_1", 1, "4242")]);
    for path in ["/v1/payment_intents", "/v1/checkout/sessions", "/v1/events"] {
        world.fake.fail_always(path, Fault::Status(403, ""));
    }
    let report = world.reconciler.reconcile_all(Mode::Apply, &|_| {}).await.unwrap();
    assert_eq!(report.problems.len(), 3, "{:?}", report.problems);
    assert!(report.problems[0].contains("Checkout Sessions: Read"), "{:?}", report.problems);
    assert_eq!(world.column("user_billing", "card_last_4").await, "4242");
}

#[tokio::test]
async fn serve_mends_by_itself_and_tells_how_far_it_is() {
    let world = World::with_linked_customer().await;
    let fake = crate::support::stripe::FakeStripe::start(Clock::System).await;
    let mut named = customer(1);
    named["invoice_settings"] = json!({"default_payment_method": "pm_9"});
    let at = Clock::System.now() - TimeDelta::minutes(2);
    let missed = stripe_event("evt_missed", "customer.subscription.created", at, subscription(1, at));
    fake.put([named, card("pm_9", 1, "1881"), subscription(1, at), serde_json::from_slice(&missed.body).unwrap()]);
    let base = fake.base();
    let settings =
        [("DATABASE_URL", world.database.url.as_str()), ("STRIPE_API_KEY", API_KEY), ("STRIPE_API_BASE", base.as_str())];
    let mut service = Service::start(&settings).await;
    until("the events are caught up with", async || world.database.ledger("evt_missed").await.is_some()).await;
    until("the card is there", async || world.column("user_billing", "card_last_4").await == "1881").await;
    let metrics = async || crate::http::client::get(service.address, "/metrics").await.body;
    until("the age of the position is told", async || {
        metrics().await.contains("billsync_sync_cursor_age_seconds{cursor=\"stripe_events\"}")
    })
    .await;
    assert!(metrics().await.contains("billsync_sync_cursor_stale{cursor=\"stripe_events\"} 0"));
    until("drift is counted", async || metrics().await.contains("billsync_drift_total{object_type=\"customer\"}")).await;
    service.terminate();
    assert!(service.ended().await);
    let log = service.log();
    assert!(!log.contains("51Fake") && !log.contains("STRIPE_API_BASE is set"), "{log}");
}

#[tokio::test]
async fn serve_raises_an_alarm_long_before_stripe_forgets() {
    let world = World::with_linked_customer().await;
    // It has never succeeded.
    let position = json!({"first_tried_at": Clock::System.now() - TimeDelta::days(25), "known_until": null, "window": null});
    world
        .database
        .execute(&format!("insert into billsync.sync_cursors (name, position) values ('stripe_events', '{position}')"))
        .await;
    world.fake.fail_always("/v1/events", Fault::Status(403, ""));
    let base = world.fake.base();
    let settings =
        [("DATABASE_URL", world.database.url.as_str()), ("STRIPE_API_KEY", API_KEY), ("STRIPE_API_BASE", base.as_str())];
    let service = Service::start(&settings).await;
    let metrics = async || crate::http::client::get(service.address, "/metrics").await.body;
    until("the alarm is raised", async || metrics().await.contains("billsync_sync_cursor_stale{cursor=\"stripe_events\"} 1"))
        .await;
    assert!(metrics().await.contains("billsync_alerts_total{name=\"catch_up_stale\"} 1"));
    until("the task's error names the scope", async || service.log().contains("Events: Read")).await;
}
