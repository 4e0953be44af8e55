//! What `serve` logs of requests that it refuses: one line each, at a level that fits, and nothing of what was sent.

use crate::http::client::{CLERK_SECRET, Connection, exchange, get, post, stripe_signature};
use crate::support::database::database;
use crate::support::service::Service;
use crate::support::wait::until;
use billsync::clock::Clock;

/// The log lines about requests, as (level, message).
fn lines(service: &Service) -> Vec<(String, String)> {
    let log = service.log();
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let told = lines.map(|line| (line["level"].as_str().unwrap().to_owned(), line["message"].as_str().unwrap().to_owned()));
    // What it says before it serves is another matter.
    told.skip_while(|(_, message)| !message.starts_with("listening on")).skip(1).collect()
}

#[tokio::test]
async fn a_refused_request_is_one_line_and_garbage_none() {
    let database = database().await;
    let service = Service::start(&[("DATABASE_URL", &database.url)]).await;
    let address = service.address;
    let body = r#"{"hunter2":"payload"}"#;
    exchange(address, post("/webhooks/stripe", "", body)).await.problem(400);
    exchange(address, post("/webhooks/stripe", &stripe_signature(body, Clock::System.now().timestamp()), body))
        .await
        .problem(400);
    exchange(address, post("/webhooks/stripe", "Content-Type: a\r\n", vec![b'x'; 3_000_000])).await.problem(413);
    get(address, "/webhook/stripe?token=hunter2").await.problem(404);
    get(address, "/webhooks/stripe").await.problem(405);
    let mut connection = Connection::open(address).await;
    connection.send("\u{16}\u{3}\u{1} no HTTP at all\r\n\r\n").await;
    connection.answer().await;
    until("every refusal is logged", async || lines(&service).len() >= 5).await;
    let expected = [
        ("WARN", "refused a signature"),
        ("WARN", "signed, but not an event"),
        ("WARN", "did not take a webhook's body"),
        ("INFO", "refused a request"),
        ("INFO", "refused a request"),
    ];
    let expected = expected.map(|(level, message)| (level.to_owned(), message.to_owned()));
    assert_eq!(lines(&service), expected);
    assert!(!service.log().contains("hunter2") && !service.log().contains(CLERK_SECRET), "{}", service.log());
}

#[tokio::test]
async fn a_probe_that_finds_the_database_refusing_is_no_error_of_its_own() {
    let database = database().await;
    let service = Service::start(&[("DATABASE_URL", &database.url)]).await;
    database.execute("alter table billsync.webhook_events rename to gone").await;
    let event = crate::support::events::customer_created(1, Clock::System.now());
    assert_eq!(exchange(service.address, event.request(Clock::System.now())).await.status, 503);
    for _ in 0..20 {
        assert_eq!(get(service.address, "/readyz").await.status, 503);
    }
    let told = lines(&service);
    assert!(told.iter().all(|(_, message)| !message.contains("request")), "{told:?}");
    let errors = told.iter().filter(|(level, _)| level == "ERROR").count();
    assert!((1..=3).contains(&errors), "one cause, repeated every five seconds at most: {told:?}");
    database.execute("alter table billsync.gone rename to webhook_events").await;
}
