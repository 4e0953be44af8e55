//! Stripe `checkout.session`.

use crate::domain::billing::facts::CheckoutSession;
use crate::domain::json_text::{Keys, Unreadable, Value, required_text};

/// Reads a session. Required: status. `metadata_id` is the Clerk user that its metadata names.
pub(super) fn read(
    session: Value<'_>,
    customer: Option<String>,
    metadata_id: Option<String>,
) -> Result<CheckoutSession, Unreadable> {
    let names =
        const { &Keys::new(["status", "subscription", "mode", "created", "client_reference_id", "metadata", "payment_link"]) };
    let [status, subscription, mode, created, client_reference_id, metadata, payment_link] = session.pick(names);
    Ok(CheckoutSession {
        customer,
        subscription: subscription.and_then(Value::as_reference),
        mode: mode.and_then(Value::as_text),
        status: required_text(status, "status")?,
        created: created.and_then(Value::as_seconds),
        clerk_user_id: client_reference_id.and_then(Value::as_id).or(metadata_id),
        payment_link: payment_link.is_some(),
        plan_key: metadata.and_then(|metadata| metadata.get("plan_key")).and_then(Value::as_text),
    })
}
