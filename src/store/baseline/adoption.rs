//! The adoption of a database whose tables are as they should be: records the migration that made them, runs the others, and
//! keeps the rows as they are as `import` facts, so that a projection that follows does not take anything from anybody.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::migrate::{Migrate, Migration, Migrator};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::store::baseline::compare::Expected;
use crate::store::baseline::conversion::quote;
use crate::store::baseline::{APPLICATION_TABLES, text_in_transaction};
use crate::store::error::StoreError;
use crate::store::migrations::from_migrate;

/// What was adopted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Adopted {
    /// Versions that were recorded without being run.
    pub recorded: Vec<i64>,
    /// Versions that were run.
    pub ran: Vec<i64>,
    /// Users whose rows are kept as facts.
    pub users: i64,
    /// Customers linked to them.
    pub customers: i64,
    /// Rows of `users` whose `user_id` is not Clerk's.
    pub strangers: i64,
    /// Plans that users have and the catalog has not.
    pub unknown_plans: Vec<String>,
    /// Roles with rights on the tables that row-level security, which is enabled, shows no row.
    pub shut_out: Vec<String>,
}

/// An instant as JSON, where JSON's readers know it.
macro_rules! instant {
    ($column:literal) => {
        concat!(
            "case when isfinite(",
            $column,
            ") and ",
            $column,
            " between '0001-01-02Z' and '9999-12-30Z' then to_jsonb(",
            $column,
            ") end"
        )
    };
}

/// A text that is not empty.
macro_rules! filled {
    ($column:literal) => {
        concat!("nullif(btrim(", $column, "), '')")
    };
}

statements! {
    RECORD_MIGRATION = "\
        insert into billsync.migrations (version, description, success, checksum, execution_time) values ($1, $2, true, $3, 0)";

    /// As the fold would store them. The names within `fact` are those of `domain::billing::facts::Import`.
    KEEP_ROWS_AS_FACTS = concat!("\
        insert into billsync.provider_objects \
            (provider, account, object_id, object_type, owner_id, as_of, terminal, event_id, winner, fact, object) \
        select 'import', '', u.user_id, 'import', u.user_id, $1, false, \
            'import:' || left(encode(sha256(convert_to(u.user_id, 'UTF8')), 'hex'), 32) || ':' \
                || (extract(epoch from $1::timestamptz) * 1000)::int8, \
            '{\"type_rank\": \"other\", \"names_owner\": true}', \
            jsonb_strip_nulls(jsonb_build_object('type', 'import', 'imported_at', $1, 'email', ", filled!("u.email"), ", \
                'full_name', ", filled!("u.full_name"), ", 'signup_timestamp', ",
                instant!("coalesce(d.signup_timestamp, u.created_at)"), ", \
                'current_plan', ", filled!("s.current_plan"), ", 'intended_plan', ", filled!("s.intended_plan"), ", \
                'subscription_status', ", filled!("s.subscription_status"), ", 'trial_status', ", filled!("s.trial_status"), ", \
                'trial_start_date', ", instant!("s.trial_start_date"), ", 'trial_end_date', ", instant!("s.trial_end_date"), ", \
                'trial_conversion_date', ", instant!("s.trial_conversion_date"), ", \
                'subscription_cancel_date', ", instant!("s.subscription_cancel_date"), ", \
                'subscription_renewal_date', ", instant!("s.subscription_renewal_date"), ", \
                'stripe_customer_id', ", filled!("b.stripe_customer_id"), ", \
                'stripe_subscription_id', ", filled!("b.stripe_subscription_id"), ", \
                'payment_method_id', ", filled!("b.payment_method_id"), ", \
                'card', jsonb_build_object('last_4', b.card_last_4, 'brand', b.card_brand, 'exp_month', b.card_exp_month, \
                    'exp_year', b.card_exp_year), \
                'address', jsonb_build_object('city', b.billing_address_city, 'country', b.billing_address_country, \
                    'postal_code', b.billing_address_postal_code))), \
            jsonb_build_object('source', 'baseline', 'users', to_jsonb(u), 'user_subscriptions', to_jsonb(s), \
                'user_billing', to_jsonb(b), 'user_usage', to_jsonb(g), 'user_system_data', to_jsonb(d)) \
        from public.users u \
        left join public.user_subscriptions s on s.user_id = u.id left join public.user_billing b on b.user_id = u.id \
        left join public.user_usage g on g.user_id = u.id left join public.user_system_data d on d.user_id = u.id \
        where u.user_id like 'user\\_%'");

    RECORD_FACTS = "\
        insert into billsync.webhook_events (provider, event_id, event_type, object_id, owner_id, occurred_at, received_at, \
            source, outcome) \
        select o.provider, o.event_id, 'import', o.object_id, o.owner_id, o.as_of, $1, 'job', 'applied' \
        from billsync.provider_objects o where o.provider = 'import'";

    OWN_IMPORTED_USERS = "\
        insert into billsync.owners (owner_id, imported_customer_id) \
        select o.object_id, o.fact ->> 'stripe_customer_id' from billsync.provider_objects o where o.provider = 'import'";

    /// Several may name a customer: it is of the first by id, as linking says.
    LINK_IMPORTED_CUSTOMERS = "\
        insert into billsync.owners (owner_id, clerk_user_id, linked_by) \
        select o.fact ->> 'stripe_customer_id', min(o.object_id collate \"C\"), 'imported' \
        from billsync.provider_objects o where o.provider = 'import' and o.fact ->> 'stripe_customer_id' is not null \
        group by 1 on conflict (owner_id) do nothing";

    LIST_SHUT_OUT = "\
        select distinct r.rolname::text from pg_catalog.pg_class c \
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public' \
        cross join lateral pg_catalog.aclexplode(c.relacl) g join pg_catalog.pg_roles r on r.oid = g.grantee \
        where c.relname = any(array['users', 'user_subscriptions', 'user_billing', 'user_usage', 'user_system_data', \
            'subscription_plans', 'campaigns', 'scraping_jobs', 'scraping_results', 'creator_lists', 'list_items', \
            'system_configurations']) \
          and not c.relrowsecurity and not r.rolsuper and not r.rolbypassrls and not pg_has_role(r.oid, c.relowner, 'USAGE') \
          and r.rolname not in ('anon', 'authenticated') order by 1";

    COUNT_STRANGERS = "select count(*) from public.users where user_id not like 'user\\_%'";

    LIST_UNKNOWN_PLANS = "\
        select distinct s.current_plan::text from public.user_subscriptions s \
        where s.current_plan is not null and not exists (select from public.subscription_plans p where p.plan_key = s.current_plan) \
        union select 'free' where not exists (select from public.subscription_plans where plan_key = 'free') order by 1";
}

/// Records, makes and keeps. The caller's transaction holds all of it.
pub(super) async fn adopt(
    connection: &mut PgConnection,
    migrator: &Migrator,
    expected: &Expected,
    now: DateTime<Utc>,
) -> Result<Adopted, StoreError> {
    let mut adopted = Adopted::default();
    connection.create_schema_if_not_exists("billsync").await.map_err(from_migrate)?;
    connection.ensure_migrations_table("billsync.migrations").await.map_err(from_migrate)?;
    adopted.shut_out = list(connection, LIST_SHUT_OUT).await?;
    for migration in migrator.iter() {
        if migration.version == APPLICATION_TABLES {
            record(connection, migration).await?;
            set_own_defaults(connection, expected).await?;
            adopted.recorded.push(migration.version);
            continue;
        }
        if migration.no_tx {
            let text = AssertSqlSafe(text_in_transaction(migration));
            sqlx::raw_sql(text).execute(&mut *connection).await?;
            record(connection, migration).await?;
        } else {
            let _: Duration = connection.apply("billsync.migrations", migration).await.map_err(from_migrate)?;
        }
        adopted.ran.push(migration.version);
    }
    let kept = sqlx::query(KEEP_ROWS_AS_FACTS).bind(now).execute(&mut *connection).await?;
    adopted.users = i64::try_from(kept.rows_affected()).unwrap_or(i64::MAX);
    sqlx::query(RECORD_FACTS).bind(now).execute(&mut *connection).await?;
    sqlx::query(OWN_IMPORTED_USERS).execute(&mut *connection).await?;
    let linked = sqlx::query(LINK_IMPORTED_CUSTOMERS).execute(&mut *connection).await?;
    adopted.customers = i64::try_from(linked.rows_affected()).unwrap_or(i64::MAX);
    adopted.strangers = sqlx::query_as::<_, (i64,)>(COUNT_STRANGERS).fetch_one(&mut *connection).await?.0;
    adopted.unknown_plans = list(connection, LIST_UNKNOWN_PLANS).await?;
    Ok(adopted)
}

async fn record(connection: &mut PgConnection, migration: &Migration) -> Result<(), StoreError> {
    let query = sqlx::query(RECORD_MIGRATION).bind(migration.version).bind(migration.description.as_ref());
    query.bind(migration.checksum.as_ref()).execute(connection).await?;
    Ok(())
}

async fn list(connection: &mut PgConnection, sql: &'static str) -> Result<Vec<String>, StoreError> {
    let rows: Vec<(String,)> = sqlx::query_as(sql).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(text,)| text).collect())
}

/// Defaults that call a function of ours, which the first migration has just made.
async fn set_own_defaults(connection: &mut PgConnection, expected: &Expected) -> Result<(), StoreError> {
    for (table, relation) in &expected.application.relations {
        for column in &relation.columns {
            let Some(default) = column.default_value.as_deref().filter(|default| default.contains("billsync.")) else { continue };
            let sql = format!("alter table public.{table} alter column {} set default {default}", quote(&column.name));
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await?;
        }
    }
    Ok(())
}
