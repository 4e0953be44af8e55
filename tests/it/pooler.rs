//! The real binary with a pooler between it and Postgres: everything works with the right settings, and the wrong ones are
//! told before anything is written.

use billsync::clock::Clock;
use billsync::store::{Store, StoreSettings};
use sqlx::{Connection, PgConnection};

use crate::cli::fixture;
use crate::kill::{Load, check_ledger, deliver_again, prepare, rows};
use crate::support::database::{TestDatabase, database, empty_database};
use crate::support::pooler::{Mode, Pooler, Unknown};
use crate::support::service::{Service, billsync};

/// The settings for a pooler in transaction mode.
fn transaction<'a>(pooler: &'a Pooler, database: &'a TestDatabase) -> [(&'a str, &'a str); 3] {
    [("DATABASE_URL", &pooler.url), ("BILLSYNC_POOLER", "transaction"), ("BILLSYNC_MIGRATION_DATABASE_URL", &database.url)]
}

/// Runs a command; what it printed and complained of, and its exit code.
fn run(settings: &[(&str, &str)], arguments: &[&str]) -> (String, i32) {
    let output = billsync(settings).args(arguments).stdout(std::process::Stdio::piped()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.code().unwrap())
}

#[track_caller]
fn runs(settings: &[(&str, &str)], arguments: &[&str]) -> String {
    let (told, code) = run(settings, arguments);
    assert_eq!(code, 0, "{arguments:?}\n{told}");
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_transaction_pooler_that_breaks_under_load_nothing_acknowledged_is_lost() {
    let database = database().await;
    let mut pooler = Pooler::start(&database, Mode::Transaction, Unknown::Refused);
    let pooler_url = pooler.url.clone();
    let settings = [
        ("DATABASE_URL", pooler_url.as_str()),
        ("BILLSYNC_POOLER", "transaction"),
        ("BILLSYNC_MIGRATION_DATABASE_URL", &database.url),
    ];
    let mut service = Service::start(&settings).await;
    let begun = Clock::System.now();
    prepare(&settings, service.address, begun).await;
    let load = Load::start(service.address, begun);
    for enough in [150, 300, 450] {
        load.until_acknowledged(enough).await;
        pooler.restart();
    }
    load.until_acknowledged(600).await;
    service.terminate();
    assert!(service.ended().await, "it ends well:\n{}", service.log());
    let (acknowledged, sent) = load.end().await;
    check_ledger(&database.url, &acknowledged).await;

    let service = Service::start(&settings).await;
    deliver_again(service.address, &database.url, begun, &acknowledged, sent).await;
    let rows_now = rows(&database.url).await;
    let told = runs(&settings, &["rebuild"]);
    assert!(told.contains("no difference"), "{told}");
    assert_eq!(rows(&database.url).await, rows_now);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_work_behind_a_transaction_pooler() {
    let database = empty_database().await;
    let pooler = Pooler::start(&database, Mode::Transaction, Unknown::Refused);
    let settings = transaction(&pooler, &database);
    runs(&settings, &["migrate", "run"]);
    runs(&settings, &["plans", "apply", &fixture("plans.toml")]);
    let service = Service::start(&settings).await;
    let target = format!("http://{}", service.address);
    let told = runs(&settings, &["send", "--story", "ada", "--to", &target]);
    assert!(told.contains("applied"), "{told}");
    for arguments in [
        &["migrate", "status"][..],
        &["plans", "list"],
        &["replay", "--type", "user.created"],
        &["inspect", "user", "ada@example.com"],
        &["inspect", "db", "--fix-indexes"],
        &["reset-usage"],
        &["schedule", "run", "clock-sweep"],
        &["schedule", "list"],
        &["users", "list"],
        &["users", "link", "--customer", "cus_nobodys", "--nobody"],
        &["users", "unlink", "--customer", "cus_nobodys"],
        &["rebuild"],
        &["doctor", "--offline"],
    ] {
        runs(&settings, arguments);
    }
}

#[tokio::test]
async fn a_transaction_pooler_that_the_settings_do_not_name_is_refused_by_name() {
    let database = database().await;
    for unknown in [Unknown::Refused, Unknown::Dropped] {
        let pooler = Pooler::start(&database, Mode::Transaction, unknown);
        for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["plans", "list"], &["doctor", "--offline"]] {
            let (told, code) = run(&[("DATABASE_URL", &pooler.url)], arguments);
            assert_eq!(code, 1, "{arguments:?} {unknown:?}\n{told}");
            let advice = ["transaction mode", "BILLSYNC_POOLER=transaction", "BILLSYNC_MIGRATION_DATABASE_URL"];
            assert!(advice.iter().all(|part| told.contains(part)), "{arguments:?} {unknown:?}\n{told}");
        }
        // Nothing is left behind on a connection that others use.
        let mut connection = PgConnection::connect(&pooler.url.replace("?", "?statement-cache-capacity=0&")).await;
        if let Ok(connection) = &mut connection {
            let names: i64 = sqlx::query_scalar("select count(*) from pg_prepared_statements")
                .persistent(false)
                .fetch_one(connection)
                .await
                .unwrap();
            assert_eq!(names, 0);
        }
    }
}

#[tokio::test]
async fn migrations_refuse_a_transaction_pooler() {
    let database = empty_database().await;
    let pooler = Pooler::start(&database, Mode::Transaction, Unknown::Refused);
    for (pooled, migrations) in [(&pooler.url, &pooler.url), (&database.url, &pooler.url)] {
        let settings = [
            ("DATABASE_URL", pooled.as_str()),
            ("BILLSYNC_POOLER", "transaction"),
            ("BILLSYNC_MIGRATION_DATABASE_URL", migrations),
        ];
        let (told, code) = run(&settings, &["migrate", "run"]);
        assert_eq!(code, 1, "{told}");
        assert!(told.contains("BILLSYNC_MIGRATION_DATABASE_URL to be a direct connection"), "{told}");
    }
    assert!(!database.ask::<bool>("select exists (select from pg_namespace where nspname = 'billsync')").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler_that_keeps_sessions_nothing_need_be_set() {
    for unknown in [Unknown::Refused, Unknown::Dropped] {
        let database = empty_database().await;
        let pooler = Pooler::start(&database, Mode::Session, unknown);
        let settings = [("DATABASE_URL", pooler.url.as_str())];
        runs(&settings, &["migrate", "run"]);
        runs(&settings, &["plans", "apply", &fixture("plans.toml")]);
        let service = Service::start(&settings).await;
        let told = runs(&settings, &["send", "--story", "ada", "--to", &format!("http://{}", service.address)]);
        assert!(told.contains("applied"), "{unknown:?}: {told}");
        let told = runs(&settings, &["doctor", "--offline"]);
        assert!(told.contains("a pooler that keeps sessions"), "{unknown:?}: {told}");
        let store = Store::connect(&StoreSettings::new(&pooler.url)).await.unwrap();
        assert_eq!(store.describe_server().await.unwrap().idle_timeout, "1min", "what a start asks for is set all the same");
    }
}
