//! Batches of events against a real Postgres: the ledger, the rows, and what happens when two batches meet.

mod access;
mod addresses;
mod crowd;
mod held_rows;
mod hints;
mod invoices;
mod stories;

use std::sync::Arc;

use billsync::clock::Clock;
use billsync::domain::billing::accounts::Accounts;
use billsync::domain::event::{Event, Outcome, Source};
use billsync::domain::rules::Rules;
use billsync::domain::signature::VerifiedBody;
use billsync::domain::{clerk, stripe};
use billsync::ingest::transaction::{self, BatchError, Receipt};
use billsync::store::{Concerned, PoolerMode, Store, StoreSettings, UserKey, load_first, load_second};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::stories::journey::catalog;
use crate::support::database::{TestDatabase, empty_database};

/// A migrated database with the stories' catalog.
pub struct Bench {
    pub database: TestDatabase,
    pub store: Store,
    pub rules: Rules,
    pub clock: Clock,
}

pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub async fn bench() -> Bench {
    let database = empty_database().await;
    let store = Store::connect(&StoreSettings::new(&database.url)).await.unwrap();
    let now = at("2026-03-10T12:00:00Z");
    store.migrate(now).await.unwrap();
    store.apply_plans(catalog(None).plans()).await.unwrap();
    Bench { database, store, rules: Rules::default(), clock: Clock::manual(now) }
}

impl Bench {
    pub async fn commit(&self, events: &[Arc<Event>]) -> Vec<Receipt> {
        transaction::commit(&self.store, events, &self.rules, &self.clock).await.unwrap()
    }

    /// The accounts of these users and customers as the database has them.
    pub async fn accounts(&self, customers: &[String], clerk_ids: &[String]) -> Accounts {
        let mut concerned = Concerned::of_accounts(customers, clerk_ids, &self.rules);
        loop {
            let mut tx = self.store.begin_batch(concerned.locks()).await.unwrap();
            let first = load_first(&mut tx, &concerned).await.unwrap();
            assert!(tx.lock_clerk_users(concerned.locks(), &first.clerk_ids).await.unwrap());
            let missing = first.missing.clone();
            let second = load_second(&mut tx, &concerned, first).await.unwrap();
            tx.rollback().await;
            if missing.is_nothing() && second.missing.is_nothing() {
                return Accounts::new(second.loaded);
            }
            concerned.widen(&missing);
            concerned.widen(&second.missing);
        }
    }

    pub async fn query(&self, sql: &'static str) -> Value {
        let mut connection = self.database.connect().await;
        let row: (Option<Value>,) = sqlx::query_as(sql).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        row.0.unwrap_or_default()
    }
}

pub fn clerk_user(number: u32) -> Event {
    let id = format!("user_{number}");
    let body = json!({
        "data": {
            "id": id, "object": "user", "first_name": "Ada", "last_name": format!("No. {number}"),
            "primary_email_address_id": "idn_1",
            "email_addresses": [{"id": "idn_1", "email_address": format!("ada{number}@example.com"),
                "verification": {"status": "verified"}}],
            "created_at": 1_772_000_000_000_i64, "updated_at": 1_772_000_000_000_i64,
            "private_metadata": {}, "public_metadata": {},
        },
        "object": "event", "type": "user.created", "timestamp": 1_772_000_000_000_i64, "instance_id": "ins_1",
    });
    clerk::decode_event(&verified(&body), &format!("msg_{id}"), Source::Webhook, &Rules::default()).unwrap()
}

pub fn stripe_event(id: &str, kind: &str, created: i64, object: &Value) -> Event {
    let body = json!({
        "id": id, "object": "event", "type": kind, "created": created, "livemode": false, "api_version": "2025-03-31.basil",
        "data": {"object": object},
    });
    stripe::decode_event(&verified(&body), Source::Webhook, &Rules::default()).unwrap()
}

pub fn customer(number: u32) -> Value {
    json!({
        "id": format!("cus_{number}"), "object": "customer", "created": 1_772_000_000, "livemode": false,
        "email": format!("ada{number}@example.com"), "metadata": {"clerk_user_id": format!("user_{number}")},
    })
}

pub fn subscription(number: u32, status: &str) -> Value {
    json!({
        "id": format!("sub_{number}"), "object": "subscription", "customer": format!("cus_{number}"), "status": status,
        "created": 1_772_000_100, "billing_cycle_anchor": 1_772_000_100, "metadata": {}, "cancel_at_period_end": false,
        "collection_method": "charge_automatically",
        "items": {"object": "list", "data": [{
            "id": format!("si_{number}"), "object": "subscription_item",
            "current_period_start": 1_772_000_100, "current_period_end": 1_774_600_000,
            "price": {"id": "price_glow_up_monthly", "object": "price", "product": "prod_glow_up", "metadata": {}},
        }]},
    })
}

fn verified(body: &Value) -> VerifiedBody {
    VerifiedBody::from_operator(Bytes::from(body.to_string()))
}

pub fn arcs(events: impl IntoIterator<Item = Event>) -> Vec<Arc<Event>> {
    events.into_iter().map(Arc::new).collect()
}

fn outcomes(receipts: &[Receipt]) -> Vec<Outcome> {
    receipts.iter().map(|receipt| receipt.outcome).collect()
}

#[tokio::test]
async fn an_event_is_in_the_ledger_with_its_payload_and_what_it_changed() {
    let bench = bench().await;
    let receipts = bench.commit(&arcs([clerk_user(1)])).await;
    assert_eq!(outcomes(&receipts), [Outcome::Applied]);
    let profile = bench.store.find_profile("user_1").await.unwrap().unwrap();
    assert_eq!(profile.users["email"], "ada1@example.com");
    assert_eq!(profile.user_subscriptions.unwrap()["current_plan"], "free");
    let event = bench.store.find_event("msg_user_1").await.unwrap().remove(0);
    assert_eq!(event.entry.outcome, "applied");
    assert_eq!(event.entry.received_at, bench.clock.now());
    assert!(event.payload.unwrap().contains("ada1@example.com"));
    let effects = event.entry.effects.unwrap();
    let email = effects.as_array().unwrap().iter().find(|effect| effect["column"] == "email").unwrap();
    assert_eq!((&email["old"], &email["new"]), (&Value::Null, &json!("ada1@example.com")));
}

#[tokio::test]
async fn a_story_of_one_user_in_one_batch_ends_in_linked_rows() {
    let bench = bench().await;
    let events = arcs([
        stripe_event("evt_2", "customer.subscription.created", 1_772_000_101, &subscription(1, "active")),
        stripe_event("evt_1", "customer.created", 1_772_000_100, &customer(1)),
        clerk_user(1),
    ]);
    let receipts = bench.commit(&events).await;
    assert_eq!(outcomes(&receipts), [Outcome::Unlinked, Outcome::Unlinked, Outcome::Applied]);
    let profile = bench.store.find_profile("user_1").await.unwrap().unwrap();
    assert_eq!(profile.user_subscriptions.unwrap()["subscription_status"], "active");
    assert_eq!(profile.user_billing.unwrap()["stripe_customer_id"], "cus_1");
    assert_eq!(profile.user_system_data.unwrap()["last_webhook_event"], "customer.subscription.created");
    for key in [UserKey::Email("ADA1@example.com".into()), UserKey::Customer("cus_1".into())] {
        assert_eq!(bench.store.find_users(&key).await.unwrap(), ["user_1"]);
    }
    let owners = bench.store.list_owner_ids("user_1").await.unwrap();
    let ids: Vec<String> = owners.into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["user_1", "cus_1"]);
    assert_eq!(bench.store.list_facts(&ids, 10).await.unwrap().len(), 3);
    assert_eq!(bench.store.list_timeline(&ids, 10).await.unwrap().len(), 3);
    assert_eq!(bench.store.count_events().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_repeated_event_changes_nothing_also_within_one_batch() {
    let bench = bench().await;
    let event = Arc::new(clerk_user(1));
    let receipts = bench.commit(&[event.clone(), event.clone()]).await;
    assert_eq!(outcomes(&receipts), [Outcome::Applied, Outcome::Duplicate]);
    let before = bench.query("select jsonb_agg(to_jsonb(u)) from users u").await;
    assert_eq!(outcomes(&bench.commit(&[event]).await), [Outcome::Duplicate]);
    assert_eq!(bench.query("select jsonb_agg(to_jsonb(u)) from users u").await, before);
    assert_eq!(bench.query("select to_jsonb(count(*)) from billsync.webhook_events").await, 1);
}

#[tokio::test]
async fn a_full_batch_of_many_users_is_one_transaction() {
    let bench = bench().await;
    let events = arcs(
        (0..32).flat_map(|n| [clerk_user(n), stripe_event(&format!("evt_{n}"), "customer.created", 1_772_000_100, &customer(n))]),
    );
    assert!(outcomes(&bench.commit(&events).await).iter().all(|outcome| *outcome == Outcome::Applied));
    assert_eq!(bench.query("select to_jsonb(count(distinct xmin::text)) from billsync.webhook_events").await, 1);
    assert_eq!(bench.query("select to_jsonb(count(*)) from user_billing where stripe_customer_id is not null").await, 32);
}

#[tokio::test]
async fn a_projection_that_changes_nothing_writes_nothing() {
    let bench = bench().await;
    bench.commit(&arcs([clerk_user(1), stripe_event("evt_1", "customer.created", 1_772_000_100, &customer(1))])).await;
    let rows = "select jsonb_build_array((select jsonb_agg(xmin::text) from users), \
        (select jsonb_agg(xmin::text) from user_subscriptions), (select jsonb_agg(xmin::text) from user_billing), \
        (select jsonb_agg(xmin::text) from user_usage), (select jsonb_agg(xmin::text) from user_system_data))";
    let before = bench.query(rows).await;
    let (customers, users) = (["cus_1".to_owned()], ["user_1".to_owned()]);
    let changed = transaction::reproject(&bench.store, &customers, &users, &bench.rules, &bench.clock).await.unwrap();
    assert_eq!(changed, 0);
    assert_eq!(bench.query(rows).await, before);
    // Another event of the same second touches the system data alone: it is the newest one.
    bench.commit(&arcs([stripe_event("evt_2", "customer.updated", 1_772_000_101, &customer(1))])).await;
    let after = bench.query(rows).await;
    assert_eq!(after.as_array().unwrap()[..4], before.as_array().unwrap()[..4]);
    assert_ne!(after[4], before[4]);
}

#[tokio::test]
async fn an_event_that_had_failed_is_tried_again() {
    let bench = bench().await;
    bench.commit(&arcs([clerk_user(1)])).await;
    let event = stripe_event("evt_1", "customer.created", 1_772_000_100, &customer(1));
    let failed = transaction::commit_failed(&bench.store, &event, "SQLSTATE 22P05", &bench.rules, &bench.clock).await.unwrap();
    assert_eq!(failed, Receipt { outcome: Outcome::Failed, reason: Some("SQLSTATE 22P05".into()) });
    let stored = bench.store.find_event("evt_1").await.unwrap().remove(0);
    assert_eq!((stored.entry.outcome.as_str(), stored.entry.reason.as_deref()), ("failed", Some("SQLSTATE 22P05")));
    assert!(stored.payload.unwrap().contains("cus_1"), "the payload is kept as bytes");
    let came_first = stored.entry.received_at;

    bench.clock.set(came_first + TimeDelta::hours(1));
    let receipts = bench.commit(&arcs([event.clone()])).await;
    assert_eq!(outcomes(&receipts), [Outcome::Applied]);
    let stored = bench.store.find_event("evt_1").await.unwrap().remove(0);
    assert_eq!((stored.entry.outcome.as_str(), stored.entry.received_at), ("applied", came_first));
    assert!(stored.entry.effects.is_some());
    assert_eq!(outcomes(&bench.commit(&arcs([event])).await), [Outcome::Duplicate]);
    assert_eq!(bench.query("select to_jsonb(count(*)) from billsync.webhook_payloads").await, 2);
}

#[tokio::test]
async fn a_user_whose_newest_event_failed_says_so() {
    let bench = bench().await;
    bench.commit(&arcs([clerk_user(1), stripe_event("evt_1", "customer.created", 1_772_000_100, &customer(1))])).await;
    let poison = stripe_event("evt_9", "customer.updated", 1_772_000_200, &customer(1));
    transaction::commit_failed(&bench.store, &poison, "SQLSTATE 22P05", &bench.rules, &bench.clock).await.unwrap();
    let status = "select to_jsonb(billing_sync_status) from user_subscriptions";
    assert_eq!(bench.query(status).await, "error");
    bench.commit(&arcs([poison])).await;
    assert_ne!(bench.query(status).await, "error");
}

#[tokio::test]
async fn a_value_that_postgres_refuses_is_poison_and_takes_nothing_with_it() {
    let bench = bench().await;
    let mut poison = clerk_user(2);
    poison.api_version = Some("a\0b".into());
    let result = transaction::commit(&bench.store, &arcs([clerk_user(1), poison.clone()]), &bench.rules, &bench.clock).await;
    let Err(BatchError::Poison(text)) = result else { panic!("{result:?}") };
    assert!(text.contains("22021"), "{text}");
    assert_eq!(bench.query("select to_jsonb(count(*)) from users").await, 0);
    let failed = transaction::commit_failed(&bench.store, &poison, &text, &bench.rules, &bench.clock).await.unwrap();
    assert_eq!(failed.outcome, Outcome::Failed);
}

#[tokio::test]
async fn an_id_that_no_index_can_hold_is_kept_as_failed() {
    let bench = bench().await;
    // Incompressible, so that it is too long for an index as it is.
    let mut random = fastrand::Rng::with_seed(1);
    let long: String = std::iter::repeat_with(|| random.alphanumeric()).take(9000).collect();
    let event = Event {
        id: format!("evt_{long}"),
        owner_id: Some(format!("cus_{long}")),
        ..stripe_event("evt_1", "customer.created", 1_772_000_100, &customer(1))
    };
    let result = transaction::commit(&bench.store, &arcs([event.clone()]), &bench.rules, &bench.clock).await;
    let Err(BatchError::Poison(text)) = result else { panic!("{result:?}") };
    assert!(text.contains("54000"), "{text}");
    for _ in 0..2 {
        let failed = transaction::commit_failed(&bench.store, &event, &text, &bench.rules, &bench.clock).await.unwrap();
        assert_eq!(failed.outcome, Outcome::Failed);
    }
    assert_eq!(bench.query("select to_jsonb(count(*)) from billsync.webhook_events where outcome = 'failed'").await, 1);
}

#[tokio::test]
async fn a_read_that_changes_nothing_leaves_no_trace_in_the_ledger() {
    let bench = bench().await;
    bench.commit(&arcs([clerk_user(1), stripe_event("evt_1", "customer.created", 1_772_000_100, &customer(1))])).await;
    let read = |id: &str, created: i64, object: &Value| Event {
        source: Source::Reconcile,
        ..stripe_event(id, "customer.updated", created, object)
    };
    bench.commit(&arcs([read("read:1", 1_772_000_200, &customer(1))])).await;
    assert_eq!(bench.store.find_event("read:1").await.unwrap(), []);
    let mut moved = customer(1);
    moved["address"] = json!({"city": "Zurich", "country": "CH"});
    bench.commit(&arcs([read("read:2", 1_772_000_300, &moved)])).await;
    let drift = bench.store.find_event("read:2").await.unwrap().remove(0);
    assert_eq!((drift.entry.source.as_str(), drift.entry.outcome.as_str()), ("reconcile", "applied"));
}

#[tokio::test]
async fn behind_a_transaction_pooler_no_statement_is_named_and_no_setting_lasts() {
    let bench = bench().await;
    // Whatever the session has by the time that a batch writes its last table.
    bench
        .database
        .execute(
            "create table seen (names bigint); create function see() returns trigger language plpgsql as $$ begin \
                insert into seen select count(*) from pg_prepared_statements; return null; end $$; \
            create trigger see after insert on billsync.webhook_events for each statement execute function see()",
        )
        .await;
    let settings =
        StoreSettings { pooler: PoolerMode::Transaction, max_connections: 1, ..StoreSettings::new(&bench.database.url) };
    let pooled = Store::connect(&settings).await.unwrap();
    for n in 1..4 {
        let events = arcs([clerk_user(n), stripe_event(&format!("evt_{n}"), "customer.created", 1_772_000_100, &customer(n))]);
        transaction::commit(&pooled, &events, &bench.rules, &bench.clock).await.unwrap();
    }
    assert_eq!(bench.query("select to_jsonb(max(names)) from seen").await, 0);
    // The same with names, to know that the test can tell.
    bench.commit(&arcs([clerk_user(9)])).await;
    assert_ne!(bench.query("select to_jsonb(max(names)) from seen").await, 0);
}

#[tokio::test]
async fn an_empty_batch_tells_whether_the_database_would_take_one() {
    let bench = bench().await;
    transaction::commit(&bench.store, &[], &bench.rules, &bench.clock).await.unwrap();
    bench.database.execute("alter table user_billing rename column card_brand to brand").await;
    let result = transaction::commit(&bench.store, &[], &bench.rules, &bench.clock).await;
    assert!(matches!(result, Err(BatchError::Unavailable(_))), "{result:?}");
}

#[tokio::test]
async fn an_account_that_somebody_holds_is_contended_and_the_connection_lives_on() {
    let bench = bench().await;
    bench.commit(&arcs([clerk_user(1)])).await;
    let mut other = bench.database.connect().await;
    let mut held = other.begin().await.unwrap();
    sqlx::query("select 1 from users for update").execute(&mut *held).await.unwrap();
    let event = arcs([stripe_event("evt_1", "customer.created", 1_772_000_100, &customer(1))]);
    let result = transaction::commit(&bench.store, &event, &bench.rules, &bench.clock).await;
    assert!(matches!(result, Err(BatchError::Contended(_))), "{result:?}");
    held.rollback().await.unwrap();
    assert_eq!(outcomes(&bench.commit(&event).await), [Outcome::Applied]);
}

#[tokio::test]
async fn a_mark_of_the_mailer_survives() {
    let bench = bench().await;
    bench.commit(&arcs([clerk_user(1)])).await;
    bench
        .database
        .execute(
            "update user_system_data set email_schedule_status = \
            jsonb_set(email_schedule_status, '{welcome:user_1,sent_at}', '\"2026-03-10T12:00:05Z\"') || '{\"mine\": 7}'",
        )
        .await;
    let events = [
        stripe_event("evt_1", "customer.created", 1_772_000_100, &customer(1)),
        stripe_event("evt_2", "customer.subscription.created", 1_772_000_101, &subscription(1, "active")),
    ];
    bench.commit(&arcs(events)).await;
    let schedule = bench.query("select email_schedule_status from user_system_data").await;
    assert_eq!(schedule["welcome:user_1"]["sent_at"], "2026-03-10T12:00:05Z");
    assert_eq!(schedule["mine"], 7);
}

#[tokio::test]
async fn the_rows_that_an_application_made_first_are_taken_over() {
    let bench = bench().await;
    bench
        .database
        .execute("insert into users (user_id, email, business_name) values ('user_1', 'old@example.com', 'Ada Ltd')")
        .await;
    bench.commit(&arcs([clerk_user(1)])).await;
    let profile = bench.store.find_profile("user_1").await.unwrap().unwrap();
    assert_eq!((&profile.users["email"], &profile.users["business_name"]), (&json!("ada1@example.com"), &json!("Ada Ltd")));
    assert!(profile.user_usage.is_some() && profile.user_system_data.is_some());
}

#[tokio::test]
async fn a_usage_period_that_ended_is_archived_once_from_the_rows_own_counters() {
    let bench = bench().await;
    bench.commit(&arcs([clerk_user(1)])).await;
    bench.database.execute("update user_usage set usage_creators_current_month = 41, usage_campaigns_current = 2").await;
    bench.clock.set(bench.clock.now() + TimeDelta::days(40));
    let users = ["user_1".to_owned()];
    transaction::reproject(&bench.store, &[], &users, &bench.rules, &bench.clock).await.unwrap();
    transaction::reproject(&bench.store, &[], &users, &bench.rules, &bench.clock).await.unwrap();
    let usage = bench.query("select to_jsonb(g) from user_usage g").await;
    assert_eq!((&usage["usage_creators_current_month"], &usage["usage_campaigns_current"]), (&json!(0), &json!(2)));
    let archived = bench.query("select jsonb_agg(usage_creators_current_month) from billsync.usage_periods").await;
    assert_eq!(archived, json!([41]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_stores_fighting_over_the_same_users_never_deadlock() {
    let bench = bench().await;
    let other = Store::connect(&StoreSettings::new(&bench.database.url)).await.unwrap();
    let mut tasks = Vec::new();
    for writer in 0..8_u32 {
        let (store, rules, clock) =
            (if writer % 2 == 0 { bench.store.clone() } else { other.clone() }, bench.rules.clone(), bench.clock.clone());
        tasks.push(tokio::spawn(async move {
            for round in 0..12_u32 {
                let number = |k: u32| (k * 7 + writer * 3 + round) % 10;
                let created = 1_772_000_100 + i64::from(round);
                let events = arcs((0..10).flat_map(|k| {
                    let n = number(k);
                    let id = format!("evt_{writer}_{round}_{k}");
                    [
                        clerk_user(n),
                        stripe_event(&format!("{id}_c"), "customer.updated", created, &customer(n)),
                        stripe_event(&format!("{id}_s"), "customer.subscription.updated", created, &subscription(n, "active")),
                    ]
                }));
                commit_patiently(&store, &events, &rules, &clock).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(bench.query("select to_jsonb(count(*)) from users").await, 10);
    assert_eq!(bench.query("select to_jsonb(count(*)) from user_subscriptions where subscription_status = 'active'").await, 10);
    assert_eq!(bench.query("select to_jsonb(count(*)) from billsync.webhook_events").await, 10 + 8 * 12 * 20);
    assert_eq!(deadlocks(&mut bench.database.connect().await).await, 0);
}

/// A lock that is waited for too long is tried again, a deadlock never is.
pub async fn commit_patiently(store: &Store, events: &[Arc<Event>], rules: &Rules, clock: &Clock) {
    loop {
        match transaction::commit(store, events, rules, clock).await {
            Ok(_receipts) => return,
            Err(BatchError::Contended(text)) => assert!(!text.contains("40P01"), "{text}"),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn deadlocks(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select deadlocks from pg_stat_database where datname = current_database()")
        .fetch_one(connection)
        .await
        .unwrap()
}
