//! The API's description and what is beside it: every path in it exists, and the start page's numbers.

use billsync::http::openapi::document;
use serde_json::{Value, json};

use super::api;
use crate::http::client::get;
use crate::support::service::billsync;

#[tokio::test]
async fn everything_that_is_described_exists_and_the_rest_is_not_described() {
    let api = api().await;
    let served = get(api.address, "/openapi.json").await.json();
    assert_eq!(served, serde_json::to_value(document()).unwrap());
    let printed = billsync(&[]).arg("openapi").stdout(std::process::Stdio::piped()).output().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&printed.stdout).unwrap(), served);
    let mut count = 0;
    for (path, operations) in served["paths"].as_object().unwrap() {
        let methods: Vec<String> = operations.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        let path = path.replace("{meter}", "creators").replace(['{', '}'], "");
        for method in &methods {
            count += 1;
            let answer = api.send(method, &path, "").await;
            assert!(!answer.body.contains("nothing at this path") && answer.status != 405, "{method} {path}: {answer:?}");
            api.send_as("wrong", method, &path, "").await.problem(401);
        }
        let answer = api.send("TRACE", &path, "").await;
        assert_eq!(answer.status, 405, "{path}");
        let mut allowed: Vec<&str> = answer.header("allow").unwrap().split(", ").collect();
        let mut described: Vec<&str> = methods.iter().map(String::as_str).collect();
        // HEAD is answered where GET is, and needs no description of its own.
        assert_eq!(allowed.contains(&"HEAD"), allowed.contains(&"GET"), "{path}");
        allowed.retain(|method| *method != "HEAD");
        allowed.sort_unstable();
        described.sort_unstable();
        assert_eq!(allowed, described, "{path}");
    }
    assert!(count > 35, "{count}");
    let page = get(api.address, "/docs/").await;
    assert!(page.status == 200 && page.body.contains("swagger-ui"), "{page:?}");
    assert!(!page.body.contains("https://"), "works without a network");
    assert_eq!(get(api.address, "/docs/swagger-ui-bundle.js").await.status, 200);
}

#[tokio::test]
async fn the_dashboard_counts_what_is_the_users() {
    let api = api().await;
    api.users(1, 3).await;
    let empty = api.read("/v1/users/user_1/dashboard").await;
    assert_eq!((&empty["campaigns_by_status"], &empty["results_this_period"]), (&json!({}), &json!(0)));
    api.bench
        .database
        .execute(
            "insert into campaigns (user_id, name, status, created_at) select u, 'c', s, t::timestamptz from (values \
             ('user_1', 'draft', '2026-03-01Z'), ('user_1', 'active', '2026-02-28T23:59:59Z'), ('user_1', 'active', '2026-03-09Z'), \
             ('user_2', 'draft', '2026-03-09Z')) v(u, s, t); \
             insert into scraping_jobs (user_id, status, platform) values ('user_1', 'pending', 'tiktok'), \
             ('user_1', 'completed', 'tiktok'), ('user_1', 'completed', null), ('user_1', 'timeout', 'none'), ('user_2', 'error', 'x'); \
             update user_usage set usage_period_start = '2026-03-05Z', usage_reset_date = '2026-04-05Z', \
             usage_creators_current_month = 30, plan_creators_limit = 100; \
             insert into scraping_results (job_id, creators, created_at) select id, '[1, 2, 3]', t::timestamptz \
             from scraping_jobs, (values ('2026-03-04Z'), ('2026-03-05Z'), ('2026-03-09Z')) v(t) where status = 'completed'",
        )
        .await;
    let numbers = api.read("/v1/users/user_1/dashboard").await;
    assert_eq!(numbers["campaigns_by_status"], json!({"active": 2, "draft": 1}));
    assert_eq!(numbers["campaigns_this_month"], 2);
    assert_eq!(numbers["jobs_by_status"], json!({"pending": 1, "completed": 2, "timeout": 1}));
    assert_eq!(numbers["jobs_by_platform"], json!({"tiktok": 2, "none": 1}));
    assert_eq!(numbers["jobs_without_platform"], 1, "apart from those of a platform that is called none");
    assert_eq!((&numbers["results_this_period"], &numbers["creators_found_this_period"]), (&json!(4), &json!(12)));
    let usage = api.read("/v1/users/user_1/usage").await;
    assert_eq!(numbers["usage"]["creators"], usage["creators"]);
    assert_eq!(usage["creators"]["remaining"], 70);
    api.get("/v1/users/nobody/dashboard").await.problem(404);
    let plans = api.read("/v1/plans").await;
    assert!(plans["data"].as_array().unwrap().iter().any(|plan| plan["plan_key"] == "glow_up"), "{plans}");
}
