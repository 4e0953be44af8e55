//! The history that Stripe has: all of it once, also through a kill -9, and nothing the second time.

use std::process::Stdio;

use billsync::reconcile::{Backfill, Mode, Report, Stage};
use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{World, card, customer};
use crate::support::events::{stripe_event, subscription, user_created};
use crate::support::server::now;
use crate::support::service::billsync;
use crate::support::stripe::{API_KEY, Fault};
use crate::support::until;

fn everything() -> Backfill {
    let of_stripe = Backfill::STAGES.into_iter().filter(|stage| stage.provider() == "Stripe");
    Backfill { since: None, stages: of_stripe.collect(), mode: Mode::Apply }
}

async fn backfill(world: &World, what: &Backfill) -> Report {
    world.reconciler.backfill(what, &|_| {}).await.unwrap()
}

/// 250 users who have customers, subscriptions and cards at Stripe, of which nobody has told us.
async fn with_history() -> World {
    let world = World::new().await;
    let then = now() - TimeDelta::days(400);
    world.deliver(&user_created(1, then)).await;
    world.deliver(&user_created(2, then)).await;
    for number in 0..250 {
        let began = now() - TimeDelta::days(20);
        let mut first = subscription(number, began);
        if number == 2 {
            (first["status"], first["ended_at"]) = ("canceled".into(), began.timestamp().into());
        }
        world.fake.put([customer(number), first, card(&format!("pm_{number}"), number, "4242")]);
    }
    world.fake.put([
        json!({"id": "prod_glow_up", "object": "product", "name": "Glow Up", "created": 1_700_000_000}),
        json!({"id": "price_glow_up_monthly", "object": "price", "product": "prod_glow_up", "created": 1_700_000_000}),
    ]);
    world
}

#[tokio::test]
async fn everything_becomes_facts_and_a_second_run_changes_nothing() {
    let world = with_history().await;
    // Deleted before the backfill: only its events tell of it.
    let deleted = stripe_event("evt_deleted", "customer.deleted", now() - TimeDelta::days(3), customer(777));
    world.fake.put([serde_json::from_slice(&deleted.body).unwrap()]);
    let report = backfill(&world, &everything()).await;
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(report.objects, 3 * 250 + 2 + 1);
    assert_eq!(world.column("user_subscriptions", "current_plan").await, "glow_up");
    assert_eq!(world.column("user_billing", "card_last_4").await, "4242");
    assert_eq!(world.column_of("user_2", "user_subscriptions", "subscription_status").await, "canceled");
    let mirrored: Value = world
        .database
        .ask("select jsonb_object_agg(object_type, n) from (select object_type, count(*) n from billsync.provider_objects group by 1) t")
        .await;
    assert_eq!(
        mirrored,
        json!({"customer": 251, "subscription": 250, "payment_method": 250, "product": 1, "price": 1, "user": 2})
    );
    let is_deleted = "select deleted_at is not null from billsync.provider_objects where object_id = 'cus_777'";
    assert!(world.database.ask::<bool>(is_deleted).await);
    let before = world.contents().await;
    world.clock.set(now() + TimeDelta::seconds(10));
    let again = backfill(&world, &everything()).await;
    assert!(again.drift.is_empty(), "{:?}", again.drift);
    assert_eq!(world.contents().await, before);
}

#[tokio::test]
async fn parts_of_it_and_a_dry_run() {
    let world = with_history().await;
    let before = world.contents().await;
    let dry = backfill(&world, &Backfill { mode: Mode::DryRun, ..everything() }).await;
    assert!(dry.drifted_objects().len() >= 500);
    assert_eq!(world.contents().await, before);
    let cursors: i64 = world.database.ask("select count(*) from billsync.sync_cursors").await;
    assert_eq!(cursors, 0);
    world.fake.forget_asked();
    backfill(&world, &Backfill { stages: vec![Stage::Subscriptions], since: Some(now()), ..everything() }).await;
    let asked = world.fake.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].query["created[gte]"], now().timestamp().to_string());
    assert_eq!(asked[0].query["status"], "all");
}

#[tokio::test]
async fn an_interrupted_one_goes_on_where_it_ended() {
    let world = with_history().await;
    // Two pages of the lists before it, and a batch of customers whose payment methods are read.
    world.fake.fail_always("/v1/customers/cus_200/payment_methods", Fault::Status(500, ""));
    world.reconciler.backfill(&everything(), &|_| {}).await.unwrap_err();
    world.fake.recover();
    world.fake.forget_asked();
    backfill(&world, &everything()).await;
    assert_eq!(world.fake.count("/v1/customers"), 0, "done before");
    assert_eq!(world.fake.count("/v1/customers/cus_0/payment_methods"), 0, "done before");
    assert_eq!(world.fake.count("/v1/customers/cus_200/payment_methods"), 1);
    let cards: i64 =
        world.database.ask("select count(*) from billsync.provider_objects where object_type = 'payment_method'").await;
    assert_eq!(cards, 250);
    // Another one is not taken for a continuation.
    world.fake.forget_asked();
    backfill(&world, &Backfill { since: Some(now()), ..everything() }).await;
    assert_eq!(world.fake.count("/v1/customers"), 1);
}

#[tokio::test]
async fn a_kill_9_in_the_middle_loses_no_page() {
    let world = with_history().await;
    world.fake.fail_always("/v1/customers/cus_200/payment_methods", Fault::Silence);
    let settings = [
        ("DATABASE_URL", world.database.url.as_str()),
        ("STRIPE_API_KEY", API_KEY),
        ("STRIPE_API_BASE", &world.fake.base()),
        ("BILLSYNC_STRIPE_REQUESTS_PER_SECOND", "100"),
    ];
    let mut killed = billsync(&settings).arg("backfill").stderr(Stdio::null()).spawn().unwrap();
    let waits = || world.fake.count("/v1/customers/cus_200/payment_methods") > 0;
    until("it waits for an answer", async || waits()).await;
    let stage = "select position ->> 'stage' from billsync.sync_cursors where name = 'backfill'";
    until("what it has done is kept", async || {
        world.database.ask::<Option<String>>(stage).await.as_deref() == Some("payment_methods")
    })
    .await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    world.fake.recover();
    world.fake.forget_asked();
    let done = tokio::task::spawn_blocking({
        let mut command = billsync(&settings);
        move || command.args(["backfill", "--json"]).stdout(Stdio::piped()).output().unwrap()
    });
    let done = done.await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(world.fake.count("/v1/customers"), 0, "done before the kill");
    let cards: i64 =
        world.database.ask("select count(*) from billsync.provider_objects where object_type = 'payment_method'").await;
    assert_eq!(cards, 250);
}
