//! Behind a transaction pooler: every read of the API, the commands and the tasks, each in a transaction and without a name.

use billsync::ingest::transaction;
use billsync::store::{Customers, LedgerFilter, PoolerMode, ReplayFilter, StoreSettings, UserFilter};
use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{Api, api, api_on};
use crate::batch::{arcs, clerk_user, customer, stripe_event};

/// One connection, so that whatever was named on it is seen by the next batch.
fn pooled(url: &str) -> StoreSettings {
    StoreSettings { pooler: PoolerMode::Transaction, max_connections: 1, ..StoreSettings::new(url) }
}

/// Has every batch note how many statements its session has names for.
async fn watch(api: &Api) {
    api.bench
        .database
        .execute(
            "create table seen (names bigint); create function see() returns trigger language plpgsql as $$ begin \
                insert into seen select count(*) from pg_prepared_statements; return null; end $$; \
            create trigger see after insert on billsync.webhook_events for each statement execute function see()",
        )
        .await;
}

async fn names(api: &Api) -> Value {
    api.commit([clerk_user(90)]).await;
    api.bench.query("select to_jsonb(max(names)) from seen").await
}

/// Reads everything that can be read over HTTP.
async fn read_all(api: &Api) -> Vec<Value> {
    api.users(1, 2).await;
    api.link(1).await;
    api.bench.database.execute("update user_usage set plan_campaigns_limit = -1, plan_creators_limit = -1").await;
    api.write("POST", "/v1/campaigns", json!({"user_id": "user_1", "name": "c"})).await;
    let job = api.write("POST", "/v1/jobs", json!({"user_id": "user_1"})).await;
    let list = api.write("POST", "/v1/lists", json!({"user_id": "user_1", "name": "l"})).await;
    let (job, list) =
        (format!("/v1/jobs/{}", job["id"].as_str().unwrap()), format!("/v1/lists/{}", list["id"].as_str().unwrap()));
    api.write("POST", &format!("{job}/results"), json!({"creators": []})).await;
    api.write("POST", &format!("{list}/items"), json!({"platform": "p", "creator_handle": "h"})).await;
    api.write("POST", "/v1/users/user_1/usage/creators/consume", json!({"amount": 1, "idempotency_key": "k"})).await;
    api.write("PATCH", "/v1/users/user_1", json!({"industry": "x"})).await;
    let mut read = Vec::new();
    for path in [
        "/v1/users",
        "/v1/users?email=user_1@example.com",
        "/v1/users?stripe_customer_id=cus_1",
        "/v1/users?stripe_subscription_id=sub_1&subscription_status=active&current_plan=free",
        "/v1/users/user_1",
        "/v1/users/user_1/usage",
        "/v1/users/user_1/dashboard",
        "/v1/users/user_1/events?fields=effects",
        "/v1/plans",
        "/v1/events?type=user.created&outcome=applied",
        "/v1/events/evt_cus_1",
        "/v1/campaigns?user_id=user_1",
        "/v1/jobs?user_id=user_1&fields=results",
        "/v1/lists?user_id=user_1",
        &job,
        &format!("{job}/results"),
        &list,
        &format!("{list}/items"),
    ] {
        read.push(without_ids(api.read(path).await));
    }
    read
}

/// What two databases have in common: everything but ids and the times of writing.
fn without_ids(mut value: Value) -> Value {
    const OWN: [&str; 9] =
        ["id", "campaign_id", "job_id", "list_id", "created_at", "updated_at", "next_cursor", "received_at", "event_id"];
    match &mut value {
        Value::Object(members) => {
            members.retain(|name, _| !OWN.contains(&name.as_str()));
            members.values_mut().for_each(|member| *member = without_ids(member.take()));
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| *element = without_ids(element.take())),
        _ => {}
    }
    value
}

#[tokio::test]
async fn the_api_reads_the_same_without_naming_a_statement() {
    let behind_pooler = api_on(pooled, |_options| {}).await;
    watch(&behind_pooler).await;
    let read = read_all(&behind_pooler).await;
    assert_eq!(names(&behind_pooler).await, 0);
    let direct = api().await;
    watch(&direct).await;
    for (with_names, without) in read_all(&direct).await.into_iter().zip(read) {
        assert_eq!(with_names, without);
    }
    assert_ne!(names(&direct).await, 0, "the test can tell");
}

#[tokio::test]
async fn so_do_the_commands_and_the_tasks() {
    let api = api_on(pooled, |_options| {}).await;
    watch(&api).await;
    let (store, now) = (&api.bench.store, api.bench.clock.now());
    api.users(1, 3).await;
    api.link(1).await;
    let one = ["cus_1".to_owned()];
    assert_eq!(store.list_held_objects("stripe", &one).await.unwrap().len(), 1);
    let clerk_users = store.list_held_users("", now + TimeDelta::days(1), 10).await.unwrap();
    assert_eq!(clerk_users, ["user_1", "user_2"]);
    assert_eq!(store.list_customers(Customers::Linked, "", 10).await.unwrap(), one);
    assert_eq!(store.count_customers(Customers::Known).await.unwrap(), 1);
    assert_eq!(store.list_customer_owners(&one).await.unwrap().len(), 1);
    assert!(store.list_current_objects(&one, "subscription").await.unwrap().is_empty());
    assert_eq!(store.list_known_events(&["evt_cus_1".to_owned()]).await.unwrap().len(), 1);
    assert!(store.list_erased(&one).await.unwrap().is_empty() && !store.is_erased("user_1").await.unwrap());
    assert!(store.list_due_refetches(now, 10).await.unwrap().is_empty());
    assert!(store.find_refetch_conditions(&one).await.unwrap().is_empty());
    assert_eq!(store.count_refetches().await.unwrap(), 0);
    store.save_cursor("c", &json!({"a": 1})).await.unwrap();
    assert_eq!(store.find_cursor::<Value>("c").await.unwrap(), Some(json!({"a": 1})));
    store.delete_cursor("c").await.unwrap();
    assert_eq!(store.list_known_users(&["user_1".to_owned()]).await.unwrap(), ["user_1"]);
    assert_eq!(store.find_person("user_1").await.unwrap().customers, one);
    assert_eq!(store.list_users(&UserFilter { limit: 10, ..UserFilter::default() }).await.unwrap().len(), 2);
    assert_eq!(store.list_ledger(&LedgerFilter { limit: 10, ..LedgerFilter::default() }).await.unwrap().len(), 3);
    assert_eq!(store.count_replayable(&ReplayFilter::default()).await.unwrap(), 3);
    assert!(store.find_profile("user_1").await.unwrap().is_some());
    assert_eq!(store.list_owner_ids("user_1").await.unwrap().len(), 2, "and the user");
    let event = stripe_event("evt_again", "customer.updated", now.timestamp() + 5, &customer(1));
    transaction::commit(store, &arcs([event]), &api.bench.rules, &api.bench.clock).await.unwrap();
    assert_eq!(names(&api).await, 0);
}
