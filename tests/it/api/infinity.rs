//! Instants that Postgres has and others have not, written into the application's tables by whoever can: whatever reads the
//! rows goes on.

use billsync::schedule::{clock_sweep, usage_reset};
use serde_json::{Value, json};

use super::{Api, api};
use crate::batch::{clerk_user, customer, stripe_event};
use crate::schedule::{ask, work};

/// Beyond what chrono has, and beyond what RFC 3339 can write.
const INSTANTS: [&str; 6] = ["infinity", "-infinity", "290000-01-01Z", "250000-01-01Z", "10000-01-01Z", "4000-01-01Z BC"];

/// One of everything, and the paths that show it.
async fn with_data() -> (Api, Vec<String>) {
    let api = api().await;
    api.users(1, 3).await;
    api.link(1).await;
    api.bench.database.execute("update user_usage set plan_campaigns_limit = -1, plan_creators_limit = -1").await;
    let id = |made: Value| made["id"].as_str().unwrap().to_owned();
    let mut paths: Vec<String> = ["/v1/users", "/v1/users/user_1", "/v1/users/user_1/usage", "/v1/users/user_1/dashboard"]
        .into_iter()
        .chain(["/v1/users/user_1/events", "/v1/campaigns", "/v1/jobs?fields=results", "/v1/lists", "/v1/plans"])
        .map(str::to_owned)
        .collect();
    for (path, further, body) in [
        ("/v1/campaigns", None, json!({"user_id": "user_1", "name": "c"})),
        ("/v1/jobs", Some(("results", json!({"creators": [1]}))), json!({"user_id": "user_1"})),
        (
            "/v1/lists",
            Some(("items", json!({"platform": "p", "creator_handle": "h"}))),
            json!({"user_id": "user_1", "name": "l"}),
        ),
    ] {
        let one = format!("{path}/{}", id(api.write("POST", path, body).await));
        if let Some((name, body)) = further {
            let within = format!("{one}/{name}");
            let single = format!("{within}/{}", id(api.write("POST", &within, body).await));
            paths.extend([within, single]);
        }
        paths.push(one);
    }
    (api, paths)
}

/// Every column of the application's tables that holds an instant, as (table, columns).
async fn columns(api: &Api) -> Vec<(String, Vec<String>)> {
    let columns = ask(
        &api.bench,
        "select jsonb_agg(jsonb_build_array(t, c)) from (select table_name as t, jsonb_agg(column_name) as c \
         from information_schema.columns where table_schema = 'public' and data_type = 'timestamp with time zone' group by 1) x",
    )
    .await;
    serde_json::from_value(columns).unwrap()
}

/// Whatever reads or writes the rows.
async fn use_all(api: &Api, paths: &[String], what: &str) {
    for path in paths {
        let answer = api.get(path).await;
        assert_eq!(answer.status, 200, "{what}: {path}: {answer:?}");
    }
    for (path, limit) in [("/v1/users", 1), ("/v1/users", 2), ("/v1/jobs", 1), ("/v1/campaigns", 1), ("/v1/lists", 1)] {
        let rows = api.all_pages(path, limit).await;
        // Of rows that are all beyond the instants that can be told, a cursor may lead past some.
        assert!((1..=2).contains(&rows.len()), "{what}: {path}");
    }
    let profile = api.read("/v1/users/user_1").await;
    for (name, value) in profile.as_object().unwrap() {
        let Some(text) = value.as_str().filter(|_| name.ends_with("_at") || name.contains("_date")) else { continue };
        assert_eq!(text.find('-'), Some(4), "{what}: {name} is {text}, no instant of RFC 3339");
    }
    api.write("PATCH", "/v1/users/user_1", json!({"business_name": what})).await;
    api.write("PATCH", "/v1/users/user_1", json!({"requested_plan": "glow_up"})).await;
    api.write("POST", "/v1/users/user_1/usage/creators/consume", json!({"amount": 1})).await;
    usage_reset::reset(&work(&api.bench), None).await.unwrap();
    clock_sweep::sweep(work(&api.bench)).await.unwrap();
    let now = api.bench.clock.now().timestamp();
    let events = [stripe_event(&format!("evt_{what}"), "customer.updated", now + 5, &customer(1)), clerk_user(2)];
    api.commit(events).await;
}

#[tokio::test]
async fn no_instant_stops_a_list_a_meter_a_task_or_a_webhook() {
    for instant in INSTANTS {
        let (api, paths) = with_data().await;
        let database = &api.bench.database;
        for (table, columns) in columns(&api).await {
            // Without the trigger that keeps `updated_at`.
            let set: Vec<String> = columns.iter().map(|column| format!("{column} = '{instant}'")).collect();
            database.execute(&format!("set session_replication_role = replica; update {table} set {}", set.join(", "))).await;
        }
        use_all(&api, &paths, instant).await;
    }
}

#[tokio::test]
async fn a_period_that_has_always_been_over_is_ended_once() {
    let (api, _paths) = with_data().await;
    let set = "update user_usage set usage_reset_date = '-infinity', usage_creators_current_month = 7 \
               where user_id = (select id from users where user_id = 'user_1')";
    api.bench.database.execute(set).await;
    usage_reset::reset(&work(&api.bench), None).await.unwrap();
    let usage = api.read("/v1/users/user_1/usage").await;
    assert_eq!((&usage["creators"]["used"], &usage["resets_at"]), (&json!(0), &json!("2026-03-25T06:13:20Z")), "{usage}");
}
