//! `bench ingest`: every event that it tells of is in the server's ledger, and mistakes are told before there are thousands.

use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cli::{billsync, run};
use crate::http::client::{CLERK_SECRET, STRIPE_SECRET};
use crate::support::database::{TestDatabase, database};
use crate::support::service::Service;
use crate::support::until;

fn command(arguments: &[&str]) -> Command {
    let mut command = billsync(&[&["bench", "ingest"], arguments].concat());
    command.env("STRIPE_WEBHOOK_SECRETS", STRIPE_SECRET).env("CLERK_WEBHOOK_SECRETS", CLERK_SECRET);
    command
}

/// Expects an exit code, and returns what was printed and complained of.
fn bench(arguments: &[&str], exit: i32) -> (String, String) {
    let (code, printed, complaints) = run(&mut command(arguments));
    assert_eq!(code, exit, "{arguments:?}\n{printed}\n{complaints}");
    (printed, complaints)
}

async fn ledger_rows(database: &TestDatabase) -> u64 {
    database.ask::<i64>("select count(*) from billsync.webhook_events").await as u64
}

#[tokio::test]
async fn what_is_told_to_be_taken_is_in_the_ledger_and_is_marked_as_made_up() {
    let database = database().await;
    let service = Service::start(&[("DATABASE_URL", &database.url)]).await;
    let to = format!("http://{}/webhooks/stripe", service.address);
    let (printed, complaints) = bench(&["--to", &to, "--users", "5", "--count", "40", "--concurrency", "4", "--json"], 0);
    assert!(complaints.contains("writing 5 made-up users"), "{complaints}");
    let report: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((report["events"].as_u64(), report["users"].as_u64()), (Some(40), Some(5)), "{report}");
    let answers = report["answers"].as_array().unwrap();
    assert!(answers.iter().all(|line| line["status"] == 200), "{report}");
    assert_eq!(answers.iter().map(|line| line["events"].as_u64().unwrap()).sum::<u64>(), 40);
    assert!(report["taken_per_second"].as_f64().unwrap() > 0.0 && report["milliseconds"]["p99"].as_f64().unwrap() > 0.0);

    assert_eq!(ledger_rows(&database).await, 5 * 4 + 40);
    let strangers = "select count(*) from billsync.webhook_events where event_id !~ '^(evt|msg)_bench_' or livemode";
    assert_eq!(database.ask::<i64>(strangers).await, 0);
    let linked = "select count(*) from users u join user_billing b on b.user_id = u.id \
        where u.user_id like 'user_bench_%' and b.stripe_customer_id like 'cus_bench_%' and u.email like 'bench.%@example.com'";
    assert_eq!(database.ask::<i64>(linked).await, 5);
}

#[tokio::test]
async fn a_budget_that_is_missed_is_a_difference() {
    let database = database().await;
    let service = Service::start(&[("DATABASE_URL", &database.url)]).await;
    let to = format!("http://{}", service.address);
    let measured = ["--to", &to, "--users", "3", "--duration", "1"];
    let (printed, _) = bench(&[&measured[..], &["--min-rate", "1000000000", "--max-p99", "600000"]].concat(), 3);
    assert!(printed.contains("1000000000 events a second: MISSED") && printed.contains("600000 ms: ok"), "{printed}");
    let (printed, _) = bench(&[&measured[..], &["--max-p99", "0.000001"]].concat(), 3);
    assert!(printed.contains("0.000001 ms: MISSED"), "{printed}");
    let (printed, _) = bench(&[&measured[..], &["--min-rate", "0.001", "--max-p99", "600000"]].concat(), 0);
    assert!(printed.contains("events a second: ") && printed.contains("Budget: at least"), "{printed}");
}

#[tokio::test]
async fn ended_early_it_tells_of_every_event_that_was_taken() {
    let database = database().await;
    let service = Service::start(&[("DATABASE_URL", &database.url)]).await;
    let to = format!("http://{}", service.address);
    let mut command = command(&["--to", &to, "--users", "3", "--duration", "600", "--concurrency", "4", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("it measures", async || ledger_rows(&database).await > 30).await;
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let Output { status, stdout, stderr } = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    let complaints = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{complaints}");
    assert!(complaints.contains("SIGINT: ended early"), "{complaints}");
    let report: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(ledger_rows(&database).await, 3 * 4 + report["events"].as_u64().unwrap(), "{report}");
    assert_eq!(report["ended_early"], "SIGINT: ended early");
}

#[tokio::test]
async fn a_wrong_secret_or_address_is_told_at_the_first_event() {
    let database = database().await;
    let service = Service::start(&[("DATABASE_URL", &database.url)]).await;
    let to = format!("http://{}", service.address);
    let mut wrong = command(&["--to", &to]);
    wrong.env("CLERK_WEBHOOK_SECRETS", "whsec_aHVudGVyMg==");
    let (code, printed, complaints) = run(&mut wrong);
    assert_eq!((code, printed.as_str()), (1, ""), "{complaints}");
    assert!(complaints.contains("the values that the server has") && !complaints.contains("aHVudGVy"), "{complaints}");
    assert_eq!(ledger_rows(&database).await, 0);

    let (_, complaints) = bench(&["--to", &format!("{to}/nowhere")], 1);
    assert!(complaints.contains("refused with 404") && complaints.contains("another server's address"), "{complaints}");
    let (_, complaints) = bench(&["--to", "http://127.0.0.1:1"], 1);
    assert!(complaints.contains("127.0.0.1:1/ does not answer: is the server running"), "{complaints}");
}

#[test]
fn what_cannot_be_measured_is_refused_before_anything_is_sent() {
    let nobody = "http://127.0.0.1:1";
    for wrong in [
        &["--users", "0"][..],
        &["--concurrency", "0"],
        &["--concurrency", "901"],
        &["--count", "0"],
        &["--duration", "0"],
        &["--count", "5", "--duration", "5"],
        &["--min-rate", "0"],
        &["--max-p99", "NaN"],
    ] {
        bench(&[&["--to", nobody], wrong].concat(), 2);
    }
    bench(&[], 2);
    let (_, complaints) = bench(&["--to", "localhost"], 2);
    assert!(complaints.contains("is no address of a server"), "{complaints}");
    // An address that is reserved for documentation.
    let (_, complaints) = bench(&["--to", "http://192.0.2.1"], 2);
    assert!(complaints.contains("is not on this machine: add --yes to write 1000 made-up users"), "{complaints}");

    let folder = tempfile::tempdir().unwrap();
    let (code, _, complaints) = run(billsync(&["bench", "ingest", "--to", nobody]).current_dir(folder.path()));
    assert_eq!(code, 2, "{complaints}");
    assert!(complaints.contains("STRIPE_WEBHOOK_SECRETS") && complaints.contains("CLERK_WEBHOOK_SECRETS"), "{complaints}");
}
