//! `/v1/lists` and the items on them.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Api, api};

async fn with_list() -> (Api, String) {
    let api = api().await;
    api.users(1, 3).await;
    let list = api.write("POST", "/v1/lists", json!({"user_id": "user_1", "name": "Favourites", "description": "D"})).await;
    let path = format!("/v1/lists/{}", list["id"].as_str().unwrap());
    assert_eq!(api.read(&path).await, list);
    (api, path)
}

async fn add(api: &Api, list: &str, handle: &str, position: Option<i32>) -> Value {
    let mut item = json!({"platform": "tiktok", "creator_handle": handle, "creator": {"followers": 7}});
    if let Some(position) = position {
        item["position"] = position.into();
    }
    api.write("POST", &format!("{list}/items"), item).await
}

async fn handles(api: &Api, list: &str) -> String {
    let rows = api.all_pages(&format!("{list}/items"), 3).await;
    rows.iter().map(|row| row["creator_handle"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

fn path(list: &str, item: &Value) -> String {
    format!("{list}/items/{}", item["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_list_is_made_changed_filtered_and_deleted() {
    let (api, list) = with_list().await;
    let changed = api.write("PATCH", &list, json!({"name": "Best", "description": null, "is_archived": true})).await;
    assert_eq!(
        (&changed["name"], &changed["description"], &changed["user_id"]),
        (&json!("Best"), &Value::Null, &json!("user_1"))
    );
    for number in 0..9 {
        api.write("POST", "/v1/lists", json!({"user_id": "user_2", "name": format!("l{number}")})).await;
    }
    for (filter, count) in [
        ("", 10),
        ("user_id=user_2", 9),
        ("is_archived=true", 1),
        ("is_archived=false&user_id=user_1", 0),
        ("user_id=nobody", 0),
        ("created_before=2026-01-01T00:00:00Z", 0),
    ] {
        assert_eq!(api.all_pages(&format!("/v1/lists?{filter}"), 4).await.len(), count, "{filter}");
    }
    add(&api, &list, "a", None).await;
    assert_eq!(api.send("DELETE", &list, "").await.status, 204);
    for path in [list.clone(), format!("{list}/items")] {
        api.get(&path).await.problem(404);
    }
    api.send("PATCH", &list, "{}").await.problem(404);
    api.send("DELETE", &list, "").await.problem(404);
}

#[tokio::test]
async fn items_keep_the_order_that_they_are_given() {
    let (api, list) = with_list().await;
    for handle in ["a", "b", "c", "d"] {
        add(&api, &list, handle, None).await;
    }
    let e = add(&api, &list, "e", Some(1)).await;
    assert_eq!(handles(&api, &list).await, "a e b c d");
    for (position, expected) in [(3, "a b c e d"), (0, "e a b c d"), (0, "e a b c d"), (99, "a b c d e"), (2, "a b e c d")] {
        api.write("PATCH", &path(&list, &e), json!({"position": position})).await;
        assert_eq!(handles(&api, &list).await, expected, "to {position}");
    }
    let rows = api.all_pages(&format!("{list}/items"), 50).await;
    api.write("DELETE", &path(&list, &rows[1]), json!({})).await;
    assert_eq!(handles(&api, &list).await, "a e c d", "a gap is no matter");
    api.write("PATCH", &path(&list, &e), json!({"position": 4})).await;
    assert_eq!(handles(&api, &list).await, "a c d e");

    let rows = api.all_pages(&format!("{list}/items"), 50).await;
    let mut ids: Vec<&Value> = rows.iter().rev().map(|row| &row["id"]).collect();
    assert_eq!(api.send("PUT", &format!("{list}/order"), &json!({"item_ids": ids}).to_string()).await.status, 204);
    assert_eq!(handles(&api, &list).await, "e d c a");
    ids.pop();
    api.refuses("PUT", &format!("{list}/order"), &json!({"item_ids": ids}).to_string(), 409, "item_ids").await;
    ids.push(ids[0]);
    api.refuses("PUT", &format!("{list}/order"), &json!({"item_ids": ids}).to_string(), 409, "item_ids").await;
    api.refuses("PUT", &format!("{list}/order"), r#"{"item_ids": ["x"]}"#, 400, "item_ids[0]").await;
    api.send("PUT", "/v1/lists/00000000-0000-0000-0000-000000000000/order", r#"{"item_ids": []}"#).await.problem(404);
    assert_eq!(handles(&api, &list).await, "e d c a");
}

#[tokio::test]
async fn those_who_move_items_at_once_lose_none() {
    let (api, list) = with_list().await;
    for number in 0..8 {
        add(&api, &list, &format!("h{number}"), None).await;
    }
    let rows = api.all_pages(&format!("{list}/items"), 50).await;
    let moves: Vec<(String, String)> = rows.iter().map(|row| (path(&list, row), json!({"position": 3}).to_string())).collect();
    let answers = join_all(moves.iter().map(|(path, body)| api.send("PATCH", path, body))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let rows = api.all_pages(&format!("{list}/items"), 50).await;
    let positions: Vec<i64> = rows.iter().map(|row| row["position"].as_i64().unwrap()).collect();
    assert_eq!(positions, (0..8).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_creator_is_on_a_list_once() {
    let (api, list) = with_list().await;
    let item = add(&api, &list, "ada", None).await;
    assert_eq!(item["creator"], json!({"followers": 7}));
    let again = r#"{"platform": "tiktok", "creator_handle": "ada"}"#;
    api.refuses("POST", &format!("{list}/items"), again, 409, "creator_handle").await;
    let elsewhere = api.write("POST", &format!("{list}/items"), json!({"platform": "instagram", "creator_handle": "ada"})).await;
    assert_eq!((&elsewhere["creator"], &elsewhere["position"]), (&json!({}), &json!(1)));
    assert_eq!(api.all_pages(&format!("{list}/items?platform=instagram"), 5).await.len(), 1);
    let listed = &api.read(&format!("{list}/items?fields=creator")).await["data"][0];
    assert_eq!(listed, &item);
    assert!(api.read(&format!("{list}/items")).await["data"][0].get("creator").is_none());
    let changed = api.write("PATCH", &path(&list, &item), json!({"creator": {"followers": 8}})).await;
    assert_eq!((&changed["creator"], &changed["position"]), (&json!({"followers": 8}), &json!(0)));
    assert_eq!(api.read(&path(&list, &item)).await, changed);
    assert_eq!(api.write("PATCH", &path(&list, &item), json!({"creator": null})).await["creator"], json!({}));
    let other = api.write("POST", "/v1/lists", json!({"user_id": "user_2", "name": "other"})).await;
    let astray = path(&format!("/v1/lists/{}", other["id"].as_str().unwrap()), &item);
    for (method, body) in [("GET", ""), ("PATCH", "{}"), ("DELETE", "")] {
        api.send(method, &astray, body).await.problem(404);
    }
}

#[tokio::test]
async fn what_is_wrong_with_lists_and_items_is_named() {
    let (api, list) = with_list().await;
    for (body, status, name) in [
        (json!({"user_id": "user_1"}), 400, "name"),
        (json!({"user_id": "nobody", "name": "x"}), 404, "user_id"),
        (json!({"user_id": "user_1", "name": "x", "is_archived": true}), 400, "is_archived"),
        (json!({"user_id": "user_1", "name": {"$ne": 1}}), 400, "name"),
    ] {
        api.refuses("POST", "/v1/lists", &body.to_string(), status, name).await;
    }
    for (body, name) in
        [(json!({"is_archived": null}), "is_archived"), (json!({"name": ""}), "name"), (json!({"user_id": "user_2"}), "user_id")]
    {
        api.refuses("PATCH", &list, &body.to_string(), 400, name).await;
    }
    let items = format!("{list}/items");
    for (body, name) in [
        (json!({"platform": "tiktok"}), "creator_handle"),
        (json!({"creator_handle": "a"}), "platform"),
        (json!({"platform": "x".repeat(51), "creator_handle": "a"}), "platform"),
        (json!({"platform": "tiktok", "creator_handle": "a\u{0}"}), "creator_handle"),
        (json!({"platform": "tiktok", "creator_handle": "a", "creator": []}), "creator"),
        (json!({"platform": "tiktok", "creator_handle": "a", "position": -1}), "position"),
        (json!({"platform": "tiktok", "creator_handle": "a", "list_id": "x"}), "list_id"),
    ] {
        api.refuses("POST", &items, &body.to_string(), 400, name).await;
    }
    for (query, name) in
        [("user_id=%00", "user_id"), ("is_archived=maybe", "is_archived"), ("cursor=x", "cursor"), ("limit=300", "limit")]
    {
        api.refuses("GET", &format!("/v1/lists?{query}"), "", 400, name).await;
    }
    for (query, name) in
        [("platform=", "platform"), ("cursor=x", "cursor"), ("fields=x", "fields"), ("limit=a", "limit"), ("a=b", "a")]
    {
        api.refuses("GET", &format!("{items}?{query}"), "", 400, name).await;
    }
}
