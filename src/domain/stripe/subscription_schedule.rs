//! Stripe `subscription_schedule`.

use super::price;
use crate::domain::billing::facts::{SchedulePhase, SubscriptionSchedule};
use crate::domain::json_text::{Keys, Kind, Unreadable, Value, required_text};

/// Reads a schedule. Required: status, phases.
pub(super) fn read(schedule: Value<'_>, customer: Option<String>) -> Result<SubscriptionSchedule, Unreadable> {
    let names = const { &Keys::new(["status", "phases", "subscription", "released_subscription", "created", "test_clock"]) };
    let [status, phases, subscription, released_subscription, created, test_clock] = schedule.pick(names);
    let status = required_text(status, "status")?;
    let phases = phases.ok_or_else(|| Unreadable::missing("phases"))?;
    if phases.kind() != Kind::Array {
        return Err(Unreadable::new("phases", "not an array"));
    }
    Ok(SubscriptionSchedule {
        customer,
        subscription: subscription.or(released_subscription).and_then(Value::as_reference),
        status,
        created: created.and_then(Value::as_seconds),
        phases: phases.elements().filter(|phase| phase.is_object()).map(read_phase).collect(),
        test_clock: test_clock.and_then(Value::as_reference),
    })
}

fn read_phase(phase: Value<'_>) -> SchedulePhase {
    // `plans` was the name of `items` until 2020.
    let [start_date, items, plans] = phase.pick(const { &Keys::new(["start_date", "items", "plans"]) });
    let items = items.or(plans).into_iter().flat_map(Value::elements);
    SchedulePhase {
        start_date: start_date.and_then(Value::as_seconds),
        prices: items.filter(|item| item.is_object()).map(price::of_item).collect(),
    }
}
