//! The difference between two states of a user's rows, column by column: what the ledger explains an event with.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};
use serde_json::{Map, Value};

use crate::domain::billing::rows::{Effect, EmailEntry, Rows};

/// Every column that differs. `old` is `None` for rows that did not exist: then every column that has a value.
pub fn diff(user_id: &str, old: Option<&Rows>, new: &Rows) -> Vec<Effect> {
    // An event that changes anything changes a few columns; one that makes the rows, most.
    let effects = Vec::with_capacity(if old.is_some() { 8 } else { 24 });
    let mut found = Difference { user_id, table: "", effects };
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
    #[inline]
    fn column<T: PartialEq + Column>(&mut self, column: &'static str, old: Option<&T>, new: &T) {
        if old != Some(new) {
            self.note(column, old.map_or(Value::Null, Column::value), new.value());
        }
    }

    fn note(&mut self, column: &'static str, old: Value, new: Value) {
        if old != new {
            let (table, column) = (Cow::Borrowed(self.table), Cow::Borrowed(column));
            self.effects.push(Effect { user_id: self.user_id.to_owned(), table, column, old, new });
        }
    }
}

/// What a column can hold, as the ledger writes it. Spelled out, because a general serialiser takes several times as long.
trait Column {
    fn value(&self) -> Value;
}

impl Column for String {
    fn value(&self) -> Value {
        Value::String(self.clone())
    }
}

impl Column for DateTime<Utc> {
    fn value(&self) -> Value {
        Value::String(rfc3339(*self))
    }
}

/// As RFC 3339 in UTC. Whole seconds of four-digit years, which nearly all are, are written without the formatting machinery.
fn rfc3339(at: DateTime<Utc>) -> String {
    if at.timestamp_subsec_nanos() != 0 || !(0..=9999).contains(&at.year()) {
        return at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    }
    let year = at.year().unsigned_abs();
    let pairs = [year / 100, year % 100, at.month(), at.day(), at.hour(), at.minute(), at.second()];
    let [a, b, c, d, e, f, g] = pairs.map(|pair| [b'0' + (pair / 10) as u8, b'0' + (pair % 10) as u8]);
    let text =
        [a[0], a[1], b[0], b[1], b'-', c[0], c[1], b'-', d[0], d[1], b'T', e[0], e[1], b':', f[0], f[1], b':', g[0], g[1], b'Z'];
    String::from_utf8_lossy(&text).into_owned()
}

impl Column for i32 {
    fn value(&self) -> Value {
        Value::from(*self)
    }
}

impl Column for bool {
    fn value(&self) -> Value {
        Value::Bool(*self)
    }
}

impl Column for Value {
    fn value(&self) -> Value {
        self.clone()
    }
}

impl Column for EmailEntry {
    fn value(&self) -> Value {
        let mut entry: Map<String, Value> = self.other.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        entry.insert("due_at".to_owned(), self.due_at.value());
        entry.insert("active".to_owned(), self.active.value());
        entry.insert("sent_at".to_owned(), self.sent_at.clone());
        if self.suppressed {
            entry.insert("suppressed".to_owned(), Value::Bool(true));
        }
        Value::Object(entry)
    }
}

impl Column for BTreeMap<String, EmailEntry> {
    fn value(&self) -> Value {
        Value::Object(self.iter().map(|(key, entry)| (key.clone(), entry.value())).collect())
    }
}

impl<T: Column> Column for Option<T> {
    fn value(&self) -> Value {
        self.as_ref().map_or(Value::Null, Column::value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_written_as_the_serialiser_would_write_them() {
        let instants = [(1_790_000_000, 0), (951_827_696, 0), (-1, 5_000_000), (-62_200_000_000, 0), (253_402_300_800, 0)];
        let instants = instants.map(|(seconds, nanos)| DateTime::from_timestamp(seconds, nanos));
        for due_at in instants.into_iter().chain([None]) {
            assert_eq!(due_at.value(), json!(due_at));
            for suppressed in [false, true] {
                let other = BTreeMap::from([("template".to_owned(), json!({"id": 7}))]);
                let entry = EmailEntry { due_at, active: !suppressed, sent_at: json!("2026-01-01"), suppressed, other };
                assert_eq!(entry.value(), json!(entry));
                assert_eq!(
                    BTreeMap::from([("welcome:user_1".to_owned(), entry.clone())]).value(),
                    json!({"welcome:user_1": entry})
                );
            }
        }
    }
}
