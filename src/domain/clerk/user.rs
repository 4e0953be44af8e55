//! Clerk `user`. Nothing is read from `unsafe_metadata`: the user writes it.

use crate::domain::billing::facts::ClerkUser;
use crate::domain::json_text::{Keys, Value};

/// Reads a user; nothing of it is required but the id.
pub(super) fn read(user: Value<'_>) -> ClerkUser {
    let names = const { &Keys::new(["created_at", "email_addresses", "primary_email_address_id", "first_name", "last_name"]) };
    let [created_at, addresses, primary_id, first_name, last_name] = user.pick(names);
    let primary_id = primary_id.and_then(Value::as_text);
    let mut email = None;
    let mut verified_emails = Vec::new();
    for entry in addresses.into_iter().flat_map(Value::elements) {
        let [id, address, verification] = entry.pick(const { &Keys::new(["id", "email_address", "verification"]) });
        let Some(address) = address.and_then(Value::as_text) else { continue };
        if verification.and_then(|verification| verification.get("status")).is_some_and(|status| status.says("verified")) {
            verified_emails.push(address.to_lowercase());
        }
        if email.is_none() && primary_id.is_some() && id.and_then(Value::as_text) == primary_id {
            email = Some(address);
        }
    }
    verified_emails.sort_unstable();
    verified_emails.dedup();
    ClerkUser {
        created_at: created_at.and_then(Value::as_milliseconds),
        email,
        full_name: full_name(first_name, last_name),
        verified_emails,
        stripe_customer_id: claimed_customer(user),
    }
}

/// The Stripe customer that a user's metadata claims: the private one decides.
pub(super) fn claimed_customer(user: Value<'_>) -> Option<String> {
    let metadata = user.pick(const { &Keys::new(["private_metadata", "public_metadata"]) });
    metadata.into_iter().flatten().find_map(|metadata| metadata.get("stripe_customer_id")?.as_id())
}

fn full_name(first_name: Option<Value<'_>>, last_name: Option<Value<'_>>) -> Option<String> {
    let parts = [first_name, last_name].into_iter().flatten().filter_map(Value::as_text);
    let parts: Vec<String> = parts.map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}
