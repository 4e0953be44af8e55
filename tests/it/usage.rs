//! Usage periods on a real Postgres: the reset in all its circumstances. The meters over HTTP are in `meters`, crowds of their callers in `crowds`. Time is a test
//! clock's; boundaries themselves are tried beside the core.

mod crowds;
mod meters;
mod pace;

use std::sync::Arc;

use billsync::domain::event::Event;
use billsync::schedule::usage_reset;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::batch::{Bench, at, bench, clerk_user, customer, stripe_event, subscription};
use crate::schedule::{ask, work};

/// Users `0..count` with rows, as Clerk made them.
async fn users(bench: &Bench, count: u32) {
    let events: Vec<_> = (0..count).map(|number| Arc::new(clerk_user(number))).collect();
    for batch in events.chunks(64) {
        bench.commit(batch).await;
    }
}

/// Gives everybody this period and these counters.
async fn set_period(bench: &Bench, anchor: &str, start: &str, reset_at: &str) {
    let sql = format!(
        "update user_usage set usage_anchor = '{anchor}', usage_period_start = '{start}', usage_reset_date = '{reset_at}', \
         usage_campaigns_current = 2, usage_creators_current_month = 30, enrichments_current_month = 4"
    );
    bench.database.execute(&sql).await;
}

async fn reset_at(bench: &Bench, now: &str) -> u64 {
    bench.clock.set(at(now));
    usage_reset::reset(&work(bench), None).await.unwrap().rows
}

/// Start, reset date and counters of the user's row; instants in UTC.
async fn period(bench: &Bench, user: &str) -> Value {
    let sql = format!(
        "select jsonb_build_array(g.usage_period_start at time zone 'utc', g.usage_reset_date at time zone 'utc', \
         g.usage_campaigns_current, g.usage_creators_current_month, g.enrichments_current_month) \
         from user_usage g join users u on u.id = g.user_id where u.user_id = '{user}'"
    );
    ask(bench, sql).await
}

/// Start, end, counters and skipped periods of what the user's archive has, oldest first.
async fn archive(bench: &Bench, user: &str) -> Value {
    let sql = format!(
        "select coalesce(jsonb_agg(jsonb_build_array(p.period_start at time zone 'utc', p.period_end at time zone 'utc', \
         p.usage_campaigns_current, p.usage_creators_current_month, p.enrichments_current_month, p.periods_skipped) \
         order by p.period_start), '[]') from billsync.usage_periods p join users u on u.id = p.user_id \
         where u.user_id = '{user}'"
    );
    ask(bench, sql).await
}

async fn count_archived(bench: &Bench) -> Value {
    ask(bench, "select to_jsonb(count(*)) from billsync.usage_periods").await
}

#[tokio::test]
async fn months_are_counted_from_the_anchor_whatever_the_zone_of_the_server_is() {
    let bench = bench().await;
    users(&bench, 1).await;
    let name = "do $$ begin execute format('alter database %I set timezone = ''Europe/Berlin''', current_database()); end $$";
    bench.database.execute(name).await;
    for (anchor, reset, now, expected) in [
        ("2025-01-31T15:00:00Z", "2025-02-28T15:00:00Z", "2025-02-28T15:00:00Z", ["2025-02-28T15:00:00", "2025-03-31T15:00:00"]),
        ("2025-01-31T15:00:00Z", "2025-03-31T15:00:00Z", "2025-04-01T00:00:00Z", ["2025-03-31T15:00:00", "2025-04-30T15:00:00"]),
        ("2024-01-31T00:00:00Z", "2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z", ["2024-02-29T00:00:00", "2024-03-31T00:00:00"]),
        // Both nights on which clocks change in Berlin.
        ("2025-02-28T01:30:00Z", "2025-03-28T01:30:00Z", "2025-03-30T01:30:00Z", ["2025-03-28T01:30:00", "2025-04-28T01:30:00"]),
        ("2025-09-26T00:30:00Z", "2025-10-26T00:30:00Z", "2025-10-26T00:30:00Z", ["2025-10-26T00:30:00", "2025-11-26T00:30:00"]),
    ] {
        bench.database.execute("truncate billsync.usage_periods").await;
        set_period(&bench, anchor, anchor, reset).await;
        let before = (at(reset) - TimeDelta::seconds(1)).to_rfc3339();
        assert_eq!(reset_at(&bench, &before).await, 0, "{anchor}: a second before");
        assert_eq!(reset_at(&bench, now).await, 1, "{anchor}: when it is due");
        assert_eq!(reset_at(&bench, now).await, 0, "{anchor}: once");
        assert_eq!(period(&bench, "user_0").await, json!([expected[0], expected[1], 2, 0, 0]), "{anchor}");
        let ended = [anchor, reset].map(|text| text.trim_end_matches('Z').to_owned());
        assert_eq!(archive(&bench, "user_0").await, json!([[ended[0], ended[1], 2, 30, 4, 0]]), "{anchor}");
    }
}

#[tokio::test]
async fn three_months_of_downtime_are_one_reset() {
    let bench = bench().await;
    users(&bench, 1).await;
    set_period(&bench, "2025-01-31T15:00:00Z", "2025-01-31T15:00:00Z", "2025-02-28T15:00:00Z").await;
    assert_eq!(reset_at(&bench, "2025-05-05T00:00:00Z").await, 1);
    assert_eq!(period(&bench, "user_0").await, json!(["2025-04-30T15:00:00", "2025-05-31T15:00:00", 2, 0, 0]));
    assert_eq!(archive(&bench, "user_0").await, json!([["2025-01-31T15:00:00", "2025-02-28T15:00:00", 2, 30, 4, 2]]));
}

#[tokio::test]
async fn a_reset_copies_the_limits_of_the_plan_in_force() {
    let bench = bench().await;
    users(&bench, 3).await;
    bench
        .database
        .execute(
            "update user_subscriptions s set current_plan = \
        case u.user_id when 'user_0' then 'glow_up' when 'user_1' then 'no_such_plan' else null end \
        from users u where u.id = s.user_id",
        )
        .await;
    bench
        .database
        .execute("update user_usage set plan_campaigns_limit = 77, plan_creators_limit = 77, plan_features = '[]'")
        .await;
    set_period(&bench, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z").await;
    assert_eq!(reset_at(&bench, "2026-03-01T00:00:00Z").await, 3);
    let limits = "select jsonb_agg(jsonb_build_array(g.plan_campaigns_limit, g.plan_creators_limit, p.features = g.plan_features) \
        order by u.user_id) from user_usage g join users u on u.id = g.user_id \
        join subscription_plans p on p.plan_key = case u.user_id when 'user_0' then 'glow_up' else 'free' end";
    assert_eq!(ask(&bench, limits).await, json!([[3, 1000, true], [0, 0, true], [0, 0, true]]), "free, where there is none");
}

#[tokio::test]
async fn what_is_held_unadopted_or_on_a_test_clock_is_left_alone() {
    let bench = bench().await;
    users(&bench, 4).await;
    set_period(&bench, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z").await;
    bench.database.execute("update user_usage g set reset_held = true from users u where u.id = g.user_id and u.user_id = 'user_0'; \
        update user_usage g set usage_anchor = null from users u where u.id = g.user_id and u.user_id = 'user_1'; \
        insert into billsync.owners (owner_id, clerk_user_id, test_clock) values ('cus_2', 'user_2', 'clock_1'); \
        insert into billsync.provider_objects (provider, object_id, object_type) values ('stripe', 'clock_1', 'test_helpers.test_clock')").await;
    assert_eq!(reset_at(&bench, "2026-03-01T00:00:00Z").await, 1);
    assert_eq!(archive(&bench, "user_3").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn one_user_alone_can_be_reset() {
    let bench = bench().await;
    users(&bench, 3).await;
    set_period(&bench, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z").await;
    bench.clock.set(at("2026-03-01T00:00:00Z"));
    let (due, count) = bench.store.describe_due_usage(bench.clock.now(), None, 2).await.unwrap();
    assert_eq!((due.len(), count), (2, 3));
    assert_eq!((due[0].clerk_id.as_str(), due[0].rollover.next.start), ("user_0", at("2026-03-01T00:00:00Z")));
    assert_eq!(usage_reset::reset(&work(&bench), Some("user_1")).await.unwrap().rows, 1);
    assert_eq!(usage_reset::reset(&work(&bench), Some("nobody")).await.unwrap().rows, 0);
    assert_eq!(count_archived(&bench).await, 1);
}

#[tokio::test]
async fn two_processes_reset_nobody_twice_and_nobody_is_missed() {
    let bench = bench().await;
    users(&bench, 400).await;
    set_period(&bench, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z").await;
    bench.clock.set(at("2026-03-01T00:00:00Z"));
    let runs = (0..3).map(|_| {
        let work = work(&bench);
        tokio::spawn(async move { usage_reset::reset(&work, None).await.unwrap().rows })
    });
    let mut rows = 0;
    for run in runs.collect::<Vec<_>>() {
        rows += run.await.unwrap();
    }
    // What one held when another looked is the next run's.
    rows += usage_reset::reset(&work(&bench), None).await.unwrap().rows;
    assert_eq!(rows, 400);
    assert_eq!(count_archived(&bench).await, 400);
    let sum = "select to_jsonb(sum(usage_creators_current_month)) from user_usage";
    assert_eq!(ask(&bench, sum).await, 0);
}

#[tokio::test]
async fn a_run_that_ends_between_two_batches_is_continued_by_the_next() {
    let bench = bench().await;
    users(&bench, 200).await;
    set_period(&bench, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z").await;
    bench.clock.set(at("2026-03-01T00:00:00Z"));
    let due = bench.store.list_due_usage(bench.clock.now(), None, 64).await.unwrap();
    assert_eq!(bench.store.reset_usage(&due, bench.clock.now()).await.unwrap().0, 64);
    assert_eq!(bench.store.reset_usage(&due, bench.clock.now()).await.unwrap().0, 0, "asked again with an old list");
    let stopped = work(&bench);
    stopped.stop.ask();
    let summary = usage_reset::reset(&stopped, None).await.unwrap();
    assert!(summary.stopped && summary.rows == 0);
    assert_eq!(usage_reset::reset(&work(&bench), None).await.unwrap().rows, 136);
    assert_eq!(count_archived(&bench).await, 200);
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_passed_over() {
    let bench = bench().await;
    users(&bench, 5).await;
    set_period(&bench, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z").await;
    let mut holder = bench.database.connect().await;
    sqlx::raw_sql("begin; select from user_usage g join users u on u.id = g.user_id where u.user_id = 'user_3' for update of g")
        .execute(&mut holder)
        .await
        .unwrap();
    bench.clock.set(at("2026-03-01T00:00:00Z"));
    let summary = usage_reset::reset(&work(&bench), None).await.unwrap();
    assert_eq!((summary.rows, summary.left), (4, 1));
    sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
    assert_eq!(usage_reset::reset(&work(&bench), None).await.unwrap().rows, 1);
}

#[tokio::test]
async fn periods_end_with_their_user() {
    let bench = bench().await;
    users(&bench, 2).await;
    set_period(&bench, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z").await;
    assert_eq!(reset_at(&bench, "2026-03-01T00:00:00Z").await, 2);
    bench
        .database
        .execute(
            "drop role if exists period_deleter; create role period_deleter; \
             grant delete, select on all tables in schema public to period_deleter; \
             create policy period_deleter on users to period_deleter using (true); \
             set role period_deleter; delete from users where user_id = 'user_0'; reset role; \
             drop owned by period_deleter; drop role period_deleter",
        )
        .await;
    assert_eq!(count_archived(&bench).await, 1);
    assert_eq!(archive(&bench, "user_1").await.as_array().unwrap().len(), 1);
}

/// A subscription event of customer 1.
fn subscription_event(bench: &Bench, id: &str, status: &str, price: &str, anchor: DateTime<Utc>) -> Event {
    let mut object = subscription(1, status);
    object["billing_cycle_anchor"] = anchor.timestamp().into();
    object["items"]["data"][0]["price"]["id"] = price.into();
    object["items"]["data"][0]["price"]["product"] = "".into();
    stripe_event(id, "customer.subscription.updated", bench.clock.now().timestamp(), &object)
}

async fn tell(bench: &Bench, id: &str, status: &str, price: &str, anchor: DateTime<Utc>) {
    bench.commit(&[Arc::new(subscription_event(bench, id, status, price, anchor))]).await;
}

/// User 1 with a plan since the anchor, and counters.
async fn subscriber(price: &str, anchor: DateTime<Utc>) -> Bench {
    let bench = bench().await;
    bench.clock.set(anchor);
    bench.commit(&[Arc::new(clerk_user(1))]).await;
    bench.commit(&[Arc::new(stripe_event("evt_cus", "customer.created", anchor.timestamp(), &customer(1)))]).await;
    tell(&bench, "evt_start", "active", price, anchor).await;
    // As if the user had had no period before the subscription's.
    bench
        .database
        .execute(
            "truncate billsync.usage_periods; update user_usage set early_reset_subscription = null, \
        usage_creators_current_month = 30, enrichments_current_month = 4",
        )
        .await;
    bench
}

async fn creators_and_limit(bench: &Bench) -> Value {
    ask(bench, "select jsonb_build_array(usage_creators_current_month, plan_creators_limit) from user_usage").await
}

#[tokio::test]
async fn a_yearly_plan_has_monthly_periods() {
    let bench = subscriber("price_glow_up_yearly", at("2026-03-31T09:00:00Z")).await;
    assert_eq!(reset_at(&bench, "2026-04-30T08:59:59Z").await, 0);
    assert_eq!(reset_at(&bench, "2026-04-30T09:00:00Z").await, 1);
    assert_eq!(period(&bench, "user_1").await, json!(["2026-04-30T09:00:00", "2026-05-31T09:00:00", 0, 0, 0]));
}

#[tokio::test]
async fn a_plan_change_within_a_period_copies_limits_and_keeps_counters() {
    let bench = subscriber("price_viral_surge_monthly", at("2026-03-31T09:00:00Z")).await;
    assert_eq!(creators_and_limit(&bench).await, json!([30, 10000]));
    bench.clock.set(at("2026-04-10T00:00:00Z"));
    tell(&bench, "evt_down", "active", "price_glow_up_monthly", at("2026-03-31T09:00:00Z")).await;
    assert_eq!(creators_and_limit(&bench).await, json!([30, 1000]));
    assert_eq!(archive(&bench, "user_1").await, json!([]));
}

#[tokio::test]
async fn a_moved_anchor_ends_one_period_early_and_no_second() {
    let bench = subscriber("price_glow_up_monthly", at("2026-03-31T09:00:00Z")).await;
    for (id, now, archived) in [("evt_1", "2026-04-10T00:00:00Z", 1), ("evt_2", "2026-04-12T00:00:00Z", 1)] {
        bench.clock.set(at(now));
        tell(&bench, id, "active", "price_glow_up_monthly", at(now)).await;
        assert_eq!(archive(&bench, "user_1").await.as_array().unwrap().len(), archived, "{id}");
    }
    assert_eq!(period(&bench, "user_1").await, json!(["2026-04-10T00:00:00", "2026-05-12T00:00:00", 0, 0, 0]));
    assert_eq!(reset_at(&bench, "2026-05-12T00:00:00Z").await, 1);
    assert_eq!(period(&bench, "user_1").await[0], "2026-05-12T00:00:00");
}

#[tokio::test]
async fn an_overdue_payment_holds_the_period_over_its_boundary() {
    let bench = subscriber("price_glow_up_monthly", at("2026-03-31T09:00:00Z")).await;
    bench.clock.set(at("2026-04-20T00:00:00Z"));
    tell(&bench, "evt_due", "past_due", "price_glow_up_monthly", at("2026-03-31T09:00:00Z")).await;
    assert_eq!(reset_at(&bench, "2026-05-02T00:00:00Z").await, 0);
    assert_eq!(creators_and_limit(&bench).await, json!([30, 1000]));
    tell(&bench, "evt_paid", "active", "price_glow_up_monthly", at("2026-03-31T09:00:00Z")).await;
    assert_eq!(period(&bench, "user_1").await, json!(["2026-04-30T09:00:00", "2026-05-31T09:00:00", 0, 0, 0]));
    assert_eq!(archive(&bench, "user_1").await, json!([["2026-03-31T09:00:00", "2026-04-30T09:00:00", 0, 30, 4, 0]]));
    assert_eq!(reset_at(&bench, "2026-05-02T00:00:00Z").await, 0, "the webhook did it");
}

#[tokio::test]
async fn a_webhook_and_the_job_at_one_instant_end_a_period_once() {
    let boundary = at("2026-04-30T09:00:00Z");
    for round in 0..10 {
        let bench = subscriber("price_glow_up_monthly", at("2026-03-31T09:00:00Z")).await;
        bench.clock.set(boundary);
        let upgrade = tell(&bench, "evt_up", "active", "price_viral_surge_monthly", at("2026-03-31T09:00:00Z"));
        let work = work(&bench);
        let ((), reset) = tokio::join!(upgrade, usage_reset::reset(&work, None));
        reset.unwrap();
        assert_eq!(
            archive(&bench, "user_1").await,
            json!([["2026-03-31T09:00:00", "2026-04-30T09:00:00", 0, 30, 4, 0]]),
            "{round}"
        );
        assert_eq!(creators_and_limit(&bench).await, json!([0, 10000]), "{round}: the plan of the webhook");
    }
}
