//! Ended in the middle, by kill -9 or by a signal: what was done is kept and whole, and the next run does the rest.

use std::process::{Child, ExitStatus, Output, Stdio};

use billsync::clock::Clock;
use billsync::reconcile::Mode;
use chrono::{DateTime, TimeDelta, Utc};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::Executor;

use super::{World, card, customer};
use crate::support::events::{stripe_event, subscription, user_created};
use crate::support::server::now;
use crate::support::service::billsync;
use crate::support::stripe::{API_KEY, FakeStripe, Fault};
use crate::support::until;

/// The first key of the lock that every batch holds shared.
const CATALOG_LOCK: i64 = 0x6273_0000;

fn start(world: &World, base: &str, arguments: &[&str]) -> Child {
    let settings = [
        ("DATABASE_URL", world.database.url.as_str()),
        ("STRIPE_API_KEY", API_KEY),
        ("STRIPE_API_BASE", base),
        ("BILLSYNC_STRIPE_REQUESTS_PER_SECOND", "100"),
    ];
    let mut command = billsync(&settings);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

async fn end(child: Child) -> Output {
    tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap()
}

async fn run(world: &World, base: &str, arguments: &[&str]) -> Output {
    end(start(world, base, arguments)).await
}

fn kill_9(mut child: Child) -> ExitStatus {
    child.kill().unwrap();
    child.wait().unwrap()
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn position(world: &World, name: &str) -> Option<Value> {
    world.database.ask(&format!("select (select position from billsync.sync_cursors where name = '{name}')")).await
}

/// As time does: a killed process gives its lease back to nobody.
async fn let_leases_expire(world: &World) {
    world.database.execute("update billsync.schedule_leases set expires_at = now() - interval '1 second'").await;
}

fn listed(number: i64, at: DateTime<Utc>) -> Value {
    let webhook = stripe_event(&format!("evt_{number:04}"), "customer.subscription.updated", at, subscription(1, at));
    serde_json::from_slice(&webhook.body).unwrap()
}

#[tokio::test]
async fn catching_up_goes_on_after_a_kill_9() {
    let world = World::with_linked_customer().await;
    let fake = FakeStripe::start(Clock::System).await;
    let now = Clock::System.now();
    fake.put((0..450).map(|number| listed(number, now - TimeDelta::minutes(number + 1))));
    fake.fail_from(3, Fault::Silence);
    let killed = start(&world, &fake.base(), &["schedule", "run", "catch-up"]);
    until("it waits for the third page", async || fake.count("/v1/events") == 3).await;
    until("the second page is kept", async || {
        position(&world, "stripe_events").await.is_some_and(|position| position["window"]["after"] == "evt_0199")
    })
    .await;
    kill_9(killed);
    let count = "select count(*) from billsync.webhook_events where object_id = 'sub_1'";
    assert_eq!(world.database.ask::<i64>(count).await, 200);
    fake.recover();
    fake.forget_asked();
    let_leases_expire(&world).await;
    let output = run(&world, &fake.base(), &["schedule", "run", "catch-up"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(fake.count("/v1/events"), 3, "the other 250");
    assert_eq!(world.database.ask::<i64>(count).await, 450);
    let position = position(&world, "stripe_events").await.unwrap();
    assert!(position["window"].is_null() && position["known_until"].is_string(), "{position}");
}

#[tokio::test]
async fn the_hourly_pass_goes_on_after_a_kill_9() {
    let world = World::new().await;
    world
        .database
        .execute(
            "insert into billsync.owners (owner_id, clerk_user_id, linked_by, has_facts) \
             select 'cus_' || n, 'user_' || n, 'customer_metadata', true from generate_series(100, 219) n",
        )
        .await;
    world.fake.put((100..220).map(customer));
    world.fake.put((100..220).map(|number| card(&format!("pm_{number}"), number, "4242")));
    // Spread over most of the hour, it pauses after the first fifty customers.
    let killed = start(&world, &world.fake.base(), &["schedule", "run", "reconcile"]);
    until("it pauses", async || position(&world, "reconcile").await.is_some_and(|position| position["after"] == "cus_149")).await;
    kill_9(killed);
    assert_eq!(world.fake.asked().iter().filter(|asked| asked.path.ends_with("/payment_methods")).count(), 50);
    world.fake.forget_asked();
    world.clock.set(Clock::System.now());
    world.reconciler.reconcile_linked(None).await.unwrap();
    assert_eq!(world.fake.count("/v1/customers") + world.fake.count("/v1/subscriptions"), 0, "read before");
    assert_eq!(world.fake.asked().iter().filter(|asked| asked.path.ends_with("/payment_methods")).count(), 70);
    assert_eq!(position(&world, "reconcile").await, None, "the next pass is a whole one");
    let cards = "select count(*) from billsync.provider_objects where object_type = 'payment_method'";
    assert_eq!(world.database.ask::<i64>(cards).await, 120);
}

#[tokio::test]
async fn a_task_that_is_asked_to_end_gives_its_lease_back() {
    let world = World::with_linked_customer().await;
    world.fake.fail_always("/v1/subscriptions", Fault::Silence);
    let child = start(&world, &world.fake.base(), &["schedule", "run", "reconcile"]);
    until("it waits for an answer", async || world.fake.count("/v1/subscriptions") > 0).await;
    send(&child, Signal::TERM);
    let output = end(child).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("asked to stop before the end"), "{}", said(&output));
    assert_eq!(world.database.ask::<i64>("select count(*) from billsync.schedule_leases").await, 0);
    world.fake.recover();
    let output = run(&world, &world.fake.base(), &["schedule", "run", "reconcile"]).await;
    assert_eq!(output.status.code(), Some(0), "at once, and without waiting for a lease: {}", said(&output));
}

/// Users, customers, subscriptions and cards of whom Stripe has not told us; one request is never answered.
async fn with_history() -> World {
    let world = World::new().await;
    for number in 0..60 {
        world.deliver(&user_created(number, now())).await;
        world.fake.put([
            customer(number),
            subscription(number, now() - TimeDelta::days(20)),
            card(&format!("pm_{number}"), number, "4242"),
        ]);
    }
    world.fake.fail_always("/v1/customers/cus_9/payment_methods", Fault::Silence);
    world
}

async fn ended_in_the_middle(world: &World, arguments: &[&str], signal: Signal, name: &str) {
    let child = start(world, &world.fake.base(), arguments);
    until("it waits for an answer", async || world.fake.count("/v1/customers/cus_9/payment_methods") > 0).await;
    send(&child, signal);
    let output = end(child).await;
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
    assert!(said(&output).contains(&format!("{name}: ended early")), "{}", said(&output));
    let subscriptions =
        "select count(*) from public.user_subscriptions where current_plan = 'glow_up' and subscription_status = 'active'";
    assert_eq!(world.database.ask::<i64>(subscriptions).await, 60, "what was read is kept, and projected");
    let halves = "select count(*) from billsync.webhook_events e where e.outcome = 'applied' and e.object_id is not null and not exists \
                  (select from billsync.provider_objects o where o.object_id = e.object_id)";
    assert_eq!(world.database.ask::<i64>(halves).await, 0);
    world.fake.recover();
    world.fake.forget_asked();
}

async fn assert_complete(world: &World) {
    let cards = "select count(*) from public.user_billing where card_last_4 = '4242'";
    assert_eq!(world.database.ask::<i64>(cards).await, 60);
    let report = world.reconciler.reconcile_all(Mode::DryRun, &|_| {}).await.unwrap();
    assert!(report.drift.is_empty(), "{:?}", report.drift);
}

#[tokio::test]
async fn a_backfill_that_is_asked_to_end_goes_on_where_it_ended() {
    let world = with_history().await;
    ended_in_the_middle(&world, &["backfill"], Signal::TERM, "SIGTERM").await;
    assert_eq!(position(&world, "backfill").await.unwrap()["stage"], "payment_methods");
    let output = run(&world, &world.fake.base(), &["backfill"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(world.fake.count("/v1/customers"), 0, "done before");
    assert_complete(&world).await;
}

#[tokio::test]
async fn a_reconcile_that_is_asked_to_end_leaves_the_rest_to_the_next() {
    let world = with_history().await;
    ended_in_the_middle(&world, &["reconcile", "--all"], Signal::INT, "SIGINT").await;
    let output = run(&world, &world.fake.base(), &["reconcile", "--all", "--json"]).await;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(shown["drift"].as_array().unwrap().iter().all(|drift| drift["object_type"] == "payment_method"), "{shown}");
    assert_complete(&world).await;
    let output = run(&world, &world.fake.base(), &["reconcile", "--all"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[tokio::test]
async fn a_rebuild_that_is_asked_to_end_leaves_the_rest_to_the_next() {
    let world = World::new().await;
    for number in 0..80 {
        world.deliver(&user_created(number, now())).await;
    }
    for signal in [Signal::TERM, Signal::INT] {
        world.database.execute("update public.users set full_name = 'Somebody Else'").await;
        let mut holder = world.database.connect().await;
        let lock = format!("begin; select pg_advisory_xact_lock({CATALOG_LOCK}, 0)");
        holder.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
        let child = start(&world, &world.fake.base(), &["rebuild", "--json"]);
        until("it waits for the lock", async || {
            let waiting =
                format!("select count(*) from pg_locks where locktype = 'advisory' and classid = {CATALOG_LOCK} and not granted");
            world.database.ask::<i64>(&waiting).await > 0
        })
        .await;
        send(&child, signal);
        holder.execute("commit").await.unwrap();
        let output = end(child).await;
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(shown["stopped"], true, "{shown}");
        let output = run(&world, &world.fake.base(), &["rebuild", "--json"]).await;
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        let output = run(&world, &world.fake.base(), &["rebuild", "--json"]).await;
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let names: Value = world.database.ask("select jsonb_agg(distinct full_name) from public.users").await;
        assert!(!names.as_array().unwrap().contains(&json!("Somebody Else")));
    }
}
