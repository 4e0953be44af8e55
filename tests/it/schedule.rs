//! Scheduled work on a real Postgres: who runs what and when, the clock sweep, retention. Time is a test clock's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use billsync::schedule::{Schedule, Summary, Task, TaskError, Work, clock_sweep, retention, run_due, run_now, statuses};
use billsync::store::{Store, StoreSettings};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::sync::Semaphore;

use crate::batch::{Bench, at, bench, clerk_user, customer, stripe_event, subscription};
use crate::support::until;

const MINUTE: Duration = Duration::from_secs(60);

pub fn work(bench: &Bench) -> Work {
    Work::new(bench.store.clone(), Arc::new(bench.rules.clone()), bench.clock.clone())
}

/// The JSON that a query gives.
pub async fn ask(bench: &Bench, sql: impl Into<String>) -> Value {
    let mut connection = bench.database.connect().await;
    let row: (Option<Value>,) = sqlx::query_as(AssertSqlSafe(sql.into())).fetch_one(&mut connection).await.unwrap();
    row.0.unwrap_or_default()
}

/// A task that counts its runs, each of which takes a permit first.
fn counting(interval: Duration) -> (Task, Arc<AtomicUsize>, Arc<Semaphore>) {
    let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)));
    let (counter, permits) = (Arc::clone(&runs), Arc::clone(&gate));
    let task = Task::new("counting", "Counts.", interval, move |_work| {
        let (counter, permits) = (Arc::clone(&counter), Arc::clone(&permits));
        async move {
            counter.fetch_add(1, Ordering::SeqCst);
            permits.acquire().await.unwrap().forget();
            Ok(Summary { rows: 7, ..Summary::default() })
        }
    });
    (task, runs, gate)
}

#[tokio::test]
async fn a_task_runs_when_it_is_due_and_once_however_long_nobody_was_there() {
    let bench = bench().await;
    let (work, (task, runs, _gate)) = (work(&bench), counting(MINUTE));
    assert!(run_due(&task, &work).await.unwrap().is_some(), "it has never run");
    assert!(run_due(&task, &work).await.unwrap().is_none());
    bench.clock.set(bench.clock.now() + TimeDelta::seconds(59));
    assert!(run_due(&task, &work).await.unwrap().is_none());
    bench.clock.set(bench.clock.now() + TimeDelta::seconds(1));
    assert!(run_due(&task, &work).await.unwrap().is_some(), "at the instant itself");
    bench.clock.set(bench.clock.now() + TimeDelta::days(92));
    assert!(run_due(&task, &work).await.unwrap().is_some());
    assert!(run_due(&task, &work).await.unwrap().is_none());
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    let recorded =
        ask(&bench, "select jsonb_agg(summary -> 'rows' order by id) from billsync.schedule_runs where succeeded").await;
    assert_eq!(recorded, json!([7, 7, 7]));
    let status = statuses(&[task], &work).await.unwrap().remove(0);
    assert_eq!(status.due_at, bench.clock.now() + TimeDelta::minutes(1));
}

#[tokio::test]
async fn of_several_processes_one_runs_a_task() {
    let bench = bench().await;
    let (task, runs, gate) = counting(MINUTE);
    gate.forget_permits(Semaphore::MAX_PERMITS);
    let other = Work { store: Store::connect(&StoreSettings::new(&bench.database.url)).await.unwrap(), ..work(&bench) };
    let (first, second) = (tokio::spawn(run(task.clone(), work(&bench))), tokio::spawn(run(task.clone(), other.clone())));
    until("one of them has begun", async || runs.load(Ordering::SeqCst) == 1).await;
    assert!(run_now(&task, &other).await.unwrap().is_none(), "also not when asked to");
    gate.add_permits(2);
    let ran = usize::from(first.await.unwrap()) + usize::from(second.await.unwrap());
    assert_eq!((ran, runs.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(ask(&bench, "select to_jsonb(count(*)) from billsync.schedule_leases").await, 0, "given back");
}

async fn run(task: Task, work: Work) -> bool {
    run_due(&task, &work).await.unwrap().is_some()
}

#[tokio::test]
async fn what_a_dead_process_left_is_taken_over_when_its_lease_has_run_out() {
    let bench = bench().await;
    let (work, (task, ..)) = (work(&bench), counting(MINUTE));
    assert!(work.store.take_lease(task.name, "dead", Duration::from_secs(3600)).await.unwrap());
    work.store.begin_run(task.name, bench.clock.now()).await.unwrap();
    assert!(run_due(&task, &work).await.unwrap().is_none());
    assert!(work.store.renew_lease(task.name, "dead", Duration::from_secs(3600)).await.unwrap());
    bench.database.execute("update billsync.schedule_leases set expires_at = clock_timestamp()").await;
    assert!(!work.store.renew_lease(task.name, "dead", MINUTE).await.unwrap(), "too late");
    assert!(run_due(&task, &work).await.unwrap().is_some());
}

#[tokio::test]
async fn a_failure_is_recorded_and_tried_again_after_a_minute() {
    let bench = bench().await;
    let work = work(&bench);
    let broken: [fn(Work) -> Result<Summary, TaskError>; 2] = [|_| Err(TaskError::Panicked), |_| panic!("scripted")];
    for body in broken {
        let task = Task::new("broken", "Breaks.", MINUTE * 60, move |work| async move { body(work) });
        let report = run_due(&task, &work).await.unwrap().unwrap();
        assert_eq!(report.error.as_deref(), Some("the task panicked"));
        assert!(run_due(&task, &work).await.unwrap().is_none());
        bench.clock.set(bench.clock.now() + TimeDelta::minutes(1));
    }
    let failed = "select to_jsonb(count(*)) from billsync.schedule_runs where not succeeded and error is not null";
    assert_eq!(ask(&bench, failed).await, 2);
}

#[tokio::test]
async fn a_schedule_runs_what_is_overdue_and_stops_within_a_transaction() {
    let bench = bench().await;
    let work = work(&bench);
    let patient = Task::new("patient", "Works until it is asked to stop.", MINUTE, |work| async move {
        while !work.stop.is_asked() {
            work.store.ping().await?;
        }
        Ok(Summary { stopped: true, ..Summary::default() })
    });
    let (quick, runs, _gate) = counting(MINUTE);
    let schedule = Schedule::start(vec![patient, quick], &work);
    let begun = "select to_jsonb(count(*)) from billsync.schedule_runs where name = 'patient'";
    until("both have begun", async || ask(&bench, begun).await == 1 && runs.load(Ordering::SeqCst) == 1).await;
    schedule.stop().await;
    assert_eq!(ask(&bench, "select to_jsonb(count(*)) from billsync.schedule_leases").await, 0);
    let ended = "select jsonb_object_agg(name, succeeded) from billsync.schedule_runs";
    assert_eq!(ask(&bench, ended).await, json!({"patient": false, "counting": true}));
}

/// A trialing subscription of customer `number`.
fn trial(number: u32, starts_at: DateTime<Utc>, ends_at: DateTime<Utc>) -> Value {
    let mut trial = subscription(number, "trialing");
    trial["trial_start"] = starts_at.timestamp().into();
    trial["trial_end"] = ends_at.timestamp().into();
    trial["created"] = starts_at.timestamp().into();
    trial
}

async fn trialing(bench: &Bench, numbers: std::ops::Range<u32>, ends_at: DateTime<Utc>) {
    let now = bench.clock.now();
    for number in numbers {
        let events = [
            clerk_user(number),
            stripe_event(&format!("evt_cus_{number}"), "customer.created", now.timestamp(), &customer(number)),
            stripe_event(
                &format!("evt_sub_{number}"),
                "customer.subscription.created",
                now.timestamp(),
                &trial(number, now, ends_at),
            ),
        ];
        bench.commit(&events.map(Arc::new)).await;
    }
}

async fn trial_statuses(bench: &Bench) -> Value {
    let sql = "select jsonb_agg(distinct trial_status) from user_subscriptions";
    ask(bench, sql).await
}

#[tokio::test]
async fn the_passing_of_time_changes_rows_and_the_ledger_says_why() {
    let bench = bench().await;
    let ends_at = bench.clock.now() + TimeDelta::days(7);
    trialing(&bench, 0..70, ends_at).await;
    assert_eq!(trial_statuses(&bench).await, json!(["active"]));
    let expires_at = ends_at + TimeDelta::hours(72);
    bench.clock.set(expires_at - TimeDelta::seconds(1));
    clock_sweep::sweep(work(&bench)).await.unwrap();
    assert_eq!(trial_statuses(&bench).await, json!(["active"]), "a second before");
    bench.clock.set(expires_at);
    let summary = clock_sweep::sweep(work(&bench)).await.unwrap();
    assert_eq!((summary.rows, summary.left), (70, 0));
    assert_eq!(trial_statuses(&bench).await, json!(["expired"]), "at the instant itself");

    let entry = bench.store.list_timeline(&["user_3".to_owned()], 1).await.unwrap().remove(0);
    assert_eq!((entry.event_type.as_str(), entry.source.as_str(), entry.outcome.as_str()), ("clock.sweep", "job", "applied"));
    assert_eq!(entry.received_at, expires_at);
    let effects = entry.effects.unwrap();
    let status = effects.as_array().unwrap().iter().find(|effect| effect["column"] == "trial_status").unwrap();
    assert_eq!((&status["old"], &status["new"]), (&json!("active"), &json!("expired")));
    let newest = "select jsonb_agg(distinct last_webhook_event) from user_system_data";
    assert_eq!(ask(&bench, newest).await, json!(["customer.subscription.created"]), "a job is no webhook");

    let entries = "select to_jsonb(count(*)) from billsync.webhook_events where source = 'job'";
    let before = ask(&bench, entries).await;
    assert_eq!(clock_sweep::sweep(work(&bench)).await.unwrap().rows, 0);
    assert_eq!(ask(&bench, entries).await, before, "what changes nothing leaves no entry");
}

#[tokio::test]
async fn a_user_who_is_held_does_not_keep_the_others_waiting() {
    let bench = bench().await;
    let ends_at = bench.clock.now() + TimeDelta::days(7);
    trialing(&bench, 0..10, ends_at).await;
    bench.clock.set(ends_at + TimeDelta::hours(72));
    let mut holder = bench.database.connect().await;
    sqlx::raw_sql("begin; select from user_usage g join users u on u.id = g.user_id where u.user_id = 'user_4' for update of g")
        .execute(&mut holder)
        .await
        .unwrap();
    let summary = clock_sweep::sweep(work(&bench)).await.unwrap();
    assert_eq!((summary.rows, summary.left), (9, 1));
    sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
    assert_eq!(clock_sweep::sweep(work(&bench)).await.unwrap().rows, 1);
}

#[tokio::test]
async fn two_sweeps_and_a_webhook_at_one_instant_change_a_user_once() {
    let bench = bench().await;
    let ends_at = bench.clock.now() + TimeDelta::days(7);
    trialing(&bench, 0..20, ends_at).await;
    let expires_at = ends_at + TimeDelta::hours(72);
    bench.clock.set(expires_at);
    let updates = (0..20).map(|number| {
        let mut customer = customer(number);
        customer["name"] = "Ada".into();
        Arc::new(stripe_event(&format!("evt_now_{number}"), "customer.updated", expires_at.timestamp(), &customer))
    });
    let updates: Vec<_> = updates.collect();
    let webhooks = async {
        for update in &updates {
            bench.commit(std::slice::from_ref(update)).await;
        }
    };
    let (one, other, ()) = tokio::join!(clock_sweep::sweep(work(&bench)), clock_sweep::sweep(work(&bench)), webhooks);
    assert_eq!(one.unwrap().left + other.unwrap().left, 0);
    let told = "select to_jsonb(count(*)) from billsync.webhook_payloads p, jsonb_array_elements(p.effects) e \
        where e ->> 'column' = 'trial_status' and e ->> 'new' = 'expired'";
    assert_eq!(ask(&bench, told).await, 20, "whoever came first");
    assert_eq!(trial_statuses(&bench).await, json!(["expired"]));
}

#[tokio::test]
async fn payloads_go_by_partition_and_the_ledger_stays() {
    let bench = bench().await;
    bench.commit(&[Arc::new(clerk_user(1))]).await;
    bench
        .database
        .execute(
            "insert into billsync.consume_keys (user_id, idempotency_key, meter, amount, answer, created_at) \
        select id, n::text, 'creators', 1, '{}', '2026-03-10T12:00:00Z'::timestamptz + n * interval '1 hour' \
        from users, generate_series(0, 9) n",
        )
        .await;
    bench.store.begin_run("counting", bench.clock.now()).await.unwrap();
    bench.store.begin_run("counting", bench.clock.now() + TimeDelta::minutes(1)).await.unwrap();
    let partitions = "select jsonb_agg(c.relname order by c.relname) from pg_inherits i join pg_class c on c.oid = i.inhrelid \
        where i.inhparent = 'billsync.webhook_payloads'::regclass and c.relname like '%\\_2026\\_%'";

    bench.clock.set(at("2026-03-11T16:00:00Z"));
    retention::retain(work(&bench), 0).await.unwrap();
    let kept = "select to_jsonb(count(*)) from billsync.consume_keys";
    assert_eq!(ask(&bench, kept).await, 5, "a key of exactly a day ago is out of force");
    // 35 days are the least: the partition of March ends 34 days before.
    bench.clock.set(at("2026-05-05T00:00:00Z"));
    retention::retain(work(&bench), 1).await.unwrap();
    assert!(ask(&bench, partitions).await.as_array().unwrap().contains(&json!("webhook_payloads_2026_03")));
    bench.clock.set(at("2026-05-06T00:00:00Z"));
    let summary = retention::retain(work(&bench), 1).await.unwrap();
    assert!(summary.names.contains(&"dropped webhook_payloads_2026_03".to_owned()), "{summary:?}");
    let made = ask(&bench, partitions).await;
    let has = |month: &str| made.as_array().unwrap().contains(&json!(format!("webhook_payloads_2026_{month}")));
    assert!(!has("03") && ["04", "05", "06", "07", "08"].into_iter().all(has), "three months ahead: {made}");
    assert_eq!(ask(&bench, "select to_jsonb(count(*)) from billsync.webhook_events").await, 1);
    assert_eq!(ask(&bench, "select to_jsonb(count(*)) from billsync.schedule_runs where name = 'counting'").await, 1);
}
