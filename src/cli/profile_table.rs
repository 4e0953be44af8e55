//! Several users' rows side by side: one line a user, the columns that one looks at first.

use chrono::{DateTime, Utc};
use comfy_table::Table;
use serde_json::Value;

use crate::cli::output::table;
use crate::cli::plans::limit;
use crate::store::{Profile, Store, StoreError};

/// The profiles of the Clerk ids that have rows.
pub async fn read_profiles(store: &Store, clerk_ids: &[&str]) -> Result<Vec<Profile>, StoreError> {
    let mut profiles = Vec::new();
    for clerk_id in clerk_ids {
        profiles.extend(store.find_profile(clerk_id).await?);
    }
    Ok(profiles)
}

/// One line a user.
pub fn profile_table(profiles: &[Profile]) -> Table {
    let mut table = table(&["user", "plan", "status", "trial", "card", "until", "campaigns, creators", "sync"]);
    for profile in profiles {
        let subscription = profile.user_subscriptions.as_ref();
        let usage = profile.user_usage.as_ref();
        table.add_row([
            text(Some(&profile.users), "email"),
            plan(subscription),
            text(subscription, "subscription_status"),
            trial(subscription),
            card(profile.user_billing.as_ref()),
            until(subscription),
            format!("{}, {}", number(usage, "plan_campaigns_limit"), number(usage, "plan_creators_limit")),
            text(subscription, "billing_sync_status"),
        ]);
    }
    table
}

/// When it renews, or when it ends or has ended.
fn until(subscription: Option<&Value>) -> String {
    let (renewal, cancel) = (day(subscription, "subscription_renewal_date"), day(subscription, "subscription_cancel_date"));
    match (cancel.as_str(), renewal.as_str()) {
        ("", "") => String::new(),
        ("", renewal) => format!("renews {renewal}"),
        (cancel, _) if text(subscription, "subscription_status") == "canceled" => format!("ended {cancel}"),
        (cancel, _) => format!("ends {cancel}"),
    }
}

fn text(row: Option<&Value>, column: &str) -> String {
    row.and_then(|row| row.get(column)).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn plan(subscription: Option<&Value>) -> String {
    let (current, intended) = (text(subscription, "current_plan"), text(subscription, "intended_plan"));
    if intended.is_empty() { current } else { format!("{current}, then {intended}") }
}

/// The status, and the day that it turns on.
fn trial(subscription: Option<&Value>) -> String {
    let status = text(subscription, "trial_status");
    match status.as_str() {
        "active" => format!("active to {}", day(subscription, "trial_end_date")),
        "converted" => format!("converted {}", day(subscription, "trial_conversion_date")),
        "pending" => "none".to_owned(),
        _ => status,
    }
}

fn card(billing: Option<&Value>) -> String {
    let (brand, last_4) = (text(billing, "card_brand"), text(billing, "card_last_4"));
    if last_4.is_empty() { brand } else { format!("{brand} {last_4}") }
}

fn day(row: Option<&Value>, column: &str) -> String {
    let instant =
        row.and_then(|row| row.get(column)).and_then(|value| serde_json::from_value::<DateTime<Utc>>(value.clone()).ok());
    instant.map(|at| at.format("%Y-%m-%d").to_string()).unwrap_or_default()
}

fn number(row: Option<&Value>, column: &str) -> String {
    let value = row.and_then(|row| row.get(column)).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
    value.map(limit).unwrap_or_default()
}
