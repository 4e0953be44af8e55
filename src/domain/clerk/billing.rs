//! Clerk Billing: subscription, subscription item (of either shape) and payment attempt. All of them are as of the
//! envelope's time, and none of their statuses is final.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::domain::billing::facts::{ClerkItem, ClerkItemTrial, ClerkPaymentAttempt, ClerkSubscription};
use crate::domain::json_text::{Keys, Unreadable, Value, required_id, required_text};

/// Who pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Payer {
    User(String),
    /// Out of scope: an organisation has no rows.
    Organization,
    Unknown,
}

/// Reads the payer of a billing object.
pub(super) fn read_payer(object: Value<'_>) -> Payer {
    let fields = object.get("payer").map(|payer| payer.pick(const { &Keys::new(["user_id", "organization_id"]) }));
    let [user_id, organization_id] = fields.unwrap_or_default();
    match (user_id.and_then(Value::as_id), organization_id.and_then(Value::as_text)) {
        (Some(user_id), _) => Payer::User(user_id),
        (None, Some(_)) => Payer::Organization,
        (None, None) => Payer::Unknown,
    }
}

/// Reads a subscription but for its items.
pub(super) fn read_subscription(subscription: Value<'_>, user_id: Option<String>) -> ClerkSubscription {
    ClerkSubscription { user_id, status: subscription.get("status").and_then(Value::as_text) }
}

/// An item, by itself or inside a subscription.
#[derive(Debug)]
pub(super) struct Item {
    pub id: String,
    pub fact: ClerkItem,
}

/// Reads an item. Required: id, status, payer. `past_due_at` is its subscription's.
pub(super) fn read_item(item: Value<'_>, user_id: Option<&str>, past_due_at: Option<DateTime<Utc>>) -> Result<Item, Unreadable> {
    let names = const { &Keys::new(["id", "status", "created_at", "plan", "is_free_trial", "period_start", "period_end"]) };
    let [id, status, created_at, plan, is_free_trial, period_start, period_end] = item.pick(names);
    let [canceled_at, own_past_due_at] = item.pick(const { &Keys::new(["canceled_at", "past_due_at"]) });
    let id = required_id(id, "id")?;
    let status = required_text(status, "status")?;
    let user_id = user_id.ok_or_else(|| Unreadable::new("payer.user_id", "missing or not an id"))?;
    let fact = ClerkItem {
        user_id: user_id.to_owned(),
        created_at: created_at.and_then(Value::as_milliseconds),
        plan_slug: plan.and_then(|plan| plan.get("slug")).and_then(Value::as_text),
        is_default_plan: plan.is_some_and(is_default_plan),
        is_free_trial: is_free_trial.and_then(Value::as_bool).unwrap_or_default(),
        period_start: period_start.and_then(Value::as_milliseconds),
        period_end: period_end.and_then(Value::as_milliseconds),
        canceled_at: canceled_at.and_then(Value::as_milliseconds),
        past_due_at: own_past_due_at.and_then(Value::as_milliseconds).or(past_due_at.filter(|_| status == "past_due")),
        status,
    };
    Ok(Item { id, fact })
}

impl Item {
    /// The trial slot's fact, when the item is a free trial.
    pub fn trial(&self) -> Option<ClerkItemTrial> {
        self.fact.is_free_trial.then(|| ClerkItemTrial {
            user_id: self.fact.user_id.clone(),
            item_id: self.id.clone(),
            period_start: self.fact.period_start,
            period_end: self.fact.period_end,
        })
    }
}

/// The plan that everybody has, or one that costs nothing and does not recur: not a subscription.
fn is_default_plan(plan: Value<'_>) -> bool {
    let [is_default, is_recurring, amount, fee] =
        plan.pick(const { &Keys::new(["is_default", "is_recurring", "amount", "fee"]) });
    let amount = amount.or_else(|| fee?.get("amount"));
    let amount = amount.and_then(|amount| amount.as_i64().or_else(|| amount.get("amount")?.as_i64()));
    let says = |value: Option<Value<'_>>, expected| value.and_then(Value::as_bool) == Some(expected);
    says(is_default, true) || (amount == Some(0) && says(is_recurring, false))
}

/// Reads a payment attempt. Its items are those of the moment, not facts.
pub(super) fn read_payment_attempt(attempt: Value<'_>, user_id: Option<String>) -> ClerkPaymentAttempt {
    let [status, paid_at, items] = attempt.pick(const { &Keys::new(["status", "paid_at", "subscription_items"]) });
    let starts = items.into_iter().flat_map(Value::elements).filter_map(|item| {
        let [id, period_start] = item.pick(const { &Keys::new(["id", "period_start"]) });
        Some((id?.as_id()?, period_start?.as_milliseconds()?))
    });
    ClerkPaymentAttempt {
        user_id,
        status: status.and_then(Value::as_text).unwrap_or_default(),
        paid_at: paid_at.and_then(Value::as_milliseconds),
        item_starts: starts.collect::<BTreeMap<_, _>>(),
    }
}
