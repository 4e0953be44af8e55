//! The difference between two states of a user's rows, column by column: what the ledger explains an event with.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

use crate::domain::billing::rows::{Effect, Rows};

/// Every column that differs. `old` is `None` for rows that did not exist: then every column that has a value.
pub fn diff(user_id: &str, old: Option<&Rows>, new: &Rows) -> Vec<Effect> {
    let mut found = Difference { user_id, table: "", effects: Vec::new() };
    macro_rules! columns {
        ($table:literal: $($column:literal => $($field:ident).+),+ $(,)?) => {
            found.table = $table;
            $(found.column($column, old.map(|rows| &rows.$($field).+), &new.$($field).+);)+
        };
    }
    columns!("users":
        "email" => user.email, "full_name" => user.full_name, "deleted_at" => user.deleted_at);
    columns!("user_subscriptions":
        "current_plan" => subscription.current_plan,
        "intended_plan" => subscription.intended_plan,
        "subscription_status" => subscription.subscription_status,
        "trial_status" => subscription.trial_status,
        "trial_start_date" => subscription.trial_start_date,
        "trial_end_date" => subscription.trial_end_date,
        "trial_conversion_date" => subscription.trial_conversion_date,
        "subscription_cancel_date" => subscription.subscription_cancel_date,
        "subscription_renewal_date" => subscription.subscription_renewal_date,
        "billing_sync_status" => subscription.billing_sync_status,
        "next_change_at" => subscription.next_change_at);
    columns!("user_billing":
        "stripe_customer_id" => billing.stripe_customer_id,
        "stripe_subscription_id" => billing.stripe_subscription_id,
        "payment_method_id" => billing.payment_method_id,
        "card_last_4" => billing.card.last_4,
        "card_brand" => billing.card.brand,
        "card_exp_month" => billing.card.exp_month,
        "card_exp_year" => billing.card.exp_year,
        "billing_address_city" => billing.address.city,
        "billing_address_country" => billing.address.country,
        "billing_address_postal_code" => billing.address.postal_code);
    columns!("user_usage":
        "plan_campaigns_limit" => usage.plan_campaigns_limit,
        "plan_creators_limit" => usage.plan_creators_limit,
        "plan_features" => usage.plan_features,
        "usage_reset_date" => usage.usage_reset_date,
        "usage_anchor" => usage.usage_anchor,
        "usage_period_start" => usage.usage_period_start,
        "reset_held" => usage.reset_held,
        "early_reset_subscription" => usage.early_reset_subscription);
    columns!("user_system_data":
        "signup_timestamp" => system.signup_timestamp,
        "email_schedule_status" => system.email_schedule_status,
        "last_webhook_event" => system.last_webhook_event,
        "last_webhook_timestamp" => system.last_webhook_timestamp);
    found.effects
}

struct Difference<'a> {
    user_id: &'a str,
    table: &'static str,
    effects: Vec<Effect>,
}

impl Difference<'_> {
    fn column<T: PartialEq + Serialize>(&mut self, column: &'static str, old: Option<&T>, new: &T) {
        if old == Some(new) {
            return;
        }
        let old = old.map_or(Value::Null, value);
        let new = value(new);
        if old != new {
            let (table, column) = (Cow::Borrowed(self.table), Cow::Borrowed(column));
            self.effects.push(Effect { user_id: self.user_id.to_owned(), table, column, old, new });
        }
    }
}

/// Columns are strings, numbers, instants and JSON: none of them can fail to serialise.
fn value<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
