//! `import user-profiles`: the deprecated wide table into the five, whatever its columns are and whatever is in them.

mod beside;
mod crowd;
mod rubbish;
mod runs;

use serde_json::Value;

use crate::cli::{fixture, on, run_on};
use crate::support::database::{TestDatabase, database};

/// The wide table as the application had it; in `public`, for a role called as our schema is would make it there.
const WIDE: &str = "create table public.user_profiles (id uuid primary key default gen_random_uuid(), user_id text, email text, \
    full_name text, business_name text, brand_description text, industry text, onboarding_step varchar(50) default 'pending', \
    is_admin boolean default false, current_plan text, intended_plan text, subscription_status text, trial_status text, \
    trial_start_date timestamp, trial_end_date timestamp, trial_conversion_date timestamp, subscription_cancel_date timestamp, \
    subscription_renewal_date timestamp, stripe_customer_id text, stripe_subscription_id text, payment_method_id text, \
    card_last_4 varchar(4), card_brand varchar(20), card_exp_month integer, card_exp_year integer, billing_address_city text, \
    billing_address_country varchar(2), billing_address_postal_code varchar(20), plan_campaigns_limit integer, \
    plan_features jsonb, usage_campaigns_current integer default 0, usage_creators_current_month integer default 0, \
    enrichments_current_month integer default 0, usage_reset_date timestamp, signup_timestamp timestamp, \
    email_schedule_status jsonb, last_webhook_event text, created_at timestamp default '2025-01-01', \
    updated_at timestamp default '2025-01-01')";

/// A database with the catalog, the wide table, and these rows in it.
async fn with_profiles(rows: &str) -> TestDatabase {
    let database = database().await;
    on(&database.url, &["plans", "apply", &fixture("journeys/plans.toml")], 0);
    database.execute(WIDE).await;
    database.execute(rows).await;
    database
}

/// Imports, ends with that exit code, and gives the report.
fn import(database: &TestDatabase, arguments: &[&str], exit: i32) -> Value {
    let (code, printed, complaints) = run_on(&database.url, &[&["import", "user-profiles", "--json"], arguments].concat());
    assert_eq!(code, exit, "{printed}\n{complaints}");
    serde_json::from_str::<Value>(&printed).unwrap()["report"].clone()
}

/// Every row of the five tables and of our own, with the transaction that wrote it.
async fn state(database: &TestDatabase) -> String {
    let tables = ["users", "user_subscriptions", "user_billing", "user_usage", "user_system_data"].map(|t| format!("public.{t}"));
    let own = ["provider_objects", "owners", "webhook_events"].map(|t| format!("billsync.{t}"));
    let parts: Vec<String> = tables
        .iter()
        .chain(&own)
        .map(|table| format!("(select md5(coalesce(string_agg(t::text || t.xmin, ',' order by t::text), '')) from {table} t)"))
        .collect();
    database.ask(&format!("select {}", parts.join(" || "))).await
}

/// One line per user of what matters.
async fn lines(database: &TestDatabase) -> Vec<String> {
    let text: Option<String> = database
        .ask(
            "select string_agg(concat_ws(' ', u.user_id, coalesce(u.email, '-'), s.current_plan, s.subscription_status, \
            s.trial_status, coalesce(b.stripe_customer_id, '-'), g.usage_creators_current_month), E'\\n' order by u.user_id) \
            from users u join user_subscriptions s on s.user_id = u.id join user_billing b on b.user_id = u.id \
            join user_usage g on g.user_id = u.id join user_system_data d on d.user_id = u.id",
        )
        .await;
    text.unwrap_or_default().lines().map(str::to_owned).collect()
}
