//! `/v1/users`: what is shown of a user, how one is found, and what the application may write.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use billsync::domain::event::Event;
use billsync::ingest::missing_user::{SourceError, UserSource};
use billsync::ingest::transaction::ensure_user;
use billsync::store::{Store, StoreSettings};
use chrono::TimeDelta;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use serde_json::{Value, json};

use super::{Api, api, api_with};
use crate::batch::{at, clerk_user, stripe_event, subscription};
use crate::schedule::ask;
use crate::support::round_trips::RoundTrips;

async fn subscriber(status: &str) -> Api {
    let api = api().await;
    api.users(1, 3).await;
    api.link(1).await;
    let now = api.bench.clock.now().timestamp();
    api.commit([stripe_event("evt_sub", "customer.subscription.created", now, &subscription(1, status))]).await;
    api
}

#[tokio::test]
async fn a_profile_is_every_column_of_the_five_rows_with_what_follows_from_them() {
    let api = subscriber("active").await;
    let user = api.read("/v1/users/user_1").await;
    assert_eq!(user["email"], "ada1@example.com");
    assert_eq!(user["current_plan"], "glow_up");
    assert_eq!(user["stripe_customer_id"], "cus_1");
    assert_eq!((&user["plan_campaigns_limit"], &user["plan_creators_limit"]), (&json!(3), &json!(1000)));
    assert!(user["plan_features"].is_object() && user["email_schedule_status"]["welcome:user_1"].is_object(), "{user}");
    assert_eq!(user["access"], json!({"granted": true, "plan": "glow_up", "reason": "active", "until": null}));
    assert_eq!(user["effective_trial_status"], "pending");

    // Whatever column a migration adds has to be shown or left out on purpose.
    let columns = ask(
        &api.bench,
        "select jsonb_agg(distinct column_name) from information_schema.columns where table_schema = 'public' and table_name \
         in ('users', 'user_subscriptions', 'user_billing', 'user_usage', 'user_system_data')",
    )
    .await;
    let columns: BTreeSet<&str> = columns.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let shown: BTreeSet<&str> = user.as_object().unwrap().keys().map(String::as_str).collect();
    let hidden: Vec<_> = columns.difference(&shown).copied().collect();
    assert_eq!(hidden, ["early_reset_subscription", "reset_held"]);
    let further: Vec<_> = shown.difference(&columns).copied().collect();
    assert_eq!(further, ["access", "effective_trial_status"]);
    let free = api.read("/v1/users/user_2").await;
    assert_eq!(free["access"], json!({"granted": false, "plan": "free", "reason": "no_subscription", "until": null}));
}

#[tokio::test]
async fn a_trial_that_is_over_has_expired_whether_or_not_the_sweep_has_come() {
    let api = api().await;
    api.users(1, 2).await;
    api.link(1).await;
    let now = api.bench.clock.now();
    let mut trialing = subscription(1, "trialing");
    trialing["trial_start"] = now.timestamp().into();
    trialing["trial_end"] = (now + TimeDelta::days(7)).timestamp().into();
    api.commit([stripe_event("evt_sub", "customer.subscription.created", now.timestamp(), &trialing)]).await;
    for (days, expected) in [(0, "active"), (7, "active"), (10, "expired")] {
        api.bench.clock.set(now + TimeDelta::days(days));
        let user = api.read("/v1/users/user_1").await;
        assert_eq!((&user["effective_trial_status"], &user["trial_status"]), (&json!(expected), &json!("active")), "{days}");
    }
}

#[tokio::test]
async fn a_user_is_found_by_each_of_its_ids() {
    let api = subscriber("active").await;
    let store = &api.bench.store;
    assert_eq!(store.get_user_profile("user_1").await.unwrap().unwrap().user_id, "user_1");
    assert_eq!(store.get_user_by_email("ADA1@Example.com").await.unwrap().unwrap().user_id, "user_1");
    assert_eq!(store.get_user_by_stripe_customer_id("cus_1").await.unwrap().unwrap().user_id, "user_1");
    assert_eq!(store.get_user_by_stripe_subscription_id("sub_1").await.unwrap().unwrap().user_id, "user_1");
    assert!(store.get_user_by_email("nobody@example.com").await.unwrap().is_none());
    assert!(store.get_user_by_stripe_customer_id("user_1").await.unwrap().is_none());
    assert!(store.get_user_by_stripe_subscription_id("cus_1").await.unwrap().is_none());
    for filter in [
        "email=ADA1%40example.com",
        "stripe_customer_id=cus_1",
        "stripe_subscription_id=sub_1",
        "subscription_status=active",
        "current_plan=glow_up",
    ] {
        let page = api.read(&format!("/v1/users?{filter}")).await;
        let ids: Vec<&Value> = page["data"].as_array().unwrap().iter().map(|user| &user["user_id"]).collect();
        assert_eq!(ids, ["user_1"], "{filter}");
        assert_eq!(page["data"][0]["plan_features"], Value::Null, "large columns are left out of lists");
    }
    let page = api.read("/v1/users?email=ada1%40example.com&fields=plan_features").await;
    assert!(page["data"][0]["plan_features"].is_object());
    assert_eq!(api.read("/v1/users?email=nobody%40example.com").await, json!({"data": [], "next_cursor": null}));
}

#[tokio::test]
async fn an_address_that_signed_up_again_is_the_newest_user() {
    let api = api().await;
    api.users(1, 3).await;
    api.bench.database.execute("update users set email = 'same@example.com', created_at = '2026-01-01Z'").await;
    api.bench.database.execute("update users set created_at = '2026-02-01Z' where user_id = 'user_2'").await;
    let found = async || api.bench.store.get_user_by_email("same@example.com").await.unwrap().unwrap().user_id;
    assert_eq!(found().await, "user_2");
    api.bench.database.execute("update users set deleted_at = now() where user_id = 'user_2'").await;
    assert_eq!(found().await, "user_1", "a deleted one comes last");
    assert_eq!(api.read("/v1/users?email=same%40example.com").await["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn pages_of_users_hold_each_once_also_when_they_are_of_one_instant() {
    let api = api().await;
    api.users(0, 23).await;
    api.bench.database.execute("update users set created_at = '2026-01-01Z' where user_id < 'user_15'").await;
    let rows = api.all_pages("/v1/users", 5).await;
    let ids: BTreeSet<&str> = rows.iter().map(|row| row["user_id"].as_str().unwrap()).collect();
    assert_eq!((rows.len(), ids.len()), (23, 23));
    let order = |row: &Value| (row["created_at"].as_str().unwrap().to_owned(), row["id"].as_str().unwrap().to_owned());
    assert!(rows.windows(2).all(|pair| order(&pair[0]) > order(&pair[1])));
    let recent = api.all_pages("/v1/users?created_from=2026-02-01T00:00:00Z", 7).await;
    let old = api.all_pages("/v1/users?created_before=2026-02-01T00:00:00Z", 7).await;
    assert_eq!(recent.len() + old.len(), 23);
    assert!(!recent.is_empty() && !old.is_empty());
}

#[tokio::test]
async fn an_update_goes_to_its_tables_null_clears_and_the_rest_is_kept() {
    let api = subscriber("active").await;
    let patch = json!({"business_name": "Ada's", "brand_description": "Numbers", "industry": "Engines",
        "onboarding_step": "step-2", "is_admin": true});
    let user = api.write("PATCH", "/v1/users/user_1", patch.clone()).await;
    for (name, value) in patch.as_object().unwrap() {
        assert_eq!(&user[name], value, "{name}");
    }
    let user = api.write("PATCH", "/v1/users/user_1", json!({"industry": null, "onboarding_step": null, "is_admin": null})).await;
    assert_eq!(
        (&user["industry"], &user["onboarding_step"], &user["is_admin"]),
        (&Value::Null, &json!("pending"), &json!(false))
    );
    assert_eq!(user["business_name"], "Ada's", "what is not named is kept");
    let updated = api.write("PATCH", "/v1/users/user_1", json!({})).await;
    assert_eq!(updated["updated_at"], user["updated_at"], "nothing is written for nothing");
    let other = api.read("/v1/users/user_2").await;
    assert_eq!(other["business_name"], Value::Null);
}

#[tokio::test]
async fn a_requested_plan_is_projected_at_once() {
    let api = api().await;
    api.users(1, 2).await;
    let user = api.write("PATCH", "/v1/users/user_1", json!({"requested_plan": "glow_up"})).await;
    assert_eq!((&user["requested_plan"], &user["intended_plan"]), (&json!("glow_up"), &json!("glow_up")));
    assert_eq!(user["requested_at"], "2026-03-10T12:00:00Z");
    let events = api.read("/v1/users/user_1/events?fields=effects").await;
    let newest = &events["data"][0];
    assert_eq!((&newest["event_type"], &newest["source"]), (&json!("profile.update"), &json!("job")), "the change is explained");
    assert_eq!(newest["effects"][0]["column"], "intended_plan");
    let user = api.write("PATCH", "/v1/users/user_1", json!({"requested_plan": null})).await;
    assert_eq!((&user["requested_at"], &user["intended_plan"]), (&Value::Null, &Value::Null));
    let user = api
        .write("PATCH", "/v1/users/user_1", json!({"requested_plan": "glow_up", "requested_at": "2026-01-01T00:00:00Z"}))
        .await;
    assert_eq!(user["requested_at"], "2026-01-01T00:00:00Z");
}

#[tokio::test]
async fn a_mail_that_was_sent_is_marked_and_the_mark_survives() {
    let api = api().await;
    api.users(1, 2).await;
    let mark = json!({"email_schedule_status": {"welcome:user_1": {"sent_at": "2026-03-10T12:00:00Z"}}});
    let before = api.read("/v1/users/user_1").await["email_schedule_status"]["welcome:user_1"].clone();
    let user = api.write("PATCH", "/v1/users/user_1", mark).await;
    let entry = &user["email_schedule_status"]["welcome:user_1"];
    assert_eq!((&entry["sent_at"], &entry["due_at"]), (&json!("2026-03-10T12:00:00Z"), &before["due_at"]));
    api.commit([stripe_event("evt_1", "customer.created", api.bench.clock.now().timestamp(), &crate::batch::customer(1))]).await;
    assert_eq!(api.read("/v1/users/user_1").await["email_schedule_status"]["welcome:user_1"], *entry);
    let wrong = json!({"email_schedule_status": {"no:such": {"sent_at": null}, "welcome:user_1": {"sent_at": null}}});
    api.refuses("PATCH", "/v1/users/user_1", &wrong.to_string(), 404, "email_schedule_status").await;
    assert_eq!(api.read("/v1/users/user_1").await["email_schedule_status"]["welcome:user_1"], *entry, "all or nothing");
}

#[tokio::test]
async fn what_is_not_the_applications_is_refused_by_name() {
    let api = subscriber("active").await;
    let before = api.read("/v1/users/user_1").await;
    for name in before.as_object().unwrap().keys() {
        let own = [
            "business_name",
            "brand_description",
            "industry",
            "onboarding_step",
            "is_admin",
            "requested_plan",
            "requested_at",
            "email_schedule_status",
        ];
        if !own.contains(&name.as_str()) {
            let patch = json!({"business_name": "never written", name.as_str(): null}).to_string();
            api.refuses("PATCH", "/v1/users/user_1", &patch, 400, name).await;
        }
    }
    for (body, name) in [
        (r#"{"no_such_field": 1}"#, "no_such_field"),
        (r#"{"business_name": 1}"#, "business_name"),
        (r#"{"business_name": ""}"#, "business_name"),
        (r#"{"business_name": "a\u0000b"}"#, "business_name"),
        (r#"{"business_name": "a", "business_name": "b"}"#, "business_name"),
        (r#"{"industry": {"a": 1}}"#, "industry"),
        (r#"{"is_admin": "yes"}"#, "is_admin"),
        (r#"{"onboarding_step": "step-3"}"#, "onboarding_step"),
        (r#"{"requested_at": "tomorrow"}"#, "requested_at"),
        (r#"{"requested_at": "+20000-01-01T00:00:00Z"}"#, "requested_at"),
        (r#"{"email_schedule_status": {"welcome:user_1": {"due_at": null}}}"#, "email_schedule_status.welcome:user_1.due_at"),
        (r#"{"email_schedule_status": {"welcome\u0000": {"sent_at": null}}}"#, "email_schedule_status"),
    ] {
        api.refuses("PATCH", "/v1/users/user_1", body, 400, name).await;
    }
    let long = json!({"requested_plan": "p".repeat(51)}).to_string();
    api.refuses("PATCH", "/v1/users/user_1", &long, 400, "requested_plan").await;
    for body in ["", "[]", "null", "{", "{\"business_name\": \"\\ud800\"}"] {
        api.send("PATCH", "/v1/users/user_1", body).await.problem(400);
    }
    assert_eq!(api.read("/v1/users/user_1").await, before);
    api.send("PATCH", "/v1/users/nobody", "{}").await.problem(404);
    api.send("PATCH", "/v1/users/nobody", r#"{"requested_plan": "glow_up"}"#).await.problem(404);
}

#[tokio::test]
async fn a_query_that_cannot_be_read_is_refused_by_name_and_hostile_text_is_only_text() {
    let api = subscriber("active").await;
    for (query, name) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=ten", "limit"),
        ("cursor=nonsense", "cursor"),
        ("cursor=", "cursor"),
        ("fields=password", "fields"),
        ("email=", "email"),
        ("email=a%00b", "email"),
        ("created_from=yesterday", "created_from"),
        ("created_before=2026-13-01T00:00:00Z", "created_before"),
        ("order=id", "order"),
        ("limit=1&limit=2", "limit"),
    ] {
        api.refuses("GET", &format!("/v1/users?{query}"), "", 400, name).await;
    }
    for hostile in
        ["%27%20or%201%3D1%20--", "%25", "%27%3B%20drop%20table%20users%3B--", "%7B%22%24gt%22%3A%22%22%7D", "%5C", "%FF"]
    {
        for name in ["email", "stripe_customer_id", "stripe_subscription_id", "subscription_status", "current_plan"] {
            assert_eq!(api.read(&format!("/v1/users?{name}={hostile}")).await["data"], json!([]), "{name} {hostile}");
        }
        api.get(&format!("/v1/users/{hostile}")).await.problem(404);
    }
    api.get("/v1/users/a%00b").await.problem(404);
    api.get(&format!("/v1/users/{}", "u".repeat(5000))).await.problem(404);
    for (method, path) in [("POST", "/v1/users"), ("DELETE", "/v1/users/user_1"), ("PUT", "/v1/users/user_1")] {
        api.send(method, path, "{}").await.problem(405);
    }
}

/// Knows `user_7` alone.
#[derive(Debug, Default)]
struct Directory {
    asked: AtomicUsize,
    is_down: bool,
}

impl UserSource for Directory {
    fn fetch_user<'a>(&'a self, clerk_id: &'a str) -> BoxFuture<'a, Result<Option<Event>, SourceError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer =
            if self.is_down { Err(SourceError("down".into())) } else { Ok((clerk_id == "user_7").then(|| clerk_user(7))) };
        async move { answer }.boxed()
    }
}

#[tokio::test]
async fn a_missing_user_is_made_once_however_many_ask() {
    let directory = Arc::new(Directory::default());
    let source = Arc::clone(&directory);
    let api = api_with(|options| options.user_source = Some(source)).await;
    let answers = join_all((0..20).map(|_| api.read("/v1/users/user_7"))).await;
    assert!(answers.iter().all(|user| user["email"] == "ada7@example.com" && user["id"] == answers[0]["id"]));
    assert_eq!(ask(&api.bench, "select to_jsonb(count(*)) from users").await, 1);
    let asked = directory.asked.load(Ordering::SeqCst);
    api.read("/v1/users/user_7").await;
    api.get("/v1/users/no_clerk_id").await.problem(404);
    assert_eq!(directory.asked.load(Ordering::SeqCst), asked, "nobody is asked about who is known, or who cannot be");
    api.get("/v1/users/user_8").await.problem(404);

    let down = Directory { is_down: true, ..Directory::default() };
    let api = api_with(|options| options.user_source = Some(Arc::new(down))).await;
    api.get("/v1/users/user_7").await.problem(503);
}

#[tokio::test]
async fn a_user_without_events_is_made_with_five_rows_once() {
    let api = api().await;
    let bench = &api.bench;
    let made =
        join_all((0..12).map(|_| async { ensure_user(&bench.store, "user_9", &bench.rules, &bench.clock).await.unwrap() }));
    assert_eq!(made.await.into_iter().filter(|made| *made).count(), 1);
    let user = api.read("/v1/users/user_9").await;
    assert_eq!((&user["current_plan"], &user["billing_sync_status"]), (&json!("free"), &json!("not_linked")));
    assert_eq!(user["usage_period_start"], json!(at("2026-03-10T12:00:00Z")));
    // What Clerk says later is about the same user.
    api.users(9, 10).await;
    let known = api.read("/v1/users/user_9").await;
    assert_eq!((&known["id"], &known["email"]), (&user["id"], &json!("ada9@example.com")));
}

#[tokio::test]
async fn each_helper_is_one_round_trip() {
    let api = subscriber("active").await;
    let trips = RoundTrips::before(&api.bench.database.url).await;
    let store = Store::connect(&StoreSettings { max_connections: 1, ..StoreSettings::new(&trips.url) }).await.unwrap();
    let now = api.bench.clock.now();
    // The first time, a connection learns each statement.
    for round in ["learns", "knows"] {
        let mut took = Vec::new();
        trips.take();
        assert!(store.get_user_profile("user_1").await.unwrap().is_some());
        took.push(trips.take());
        assert!(store.get_user_by_email("ADA1@example.com").await.unwrap().is_some());
        took.push(trips.take());
        assert!(store.get_user_by_stripe_customer_id("cus_1").await.unwrap().is_some());
        took.push(trips.take());
        assert!(store.get_user_by_stripe_subscription_id("sub_1").await.unwrap().is_some());
        took.push(trips.take());
        assert!(store.find_dashboard("user_1", now, now).await.unwrap().is_some());
        took.push(trips.take());
        assert_eq!(took, if round == "knows" { [1; 5] } else { [2; 5] }, "{round}");
    }
}

#[tokio::test]
async fn many_who_read_at_once_share_statements() {
    let api = subscriber("active").await;
    api.users(2, 40).await;
    let trips = RoundTrips::before(&api.bench.database.url).await;
    let store = Store::connect(&StoreSettings::new(&trips.url)).await.unwrap();
    trips.take();
    let ids: Vec<String> = (0..200).map(|n| format!("user_{}", n % 50)).collect();
    let found = join_all(ids.iter().map(|id| store.get_user_profile(id))).await;
    let asked = trips.take();
    assert!(asked <= 10, "two hundred reads in {asked} round trips");
    for (id, found) in ids.iter().zip(found) {
        let is_known = (1..40).any(|n| *id == format!("user_{n}"));
        assert_eq!(found.unwrap().map(|profile| profile.user_id), is_known.then(|| id.clone()));
    }
}
