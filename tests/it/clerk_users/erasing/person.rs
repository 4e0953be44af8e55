//! A person in every kind of event, with texts that stand nowhere else.

use serde_json::{Value, json};

use crate::clerk_users::ensuring::user_event;
use crate::support::events::{Webhook, stripe_event};
use crate::support::server::now;

pub const USER: &str = "user_zephyrine";

/// What must not be anywhere afterwards.
pub const SECRETS: [&str; 8] =
    [USER, "zephyrine", "quillfeather", "zq@example.net", "+15550199", "gloomhaven", "xq9 4zz", "last4\": \"7391"];

fn address() -> Value {
    json!({"city": "Gloomhaven", "country": "GB", "line1": "1 Quillfeather Lane", "postal_code": "XQ9 4ZZ"})
}

fn details() -> Value {
    json!({"name": "Zephyrine Quillfeather", "email": "zq@example.net", "phone": "+15550199", "address": address()})
}

/// The person as Clerk has it.
pub fn clerk_user() -> Value {
    let millis = now().timestamp_millis();
    json!({"id": USER, "object": "user", "first_name": "Zephyrine", "last_name": "Quillfeather",
        "primary_email_address_id": "idn_z", "phone_numbers": [{"id": "idn_p", "phone_number": "+15550199"}],
        "email_addresses": [{"id": "idn_z", "email_address": "zq@example.net", "verification": {"status": "verified"}}],
        "private_metadata": {"stripe_customer_id": "cus_z"}, "created_at": millis, "updated_at": millis})
}

/// The customer as Stripe has it.
pub fn customer() -> Value {
    json!({"id": "cus_z", "object": "customer", "created": 1_760_000_000, "email": "zq@example.net",
        "name": "Zephyrine Quillfeather", "phone": "+15550199", "address": address(), "shipping": details(),
        "invoice_settings": {"default_payment_method": "pm_z"}, "metadata": {"clerk_user_id": USER}})
}

/// The card.
pub fn payment_method() -> Value {
    json!({"id": "pm_z", "object": "payment_method", "type": "card", "customer": "cus_z", "created": 1_760_000_000,
        "card": {"brand": "visa", "last4": "7391", "exp_month": 4, "exp_year": 2031}, "billing_details": details()})
}

/// The subscription, with the person in its metadata.
pub fn subscription() -> Value {
    let (start, end) = (now().timestamp(), now().timestamp() + 30 * 86_400);
    let item = json!({"id": "si_z", "object": "subscription_item", "current_period_start": start, "current_period_end": end,
        "price": {"id": "price_glow_up_monthly", "object": "price", "product": "prod_glow_up"}});
    json!({"id": "sub_z", "object": "subscription", "customer": "cus_z", "status": "active", "created": 1_760_000_000,
        "billing_cycle_anchor": start, "collection_method": "charge_automatically", "description": "for Zephyrine",
        "items": {"object": "list", "data": [item]}, "metadata": {"clerk_user_id": USER}})
}

fn invoice() -> Value {
    json!({"id": "in_z", "object": "invoice", "customer": "cus_z", "status": "paid", "created": 1_760_000_000,
        "customer_email": "zq@example.net", "customer_name": "Zephyrine Quillfeather", "customer_address": address(),
        "lines": {"object": "list", "data": []}})
}

fn charge() -> Value {
    json!({"id": "ch_z", "object": "charge", "customer": "cus_z", "receipt_email": "zq@example.net",
        "billing_details": details(), "payment_method_details": {"card": {"last4": "7391"}}})
}

/// A checkout that nobody was signed in to Stripe for: it belongs to no customer.
fn guest_checkout() -> Value {
    json!({"id": "cs_z", "object": "checkout.session", "status": "complete", "mode": "payment", "created": 1_760_000_000,
        "client_reference_id": USER, "customer": null, "customer_details": details(), "metadata": {}})
}

/// Of Clerk's that belong to no user of ours, but name one.
fn membership() -> Webhook {
    let data = json!({"id": "orgmem_z", "object": "organization_membership", "role": "admin",
        "public_user_data": {"user_id": USER, "first_name": "Zephyrine", "identifier": "zq@example.net"}});
    user_event("msg_membership", "organizationMembership.created", &data, now())
}

fn mail() -> Webhook {
    let data = json!({"id": "ema_z", "object": "email", "user_id": USER, "to_email_address": "zq@example.net"});
    user_event("msg_mail", "email.created", &data, now())
}

/// Something that jsonb refuses, so that the payload is kept as bytes.
fn unstorable() -> Webhook {
    let body = format!(
        "{{\"type\":\"user.updated\",\"object\":\"event\",\"timestamp\":{},\"data\":{{\"id\":\"{USER}\",\"object\":\"user\",\
         \"first_name\":\"Zephyrine \\ud800\",\"last_name\":\"Quillfeather\",\"updated_at\":1}}}}",
        now().timestamp_millis()
    );
    Webhook::clerk("msg_bytes", body)
}

/// Everything that happened before.
pub fn story() -> Vec<Webhook> {
    vec![
        user_event("msg_z", "user.created", &clerk_user(), now()),
        stripe_event("evt_cus_z", "customer.created", now(), customer()),
        stripe_event("evt_pm_z", "payment_method.attached", now(), payment_method()),
        stripe_event("evt_sub_z", "customer.subscription.created", now(), subscription()),
        stripe_event("evt_in_z", "invoice.paid", now(), invoice()),
        stripe_event("evt_ch_z", "charge.succeeded", now(), charge()),
        stripe_event("evt_cs_z", "checkout.session.completed", now(), guest_checkout()),
        membership(),
        mail(),
        unstorable(),
    ]
}

/// The same a second time and later, with other ids: what a provider could still say.
pub fn sequel() -> Vec<Webhook> {
    let later = now() + chrono::TimeDelta::seconds(60);
    let mut user = clerk_user();
    user["updated_at"] = json!(later.timestamp_millis());
    let mut other_customer = customer();
    other_customer["id"] = json!("cus_z2");
    let mut other_card = payment_method();
    (other_card["id"], other_card["customer"]) = (json!("pm_z2"), json!("cus_z2"));
    vec![
        user_event("msg_z_2", "user.updated", &user, later),
        stripe_event("evt_cus_z_2", "customer.updated", later, customer()),
        stripe_event("evt_pm_z_2", "payment_method.updated", later, payment_method()),
        stripe_event("evt_sub_z_2", "customer.subscription.updated", later, subscription()),
        stripe_event("evt_in_z_2", "invoice.updated", later, invoice()),
        stripe_event("evt_ch_z_2", "charge.updated", later, charge()),
        stripe_event("evt_cs_z_2", "checkout.session.completed", later, guest_checkout()),
        user_event("msg_mail_2", "email.created", &json!({"id": "ema_z", "object": "email", "user_id": USER}), later),
        user_event(
            "msg_membership_2",
            "organizationMembership.updated",
            &serde_json::from_slice::<Value>(&membership().body).unwrap()["data"],
            later,
        ),
        // A customer that nobody has heard of until now: first a card, then whose it is.
        stripe_event("evt_pm_z2", "payment_method.attached", later, other_card),
        stripe_event("evt_cus_z2", "customer.created", later, other_customer),
        user_event("msg_z_3", "user.deleted", &json!({"id": USER, "object": "user", "deleted": true}), later),
        stripe_event("evt_cus_gone", "customer.deleted", later, json!({"id": "cus_z", "object": "customer", "deleted": true})),
    ]
}
