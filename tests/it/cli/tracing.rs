//! Traces: a real collector on loopback gets spans of requests and batches, and one that fails keeps nobody waiting.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use billsync::clock::Clock;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message;

use super::{billsync, run};
use crate::http::client::{CLERK_SECRET, Connection, STRIPE_SECRET, exchange, get};
use crate::support::database::database;
use crate::support::events::{customer_created, user_created};
use crate::support::service::Service;
use crate::support::until;

/// The path and the body of each request.
type Received = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A collector that keeps what it is sent.
struct Collector {
    base: String,
    received: Received,
}

impl Collector {
    fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let keeping = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut length, mut path) = (0, String::new());
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if let Some(target) = line.strip_prefix("POST ") {
                        path = target.split(' ').next().unwrap().to_owned();
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    if line.trim().is_empty() {
                        break;
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                keeping.lock().unwrap().push((path, body));
                let answer =
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                stream.write_all(answer).unwrap();
            }
        });
        Collector { base, received }
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let received = self.received.lock().unwrap();
        received.iter().map(|(_, body)| ExportTraceServiceRequest::decode(body.as_slice()).unwrap()).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let resources = self.requests().into_iter().flat_map(|request| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == name)?.value.clone()?.value?;
    match value {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_batches_are_sent_to_a_collector_without_what_is_in_them() {
    let (database, collector) = (database().await, Collector::start());
    let mut service = Service::start(&[
        ("DATABASE_URL", &database.url),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("{}/", collector.base)),
        ("BILLSYNC_LOG", "trace"),
    ])
    .await;
    let now = Clock::System.now();
    let mut ids = Vec::new();
    for webhook in [user_created(1, now), customer_created(1, now)] {
        let answer = exchange(service.address, webhook.request(now)).await;
        assert_eq!(answer.status, 200);
        ids.push(answer.header("x-request-id").unwrap().to_owned());
    }
    assert_eq!(get(service.address, "/nothing/whsec_hunter2/ada@example.com?key=hunter2").await.status, 404);
    let strange = "HUNTER2 /healthz HTTP/1.1\r\nhost: hunter2\r\nconnection: close\r\n\r\n";
    assert_eq!(exchange(service.address, strange).await.status, 405);
    service.terminate();
    assert!(service.ended().await, "{}", service.log());

    let spans = collector.spans();
    let named = |name: &str| {
        let mut of_name = spans.iter().filter(|span| span.name == name);
        of_name.next().unwrap_or_else(|| panic!("no span {name} in {spans:#?}"))
    };
    for (name, status, method) in [
        ("POST /webhooks/clerk", 200, "POST"),
        ("POST /webhooks/stripe", 200, "POST"),
        ("GET /readyz", 200, "GET"),
        ("GET", 404, "GET"),
        ("_OTHER /healthz", 405, "_OTHER"),
    ] {
        let span = named(name);
        let tells = |attribute_name| attribute(&span.attributes, attribute_name);
        assert_eq!(tells("http.response.status_code"), Some(status.to_string()), "{span:#?}");
        assert_eq!(tells("http.request.method").as_deref(), Some(method), "{span:#?}");
        assert_eq!(tells("http.route").as_deref(), name.split_once(' ').map(|(_, route)| route), "{span:#?}");
        assert_eq!(span.kind(), SpanKind::Server);
        assert!(span.end_time_unix_nano > span.start_time_unix_nano);
        assert!(span.events.is_empty(), "lines of the log are for the log alone: {span:#?}");
    }
    for (name, id) in ["POST /webhooks/clerk", "POST /webhooks/stripe"].into_iter().zip(ids) {
        assert_eq!(attribute(&named(name).attributes, "request_id"), Some(id));
    }
    let batches: Vec<&Span> = spans.iter().filter(|span| span.name == "batch").collect();
    assert_eq!(batches.len(), 2, "{spans:#?}");
    assert!(batches.iter().all(|batch| attribute(&batch.attributes, "events").as_deref() == Some("1")), "{batches:#?}");
    for request in collector.requests() {
        let resource = request.resource_spans[0].resource.clone().unwrap();
        assert_eq!(attribute(&resource.attributes, "service.name").as_deref(), Some("billsync"));
    }
    for (path, body) in collector.received.lock().unwrap().iter() {
        assert_eq!(path, "/v1/traces");
        let text = String::from_utf8_lossy(body).to_lowercase();
        for secret in [STRIPE_SECRET, CLERK_SECRET, "hunter2", "@example.com", "user_", "cus_", "evt_", "/nothing"] {
            assert!(!text.contains(&secret.to_lowercase()), "{secret} was sent: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_silent_keeps_nobody_waiting() {
    let database = database().await;
    // Accepts connections, by its queue, and never answers; and an address at which nobody listens.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_base = format!("http://{}", silent.local_addr().unwrap());
    for (base, round) in [(silent_base.as_str(), 0), ("http://127.0.0.1:1", 1)] {
        let mut service = Service::start(&[("DATABASE_URL", &database.url), ("OTEL_EXPORTER_OTLP_ENDPOINT", base)]).await;
        let now = Clock::System.now();
        for number in 1..50 {
            let webhook = user_created(1_000 * round + number, now);
            assert_eq!(exchange(service.address, webhook.request(now)).await.status, 200);
        }
        // More than may wait.
        let mut connection = Connection::open(service.address).await;
        for _ in 0..2_700 {
            connection.send("GET /healthz HTTP/1.1\r\nhost: b\r\n\r\n").await;
            assert_eq!(connection.answer().await.unwrap().status, 200);
        }
        until("the log tells of it", async || service.log().contains("OTEL_EXPORTER_OTLP_ENDPOINT")).await;
        drop(connection);
        service.terminate();
        assert!(service.ended().await, "{}", service.log());
        assert_eq!(service.log().matches("OTEL_EXPORTER_OTLP_ENDPOINT").count(), 1, "{}", service.log());
        assert!(service.log().contains("everything that was accepted is in the ledger"), "{}", service.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unless_a_collector_is_named_nothing_sends() {
    let (database, collector) = (database().await, Collector::start());
    for (settings, sends) in [
        (vec![("DATABASE_URL", database.url.as_str())], false),
        (vec![("DATABASE_URL", database.url.as_str()), ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.base.as_str())], true),
    ] {
        let service = Service::start(&settings).await;
        let threads = std::fs::read_dir(format!("/proc/{}/task", service.pid())).unwrap().flatten();
        let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
        assert_eq!(names.into_iter().any(|name| name.starts_with("OpenTelemetry")), sends);
    }
}

#[test]
fn an_address_that_is_none_is_refused_at_the_start_and_not_told() {
    for address in ["hunter2", "grpc://hunter2:4317", "http://user:hunter2@h", "https://h/?key=hunter2"] {
        let (code, shown, complaints) = run(billsync(&["serve"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", address));
        assert_eq!(code, 2, "{address}: {complaints}");
        assert!(complaints.contains("OTEL_EXPORTER_OTLP_ENDPOINT (environment): has to be a URL"), "{complaints}");
        assert!(!format!("{shown}{complaints}").contains("hunter2"), "{complaints}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_asks_the_collector_and_only_warns() {
    let (database, collector) = (database().await, Collector::start());
    for (base, says) in [
        (collector.base.as_str(), "ok       traces    the collector takes traces"),
        ("http://127.0.0.1:1", "WARNING  traces    the collector takes no traces, so that they are dropped"),
    ] {
        let settings = [("DATABASE_URL", database.url.as_str()), ("OTEL_EXPORTER_OTLP_ENDPOINT", base)];
        let (_, shown, complaints) = run(billsync(&["doctor"]).envs(settings));
        assert!(shown.contains(says), "{shown}\n{complaints}");
        assert!(!shown.contains("ERROR    traces"), "{shown}");
        let (_, shown, _) = run(billsync(&["doctor", "--offline"]).envs(settings));
        assert!(shown.contains("the collector is not asked"), "{shown}");
    }
    assert_eq!((collector.requests().len(), collector.spans()), (1, Vec::new()));
}
