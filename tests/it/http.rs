//! What a sender is told, over real sockets, in front of a scripted database.

pub mod client;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use billsync::clock::Clock;
use billsync::domain::event::{Event, Outcome};
use billsync::domain::rules::Rules;
use billsync::domain::signature::standard_webhooks::ClerkSecret;
use billsync::domain::signature::stripe::StripeSecret;
use billsync::http::server::{self, Server, ServerOptions};
use billsync::ingest::committer::{Committer, Options, Transactions};
use billsync::ingest::transaction::{BatchError, Receipt};
use billsync::metrics;
use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;

use client::{CLERK_SECRET, Connection, STRIPE_SECRET, clerk_signature, exchange, get, post, post_chunked, stripe_signature};

const NOW: i64 = 1_700_000_000;

/// A database that commits whatever it gets, once it is let.
#[derive(Clone)]
struct Database {
    may_commit: Arc<Semaphore>,
    is_down: Arc<Mutex<bool>>,
    events: Arc<Mutex<Vec<Event>>>,
    waiting: Arc<AtomicUsize>,
}

impl Database {
    fn down(&self, is_down: bool) {
        *self.is_down.lock().unwrap() = is_down;
    }

    fn ids(&self) -> Vec<String> {
        self.events.lock().unwrap().iter().map(|event| event.id.clone()).collect()
    }

    fn answer<T>(&self, accepted: T) -> Result<T, BatchError> {
        if *self.is_down.lock().unwrap() { Err(BatchError::Unavailable("scripted".into())) } else { Ok(accepted) }
    }
}

impl Transactions for Database {
    async fn commit(&self, events: &[Arc<Event>]) -> Result<Vec<Receipt>, BatchError> {
        self.waiting.fetch_add(events.len(), Ordering::SeqCst);
        let _turn = self.may_commit.acquire().await.unwrap();
        self.answer(())?;
        self.events.lock().unwrap().extend(events.iter().map(|event| Event::clone(event)));
        Ok(events.iter().map(|_event| Receipt { outcome: Outcome::Applied, reason: None }).collect())
    }

    async fn commit_failed(&self, _event: &Event, reason: &str) -> Result<Receipt, BatchError> {
        Ok(Receipt { outcome: Outcome::Failed, reason: Some(reason.to_owned()) })
    }

    async fn probe(&self) -> Result<(), BatchError> {
        self.answer(())
    }
}

struct Running {
    server: Server,
    database: Database,
    address: SocketAddr,
}

fn options() -> ServerOptions {
    ServerOptions {
        listen: "127.0.0.1:0".into(),
        stripe_secrets: vec![StripeSecret::parse(STRIPE_SECRET).unwrap().secret],
        clerk_secrets: vec![ClerkSecret::parse(CLERK_SECRET).unwrap().secret],
        ..ServerOptions::default()
    }
}

fn serve(server_options: ServerOptions, committer_options: Options) -> Running {
    metrics::install();
    let database = Database {
        may_commit: Arc::new(Semaphore::new(100)),
        is_down: Arc::default(),
        events: Arc::default(),
        waiting: Arc::default(),
    };
    let committer = Committer::start_with(database.clone(), committer_options);
    let clock = Clock::manual(DateTime::<Utc>::from_timestamp(NOW, 0).unwrap());
    let server = server::build(server_options, committer, Arc::new(Rules::default()), clock).unwrap();
    let address = server.addresses()[0];
    Running { server, database, address }
}

fn start() -> Running {
    serve(options(), Options::default())
}

fn stripe_body(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","object":"event","type":"customer.updated","created":{NOW},"livemode":false,
        "data":{{"object":{{"id":"cus_1","object":"customer","created":{NOW}}}}}}}"#
    )
}

fn stripe_post(id: &str) -> Vec<u8> {
    let body = stripe_body(id);
    post("/webhooks/stripe", &stripe_signature(&body, NOW), &body)
}

/// Waits for a condition, with a deadline.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn a_signed_event_is_acknowledged_with_its_outcome() {
    let running = start();
    let answer = exchange(running.address, stripe_post("evt_1")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"outcome":"applied"}"#), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = r#"{"type":"user.created","object":"event","timestamp":1700000000000,"data":{"id":"user_1","object":"user"}}"#;
    let request = post("/webhooks/clerk", &clerk_signature("msg_1", body, NOW), body);
    assert_eq!(exchange(running.address, request).await.body, r#"{"outcome":"applied"}"#);
    assert_eq!(running.database.ids(), ["evt_1", "msg_1"]);
}

#[tokio::test]
async fn every_answer_names_a_request_id_of_our_own() {
    let running = start();
    let body = stripe_body("evt_1");
    let headers = format!("X-Request-Id: forged\r\n{}", stripe_signature(&body, NOW));
    let mut ids = Vec::new();
    for request in [post("/webhooks/stripe", &headers, &body), post("/webhooks/stripe", "", "x"), post("/nowhere", "", "")] {
        let answer = exchange(running.address, request).await;
        ids.push(uuid::Uuid::parse_str(answer.header("x-request-id").unwrap()).unwrap());
    }
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
}

#[tokio::test]
async fn a_refused_signature_is_a_400_that_says_why_and_keeps_nothing() {
    let running = start();
    let body = stripe_body("evt_1");
    let cases = [
        (String::new(), "signature: no stripe-signature header"),
        ("Stripe-Signature: nonsense\r\n".to_owned(), "signature: malformed stripe-signature header"),
        (stripe_signature("other", NOW), "signature: the signature matches no configured secret"),
        (stripe_signature(&body, NOW - 301), "signature: signed 301 s behind our clock"),
        (stripe_signature(&body, NOW + 301), "signature: signed 301 s ahead of our clock"),
    ];
    for (headers, detail) in cases {
        let answer = exchange(running.address, post("/webhooks/stripe", &headers, &body)).await;
        assert_eq!(answer.problem(400), detail);
        assert!(!answer.body.contains("v1"), "nothing of the signature is repeated");
    }
    assert!(running.database.ids().is_empty());
    let metrics = get(running.address, "/metrics").await.body;
    for reason in ["missing", "malformed", "mismatch", "stale"] {
        let series = format!(r#"billsync_signature_failures_total{{provider="stripe",reason="{reason}"}}"#);
        assert!(metrics.contains(&series), "{series} in {metrics}");
    }
}

#[tokio::test]
async fn what_is_signed_but_no_event_is_a_400_too() {
    let running = start();
    for body in ["", "not json", "[]", "{}", "null", r#"{"id":1,"object":"event"}"#, "\u{0}", r#"{"id":"evt_1","object":"event""#]
    {
        let request = post("/webhooks/stripe", &stripe_signature(body, NOW), body);
        let detail = exchange(running.address, request).await.problem(400);
        assert!(detail.starts_with("malformed event"), "{body:?}: {detail}");
        let request = post("/webhooks/clerk", &clerk_signature("msg_1", body, NOW), body);
        let detail = exchange(running.address, request).await.problem(400);
        assert!(detail.starts_with("malformed event"), "{body:?}: {detail}");
    }
    let invalid_utf8 =
        [b"{\"id\":\"evt_1\xff\",\"object\":\"event\",\"type\":\"a.b\",\"created\":1,\"data\":{\"object\":{}}}".as_slice()]
            .concat();
    let request = post("/webhooks/stripe", &stripe_signature(&invalid_utf8, NOW), &invalid_utf8);
    exchange(running.address, request).await.problem(400);
    assert!(running.database.ids().is_empty());
}

#[tokio::test]
async fn an_id_that_cannot_be_kept_exactly_is_no_id() {
    let running = start();
    let long = "x".repeat(256);
    for id in [r"evt_\ud800", r"evt_\udc00x", r"evt_\u0000", "evt_\u{fffd}", &long] {
        let body = stripe_body(id);
        let answer = exchange(running.address, post("/webhooks/stripe", &stripe_signature(&body, NOW), &body)).await;
        assert!(answer.problem(400).starts_with("malformed event: id: "), "{id}: {answer:?}");
    }
    for (field, value) in [("type", format!("\"{long}\"")), ("account", "5".to_owned())] {
        let body = stripe_body("evt_1").replacen('{', &format!("{{\"{field}\":{value},"), 1);
        let body = if field == "type" { body.replacen(r#""type":"customer.updated","#, "", 1) } else { body };
        let answer = exchange(running.address, post("/webhooks/stripe", &stripe_signature(&body, NOW), &body)).await;
        assert!(answer.problem(400).starts_with(&format!("malformed event: {field}: ")), "{field}: {answer:?}");
    }
    let body = r#"{"type":"user.created","object":"event","timestamp":1700000000000,"data":{"id":"user_1","object":"user"}}"#;
    for id in ["msg_é", "msg_\t1", &long] {
        let request = post("/webhooks/clerk", &clerk_signature(id, body, NOW), body);
        assert_eq!(exchange(running.address, request).await.problem(400), "signature: malformed svix-id header", "{id}");
    }
    assert!(running.database.ids().is_empty());
}

#[tokio::test]
async fn what_an_alert_is_on_is_counted_from_zero_and_the_queue_from_what_waits() {
    let running = start();
    assert_eq!(exchange(running.address, stripe_post("evt_1")).await.status, 200);
    let metrics = get(running.address, "/metrics").await.body;
    for series in [
        r#"billsync_signature_failures_total{provider="clerk",reason="no_signature"}"#,
        r#"billsync_events_total{provider="stripe",type="invoice.paid",outcome="failed"}"#,
        r#"billsync_events_total{provider="clerk",type="other",outcome="failed"}"#,
    ] {
        assert!(metrics.contains(series), "{series} in {metrics}");
    }
    assert!(metrics.contains("billsync_queue_events 0\n"), "{metrics}");
}

#[tokio::test]
async fn other_methods_are_refused_by_name_and_other_paths_do_not_exist() {
    let running = start();
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        for path in ["/webhooks/stripe", "/webhooks/clerk"] {
            let answer = exchange(running.address, format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
            answer.problem(405);
            assert_eq!(answer.header("allow"), Some("POST"), "{method} {path}");
        }
    }
    let answer = exchange(running.address, post("/healthz", "", "")).await;
    answer.problem(405);
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    for path in ["/", "/webhooks", "/webhooks/stripe/", "/webhooks/paypal", "//webhooks/stripe", "/../etc/passwd"] {
        get(running.address, path).await.problem(404);
    }
}

#[tokio::test]
async fn a_head_request_gets_the_head_alone() {
    let running = start();
    for (path, status) in [("/webhooks/stripe", "405"), ("/healthz", "200"), ("/readyz", "200")] {
        let mut connection = Connection::open(running.address).await;
        connection.send(format!("HEAD {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")).await;
        let text = connection.read_to_end().await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")) && text.ends_with("\r\n\r\n"), "{path}: {text}");
    }
}

#[tokio::test]
async fn without_a_secret_the_route_does_not_exist() {
    let running = serve(ServerOptions { clerk_secrets: Vec::new(), ..options() }, Options::default());
    let body = "{}";
    exchange(running.address, post("/webhooks/clerk", &clerk_signature("msg_1", body, NOW), body)).await.problem(404);
    assert_eq!(exchange(running.address, stripe_post("evt_1")).await.status, 200);
}

#[tokio::test]
async fn a_body_above_the_limit_is_a_413_however_it_comes() {
    let running = serve(ServerOptions { body_limit_bytes: 100_000, ..options() }, Options::default());
    let large = vec![b' '; 5 * 1024 * 1024];
    exchange(running.address, post("/webhooks/stripe", "", &large)).await.problem(413);
    exchange(running.address, post_chunked("/webhooks/stripe", "", &large, 8000)).await.problem(413);
    exchange(running.address, post("/webhooks/stripe", "", vec![b' '; 100_001])).await.problem(413);
    exchange(running.address, post_chunked("/webhooks/stripe", "", &[b' '; 100_001], 7777)).await.problem(413);

    let mut fitting = stripe_body("evt_1");
    fitting.push_str(&" ".repeat(100_000 - fitting.len()));
    let signature = stripe_signature(&fitting, NOW);
    assert_eq!(exchange(running.address, post("/webhooks/stripe", &signature, &fitting)).await.status, 200);
    let chunked = post_chunked("/webhooks/stripe", &signature, fitting.as_bytes(), 7777);
    assert_eq!(exchange(running.address, chunked).await.status, 200);
}

#[tokio::test]
async fn a_content_length_that_lies_costs_nothing_but_its_own_request() {
    let running = serve(options(), Options { queue_bytes: 3_000_000, ..Options::default() });
    for _ in 0..5 {
        let mut connection = Connection::open(running.address).await;
        connection.send("POST /webhooks/stripe HTTP/1.1\r\nHost: test\r\nContent-Length: 2000000\r\n\r\nshort").await;
        connection.finish().await;
        if let Some(answer) = connection.answer().await {
            answer.problem(400);
        }
    }
    for length in ["-1", "1e3", "0x10", "99999999999999999999999", "1, 2"] {
        let head = format!("POST /webhooks/stripe HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
        assert!((400..500).contains(&exchange(running.address, head).await.status), "{length}");
    }
    let answer = exchange(running.address, stripe_post("evt_1")).await;
    assert_eq!(answer.status, 200, "the reserved bytes were given back: {answer:?}");
}

#[tokio::test]
async fn too_many_bytes_at_a_time_are_refused_before_they_are_read() {
    let running = serve(options(), Options { queue_bytes: 2_500_000, ..Options::default() });
    let (mut large, mut small) = (Connection::open(running.address).await, Connection::open(running.address).await);
    large.send("POST /webhooks/stripe HTTP/1.1\r\nHost: test\r\nContent-Length: 2000000\r\n\r\n").await;
    small.send("POST /webhooks/stripe HTTP/1.1\r\nHost: test\r\nContent-Length: 600000\r\n\r\n").await;
    // Neither sends its body. Whichever head is read second does not fit beside the other.
    let answer = tokio::select! {
        answer = large.answer() => answer.unwrap(),
        answer = small.answer() => answer.unwrap(),
    };
    answer.problem(503);
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_full_queue_is_a_503_at_once_and_over_as_soon_as_it_moves() {
    let running = serve(options(), Options { queue_events: 1, ..Options::default() });
    let turns = running.database.may_commit.acquire_many(100).await.unwrap();
    let first = tokio::spawn(exchange(running.address, stripe_post("evt_1")));
    until("the first is in work", || running.database.waiting.load(Ordering::SeqCst) == 1).await;
    let answer = exchange(running.address, stripe_post("evt_2")).await;
    assert_eq!(answer.problem(503), "the queue is full");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let unready = get(running.address, "/readyz").await;
    unready.problem(503);
    assert_eq!(unready.json()["reasons"], serde_json::json!(["the queue is full"]));
    drop(turns);
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(exchange(running.address, stripe_post("evt_2")).await.status, 200);
    assert_eq!(get(running.address, "/readyz").await.status, 200);
}

#[tokio::test]
async fn a_database_that_is_down_is_a_503_and_a_red_readyz_while_it_lasts() {
    let running = start();
    assert_eq!(get(running.address, "/readyz").await.body, r#"{"ready":true}"#);
    running.database.down(true);
    let unready = get(running.address, "/readyz").await;
    unready.problem(503);
    assert_eq!(unready.json()["reasons"], serde_json::json!(["the database does not accept events"]));
    let answer = exchange(running.address, stripe_post("evt_1")).await;
    answer.problem(503);
    assert!(answer.header("retry-after").is_some());
    get(running.address, "/readyz").await.problem(503);
    assert_eq!(get(running.address, "/healthz").await.status, 200);
    running.database.down(false);
    assert_eq!(exchange(running.address, stripe_post("evt_1")).await.status, 200);
    assert_eq!(get(running.address, "/readyz").await.status, 200);
}

#[tokio::test]
async fn slow_senders_are_let_go() {
    let short = Duration::from_millis(300);
    let running = serve(ServerOptions { head_read_timeout: short, body_read_timeout: short, ..options() }, Options::default());
    let mut slow_body = Connection::open(running.address).await;
    slow_body.send("POST /webhooks/stripe HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n{").await;
    let mut slow_head = Connection::open(running.address).await;
    slow_head.send("POST /webhooks/stripe HTTP/1.1\r\nHost: te").await;
    slow_body.answer().await.unwrap().problem(408);
    assert!(slow_body.answer().await.is_none(), "the connection is closed");
    if let Some(answer) = slow_head.answer().await {
        assert_eq!(answer.status, 408);
    }
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other_and_pipelined_ones_in_order() {
    let running = start();
    let mut connection = Connection::open(running.address).await;
    for id in ["evt_1", "evt_2"] {
        connection.send(stripe_post(id)).await;
        assert_eq!(connection.answer().await.unwrap().status, 200);
    }
    let unsigned = post("/webhooks/stripe", "", "{}");
    connection.send([stripe_post("evt_3"), unsigned, stripe_post("evt_4")].concat()).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(connection.answer().await.unwrap().status);
    }
    assert_eq!(statuses, [200, 400, 200]);
    assert_eq!(running.database.ids(), ["evt_1", "evt_2", "evt_3", "evt_4"]);
}

#[tokio::test]
async fn a_sender_may_ask_before_it_sends_the_body() {
    let running = start();
    let body = stripe_body("evt_1");
    let headers = format!("Expect: 100-continue\r\n{}", stripe_signature(&body, NOW));
    let request = post("/webhooks/stripe", &headers, &body);
    let (head, body) = request.split_at(request.len() - body.len());
    let mut connection = Connection::open(running.address).await;
    connection.send(head).await;
    assert_eq!(connection.answer().await.unwrap().status, 100);
    connection.send(body).await;
    assert_eq!(connection.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn what_is_not_http_ends_its_own_connection_alone() {
    let running = start();
    let long_header = format!("GET /healthz HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", "a".repeat(400_000));
    let many_headers = format!("GET /healthz HTTP/1.1\r\nHost: test\r\n{}\r\n", "X: a\r\n".repeat(500));
    let cases = [long_header.as_str(), &many_headers, "\u{16}\u{3}\u{1}garbage\r\n\r\n", "GET /healthz HTTP/9.9\r\n\r\n"];
    for case in cases {
        let mut connection = Connection::open(running.address).await;
        connection.send(case).await;
        if let Some(answer) = connection.answer().await {
            assert!((400..500).contains(&answer.status) || answer.status == 505, "{answer:?}");
        }
    }
    assert_eq!(get(running.address, "/healthz").await.status, 200);
}

#[tokio::test]
async fn stopping_answers_what_is_in_work_and_accepts_nothing_more() {
    let running = start();
    let turns = running.database.may_commit.acquire_many(100).await.unwrap();
    let in_work = tokio::spawn(exchange(running.address, stripe_post("evt_1")));
    until("it is in work", || running.database.waiting.load(Ordering::SeqCst) == 1).await;
    let _idle = Connection::open(running.address).await;
    let stopping = tokio::spawn(running.server.stop());
    let address = running.address;
    let mut refused = false;
    for _ in 0..500 {
        refused = tokio::net::TcpStream::connect(address).await.is_err();
        if refused {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(refused, "no further connection is accepted");
    assert!(!stopping.is_finished());
    drop(turns);
    assert_eq!(in_work.await.unwrap().status, 200);
    tokio::time::timeout(Duration::from_secs(10), stopping).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_metrics_have_a_bounded_number_of_series() {
    let running = start();
    for n in 0..20 {
        let body = stripe_body(&format!("evt_{n}")).replace("customer.updated", &format!("made.up{n}"));
        let request = post("/webhooks/stripe", &stripe_signature(&body, NOW), &body);
        assert_eq!(exchange(running.address, request).await.status, 200);
    }
    exchange(running.address, stripe_post("evt_known")).await;
    let answer = get(running.address, "/metrics").await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let metrics = answer.body;
    assert!(!metrics.contains("made.up"));
    for series in [
        r#"billsync_events_total{provider="stripe",type="other",outcome="applied"}"#,
        r#"billsync_events_total{provider="stripe",type="customer.updated",outcome="applied"}"#,
        "billsync_queue_events ",
        r#"billsync_batch_events_bucket{le="64"}"#,
        r#"billsync_commit_seconds_bucket{le="0.001"}"#,
        r#"billsync_newest_event_age_seconds{provider="stripe"}"#,
    ] {
        assert!(metrics.contains(series), "{series} in {metrics}");
    }
}
