//! `/v1/jobs` and their results: filters on JSON by index, states, one statement for jobs with results.

use billsync::store::{JobFilter, Store, StoreSettings};
use serde_json::{Value, json};

use super::{Api, api};
use crate::support::round_trips::RoundTrips;

async fn with_users() -> Api {
    let api = api().await;
    api.users(1, 3).await;
    api
}

async fn create(api: &Api, body: Value) -> Value {
    let mut job = json!({"user_id": "user_1"});
    job.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    api.write("POST", "/v1/jobs", job).await
}

fn path(job: &Value) -> String {
    format!("/v1/jobs/{}", job["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_job_is_made_goes_forward_and_ends() {
    let api = with_users().await;
    let campaign = {
        api.bench.database.execute("update user_usage set plan_campaigns_limit = -1").await;
        api.write("POST", "/v1/campaigns", json!({"user_id": "user_1", "name": "c"})).await
    };
    let body = json!({"run_id": "run_1", "keywords": ["fitness", "Ünï"], "platform": "tiktok", "region": "US",
        "campaign_id": campaign["id"], "target_username": "ada", "search_params": {"min": 1000, "deep": {"a": [1]}},
        "qstash_message_id": "msg_1", "target_results": 100, "timeout_at": "2026-03-10T13:00:00Z"});
    let job = create(&api, body.clone()).await;
    for (name, value) in body.as_object().unwrap() {
        assert_eq!(&job[name], value, "{name}");
    }
    assert_eq!((&job["status"], &job["cursor"], &job["progress"]), (&json!("pending"), &json!(0), &json!(0.0)));
    assert_eq!(api.read(&path(&job)).await, job);

    api.refuses("PATCH", &path(&job), r#"{"status": "completed"}"#, 409, "status").await;
    let begun = api.write("PATCH", &path(&job), json!({"status": "processing"})).await;
    assert_eq!((&begun["started_at"], &begun["completed_at"]), (&json!("2026-03-10T12:00:00Z"), &Value::Null));
    api.bench.clock.set(crate::batch::at("2026-03-10T12:05:00Z"));
    let changes = json!({"progress": 42.5, "cursor": 7, "processed_runs": 2, "processed_results": 40, "target_results": null});
    let going = api.write("PATCH", &path(&job), changes.clone()).await;
    for (name, value) in changes.as_object().unwrap() {
        assert_eq!(&going[name], value, "{name}");
    }
    api.refuses("PATCH", &path(&job), r#"{"status": "pending"}"#, 409, "status").await;
    let done = api.write("PATCH", &path(&job), json!({"status": "completed"})).await;
    assert_eq!((&done["completed_at"], &done["progress"]), (&json!("2026-03-10T12:05:00Z"), &json!(100.0)));
    assert_eq!(done["started_at"], "2026-03-10T12:00:00Z");
    for status in ["pending", "processing", "error", "timeout"] {
        api.refuses("PATCH", &path(&job), &json!({"status": status}).to_string(), 409, "status").await;
    }
    api.write("PATCH", &path(&job), json!({"status": "completed", "error": "late warning"})).await;
    assert_eq!(api.send("DELETE", &path(&job), "").await.status, 204);
    api.send("DELETE", &path(&job), "").await.problem(404);
}

#[tokio::test]
async fn jobs_are_filtered_by_column_time_and_json() {
    let api = with_users().await;
    create(&api, json!({"platform": "tiktok", "keywords": ["fitness", "yoga"], "search_params": {"min": 1000, "mode": "exact"}}))
        .await;
    create(&api, json!({"platform": "instagram", "keywords": ["fitness"], "search_params": {"mode": "similar"}})).await;
    let last = create(&api, json!({"platform": "tiktok", "keywords": ["it's \"quoted\""]})).await;
    api.write("PATCH", &path(&last), json!({"status": "error", "error": "x"})).await;
    for (filter, count) in [
        ("", 3),
        ("user_id=user_1", 3),
        ("user_id=user_2", 0),
        ("status=pending", 2),
        ("status=error", 1),
        ("platform=tiktok", 2),
        ("platform=tiktok&status=pending", 1),
        ("keywords=fitness", 2),
        ("keywords=fitness,yoga", 1),
        ("keywords=it%27s%20%22quoted%22", 1),
        ("keywords=yog", 0),
        ("keywords=%5B%5D", 0),
        ("search_param=mode", 2),
        ("search_param=min", 1),
        ("search_param=mode=exact", 1),
        ("search_param=min%3D1000", 1),
        ("search_param=min=%27%20or%20true--", 0),
        ("search_param=%27%29%3B--", 0),
        ("created_from=2026-03-10T12:00:00Z", 3),
        ("created_before=2026-03-10T12:00:00Z", 0),
        ("campaign_id=00000000-0000-0000-0000-000000000000", 0),
    ] {
        assert_eq!(api.all_pages(&format!("/v1/jobs?{filter}"), 2).await.len(), count, "{filter}");
    }
    let plain = &api.read("/v1/jobs").await["data"][0];
    assert!(plain.get("keywords").is_none() && plain.get("search_params").is_none() && plain.get("results").is_none());
    let full = &api.read("/v1/jobs?fields=keywords,search_params,results&platform=instagram").await["data"][0];
    assert_eq!((&full["keywords"], &full["search_params"]), (&json!(["fitness"]), &json!({"mode": "similar"})));
    assert_eq!(full["results"], json!([]));
}

#[tokio::test]
async fn jobs_with_their_results_are_one_statement() {
    let api = with_users().await;
    for _ in 0..5 {
        let job = create(&api, json!({})).await;
        for found in 0..3 {
            let creators = json!({"creators": [{"handle": format!("ada{found}")}]});
            api.write("POST", &format!("{}/results", path(&job)), creators).await;
        }
    }
    let trips = RoundTrips::before(&api.bench.database.url).await;
    let store = Store::connect(&StoreSettings { max_connections: 1, ..StoreSettings::new(&trips.url) }).await.unwrap();
    let filter = JobFilter { limit: 10, with_results: true, with_keywords: true, ..JobFilter::default() };
    trips.take();
    let jobs = store.list_jobs(&filter).await.unwrap();
    assert_eq!(trips.take(), 2, "to plan it for its filters, and to run it");
    store.find_job(jobs[0].id, Some("user_1"), true).await.unwrap();
    trips.take();
    let one = store.find_job(jobs[0].id, Some("user_1"), true).await.unwrap().unwrap();
    assert_eq!(trips.take(), 1);
    assert_eq!(jobs.len(), 5);
    for job in jobs.iter().chain([&one]) {
        let results: Value = serde_json::from_str(job.results.as_ref().unwrap().as_str()).unwrap();
        assert_eq!(results.as_array().unwrap().len(), 3);
        assert_eq!(results[2]["creators"][0]["handle"], "ada2");
    }
}

#[tokio::test]
async fn results_are_added_listed_replaced_and_deleted() {
    let api = with_users().await;
    let job = create(&api, json!({})).await;
    let results = format!("{}/results", path(&job));
    for number in 0..5 {
        let made = api.write("POST", &results, json!({"creators": [number, {"handle": "ada"}]})).await;
        assert_eq!((&made["creators_count"], &made["job_id"]), (&json!(2), &job["id"]));
    }
    let rows = api.all_pages(&results, 2).await;
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|row| row.get("creators").is_none() && row["creators_count"] == 2));
    let rows = api.all_pages(&format!("{results}?fields=creators"), 2).await;
    assert_eq!(rows[0]["creators"][1]["handle"], "ada");
    let one = format!("{results}/{}", rows[0]["id"].as_str().unwrap());
    assert_eq!(api.read(&one).await, rows[0]);
    assert_eq!(api.write("PATCH", &one, json!({"creators": []})).await["creators_count"], 0);
    assert_eq!(api.send("DELETE", &one, "").await.status, 204);
    api.get(&one).await.problem(404);
    let other = create(&api, json!({})).await;
    let astray = format!("{}/results/{}", path(&other), rows[1]["id"].as_str().unwrap());
    for (method, body) in [("GET", ""), ("PATCH", r#"{"creators": []}"#), ("DELETE", "")] {
        api.send(method, &astray, body).await.problem(404);
    }
    for (body, name) in [
        ("{}", "creators"),
        (r#"{"creators": {}}"#, "creators"),
        (r#"{"creators": null}"#, "creators"),
        (r#"{"creators": ["\u0000"]}"#, "creators[0]"),
        (r#"{"creators": [{"\u0000": 1}]}"#, "creators[0]"),
    ] {
        api.refuses("POST", &results, body, 400, name).await;
    }
    let deep = format!("{{\"creators\": {}{}}}", "[".repeat(60), "]".repeat(60));
    api.refuses("POST", &results, &deep, 400, "creators").await;
    let deeper = format!("{{\"creators\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    api.send("POST", &results, &deeper).await.problem(400);
    api.send("POST", &results, &format!("{{\"creators\": [\"{}\"]}}", "x".repeat(3 * 1024 * 1024))).await.problem(413);
    api.refuses("GET", &format!("{results}?cursor=x"), "", 400, "cursor").await;
    api.refuses("GET", &format!("{results}?fields=all"), "", 400, "fields").await;
    api.get("/v1/jobs/00000000-0000-0000-0000-000000000000/results").await.problem(404);
    api.send("POST", "/v1/jobs/x/results", r#"{"creators": []}"#).await.problem(404);
}

#[tokio::test]
async fn what_is_wrong_with_a_job_is_named() {
    let api = with_users().await;
    let of_another = api.write("POST", "/v1/campaigns", json!({"user_id": "user_2", "name": "c", "status": "archived"})).await;
    for (body, status, name) in [
        (json!({}), 400, "user_id"),
        (json!({"user_id": "nobody"}), 404, "user_id"),
        (json!({"user_id": "user_1", "campaign_id": of_another["id"]}), 404, "campaign_id"),
        (json!({"user_id": "user_1", "campaign_id": "1"}), 400, "campaign_id"),
        (json!({"user_id": "user_1", "keywords": "fitness"}), 400, "keywords"),
        (json!({"user_id": "user_1", "keywords": [1]}), 400, "keywords[0]"),
        (json!({"user_id": "user_1", "keywords": ["a\u{0}"]}), 400, "keywords"),
        (json!({"user_id": "user_1", "keywords": vec!["a"; 201]}), 400, "keywords"),
        (json!({"user_id": "user_1", "search_params": []}), 400, "search_params"),
        (json!({"user_id": "user_1", "search_params": {"a": "\u{0}"}}), 400, "search_params.a"),
        (json!({"user_id": "user_1", "target_results": -1}), 400, "target_results"),
        (json!({"user_id": "user_1", "target_results": 3_000_000_000_u64}), 400, "target_results"),
        (json!({"user_id": "user_1", "target_results": 1.5}), 400, "target_results"),
        (json!({"user_id": "user_1", "region": "x".repeat(11)}), 400, "region"),
        (json!({"user_id": "user_1", "timeout_at": "soon"}), 400, "timeout_at"),
        (json!({"user_id": "user_1", "status": "completed"}), 400, "status"),
    ] {
        api.refuses("POST", "/v1/jobs", &body.to_string(), status, name).await;
    }
    let job = create(&api, json!({})).await;
    for (body, name) in [
        (json!({"progress": 101}), "progress"),
        (json!({"progress": -0.1}), "progress"),
        (json!({"progress": null}), "progress"),
        (json!({"cursor": -1}), "cursor"),
        (json!({"cursor": null}), "cursor"),
        (json!({"processed_runs": "1"}), "processed_runs"),
        (json!({"status": "done"}), "status"),
        (json!({"status": 7}), "status"),
        (json!({"keywords": []}), "keywords"),
        (json!({"completed_at": 5}), "completed_at"),
    ] {
        api.refuses("PATCH", &path(&job), &body.to_string(), 400, name).await;
    }
    for (query, name) in [
        ("status=gone", "status"),
        ("campaign_id=1", "campaign_id"),
        ("keywords=", "keywords"),
        ("fields=creators", "fields"),
        ("limit=-5", "limit"),
        ("cursor=W10", "cursor"),
        ("search_param=%00", "search_param"),
        ("platform=%00", "platform"),
        ("created_before=0000-00-00", "created_before"),
    ] {
        api.refuses("GET", &format!("/v1/jobs?{query}"), "", 400, name).await;
    }
    api.refuses("GET", &format!("{}?fields=x", path(&job)), "", 400, "fields").await;
}
