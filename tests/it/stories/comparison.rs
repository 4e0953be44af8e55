//! Rows as the database names their columns, and what differs between those that came out and those that were expected.

use std::collections::{BTreeMap, BTreeSet};

use billsync::domain::billing::accounts::Accounts;
use billsync::domain::billing::rows::Rows;
use serde_json::{Map, Value, json};

/// What differs from the expected users and owners, one line a column.
pub fn differences(
    accounts: &Accounts,
    users: &BTreeMap<String, Value>,
    owners: Option<&BTreeMap<String, Value>>,
    customers: &BTreeSet<String>,
) -> Vec<String> {
    let mut lines = Vec::new();
    let known: BTreeSet<&str> = accounts.user_ids().chain(users.keys().map(String::as_str)).collect();
    for user_id in known {
        match (users.get(user_id), accounts.rows(user_id)) {
            (Some(expected), Some(rows)) => compare(user_id, expected, &tables(rows, Emails::Active), &mut lines),
            (Some(_), None) => lines.push(format!("{user_id}: expected rows, there are none")),
            (None, Some(_)) => lines.push(format!("{user_id}: has rows, none were expected")),
            (None, None) => {}
        }
    }
    let Some(owners) = owners else { return lines };
    for customer_id in customers.iter().chain(owners.keys()).collect::<BTreeSet<_>>() {
        let nobody = json!({"clerk_user_id": null, "linked_by": null});
        let (expected, actual) = (owners.get(customer_id).unwrap_or(&nobody), owner(accounts, customer_id));
        if *expected != actual {
            lines.push(format!("{customer_id} owner: expected {expected}, got {actual}"));
        }
    }
    lines
}

/// Which entries of the e-mail schedule are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Emails {
    /// Those that the mailer has to heed.
    Active,
    All,
}

/// The five rows, table by table, column by column; without the usage counters and periods, which are history.
pub fn tables(rows: &Rows, emails: Emails) -> Value {
    let (billing, usage, system) = (&rows.billing, &rows.usage, &rows.system);
    let shown = system.email_schedule_status.iter().filter(|(_, entry)| emails == Emails::All || entry.active);
    let schedule: Map<String, Value> = shown.map(|(key, entry)| (key.clone(), json!(entry))).collect();
    json!({
        "users": rows.user,
        "user_subscriptions": rows.subscription,
        "user_billing": {
            "stripe_customer_id": billing.stripe_customer_id,
            "stripe_subscription_id": billing.stripe_subscription_id,
            "payment_method_id": billing.payment_method_id,
            "card_last_4": billing.card.last_4,
            "card_brand": billing.card.brand,
            "card_exp_month": billing.card.exp_month,
            "card_exp_year": billing.card.exp_year,
            "billing_address_city": billing.address.city,
            "billing_address_country": billing.address.country,
            "billing_address_postal_code": billing.address.postal_code,
        },
        "user_usage": {
            "plan_campaigns_limit": usage.plan_campaigns_limit,
            "plan_creators_limit": usage.plan_creators_limit,
            "plan_features": usage.plan_features,
        },
        "user_system_data": {
            "signup_timestamp": system.signup_timestamp,
            "email_schedule_status": schedule,
            "last_webhook_event": system.last_webhook_event,
            "last_webhook_timestamp": system.last_webhook_timestamp,
        },
    })
}

/// Whose a customer is and why.
pub fn owner(accounts: &Accounts, customer_id: &str) -> Value {
    let owner = accounts.owner(customer_id);
    json!({
        "clerk_user_id": owner.and_then(|owner| owner.clerk_user_id.as_deref()),
        "linked_by": owner.and_then(|owner| owner.linked_by).map(|linked_by| linked_by.as_str()),
    })
}

/// Appends a line for every leaf that differs.
pub fn compare(path: &str, expected: &Value, actual: &Value, lines: &mut Vec<String>) {
    let (Some(a), Some(b)) = (expected.as_object(), actual.as_object()) else {
        if expected != actual {
            lines.push(format!("{path}: expected {expected}, got {actual}"));
        }
        return;
    };
    for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
        let missing = Value::String("(missing)".into());
        compare(&format!("{path} {key}"), a.get(key).unwrap_or(&missing), b.get(key).unwrap_or(&missing), lines);
    }
}
