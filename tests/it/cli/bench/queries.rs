//! `bench queries`: every query has a figure, a plan and a verdict; the data set lies in a database of its own that goes away;
//! and no other database is touched.

use std::process::{Child, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cli::{billsync, run_on, run_plain};
use crate::support::database::{TestDatabase, database};
use crate::support::until;

/// A server, and the name of a database that is to be made on it. Its beginning has it dropped after a test that failed.
async fn place() -> (TestDatabase, String) {
    let server = database().await;
    let name = format!("{}_bench", server.name);
    (server, name)
}

fn arguments<'a>(name: &'a str, users: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    let given = ["bench", "queries", "--on-server", "--database", name, "--users", users, "--runs", "3"];
    [&given[..], rest].concat()
}

/// Expects an exit code, and returns what was printed and complained of.
fn bench(server: &TestDatabase, name: &str, users: &str, rest: &[&str], exit: i32) -> (String, String) {
    let arguments = arguments(name, users, rest);
    let (code, printed, complaints) = run_on(&server.url, &arguments);
    assert_eq!(code, exit, "{arguments:?}\n{printed}\n{complaints}");
    (printed, complaints)
}

async fn exists(server: &TestDatabase, name: &str) -> bool {
    server.ask::<bool>(&format!("select exists (select from pg_database where datname = '{name}')")).await
}

#[tokio::test]
async fn every_query_has_figures_and_a_plan_and_nothing_is_left_behind() {
    let (server, name) = place().await;
    let (printed, _) = bench(&server, &name, "200", &["--budget", "100000", "--json"], 0);
    let report: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((report["users"].as_u64(), report["is_met"].as_bool()), (Some(200), Some(true)));
    let queries = report["queries"].as_array().unwrap();
    assert!(queries.len() > 70, "{}", queries.len());
    for query in queries {
        let figures = &query["milliseconds"];
        assert!(figures["p50"].as_f64().unwrap() > 0.0 && figures["p50"].as_f64() <= figures["max"].as_f64(), "{query}");
        assert_eq!((&query["error"], query["runs"].as_u64()), (&Value::Null, Some(3)), "{query}");
        let plans = query["plans"].as_array().unwrap();
        assert!(query["name"] == "plans" || !plans.is_empty(), "{query}");
        for plan in plans {
            assert!(
                !plan["statement"].as_str().unwrap().is_empty() && plan["execution_milliseconds"].as_f64().is_some(),
                "{plan}"
            );
        }
    }
    let of = |name: &str| queries.iter().find(|query| query["name"] == name).unwrap();
    assert_eq!(of("campaigns: of a user")["plans"][0]["indexes"][0], "campaigns_user_id_idx");
    for first_page in ["users: newest", "campaigns: newest", "jobs: newest", "lists: newest", "events: newest"] {
        assert_eq!(of(first_page)["rows"], 51, "{first_page}");
    }
    for last_page in ["users: last page", "campaigns: last page", "jobs: last page", "events: last page"] {
        assert!(of(last_page)["rows"].as_u64().unwrap() > 40, "{last_page}");
    }
    assert_eq!(of("profile: of nobody")["rows"], 0);
    assert!(!exists(&server, &name).await);
    assert_eq!(server.ask::<i64>("select count(*) from users").await, 0);
}

#[tokio::test]
async fn a_set_that_is_kept_is_measured_again_and_goes_for_one_of_another_size() {
    let (server, name) = place().await;
    let row = ["--only", "profile: by Clerk id"];
    let (printed, complaints) = bench(&server, &name, "200", &[&row[..], &["--keep", "--budget", "0.000001"]].concat(), 3);
    assert!(printed.contains("OVER") && printed.contains("1 over their budget"), "{printed}");
    assert!(complaints.contains("making a data set of 200 users") && complaints.contains("stays in"), "{complaints}");
    assert!(exists(&server, &name).await);

    let again = [&row[..], &["--keep", "--budget", "100000", "--budget", "Clerk=99999"]].concat();
    let (printed, complaints) = bench(&server, &name, "200", &again, 0);
    assert!(printed.contains("all within their budgets") && printed.contains("99999"), "{printed}");
    assert!(complaints.contains("measuring the data set of 200 users"), "{complaints}");

    let (_, complaints) = bench(&server, &name, "201", &[&row[..], &["--budget", "100000"]].concat(), 0);
    assert!(complaints.contains("holds a data set of 200 users, which is dropped for one of 201 users"), "{complaints}");
    assert!(!exists(&server, &name).await);
}

#[tokio::test]
async fn a_database_of_somebody_else_is_refused() {
    let (server, _) = place().await;
    let other = database().await;
    other.execute("insert into users (user_id) values ('user_somebody')").await;
    let theirs = "was not made by billsync bench";
    // With and without a schema of ours, with a comment of its own, and the one that is connected to.
    for name in [&other.name, &server.name, "postgres"] {
        let (printed, complaints) = bench(&server, name, "200", &[], 1);
        assert!(printed.is_empty() && complaints.contains(theirs), "{name}: {complaints}");
    }
    assert_eq!(other.ask::<i64>("select count(*) from users where user_id = 'user_somebody'").await, 1);
    assert_eq!(server.ask::<i64>("select count(*) from users").await, 0);
}

#[test]
fn what_cannot_be_measured_is_refused_with_what_to_do() {
    let refused = |arguments: &[&str], exit: i32, expected: &str| {
        let (code, printed, complaints) = run_plain(&[&["bench", "queries"], arguments].concat());
        assert_eq!((code, printed.as_str()), (exit, ""), "{arguments:?}: {complaints}");
        assert!(complaints.contains(expected), "{arguments:?}: {complaints}");
    };
    refused(&["--users", "0"], 2, "--users");
    refused(&["--runs", "0"], 2, "--runs");
    refused(&["--budget", "x"], 2, "number of milliseconds");
    refused(&["--database", "Bench; drop"], 2, "lower-case letters");
    refused(&["--only", "nothing of that name"], 2, "no query has");
    refused(&["--budget", "dashbord=200"], 2, "no query has \"dashbord\" in its name; their names begin with");
    refused(&["--on-server"], 2, "DATABASE_URL");
    let nobody = "postgres://me:hunter2@127.0.0.1:1/app";
    let (code, _, complaints) = run_on(nobody, &["bench", "queries", "--on-server"]);
    assert_eq!(code, 1, "{complaints}");
    assert!(complaints.contains("cannot use the database server") && !complaints.contains("hunter2"), "{complaints}");
}

fn start(server: &TestDatabase, arguments: &[&str]) -> Child {
    let mut command = billsync(arguments);
    command.env("DATABASE_URL", &server.url).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

async fn interrupt(child: Child) -> (Option<i32>, String) {
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    let Output { status, stderr, .. } = ended.await.unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[tokio::test]
async fn ended_early_it_leaves_nothing_or_what_can_be_gone_on_with() {
    let (server, name) = place().await;
    let making = format!(
        "select exists (select from pg_stat_activity where datname = '{name}' and query like 'with g as%insert into public.campaigns%')"
    );

    let child = start(&server, &arguments(&name, "20000", &[]));
    until("rows are made", async || server.ask::<bool>(&making).await).await;
    // One at a time.
    let (_, complaints) = bench(&server, &name, "200", &[], 1);
    assert!(complaints.contains("another bench uses the database"), "{complaints}");
    let (code, complaints) = interrupt(child).await;
    assert_eq!(code, Some(1), "{complaints}");
    assert!(complaints.contains("SIGINT: ended early. Nothing is left of it"), "{complaints}");
    assert!(!exists(&server, &name).await);

    let row = ["--keep", "--only", "plans", "--budget", "100000"];
    let child = start(&server, &arguments(&name, "5000", &row));
    until("rows are made", async || server.ask::<bool>(&making).await).await;
    let (code, complaints) = interrupt(child).await;
    assert_eq!(code, Some(1), "{complaints}");
    assert!(complaints.contains("Run the same command again to go on"), "{complaints}");
    let (_, complaints) = bench(&server, &name, "5000", &row, 0);
    assert!(complaints.contains("going on with the data set of 5000 users"), "{complaints}");
    bench(&server, &name, "5000", &row[1..], 0);
    assert!(!exists(&server, &name).await);
}
