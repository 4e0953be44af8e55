//! What is asked wrongly: exit code 2 whoever finds it, before anything is done, in words or as JSON.

use serde_json::{Value, json};

use super::{billsync, run, run_on, run_plain};
use crate::support::database::{TestDatabase, database};

/// What a program is told of an error: the last line of the error stream.
fn told(complaints: &str) -> Value {
    let line = complaints.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {complaints}"))
}

#[test]
fn a_command_line_that_cannot_be_understood_is_exit_code_2() {
    for arguments in [
        &["serv"][..],
        &["serve", "--port", "1"],
        &["inspect", "user"],
        &["replay"],
        &["plans"],
        &["serve", "--set", "x"],
        &["healthcheck", "--timeout", "0"],
        &["healthcheck", "--url", "localhost"],
        &["users", "ensure"],
        &["users", "ensure", "user_1", "--all"],
        &["users", "link", "--customer", "cus_1"],
        &["users", "link", "--customer", "cus_1", "--nobody", "--user", "user_1"],
    ] {
        let (code, printed, complaints) = run_plain(arguments);
        assert_eq!((code, printed.as_str()), (2, ""), "{arguments:?}: {complaints}");
        assert!(complaints.contains("--help"), "{arguments:?}: {complaints}");
    }
}

#[test]
fn what_is_missing_is_named_with_all_that_would_do() {
    for (arguments, alternatives) in [
        (&["send", "--to", "http://127.0.0.1:1"][..], ["PATH", "--story"]),
        (&["replay"], ["PATH", "--failed"]),
        (&["users", "ensure"], ["ID", "--all"]),
        (&["users", "link", "--customer", "cus_1"], ["--user", "--nobody"]),
    ] {
        let (_, _, complaints) = run_plain(arguments);
        let (missing, _usage) = complaints.split_once("Usage:").unwrap();
        assert!(alternatives.iter().all(|name| missing.contains(name)), "{arguments:?}: {complaints}");
    }
}

/// What the command line or the settings ask for, and cannot be: each command finds that by itself.
fn asked_wrongly<'a>() -> Vec<(Vec<&'a str>, &'a str)> {
    let too_long = "x".repeat(501).leak();
    vec![
        (vec!["reset-usage", "--at", "2999-01-01T00:00:00Z"], "--dry-run"),
        (vec!["demo", "--exit", "--database-url", "postgres://127.0.0.1:1/app"], "the embedded database alone"),
        (vec!["man", "users", "lnik"], "billsync users --help"),
        (vec!["schedule", "run", "usage-rest"], "the tasks are clock-sweep"),
        (vec!["users", "delete", "user_1"], "add --yes"),
        (vec!["users", "ensure", "--all"], "CLERK_SECRET_KEY is not set"),
        (vec!["users", "link", "--customer", "cus_1", "--nobody", "--reason", too_long], "500 characters"),
        (vec!["reconcile", "--all"], "STRIPE_API_KEY is not set"),
        (vec!["backfill"], "neither STRIPE_API_KEY nor CLERK_SECRET_KEY is set"),
        (vec!["backfill", "--type", "customers"], "STRIPE_API_KEY is not set"),
        (
            vec!["inspect", "db", "--fix-indexes", "--set", "BILLSYNC_POOLER=transaction", "--set", "BILLSYNC_MIGRATE=false"],
            "BILLSYNC_MIGRATION_DATABASE_URL",
        ),
        (vec!["healthcheck", "--set", "BILLSYNC_LISTEN=127.0.0.1:0"], "--url"),
    ]
}

/// On that database, unless the command is given another.
fn ask(database: &TestDatabase, arguments: &[&str]) -> (i32, String, String) {
    match arguments.contains(&"--database-url") {
        true => run_plain(arguments),
        false => run_on(&database.url, arguments),
    }
}

#[tokio::test]
async fn what_only_the_command_itself_can_refuse_is_exit_code_2_too() {
    let database = database().await;
    for (arguments, expected) in asked_wrongly() {
        let (code, printed, complaints) = ask(&database, &arguments);
        assert_eq!((code, printed.as_str()), (2, ""), "{arguments:?}: {complaints}");
        assert!(complaints.contains(expected), "{arguments:?}: {complaints}");
    }
}

#[tokio::test]
async fn with_json_every_error_is_an_object_on_the_error_stream() {
    let database = database().await;
    for (mut arguments, expected) in asked_wrongly().into_iter().filter(|(arguments, _)| arguments[0] != "man") {
        arguments.push("--json");
        let (code, printed, complaints) = ask(&database, &arguments);
        assert_eq!((code, printed.as_str()), (2, ""), "{arguments:?}: {complaints}");
        let told = told(&complaints);
        assert_eq!(told["exit_code"], 2, "{arguments:?}: {complaints}");
        assert!(told["error"].as_str().is_some_and(|error| error.contains(expected)), "{arguments:?}: {complaints}");
    }

    let (code, printed, complaints) = run_plain(&["plans", "lits", "--json"]);
    assert_eq!((code, printed.as_str(), complaints.lines().count()), (2, "", 1), "{complaints}");
    let unknown = "unrecognized subcommand 'lits' tip: a similar subcommand exists: 'list'";
    assert_eq!(told(&complaints), json!({"error": unknown, "exit_code": 2}));

    let (code, printed, complaints) = run(billsync(&["plans", "list", "--json"]).env("BILLSYNC_LISEN", "hunter2"));
    assert_eq!((code, printed.as_str(), complaints.lines().count()), (2, "", 1), "{complaints}");
    assert!(!complaints.contains("hunter2"), "{complaints}");
    let told_of_settings = told(&complaints);
    assert!(told_of_settings["problems"][0].as_str().unwrap().contains("is BILLSYNC_LISTEN meant?"), "{complaints}");

    let nobody = "postgres://me:hunter2@127.0.0.1:1/nothing";
    let (code, printed, complaints) = run_on(nobody, &["plans", "list", "--json"]);
    assert_eq!((code, printed.as_str(), complaints.lines().count()), (1, "", 1), "{complaints}");
    assert!(!complaints.contains("hunter2"), "{complaints}");
    let told_of_database = told(&complaints);
    assert_eq!(told_of_database["exit_code"], 1);
    assert!(told_of_database["hint"].as_str().unwrap().contains("billsync doctor"), "{complaints}");
    let (_, _, complaints) = run_on(nobody, &["plans", "list"]);
    assert!(complaints.starts_with("error: cannot use the database"), "{complaints}");
}
