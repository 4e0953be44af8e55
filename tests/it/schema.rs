//! The schema: complete, private, and made once however many processes start.

use billsync::store::{MigrationState, Store, StoreSettings, statements};
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Executor, PgConnection, SqlSafeStr};

use crate::support::database::{TestDatabase, empty_database};

/// The tables of which a signed-in user may read their own rows.
const OWN_ROWS: [&str; 10] = [
    "users",
    "user_subscriptions",
    "user_billing",
    "user_usage",
    "user_system_data",
    "campaigns",
    "scraping_jobs",
    "scraping_results",
    "creator_lists",
    "list_items",
];

fn now() -> DateTime<Utc> {
    "2026-03-10T12:00:00Z".parse().unwrap()
}

async fn migrated(database: &TestDatabase) -> Store {
    let store = Store::connect(&StoreSettings::new(&database.url)).await.unwrap();
    store.migrate(now()).await.unwrap();
    store
}

async fn strings(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(connection).await.unwrap()
}

#[tokio::test]
async fn every_statement_prepares_against_the_migrated_schema() {
    let database = empty_database().await;
    migrated(&database).await;
    let mut connection = database.connect().await;
    let all = statements();
    assert!(all.len() > 30, "{}", all.len());
    for (name, sql) in all {
        if let Err(error) = connection.prepare(sql.into_sql_str()).await {
            panic!("{name}: {error}");
        }
    }
}

#[tokio::test]
async fn several_processes_may_migrate_at_once() {
    let database = empty_database().await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let store = Store::connect(&StoreSettings::new(&database.url)).await.unwrap();
        tasks.push(tokio::spawn(async move { store.migrate(now()).await.unwrap().len() }));
    }
    let mut applied = Vec::new();
    for task in tasks {
        applied.push(task.await.unwrap());
    }
    applied.sort_unstable();
    let total = migrated(&database).await.migration_status().await.unwrap().len();
    assert_eq!(applied, [0, 0, 0, total]);
}

#[tokio::test]
async fn what_has_run_is_not_run_again_and_not_needed_to_be_ours() {
    let database = empty_database().await;
    let store = Store::connect(&StoreSettings::new(&database.url)).await.unwrap();
    assert!(!store.missing_migrations().await.unwrap().is_empty());
    store.migrate(now()).await.unwrap();
    assert_eq!(store.missing_migrations().await.unwrap(), Vec::<i64>::new());
    assert_eq!(store.migrate(now()).await.unwrap(), Vec::<i64>::new());
    // A newer version has migrated: this one goes on.
    database
        .execute(
            "insert into billsync.migrations (version, description, success, checksum, execution_time) \
            values (9999, 'later', true, '\\x00', 0)",
        )
        .await;
    assert_eq!(store.migrate(now()).await.unwrap(), Vec::<i64>::new());
    let last = store.migration_status().await.unwrap().pop().unwrap();
    assert!(matches!(last.state, MigrationState::Unknown(_)), "{last:?}");
}

#[tokio::test]
async fn an_edited_migration_is_refused() {
    let database = empty_database().await;
    let store = migrated(&database).await;
    database.execute("update billsync.migrations set checksum = '\\x00' where version = 2").await;
    let error = store.migrate(now()).await.unwrap_err().to_string();
    assert!(error.contains("migration 2"), "{error}");
}

#[tokio::test]
async fn anon_reads_nothing_and_authenticated_only_own_rows_whatever_default_privileges_grant() {
    let database = empty_database().await;
    // As Supabase has it, and then some; roles are shared by the cluster, so another test may have made them.
    database
        .execute(
            "select pg_advisory_lock(7); do $$ begin \
            if not exists (select from pg_roles where rolname = 'anon') then create role anon; end if; \
            if not exists (select from pg_roles where rolname = 'authenticated') then create role authenticated; end if; \
            end $$; select pg_advisory_unlock(7); \
            grant usage on schema public to anon, authenticated; \
            alter default privileges grant all on tables to anon, authenticated; \
            alter default privileges grant all on functions to anon, authenticated; \
            alter default privileges grant all on sequences to anon, authenticated; \
            alter default privileges grant usage on schemas to anon, authenticated; \
            alter default privileges in schema public grant all on tables to anon, authenticated;",
        )
        .await;
    let store = migrated(&database).await;
    database.execute("insert into users (user_id) values ('user_1'); insert into billsync.operator_links values ('cus_1')").await;
    store.ensure_payload_partitions("2030-01-01T00:00:00Z".parse().unwrap()).await.unwrap();
    let mut connection = database.connect().await;
    let relations = strings(
        &mut connection,
        "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
        where n.nspname in ('public', 'billsync') and c.relkind in ('r', 'p', 'v', 'm', 'f')",
    )
    .await;
    assert!(relations.len() > 30, "{relations:?}");
    for role in ["anon", "authenticated"] {
        connection.execute(AssertSqlSafe(format!("set role {role}"))).await.unwrap();
        for relation in &relations {
            let read = connection.fetch_all(AssertSqlSafe(format!("select * from {relation}"))).await;
            let name = relation.strip_prefix("public.").unwrap_or_default();
            if role == "authenticated" && OWN_ROWS.contains(&name) {
                assert!(read.unwrap().is_empty(), "{relation}: without claims nothing is one's own");
            } else {
                let error = read.unwrap_err();
                assert!(error.to_string().contains("permission denied"), "{role} {relation}: {error}");
            }
        }
        connection.execute("reset role").await.unwrap();
    }
    let granted = strings(
        &mut connection,
        "select format('%s %s %s', grantee, table_name, privilege_type) from information_schema.role_table_grants \
        where grantee in ('anon', 'authenticated', 'PUBLIC') and table_schema in ('public', 'billsync') order by 1",
    )
    .await;
    let mut expected: Vec<String> = OWN_ROWS.iter().map(|table| format!("authenticated {table} SELECT")).collect();
    expected.sort_unstable();
    assert_eq!(granted, expected);
    database.execute("drop owned by anon, authenticated").await;
}

#[tokio::test]
async fn every_table_of_the_application_is_guarded_timed_and_indexed() {
    let database = empty_database().await;
    migrated(&database).await;
    let mut connection = database.connect().await;
    let open = "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' \
        and not relrowsecurity";
    assert_eq!(strings(&mut connection, open).await, Vec::<String>::new());
    let untimed = "select relname::text from pg_class c where relnamespace = 'public'::regnamespace and relkind = 'r' \
        and not exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname = 'set_updated_at')";
    assert_eq!(strings(&mut connection, untimed).await, Vec::<String>::new());
    let unindexed = "select conrelid::regclass || '.' || conname from pg_constraint c where contype = 'f' and not exists \
        (select from pg_index i where i.indrelid = c.conrelid and i.indkey[0] = c.conkey[1] and i.indpred is null)";
    assert_eq!(strings(&mut connection, unindexed).await, Vec::<String>::new());
    let kept = "select conrelid::regclass || '.' || conname from pg_constraint where contype = 'f' and confdeltype <> 'c'";
    assert_eq!(strings(&mut connection, kept).await, Vec::<String>::new());
    let exposed = "select relname::text from pg_class where relnamespace = 'billsync'::regnamespace and relkind = 'v' \
        and not coalesce('security_invoker=true' = any(reloptions), false)";
    assert_eq!(strings(&mut connection, exposed).await, Vec::<String>::new());
    let untimed_dates = "select table_name || '.' || column_name from information_schema.columns \
        where table_schema in ('public', 'billsync') and data_type in ('date', 'timestamp without time zone')";
    assert_eq!(strings(&mut connection, untimed_dates).await, Vec::<String>::new());
}

#[tokio::test]
async fn updated_at_tells_of_changes_alone() {
    let database = empty_database().await;
    migrated(&database).await;
    database.execute("insert into users (user_id, updated_at) values ('user_1', '2020-01-01Z')").await;
    let mut connection = database.connect().await;
    database.execute("update users set email = null").await;
    let year = "select extract(year from updated_at)::text from users";
    assert_eq!(strings(&mut connection, year).await, ["2020"]);
    database.execute("update users set email = 'ada@example.com'").await;
    assert_ne!(strings(&mut connection, year).await, ["2020"]);
}

#[tokio::test]
async fn ids_are_uuids_of_version_7_in_order() {
    let database = empty_database().await;
    migrated(&database).await;
    database.execute("insert into users (user_id) values ('user_1')").await;
    database.execute("insert into users (user_id) values ('user_2')").await;
    let mut connection = database.connect().await;
    let ids: Vec<uuid::Uuid> =
        sqlx::query_scalar("select id from users order by user_id").fetch_all(&mut connection).await.unwrap();
    assert!(ids.iter().all(|id| id.get_version_num() == 7), "{ids:?}");
    assert!(ids[0] <= ids[1] || ids[0].as_bytes()[..6] == ids[1].as_bytes()[..6]);
    let drift = "select abs(extract(epoch from now()) - ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::int8 / 1000)::int8 \
        from users order by 1 desc limit 1";
    assert!(sqlx::query_scalar::<_, i64>(drift).fetch_one(&mut connection).await.unwrap() < 60, "{ids:?}");
}

#[tokio::test]
async fn a_role_that_row_level_security_applies_to_is_refused_by_name() {
    let database = empty_database().await;
    let store = migrated(&database).await;
    store.verify_role().await.unwrap();
    let role = format!("restricted_{}", std::process::id());
    database
        .execute(&format!(
            "create role {role} login; grant usage on schema public, billsync to {role}; \
            grant all on all tables in schema public, billsync to {role}"
        ))
        .await;
    let restricted = Store::connect(&StoreSettings::new(as_role(&database.url, &role))).await.unwrap();
    let error = restricted.verify_role().await.unwrap_err().to_string();
    assert!(error.contains(&role) && error.contains("bypassrls"), "{error}");
    restricted.close().await;
    database.execute(&format!("drop owned by {role}; drop role {role}")).await;
}

/// The same database as another role, by a setting of the session: the role has no password to connect with.
fn as_role(url: &str, role: &str) -> String {
    format!("{url}&options=-c%20role%3D{role}")
}

#[tokio::test]
async fn payload_partitions_are_made_ahead_and_take_over_what_came_too_early() {
    let database = empty_database().await;
    let store = migrated(&database).await;
    database
        .execute(
            "insert into billsync.webhook_payloads (received_at, provider, event_id) values ('2031-05-31 23:59:59.999Z', \
            'stripe', 'evt_1'), ('2031-06-01Z', 'stripe', 'evt_2')",
        )
        .await;
    let made = store.ensure_payload_partitions("2031-05-15T00:00:00Z".parse().unwrap()).await.unwrap();
    assert_eq!(made[0], "webhook_payloads_2031_05");
    assert_eq!(made.len(), 4);
    let mut connection = database.connect().await;
    let places = "select c.relname || ' ' || event_id from billsync.webhook_payloads p join pg_class c on c.oid = p.tableoid \
        order by event_id";
    let expected = ["webhook_payloads_2031_05 evt_1", "webhook_payloads_2031_06 evt_2"];
    assert_eq!(strings(&mut connection, places).await, expected);
    let dropped = store.drop_payload_partitions("2031-06-01T00:00:00Z".parse().unwrap()).await.unwrap();
    assert!(
        dropped.contains(&"webhook_payloads_2031_05".to_owned()) && !dropped.contains(&"webhook_payloads_2031_06".to_owned())
    );
}

#[tokio::test]
async fn the_views_give_columns_to_objects_of_every_shape() {
    let database = empty_database().await;
    migrated(&database).await;
    database
        .execute(
            r#"insert into billsync.provider_objects (provider, object_id, object_type, owner_id, as_of, object) values
            ('stripe', 'sub_1', 'subscription', 'cus_1', now(), '{"status": "active", "current_period_end": 1772000000}'),
            ('stripe', 'sub_2', 'subscription', 'cus_1', now(), '{"status": "active", "items": {"data": [
                {"id": "si_1", "current_period_end": 1772000000, "price": {"id": "price_1", "product": {"id": "prod_1"}}},
                {"id": "si_2"}]}}'),
            ('stripe', 'sub_3', 'subscription', null, now(), '{"status": 7, "created": "soon", "items": {"data": {}}}'),
            ('stripe', 'in_1', 'invoice', 'cus_1', now(), '{"subscription": "sub_1", "paid": true, "amount_due": 9900}'),
            ('stripe', 'in_2', 'invoice', 'cus_1', now(),
                '{"parent": {"subscription_details": {"subscription": {"id": "sub_2"}}}, "status": "open"}'),
            ('clerk', 'user_1', 'user', 'user_1', now(), '{"primary_email_address_id": "b", "created_at": 1772000000000,
                "email_addresses": [{"id": "a", "email_address": "first@x"}, {"id": "b", "email_address": "second@x"}]}')"#,
        )
        .await;
    let mut connection = database.connect().await;
    let ends = "select id || ' ' || coalesce(extract(epoch from current_period_end)::int8::text, '-') \
        from billsync.stripe_subscriptions order by id";
    assert_eq!(strings(&mut connection, ends).await, ["sub_1 1772000000", "sub_2 1772000000", "sub_3 -"]);
    let items = "select concat_ws(' ', id, subscription, price, product) from billsync.stripe_subscription_items order by id";
    assert_eq!(strings(&mut connection, items).await, ["si_1 sub_2 price_1 prod_1", "si_2 sub_2"]);
    let invoices = "select concat_ws(' ', id, subscription, status, amount_due) from billsync.stripe_invoices order by id";
    assert_eq!(strings(&mut connection, invoices).await, ["in_1 sub_1 paid 9900", "in_2 sub_2 open"]);
    let users = "select email_address || ' ' || extract(epoch from created_at)::int8 from billsync.clerk_users";
    assert_eq!(strings(&mut connection, users).await, ["second@x 1772000000"]);
    let views = strings(
        &mut connection,
        "select relname::text from pg_class where relnamespace = 'billsync'::regnamespace and relkind = 'v'",
    )
    .await;
    for view in views {
        let columns = strings(
            &mut connection,
            &format!("select attname::text from pg_attribute where attrelid = 'billsync.{view}'::regclass and attnum <= 6 order by attnum"),
        )
        .await;
        assert_eq!(columns, ["id", "account", "customer", "deleted", "as_of", "object"], "{view}");
        connection.execute(AssertSqlSafe(format!("select * from billsync.{view}"))).await.unwrap();
    }
}
