//! Stripe `subscription`, with periods on the subscription or on its items, prices or old plans.

use chrono::{DateTime, Utc};

use super::price;
use crate::domain::billing::facts::{PendingUpdate, Subscription, SubscriptionItem};
use crate::domain::json_text::{Keys, Kind, Unreadable, Value, required_text};

#[rustfmt::skip]
const NAMES: Keys<20> = Keys::new([
    "status", "created", "items", "plan", "pending_update", "pause_collection", "test_clock", "cancel_at", "cancel_at_period_end",
    "canceled_at", "ended_at", "trial_start", "trial_end", "current_period_start", "current_period_end", "billing_cycle_anchor",
    "default_payment_method", "default_source", "collection_method", "billing",
]);

/// Reads a subscription. Required: customer, status, items (or plan), created.
pub(super) fn read(
    subscription: Value<'_>,
    customer: Option<String>,
    clerk_user_id: Option<String>,
) -> Result<Subscription, Unreadable> {
    #[rustfmt::skip]
    let [
        status, created, items, plan, pending_update, pause_collection, test_clock, cancel_at, cancel_at_period_end,
        canceled_at, ended_at, trial_start, trial_end, current_period_start, current_period_end, billing_cycle_anchor,
        default_payment_method, default_source, collection_method, billing,
    ] = subscription.pick(&NAMES);
    Ok(Subscription {
        customer: customer.ok_or_else(|| Unreadable::new("customer", "missing or not a reference"))?,
        status: required_text(status, "status")?,
        created: required_time(created)?,
        items: read_items(items, plan)?,
        current_period_start: current_period_start.and_then(Value::as_seconds),
        current_period_end: current_period_end.and_then(Value::as_seconds),
        billing_cycle_anchor: billing_cycle_anchor.and_then(Value::as_seconds),
        cancel_at: cancel_at.and_then(Value::as_seconds),
        cancel_at_period_end: cancel_at_period_end.and_then(Value::as_bool).unwrap_or_default(),
        canceled_at: canceled_at.and_then(Value::as_seconds),
        ended_at: ended_at.and_then(Value::as_seconds),
        trial_start: trial_start.and_then(Value::as_seconds),
        trial_end: trial_end.and_then(Value::as_seconds),
        default_payment_method: default_payment_method.and_then(Value::as_reference),
        default_source: default_source.and_then(Value::as_reference),
        // Its name until 2019.
        collection_method: collection_method.or(billing).and_then(Value::as_text),
        pause_collection: pause_collection.is_some_and(Value::is_object),
        pending_update: pending_update.filter(|update| update.is_object()).map(read_pending_update),
        clerk_user_id,
        test_clock: test_clock.and_then(Value::as_reference),
    })
}

/// Required to be a number; one that is no readable time is unknown.
fn required_time(created: Option<Value<'_>>) -> Result<Option<DateTime<Utc>>, Unreadable> {
    let created = created.ok_or_else(|| Unreadable::missing("created"))?;
    if created.kind() == Kind::Number { Ok(created.as_seconds()) } else { Err(Unreadable::new("created", "not a number")) }
}

fn read_items(items: Option<Value<'_>>, plan: Option<Value<'_>>) -> Result<Vec<SubscriptionItem>, Unreadable> {
    let list = items.and_then(|items| items.get("data"));
    let read: Vec<SubscriptionItem> =
        list.into_iter().flat_map(Value::elements).filter(|item| item.is_object()).map(read_item).collect();
    // Before there were items, a subscription had one plan.
    let plan = plan.map(price::read).filter(|plan| plan.id.is_some());
    match (list.map(Value::kind), plan) {
        (_, Some(price)) if read.is_empty() => Ok(vec![SubscriptionItem { price, ..SubscriptionItem::default() }]),
        (Some(Kind::Array), _) => Ok(read),
        (Some(_), _) => Err(Unreadable::new("items.data", "not an array")),
        (None, _) => Err(Unreadable::missing("items.data")),
    }
}

fn read_item(item: Value<'_>) -> SubscriptionItem {
    let names = const { &Keys::new(["id", "current_period_start", "current_period_end", "price", "plan"]) };
    let [id, start, end, price, plan] = item.pick(names);
    SubscriptionItem {
        id: id.and_then(Value::as_id),
        // An item of any age: its price, else its plan.
        price: price.or(plan).map(price::read).unwrap_or_default(),
        current_period_start: start.and_then(Value::as_seconds),
        current_period_end: end.and_then(Value::as_seconds),
    }
}

fn read_pending_update(update: Value<'_>) -> PendingUpdate {
    let [expires_at, items] = update.pick(const { &Keys::new(["expires_at", "subscription_items"]) });
    PendingUpdate {
        expires_at: expires_at.and_then(Value::as_seconds),
        items: items.into_iter().flat_map(Value::elements).filter(|item| item.is_object()).map(read_item).collect(),
    }
}
