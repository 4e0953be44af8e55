//! The server, the role and the schema, each made wrong in the way in which it goes wrong.

use super::{doctor, examined, with_plans};
use crate::cli::{on, run_on};
use crate::support::database::{TestDatabase, database, empty_database};

/// A role of the test's own with everything granted that a role can be, but not the owner of anything.
async fn role(database: &TestDatabase, options: &str) -> String {
    let role = format!("{}_role", database.name);
    database
        .execute(&format!(
            "create role {role} login password 'hunter2' {options}; \
            grant usage on schema public, billsync to {role}; grant all on all tables in schema public, billsync to {role}; \
            grant execute on all functions in schema billsync to {role}"
        ))
        .await;
    role
}

async fn drop_role(database: &TestDatabase, role: &str) {
    database.execute(&format!("drop owned by {role}; drop role {role}")).await;
}

#[tokio::test]
async fn a_role_that_may_too_little_is_told_what_to_grant() {
    let database = with_plans().await;
    let role = role(&database, "bypassrls").await;
    let url = database.url_for(&role, "hunter2");
    let examine = || doctor(&[("DATABASE_URL", &url)], &["--offline"]);
    assert_eq!(
        examine().trouble("rights"),
        [format!("the role {role} does not own billsync.webhook_payloads, and so cannot make next month's partition of it")]
    );
    database
        .execute(&format!(
            "revoke insert, update on billsync.refetch_queue from {role}; revoke delete on users from {role}; \
            revoke execute on function billsync.uuid_v7() from public, {role}"
        ))
        .await;
    let diagnosis = examine();
    diagnosis.expect(
        "error",
        &format!("the role {role} has no insert, update on billsync.refetch_queue"),
        &format!("grant insert, update on billsync.refetch_queue to {role};"),
    );
    diagnosis.expect("error", "no delete on public.users", &format!("grant delete on public.users to {role};"));
    diagnosis.expect(
        "error",
        "no execute on function billsync.uuid_v7()",
        &format!("grant execute on function billsync.uuid_v7() to {role};"),
    );
    // The fixes are meant to be pasted.
    let fixes: Vec<String> = diagnosis
        .findings
        .iter()
        .filter(|it| it["area"] == "rights")
        .filter_map(|it| Some(it["fix"].as_str()?.to_owned()))
        .collect();
    database.execute(&format!("grant all on schema billsync to {role}; {}", fixes.join("\n"))).await;
    assert_eq!(examine().trouble("rights"), [""; 0]);

    database
        .execute(&format!("revoke all on all tables in schema billsync from {role}; revoke usage on schema billsync from {role}"))
        .await;
    let diagnosis = examine();
    diagnosis.expect("error", "has no usage on schema billsync", &format!("grant usage on schema billsync to {role};"));
    diagnosis.expect(
        "error",
        "lacks privileges on",
        &format!("grant select, insert, update, delete on all tables in schema billsync to {role};"),
    );
    // It goes on with what can be looked at.
    assert!(!diagnosis.trouble("schema").is_empty(), "{diagnosis:#?}");
    diagnosis.expect("ok", "row-level security is on", "");
    drop_role(&database, &role).await;
}

#[tokio::test]
async fn a_role_that_cannot_migrate_an_empty_database_is_told_what_to_grant() {
    let database = empty_database().await;
    let role = format!("{}_newcomer", database.name);
    database.execute(&format!("create role {role} login password 'plain'")).await;
    let url = database.url_for(&role, "plain");
    let diagnosis = doctor(&[("DATABASE_URL", &url)], &["--offline"]);
    diagnosis.expect("error", "has no create on database", &format!("grant create on database {} to {role};", database.name));
    diagnosis.expect("error", "has no create on schema public", &format!("grant create on schema public to {role};"));
    database
        .execute(&format!("grant create on database {} to {role}; grant create on schema public to {role}", database.name))
        .await;
    assert_eq!(doctor(&[("DATABASE_URL", &url)], &["--offline"]).trouble("rights"), [""; 0]);
    on(&url, &["migrate", "run"], 0);
    assert_eq!(doctor(&[("DATABASE_URL", &url)], &["--offline"]).trouble("rights"), [""; 0]);
    drop_role(&database, &role).await;
}

#[tokio::test]
async fn a_role_that_rows_are_hidden_from_is_told_so() {
    let database = with_plans().await;
    let role = role(&database, "connection limit 4").await;
    let diagnosis = doctor(&[("DATABASE_URL", &database.url_for(&role, "hunter2"))], &["--offline"]);
    diagnosis.expect("error", "row-level security hides", &format!("alter role {role} bypassrls;"));
    // The migrations' own table is hidden too: what has run must not be taken for missing.
    let (code, _, complaints) = run_on(&database.url_for(&role, "hunter2"), &["plans", "list"]);
    assert!(code == 1 && complaints.contains("row-level security hides"), "{complaints}");
    diagnosis.expect(
        "warning",
        "of the 4 connections that the role allows are in use; a process of billsync takes up to 10",
        &format!("alter role {role} connection limit -1;"),
    );
    let refused = doctor(&[("DATABASE_URL", &database.url_for(&role, "hunter3"))], &["--offline"]);
    refused.expect("error", "28P01", "alter role … password");
    assert!(!refused.printed.contains("hunter"), "{}", refused.printed);
    database.execute(&format!("alter role {role} connection limit 0")).await;
    let full = doctor(&[("DATABASE_URL", &database.url_for(&role, "hunter2"))], &["--offline"]);
    full.expect("error", "53300", "connection limit -1;");
    drop_role(&database, &role).await;
}

#[tokio::test]
async fn what_is_open_to_others_is_told() {
    let database = with_plans().await;
    let make = |role: &str| {
        format!("do $$ begin create role {role}; exception when duplicate_object or unique_violation then null; end $$;")
    };
    database
        .execute(&format!(
            "{}{} revoke all on all tables in schema public, billsync from anon, authenticated; \
            grant usage on schema public to anon; create table public.diary (day date); create table public.shown (day date); \
            alter table campaigns disable row level security; alter table user_usage disable row level security; \
            alter table billsync.webhook_payloads_default disable row level security; \
            grant select on campaigns, users, public.shown to anon; grant update on user_billing to authenticated; \
            alter table public.shown enable row level security",
            make("anon"),
            make("authenticated")
        ))
        .await;
    let diagnosis = examined(&database);
    diagnosis.expect(
        "error",
        "off on public.campaigns, and anon gets at every row of it",
        "alter table public.campaigns enable row level security;",
    );
    diagnosis.expect("warning", "off on public.user_usage", "alter table public.user_usage enable row level security;");
    diagnosis.expect("warning", "off on billsync.webhook_payloads_default", "enable row level security;");
    diagnosis.expect("warning", "off on public.diary (not one of billsync's)", "alter table public.diary enable");
    diagnosis.expect("error", "anon may select public.users", "select billsync.unpublish('public.users')");
    diagnosis.expect("error", "authenticated may update public.user_billing", "billsync.publish_own_rows()");
    assert!(!diagnosis.printed.contains("public.shown"), "what is no table of billsync's may be published");
    let fixes: Vec<String> = diagnosis
        .findings
        .iter()
        .filter(|it| it["area"] == "security")
        .filter_map(|it| Some(it["fix"].as_str()?.to_owned()))
        .collect();
    database.execute(&fixes.join(";\n")).await;
    assert_eq!(examined(&database).trouble("security"), [""; 0]);
    database.execute("drop owned by anon, authenticated").await;
}

#[tokio::test]
async fn a_schema_that_is_not_as_the_migrations_make_it_is_told() {
    let empty = empty_database().await;
    let diagnosis = examined(&empty);
    diagnosis.expect("error", "migrations have not run: 1, 2,", "billsync migrate run");
    assert_eq!(diagnosis.trouble("plans"), [""; 0], "nothing is asked of tables that are not there");

    let database = with_plans().await;
    database
        .execute(
            "update billsync.migrations set checksum = '\\x00' where version = 2; \
            insert into billsync.migrations (version, description, success, checksum, execution_time) \
                values (9999, 'later', true, '\\x00', 0); \
            drop index scraping_jobs_keywords_idx",
        )
        .await;
    let diagnosis = examined(&database);
    diagnosis.expect(
        "error",
        "migration 2 (application tables) was applied in another form",
        "a released migration is never edited",
    );
    diagnosis.expect("warning", "1 migrations are of a newer version", "upgrade this binary");
    assert!(!diagnosis.printed.contains("keywords"), "a newer version may have dropped it");

    database.execute("update billsync.migrations set version = 0, success = false where version = 9999").await;
    let diagnosis = examined(&database);
    diagnosis.expect("error", "migration 0 is dirty", "delete from billsync.migrations where version = 0;");
    diagnosis.expect(
        "warning",
        "index scraping_jobs_keywords_idx on public.scraping_jobs is missing",
        "billsync inspect db --fix-indexes",
    );
}

#[tokio::test]
async fn indexes_tables_and_partitions_that_are_missing_are_told() {
    let database = with_plans().await;
    let month: String = database.ask("select to_char((now() at time zone 'utc') + interval '1 month', 'YYYY_MM')").await;
    database
        .execute(&format!(
            "drop index billsync.webhook_events_owner_id_idx; alter table billsync.owners drop constraint owners_pkey; \
            update pg_index set indisvalid = false where indexrelid = 'billsync.refetch_queue_after_idx'::regclass; \
            drop index scraping_jobs_platform_idx; create index scraping_jobs_platform_idx on scraping_jobs (platform); \
            drop table billsync.erasures; drop table billsync.webhook_payloads_{month}"
        ))
        .await;
    let diagnosis = examined(&database);
    let fix = "billsync inspect db --fix-indexes";
    diagnosis.expect("warning", "index webhook_events_owner_id_idx on billsync.webhook_events is missing", fix);
    diagnosis.expect("warning", "index refetch_queue_after_idx on billsync.refetch_queue is invalid", fix);
    diagnosis.expect("error", "owners_pkey on billsync.owners is missing, and a constraint needs it", fix);
    diagnosis.expect(
        "warning",
        "scraping_jobs_platform_idx on public.scraping_jobs is of another form",
        "drop index concurrently public.scraping_jobs_platform_idx;",
    );
    diagnosis.expect("error", "the table billsync.erasures is missing", "backup");
    diagnosis.expect(
        "warning",
        &format!("payloads of {} have no partition", month.replace('_', "-")),
        "billsync schedule run retention",
    );
    assert_eq!(diagnosis.trouble("schema").len(), 6);
    on(&database.url, &["schedule", "run", "retention"], 0);
    assert_eq!(examined(&database).trouble("schema").len(), 5);
}

#[tokio::test]
async fn a_server_that_works_otherwise_than_meant_is_told() {
    let database = with_plans().await;
    // The functions that the session asks, as another clock and as a pooler that drops settings would have them answer.
    database
        .execute(&format!(
            "create schema odd; create function odd.clock_timestamp() returns timestamptz language sql \
                as 'select pg_catalog.clock_timestamp() + interval ''90 s'''; \
            create function odd.current_setting(text) returns text language sql as \
                'select case $1 when ''idle_in_transaction_session_timeout'' then ''0'' else pg_catalog.current_setting($1) end'; \
            alter database {0} set search_path = odd, pg_catalog, public; \
            alter database {0} set synchronous_commit = off; alter database {0} set default_transaction_read_only = on",
            database.name
        ))
        .await;
    let diagnosis = examined(&database);
    diagnosis.expect("warning", "s ahead of this machine's", "timedatectl set-ntp true");
    diagnosis.expect(
        "error",
        "it is read-only",
        &format!("alter database {} reset default_transaction_read_only;", database.name),
    );
    diagnosis.expect("warning", "synchronous_commit is off", "set synchronous_commit = on;");
    diagnosis.expect("warning", "is there a pooler in between?", "BILLSYNC_POOLER=transaction");
}

#[tokio::test]
async fn how_a_pooler_is_reached_is_looked_at() {
    let unsaid = doctor(&[("DATABASE_URL", "postgres://u@127.0.0.1:6543/db")], &["--offline"]);
    unsaid.expect("error", "port 6543, but BILLSYNC_POOLER does not say so", "export BILLSYNC_POOLER=transaction");
    unsaid.expect("error", "onnection refused", "pg_isready");
    let (database, other) = (with_plans().await, database().await);
    let pooled = |migrations: &str| {
        let direct = [
            ("DATABASE_URL", database.url.as_str()),
            ("BILLSYNC_POOLER", "transaction"),
            ("BILLSYNC_MIGRATION_DATABASE_URL", migrations),
        ];
        doctor(&direct, &["--offline"])
    };
    pooled(&database.url).expect("ok", "reaches the same database", "");
    pooled(&other.url).expect("error", "reaches another database", "export BILLSYNC_MIGRATION_DATABASE_URL=");
    pooled("postgres://u:hunter2@127.0.0.1:1/db").expect(
        "error",
        "cannot be used: connection",
        "export BILLSYNC_MIGRATION_DATABASE_URL=",
    );
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_told_as_that() {
    let database = empty_database().await;
    let url = database.url.replace(&database.name, "nowhere");
    doctor(&[("DATABASE_URL", &url)], &["--offline"]).expect("error", "3D000", "create database");
}
