//! Requests to meters that come at the same moment share a statement: each is still answered as if it had come alone.

use billsync::store::{Meter, Metered, Store, StoreSettings};
use futures_util::future::join_all;
use serde_json::json;
use sqlx::{Connection, PgConnection, Postgres, Transaction};

use super::{set_period, users};
use crate::batch::{Bench, at, bench};
use crate::schedule::ask;
use crate::support::round_trips::RoundTrips;
use crate::support::wait::until;

const START: &str = "2026-03-01T00:00:00Z";
const END: &str = "2026-04-01T00:00:00Z";

/// Users `user_0..` in the middle of a period, with 30 creators of a thousand used.
async fn subscribers(count: u32) -> Bench {
    let bench = bench().await;
    users(&bench, count).await;
    set_period(&bench, START, START, END).await;
    bench.database.execute("update user_usage set plan_creators_limit = 1000").await;
    bench
}

async fn take(bench: &Bench, store: &Store, user: u32, amount: i32) -> Metered {
    store.consume(&format!("user_{user}"), Meter::Creators, amount, None, bench.clock.now()).await.unwrap()
}

/// What was used afterwards, if it was allowed.
fn used(metered: &Metered) -> Option<i32> {
    match metered {
        Metered::Answered(reading) => {
            assert_eq!((reading.limit, reading.resets_at), (Some(1000), Some(at(END))));
            reading.allowed.then_some(reading.used)
        }
        other => panic!("{other:?}"),
    }
}

async fn hold_row_of_user_0(holder: &mut PgConnection) -> Transaction<'_, Postgres> {
    let mut held = holder.begin().await.unwrap();
    let row = "select from user_usage g join users u on u.id = g.user_id where u.user_id = 'user_0' for update of g";
    sqlx::query(row).execute(&mut *held).await.unwrap();
    held
}

async fn counters(bench: &Bench) -> serde_json::Value {
    ask(
        bench,
        "select jsonb_agg(g.usage_creators_current_month order by u.user_id) from user_usage g join users u on u.id = g.user_id",
    )
    .await
}

#[tokio::test]
async fn a_crowd_shares_statements_and_everybody_gets_an_answer_of_their_own() {
    let bench = subscribers(10).await;
    let trips = RoundTrips::before(&bench.database.url).await;
    let store = Store::connect(&StoreSettings::new(&trips.url)).await.unwrap();
    trips.take();
    let answers = join_all((0..100).map(|n| take(&bench, &store, n % 10, 1 + (n as i32 / 10)))).await;
    let asked = trips.take();
    assert!(asked <= 10, "a hundred requests in {asked} round trips");
    // Of each user 30 were used; in whatever order they came, each request finds what those before it left.
    for user in 0..10 {
        let mut own: Vec<_> =
            (1..).zip(answers.iter().skip(user).step_by(10)).map(|(amount, answer)| (used(answer), amount)).collect();
        own.sort_unstable();
        let mut total = 30;
        for (used, amount) in own {
            total += amount;
            assert_eq!(used, Some(total), "user_{user}");
        }
    }
    assert_eq!(counters(&bench).await, json!(vec![85; 10]));
}

#[tokio::test]
async fn what_does_not_fit_together_is_looked_at_one_by_one() {
    let bench = subscribers(2).await;
    // 970 are left: two of three fit, whatever comes first; the other user is not concerned.
    let answers =
        join_all([(0, 400), (1, 7), (0, 400), (0, 400)].map(|(user, amount)| take(&bench, &bench.store, user, amount))).await;
    assert_eq!(used(&answers[1]), Some(37));
    let mut granted: Vec<_> = [&answers[0], &answers[2], &answers[3]].into_iter().filter_map(used).collect();
    granted.sort_unstable();
    assert_eq!(granted, [430, 830]);
    assert_eq!(counters(&bench).await, json!([830, 37]));
}

#[tokio::test]
async fn a_crowd_of_strangers_and_of_periods_that_are_over_is_told_apart() {
    let bench = subscribers(3).await;
    bench.database.execute("update user_usage g set usage_reset_date = '2026-03-09Z' from users u where u.id = g.user_id and u.user_id = 'user_1'").await;
    let answers = join_all([0, 1, 2, 77].map(|user| take(&bench, &bench.store, user, 1))).await;
    assert_eq!((used(&answers[0]), used(&answers[2])), (Some(31), Some(31)));
    assert_eq!(answers[3], Metered::UnknownUser);
    let Metered::Answered(reading) = &answers[1] else { panic!("{answers:?}") };
    assert_eq!((reading.allowed, reading.used), (false, 0), "the reset copied the limits of the plan free");
}

#[tokio::test]
async fn a_row_that_somebody_holds_holds_nobody_else_up() {
    let bench = subscribers(20).await;
    let mut holder = bench.database.connect().await;
    let held = hold_row_of_user_0(&mut holder).await;
    let store = bench.store.clone();
    let (clock, first) = (bench.clock.now(), "user_0");
    let waiting = tokio::spawn(async move { store.consume(first, Meter::Creators, 5, None, clock).await.unwrap() });
    let waiter = "select to_jsonb(min(left(query, 11))) from pg_stat_activity \
        where datname = current_database() and wait_event_type = 'Lock'";
    until("somebody waits for the row", async || !ask(&bench, waiter).await.is_null()).await;
    assert_eq!(ask(&bench, waiter).await, "with target", "the statement of one row, not the one that others share");
    let others = join_all((1..20).map(|user| take(&bench, &bench.store, user, 5))).await;
    assert!(others.iter().all(|answer| used(answer) == Some(35)));
    assert!(!waiting.is_finished(), "it waits for the row alone");
    held.rollback().await.unwrap();
    assert_eq!(used(&waiting.await.unwrap()), Some(35));
}

#[tokio::test]
async fn a_row_that_the_database_refuses_to_change_spoils_nobody_elses() {
    let bench = subscribers(6).await;
    let refuses = "alter table user_usage add constraint ours check (usage_creators_current_month <> 33 or plan_creators_limit <> 999); \
        update user_usage g set plan_creators_limit = 999 from users u where u.id = g.user_id and u.user_id = 'user_3'";
    bench.database.execute(refuses).await;
    let now = bench.clock.now();
    let ids: Vec<String> = (0..6).map(|user| format!("user_{user}")).collect();
    let answers = join_all(ids.iter().map(|id| bench.store.consume(id, Meter::Creators, 3, None, now))).await;
    for (user, answer) in answers.iter().enumerate() {
        assert_eq!(answer.is_err(), user == 3, "user_{user}: {answer:?}");
    }
    assert_eq!(counters(&bench).await, json!([33, 33, 33, 30, 33, 33]));
}

#[tokio::test]
async fn a_database_that_goes_away_is_told_to_everybody_and_nothing_is_counted_twice() {
    let bench = subscribers(5).await;
    let mut admin = bench.database.connect().await;
    let mut held = admin.begin().await.unwrap();
    sqlx::query("lock table user_usage in access exclusive mode").execute(&mut *held).await.unwrap();
    let tasks: Vec<_> = (0..5)
        .map(|user| {
            let (store, now) = (bench.store.clone(), bench.clock.now());
            tokio::spawn(async move { store.consume(&format!("user_{user}"), Meter::Creators, 1, None, now).await })
        })
        .collect();
    let blocked = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    until("a statement waits for the table", async || {
        let mut asking = bench.database.connect().await;
        let (count,): (i64,) = sqlx::query_as(blocked).fetch_one(&mut asking).await.unwrap();
        count > 0
    })
    .await;
    let ended = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
        where datname = current_database() and wait_event_type = 'Lock' and pid <> pg_backend_pid()";
    sqlx::query(ended).execute(&mut *held).await.unwrap();
    held.rollback().await.unwrap();
    let mut granted = 0;
    for task in tasks {
        granted += u32::from(task.await.unwrap().is_ok());
    }
    let total = "select to_jsonb(sum(usage_creators_current_month - 30)) from user_usage";
    assert_eq!(ask(&bench, total).await, json!(granted), "who was told of an error was not counted, and everybody else once");
    assert!(granted < 5, "the statement that was ended was somebody's");
}

#[tokio::test]
async fn a_crowd_that_waits_for_one_row_leaves_the_connections_to_others() {
    let bench = subscribers(5).await;
    let mut holder = bench.database.connect().await;
    let held = hold_row_of_user_0(&mut holder).await;
    let crowd: Vec<_> = (0..30)
        .map(|_| {
            let (store, now) = (bench.store.clone(), bench.clock.now());
            tokio::spawn(async move { store.consume("user_0", Meter::Creators, 1, None, now).await })
        })
        .collect();
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let mut asking = bench.database.connect().await;
    let mut most = 0;
    until("somebody waits for the row", async || {
        let (count,): (i64,) = sqlx::query_as(waiting).fetch_one(&mut asking).await.unwrap();
        most = most.max(count);
        count > 0
    })
    .await;
    for user in 1..5 {
        assert_eq!(used(&take(&bench, &bench.store, user, 5).await), Some(35));
        assert!(bench.store.get_user_profile(&format!("user_{user}")).await.unwrap().is_some());
        let (count,): (i64,) = sqlx::query_as(waiting).fetch_one(&mut asking).await.unwrap();
        most = most.max(count);
    }
    assert_eq!(most, 1, "one connection waits for all of them");
    held.rollback().await.unwrap();
    let mut granted = 0;
    for task in crowd {
        granted += u32::from(task.await.unwrap().is_ok());
    }
    assert_eq!(counters(&bench).await, json!([30 + granted, 35, 35, 35, 35]));
}
