//! `/v1/events`: the ledger over HTTP, and replaying from it.

use std::collections::BTreeSet;

use billsync::ingest::transaction::commit_failed;
use billsync::store::statements;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{Api, api};
use crate::batch::{customer, stripe_event};

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["event_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn events_are_listed_filtered_and_paged() {
    let api = api().await;
    let start = api.bench.clock.now();
    for number in 0..12 {
        api.bench.clock.set(start + chrono::TimeDelta::seconds(number / 3));
        let number = u32::try_from(number).unwrap();
        if number % 2 == 0 { api.users(number, number + 1).await } else { api.link(number).await }
    }
    let all = api.all_pages("/v1/events", 5).await;
    assert_eq!(ids(&all).into_iter().collect::<BTreeSet<_>>().len(), 12);
    let order = |row: &Value| (row["received_at"].as_str().unwrap().to_owned(), row["event_id"].as_str().unwrap().to_owned());
    assert!(all.windows(2).all(|pair| order(&pair[0]) > order(&pair[1])));
    for (filter, count) in [
        ("provider=clerk", 6),
        ("provider=stripe", 6),
        ("provider=import", 0),
        ("outcome=unlinked", 6),
        ("outcome=applied", 6),
        ("type=user.created", 6),
        ("type=%27%20or%20true", 0),
        ("source=webhook", 12),
        ("source=replay", 0),
        ("owner_id=cus_3", 1),
        ("owner_id=user_2&provider=clerk", 1),
        ("received_from=2026-03-10T12:00:02Z", 6),
        ("received_before=2026-03-10T12:00:01Z", 3),
    ] {
        assert_eq!(api.all_pages(&format!("/v1/events?{filter}"), 4).await.len(), count, "{filter}");
    }
    assert_eq!(all[0]["effects"], Value::Null, "effects are large");
    let with = api.read("/v1/events?type=user.created&limit=1&fields=effects").await;
    assert!(with["data"][0]["effects"].as_array().unwrap().iter().any(|effect| effect["column"] == "email"));
}

#[tokio::test]
async fn a_users_events_are_those_of_its_customers_too() {
    let api = api().await;
    api.users(1, 3).await;
    api.link(1).await;
    let now = api.bench.clock.now().timestamp();
    for number in 0..9 {
        let id = format!("evt_update_{number}");
        api.commit([stripe_event(&id, "customer.updated", now + number / 2, &customer(1))]).await;
    }
    let rows = api.all_pages("/v1/users/user_1/events", 4).await;
    assert_eq!(rows.len(), 11);
    assert_eq!(ids(&rows).into_iter().collect::<BTreeSet<_>>().len(), 11);
    assert_eq!(ids(&api.all_pages("/v1/users/user_2/events", 4).await), ["msg_user_2"]);
    api.get("/v1/users/nobody/events").await.problem(404);
}

#[tokio::test]
async fn one_event_is_shown_with_its_effects_and_its_payload_when_asked() {
    let api = api().await;
    api.users(1, 2).await;
    let event = api.read("/v1/events/msg_user_1").await;
    assert_eq!((&event["outcome"], &event["provider"]), (&json!("applied"), &json!("clerk")));
    assert!(event["effects"].as_array().unwrap().len() > 5);
    assert_eq!(event.get("payload"), None);
    let event = api.read("/v1/events/msg_user_1?fields=payload").await;
    assert_eq!(event["payload"]["type"], "user.created");
    for unknown in ["evt_none", "%27%3B--", "a%00b", &"e".repeat(3000)] {
        api.get(&format!("/v1/events/{unknown}")).await.problem(404);
        api.send("POST", &format!("/v1/events/{unknown}/replay"), "").await.problem(404);
    }
    for (query, name) in [
        ("outcome=lost", "outcome"),
        ("provider=paypal", "provider"),
        ("source=x", "source"),
        ("type=", "type"),
        ("limit=1000", "limit"),
        ("cursor=e30", "cursor"),
        ("received_from=1", "received_from"),
        ("owner_id=%00", "owner_id"),
        ("fields=payload", "fields"),
        ("where=1", "where"),
    ] {
        api.refuses("GET", &format!("/v1/events?{query}"), "", 400, name).await;
    }
    api.refuses("GET", "/v1/users/user_1/events?cursor=x", "", 400, "cursor").await;
    api.refuses("GET", "/v1/events/msg_user_1?fields=effects", "", 400, "fields").await;
    api.refuses("GET", "/v1/events/msg_user_1?provider=x", "", 400, "provider").await;
}

#[tokio::test]
async fn an_event_that_failed_is_replayed_from_the_ledger_and_any_other_is_a_duplicate() {
    let api = api().await;
    api.users(1, 2).await;
    let event = stripe_event("evt_1", "customer.created", api.bench.clock.now().timestamp(), &customer(1));
    commit_failed(&api.bench.store, &event, "SQLSTATE 22P05", &api.bench.rules, &api.bench.clock).await.unwrap();
    assert_eq!(api.read("/v1/events?outcome=failed").await["data"][0]["event_id"], "evt_1");
    let answer = api.write("POST", "/v1/events/evt_1/replay", json!({})).await;
    assert_eq!(answer["outcome"], "applied");
    assert_eq!(api.read("/v1/users/user_1").await["stripe_customer_id"], "cus_1");
    for id in ["evt_1", "msg_user_1"] {
        assert_eq!(api.write("POST", &format!("/v1/events/{id}/replay"), json!({})).await["outcome"], "duplicate", "{id}");
    }
    api.write("PATCH", "/v1/users/user_1", json!({"requested_plan": "glow_up"})).await;
    let job = api.read("/v1/events?source=job").await["data"][0]["event_id"].as_str().unwrap().to_owned();
    api.send("POST", &format!("/v1/events/{job}/replay"), "").await.problem(409);
    api.bench.database.execute("update billsync.webhook_payloads set payload = null").await;
    api.send("POST", "/v1/events/evt_1/replay", "").await.problem(409);
}

#[tokio::test]
async fn two_events_of_one_id_are_told_apart_by_provider() {
    let api = api().await;
    api.users(1, 2).await;
    let same = stripe_event("msg_user_1", "customer.created", api.bench.clock.now().timestamp(), &customer(1));
    api.commit([same]).await;
    api.refuses("GET", "/v1/events/msg_user_1", "", 400, "provider").await;
    assert_eq!(api.read("/v1/events/msg_user_1?provider=stripe").await["event_type"], "customer.created");
    assert_eq!(api.read("/v1/events/msg_user_1?provider=clerk").await["event_type"], "user.created");
}

/// The plan of the list of events with these values in place of NULLs.
async fn plan(api: &Api, values: &[(usize, &str)]) -> String {
    let (_, sql) = statements().into_iter().find(|(name, _)| *name == "LIST_LEDGER").unwrap();
    let argument = |number: usize| match values.iter().find(|(place, _)| *place == number) {
        Some((_, value)) => (*value).to_owned(),
        None if number == 10 => "51".to_owned(),
        None if number == 11 => "false".to_owned(),
        None => "null".to_owned(),
    };
    let arguments: Vec<String> = (1..=11).map(argument).collect();
    let mut connection = api.bench.database.connect().await;
    let prepare = format!("set plan_cache_mode = force_custom_plan; prepare ledger as {sql}");
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut connection).await.unwrap();
    let explain = AssertSqlSafe(format!("explain execute ledger({})", arguments.join(", ")));
    let rows = sqlx::raw_sql(explain).fetch_all(&mut connection).await.unwrap();
    rows.iter().map(|row| sqlx::Row::get::<String, _>(row, 0)).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_page_is_read_by_an_index_also_of_a_rare_type() {
    let api = api().await;
    api.bench
        .database
        .execute(
            "insert into billsync.webhook_events (provider, event_id, event_type, owner_id, occurred_at, received_at, source, outcome) \
             select 'stripe', 'evt_' || n, case when n % 10000 = 0 then 'charge.dispute.created' when n % 3 = 0 then 'invoice.paid' \
                    else 'customer.updated' end, 'cus_' || n % 500, t, t, 'webhook', 'applied' \
             from generate_series(1, 30000) n, lateral (select '2026-01-01Z'::timestamptz + n * interval '1 minute') x(t)",
        )
        .await;
    api.bench.database.execute("analyze billsync.webhook_events").await;
    for (values, index) in [
        (&[][..], "webhook_events_received_at_idx"),
        (&[(3, "'charge.dispute.created'")], "webhook_events_event_type_idx"),
        (&[(3, "'charge.dispute.created'"), (8, "'2026-01-10Z'"), (9, "'evt_9'")], "webhook_events_event_type_idx"),
        (&[(5, "'cus_7'")], "webhook_events_owner_id_idx"),
        (&[(6, "'2026-01-20Z'"), (7, "'2026-01-21Z'")], "webhook_events_received_at_idx"),
    ] {
        let plan = plan(&api, values).await;
        assert!(plan.contains(index) && !plan.contains("Seq Scan on webhook_events"), "{values:?}:\n{plan}");
    }
    // None at all is found as quickly.
    let plan = plan(&api, &[(3, "'no.such.type'")]).await;
    assert!(plan.contains("webhook_events_event_type_idx"), "{plan}");
}
