//! Adoptions that are killed, in whatever moment, and run again.

use std::process::Child;

use super::{DRIZZLE, made_by, mend};
use crate::cli::{on, run_on};
use crate::support::database::TestDatabase;
use crate::support::service::billsync;
use crate::support::until;

/// Everything that a schema consists of, and how many rows there are.
const STATE: &str = "select md5(string_agg(n.nspname || c.relname || a.attname || format_type(a.atttypid, a.atttypmod) || \
        c.relrowsecurity, ',' order by n.nspname, c.relname, a.attnum)) || (select count(*) from users) \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid \
    where n.nspname not like 'pg\\_%' and a.attnum > 0";

/// Connections of a command that was killed, and of those that are at it.
const CONNECTED: &str =
    "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'billsync'";

fn begin(database: &TestDatabase) -> Child {
    billsync(&[("DATABASE_URL", &database.url)]).args(["migrate", "baseline"]).spawn().unwrap()
}

async fn kill(database: &TestDatabase, mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
    // The server finds out when it next writes to the client; until then it goes on waiting for the lock.
    database
        .execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'billsync'")
        .await;
    until("its connections have ended", async || database.ask::<i64>(CONNECTED).await == 0).await;
}

#[tokio::test]
async fn killed_while_it_adopts_nothing_has_happened() {
    // The tables that the adoption has to alter, from those that come first to those that come last.
    for table in ["users", "user_subscriptions", "user_system_data", "campaigns"] {
        let database = made_by(DRIZZLE).await;
        mend(&database).await;
        let before: String = database.ask(STATE).await;
        let mut holder = database.connect().await;
        let hold = format!("begin; lock table {table} in share mode");
        sqlx::raw_sql(sqlx::AssertSqlSafe(hold)).execute(&mut holder).await.unwrap();
        let child = begin(&database);
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'billsync' \
            and wait_event_type = 'Lock'";
        until("the adoption waits for the table", async || database.ask::<i64>(waiting).await > 0).await;
        kill(&database, child).await;
        sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
        assert_eq!(database.ask::<String>(STATE).await, before, "{table}");
        let (code, printed, complaints) = run_on(&database.url, &["migrate", "baseline", "--json"]);
        assert_eq!(code, 0, "{table}: {printed}\n{complaints}");
        assert_eq!(on(&database.url, &["migrate", "run"], 0), "The schema is up to date.\n");
    }
}

#[tokio::test]
async fn killed_while_it_projects_the_rest_is_for_rebuild() {
    let database = made_by(DRIZZLE).await;
    mend(&database).await;
    // With the plans in the catalog, the adopted rows are projected at once, unless somebody is at the catalog.
    database
        .execute(
            "insert into subscription_plans (plan_key, plan_name, campaigns_limit, creators_limit) values ('free', 'Free', 0, 0), \
            ('glow_up', 'Glow Up', 3, 1000), ('viral_surge', 'Viral Surge', 10, 10000)",
        )
        .await;
    let mut holder = database.connect().await;
    let hold = format!("begin; select pg_advisory_xact_lock({}, 0)", 0x6273_0000);
    sqlx::raw_sql(sqlx::AssertSqlSafe(hold)).execute(&mut holder).await.unwrap();
    let child = begin(&database);
    let adopted = "select exists (select from pg_namespace where nspname = 'billsync')";
    until("it is adopted", async || database.ask::<bool>(adopted).await).await;
    kill(&database, child).await;
    sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();

    let (code, printed, complaints) = run_on(&database.url, &["migrate", "baseline"]);
    assert_eq!((code, printed.as_str()), (1, ""), "{complaints}");
    assert!(complaints.contains("billsync rebuild"), "{complaints}");
    let (code, ..) = run_on(&database.url, &["rebuild"]);
    assert!(code == 0 || code == 3, "{code}");
    on(&database.url, &["rebuild"], 0);
    let limits: String = database
        .ask("select string_agg(plan_creators_limit::text, ' ' order by u.user_id) from user_usage g join users u on u.id = g.user_id")
        .await;
    assert_eq!(limits, "1000 10000 0 0");
}

#[tokio::test]
async fn an_adoption_that_a_busy_table_keeps_waiting_gives_up_and_can_be_run_again() {
    let database = made_by(DRIZZLE).await;
    mend(&database).await;
    let before: String = database.ask(STATE).await;
    let mut holder = database.connect().await;
    sqlx::raw_sql("begin; lock table users in access exclusive mode").execute(&mut holder).await.unwrap();
    let (code, printed, complaints) = run_on(&database.url, &["migrate", "baseline"]);
    assert_eq!((code, printed.as_str()), (1, ""), "{complaints}");
    assert!(complaints.contains("lock"), "{complaints}");
    sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
    assert_eq!(database.ask::<String>(STATE).await, before);
    assert_eq!(run_on(&database.url, &["migrate", "baseline"]).0, 0);
}
