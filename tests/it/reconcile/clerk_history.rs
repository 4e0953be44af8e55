//! Clerk's users as history: all of them once, also through a kill -9, nothing the second time, and those who are gone.

use std::process::Stdio;

use billsync::reconcile::{Backfill, Mode, ReconcileError, Report, Stage};
use chrono::TimeDelta;
use serde_json::{Value, json};

use super::World;
use crate::support::events::user_created;
use crate::support::fake_clerk::{FakeClerk, KEY, clerk_user};
use crate::support::server::now;
use crate::support::service::billsync;
use crate::support::until;

fn users(mode: Mode) -> Backfill {
    Backfill { since: None, stages: vec![Stage::ClerkUsers], mode }
}

/// 250 users at Clerk, of whom nobody has told us.
async fn with_users() -> (World, FakeClerk) {
    let (world, fake) = (World::new().await, FakeClerk::start().await);
    for number in 1..=250 {
        fake.put(clerk_user(number, now() - TimeDelta::days(3)));
    }
    (world, fake)
}

async fn read(world: &World, fake: &FakeClerk, what: &Backfill) -> Report {
    world.reader_of(fake).backfill(what, &|_| {}).await.unwrap()
}

#[tokio::test]
async fn everybody_becomes_a_fact_and_a_second_run_changes_nothing() {
    let (world, fake) = with_users().await;
    let before = world.contents().await;
    let dry = read(&world, &fake, &users(Mode::DryRun)).await;
    assert_eq!(dry.drifted_objects().len(), 250);
    assert_eq!(world.contents().await, before, "a dry run changes nothing");
    let report = read(&world, &fake, &users(Mode::Apply)).await;
    assert_eq!((report.objects, report.drifted_objects().len(), report.problems.len()), (250, 250, 0));
    assert_eq!(report.drift[0].user.as_deref(), Some("user_1"));
    assert_eq!(world.column_of("user_77", "users", "full_name").await, "Ada No. 77");
    assert_eq!(world.database.ask::<i64>("select count(*) from public.user_usage").await, 250);
    let before = world.contents().await;
    world.clock.set(now() + TimeDelta::seconds(10));
    fake.forget_requests();
    let again = read(&world, &fake, &users(Mode::Apply)).await;
    assert_eq!((again.objects, again.drift), (250, Vec::new()));
    assert_eq!(world.contents().await, before);
    // Whether ours are still there, 100 at a time; how many there are; pages of 100.
    assert_eq!(fake.requests().len(), 3 + 1 + 3, "{:?}", fake.requests());
}

#[tokio::test]
async fn who_has_changed_is_told_field_by_field() {
    let (world, fake) = with_users().await;
    read(&world, &fake, &users(Mode::Apply)).await;
    let mut changed = clerk_user(9, now());
    changed["last_name"] = "Newer".into();
    fake.put(changed);
    let report = read(&world, &fake, &users(Mode::Apply)).await;
    let told: Vec<_> = report.drift.iter().map(|drift| (drift.object.as_str(), drift.field.as_str(), &drift.theirs)).collect();
    assert_eq!(told, [("user_9", "full_name", &json!("Ada Newer"))]);
    assert_eq!(world.column_of("user_9", "users", "full_name").await, "Ada Newer");
}

#[tokio::test]
async fn since_a_time_only_who_was_made_then() {
    let (world, fake) = with_users().await;
    let made_at = clerk_user(240, now())["created_at"].as_i64().unwrap();
    let since = chrono::DateTime::from_timestamp_millis(made_at);
    let report = read(&world, &fake, &Backfill { since, ..users(Mode::Apply) }).await;
    assert_eq!(report.objects, 11);
    assert_eq!(world.database.ask::<i64>("select count(*) from public.users").await, 11);
}

#[tokio::test]
async fn who_is_gone_from_clerk_becomes_deleted() {
    let (world, fake) = with_users().await;
    read(&world, &fake, &users(Mode::Apply)).await;
    fake.remove("user_7");
    fake.remove("user_8");
    // Made while the list was read: too young to be missed.
    world.deliver(&user_created(999, now())).await;
    let dry = read(&world, &fake, &users(Mode::DryRun)).await;
    assert_eq!(dry.drifted_objects().into_iter().collect::<Vec<_>>(), ["user_7", "user_8"]);
    assert_eq!(world.column_of("user_7", "users", "email").await, "user_7@example.com");
    let report = read(&world, &fake, &users(Mode::Apply)).await;
    assert_eq!(report.drift.iter().map(|drift| drift.field.as_str()).collect::<Vec<_>>(), ["deleted", "deleted"]);
    let user =
        "select concat_ws(' ', user_id, email, full_name, deleted_at is not null) from public.users where user_id = 'user_7'";
    assert_eq!(world.database.ask::<String>(user).await, "user_7 t");
    assert_eq!(world.column_of("user_999", "users", "deleted_at").await, Value::Null);
    // Once is enough.
    fake.forget_requests();
    assert!(read(&world, &fake, &users(Mode::Apply)).await.drift.is_empty());
    let by_id = fake.requests().iter().filter(|request| request.starts_with("/v1/users/user_")).count();
    assert_eq!(by_id, 0, "{:?}", fake.requests());
}

#[tokio::test]
async fn a_key_of_another_instance_deletes_nobody() {
    let (world, fake) = with_users().await;
    read(&world, &fake, &users(Mode::Apply)).await;
    let other = FakeClerk::start().await;
    for number in 1000..1300 {
        other.put(clerk_user(number, now() - TimeDelta::days(3)));
    }
    let report = read(&world, &other, &users(Mode::Apply)).await;
    assert!(report.problems[0].contains("does not have 250 of the 250 users"), "{:?}", report.problems);
    assert_eq!(world.database.ask::<i64>("select count(*) from public.users").await, 250, "and no stranger is read");
    assert_eq!(world.database.ask::<i64>("select count(*) from public.users where deleted_at is not null").await, 0);
}

#[tokio::test]
async fn without_a_key_of_clerks_it_says_so() {
    let world = World::new().await;
    let error = world.reconciler.backfill(&users(Mode::Apply), &|_| {}).await.unwrap_err();
    assert!(matches!(error, ReconcileError::NoKey("CLERK_SECRET_KEY")), "{error}");
    for (arguments, expected) in [
        (&["backfill"][..], "neither STRIPE_API_KEY nor CLERK_SECRET_KEY is set"),
        (&["backfill", "--type", "clerk.user"], "CLERK_SECRET_KEY is not set"),
        (&["backfill", "--type", "customers"], "STRIPE_API_KEY is not set"),
    ] {
        let mut command = billsync(&[("DATABASE_URL", &world.database.url)]);
        command.args(arguments).stderr(Stdio::piped());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(shown.contains(expected), "{arguments:?}: {shown}");
    }
}

#[tokio::test]
async fn a_kill_9_in_the_middle_loses_no_page() {
    let (world, fake) = with_users().await;
    for number in 251..=450 {
        fake.put(clerk_user(number, now()));
    }
    let base = fake.base();
    let settings = [("DATABASE_URL", &*world.database.url), ("CLERK_SECRET_KEY", KEY), ("CLERK_API_BASE", &base)];
    fake.be_silent_from(Some(300));
    let mut killed = billsync(&settings).args(["backfill", "--type", "clerk.user"]).spawn().unwrap();
    until("it waits for the third page", async || fake.requests().iter().any(|request| request.contains("offset=398"))).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(world.database.ask::<i64>("select count(*) from public.users").await, 399);
    fake.be_silent_from(None);
    fake.forget_requests();
    let mut command = billsync(&settings);
    command.args(["backfill", "--type", "clerk.user", "--json"]).stdout(Stdio::piped());
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(done.status.success());
    let shown: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&shown["objects"], &shown["changed"]), (&json!(52), &json!(51)), "one of the page before");
    assert_eq!(world.database.ask::<i64>("select count(*) from public.users").await, 450);
    let listed = fake.requests().iter().filter(|request| request.contains("order_by")).count();
    assert_eq!(listed, 1, "{:?}", fake.requests());
    assert_eq!(world.database.ask::<i64>("select count(*) from billsync.sync_cursors").await, 0);
}
