//! The database refuses everything: 503, nothing kept, `/readyz` red while it lasts, and the retry succeeds afterwards.

use billsync::embedded_postgres::{EmbeddedPostgres, Options};
use billsync::ingest::committer;
use billsync::store::{Store, StoreSettings};

use crate::support::database::{TestDatabase, database};
use crate::support::events::{Webhook, customer_created, subscription_updated, user_created};
use crate::support::server::{TestServer, now, server, server_on};

/// The sender is asked to come again, the event is not kept, and readiness turns red.
async fn refused(server: &TestServer, webhook: &Webhook) {
    let answer = server.send(webhook).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    let seconds: u32 = answer.header("retry-after").expect("Retry-After").parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    for secret in ["whsec_", "postgres://", "user_billing", "webhook_events", "permission denied"] {
        assert!(!answer.body.contains(secret), "the cause is for the log: {}", answer.body);
    }
    server.until_ready(false).await;
}

/// Readiness comes back by itself, without an event, and the sender's retry is applied.
async fn accepted_again(server: &TestServer, webhook: &Webhook) {
    server.until_ready(true).await;
    assert_eq!(server.outcome(webhook).await, "applied");
}

/// A fault made by SQL, and its repair.
async fn survives(server: &TestServer, database: &TestDatabase, fault: &str, repair: &str) {
    let subscription = subscription_updated(1, 1, now());
    database.execute(fault).await;
    refused(server, &subscription).await;
    assert_eq!(database.ledger(&subscription.id).await, None);
    database.execute(repair).await;
    accepted_again(server, &subscription).await;
    assert_eq!(database.ask::<i64>("select count(*) from user_billing where stripe_subscription_id = 'sub_1'").await, 1);
}

/// A server whose role is not the superuser's, so that privileges and read-only databases bind it.
async fn server_of_a_plain_role(database: &TestDatabase) -> (TestServer, String) {
    let role = format!("role_of_{}", database.name);
    database
        .execute(&format!(
            "create role {role} login bypassrls password 'plain'; \
         grant usage on schema public, billsync to {role}; \
         grant all on all tables in schema public, billsync to {role}; \
         grant execute on all functions in schema public, billsync to {role}"
        ))
        .await;
    (server_on(&database.url_for(&role, "plain"), committer::Options::default()).await, role)
}

#[tokio::test]
async fn a_revoked_grant() {
    let database = database().await;
    let (server, role) = server_of_a_plain_role(&database).await;
    server.link_users(1, 2).await;
    let revoke = format!("revoke insert on billsync.webhook_events from {role}");
    let grant = format!("grant insert on billsync.webhook_events to {role}");
    survives(&server, &database, &revoke, &grant).await;
    server.stop().await;
    database.execute(&format!("drop owned by {role}; drop role {role}")).await;
}

#[tokio::test]
async fn a_dropped_column() {
    let (server, database) = server().await;
    server.link_users(1, 2).await;
    let (drop, add) = ("alter table user_billing drop column card_brand", "alter table user_billing add card_brand varchar(20)");
    survives(&server, &database, drop, add).await;
}

#[tokio::test]
async fn a_read_only_database() {
    let (server, database) = server().await;
    server.link_users(1, 2).await;
    // Two statements, each committed by itself: sessions that are open keep their setting, so they have to go, and those that
    // come in their place must find the new one. On the way back nobody ends them: the service has to do so itself.
    let set = |value: &str| format!("alter database {} set default_transaction_read_only = {value}", database.name);
    let end_sessions = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}' and pid <> pg_backend_pid()",
        database.name
    );
    let subscription = subscription_updated(1, 1, now());
    database.execute(&set("on")).await;
    database.execute(&end_sessions).await;
    refused(&server, &subscription).await;
    let mut admin = database.connect().await;
    sqlx::raw_sql("set default_transaction_read_only = off").execute(&mut admin).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(set("off"))).execute(&mut admin).await.unwrap();
    assert_eq!(database.ledger(&subscription.id).await, None);
    accepted_again(&server, &subscription).await;
}

#[tokio::test]
async fn a_stopped_server_and_its_return() {
    let home = tempfile::tempdir().unwrap();
    let options = Options { guard_program: Some(env!("CARGO_BIN_EXE_billsync").into()), ..Options::new(home.path()) };
    let postgres = EmbeddedPostgres::start(&options).await.unwrap();
    let url = postgres.url().to_owned();
    let store = Store::connect(&StoreSettings::new(&url)).await.unwrap();
    store.migrate(now()).await.unwrap();
    store.close().await;
    let server = server_on(&url, committer::Options::default()).await;
    server.link_users(1, 2).await;
    let subscription = subscription_updated(1, 1, now());

    postgres.stop().await.unwrap();
    refused(&server, &subscription).await;
    let postgres = EmbeddedPostgres::start(&options).await.unwrap();
    assert_eq!(postgres.url(), url);
    accepted_again(&server, &subscription).await;
    assert_eq!(server.outcome(&subscription).await, "duplicate");
    server.stop().await;
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn connections_that_die_between_two_events_cost_the_sender_nothing() {
    let (server, database) = server().await;
    for number in 1..5 {
        assert_eq!(server.outcome(&user_created(number, now())).await, "applied");
        let terminated = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
             where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";
        assert!(database.ask::<i64>(terminated).await > 0);
        assert_eq!(server.outcome(&customer_created(number, now())).await, "applied");
    }
}

#[tokio::test]
async fn a_schema_that_was_never_migrated() {
    let empty = crate::support::database::empty_database().await;
    let server = server_on(&empty.url, committer::Options::default()).await;
    let user = user_created(1, now());
    refused(&server, &user).await;
    server.store.migrate(now()).await.unwrap();
    accepted_again(&server, &user).await;
}
