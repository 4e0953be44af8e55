//! What is taken exactly as it was said, and what is refused rather than misheard.

use serde_json::{Value, json};

use super::{Api, TOKEN, api};
use crate::http::client::{Connection, exchange};

async fn job(api: &Api, body: &str) -> Value {
    let answer = api.send("POST", "/v1/jobs", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

async fn found(api: &Api, query: &str) -> usize {
    api.read(&format!("/v1/jobs?{query}")).await["data"].as_array().unwrap().len()
}

#[tokio::test]
async fn numbers_are_kept_to_the_last_digit() {
    let api = api().await;
    api.users(1, 2).await;
    let number = "12345678901234567890123.45678901234567890";
    let body = format!(r#"{{"user_id": "user_1", "search_params": {{"a": {number}, "b": 1.10}}}}"#);
    let id = job(&api, &body).await["id"].as_str().unwrap().to_owned();
    let kept = |text: &str| text.contains(&format!("\"a\": {number}")) || text.contains(&format!("\"a\":{number}"));
    let answer = api.get(&format!("/v1/jobs/{id}")).await.body;
    assert!(kept(&answer) && answer.contains("1.10"), "{answer}");
    assert_eq!(found(&api, &format!("search_param=a={number}")).await, 1);
    assert_eq!(found(&api, "search_param=b=1.10").await, 1);
    assert_eq!(found(&api, "search_param=b=1.1").await, 0, "as text, it is another");

    let made = api.send("POST", &format!("/v1/jobs/{id}/results"), &format!("{{\"creators\": [{{\"a\": {number}}}]}}")).await;
    let result = format!("/v1/jobs/{id}/results/{}", made.json()["id"].as_str().unwrap());
    assert!(kept(&made.body) && kept(&api.get(&result).await.body), "{made:?}");
    let changed = api.send("PATCH", &result, "{\"creators\": [18446744073709551617]}").await;
    assert!(changed.body.contains("18446744073709551617"), "{changed:?}");
    let list = api.write("POST", "/v1/lists", json!({"user_id": "user_1", "name": "l"})).await;
    let items = format!("/v1/lists/{}/items", list["id"].as_str().unwrap());
    let item = format!("{{\"platform\": \"p\", \"creator_handle\": \"h\", \"creator\": {{\"a\": {number}}}}}");
    let made = api.send("POST", &items, &item).await;
    assert!(kept(&made.body), "{made:?}");
    let item = format!("{items}/{}", made.json()["id"].as_str().unwrap());
    let changed = api.send("PATCH", &item, "{\"creator\": {\"b\": 0.1000}}").await;
    assert!(changed.body.contains("0.1000"), "{changed:?}");
    assert_eq!(api.write("PATCH", &item, json!({"creator": null})).await["creator"], json!({}));
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_whole_path() {
    let api = api().await;
    api.users(1, 2).await;
    let within = |params: &str| format!(r#"{{"user_id": "user_1", "search_params": {params}}}"#);
    for (params, name) in [
        (r#"{"country": "a\u0000"}"#, "search_params.country"),
        (r#"{"a": [0, {"b": 1e400}]}"#, "search_params.a[1].b"),
        (r#"{"a": 1e-9999}"#, "search_params.a"),
        (r#"{"a": "\ud800"}"#, "search_params.a"),
        (r#"{"a\u0000": 1}"#, "search_params"),
        ("[]", "search_params"),
        (r#"{"a" 1}"#, "search_params"),
    ] {
        api.refuses("POST", "/v1/jobs", &within(params), 400, name).await;
    }
    let mark = r#"{"email_schedule_status": {"welcome:user_1": {"sent_at": "soon"}}}"#;
    api.refuses("PATCH", "/v1/users/user_1", mark, 400, "email_schedule_status.welcome:user_1.sent_at").await;
    // Within a name there is nothing to name.
    for body in ["{\"na", "{\"na\\ud800\": 1}", "{\"user_id\": \"user_1\", \"na\\x\": 1}"] {
        let answer = api.send("POST", "/v1/jobs", body).await;
        let detail = answer.problem(400);
        assert!(answer.json().get("parameter").is_none() && !detail.contains('?'), "{body}: {detail}");
    }
}

#[tokio::test]
async fn whatever_can_be_stored_can_be_searched_for() {
    let api = api().await;
    api.users(1, 2).await;
    let body = json!({"user_id": "user_1", "keywords": ["a, b", " padded ", "back\\slash", "a"],
        "search_params": {"a=b": "c=d", "": "empty", "back\\slash": true, "plain": "x\\y"}});
    job(&api, &body.to_string()).await;
    job(&api, &json!({"user_id": "user_1", "keywords": ["b", "padded"], "search_params": {"a": "b=c=d"}}).to_string()).await;
    for (query, count) in [
        ("keywords=a%5C,%20b", 1),
        ("keywords=a%5C,%20b,a", 1),
        ("keywords=a,b", 0),
        ("keywords=%5C%20padded%5C%20", 1),
        ("keywords=%20padded%20", 1),
        ("keywords=back%5C%5Cslash", 1),
        ("search_param=a%5C=b", 1),
        ("search_param=a%5C=b=c=d", 1),
        ("search_param=a=b=c=d", 1),
        ("search_param=a=b", 0),
        ("search_param==empty", 1),
        ("search_param=back%5C%5Cslash", 1),
        ("search_param=back%5C%5Cslash=true", 1),
        ("search_param=plain=x%5Cy", 1),
    ] {
        assert_eq!(found(&api, query).await, count, "{query}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_declared_as_json_is_refused() {
    let api = api().await;
    api.users(1, 2).await;
    let list = api.write("POST", "/v1/lists", json!({"user_id": "user_1", "name": "l"})).await;
    let order = format!("/v1/lists/{}/order", list["id"].as_str().unwrap());
    let consume = "/v1/users/user_1/usage/creators/consume";
    let send = async |method: &str, path: &str, media_type: &str, body: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {TOKEN}\r\n{media_type}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        exchange(api.address, request).await
    };
    let list_body = r#"{"user_id": "user_1", "name": "n"}"#;
    let writes = [
        ("POST", "/v1/lists", list_body, 201),
        ("PATCH", "/v1/users/user_1", r#"{"industry": "x"}"#, 200),
        ("PUT", order.as_str(), r#"{"item_ids": []}"#, 204),
        ("POST", consume, r#"{"amount": 1}"#, 200),
    ];
    for (method, path, body, expected) in writes {
        for wrong in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
            let answer = send(method, path, wrong, body).await;
            answer.problem(415);
            assert_eq!(answer.json()["parameter"], "Content-Type", "{method} {path} {wrong}");
        }
        for right in ["Content-Type: application/json\r\n", "Content-Type: Application/Json; charset=UTF-8\r\n"] {
            let answer = send(method, path, right, body).await;
            assert_eq!(answer.status, expected, "{method} {path} {right}: {answer:?}");
        }
    }
    // Where there is no body, there is nothing to declare.
    assert_eq!(send("DELETE", order.trim_end_matches("/order"), "", "").await.status, 204);
    send("POST", "/v1/events/no_such/replay", "", "").await.problem(404);
}

#[tokio::test]
async fn head_is_answered_as_get_is_without_the_body() {
    let api = api().await;
    api.users(1, 2).await;
    let mut connection = Connection::open(api.address).await;
    for (path, status) in [
        ("/v1/users/user_1", 200),
        ("/v1/users?limit=1", 200),
        ("/v1/users?limit=x", 400),
        ("/v1/users/nobody", 404),
        ("/v1/nothing", 404),
        ("/v1/plans", 200),
        ("/openapi.json", 200),
        ("/docs/", 200),
        ("/metrics", 200),
        ("/v1/lists/x/order", 405),
    ] {
        let mut answers = Vec::new();
        for method in ["GET", "HEAD"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {TOKEN}\r\n");
            // The next answer begins where this one ends: a body would be taken for it.
            let end = if method == "HEAD" { "Connection: close\r\n\r\n" } else { "\r\n" };
            connection.send(request + end).await;
            if method == "GET" {
                answers.push(connection.answer().await.unwrap().head);
            } else {
                answers.push(connection.read_to_end().await);
                connection = Connection::open(api.address).await;
            }
        }
        let line = |answer: &str, name: &str| {
            let mut lines = answer.lines().map(str::to_lowercase);
            lines.find(|line| line.starts_with(name)).unwrap_or_default()
        };
        assert!(answers[0].starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answers:?}");
        assert_eq!(line(&answers[0], "http/1.1"), line(&answers[1], "http/1.1"), "{path}");
        assert_eq!(line(&answers[0], "content-type"), line(&answers[1], "content-type"), "{path}");
        assert!(answers[1].ends_with("\r\n\r\n"), "{path}: no body: {answers:?}");
    }
    let nobody = "HEAD /v1/users/user_1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    let mut connection = Connection::open(api.address).await;
    connection.send(nobody).await;
    assert!(connection.read_to_end().await.starts_with("HTTP/1.1 401"));
}
