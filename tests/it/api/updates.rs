//! `PATCH /v1/users/{id}` beside others: one round trip, one transaction, and nothing of anybody else's lost.

use billsync::ingest::transaction::{ensure_user, update_user};
use billsync::store::{ProfileUpdate, Store, StoreSettings, Updated, UserProfile};
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{Api, api};
use crate::batch::{at, clerk_user, commit_patiently, customer, stripe_event};
use crate::schedule::ask;
use crate::support::round_trips::RoundTrips;
use crate::support::wait;

const WAITING: &str = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";

async fn update(api: &Api, store: &Store, update: ProfileUpdate) -> UserProfile {
    match update_user(store, "user_1", update, &api.bench.rules, &api.bench.clock).await.unwrap() {
        Updated::Done(profile) => *profile,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_update_of_whatever_tables_is_one_round_trip() {
    let api = api().await;
    api.users(1, 2).await;
    let trips = RoundTrips::before(&api.bench.database.url).await;
    let store = Store::connect(&StoreSettings { max_connections: 1, ..StoreSettings::new(&trips.url) }).await.unwrap();
    let text = |text: &str| Some(Some(text.to_owned()));
    let sent_emails = vec![("welcome:user_1".to_owned(), Some(at("2026-03-10T12:00:00Z")))];
    let all = ProfileUpdate {
        business_name: text("Ada's"),
        brand_description: text("Numbers"),
        industry: Some(None),
        onboarding_step: text("completed"),
        is_admin: Some(Some(true)),
        sent_emails,
        ..ProfileUpdate::default()
    };
    // The first time, a connection learns the statement.
    update(&api, &store, ProfileUpdate::default()).await;
    for one in [all.clone(), ProfileUpdate { business_name: Some(None), ..ProfileUpdate::default() }, ProfileUpdate::default()] {
        trips.take();
        let profile = update(&api, &store, one).await;
        assert_eq!(trips.take(), 1);
        let read = store.get_user_profile("user_1").await.unwrap().unwrap();
        assert_eq!(json!(profile), json!(read), "what is answered is what is there");
    }
    let missing = ProfileUpdate { sent_emails: vec![("no:such".to_owned(), None)], ..all };
    trips.take();
    let refused = store.write_profile("user_1", &missing).await.unwrap();
    assert!(matches!(refused, Updated::UnknownEmail(ref key) if key == "no:such"), "{refused:?}");
    assert!(matches!(store.write_profile("nobody", &missing).await.unwrap(), Updated::UnknownUser));
    assert_eq!(trips.take(), 2);
    let (rules, clock) = (&api.bench.rules, &api.bench.clock);
    assert!(!ensure_user(&store, "user_1", rules, clock).await.unwrap());
    trips.take();
    assert!(!ensure_user(&store, "user_1", rules, clock).await.unwrap());
    assert_eq!(trips.take(), 1, "a user who is there is found in one");
    // The projection, which reads a requested plan, is not made in SQL: begin with the locks, two loads, the update, what
    // follows from it, commit, and the profile that came of it.
    let plan = |key: &str| ProfileUpdate {
        requested_plan: text(key),
        requested_at: Some(Some(clock.now())),
        ..ProfileUpdate::default()
    };
    update(&api, &store, plan("fame_flex")).await;
    trips.take();
    let profile = update(&api, &store, plan("glow_up")).await;
    assert_eq!((profile.intended_plan.as_deref(), trips.take()), (Some("glow_up"), 7));
}

#[tokio::test]
async fn rows_that_are_missing_are_made_by_an_update_that_needs_them() {
    let api = api().await;
    api.users(1, 2).await;
    for table in ["user_subscriptions", "user_billing", "user_usage", "user_system_data"] {
        api.bench.database.execute(&format!("delete from {table}")).await;
    }
    let named = api.write("PATCH", "/v1/users/user_1", json!({"business_name": "Ada's"})).await;
    assert_eq!((&named["business_name"], &named["subscription_status"]), (&json!("Ada's"), &json!("none")));
    let body = json!({"email_schedule_status": {"welcome:user_1": {"sent_at": null}}}).to_string();
    api.refuses("PATCH", "/v1/users/user_1", &body, 404, "email_schedule_status").await;
    let user = api.write("PATCH", "/v1/users/user_1", json!({"requested_plan": "glow_up", "industry": "Engines"})).await;
    assert_eq!((&user["requested_plan"], &user["intended_plan"]), (&json!("glow_up"), &json!("glow_up")));
    assert_eq!((&user["industry"], &user["current_plan"]), (&json!("Engines"), &json!("free")));
    assert!(user["email_schedule_status"]["welcome:user_1"].is_object(), "{user}");
    api.send("PATCH", "/v1/users/user_2", r#"{"requested_plan": "glow_up"}"#).await.problem(404);
    assert_eq!(ask(&api.bench, "select to_jsonb(count(*)) from users").await, 1, "nobody is made by an update");
}

#[tokio::test]
async fn an_update_waits_for_who_changes_the_user_and_answers_with_what_they_wrote() {
    let api = api().await;
    api.users(1, 2).await;
    let held = async |sql: &str| {
        let mut connection = api.bench.database.connect().await;
        sqlx::raw_sql(AssertSqlSafe(format!("begin; {sql}"))).execute(&mut connection).await.unwrap();
        connection
    };
    let mut connection = held("update users set full_name = 'Countess' where user_id = 'user_1'").await;
    let patch = api.write("PATCH", "/v1/users/user_1", json!({"business_name": "Ada's", "is_admin": true}));
    let others = async {
        wait::until("the update waits", async || api.bench.database.ask::<i64>(WAITING).await > 0).await;
        sqlx::raw_sql("commit").execute(&mut connection).await.unwrap();
    };
    let (user, ()) = tokio::join!(patch, others);
    assert_eq!((&user["full_name"], &user["business_name"]), (&json!("Countess"), &json!("Ada's")));

    let mut connection = held("delete from users where user_id = 'user_1'").await;
    let patch = api.send("PATCH", "/v1/users/user_1", r#"{"business_name": "a ghost"}"#);
    let others = async {
        wait::until("the update waits", async || api.bench.database.ask::<i64>(WAITING).await > 0).await;
        sqlx::raw_sql("commit").execute(&mut connection).await.unwrap();
    };
    tokio::join!(patch, others).0.problem(404);
    assert_eq!(ask(&api.bench, "select to_jsonb(count(*)) from user_subscriptions").await, 0);
}

#[tokio::test]
async fn updates_and_webhooks_at_once_lose_nothing() {
    let api = api().await;
    api.users(1, 2).await;
    let now = api.bench.clock.now().timestamp();
    let fields = ["business_name", "brand_description", "industry", "requested_plan"];
    let patches = join_all((0..40).map(|n| {
        let (name, sent_at) = (fields[n % 4], "2026-03-10T12:00:00Z");
        let mut body = json!({name: format!("glow_up {n}")});
        if n % 4 == 2 {
            body["email_schedule_status"] = json!({"welcome:user_1": {"sent_at": sent_at}});
        }
        let api = &api;
        async move { api.write("PATCH", "/v1/users/user_1", body).await }
    }));
    let bench = &api.bench;
    let webhooks = join_all((0..20).map(|n| async move {
        let event = match n % 2 {
            0 => stripe_event(&format!("evt_{n}"), "customer.updated", now + n, &customer(1)),
            _ => clerk_user(1),
        };
        commit_patiently(&bench.store, &crate::batch::arcs([event]), &bench.rules, &bench.clock).await;
    }));
    let (answers, _) = tokio::join!(patches, webhooks);
    // A requested plan is answered as it is after the projection: by then, another may have been requested.
    for (n, answer) in answers.iter().enumerate().filter(|(n, _)| n % 4 != 3) {
        assert_eq!(answer[fields[n % 4]], format!("glow_up {n}"), "each is answered with what it wrote");
    }
    let user = api.read("/v1/users/user_1").await;
    for name in fields {
        assert!(user[name].as_str().is_some_and(|text| text.starts_with("glow_up ")), "{name}: {user}");
    }
    assert_eq!(user["email_schedule_status"]["welcome:user_1"]["sent_at"], "2026-03-10T12:00:00Z");
    assert_ne!(user["email"], Value::Null);
}
