//! The binary as an operator meets it: exit codes, refusals, and what the commands print.

mod bench;
mod demo;
mod doctor;
mod healthcheck;
mod help;
mod inspecting_database;
mod inspection;
mod logs;
mod mistakes;
mod replaying;
mod sending;
mod serving;
mod tracing;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::database::{database, empty_database};

/// The binary without any setting of the machine's.
fn billsync(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_billsync"));
    command.env_clear().args(arguments).stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Runs on a database, expects an exit code, and returns what was printed.
pub fn on(url: &str, arguments: &[&str], exit: i32) -> String {
    let (code, printed, complaints) = run(billsync(arguments).env("DATABASE_URL", url));
    assert_eq!(code, exit, "{arguments:?}\n{printed}\n{complaints}");
    printed
}

/// Runs on a database; the exit code, what was printed, and what was complained of.
pub fn run_on(url: &str, arguments: &[&str]) -> (i32, String, String) {
    run(billsync(arguments).env("DATABASE_URL", url))
}

/// Runs without a database.
pub fn run_plain(arguments: &[&str]) -> (i32, String, String) {
    run(&mut billsync(arguments))
}

pub fn fixture(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path).display().to_string()
}

#[test]
fn alone_it_prints_help() {
    let (code, printed, _) = run(&mut billsync(&[]));
    assert_eq!(code, 0);
    for command in ["serve", "demo", "migrate", "plans", "replay", "inspect", "config"] {
        assert!(printed.contains(command), "{printed}");
    }
    assert!(!printed.contains("postgres-guard"), "{printed}");
}

#[test]
fn a_wrong_setting_is_exit_code_2_and_named_but_not_printed() {
    let cases = [
        ("BILLSYNC_LISEN", "hunter2", "is BILLSYNC_LISTEN meant?"),
        ("STRIPE_WEBHOOK_SECRET", "", "is set but empty"),
        ("CLERK_WEBHOOK_SECRETS", "whsec_hunter2!", "CLERK_WEBHOOK_SECRETS"),
        ("BILLSYNC_SIGNATURE_TOLERANCE_SECONDS", "0", "from 1"),
        ("DATABASE_URL", "hunter2", "DATABASE_URL"),
    ];
    for (name, value, expected) in cases {
        for command in ["serve", "config", "demo"] {
            let (code, _, complaints) = run(billsync(&[command]).env(name, value));
            assert_eq!(code, 2, "{name}: {complaints}");
            assert!(complaints.contains(name) && complaints.contains(expected), "{complaints}");
            assert!(!complaints.contains("hunter2"), "{complaints}");
        }
    }
}

#[test]
fn config_tells_where_each_value_comes_from_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("billsync.toml");
    std::fs::write(&file, "billsync_queue_events = 7\nstripe_webhook_secrets = [\"whsec_hunter2\"]\n").unwrap();
    let mut command = billsync(&["config", "--json", "--listen", "127.0.0.1:1", "--config"]);
    let (code, printed, _) = run(command.arg(&file).env("DATABASE_URL", "postgres://me:hunter2@db/app"));
    assert_eq!(code, 0);
    assert!(!printed.contains("hunter2"), "{printed}");
    let lines: Vec<serde_json::Value> = serde_json::from_str(&printed).unwrap();
    let line = |name: &str| {
        let line = lines.iter().find(|line| line["name"] == name).unwrap();
        (line["value"].as_str().unwrap().to_owned(), line["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(line("DATABASE_URL"), ("postgres://me:[redacted]@db/app".into(), "environment".into()));
    assert_eq!(line("BILLSYNC_LISTEN"), ("127.0.0.1:1".into(), "flag --listen".into()));
    assert_eq!(line("BILLSYNC_QUEUE_EVENTS"), ("7".into(), file.display().to_string()));
    assert_eq!(line("BILLSYNC_BODY_LIMIT_BYTES"), ("2097152".into(), "default".into()));
}

#[tokio::test]
async fn migrate_tells_what_is_pending_and_runs_it_once() {
    let database = empty_database().await;
    assert!(on(&database.url, &["migrate", "status"], 3).contains("pending"));
    // The other commands say what to do instead of failing on a table.
    let (code, _, complaints) = run(billsync(&["plans", "list"]).env("DATABASE_URL", &database.url));
    assert_eq!(code, 1);
    assert!(complaints.contains("billsync migrate run"), "{complaints}");

    assert!(on(&database.url, &["migrate", "run"], 0).starts_with("Ran "));
    assert_eq!(on(&database.url, &["migrate", "run"], 0), "The schema is up to date.\n");
    let status = on(&database.url, &["migrate", "status", "--json"], 0);
    let lines: Vec<serde_json::Value> = serde_json::from_str(&status).unwrap();
    assert!(!lines.is_empty() && lines.iter().all(|line| line["state"] == "applied"), "{status}");
}

#[tokio::test]
async fn plans_are_added_updated_and_listed() {
    let database = database().await;
    assert!(on(&database.url, &["plans", "list"], 0).contains("empty"));
    assert!(on(&database.url, &["plans", "apply", &fixture("plans.toml")], 0).contains("added glow_up"));
    assert!(on(&database.url, &["plans", "apply", &fixture("plans.toml")], 0).starts_with("0 plans changed, 4 were the same"));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plans.toml");
    let text = std::fs::read_to_string(fixture("plans.toml")).unwrap();
    std::fs::write(&file, text.replace("creators_limit = 1000\n", "creators_limit = 2000\n")).unwrap();
    let applied = on(&database.url, &["plans", "apply", &file.display().to_string(), "--json"], 0);
    let applied: serde_json::Value = serde_json::from_str(&applied).unwrap();
    assert_eq!(applied["plans"], serde_json::json!([{ "plan_key": "glow_up", "change": "updated" }]));

    let listed: Vec<serde_json::Value> = serde_json::from_str(&on(&database.url, &["plans", "list", "--json"], 0)).unwrap();
    let limits: Vec<(&str, i64)> =
        listed.iter().map(|plan| (plan["plan_key"].as_str().unwrap(), plan["creators_limit"].as_i64().unwrap())).collect();
    assert_eq!(limits, [("free", 0), ("glow_up", 2000), ("viral_surge", 10_000), ("fame_flex", -1)]);

    std::fs::write(&file, "[[plans]]\nplan_key = 1\n").unwrap();
    let (code, _, complaints) = run(billsync(&["plans", "apply"]).arg(&file).env("DATABASE_URL", &database.url));
    assert_eq!(code, 1);
    assert!(complaints.contains("plans.toml") && complaints.contains("line 2"), "{complaints}");
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_named_with_what_helps() {
    let database = empty_database().await;
    let elsewhere = database.url.replace(&database.name, "nothing_of_that_name");
    for (url, cause) in [("postgres://me:hunter2@127.0.0.1:1/nothing", "refused"), (&elsewhere, "does not exist")] {
        for arguments in [
            &["migrate", "baseline"][..],
            &["import", "user-profiles"],
            &["inspect", "db"],
            &["replay", "--failed"],
            &["plans", "list"],
        ] {
            let (code, printed, complaints) = run(billsync(arguments).env("DATABASE_URL", url));
            assert_eq!((code, printed.as_str()), (1, ""), "{arguments:?}: {complaints}");
            assert!(complaints.contains(cause) && complaints.contains("billsync doctor"), "{arguments:?}: {complaints}");
            assert!(!complaints.contains("hunter2"), "{complaints}");
        }
    }
    for arguments in [&["import", "user-profiles"][..], &["inspect", "db"], &["replay", "--failed"]] {
        let (code, _, complaints) = run(billsync(arguments).env("DATABASE_URL", &database.url));
        assert_eq!(code, 1);
        assert!(complaints.contains("billsync migrate run"), "{complaints}");
    }
}
