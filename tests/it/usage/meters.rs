//! The meters over HTTP, as their callers see them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use billsync::http::application::Application;
use billsync::http::auth::ApiToken;
use billsync::http::server::ServerOptions;
use billsync::ingest::committer;
use billsync::schedule::usage_reset;
use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{archive, subscriber, subscription_event, tell};
use crate::batch::{Bench, at, bench, clerk_user};
use crate::http::client::{Answer, exchange, get, post};
use crate::schedule::{ask, work};

const TOKEN: &str = "an-api-token-of-thirty-two-characters";

/// The API in front of the bench's database.
fn serve(bench: &Bench, tokens: Vec<ApiToken>) -> (Application, SocketAddr) {
    serve_with(bench, ServerOptions { api_tokens: tokens, ..ServerOptions::default() })
}

fn serve_with(bench: &Bench, options: ServerOptions) -> (Application, SocketAddr) {
    let options = ServerOptions { listen: "127.0.0.1:0".into(), store: Some(bench.store.clone()), ..options };
    let rules = Arc::new(bench.rules.clone());
    let application =
        Application::start(bench.store.clone(), rules, bench.clock.clone(), committer::Options::default(), options).unwrap();
    let address = application.addresses()[0];
    (application, address)
}

fn api(bench: &Bench) -> (Application, SocketAddr) {
    serve(bench, vec![ApiToken::new("test", TOKEN).unwrap()])
}

fn authorization() -> String {
    format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n")
}

async fn send(address: SocketAddr, path: &str, body: &Value) -> Answer {
    let request = post(&format!("/v1/users/user_1/usage/{path}"), &authorization(), body.to_string());
    exchange(address, request).await
}

async fn take(address: SocketAddr, path: &str, amount: i64) -> Value {
    let answer = send(address, path, &json!({"amount": amount})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn usage(address: SocketAddr) -> Value {
    let head = format!("GET /v1/users/user_1/usage HTTP/1.1\r\nHost: test\r\n{}\r\n", authorization());
    exchange(address, head).await.json()
}

#[tokio::test]
async fn a_meter_counts_up_to_its_limit_and_gives_back() {
    let bench = subscriber("price_glow_up_monthly", at("2026-03-31T09:00:00Z")).await;
    let (_application, address) = api(&bench);
    let resets_at = "2026-04-30T09:00:00Z";
    let expected = json!({"allowed": true, "used": 1000, "limit": 1000, "remaining": 0, "resets_at": resets_at});
    assert_eq!(take(address, "creators/consume", 970).await, expected, "30 were used");
    let expected = json!({"allowed": false, "used": 1000, "limit": 1000, "remaining": 0, "resets_at": resets_at});
    assert_eq!(take(address, "creators/consume", 1).await, expected);
    assert_eq!(take(address, "creators/release", 400).await["remaining"], 400);
    assert_eq!(take(address, "creators/consume", 401).await["allowed"], false, "all of it or nothing");
    assert_eq!(take(address, "creators/release", 9999).await["used"], 0, "never below zero");

    let expected = json!({"allowed": true, "used": 3, "limit": 3, "remaining": 0, "resets_at": null});
    assert_eq!(take(address, "campaigns/consume", 3).await, expected, "campaigns are given back, not reset");
    assert_eq!(take(address, "campaigns/consume", 1).await["allowed"], false);

    let expected = json!({"allowed": true, "used": 1004, "limit": -1, "remaining": null, "resets_at": resets_at});
    assert_eq!(take(address, "enrichments/consume", 1000).await, expected, "the plan has no limit for them");
    bench.database.execute("update user_usage set plan_features = '{\"enrichments_limit\": 1005}'").await;
    assert_eq!(take(address, "enrichments/consume", 1).await["remaining"], 0);
    assert_eq!(take(address, "enrichments/consume", 1).await["allowed"], false);
    bench.database.execute("update user_usage set plan_features = '{\"enrichments_limit\": null}'").await;
    let refused = take(address, "enrichments/consume", 1).await;
    assert_eq!((&refused["allowed"], &refused["limit"], &refused["remaining"]), (&json!(false), &Value::Null, &json!(0)));
}

#[tokio::test]
async fn without_a_limit_nothing_is_granted_and_unlimited_is_without_end() {
    let bench = subscriber("price_fame_flex_monthly", at("2026-03-31T09:00:00Z")).await;
    let (_application, address) = api(&bench);
    assert_eq!(take(address, "creators/consume", 2_000_000_000).await["allowed"], true);
    assert_eq!(take(address, "creators/consume", 2_000_000_000).await["allowed"], false, "more than the column can hold");
    bench
        .database
        .execute(
            "alter table user_usage alter plan_creators_limit drop not null; \
        update user_usage set plan_creators_limit = null",
        )
        .await;
    let refused = take(address, "creators/consume", 1).await;
    assert_eq!((&refused["allowed"], &refused["limit"], &refused["remaining"]), (&json!(false), &Value::Null, &json!(0)));
}

#[tokio::test]
async fn the_first_request_after_the_boundary_ends_the_period() {
    let bench = subscriber("price_glow_up_monthly", at("2026-03-31T09:00:00Z")).await;
    let (_application, address) = api(&bench);
    bench.clock.set(at("2026-04-30T08:59:59Z"));
    assert_eq!(take(address, "creators/consume", 1).await["used"], 31);
    bench.clock.set(at("2026-04-30T09:00:00Z"));
    let shown = usage(address).await;
    assert_eq!((&shown["creators"]["used"], &shown["resets_at"]), (&json!(0), &json!("2026-05-31T09:00:00Z")));
    assert_eq!(shown["periods"], json!([]), "reading ends nothing");
    let expected = json!({"allowed": true, "used": 5, "limit": 1000, "remaining": 995, "resets_at": "2026-05-31T09:00:00Z"});
    assert_eq!(take(address, "creators/consume", 5).await, expected);
    assert_eq!(archive(&bench, "user_1").await, json!([["2026-03-31T09:00:00", "2026-04-30T09:00:00", 0, 31, 4, 0]]));
    let shown = usage(address).await;
    assert_eq!(shown["creators"], json!({"used": 5, "limit": 1000, "remaining": 995, "resets_at": "2026-05-31T09:00:00Z"}));
    assert_eq!(
        (&shown["periods"][0]["creators"], &shown["periods"][0]["period_end"]),
        (&json!(31), &json!("2026-04-30T09:00:00Z"))
    );

    tell(&bench, "evt_due", "past_due", "price_glow_up_monthly", at("2026-03-31T09:00:00Z")).await;
    bench.clock.set(at("2026-06-10T00:00:00Z"));
    assert_eq!(take(address, "creators/consume", 5).await["used"], 10, "held while a payment is overdue");
    assert_eq!(usage(address).await["creators"]["used"], 10);
}

#[tokio::test]
async fn a_key_works_once_for_a_day() {
    let bench = subscriber("price_glow_up_monthly", at("2026-03-31T09:00:00Z")).await;
    let (_application, address) = api(&bench);
    let keyed = |amount: i64| json!({"amount": amount, "idempotency_key": "job-7"});
    let first = send(address, "creators/consume", &keyed(5)).await;
    take(address, "creators/consume", 100).await;
    let again = send(address, "creators/consume", &keyed(5)).await;
    assert_eq!((first.status, again.status), (200, 200));
    assert_eq!((first.json()["used"].clone(), first.json()), (json!(35), again.json()), "the same answer");
    for (path, amount) in [("creators/consume", 6), ("enrichments/consume", 5), ("creators/release", 5)] {
        send(address, path, &keyed(amount)).await.problem(409);
    }
    assert_eq!(usage(address).await["creators"]["used"], 135);
    bench.clock.set(bench.clock.now() + TimeDelta::hours(24));
    assert_eq!(send(address, "creators/consume", &keyed(6)).await.json()["used"], 141, "a day later it is a new key");

    let racing = json!({"amount": 1, "idempotency_key": "racing"});
    let answers = join_all((0..20).map(|_| send(address, "enrichments/consume", &racing))).await;
    assert!(answers.iter().all(|answer| answer.json()["used"] == 5), "{answers:?}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let bench = bench().await;
    bench.commit(&[Arc::new(clerk_user(1))]).await;
    let (_application, address) = api(&bench);
    for amount in [0, -1, i64::from(i32::MAX) + 1] {
        for path in ["creators/consume", "creators/release"] {
            let answer = send(address, path, &json!({"amount": amount})).await;
            answer.problem(400);
            assert_eq!(answer.json()["parameter"], "amount", "{amount}");
        }
    }
    // A mistyped key would count twice.
    let mistyped = json!({"amount": 1, "idempotencyKey": "x"});
    for body in [json!({}), json!([]), json!([1]), json!({"amount": "1"}), json!({"amount": 1.5}), mistyped] {
        send(address, "creators/consume", &body).await.problem(400);
    }
    for key in [String::new(), "a\0b".to_owned(), "k".repeat(256)] {
        send(address, "creators/consume", &json!({"amount": 1, "idempotency_key": key})).await.problem(400);
    }
    send(address, "creators/consume", &json!({"amount": 1, "more": "x".repeat(5000)})).await.problem(413);
    send(address, "seats/consume", &json!({"amount": 1})).await.problem(404);
    let stranger = post("/v1/users/nobody/usage/creators/consume", &authorization(), r#"{"amount":1}"#);
    exchange(address, stranger).await.problem(404);
    let got = format!("GET /v1/users/user_1/usage/creators/consume HTTP/1.1\r\nHost: test\r\n{}\r\n", authorization());
    exchange(address, got).await.problem(405);
}

#[tokio::test]
async fn a_row_without_a_reset_date_is_counted_and_never_due() {
    let bench = subscriber("price_glow_up_monthly", at("2026-03-31T09:00:00Z")).await;
    let (_application, address) = api(&bench);
    bench.database.execute("update user_usage set usage_reset_date = null").await;
    let expected = json!({"allowed": true, "used": 31, "limit": 1000, "remaining": 969, "resets_at": null});
    assert_eq!(take(address, "creators/consume", 1).await, expected);
    let keyed = json!({"amount": 2, "idempotency_key": "k"});
    assert_eq!(send(address, "creators/consume", &keyed).await.json()["used"], 33);
    assert_eq!(take(address, "creators/consume", 968).await["allowed"], false);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let bench = bench().await;
    bench.commit(&[Arc::new(clerk_user(1))]).await;
    let tokens = vec![ApiToken::new("test", TOKEN).unwrap()];
    let soon = Duration::from_millis(200);
    let options = ServerOptions { api_tokens: tokens, body_read_timeout: soon, ..ServerOptions::default() };
    let (_application, address) = serve_with(&bench, options);
    let begun = format!(
        "POST /v1/users/user_1/usage/creators/consume HTTP/1.1\r\nHost: test\r\n{}Content-Length: 50\r\n\r\n{{\"amount\":",
        authorization()
    );
    exchange(address, begun).await.problem(408);
}

#[tokio::test]
async fn nothing_is_answered_without_a_token() {
    let bench = bench().await;
    bench.commit(&[Arc::new(clerk_user(1))]).await;
    let (_application, address) = api(&bench);
    let path = "/v1/users/user_1/usage";
    let wrong = TOKEN.replace('a', "b");
    let headers = [String::new(), format!("Authorization: Bearer {wrong}\r\n"), format!("Authorization: Basic {TOKEN}\r\n")];
    for header in headers {
        let answer = exchange(address, format!("GET {path} HTTP/1.1\r\nHost: test\r\n{header}\r\n")).await;
        answer.problem(401);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(answer.header("x-request-id").is_some());
    }
    assert_eq!(usage(address).await["user_id"], "user_1");
    let (_without_tokens, address) = serve(&bench, Vec::new());
    get(address, path).await.problem(404);
}

#[tokio::test]
async fn a_hundred_callers_get_exactly_the_limit_while_webhooks_and_the_job_run() {
    let boundary = at("2026-04-30T09:00:00Z");
    let bench = subscriber("price_glow_up_monthly", at("2026-03-31T09:00:00Z")).await;
    let (application, address) = api(&bench);
    bench.clock.set(boundary);
    let callers = join_all((0..100).map(|_| async {
        let mut granted = 0;
        for _ in 0..15 {
            let answer = take(address, "creators/consume", 1).await;
            granted += i64::from(answer["allowed"] == true);
        }
        granted
    }));
    let webhooks = async {
        for number in 0..40 {
            let (id, anchor) = (format!("evt_stream_{number}"), at("2026-03-31T09:00:00Z"));
            let event = subscription_event(&bench, &id, "active", "price_glow_up_monthly", anchor);
            application.committer().submit(event).await.unwrap();
        }
    };
    let (work, jobs) = (work(&bench), 40);
    let job = async {
        for _ in 0..jobs {
            usage_reset::reset(&work, None).await.unwrap();
        }
    };
    let (granted, (), ()) = tokio::join!(callers, webhooks, job);
    assert_eq!(granted.iter().sum::<i64>(), 1000);
    assert_eq!(ask(&bench, "select to_jsonb(usage_creators_current_month) from user_usage").await, 1000);
    assert_eq!(archive(&bench, "user_1").await, json!([["2026-03-31T09:00:00", "2026-04-30T09:00:00", 0, 30, 4, 0]]));
}
