//! Row-level security for `authenticated`, with real roles: what Supabase's REST API would show of whom to whom.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::api;

/// With how each table tells whose a row is.
const TABLES: [(&str, &str); 10] = [
    ("users", "user_id"),
    ("user_subscriptions", "(select u.user_id from users u where u.id = t.user_id)"),
    ("user_billing", "(select u.user_id from users u where u.id = t.user_id)"),
    ("user_usage", "(select u.user_id from users u where u.id = t.user_id)"),
    ("user_system_data", "(select u.user_id from users u where u.id = t.user_id)"),
    ("campaigns", "user_id"),
    ("scraping_jobs", "user_id"),
    ("scraping_results", "(select j.user_id from scraping_jobs j where j.id = t.job_id)"),
    ("creator_lists", "(select u.user_id from users u where u.id = t.user_id)"),
    ("list_items", "(select u.user_id from creator_lists l join users u on u.id = l.user_id where l.id = t.list_id)"),
];

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

/// Whose rows of a table the connection's role sees, each once.
async fn owners(connection: &mut PgConnection, table: &str, owner: &str) -> Vec<String> {
    let sql = format!("select distinct coalesce({owner}, '?') from {table} t order by 1");
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_signed_in_user_sees_own_rows_and_writes_none() {
    let api = api().await;
    api.users(1, 3).await;
    let database = &api.bench.database;
    database
        .execute(
            "insert into campaigns (user_id, name) select user_id, 'c' from users; \
             insert into scraping_jobs (user_id) select user_id from users; \
             insert into scraping_results (job_id) select id from scraping_jobs; \
             insert into creator_lists (user_id, name) select id, 'l' from users; \
             insert into list_items (list_id, platform, creator_handle) select id, 'p', 'h' from creator_lists",
        )
        .await;
    // Roles are shared by the cluster, so another test may have made it.
    database
        .execute(
            "select pg_advisory_lock(7); do $$ begin \
             if not exists (select from pg_roles where rolname = 'authenticated') then create role authenticated; end if; \
             end $$; select pg_advisory_unlock(7); grant usage on schema public to authenticated; \
             select billsync.publish_own_rows(); select billsync.publish_own_rows()",
        )
        .await;
    let mut connection = database.connect().await;
    for (table, owner) in TABLES {
        assert_eq!(owners(&mut connection, table, owner).await, ["user_1", "user_2"], "{table}: as the owner of the tables");
    }
    run(&mut connection, "set role authenticated").await;
    for (claims, visible) in [
        (Some(r#"{"sub": "user_1", "role": "authenticated"}"#), Some("user_1")),
        (Some(r#"{"sub": "user_2"}"#), Some("user_2")),
        (Some(r#"{"sub": "user_3"}"#), None),
        (Some("{}"), None),
        (Some(""), None),
        (None, None),
    ] {
        match claims {
            Some(claims) => run(&mut connection, &format!("set request.jwt.claims = '{claims}'")).await,
            None => run(&mut connection, "reset request.jwt.claims").await,
        }
        for (table, owner) in TABLES {
            let expected: Vec<&str> = visible.into_iter().collect();
            assert_eq!(owners(&mut connection, table, owner).await, expected, "{table} with {claims:?}");
        }
    }
    run(&mut connection, r#"set request.jwt.claims = '{"sub": "user_1"}'"#).await;
    for statement in [
        "update users set is_admin = true",
        "delete from campaigns",
        "insert into campaigns (user_id, name) values ('user_1', 'x')",
        "select * from subscription_plans",
        "select * from billsync.webhook_events",
        "select billsync.publish_own_rows()",
    ] {
        let error = sqlx::raw_sql(statement).execute(&mut connection).await.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{statement}: {error}");
    }
}
