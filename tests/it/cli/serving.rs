//! `serve`: what it says when it starts, what it answers, how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};

use super::billsync;
use crate::http::client::get;
use crate::support::database::{database, empty_database};
use crate::support::wait::until;

/// What a migration holds while it runs.
const MIGRATOR_LOCK: i64 = 0x6273_6d69;

/// A running `serve`, and what it has logged so far.
struct Serving {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    logged: Vec<serde_json::Value>,
}

impl Serving {
    fn start(url: &str, settings: &[(&str, &str)]) -> Serving {
        let mut command = billsync(&["serve", "--listen", "127.0.0.1:0"]);
        command.env("DATABASE_URL", url).envs(settings.iter().copied()).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Serving { child, log, logged: Vec::new() }
    }

    /// Reads the log up to the line that names the address, and returns that.
    fn address(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "it ended before it served: {:?}", self.logged);
            self.logged.push(serde_json::from_str(&line).unwrap());
            let message = self.logged.last().unwrap()["message"].as_str().unwrap_or_default();
            if let Some(address) = message.strip_prefix("listening on http://") {
                return address.to_owned();
            }
        }
    }

    fn has_logged(&self, text: &str) -> bool {
        self.logged.iter().any(|line| line.to_string().contains(text))
    }

    /// Ends it as a supervisor does, and returns its exit code and the rest of its log.
    fn terminate(mut self) -> (i32, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code().unwrap(), rest)
    }
}

fn status_of(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_whitespace().nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn it_migrates_warns_serves_and_ends_on_sigterm() {
    let database = empty_database().await;
    let mut serving = Serving::start(&database.url, &[("STRIPE_WEBHOOK_SECRET", "whsec_hunter2")]);
    let address = serving.address();
    for expected in
        ["the plan catalog is empty", "billsync plans apply", "CLERK_WEBHOOK_SECRETS is not set", "\"stripe\":\"mounted\""]
    {
        assert!(serving.has_logged(expected), "no {expected:?} in {:?}", serving.logged);
    }
    assert!(!serving.has_logged("hunter2"));
    assert_eq!(status_of(&address, "GET /readyz"), "200");
    assert_eq!(status_of(&address, "POST /webhooks/stripe"), "400");
    assert_eq!(status_of(&address, "POST /webhooks/clerk"), "404");
    let (code, log) = serving.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("SIGTERM: ending") && log.contains("everything that was accepted is in the ledger"), "{log}");
}

#[tokio::test]
async fn without_migrating_it_expects_a_schema() {
    let empty = empty_database().await;
    let mut refused = Serving::start(&empty.url, &[("BILLSYNC_MIGRATE", "false")]);
    let mut log = String::new();
    refused.log.read_to_string(&mut log).unwrap();
    assert_eq!(refused.child.wait().unwrap().code(), Some(1));
    assert!(log.contains("billsync migrate run"), "{log}");

    let migrated = database().await;
    let mut serving = Serving::start(&migrated.url, &[("BILLSYNC_MIGRATE", "false")]);
    serving.address();
    assert_eq!(serving.terminate().0, 0);
}

#[tokio::test]
async fn a_signal_during_the_start_ends_it_in_order() {
    // Another migration holds the lock, so the start waits.
    let database = empty_database().await;
    let mut session = database.connect().await;
    sqlx::query("select pg_advisory_lock($1)").bind(MIGRATOR_LOCK).execute(&mut session).await.unwrap();
    let serving = Serving::start(&database.url, &[]);
    until("serve waits for the other migration", async || {
        // It asks again and again, rather than wait in a statement.
        let asked = "select exists (select from pg_stat_activity where query like '%pg_try_advisory_lock%' \
                     and datname = current_database() and pid <> pg_backend_pid())";
        database.ask::<bool>(asked).await
    })
    .await;
    let (code, log) = serving.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("SIGTERM: ended before it served"), "{log}");
}

#[tokio::test]
async fn a_database_that_is_away_and_a_port_that_is_taken_are_told() {
    let mut refused = Serving::start("postgres://me:hunter2@127.0.0.1:1/nothing", &[]);
    let mut log = String::new();
    refused.log.read_to_string(&mut log).unwrap();
    assert_eq!(refused.child.wait().unwrap().code(), Some(1));
    assert!(log.contains("cannot use the database") && !log.contains("hunter2"), "{log}");
    assert!(log.to_lowercase().contains("connection refused") && !log.contains("became free"), "{log}");

    let database = database().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = billsync(&["serve", "--listen", &address]).env("DATABASE_URL", &database.url).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert!(complaints.contains(&address) && complaints.contains("BILLSYNC_LISTEN"), "{complaints}");
    assert_eq!(complaints.matches("os error").count(), 1, "{complaints}");
}

#[test]
fn a_taken_port_is_told_before_a_database_is_made_and_a_wrong_home_by_its_setting() {
    let home = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = billsync(&["serve", "--listen", &address]).env("BILLSYNC_HOME", home.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "no cluster was made for nothing");

    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = billsync(&["plans", "list"]).env("BILLSYNC_HOME", &file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert!(complaints.contains("BILLSYNC_HOME") && complaints.contains(&file.display().to_string()), "{complaints}");
    assert_eq!(complaints.matches("os error").count(), 1, "{complaints}");
}

#[tokio::test]
async fn the_age_of_the_newest_event_is_known_before_the_first_one() {
    let database = database().await;
    database
        .execute(
            "insert into billsync.webhook_events (provider, event_id, event_type, occurred_at, received_at, source, outcome) \
             values ('stripe', 'evt_1', 'invoice.paid', now() - interval '1 hour', now(), 'webhook', 'applied'), \
                    ('stripe', 'evt_2', 'invoice.paid', now(), now(), 'reconcile', 'applied')",
        )
        .await;
    let mut serving = Serving::start(&database.url, &[]);
    let address: SocketAddr = serving.address().parse().unwrap();
    let mut age = None;
    until("the age is shown", async || {
        let metrics = get(address, "/metrics").await.body;
        let line = metrics.lines().find(|line| line.starts_with(r#"billsync_newest_event_age_seconds{provider="stripe"}"#));
        age = line.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
        assert!(!metrics.contains(r#"billsync_newest_event_age_seconds{provider="clerk"}"#), "nothing is known of Clerk");
        age.is_some()
    })
    .await;
    assert!(age.is_some_and(|age| age >= 3600.0), "what reconcile wrote was not delivered: {age:?}");
    assert_eq!(serving.terminate().0, 0);
}
