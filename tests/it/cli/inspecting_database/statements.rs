//! The slowest statements, on a server that keeps account of them, and on one where the extension is there but not loaded.

use std::path::Path;

use billsync::embedded_postgres::{EmbeddedPostgres, Options};
use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};

use crate::cli::{billsync, on, run};
use crate::support::database::database;

#[tokio::test]
async fn an_extension_that_is_not_loaded_is_told_beside_everything_else() {
    let database = database().await;
    database.execute("create schema extensions; create extension pg_stat_statements schema extensions").await;
    let (code, printed, _) = run(billsync(&["inspect", "db", "--json"]).env("DATABASE_URL", &database.url));
    assert_eq!(code, 1);
    let report: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(report["unreadable"][0]["part"], "slowest statements");
    assert!(report["unreadable"][0]["why"].as_str().unwrap().contains("shared_preload_libraries"), "{report:#}");
    assert!(report["tables"].as_array().unwrap().len() > 20);
}

async fn server(home: &Path) -> EmbeddedPostgres {
    let options = Options { guard_program: Some(env!("CARGO_BIN_EXE_billsync").into()), ..Options::new(home) };
    EmbeddedPostgres::start(&options).await.unwrap()
}

#[tokio::test]
async fn the_statements_that_cost_most_are_told_without_values() {
    let home = tempfile::tempdir().unwrap();
    let first = server(home.path()).await;
    let mut connection = PgConnection::connect(first.url()).await.unwrap();
    connection.execute("alter system set shared_preload_libraries = 'pg_stat_statements'").await.unwrap();
    connection.close().await.unwrap();
    first.stop().await.unwrap();

    let server = server(home.path()).await;
    on(server.url(), &["migrate", "run"], 0);
    let mut connection = PgConnection::connect(server.url()).await.unwrap();
    connection.execute("create extension pg_stat_statements").await.unwrap();
    connection.execute("create role teller password 'hunter2'").await.unwrap();
    connection.execute("select pg_sleep(0.2), 'hunter2' as slow").await.unwrap();
    let printed = on(server.url(), &["inspect", "db", "--json"], 0);
    let report: Value = serde_json::from_str(&printed).unwrap();
    let slowest = report["slowest_statements"].as_array().unwrap();
    let slow = slowest.iter().find(|cost| cost["query"].as_str().unwrap().starts_with("select pg_sleep($1)")).unwrap();
    assert!(slow["calls"] == 1 && slow["mean_ms"].as_f64().unwrap() >= 200.0, "{slow}");
    let totals: Vec<f64> = slowest.iter().map(|cost| cost["total_ms"].as_f64().unwrap()).collect();
    assert!(totals.is_sorted_by(|a, b| a >= b), "{totals:?}");
    let shown = on(server.url(), &["inspect", "db"], 0);
    assert!(shown.contains("Slowest statements") && shown.contains("select pg_sleep($1)"), "{shown}");
    assert!(!printed.contains("hunter2") && !shown.contains("hunter2"));
    connection.close().await.unwrap();
    server.stop().await.unwrap();
}
