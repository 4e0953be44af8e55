//! `doctor`: each finding brought about by its real cause, with the level and the fix that it gives.

mod database;
mod events;
mod settings;

use std::path::Path;

use billsync::clock::Clock;
use serde_json::{Value, json};

use super::{billsync, fixture, on, run};
use crate::http::client::{CLERK_SECRET, STRIPE_SECRET, exchange};
use crate::support::database::{TestDatabase, database};
use crate::support::events::{customer_created, user_created};
use crate::support::fake_clerk::{self, FakeClerk};
use crate::support::service::Service;
use crate::support::stripe::{API_KEY, FakeStripe};
use crate::support::until;

/// What `doctor --json` printed, and its exit code.
#[derive(Debug)]
struct Diagnosis {
    code: i32,
    findings: Vec<Value>,
    printed: String,
}

impl Diagnosis {
    /// Asserts that there is a finding of that level, about that, with that fix.
    #[track_caller]
    fn expect(&self, level: &str, about: &str, fix: &str) {
        let matches = |finding: &&Value| {
            finding["level"] == level
                && finding["what"].as_str().unwrap().contains(about)
                && finding["fix"].as_str().unwrap_or_default().contains(fix)
        };
        assert!(
            self.findings.iter().any(|finding| matches(&finding)),
            "no {level} {about:?} with {fix:?} in {:#?}",
            self.findings
        );
    }

    /// What is said of an area that is not as it should be.
    fn trouble(&self, area: &str) -> Vec<&str> {
        let of_area = self.findings.iter().filter(|finding| finding["area"] == area && finding["level"] != "ok");
        of_area.map(|finding| finding["what"].as_str().unwrap()).collect()
    }
}

/// Runs `doctor --json` with secrets of the right shape and these settings.
fn doctor(settings: &[(&str, &str)], arguments: &[&str]) -> Diagnosis {
    let mut command = billsync(&[&["doctor", "--json"], arguments].concat());
    command.env("STRIPE_WEBHOOK_SECRETS", STRIPE_SECRET).env("CLERK_WEBHOOK_SECRETS", CLERK_SECRET);
    let (code, printed, complaints) = run(command.envs(settings.iter().copied()));
    let report: Value = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{printed}\n{complaints}"));
    let findings = report["findings"].as_array().unwrap().clone();
    let count = |level: &str| findings.iter().filter(|finding| finding["level"] == level).count();
    assert_eq!((report["errors"].clone(), report["warnings"].clone()), (count("error").into(), count("warning").into()));
    assert_eq!(code, i32::from(count("error") > 0), "{findings:#?}");
    for finding in &findings {
        let has_fix = finding["fix"].as_str().is_some_and(|fix| !fix.is_empty());
        assert_eq!(has_fix, finding["level"] != "ok", "{finding}");
    }
    Diagnosis { code, findings, printed }
}

/// The same of a database alone.
fn examined(database: &TestDatabase) -> Diagnosis {
    doctor(&[("DATABASE_URL", &database.url)], &["--offline"])
}

/// A Stripe that knows the prices of the plans.
async fn stripe() -> FakeStripe {
    let stripe = FakeStripe::start(Clock::System).await;
    let plans = ["glow_up", "viral_surge", "fame_flex"].into_iter().zip(1..);
    stripe.put(plans.flat_map(|(plan, created)| {
        ["monthly", "yearly"].map(|every| json!({"id": format!("price_{plan}_{every}"), "object": "price", "created": created}))
    }));
    stripe
}

async fn with_plans() -> TestDatabase {
    let database = database().await;
    on(&database.url, &["plans", "apply", &fixture("plans.toml")], 0);
    database
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_works_has_nothing_wrong() {
    let (database, stripe, clerk) = (with_plans().await, stripe().await, FakeClerk::start().await);
    let (stripe_base, clerk_base) = (stripe.base(), clerk.base());
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("STRIPE_API_KEY", API_KEY),
        ("STRIPE_API_BASE", &stripe_base),
        ("CLERK_SECRET_KEY", fake_clerk::KEY),
        ("CLERK_API_BASE", &clerk_base),
    ];
    let service = Service::start(&settings).await;
    let now = Clock::System.now();
    for webhook in [user_created(1, now), customer_created(1, now)] {
        assert_eq!(exchange(service.address, webhook.request(now)).await.status, 200);
    }
    until("every task has run", async || {
        database.ask::<bool>("select count(distinct name) = 6 from billsync.schedule_runs where succeeded").await
    })
    .await;
    let diagnosis = doctor(&settings, &[]);
    for about in [
        "reached postgres",
        "PostgreSQL 1",
        "its clock agrees",
        "connections that the server allows are in use",
        "reached directly",
        "has every privilege that it needs",
        "row-level security is on for every table",
        "nothing is published to anon",
        "migrations have run",
        "every table and index of the migrations is there",
        "STRIPE_WEBHOOK_SECRETS: one secret",
        "verified the newest webhook of Stripe",
        "verified the newest webhook of Clerk",
        "STRIPE_API_KEY may read everything",
        "6 prices of the plans are known to Stripe",
        "CLERK_SECRET_KEY is accepted",
        "4 plans; the price of every live subscription has one",
        "6 tasks, none of them late",
        "no event has failed",
        "no object waits",
        "every event that Stripe lists was known",
    ] {
        diagnosis.expect("ok", about, "");
    }
    // How much room this machine's container has is no matter of the deployment.
    let wrong: Vec<&Value> = diagnosis.findings.iter().filter(|finding| finding["level"] != "ok").collect();
    assert!(wrong.iter().all(|finding| finding["what"].as_str().unwrap().contains("/dev/shm")), "{wrong:#?}");
    for secret in [API_KEY, fake_clerk::KEY, STRIPE_SECRET, CLERK_SECRET] {
        assert!(!diagnosis.printed.contains(secret));
    }
}

#[tokio::test]
async fn for_people_it_is_a_line_a_finding_with_the_fix_below() {
    let database = with_plans().await;
    database.execute("alter table billsync.refetch_queue disable row level security").await;
    let shown = on(&database.url, &["doctor", "--offline"], 0);
    let line = "WARNING  security  row-level security is off on billsync.refetch_queue\n                   \
        fix: alter table billsync.refetch_queue enable row level security;\n";
    assert!(shown.contains(line), "{shown}");
    assert!(shown.contains("ok       plans     4 plans"), "{shown}");
    let problems = on(&database.url, &["doctor", "--offline", "--problems"], 0);
    assert!(problems.contains(line) && !problems.contains("ok  "), "{problems}");
    assert!(problems.lines().last().unwrap().starts_with("0 errors, "), "{problems}");
}

#[tokio::test]
async fn nothing_is_changed() {
    let database = with_plans().await;
    let rows = "select string_agg(c.relname || ' ' || (pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_updated(c.oid) \
        + pg_stat_get_tuples_deleted(c.oid)), ', ' order by c.relname) from pg_class c \
        where c.relnamespace in ('public'::regnamespace, 'billsync'::regnamespace) and c.relkind = 'r'";
    database.execute("select pg_stat_force_next_flush()").await;
    let before: String = database.ask(rows).await;
    examined(&database);
    // A session's counts are told when it ends, which doctor's have.
    assert_eq!(database.ask::<String>(rows).await, before);

    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let diagnosis = doctor(&[("BILLSYNC_HOME", home.to_str().unwrap())], &["--offline"]);
    assert_eq!(diagnosis.code, 0);
    diagnosis.expect("warning", "serve would make an embedded PostgreSQL", "export DATABASE_URL=postgres://");
    assert!(!Path::new(&home).exists());
}
