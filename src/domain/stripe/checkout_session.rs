//! Stripe `checkout.session`.

use super::metadata::clerk_user_id;
use crate::domain::billing::facts::CheckoutSession;
use crate::domain::json_text::{Unreadable, Value, required_text};
use crate::domain::rules::Rules;

/// Reads a session. Required: status.
pub(super) fn read(session: Value<'_>, customer: Option<String>, rules: &Rules) -> Result<CheckoutSession, Unreadable> {
    let names = ["status", "subscription", "mode", "created", "client_reference_id", "metadata", "payment_link"];
    let [status, subscription, mode, created, client_reference_id, metadata, payment_link] = session.pick(names);
    Ok(CheckoutSession {
        customer,
        subscription: subscription.and_then(Value::as_reference),
        mode: mode.and_then(Value::as_text),
        status: required_text(status, "status")?,
        created: created.and_then(Value::as_seconds),
        clerk_user_id: client_reference_id.and_then(Value::as_id).or_else(|| clerk_user_id(metadata, rules)),
        payment_link: payment_link.is_some(),
        plan_key: metadata.and_then(|metadata| metadata.get("plan_key")).and_then(Value::as_text),
    })
}
