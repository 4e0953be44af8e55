//! Bodies and requests that are refused, or come in an unusual way, with a real database behind.

use crate::http::client::{exchange, post, post_chunked};
use crate::support::database::TestDatabase;
use crate::support::events::{Webhook, user_created};
use crate::support::server::{now, server, server_on};
use billsync::ingest::committer;

async fn nothing_is_kept(database: &TestDatabase) {
    assert_eq!(database.ask::<i64>("select count(*) from billsync.webhook_events").await, 0);
    assert_eq!(database.ask::<i64>("select count(*) from billsync.webhook_payloads").await, 0);
    assert_eq!(database.ask::<i64>("select count(*) from users").await, 0);
}

#[tokio::test]
async fn a_body_of_5_mib_is_a_413_with_and_without_its_length() {
    let (server, database) = server().await;
    let large = Webhook::clerk("msg_large", vec![b' '; 5 << 20]);
    assert_eq!(server.send(&large).await.status, 413);
    let chunked = post_chunked(large.path(), &large.signature(now()), &large.body, 64 << 10);
    assert_eq!(exchange(server.address, chunked).await.status, 413);
    nothing_is_kept(&database).await;
}

#[tokio::test]
async fn a_body_in_chunks_is_taken_like_any_other() {
    let (server, _database) = server().await;
    let user = user_created(1, now());
    for (chunk, expected) in [(1, "applied"), (7, "duplicate"), (100_000, "duplicate")] {
        let answer = exchange(server.address, post_chunked(user.path(), &user.signature(now()), &user.body, chunk)).await;
        assert_eq!((answer.status, answer.json()["outcome"].as_str()), (200, Some(expected)), "{answer:?}");
    }
}

#[tokio::test]
async fn what_is_signed_but_no_event_is_a_400() {
    let (server, database) = server().await;
    for body in [
        &b""[..],
        b"not json",
        b"{",
        b"[]",
        b"null",
        b"42",
        b"\"evt\"",
        b"{}",
        b"{\"id\": \"evt_1\"}",
        b"\xff\xfe\xfd",
        b"{\"id\": \"evt_\xff\", \"object\": \"event\", \"type\": \"x\", \"created\": 1, \"data\": {\"object\": {}}}",
        b"{\"id\": 1, \"object\": \"event\", \"type\": \"x\", \"created\": 1, \"data\": {\"object\": {}}}",
    ] {
        for webhook in [Webhook::stripe("evt_1", body), Webhook::clerk("msg_1", body)] {
            let answer = server.send(&webhook).await;
            assert_eq!(answer.status, 400, "{}: {answer:?}", String::from_utf8_lossy(body));
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        }
    }
    nothing_is_kept(&database).await;
}

#[tokio::test]
async fn a_signature_that_is_missing_wrong_or_old_is_a_400() {
    let (server, database) = server().await;
    let user = user_created(1, now());
    let old = user.signature(now() - chrono::TimeDelta::seconds(301));
    let other = user_created(2, now()).signature(now());
    for headers in ["", "svix-id: a\r\n", "svix-id: a\r\nsvix-timestamp: x\r\nsvix-signature: v1,\r\n", &old, &other] {
        let answer = exchange(server.address, post(user.path(), headers, &user.body)).await;
        assert_eq!(answer.status, 400, "{headers}: {answer:?}");
    }
    nothing_is_kept(&database).await;
}

#[tokio::test]
async fn a_provider_without_a_secret_has_no_route() {
    let database = crate::support::database::database().await;
    let server = server_on(&database.url, committer::Options::default()).await;
    assert_eq!(server.send(&Webhook::stripe("evt_1", "{}")).await.status, 400, "the one that is configured");
    let answer = exchange(server.address, post("/webhooks/paddle", "", "{}")).await;
    assert_eq!(answer.status, 404);
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let request = format!("{method} /webhooks/stripe HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
        let answer = exchange(server.address, request).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
    nothing_is_kept(&database).await;
}
