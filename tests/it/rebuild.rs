//! The rebuild in a real Postgres: it finds nothing where nothing is wrong, names precisely what is, and mends it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use billsync::clock::Clock;
use billsync::domain::billing::differences::Difference;
use billsync::domain::billing::rows::Rows;
use billsync::domain::rules::Rules;
use billsync::ingest::rebuild::{Observer, Report, Settings, Stage, rebuild};
use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::cli::on;
use crate::journeys_in_postgres::World;
use crate::stories::dialect::Dialect;
use crate::stories::journey::{Journey, load_all};

/// Stories whose users have, between them, a value in every projected column and every cache.
const TELLING: [&str; 9] = [
    "trial_to_paid",
    "two_customers_of_one_user",
    "link_by_clerk_metadata",
    "cancel_by_date",
    "trial_canceled",
    "downgrade_by_schedule",
    "test_clock",
    "link_by_invoice_metadata",
    "user_deleted_late_update",
];

/// Watches nothing, and ends the rebuild after so many batches.
struct EndAfter(AtomicU64);

impl EndAfter {
    fn never() -> EndAfter {
        EndAfter(AtomicU64::new(u64::MAX))
    }
}

impl Observer for EndAfter {
    fn advanced(&self, _stage: Stage, _count: u64) {}

    fn is_stopped(&self) -> bool {
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err()
    }
}

async fn run(world: &World, now: DateTime<Utc>, user: Option<&str>, dry_run: bool) -> Report {
    let clock = Clock::manual(now);
    let settings = Settings { store: &world.stores[0], rules: &world.rules, clock: &clock, dry_run };
    rebuild(settings, user, &EndAfter::never()).await.unwrap()
}

fn lines(report: &Report) -> Vec<String> {
    assert_eq!((&report.left, report.is_stopped), (&Vec::new(), false));
    let line = |d: &Difference| {
        let row = d.row.as_ref().map(|row| format!("[{row}]")).unwrap_or_default();
        format!("{} {}.{}{row}: {} -> {}", d.user_id.as_deref().unwrap_or("-"), d.table, d.column, d.stored, d.recomputed)
    };
    report.differences.iter().map(line).collect()
}

/// What a rebuild finds, a line a column. It mends it too.
pub async fn differences(world: &World, now: DateTime<Utc>) -> Vec<String> {
    lines(&run(world, now, None, false).await)
}

/// A world in which some stories have been told to their end.
async fn told(names: &[&str]) -> World {
    let world = World::new(Rules::default()).await;
    let journeys: Vec<Journey> = load_all().into_iter().filter(|journey| names.contains(&journey.name.as_str())).collect();
    assert_eq!(journeys.len(), names.len());
    let events = journeys.iter().flat_map(|journey| journey.events(Dialect::Newest)).collect();
    world.deliver(events, &mut Rng::with_seed(1)).await;
    world
}

/// Every projected table and every cache, row by row, without what tells when it was written and what nobody derives.
async fn everything(world: &World) -> BTreeMap<String, Value> {
    let users = "('users', u.user_id, to_jsonb(u)), ('user_subscriptions', u.user_id, to_jsonb(s)), \
        ('user_billing', u.user_id, to_jsonb(b)), ('user_usage', u.user_id, to_jsonb(g)), \
        ('user_system_data', u.user_id, to_jsonb(d))";
    let sql = format!(
        "select x.name || ' ' || x.key, (x.row - array['id', 'user_id', 'created_at', 'updated_at', 'object'])::text \
         from users u join user_subscriptions s on s.user_id = u.id join user_billing b on b.user_id = u.id \
         join user_usage g on g.user_id = u.id join user_system_data d on d.user_id = u.id \
         cross join lateral (values {users}) as x(name, key, row) \
         union all select 'owners ' || owner_id, to_jsonb(o)::text from billsync.owners o \
         union all select 'objects ' || account || object_id, (to_jsonb(o) - 'object')::text from billsync.provider_objects o"
    );
    let rows: Vec<(String, String)> =
        sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut world.database.connect().await).await.unwrap();
    rows.into_iter().map(|(key, row)| (key, serde_json::from_str(&row).unwrap())).collect()
}

/// Column, and the SQL of a value that is wrong for the user it is put in.
const ADA: [(&str, &[(&str, &str)]); 5] = [
    ("users", &[("email", "'eve@example.com'"), ("full_name", "null"), ("deleted_at", "now()")]),
    (
        "user_subscriptions",
        &[
            ("current_plan", "'free'"),
            ("intended_plan", "'free'"),
            ("subscription_status", "'canceled'"),
            ("trial_status", "'expired'"),
            ("trial_start_date", "null"),
            ("trial_end_date", "trial_end_date + interval '1 microsecond'"),
            ("trial_conversion_date", "null"),
            ("subscription_cancel_date", "now()"),
            ("subscription_renewal_date", "null"),
            ("billing_sync_status", "'error'"),
            ("next_change_at", "null"),
            ("next_change_at", "'2001-01-01'"),
        ],
    ),
    (
        "user_billing",
        &[
            ("stripe_customer_id", "'cus_other'"),
            ("stripe_subscription_id", "null"),
            ("payment_method_id", "null"),
            ("card_last_4", "'0000'"),
            ("card_brand", "'amex'"),
            ("card_exp_month", "1"),
            ("card_exp_year", "null"),
            ("billing_address_city", "null"),
            ("billing_address_country", "'XX'"),
            ("billing_address_postal_code", "''"),
        ],
    ),
    (
        "user_usage",
        &[
            ("plan_campaigns_limit", "-1"),
            ("plan_creators_limit", "0"),
            ("plan_features", "'{}'"),
            ("usage_reset_date", "usage_reset_date + interval '1 day'"),
            ("usage_anchor", "usage_anchor - interval '3 hours'"),
            ("usage_anchor", "null"),
            ("usage_period_start", "null"),
            ("reset_held", "true"),
        ],
    ),
    (
        "user_system_data",
        &[
            ("signup_timestamp", "null"),
            ("email_schedule_status", "email_schedule_status - 'welcome:user_ada'"),
            ("last_webhook_event", "'user.created'"),
            ("last_webhook_timestamp", "null"),
        ],
    ),
];

/// Table, the row's condition, column, a wrong value.
const CACHES: [(&str, &str, &str, &str); 15] = [
    ("owners", "owner_id = 'cus_ada'", "clerk_user_id", "'user_xena'"),
    ("owners", "owner_id = 'cus_xena_b'", "clerk_user_id", "null"),
    ("owners", "owner_id = 'cus_ada'", "linked_by", "'operator'"),
    ("owners", "owner_id = 'cus_ada'", "newest_type", "'x'"),
    ("owners", "owner_id = 'user_ada'", "newest_id", "'evt_x'"),
    ("owners", "owner_id = 'cus_ada'", "newest_at", "newest_at + interval '1 second'"),
    ("owners", "owner_id = 'cus_ada'", "newest_failed", "true"),
    ("owners", "owner_id = 'cus_ada'", "has_facts", "false"),
    ("owners", "claimed_customer_id is not null", "claimed_customer_id", "null"),
    ("owners", "owner_id = 'user_ada'", "imported_customer_id", "'cus_xena'"),
    ("owners", "test_clock is not null", "test_clock", "null"),
    ("owners", "owner_id = 'user_ada'", "emails", "'{}'"),
    ("provider_objects", "evidence_created_at is not null and object_type = 'invoice'", "evidence_created_at", "null"),
    ("provider_objects", "owner_id = 'cus_ada' and summed_conversion_at is not null", "summed_conversion_at", "null"),
    ("provider_objects", "owner_id = 'cus_ada' and object_type = 'invoice' and not read_singly", "read_singly", "true"),
];

/// Makes one value wrong, and expects a dry run, then a rebuild, to find that and nothing else, then nothing any more.
async fn assert_found(world: &World, right: &BTreeMap<String, Value>, table: &str, column: &str, sql: &str) {
    let mut connection = world.database.connect().await;
    let changed = sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap().rows_affected();
    assert!(changed > 0, "{sql}: there is no such row");
    let now = world.clock.now();
    let wrong = everything(world).await;
    let dry = lines(&run(world, now, None, true).await);
    assert_eq!(everything(world).await, wrong, "{sql}: a dry run writes nothing");
    let found = lines(&run(world, now, None, false).await);
    assert_eq!(dry, found, "{sql}");
    assert_eq!(found.len() as u64, changed, "{sql}: {found:#?}");
    assert!(found.iter().all(|line| line.contains(&format!(" {table}.{column}"))), "{sql}: {found:?}");
    assert_eq!(&everything(world).await, right, "{sql}");
    assert_eq!(differences(world, now).await, Vec::<String>::new(), "{sql}: found once more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_projected_column_that_is_wrong_is_named_and_mended() {
    let world = told(&TELLING).await;
    assert_eq!(differences(&world, world.clock.now()).await, Vec::<String>::new());
    let right = everything(&world).await;
    for (table, columns) in ADA {
        for (column, value) in columns {
            let key = if table == "users" { "id" } else { "user_id" };
            let sql =
                format!("update {table} set {column} = {value} where {key} = (select id from users where user_id = 'user_ada')");
            assert_found(&world, &right, table, column, &sql).await;
        }
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cache_that_is_wrong_is_named_and_mended() {
    let world = told(&TELLING).await;
    assert_eq!(differences(&world, world.clock.now()).await, Vec::<String>::new());
    let right = everything(&world).await;
    for (table, condition, column, value) in CACHES {
        let sql = format!("update billsync.{table} set {column} = {value} where {condition}");
        assert_found(&world, &right, table, column, &sql).await;
    }
    world.close().await;
}

/// Every projected column, tried above or told here why not.
#[test]
fn no_projected_column_is_forgotten() {
    let rows = Rows::default();
    let columns: BTreeSet<&str> = ADA.iter().flat_map(|(_, columns)| columns.iter().map(|(column, _)| *column)).collect();
    let told: BTreeSet<String> =
        [json!(rows.user), json!(rows.subscription), json!(rows.billing), json!(rows.usage), json!(rows.system)]
            .iter()
            .flat_map(|table| table.as_object().unwrap().keys().cloned().collect::<Vec<_>>())
            .collect();
    // History: which subscription has had its early reset follows from nothing that is kept.
    let history = ["early_reset_subscription"];
    // Structs of several columns.
    let flattened = ["card", "address"];
    for column in told.iter().filter(|column| !history.contains(&column.as_str()) && !flattened.contains(&column.as_str())) {
        assert!(columns.contains(column.as_str()), "{column}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_derived_can_be_dropped_and_comes_back_the_same() {
    let journeys: Vec<Journey> = load_all().into_iter().filter(Journey::is_told_by_default_rules).collect();
    let names: Vec<&str> = journeys.iter().map(|journey| journey.name.as_str()).collect();
    let world = told(&names).await;
    let now = world.clock.now();
    assert_eq!(differences(&world, now).await, Vec::<String>::new());
    // Which subscription has had its early reset is history, as are usage periods that began elsewhere than their anchor says.
    world.database.execute("update user_usage set early_reset_subscription = null, usage_anchor = null").await;
    differences(&world, now).await;
    let right = everything(&world).await;
    for lost in [
        "truncate billsync.owners",
        "delete from user_billing; delete from user_subscriptions; delete from user_system_data; delete from user_usage",
        "delete from users",
        "update billsync.provider_objects set read_singly = not read_singly, evidence_created_at = null, \
         summed_subscription = null, summed_start_at = null, summed_conversion_at = null; truncate billsync.owners; \
         delete from users",
    ] {
        world.database.execute(lost).await;
        let wrong = everything(&world).await;
        let dry = lines(&run(&world, now, None, true).await);
        assert_eq!(everything(&world).await, wrong, "{lost}: a dry run writes nothing");
        let found = lines(&run(&world, now, None, false).await);
        assert!(!found.is_empty(), "{lost}");
        let (dry, found): (BTreeSet<String>, BTreeSet<String>) = (dry.into_iter().collect(), found.into_iter().collect());
        let apart: Vec<&String> = dry.symmetric_difference(&found).collect();
        assert_eq!(apart, Vec::<&String>::new(), "{lost}: a dry run tells what a rebuild tells");
        let back = everything(&world).await;
        for (key, row) in &right {
            assert_eq!(back.get(key), Some(row), "{lost}: {key}");
        }
        assert_eq!(differences(&world, now).await, Vec::<String>::new(), "{lost}: found once more");
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_clock_has_still_to_change_is_made_and_is_no_difference() {
    let world = told(&TELLING).await;
    let before = everything(&world).await;
    for years in [1, 2, 6] {
        let now = world.clock.now() + TimeDelta::days(365 * years);
        assert_eq!(differences(&world, now).await, Vec::<String>::new());
    }
    assert_ne!(everything(&world).await, before, "time has passed");
    // What is wrong beside it is still found.
    let world = told(&TELLING).await;
    world.database.execute("update user_billing set card_last_4 = '0000' where stripe_customer_id = 'cus_ada'").await;
    let found = differences(&world, world.clock.now() + TimeDelta::days(3650)).await;
    assert_eq!(found, ["user_ada user_billing.card_last_4: \"0000\" -> \"4242\""]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_user_is_rebuilt_with_the_customers_that_facts_say_are_theirs() {
    let world = told(&TELLING).await;
    let (now, right) = (world.clock.now(), everything(&world).await);
    let spoil = "update billsync.owners set clerk_user_id = null, linked_by = null where clerk_user_id is not null; \
        update user_billing set card_brand = 'x'";
    world.database.execute(spoil).await;
    let dry = lines(&run(&world, now, Some("user_ada"), true).await);
    let found = lines(&run(&world, now, Some("user_ada"), false).await);
    assert_eq!(dry, found);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found.iter().all(|line| line.starts_with("user_ada ")), "{found:?}");
    let back = everything(&world).await;
    for key in ["owners cus_ada", "user_billing user_ada", "user_subscriptions user_ada"] {
        assert_eq!(back[key], right[key]);
    }
    assert_ne!(back["user_billing user_xena"], right["user_billing user_xena"], "others are left alone");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_at_any_batch_it_can_be_run_again() {
    let world = told(&TELLING).await;
    let (now, right) = (world.clock.now(), everything(&world).await);
    let clock = Clock::manual(now);
    let settings = Settings { store: &world.stores[0], rules: &world.rules, clock: &clock, dry_run: false };
    for batches in 0..8 {
        world.database.execute("truncate billsync.owners; update user_subscriptions set current_plan = 'x'").await;
        let report = rebuild(settings, None, &EndAfter(AtomicU64::new(batches))).await.unwrap();
        if !report.is_stopped {
            assert!(batches > 3, "there is more than one batch");
        }
        differences(&world, now).await;
        assert_eq!(everything(&world).await, right, "ended after {batches} batches");
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_webhooks_it_finds_nothing_and_disturbs_nothing() {
    let world = World::new(Rules::default()).await;
    let journeys: Vec<Journey> = load_all().into_iter().filter(Journey::is_told_by_default_rules).collect();
    let events = journeys.iter().flat_map(|journey| journey.events(Dialect::Newest)).collect();
    let (done, mut rounds) = (AtomicBool::new(false), 0);
    let now = world.clock.now();
    let rebuilding = async {
        while !done.load(Ordering::SeqCst) {
            assert_eq!(differences(&world, now).await, Vec::<String>::new());
            assert_eq!(lines(&run(&world, now, None, true).await), Vec::<String>::new());
            rounds += 1;
        }
    };
    let delivering = async {
        world.deliver(events, &mut Rng::with_seed(2)).await;
        done.store(true, Ordering::SeqCst);
    };
    tokio::join!(rebuilding, delivering);
    assert!(rounds > 0);
    assert_eq!(differences(&world, now).await, Vec::<String>::new());
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_tells_by_its_exit_code() {
    let world = told(&["trial_to_paid"]).await;
    let url = world.database.url.clone();
    // The command lives by the system's clock: what has passed since the story is no difference.
    assert!(on(&url, &["rebuild"], 0).contains("no difference"));
    world.database.execute("update user_billing set card_brand = 'amex'").await;
    let told: Value = serde_json::from_str(&on(&url, &["rebuild", "--dry-run", "--json"], 3)).unwrap();
    let expected = json!([{"user_id": "user_ada", "table": "user_billing", "column": "card_brand", "stored": "amex",
        "recomputed": "visa"}]);
    assert_eq!(told["differences"], expected);
    let printed = on(&url, &["rebuild", "--user", "user_ada"], 3);
    assert!(printed.contains("user_billing.card_brand") && printed.contains("mended"), "{printed}");
    assert!(on(&url, &["rebuild", "--json"], 0).contains("\"differences\": []"));
    on(&url, &["rebuild", "--user", "user_nobody"], 1);
    world.close().await;
}
