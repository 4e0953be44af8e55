//! Who is named in examples: every user, customer and event of theirs is there, in the database, at Clerk and at Stripe.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::collected::Block;
use crate::support::events::{Webhook, stripe_event};

/// Ids and addresses in the order in which they are met, those first that stand in for an ellipsis.
#[derive(Debug)]
pub struct Cast {
    pub users: Vec<String>,
    pub customers: Vec<String>,
    pub events: Vec<String>,
    addresses: Vec<String>,
}

impl Cast {
    pub fn of(blocks: &[Block]) -> Cast {
        let mut cast = Cast {
            users: vec!["user_2abc".into()],
            customers: vec!["cus_123".into()],
            events: Vec::new(),
            addresses: vec!["ada@example.com".into()],
        };
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_@.-".contains(c);
        for line in blocks.iter().flat_map(|block| &block.examples).map(|example| &example.line) {
            for word in line.split(|c| !is_part(c)) {
                let into = match word {
                    _ if word.len() < 6 => continue,
                    _ if word.starts_with("user_") => &mut cast.users,
                    _ if word.starts_with("cus_") => &mut cast.customers,
                    _ if word.starts_with("evt_") => &mut cast.events,
                    _ if word.contains('@') && word.ends_with(".com") => &mut cast.addresses,
                    _ => continue,
                };
                if !into.iter().any(|known| known == word) {
                    into.push(word.to_owned());
                }
            }
        }
        cast
    }

    /// As Clerk's API gives them.
    pub fn clerk_users(&self, at: DateTime<Utc>) -> Vec<Value> {
        let everybody = self.users.iter().enumerate();
        everybody
            .map(|(index, id)| {
                let address = self.addresses.get(index).cloned().unwrap_or_else(|| format!("{id}@example.com"));
                json!({"id": id, "object": "user", "first_name": "Ada", "last_name": "Lovelace",
                    "primary_email_address_id": format!("idn_{id}"),
                    "email_addresses": [{"id": format!("idn_{id}"), "object": "email_address", "email_address": address,
                        "verification": {"status": "verified"}}],
                    "private_metadata": {}, "public_metadata": {}, "unsafe_metadata": {},
                    "created_at": at.timestamp_millis(), "updated_at": at.timestamp_millis()})
            })
            .collect()
    }

    /// As Stripe's API gives them: each customer is a user's, and pays for a plan.
    pub fn stripe_objects(&self, at: DateTime<Utc>) -> Vec<Value> {
        let (start, end) = (at.timestamp(), at.timestamp() + 28 * 86_400);
        let customers = self.customers.iter().zip(self.users.iter().cycle());
        customers
            .flat_map(|(id, user)| {
                let number = id.trim_start_matches("cus_");
                let item = json!({"id": format!("si_{number}"), "object": "subscription_item", "current_period_start": start,
                    "current_period_end": end, "price": {"id": "price_glow_up_monthly", "object": "price",
                        "product": "prod_glow_up"}});
                [
                    json!({"id": id, "object": "customer", "created": start, "livemode": false,
                        "metadata": {"clerk_user_id": user}}),
                    json!({"id": format!("sub_{number}"), "object": "subscription", "customer": id, "status": "active",
                        "created": start, "billing_cycle_anchor": start, "collection_method": "charge_automatically",
                        "items": {"object": "list", "data": [item]}, "livemode": false, "metadata": {}}),
                ]
            })
            .collect()
    }

    /// What the providers have told of all of them. The events that examples name are the newest subscriptions'.
    pub fn webhooks(&self, at: DateTime<Utc>) -> Vec<Webhook> {
        let signed_up = self.clerk_users(at).into_iter().map(|user| {
            let id = format!("msg_{}", user["id"].as_str().unwrap());
            let body = json!({"type": "user.created", "object": "event", "timestamp": at.timestamp_millis(),
                "instance_id": "ins_1", "data": user});
            Webhook::clerk(&id, body.to_string())
        });
        let objects = self.stripe_objects(at);
        let told = objects.iter().map(|object| {
            let id = format!("evt_{}", object["id"].as_str().unwrap());
            stripe_event(&id, &format!("{}.created", kind(object)), at, object.clone())
        });
        let named = self.events.iter().map(|id| {
            let object = objects[1].clone();
            stripe_event(id, "customer.subscription.updated", at + chrono::Duration::seconds(1), object)
        });
        signed_up.chain(told).chain(named).collect()
    }
}

fn kind(object: &Value) -> &'static str {
    if object["object"] == "customer" { "customer" } else { "customer.subscription" }
}

/// The prices of `fixtures/plans.toml`.
pub fn prices() -> impl Iterator<Item = Value> {
    let plans = ["glow_up", "viral_surge", "fame_flex"].into_iter().zip(1..);
    plans.flat_map(|(plan, created)| {
        ["monthly", "yearly"].map(|every| json!({"id": format!("price_{plan}_{every}"), "object": "price", "created": created}))
    })
}
