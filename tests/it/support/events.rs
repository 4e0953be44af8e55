//! Small signed webhooks, one shape per purpose; the complete shapes are the fixtures'.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::http::client::{clerk_signature, post, stripe_signature};

/// A webhook, ready to be signed at any time and sent to any server.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The key in the ledger.
    pub id: String,
    is_clerk: bool,
    pub body: Vec<u8>,
}

impl Webhook {
    pub fn stripe(id: &str, body: impl Into<Vec<u8>>) -> Webhook {
        Webhook { id: id.to_owned(), is_clerk: false, body: body.into() }
    }

    pub fn clerk(id: &str, body: impl Into<Vec<u8>>) -> Webhook {
        Webhook { id: id.to_owned(), is_clerk: true, body: body.into() }
    }

    /// The same contents as another event.
    pub fn renamed(&self, id: &str) -> Webhook {
        let body = String::from_utf8(self.body.clone()).unwrap().replace(&format!("\"{}\"", self.id), &format!("\"{id}\""));
        Webhook { id: id.to_owned(), is_clerk: self.is_clerk, body: body.into_bytes() }
    }

    pub fn path(&self) -> &'static str {
        if self.is_clerk { "/webhooks/clerk" } else { "/webhooks/stripe" }
    }

    /// The header lines that sign it.
    pub fn signature(&self, at: DateTime<Utc>) -> String {
        match self.is_clerk {
            true => clerk_signature(&self.id, &self.body, at.timestamp()),
            false => stripe_signature(&self.body, at.timestamp()),
        }
    }

    /// The whole HTTP request.
    pub fn request(&self, at: DateTime<Utc>) -> Vec<u8> {
        post(self.path(), &self.signature(at), &self.body)
    }
}

/// `user.created` of the Clerk user `user_<number>`.
pub fn user_created(number: u32, at: DateTime<Utc>) -> Webhook {
    let (id, millis) = (format!("user_{number}"), at.timestamp_millis());
    let address = json!({"id": format!("idn_{number}"), "email_address": format!("{id}@example.com"),
        "verification": {"status": "verified"}});
    let data = json!({"id": id, "object": "user", "first_name": "Ada", "last_name": format!("No. {number}"),
        "primary_email_address_id": format!("idn_{number}"), "email_addresses": [address],
        "created_at": millis, "updated_at": millis});
    let body = json!({"type": "user.created", "object": "event", "timestamp": millis, "instance_id": "ins_1", "data": data});
    Webhook::clerk(&format!("msg_user_{number}"), body.to_string())
}

/// `customer.created` of `cus_<number>`, which names the Clerk user of the same number.
pub fn customer_created(number: u32, at: DateTime<Utc>) -> Webhook {
    let customer = json!({"id": format!("cus_{number}"), "object": "customer", "created": at.timestamp(),
        "metadata": {"clerk_user_id": format!("user_{number}")}});
    stripe_event(&format!("evt_cus_{number}"), "customer.created", at, customer)
}

/// `customer.subscription.updated` of `sub_<number>`, active; `step` makes its events differ from one another.
pub fn subscription_updated(number: u32, step: u32, at: DateTime<Utc>) -> Webhook {
    let subscription = subscription(number, at);
    stripe_event(&format!("evt_sub_{number}_{step}"), "customer.subscription.updated", at, subscription)
}

/// An active subscription of `cus_<number>`, whose period begins at that time.
pub fn subscription(number: u32, at: DateTime<Utc>) -> Value {
    let (start, end) = (at.timestamp(), at.timestamp() + 30 * 86_400);
    let item = json!({"id": format!("si_{number}"), "object": "subscription_item", "current_period_start": start,
        "current_period_end": end, "price": {"id": "price_glow_up_monthly", "object": "price", "product": "prod_glow_up"}});
    json!({"id": format!("sub_{number}"), "object": "subscription", "customer": format!("cus_{number}"), "status": "active",
        "created": 1_760_000_000, "billing_cycle_anchor": start, "collection_method": "charge_automatically",
        "items": {"object": "list", "data": [item]}, "metadata": {}})
}

/// An event about any object.
pub fn stripe_event(id: &str, kind: &str, at: DateTime<Utc>, object: Value) -> Webhook {
    let body = json!({"id": id, "object": "event", "api_version": "2025-09-30.clover", "type": kind, "created": at.timestamp(),
        "livemode": false, "pending_webhooks": 1, "data": {"object": object}});
    Webhook::stripe(id, body.to_string())
}
