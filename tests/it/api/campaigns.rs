//! `/v1/campaigns`, and the meter that counts the live ones.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Api, api};
use crate::schedule::ask;

/// An API whose user 1 may have three live campaigns.
async fn with_limit() -> Api {
    let api = api().await;
    api.users(1, 3).await;
    api.bench.database.execute("update user_usage set plan_campaigns_limit = 3").await;
    api
}

async fn create(api: &Api, name: &str) -> Value {
    api.write("POST", "/v1/campaigns", json!({"user_id": "user_1", "name": name})).await
}

async fn used(api: &Api) -> Value {
    ask(
        &api.bench,
        "select to_jsonb(g.usage_campaigns_current) from user_usage g join users u on u.id = g.user_id \
        where u.user_id = 'user_1'",
    )
    .await
}

fn path(campaign: &Value) -> String {
    format!("/v1/campaigns/{}", campaign["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_campaign_is_made_shown_changed_and_deleted() {
    let api = with_limit().await;
    let body = json!({"user_id": "user_1", "name": "Spring", "description": "D", "search_type": "keyword", "status": "active"});
    let made = api.send("POST", "/v1/campaigns", &body.to_string()).await;
    assert_eq!(made.status, 201);
    let campaign = made.json();
    for (name, value) in body.as_object().unwrap() {
        assert_eq!(&campaign[name], value, "{name}");
    }
    assert_eq!(campaign["created_at"], "2026-03-10T12:00:00Z");
    assert_eq!(api.read(&path(&campaign)).await, campaign);
    let changed = api.write("PATCH", &path(&campaign), json!({"name": "Summer", "description": null})).await;
    assert_eq!(
        (&changed["name"], &changed["description"], &changed["status"]),
        (&json!("Summer"), &Value::Null, &json!("active"))
    );
    assert_eq!(changed["search_type"], "keyword", "what is not named is kept");
    assert_eq!(api.send("DELETE", &path(&campaign), "").await.status, 204);
    for (method, body) in [("GET", ""), ("PATCH", "{}"), ("DELETE", "")] {
        api.send(method, &path(&campaign), body).await.problem(404);
    }
}

#[tokio::test]
async fn live_campaigns_are_counted_and_given_back() {
    let api = with_limit().await;
    let (one, two, _three) = (create(&api, "1").await, create(&api, "2").await, create(&api, "3").await);
    assert_eq!(used(&api).await, 3);
    let refused = api.send("POST", "/v1/campaigns", r#"{"user_id": "user_1", "name": "4"}"#).await;
    assert!(refused.problem(409).contains("allows 3 live campaigns"));
    assert_eq!(ask(&api.bench, "select to_jsonb(count(*)) from campaigns").await, 3, "nothing is made");

    api.write("PATCH", &path(&one), json!({"status": "completed"})).await;
    assert_eq!(used(&api).await, 3, "a completed one is live");
    for _ in 0..2 {
        api.write("PATCH", &path(&one), json!({"status": "archived"})).await;
        assert_eq!(used(&api).await, 2, "given back once");
    }
    let four = create(&api, "4").await;
    api.send("PATCH", &path(&one), r#"{"status": "active"}"#).await.problem(409);
    assert_eq!(api.read(&path(&one)).await["status"], "archived");
    api.write("DELETE", &path(&four), json!({})).await;
    api.write("PATCH", &path(&one), json!({"status": "active"})).await;
    assert_eq!(used(&api).await, 3, "taken out of the archive");
    api.write("PATCH", &path(&two), json!({"status": "archived"})).await;
    api.write("DELETE", &path(&two), json!({})).await;
    assert_eq!(used(&api).await, 2, "an archived one was given back before");
}

#[tokio::test]
async fn callers_who_race_get_exactly_the_limit() {
    let api = with_limit().await;
    let body = r#"{"user_id": "user_1", "name": "raced"}"#;
    let made = join_all((0..12).map(|_| api.send("POST", "/v1/campaigns", body))).await;
    assert_eq!(made.iter().filter(|answer| answer.status == 201).count(), 3);
    assert_eq!((used(&api).await, ask(&api.bench, "select to_jsonb(count(*)) from campaigns").await), (json!(3), json!(3)));
    let campaign = made.iter().find(|answer| answer.status == 201).unwrap().json();
    let path = path(&campaign);
    let archived = r#"{"status": "archived"}"#;
    join_all((0..6).map(|_| api.send("PATCH", &path, archived))).await;
    join_all((0..6).map(|_| api.send("DELETE", &path, ""))).await;
    assert_eq!(used(&api).await, 2);
}

#[tokio::test]
async fn campaigns_are_filtered_and_paged() {
    let api = with_limit().await;
    api.bench
        .database
        .execute(
            "insert into campaigns (user_id, name, status, search_type, created_at) select 'user_' || 1 + n % 2, 'c' || n, \
             (array['draft', 'active', 'completed', 'archived'])[1 + n % 4], (array['keyword', 'similar'])[1 + n % 2], \
             '2026-01-01Z'::timestamptz + (n / 3) * interval '1 day' from generate_series(0, 39) n",
        )
        .await;
    for (filter, count) in [
        ("", 40),
        ("user_id=user_1", 20),
        ("user_id=nobody", 0),
        ("user_id=user_1&status=draft", 10),
        ("status=archived", 10),
        ("search_type=similar", 20),
        ("created_from=2026-01-03T00:00:00Z", 34),
        ("created_before=2026-01-03T00:00:00Z", 6),
        ("search_type=%27%20or%20%27%27%3D%27", 0),
    ] {
        let rows = api.all_pages(&format!("/v1/campaigns?{filter}"), 7).await;
        let mut ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((rows.len(), ids.len()), (count, count), "{filter}");
        assert!(rows.windows(2).all(|pair| pair[0]["created_at"].as_str() >= pair[1]["created_at"].as_str()), "{filter}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_campaign_is_named() {
    let api = with_limit().await;
    for (body, name) in [
        (json!({"user_id": "user_1"}), "name"),
        (json!({"name": "x"}), "user_id"),
        (json!({"user_id": "user_1", "name": ""}), "name"),
        (json!({"user_id": "user_1", "name": "a\u{0}"}), "name"),
        (json!({"user_id": "user_1", "name": "x".repeat(501)}), "name"),
        (json!({"user_id": "user_1", "name": 7}), "name"),
        (json!({"user_id": ["user_1"], "name": "x"}), "user_id"),
        (json!({"user_id": "user_1", "name": "x", "search_type": "x".repeat(21)}), "search_type"),
        (json!({"user_id": "user_1", "name": "x", "status": "gone"}), "status"),
        (json!({"user_id": "user_1", "name": "x", "id": "1"}), "id"),
    ] {
        api.refuses("POST", "/v1/campaigns", &body.to_string(), 400, name).await;
    }
    for status in ["draft", "active", "completed", "archived"] {
        let body = json!({"user_id": "nobody", "name": "x", "status": status}).to_string();
        api.refuses("POST", "/v1/campaigns", &body, 404, "user_id").await;
    }
    let campaign = create(&api, "x").await;
    for (body, name) in
        [(json!({"name": null}), "name"), (json!({"status": null}), "status"), (json!({"user_id": "user_2"}), "user_id")]
    {
        api.refuses("PATCH", &path(&campaign), &body.to_string(), 400, name).await;
    }
    for (query, name) in [
        ("status=gone", "status"),
        ("user_id=", "user_id"),
        ("created_from=x", "created_from"),
        ("cursor=%27", "cursor"),
        ("limit=0", "limit"),
        ("search_type=a%00", "search_type"),
        ("sort=name", "sort"),
    ] {
        api.refuses("GET", &format!("/v1/campaigns?{query}"), "", 400, name).await;
    }
    for id in ["1", "%27", "00000000-0000-0000-0000-000000000000", "a%00b", "{00000000-0000-0000-0000-000000000000}"] {
        api.get(&format!("/v1/campaigns/{id}")).await.problem(404);
    }
    assert_eq!(used(&api).await, 1);
}
