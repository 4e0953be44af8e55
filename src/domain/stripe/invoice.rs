//! Stripe `invoice`, with its subscription at the top or under `parent`, its lines of either shape.

use chrono::{DateTime, Utc};

use super::metadata;
use crate::domain::billing::facts::Invoice;
use crate::domain::json_text::{Keys, Kind, Unreadable, Value};
use crate::domain::rules::Rules;

#[rustfmt::skip]
const NAMES: Keys<11> = Keys::new([
    "created", "status_transitions", "attempt_count", "lines", "subscription", "parent", "subscription_details",
    "status", "paid", "forgiven", "closed",
]);

/// Reads an invoice. Required: status or paid. `clerk_user_id` is that of its own metadata.
pub(super) fn read(
    invoice: Value<'_>,
    customer: Option<String>,
    clerk_user_id: Option<String>,
    rules: &Rules,
) -> Result<Invoice, Unreadable> {
    #[rustfmt::skip]
    let [
        created, transitions, attempt_count, lines, subscription, parent, details, status, paid, forgiven, closed
    ] = invoice.pick(&NAMES);
    let parent_details = parent.and_then(|parent| parent.get("subscription_details"));
    let parent_subscription = parent_details.and_then(|details| details.get("subscription"));
    let subscription = [subscription, parent_subscription].into_iter().flatten().find_map(Value::as_reference);
    let [finalized_at, paid_at] =
        transitions.map(|times| times.pick(const { &Keys::new(["finalized_at", "paid_at"]) })).unwrap_or_default();
    let details = [details, parent_details].into_iter().flatten();
    Ok(Invoice {
        customer,
        status: read_status(status, paid, forgiven, closed)?,
        created: created.and_then(Value::as_seconds),
        finalized_at: finalized_at.and_then(Value::as_seconds),
        paid_at: paid_at.and_then(Value::as_seconds),
        attempt_count: attempt_count.and_then(Value::as_i64).unwrap_or_default(),
        line_start: subscription.as_deref().and_then(|subscription| read_line_start(lines, subscription)),
        subscription,
        clerk_user_id: clerk_user_id.or_else(|| {
            let mut metadata = details.map(|details| details.get("metadata"));
            metadata.find_map(|metadata| metadata::clerk_user_id(metadata, rules))
        }),
    })
}

/// The status, wherever there is one. Before there were statuses, booleans told the same.
fn read_status(
    status: Option<Value<'_>>,
    paid: Option<Value<'_>>,
    forgiven: Option<Value<'_>>,
    closed: Option<Value<'_>>,
) -> Result<String, Unreadable> {
    if let Some(status) = status.and_then(Value::as_text) {
        return Ok(status);
    }
    let is_true = |value: Option<Value<'_>>| value.and_then(Value::as_bool) == Some(true);
    match (paid.and_then(Value::as_bool), status) {
        (Some(true), _) => Ok("paid".to_owned()),
        (Some(false), _) if is_true(forgiven) => Ok("uncollectible".to_owned()),
        (Some(false), _) if is_true(closed) => Ok("void".to_owned()),
        (Some(false), _) => Ok("open".to_owned()),
        (None, Some(_)) => Err(Unreadable::new("status", "not a string")),
        (None, None) => Err(Unreadable::missing("status")),
    }
}

/// The latest start of a line of the invoice's subscription that is not a proration. A line without a subscription is the
/// invoice's; what a one-off invoice bills beside a subscription says nothing of its periods.
fn read_line_start(lines: Option<Value<'_>>, subscription: &str) -> Option<DateTime<Utc>> {
    let mut latest = None;
    let list = lines.and_then(|lines| lines.get("data").or(Some(lines).filter(|lines| lines.kind() == Kind::Array)));
    for line in list.into_iter().flat_map(Value::elements) {
        let [period, proration, line_subscription, parent] =
            line.pick(const { &Keys::new(["period", "proration", "subscription", "parent"]) });
        let names = const { &Keys::new(["subscription_item_details", "invoice_item_details"]) };
        let details = parent.map(|parent| parent.pick(names)).unwrap_or_default();
        let prorations = details.into_iter().flatten().filter_map(|details| details.get("proration")).chain(proration);
        if prorations.into_iter().any(|proration| proration.as_bool() == Some(true)) {
            continue;
        }
        let parents = details.into_iter().flatten().filter_map(|details| details.get("subscription"));
        let owner = line_subscription.into_iter().chain(parents).find_map(Value::as_reference);
        let start = period.and_then(|period| period.get("start")).and_then(Value::as_seconds);
        if owner.is_none_or(|owner| owner == subscription) {
            latest = latest.max(start);
        }
    }
    latest
}
