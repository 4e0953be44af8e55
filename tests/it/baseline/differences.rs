//! Every kind of difference: told, and mended by the SQL that is told with it.

use billsync::store::{Baseline, Store, StoreSettings};
use sqlx::AssertSqlSafe;

use crate::support::database::{TestDatabase, empty_database};
use crate::support::server::now;

/// The application's own tables as the migrations make them, with rows in each, and one of those who owns some.
async fn application() -> TestDatabase {
    let database = empty_database().await;
    let tables =
        include_str!("../../../migrations/0002_application_tables.sql").replace("billsync.uuid_v7()", "gen_random_uuid()");
    database.execute(&tables).await;
    database
        .execute(
            "insert into users (id, user_id, email) values ('00000000-0000-4000-8000-000000000001', 'user_1', 'a@example.com'); \
            insert into user_subscriptions (user_id) select id from users; \
            insert into user_billing (user_id, stripe_customer_id) select id, 'cus_1' from users; \
            insert into user_usage (user_id) select id from users; \
            insert into user_system_data (user_id) select id from users; \
            insert into campaigns (user_id, name) select user_id, 'c' from users; \
            insert into scraping_jobs (user_id) select user_id from users; \
            insert into creator_lists (user_id, name) select id, 'l' from users; \
            insert into list_items (list_id, platform, creator_handle) select id, 'p', 'h' from creator_lists; \
            insert into subscription_plans (plan_key, plan_name) values ('free', 'Free'); \
            insert into system_configurations (category, key) values ('c', 'k')",
        )
        .await;
    database
}

async fn store(database: &TestDatabase) -> Store {
    Store::connect(&StoreSettings::new(&database.url)).await.unwrap()
}

/// Damages the tables, expects these differences (table, what), mends them by the printed SQL, and adopts.
async fn damaged(damages: &[(&str, &str, &str)]) -> TestDatabase {
    let database = application().await;
    for (sql, _, _) in damages {
        database.execute(sql).await;
    }
    let store = store(&database).await;
    let found = store.baseline(now(), false).await.unwrap();
    for (sql, table, what) in damages {
        let told =
            found.comparison.differences.iter().any(|d| d.table == *table && d.what.starts_with(what) && !d.sql.is_empty());
        assert!(told, "{sql}: no {what} of {table} in {:#?}", found.comparison.differences);
    }
    let script = found.comparison.script();
    if let Err(error) = sqlx::raw_sql(AssertSqlSafe(script.clone())).execute(&mut database.connect().await).await {
        panic!("{error}\n{script}");
    }
    adopted(&store.baseline(now(), false).await.unwrap());
    store.close().await;
    database
}

fn adopted(baseline: &Baseline) {
    assert!(baseline.adopted.is_some(), "{:#?}", baseline.comparison.differences);
}

#[tokio::test]
async fn tables_as_ours_are_adopted_as_they_are() {
    let database = application().await;
    let store = store(&database).await;
    let baseline = store.baseline(now(), false).await.unwrap();
    adopted(&baseline);
    assert_eq!(baseline.comparison.harmless, Vec::<String>::new());
    let status = store.migration_status().await.unwrap();
    assert!(status.iter().all(|m| matches!(m.state, billsync::store::MigrationState::Applied(_))), "{status:?}");
    store.close().await;
}

#[tokio::test]
async fn missing_things() {
    damaged(&[
        ("drop table list_items", "list_items", "table"),
        ("alter table users drop column email", "users", "column email"),
        ("alter table users drop column is_admin", "users", "column is_admin"),
        ("alter table campaigns drop column name", "campaigns", "column name"),
        ("alter table user_usage drop column plan_features", "user_usage", "column plan_features"),
        ("alter table user_billing drop constraint user_billing_stripe_customer_id_key", "user_billing", "constraint"),
        ("alter table user_usage drop constraint user_usage_user_id_key", "user_usage", "constraint"),
        ("alter table user_usage drop constraint user_usage_user_id_fkey", "user_usage", "constraint"),
        ("alter table user_system_data drop constraint user_system_data_pkey", "user_system_data", "constraint"),
        ("alter table users drop constraint users_onboarding_step_check", "users", "constraint"),
        ("alter table campaigns alter column status drop default", "campaigns", "default of status"),
        ("alter table campaigns alter column status drop not null", "campaigns", "column status"),
        ("update campaigns set status = null", "campaigns", "column status"),
        ("alter table system_configurations alter column id drop default", "system_configurations", "default of id"),
    ])
    .await;
}

#[tokio::test]
async fn other_types() {
    let database = damaged(&[
        ("alter table users alter column created_at type timestamp using '2025-06-01 12:00'", "users", "column created_at"),
        (
            "alter table users alter column is_admin drop default, alter column is_admin type integer using 1",
            "users",
            "column is_admin",
        ),
        (
            "alter table user_subscriptions alter column trial_end_date type text using 'soon'",
            "user_subscriptions",
            "column trial_end_date",
        ),
        (
            "alter table user_subscriptions alter column trial_start_date type bigint using 1767312000000",
            "user_subscriptions",
            "column trial_start_date",
        ),
        (
            "alter table user_subscriptions alter column subscription_cancel_date type date using '2026-01-02'",
            "user_subscriptions",
            "column subscription_cancel_date",
        ),
        ("alter table user_billing alter column card_exp_month type text using 'April'", "user_billing", "column card_exp_month"),
        (
            "alter table user_billing alter column billing_address_country type text using 'Germany'",
            "user_billing",
            "column billing_address_country",
        ),
        (
            "alter table user_usage alter column plan_features drop default, alter column plan_features type text using 'a, b'",
            "user_usage",
            "column plan_features",
        ),
        (
            "alter table user_usage alter column usage_campaigns_current type bigint using 5000000000",
            "user_usage",
            "column usage_campaigns_current",
        ),
        (
            "alter table subscription_plans alter column price_monthly type text using '19.90'",
            "subscription_plans",
            "column price_monthly",
        ),
        (
            "alter table list_items alter column id drop default, alter column id type text using 'item-1'",
            "list_items",
            "column id",
        ),
        ("alter table scraping_jobs alter column keywords type text[] using array['a', 'b']", "scraping_jobs", "column keywords"),
        ("alter table creator_lists alter column name type json using '\"l\"'", "creator_lists", "column name"),
    ])
    .await;
    let values: Vec<(&str, &str)> = vec![
        ("select to_char(created_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') from users", "2025-06-01 12:00"),
        ("select is_admin::text from users", "true"),
        ("select coalesce(trial_end_date::text, 'none') || trial_end_date_before_billsync from user_subscriptions", "nonesoon"),
        ("select extract(epoch from trial_start_date)::int8::text from user_subscriptions", "1767312000"),
        (
            "select to_char(subscription_cancel_date at time zone 'UTC', 'YYYY-MM-DD HH24:MI') from user_subscriptions",
            "2026-01-02 00:00",
        ),
        ("select card_exp_month_before_billsync from user_billing", "April"),
        ("select billing_address_country_before_billsync from user_billing", "Germany"),
        ("select plan_features #>> '{}' from user_usage", "a, b"),
        ("select usage_campaigns_current || ' ' || usage_campaigns_current_before_billsync from user_usage", "0 5000000000"),
        ("select price_monthly::text from subscription_plans", "19.90"),
        ("select (id = md5('item-1')::uuid)::text from list_items", "true"),
        ("select keywords::text from scraping_jobs", "[\"a\", \"b\"]"),
        ("select name from creator_lists", "l"),
    ];
    for (sql, expected) in values {
        assert_eq!(database.ask::<String>(sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn rules_that_would_refuse_rows() {
    damaged(&[
        ("alter table users add constraint one_address unique (email)", "users", "constraint one_address"),
        ("create unique index one_name on users (lower(full_name))", "users", "index one_name"),
        ("alter table users add constraint has_at check (email like '%@%')", "users", "constraint has_at"),
        ("alter table users add column tenant text not null default 'x'; alter table users alter column tenant drop default", "users", "additional column tenant"),
        ("alter table user_billing alter column payment_method_id set default 'pm_1'", "user_billing", "default of payment_method_id"),
        ("update user_billing set stripe_subscription_id = 'sub'; alter table user_billing alter column stripe_subscription_id set not null", "user_billing", "column stripe_subscription_id"),
        ("alter table user_billing drop constraint user_billing_stripe_customer_id_key; create unique index by_customer on user_billing (stripe_customer_id)", "user_billing", "index by_customer"),
        ("create table plans_of_old (key text primary key); alter table user_subscriptions add constraint known_plan foreign key (current_plan) references plans_of_old (key)", "user_subscriptions", "constraint known_plan"),
        ("alter table user_usage drop constraint user_usage_user_id_fkey; alter table user_usage add constraint no_cascade foreign key (user_id) references users (id)", "user_usage", "constraint no_cascade"),
        ("alter table campaigns drop constraint campaigns_user_id_fkey; alter table campaigns add constraint unproven foreign key (user_id) references users (user_id) on update cascade on delete cascade not valid", "campaigns", "constraint unproven"),
        ("create index users_email_lower_idx on users (email)", "users", "index users_email_lower_idx"),
        ("alter table users add column deleted_at timestamp", "users", "column deleted_at"),
    ])
    .await;
}

#[tokio::test]
async fn whatever_relies_on_a_column_lets_go_and_comes_back() {
    let database = damaged(&[
        (
            "alter table users alter column created_at type timestamp; alter table users enable row level security; \
            create view public.addresses as select email, created_at from users; \
            create policy recent on users for select using (created_at > '2020-01-01' and user_id <> '')",
            "users",
            "column created_at",
        ),
        (
            "alter table list_items drop constraint list_items_list_id_fkey; \
            alter table creator_lists alter column id drop default, alter column id type text using 'list-1'; \
            alter table list_items alter column list_id type text using 'list-1'; \
            alter table list_items add constraint of_list foreign key (list_id) references creator_lists (id) on delete cascade; \
            create table public.shares (list text references creator_lists (id)); insert into shares values ('list-1')",
            "creator_lists",
            "column id",
        ),
        ("select 1", "list_items", "column list_id"),
        ("select 1", "shares", "column list"),
    ])
    .await;
    assert_eq!(database.ask::<i64>("select count(*) from addresses where created_at <= now()").await, 1);
    assert_eq!(database.ask::<i64>("select count(*) from pg_policies where policyname = 'recent'").await, 1);
    let kept = "select count(*) from list_items i join creator_lists l on l.id = i.list_id join shares s on s.list = l.id";
    assert_eq!(database.ask::<i64>(kept).await, 1);
    let keys = "select count(*) from pg_constraint where contype = 'f' and confrelid = 'creator_lists'::regclass";
    assert_eq!(database.ask::<i64>(keys).await, 2);
}

#[tokio::test]
async fn rows_that_others_refer_to_are_left_for_a_person_to_decide() {
    let database = application().await;
    database
        .execute(
            "alter table users drop constraint users_user_id_key cascade; \
            insert into users (id, user_id) values ('00000000-0000-4000-8000-000000000002', 'user_1'); \
            alter table creator_lists drop constraint creator_lists_user_id_fkey; \
            insert into creator_lists (user_id, name) values (gen_random_uuid(), 'nobody''s'); \
            alter table scraping_jobs drop constraint scraping_jobs_campaign_id_fkey; \
            update scraping_jobs set campaign_id = gen_random_uuid()",
        )
        .await;
    let store = store(&database).await;
    let found = store.baseline(now(), false).await.unwrap();
    let script = found.comparison.script();
    assert!(script.contains("a person has to decide"), "{script}");
    sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut database.connect().await).await.unwrap_err();
    let rows = "select (select count(*) from users) + (select count(*) from creator_lists) + (select count(*) from list_items)";
    assert_eq!(database.ask::<i64>(rows).await, 5);

    database
        .execute(
            "delete from users where id = '00000000-0000-4000-8000-000000000002'; \
            delete from creator_lists where name = 'nobody''s'",
        )
        .await;
    let script = store.baseline(now(), false).await.unwrap().comparison.script();
    sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut database.connect().await).await.unwrap();
    adopted(&store.baseline(now(), false).await.unwrap());
    let jobs = "select count(*) from scraping_jobs where campaign_id is null and campaign_id_before_billsync is not null";
    assert_eq!(database.ask::<i64>(jobs).await, 1);
    store.close().await;
}
