//! The keys of session tokens, fetched over HTTP: once for many requests, and whatever goes wrong, nobody is let in by it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use billsync::clerk_api::JwksClient;
use billsync::clock::Clock;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::TOKEN;
use super::sessions::{ISSUER, MODULUS, signed};
use crate::http::client::{Answer, exchange};
use crate::support::database::{TestDatabase, database};
use crate::support::events::user_created;
use crate::support::service::Service;
use crate::support::until;

/// A server of one answer, and the requests that it got.
struct KeyServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl KeyServer {
    /// `answer` is what stands on the wire.
    async fn start(answer: Vec<u8>) -> KeyServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let server = KeyServer { address: listener.local_addr().unwrap(), requests: Arc::clone(&requests) };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 8192];
                let length = stream.read(&mut request).await.unwrap_or_default();
                requests.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).into_owned());
                let _client_gone = stream.write_all(&answer).await;
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}/.well-known/jwks.json", self.address)
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

fn key_set() -> String {
    json!({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "ins_1", "n": MODULUS.trim(), "e": "AQAB"}]}).to_string()
}

fn session(key_id: &str, user: &str) -> String {
    let now = Clock::System.now().timestamp();
    signed(key_id, &json!({"iss": ISSUER, "sub": user, "iat": now, "nbf": now, "exp": now + 600}))
}

/// A service that takes its keys from there and has the users 1 and 2.
async fn service(keys: &str) -> (Service, TestDatabase) {
    let database = database().await;
    let tokens = format!("app:{TOKEN}");
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("BILLSYNC_JWT_KEYS", keys),
        ("BILLSYNC_JWT_ISSUER", ISSUER),
        ("BILLSYNC_API_TOKENS", tokens.as_str()),
    ];
    let service = Service::start(&settings).await;
    for number in [1, 2] {
        let webhook = user_created(number, Clock::System.now());
        assert_eq!(exchange(service.address, webhook.request(Clock::System.now())).await.status, 200);
    }
    (service, database)
}

async fn ask(service: &Service, token: &str, user: &str) -> Answer {
    let request = format!("GET /v1/users/{user} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\r\n");
    exchange(service.address, request).await
}

#[tokio::test]
async fn a_session_is_verified_with_keys_from_their_address() {
    let keys = KeyServer::start(answer("200 OK", "content-type: application/json\r\n", &key_set())).await;
    let (service, _database) = service(&keys.url()).await;
    let token = session("ins_1", "user_1");
    for _ in 0..3 {
        assert_eq!(ask(&service, &token, "user_1").await.json()["user_id"], "user_1");
        ask(&service, &token, "user_2").await.problem(403);
        ask(&service, &session("another", "user_1"), "user_1").await.problem(401);
    }
    let requests = keys.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 1, "fetched once a minute at most, whoever asks");
    assert!(requests[0].starts_with("GET /.well-known/jwks.json HTTP/1.1"), "{requests:?}");
    assert!(!requests[0].to_lowercase().contains("authorization"), "{requests:?}");
    assert!(!service.log().contains(&token));
}

#[tokio::test]
async fn without_keys_nobody_is_let_in_but_the_application() {
    let keys = KeyServer::start(answer("503 Service Unavailable", "", "")).await;
    let (service, _database) = service(&keys.url()).await;
    ask(&service, &session("ins_1", "user_1"), "user_1").await.problem(401);
    assert_eq!(ask(&service, TOKEN, "user_1").await.status, 200);
    let is_told = |log: &str| log.contains("could not fetch the keys of session tokens") && log.contains("answered 503");
    until("the log tells of it", async || is_told(&service.log())).await;
    let log = service.log();
    assert!(!log.contains("jwks.json"), "an address may hold what it should not: {log}");
}

#[tokio::test]
async fn an_answer_that_is_no_key_set_is_an_error() {
    let long = "x".repeat(1024 * 1024 + 1);
    let elsewhere = KeyServer::start(answer("200 OK", "", &key_set())).await;
    for (answer, expected) in [
        (answer("404 Not Found", "", "{}"), "answered 404"),
        (answer("302 Found", &format!("location: {}\r\n", elsewhere.url()), ""), "answered 302"),
        (answer("200 OK", "", &long), "too long"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xff".to_vec(), "not UTF-8"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec(), "error"),
        (b"garbage".to_vec(), "error"),
    ] {
        let keys = KeyServer::start(answer).await;
        let error = JwksClient::new(&keys.url()).unwrap().fetch().await.unwrap_err();
        assert!(error.contains(expected), "{error}, where {expected:?} is expected");
        assert!(!error.contains("jwks.json"), "{error}");
    }
    assert!(elsewhere.requests.lock().unwrap().is_empty(), "no redirect is followed");
    assert!(JwksClient::new("http://127.0.0.1:1/jwks").unwrap().fetch().await.is_err());
}
