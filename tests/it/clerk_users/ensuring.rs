//! Users made from Clerk's API: the same rows as a webhook makes, in any order and at once.

use std::sync::Arc;

use billsync::clock::Clock;
use billsync::domain::rules::Rules;
use billsync::ensure::{Ensured, Ensurer};
use billsync::ingest::committer::{Committer, Options};
use billsync::store::{Store, StoreSettings};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::api::{api_of, quick};
use crate::support::database::{TestDatabase, database};
use crate::support::events::{Webhook, customer_created};
use crate::support::fake_clerk::{FakeClerk, KEY, clerk_user};
use crate::support::server::{now, server};
use crate::support::service::billsync;
use crate::support::until;

pub async fn ensurer(database: &TestDatabase, fake: &FakeClerk) -> Ensurer {
    let store = Store::connect(&StoreSettings::new(&database.url)).await.unwrap();
    let committer = Committer::start(store.clone(), Arc::new(Rules::default()), Clock::manual(now()), Options::default());
    Ensurer { api: api_of(fake, quick()), committer, store }
}

/// What a webhook about that user would be.
pub fn user_event(message_id: &str, event_type: &str, user: &Value, sent_at: DateTime<Utc>) -> Webhook {
    let body = json!({"type": event_type, "object": "event", "timestamp": sent_at.timestamp_millis(), "instance_id": "ins_1",
        "data": user});
    Webhook::clerk(message_id, body.to_string())
}

/// Everything of the five rows but ids, times of writing and what only a webhook can have set.
async fn rows(database: &TestDatabase, clerk_id: &str) -> Value {
    let silent = "'{id,user_id,created_at,updated_at,last_webhook_event,last_webhook_timestamp}'::text[]";
    let sql = format!(
        "select jsonb_build_array(to_jsonb(u) - {silent}, to_jsonb(s) - {silent}, to_jsonb(b) - {silent}, \
             to_jsonb(g) - {silent}, to_jsonb(d) - {silent}) from public.users u \
         join public.user_subscriptions s on s.user_id = u.id join public.user_billing b on b.user_id = u.id \
         join public.user_usage g on g.user_id = u.id join public.user_system_data d on d.user_id = u.id \
         where u.user_id = '{clerk_id}'"
    );
    database.ask(&sql).await
}

#[tokio::test]
async fn an_api_read_makes_the_rows_that_a_webhook_makes() {
    let fake = FakeClerk::start().await;
    let user = clerk_user(1, now());
    fake.put(user.clone());
    let (read, told) = (database().await, server().await);
    let ensurer = ensurer(&read, &fake).await;
    assert_eq!(ensurer.ensure_user("user_1").await.unwrap(), Ensured::Created);
    assert_eq!(told.0.outcome(&user_event("msg_1", "user.created", &user, now())).await, "applied");
    assert_eq!(rows(&read, "user_1").await, rows(&told.1, "user_1").await);
    let ledger: String = read
        .ask(
            "select string_agg(concat_ws(' ', provider, event_type, source, outcome, object_id, owner_id), ',') \
              from billsync.webhook_events where event_id like 'read:user_1:%'",
        )
        .await;
    assert_eq!(ledger, "clerk user.read reconcile applied user_1 user_1");

    // Reading it again is no news, and nobody's last visit is.
    let mut seen = user;
    seen["last_active_at"] = json!(now().timestamp_millis() + 77);
    fake.put(seen);
    assert_eq!(ensurer.ensure_user("user_1").await.unwrap(), Ensured::Known);
    assert_eq!(read.ask::<i64>("select count(*) from billsync.webhook_events").await, 1);
    assert_eq!(ensurer.ensure_user("user_2").await.unwrap(), Ensured::NotFound);
}

#[tokio::test]
async fn neither_a_late_webhook_nor_a_late_read_moves_a_user_back() {
    let fake = FakeClerk::start().await;
    let (server, database) = server().await;
    let ensurer = ensurer(&database, &fake).await;
    let name = async |clerk_id: &str| -> String {
        database.ask(&format!("select full_name from public.users where user_id = '{clerk_id}'")).await
    };
    let (old, new) = (clerk_user(1, now()), {
        let mut new = clerk_user(1, now() + TimeDelta::milliseconds(1));
        new["last_name"] = json!("Newer");
        new
    });
    // The read comes first, then the webhook of the older state.
    fake.put(new.clone());
    assert_eq!(ensurer.ensure_user("user_1").await.unwrap(), Ensured::Created);
    assert_eq!(server.outcome(&user_event("msg_old", "user.updated", &old, now())).await, "stale");
    assert_eq!(name("user_1").await, "Ada Newer");
    // The webhook of the same state says nothing new, but it is an event of the provider's.
    assert_eq!(server.outcome(&user_event("msg_new", "user.updated", &new, now())).await, "applied");
    // A read that lags behind.
    fake.put(old);
    assert_eq!(ensurer.ensure_user("user_1").await.unwrap(), Ensured::Known);
    assert_eq!(name("user_1").await, "Ada Newer");
}

#[tokio::test]
async fn many_at_once_make_a_user_once_and_find_what_waited_for_it() {
    let fake = FakeClerk::start().await;
    fake.put(clerk_user(1, now()));
    let (server, database) = server().await;
    assert_eq!(server.outcome(&customer_created(1, now())).await, "unlinked");
    let (one, other) = (ensurer(&database, &fake).await, ensurer(&database, &fake).await);
    let tries = (0..16).map(|number| if number % 2 == 0 { &one } else { &other }).map(|e| e.ensure_user("user_1"));
    for ensured in futures_util::future::join_all(tries).await {
        assert!(matches!(ensured.unwrap(), Ensured::Created | Ensured::Known));
    }
    assert_eq!(database.ask::<i64>("select count(*) from public.users").await, 1);
    assert_eq!(database.ask::<i64>("select count(*) from billsync.webhook_events where source = 'reconcile'").await, 1);
    assert_eq!(database.ask::<String>("select stripe_customer_id from public.user_billing").await, "cus_1");
}

#[tokio::test]
async fn the_command_ensures_by_id_and_everybody() {
    let fake = FakeClerk::start().await;
    for number in 1..=5 {
        fake.put(clerk_user(number, now()));
    }
    let database = database().await;
    let run = async |arguments: &[&str]| {
        let settings = [("DATABASE_URL", &*database.url), ("CLERK_SECRET_KEY", KEY), ("CLERK_API_BASE", &fake.base())];
        let mut command = billsync(&settings);
        command.args(arguments).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let shown = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!shown.contains("hunter2"), "{shown}");
        (output.status.code().unwrap(), shown)
    };
    let (code, shown) = run(&["users", "ensure", "user_2", "user_9"]).await;
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("created") && shown.contains("not found at Clerk"), "{shown}");
    let (code, shown) = run(&["users", "ensure", "--all", "--json"]).await;
    let summary: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &summary["read"], &summary["created"], &summary["known"]), (0, &json!(5), &json!(4), &json!(1)));
    assert_eq!(database.ask::<i64>("select count(*) from public.user_system_data").await, 5);

    let mut without_key = billsync(&[("DATABASE_URL", &database.url)]);
    let output = without_key.args(["users", "ensure", "--all"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("CLERK_SECRET_KEY is not set"));
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn everybody_is_ensured_from_where_a_kill_9_ended_it() {
    let fake = FakeClerk::start().await;
    // Pages of the command are of 200 users.
    for number in 1..=450 {
        fake.put(clerk_user(number, now()));
    }
    let database = database().await;
    let base = fake.base();
    let settings = [("DATABASE_URL", &*database.url), ("CLERK_SECRET_KEY", KEY), ("CLERK_API_BASE", &base)];
    fake.be_silent_from(Some(300));
    let mut killed = billsync(&settings).args(["users", "ensure", "--all"]).spawn().unwrap();
    until("it waits for the third page", async || fake.requests().iter().any(|request| request.contains("offset=398"))).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(database.ask::<i64>("select count(*) from public.users").await, 399);

    fake.be_silent_from(None);
    fake.forget_requests();
    let mut command = billsync(&settings);
    command
        .args(["users", "ensure", "--all", "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("going on after the 399 users"));
    assert_eq!(fake.requests().len(), 1, "{:?}", fake.requests());
    assert_eq!(database.ask::<i64>("select count(*) from public.users").await, 450);
    assert_eq!(database.ask::<i64>("select count(*) from billsync.sync_cursors").await, 0, "the next run is a whole one");
}
