//! Signed-in users as callers of the API: their own profile, usage and lists, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use billsync::domain::signature::session_token::{PublicKeys, SessionRules};
use billsync::http::sessions::{FetchKeys, Sessions};
use chrono::TimeDelta;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

use super::{Api, TOKEN, api, api_with};

const PRIVATE_KEY: &str = include_str!("../../../src/domain/signature/session_token/tests/private_key.pem");
const PUBLIC_KEY: &str = include_str!("../../../src/domain/signature/session_token/tests/public_key.pem");
pub const MODULUS: &str = include_str!("../../../src/domain/signature/session_token/tests/modulus.txt");
pub const ISSUER: &str = "https://clerk.example.com";

fn rules() -> SessionRules {
    SessionRules { issuer: ISSUER.into(), authorized_parties: Vec::new() }
}

pub fn signed(key_id: &str, claims: &Value) -> String {
    let pem: String = PRIVATE_KEY.lines().filter(|line| !line.starts_with("-----")).collect();
    let pair = RsaKeyPair::from_pkcs8(&STANDARD.decode(pem).unwrap()).unwrap();
    let header = json!({"alg": "RS256", "kid": key_id}).to_string();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The token of a user's session of one minute.
fn session(api: &Api, user: &str) -> String {
    let now = api.bench.clock.now().timestamp();
    signed("ins_1", &json!({"iss": ISSUER, "sub": user, "iat": now, "nbf": now, "exp": now + 60}))
}

async fn with_sessions() -> Api {
    let sessions = Sessions::with_keys(rules(), PublicKeys::parse(PUBLIC_KEY).unwrap());
    let api = api_with(|options| options.sessions = Some(sessions)).await;
    api.users(1, 3).await;
    api.bench.database.execute("update user_usage set plan_campaigns_limit = -1").await;
    api
}

#[tokio::test]
async fn a_signed_in_user_reads_what_is_theirs_and_nothing_of_anybody_else() {
    let api = with_sessions().await;
    let mut paths = Vec::new();
    for user in ["user_1", "user_2"] {
        let campaign = api.write("POST", "/v1/campaigns", json!({"user_id": user, "name": user})).await;
        let job = api.write("POST", "/v1/jobs", json!({"user_id": user})).await;
        let job_path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
        let result = api.write("POST", &format!("{job_path}/results"), json!({"creators": []})).await;
        let list = api.write("POST", "/v1/lists", json!({"user_id": user, "name": user})).await;
        let list_path = format!("/v1/lists/{}", list["id"].as_str().unwrap());
        let item = json!({"platform": "p", "creator_handle": user});
        let item = api.write("POST", &format!("{list_path}/items"), item).await;
        paths.push(vec![
            format!("/v1/campaigns/{}", campaign["id"].as_str().unwrap()),
            format!("{job_path}/results/{}", result["id"].as_str().unwrap()),
            format!("{job_path}/results"),
            job_path,
            format!("{list_path}/items/{}", item["id"].as_str().unwrap()),
            format!("{list_path}/items"),
            list_path,
        ]);
    }
    let token = session(&api, "user_1");
    let get = async |path: &str| api.send_as(&token, "GET", path, "").await;
    for path in paths[0].iter().map(String::as_str).chain(["/v1/users/user_1", "/v1/users/user_1/usage"]) {
        assert_eq!(get(path).await.status, 200, "{path}");
    }
    for path in &paths[1] {
        get(path).await.problem(404);
    }
    for list in ["/v1/campaigns", "/v1/jobs", "/v1/lists"] {
        let rows = get(list).await.json()["data"].as_array().unwrap().clone();
        assert_eq!(rows.iter().map(|row| row["user_id"].as_str().unwrap()).collect::<Vec<_>>(), ["user_1"], "{list}");
        assert_eq!(get(&format!("{list}?user_id=user_1")).await.status, 200);
        get(&format!("{list}?user_id=user_2")).await.problem(403);
    }
    for path in [
        "/v1/users/user_2",
        "/v1/users/user_2/usage",
        "/v1/users/nobody",
        "/v1/users",
        "/v1/users?email=x",
        "/v1/events",
        "/v1/events/msg_user_1",
        "/v1/users/user_1/events",
    ] {
        get(path).await.problem(403);
    }
    for (method, path) in [
        ("PATCH", "/v1/users/user_1"),
        ("POST", "/v1/campaigns"),
        ("POST", "/v1/jobs"),
        ("POST", "/v1/lists"),
        ("POST", "/v1/users/user_1/usage/creators/release"),
        ("POST", "/v1/events/msg_user_1/replay"),
    ] {
        api.send_as(&token, method, path, r#"{"amount": 1}"#).await.problem(403);
    }
    for path in &paths[0] {
        if !path.ends_with("/results") && !path.ends_with("/items") {
            api.send_as(&token, "DELETE", path, "").await.problem(403);
            api.send_as(&token, "PATCH", path, "{}").await.problem(403);
        }
    }
}

#[tokio::test]
async fn a_token_that_proves_nothing_is_a_401() {
    let api = with_sessions().await;
    let now = api.bench.clock.now().timestamp();
    let path = "/v1/users/user_1";
    let expired = signed("ins_1", &json!({"iss": ISSUER, "sub": "user_1", "exp": now - 10}));
    let foreign = signed("ins_1", &json!({"iss": "https://evil.example.com", "sub": "user_1", "exp": now + 60}));
    let early = signed("ins_1", &json!({"iss": ISSUER, "sub": "user_1", "exp": now + 600, "nbf": now + 60}));
    let good = session(&api, "user_1");
    assert_eq!(api.send_as(&good, "GET", path, "").await.status, 200);
    for token in [expired, foreign, early, format!("{good}x"), good.replace('.', ""), "a.b.c".to_owned(), String::new()] {
        let answer = api.send_as(&token, "GET", path, "").await;
        answer.problem(401);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    api.bench.clock.set(api.bench.clock.now() + TimeDelta::seconds(65));
    api.send_as(&good, "GET", path, "").await.problem(401);
    let without = super::api().await;
    without.send_as(&good, "GET", path, "").await.problem(401);
    assert_eq!(without.send_as(TOKEN, "GET", "/v1/users", "").await.status, 200);
}

#[tokio::test]
async fn fetched_keys_follow_a_rotation_and_outlast_a_failure() {
    let (fetches, key_id) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Mutex::new(Some("ins_1"))));
    let (counter, current) = (Arc::clone(&fetches), Arc::clone(&key_id));
    let fetch: FetchKeys = Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        let key = current.lock().unwrap().map(|id| json!({"kty": "RSA", "kid": id, "n": MODULUS.trim(), "e": "AQAB"}));
        let answer = key.map(|key| json!({"keys": [key]}).to_string()).ok_or_else(|| "down".to_owned());
        Box::pin(async move { answer })
    });
    let sessions = Sessions::with_fetched_keys(rules(), fetch);
    let now = api().await.bench.clock.now();
    let token = |id: &str| signed(id, &json!({"iss": ISSUER, "sub": "user_1", "exp": now.timestamp() + 100_000}));
    let verify = async |id: &str, seconds: i64| sessions.verify(&token(id), now + TimeDelta::seconds(seconds)).await.is_ok();
    assert!(verify("ins_1", 0).await && verify("ins_1", 1).await);
    assert_eq!(fetches.load(Ordering::SeqCst), 1);
    *key_id.lock().unwrap() = Some("ins_2");
    assert!(!verify("ins_2", 59).await, "fetches are a minute apart, whoever asks");
    assert!(verify("ins_2", 60).await && !verify("ins_1", 61).await);
    assert_eq!(fetches.load(Ordering::SeqCst), 2);
    *key_id.lock().unwrap() = None;
    assert!(verify("ins_2", 60 + 3600).await, "what was fetched goes on being used");
    assert_eq!(fetches.load(Ordering::SeqCst), 3);
}
