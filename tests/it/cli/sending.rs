//! `send`: signed deliveries to a running server, what it says of the answers, and what of mistakes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use serde_json::Value;

use super::{billsync, fixture, run};
use crate::http::client::{CLERK_SECRET, STRIPE_SECRET};
use crate::support::database::database;
use crate::support::service::Service;

/// Runs `send` with the secrets of [`Service`], expects an exit code, and returns what was printed and complained of.
fn send(arguments: &[&str], exit: i32) -> (String, String) {
    let mut command = billsync(&[&["send"], arguments].concat());
    command.env("STRIPE_WEBHOOK_SECRETS", STRIPE_SECRET).env("CLERK_WEBHOOK_SECRETS", CLERK_SECRET);
    let (code, printed, complaints) = run(&mut command);
    assert_eq!(code, exit, "{arguments:?}\n{printed}\n{complaints}");
    (printed, complaints)
}

fn send_json(arguments: &[&str], exit: i32) -> Value {
    serde_json::from_str(&send(&[arguments, &["--json"]].concat(), exit).0).unwrap()
}

#[tokio::test]
async fn stories_and_shuffled_files_end_in_rows() {
    let database = database().await;
    let service = Service::start(&[("DATABASE_URL", &database.url)]).await;
    let to = format!("http://{}/webhooks/stripe", service.address);
    let sent = send_json(&["--story", "all", "--to", &to, "--concurrency", "4"], 0);
    assert_eq!(sent["answers"]["applied"]["events"].as_u64().unwrap() + unlinked(&sent), sent["deliveries"].as_u64().unwrap());
    assert_eq!(database.ask::<i64>("select count(*) from users where email like '%@example.com'").await, 6);

    let journey = fixture("journeys/trial_to_paid");
    let events = std::fs::read_dir(&journey).unwrap().count() as u64 - 2;
    let shuffled = ["--to", &to, "--shuffle", "--seed", "7", "--duplicate", "2", "--rate", "1000", &journey];
    let sent = send_json(&shuffled, 0);
    assert_eq!(sent["deliveries"].as_u64(), Some(3 * events));
    assert_eq!(sent["answers"]["duplicate"]["events"].as_u64(), Some(2 * events));
    assert_eq!(
        database
            .ask::<String>(
                "select trial_status from user_subscriptions s join users u on u.id = s.user_id where u.user_id = 'user_ada'"
            )
            .await,
        "converted"
    );
    let (table, _) = send(&["--to", &to, &journey], 0);
    assert!(table.contains("duplicate") && table.contains(&format!("{events} events in")), "{table}");
}

fn unlinked(sent: &Value) -> u64 {
    ["unlinked", "stale"].iter().filter_map(|outcome| sent["answers"][outcome]["events"].as_u64()).sum()
}

#[tokio::test]
async fn fresh_events_are_nobodys_duplicates_and_have_just_happened() {
    let database = database().await;
    let service = Service::start(&[("DATABASE_URL", &database.url)]).await;
    let to = format!("http://{}", service.address);
    for _ in 0..2 {
        let sent = send_json(&["--fresh-ids", "--fresh-times", "--to", &to, &fixture("journeys/trial_to_paid")], 0);
        assert!(sent["answers"].get("duplicate").is_none(), "{sent}");
    }
    assert_eq!(database.ask::<i64>("select count(*) from users").await, 2);
    assert_eq!(database.ask::<i64>("select count(*) from user_billing where stripe_customer_id like 'cus_ada_%'").await, 2);
    let newest = "select max(occurred_at) between now() - interval '10 minutes' and now() from billsync.webhook_events";
    assert!(database.ask::<bool>(newest).await);
}

#[tokio::test]
async fn a_wrong_secret_a_missing_route_and_a_failed_event_are_told_with_what_helps() {
    let database = database().await;
    let service = Service::start(&[("DATABASE_URL", &database.url)]).await;
    let to = format!("http://{}", service.address);
    let mut command = billsync(&["send", "--story", "eve", "--to", &to]);
    command.env("STRIPE_WEBHOOK_SECRETS", "whsec_hunter2").env("CLERK_WEBHOOK_SECRETS", "whsec_aHVudGVyMg==");
    let (code, printed, complaints) = run(&mut command);
    assert_eq!(code, 1, "{complaints}");
    assert!(printed.contains("refused with 400") && complaints.contains("the values that the server has"), "{complaints}");
    assert!(!complaints.contains("hunter2"), "{complaints}");

    let elsewhere = format!("{to}/nowhere");
    let (_, complaints) = send(&["--story", "eve", "--to", &elsewhere], 1);
    assert!(complaints.contains("refused with 404") && complaints.contains("another server's address"), "{complaints}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("event.json");
    let event = r#"{"id":"evt_1","object":"event","type":"invoice.paid","created":1767604200,"data":{"object":{"id":"in_1","object":"invoice"}}}"#;
    std::fs::write(&file, event).unwrap();
    let (printed, complaints) = send(&["--to", &to, file.to_str().unwrap()], 1);
    assert!(printed.contains("failed") && complaints.contains("invoice.paid: taken as failed"), "{complaints}");
}

#[test]
fn what_cannot_be_sent_is_told_before_anything_is() {
    let nobody = "http://127.0.0.1:1";
    let (_, complaints) = send(&["--story", "ada", "--to", nobody], 1);
    assert!(complaints.contains("127.0.0.1:1/ does not answer: is the server running"), "{complaints}");
    let (_, complaints) = send(&["--story", "zoe", "--to", nobody], 2);
    assert!(complaints.contains("there are ada, ben"), "{complaints}");
    let (_, complaints) = send(&["--story", "ada", "--to", "localhost"], 2);
    assert!(complaints.contains("is no address of a server"), "{complaints}");
    let (_, complaints) = send(&["--to", nobody], 2);
    assert!(complaints.contains("--story <NAME>"), "{complaints}");
    for rate in ["0", "1e-300", "1e300", "NaN"] {
        send(&["--story", "ada", "--to", nobody, "--rate", rate], 2);
    }
    let (_, complaints) = send(&["--story", "ada", "--to", "http://me:hunter2@127.0.0.1:1/?key=hunter3"], 1);
    assert!(complaints.contains("127.0.0.1:1/ does not answer") && !complaints.contains("hunter"), "{complaints}");
    let (_, complaints) = send(&["--story", "ada", "--to", nobody, "--concurrency", "0"], 2);
    assert!(complaints.contains("a whole number from 1"), "{complaints}");

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("broken.json"), "{\"id\": \"evt_1\",\n  \"type\": }").unwrap();
    let (_, complaints) = send(&["--to", nobody, &path("broken.json")], 1);
    assert!(complaints.contains("broken.json:2:11: expected value"), "{complaints}");
    std::fs::write(path("broken.json"), "{\"hello\": 1}").unwrap();
    let (_, complaints) = send(&["--to", nobody, &path("broken.json")], 1);
    assert!(complaints.contains("not an event of Stripe's or Clerk's"), "{complaints}");
    let (_, complaints) = send(&["--to", nobody, &folder.path().display().to_string()], 1);
    assert!(complaints.contains("there is no event"), "{complaints}");
    let (_, complaints) = send(&["--to", nobody, &path("none.json")], 1);
    assert!(complaints.contains("none.json"), "{complaints}");

    let (code, _, complaints) = run(billsync(&["send", "--story", "ada", "--to", nobody]).current_dir(folder.path()));
    assert_eq!(code, 2);
    assert!(complaints.contains("STRIPE_WEBHOOK_SECRETS") && complaints.contains("CLERK_WEBHOOK_SECRETS"), "{complaints}");
}

#[test]
fn a_server_that_is_not_billsync_has_not_taken_anything() {
    for answer in ["<html>", "{}", "{\"outcome\": \"\\u001b[31mowned\"}"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 65536];
            let _begun = stream.read(&mut request).unwrap();
            let length = answer.len();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}").unwrap();
            // What has not been read when it closes would take the answer along.
            while stream.read(&mut request).is_ok_and(|length| length > 0) {}
        });
        let (_, complaints) = send(&["--story", "ada", "--to", &address], 1);
        assert!(complaints.contains("is not billsync") && !complaints.contains('\u{1b}'), "{complaints}");
        serving.join().unwrap();
    }
}

/// A server that answers so many requests with 503, then with 200, and returns the signatures that it got.
fn moody_server(refusals: usize) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let mut signatures = Vec::new();
        for number in 0..=refusals {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let (name, value) = line.trim().split_once(':').unwrap_or_default();
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.trim().parse().unwrap(),
                    "stripe-signature" => signatures.push(value.trim().to_owned()),
                    _ => {}
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            reader.read_exact(&mut vec![0; length]).unwrap();
            let (status, body) =
                if number < refusals { ("503 Service Unavailable", "{}") } else { ("200 OK", r#"{"outcome":"applied"}"#) };
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
        signatures
    });
    (address, serving)
}

#[test]
fn a_delivery_that_is_not_taken_is_repeated_with_a_signature_of_its_own_time() {
    let (to, serving) = moody_server(2);
    let event = fixture("journeys/trial_to_paid/02_customer.created.json");
    let sent = send_json(&["--to", &to, "--time-scale", "1000", &event], 0);
    assert_eq!(sent["answers"]["applied"]["attempts"], 3, "{sent}");
    assert_eq!(serving.join().unwrap().len(), 3);

    let (to, serving) = moody_server(1);
    let sent = send_json(&["--to", &to, "--attempts", "1", &event], 1);
    assert_eq!(sent["complaints"][0]["status"], 503, "{sent}");
    std::net::TcpStream::connect(to.trim_start_matches("http://")).unwrap().write_all(b"\r\n").unwrap();
    serving.join().unwrap();
}
