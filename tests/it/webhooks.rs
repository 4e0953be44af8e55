//! What a sender is told and what the ledger keeps, over HTTP and on a real Postgres, each answer by its real cause.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use billsync::clock::Clock;
use billsync::domain::rules::Rules;
use billsync::domain::signature::standard_webhooks::ClerkSecret;
use billsync::domain::signature::stripe::StripeSecret;
use billsync::http::application::Application;
use billsync::http::server::ServerOptions;
use billsync::ingest::committer::Options;
use billsync::store::{Store, StoreSettings};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::http::client::{
    Answer, CLERK_SECRET, Connection, STRIPE_SECRET, clerk_signature, exchange, get, post, stripe_signature,
};
use crate::support::database::{self, TestDatabase};
use crate::support::until;

struct Running {
    database: TestDatabase,
    application: Application,
    address: SocketAddr,
}

async fn database() -> TestDatabase {
    let database = database::database().await;
    let store = Store::connect(&StoreSettings::new(&database.url)).await.unwrap();
    store.migrate(Clock::System.now()).await.unwrap();
    store.close().await;
    database
}

/// An application on a database of its own, as the superuser that made it.
async fn start() -> Running {
    let database = database().await;
    let url = database.url.clone();
    start_as(database, &url).await
}

/// The same, connecting by another URL.
async fn start_as(database: TestDatabase, url: &str) -> Running {
    let store = Store::connect(&StoreSettings::new(url)).await.unwrap();
    let server_options = ServerOptions {
        listen: "127.0.0.1:0".into(),
        stripe_secrets: vec![StripeSecret::parse(STRIPE_SECRET).unwrap().secret],
        clerk_secrets: vec![ClerkSecret::parse(CLERK_SECRET).unwrap().secret],
        ..ServerOptions::default()
    };
    let rules = Arc::new(Rules::default());
    let application = Application::start(store, rules, Clock::System, Options::default(), server_options).unwrap();
    let address = application.addresses()[0];
    Running { database, application, address }
}

impl Running {
    async fn deliver_stripe(&self, body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        exchange(self.address, post("/webhooks/stripe", &stripe_signature(body, now()), body)).await
    }

    async fn deliver_clerk(&self, id: &str, body: &Value) -> Answer {
        let body = body.to_string();
        exchange(self.address, post("/webhooks/clerk", &clerk_signature(id, &body, now()), body)).await
    }

    async fn stripe_outcome(&self, body: &Value) -> String {
        outcome(&self.deliver_stripe(body.to_string()).await)
    }

    /// Event id → outcome.
    async fn ledger(&self) -> BTreeMap<String, String> {
        let mut connection = self.database.connect().await;
        let rows = sqlx::query_as::<_, (String, String)>("select event_id, outcome from billsync.webhook_events");
        rows.fetch_all(&mut connection).await.unwrap().into_iter().collect()
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.database.connect().await).await.unwrap()
    }

    async fn readiness(&self) -> u16 {
        get(self.address, "/readyz").await.status
    }
}

fn outcome(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["outcome"].as_str().unwrap().to_owned()
}

fn now() -> i64 {
    Clock::System.now().timestamp()
}

fn user(id: &str) -> Value {
    json!({
        "object": "event", "type": "user.created", "timestamp": now() * 1000,
        "data": {"id": id, "object": "user", "created_at": now() * 1000, "updated_at": now() * 1000, "email_addresses": []}
    })
}

fn customer_event(id: &str, customer: &str, clerk_id: &str, created: i64) -> Value {
    json!({
        "id": id, "object": "event", "type": "customer.updated", "created": created, "livemode": false,
        "data": {"object": {"id": customer, "object": "customer", "created": 1, "metadata": {"clerk_user_id": clerk_id}}}
    })
}

#[tokio::test]
async fn every_outcome_is_told_and_kept() {
    let running = start().await;
    let at = now() - 100;
    assert_eq!(outcome(&running.deliver_clerk("msg_1", &user("user_1")).await), "applied");
    assert_eq!(outcome(&running.deliver_clerk("msg_1", &user("user_1")).await), "duplicate");
    let unlinked = json!({
        "id": "evt_unlinked", "object": "event", "type": "customer.created", "created": at, "livemode": false,
        "data": {"object": {"id": "cus_2", "object": "customer", "created": 1}}
    });
    let mirrored = json!({
        "id": "evt_mirrored", "object": "event", "type": "product.created", "created": at, "livemode": false,
        "data": {"object": {"id": "prod_1", "object": "product"}}
    });
    let unreadable = json!({
        "id": "evt_unreadable", "object": "event", "type": "customer.subscription.updated", "created": at, "livemode": false,
        "data": {"object": {"id": "sub_1", "object": "subscription", "customer": "cus_1"}}
    });
    let stale = customer_event("evt_stale", "cus_1", "user_1", at - 10);
    for (body, expected) in [
        (&customer_event("evt_applied", "cus_1", "user_1", at), "applied"),
        (&stale, "stale"),
        (&unlinked, "unlinked"),
        (&mirrored, "ignored"),
        (&unreadable, "failed"),
        (&stale, "duplicate"),
        (&unreadable, "failed"),
    ] {
        assert_eq!(running.stripe_outcome(body).await, expected, "{body}");
    }
    let expected = [
        ("evt_applied", "applied"),
        ("evt_mirrored", "ignored"),
        ("evt_stale", "stale"),
        ("evt_unlinked", "unlinked"),
        ("evt_unreadable", "failed"),
        ("msg_1", "applied"),
    ];
    let kept = running.ledger().await;
    assert_eq!(kept.iter().map(|(id, outcome)| (id.as_str(), outcome.as_str())).collect::<Vec<_>>(), expected);
    assert_eq!(running.readiness().await, 200);
}

/// Breaks the database by one statement, sees senders asked to retry and nothing kept, and mends it by the other.
async fn refuses_until_mended(running: Running, break_it: &str, mend_it: &str) {
    assert_eq!(running.stripe_outcome(&customer_event("evt_0", "cus_1", "user_1", now())).await, "unlinked");
    running.database.execute(break_it).await;
    let event = customer_event("evt_1", "cus_2", "user_1", now());
    for _ in 0..3 {
        let answer = running.deliver_stripe(event.to_string()).await;
        let detail = answer.problem(503);
        assert!(answer.header("retry-after").is_some());
        assert!(!detail.contains("billsync."), "names of tables are for the log: {detail}");
    }
    assert_eq!(running.readiness().await, 503, "{break_it}");
    assert_eq!(get(running.address, "/healthz").await.status, 200);
    running.database.execute(mend_it).await;
    until("it is ready again, without an event", async || running.readiness().await == 200).await;
    assert_eq!(running.ledger().await.len(), 1);
    assert_eq!(running.stripe_outcome(&event).await, "unlinked");
    running.application.stop().await.unwrap();
}

#[tokio::test]
async fn a_missing_table_or_column_asks_for_a_retry() {
    let rename = "alter table billsync.webhook_payloads rename to gone";
    refuses_until_mended(start().await, rename, "alter table billsync.gone rename to webhook_payloads").await;
    let rename = "alter table public.user_billing rename card_brand to gone";
    refuses_until_mended(start().await, rename, "alter table public.user_billing rename gone to card_brand").await;
}

#[tokio::test]
async fn a_revoked_right_asks_for_a_retry() {
    for table in ["billsync.webhook_events", "billsync.provider_objects"] {
        let database = database().await;
        let role = url::database(&database.url);
        database
            .execute(&format!(
                "drop role if exists {role}; create role {role} login bypassrls password 'test'; grant usage on schema public, billsync to {role}; \
                 grant all on all tables in schema public, billsync to {role}; \
                 grant execute on all functions in schema billsync to {role}"
            ))
            .await;
        let url = url::with_login(&database.url, &role, "test");
        let running = start_as(database, &url).await;
        let (revoke, grant) = (format!("revoke insert on {table} from {role}"), format!("grant insert on {table} to {role}"));
        refuses_until_mended(running, &revoke, &grant).await;
    }
}

#[tokio::test]
async fn a_database_that_has_become_read_only_asks_for_a_retry() {
    let running = start().await;
    let name = url::database(&running.database.url);
    // Present sessions keep their default: they are ended.
    let end_others =
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    let break_it = format!("alter database {name} set default_transaction_read_only = on; {end_others}");
    let mend_it =
        format!("set transaction_read_only = off; alter database {name} reset default_transaction_read_only; {end_others}");
    refuses_until_mended(running, &break_it, &mend_it).await;
}

#[tokio::test]
async fn text_that_postgres_cannot_hold_as_json_is_kept_and_acknowledged() {
    let running = start().await;
    let envelope = |id: &str, name: &str| {
        format!(
            r#"{{"id":"{id}","object":"event","type":"customer.updated","created":{},"livemode":false,
            "data":{{"object":{{"id":"cus_{id}","object":"customer","created":1,"name":{name}}}}}}}"#,
            now()
        )
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (id, name, expected) in [
        ("evt_surrogate", r#""\ud800""#, "unlinked"),
        ("evt_nul", r#""a\u0000b""#, "unlinked"),
        ("evt_number", "1e400000", "unlinked"),
        ("evt_digits", &"9".repeat(140_000), "unlinked"),
        ("evt_deep", &deep, "failed"),
    ] {
        assert_eq!(outcome(&running.deliver_stripe(envelope(id, name)).await), expected, "{id}");
    }
    assert_eq!(running.ledger().await.len(), 5);
    assert_eq!(running.count("select count(*) from billsync.webhook_payloads").await, 5);
    assert_eq!(running.readiness().await, 200);
}

/// Makes Postgres refuse one event's payload with that SQLSTATE, as long as it is sent as JSON.
async fn poison(running: &Running, event_id: &str, sqlstate: &str) {
    let sql = format!(
        "create function refuse() returns trigger language plpgsql as $$ begin \
         raise exception 'refused' using errcode = '{sqlstate}'; end $$; \
         create trigger refuse before insert on billsync.webhook_payloads for each row \
         when (new.event_id = '{event_id}' and new.payload is not null) execute function refuse()"
    );
    running.database.execute(&sql).await;
}

#[tokio::test]
async fn a_poison_event_among_many_fails_alone() {
    for sqlstate in ["22003", "23514", "54000"] {
        let running = start().await;
        poison(&running, "evt_31", sqlstate).await;
        let events = (0..64).map(|n| customer_event(&format!("evt_{n}"), &format!("cus_{n}"), "user_1", now()));
        let outcomes = join_all(events.map(|event| {
            let running = &running;
            async move { running.stripe_outcome(&event).await }
        }))
        .await;
        for (n, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome, if n == 31 { "failed" } else { "unlinked" }, "event {n}, {sqlstate}");
        }
        let reason =
            "select count(*) from billsync.webhook_events where event_id = 'evt_31' and outcome = 'failed' and reason <> ''";
        assert_eq!(running.count(reason).await, 1);
        assert_eq!(running.ledger().await.len(), 64);
        running.database.execute("drop trigger refuse on billsync.webhook_payloads").await;
        let again = customer_event("evt_31", "cus_31", "user_1", now());
        assert_eq!(running.stripe_outcome(&again).await, "unlinked", "what had failed is tried again");
    }
}

#[tokio::test]
async fn an_account_that_stays_locked_gives_its_event_back() {
    let running = start().await;
    assert_eq!(outcome(&running.deliver_clerk("msg_1", &user("user_1")).await), "applied");
    let mut outside = running.database.connect().await;
    sqlx::raw_sql("begin; update public.users set onboarding_step = 'step-1'").execute(&mut outside).await.unwrap();
    let event = customer_event("evt_1", "cus_1", "user_1", now());
    let started = Instant::now();
    let answer = running.deliver_stripe(event.to_string()).await;
    answer.problem(503);
    assert!(answer.header("retry-after").is_some());
    assert!((Duration::from_secs(5)..Duration::from_secs(8)).contains(&started.elapsed()), "{:?}", started.elapsed());
    assert_eq!(running.ledger().await.len(), 1);
    sqlx::raw_sql("rollback").execute(&mut outside).await.unwrap();
    assert_eq!(running.stripe_outcome(&event).await, "applied");
}

#[tokio::test]
async fn the_same_event_delivered_at_once_by_many_is_applied_once() {
    let running = start().await;
    assert_eq!(outcome(&running.deliver_clerk("msg_1", &user("user_1")).await), "applied");
    let event = customer_event("evt_1", "cus_1", "user_1", now());
    let outcomes = join_all((0..50).map(|_| running.stripe_outcome(&event))).await;
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "applied").count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "duplicate").count(), 49);
    assert_eq!(running.ledger().await.len(), 2);
}

#[tokio::test]
async fn every_200_before_an_orderly_end_is_in_the_ledger() {
    let running = start().await;
    let address = running.address;
    let senders: Vec<_> = (0..16)
        .map(|sender| {
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for n in 0.. {
                    let id = format!("evt_{sender}_{n}");
                    let body = customer_event(&id, &format!("cus_{sender}"), "user_1", now()).to_string();
                    let request = post("/webhooks/stripe", &stripe_signature(&body, now()), &body);
                    let Some(mut connection) = Connection::try_open(address).await else { break };
                    connection.send(request).await;
                    match connection.answer().await {
                        Some(answer) if answer.status == 200 => acknowledged.push(id),
                        Some(_) | None => break,
                    }
                }
                acknowledged
            })
        })
        .collect();
    until("events flow", async || running.count("select count(*) from billsync.webhook_events").await > 100).await;
    let database = running.database;
    running.application.stop().await.unwrap();
    let mut connection = database.connect().await;
    let kept: Vec<String> =
        sqlx::query_scalar("select event_id from billsync.webhook_events").fetch_all(&mut connection).await.unwrap();
    for sender in senders {
        for id in sender.await.unwrap() {
            assert!(kept.contains(&id), "{id} was acknowledged");
        }
    }
}

mod url {
    /// The name of the database.
    pub fn database(url: &str) -> String {
        url.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned()
    }

    /// The same URL with another login.
    pub fn with_login(url: &str, user: &str, password: &str) -> String {
        let (scheme, rest) = url.split_once("://").unwrap();
        let rest = rest.split_once('@').map_or(rest, |(_login, rest)| rest);
        format!("{scheme}://{user}:{password}@{rest}")
    }
}
