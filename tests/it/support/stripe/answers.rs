//! What Stripe answers to a request: see "Pagination" and "Errors" in its API reference.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Bound;

use serde_json::{Value, json};

use super::{Asked, Objects, Place, place_of};

pub(super) struct Reply {
    pub status: u16,
    pub body: String,
}

impl Reply {
    fn of(value: &Value) -> Reply {
        Reply { status: 200, body: value.to_string() }
    }

    pub(super) fn error(status: u16, code: &str) -> Reply {
        // Stripe shows the head and the tail of the key.
        let message = if status == 403 {
            "The provided key 'rk_test_51Fake**********nted' does not have the required permissions for this endpoint on account \
             'acct_1'. Having the 'rak_made_up_read' permission would allow this request to continue."
        } else {
            "Invalid API Key provided: rk_test_51Fake**********nted"
        };
        let error = json!({"error": {"code": code, "message": message, "type": "invalid_request_error"}});
        Reply { status, body: error.to_string() }
    }
}

const COLLECTIONS: [(&str, &str); 11] = [
    ("/v1/customers", "customer"),
    ("/v1/subscriptions", "subscription"),
    ("/v1/subscription_schedules", "subscription_schedule"),
    ("/v1/payment_methods", "payment_method"),
    ("/v1/sources", "source"),
    ("/v1/invoices", "invoice"),
    ("/v1/checkout/sessions", "checkout.session"),
    ("/v1/payment_intents", "payment_intent"),
    ("/v1/products", "product"),
    ("/v1/prices", "price"),
    ("/v1/events", "event"),
];

pub(super) fn answer(objects: &Objects, asked: &Asked) -> Reply {
    if let Some(customer) = asked.path.strip_prefix("/v1/customers/").and_then(|rest| rest.strip_suffix("/payment_methods")) {
        if !objects.by_id.contains_key(customer) {
            return Reply::error(404, "resource_missing");
        }
        return list(objects, asked, objects.payment_methods.get(customer));
    }
    let of_path = |(path, _): &&(&str, &str)| *path == asked.path;
    if let Some((_, object_type)) = COLLECTIONS.iter().find(of_path) {
        return list(objects, asked, objects.by_type.get(*object_type));
    }
    let Some((collection, id)) = asked.path.rsplit_once('/') else { return Reply::error(404, "resource_missing") };
    let expected = COLLECTIONS.iter().find(|(path, _)| *path == collection).map(|(_, object_type)| *object_type);
    match objects.by_id.get(id) {
        Some(object)
            if expected == object["object"].as_str() || expected == Some("payment_method") && is_payment_method(object) =>
        {
            Reply::of(object)
        }
        None if objects.deleted.contains(id) => Reply::of(&json!({"id": id, "object": "customer", "deleted": true})),
        _ => Reply::error(404, "resource_missing"),
    }
}

/// The legacy card is a payment method to those who ask for one.
pub(super) fn is_payment_method(object: &Value) -> bool {
    object["object"] == "payment_method" || object["object"] == "card"
}

fn passes(object: &Value, asked: &Asked) -> bool {
    let asks = |name: &str| asked.query.get(name).map(String::as_str);
    let seconds = |name: &str| asks(name).map(|value| value.parse::<i64>().unwrap());
    let created = object["created"].as_i64().unwrap_or_default();
    let types: Vec<&String> = asked.query.iter().filter(|(name, _)| name.starts_with("types[")).map(|(_, value)| value).collect();
    asks("customer").is_none_or(|customer| reference(&object["customer"]) == Some(customer))
        && seconds("created[gte]").is_none_or(|since| created >= since)
        && seconds("created[lt]").is_none_or(|before| created < before)
        && (types.is_empty() || types.iter().any(|wanted| object["type"] == **wanted))
        && match (asks("status"), object["object"] == "subscription") {
            (Some("all"), true) => true,
            (None, true) => object["status"] != "canceled",
            (Some(status), _) => object["status"] == status,
            (None, false) => true,
        }
}

/// An id, or the id of an expanded object.
pub(super) fn reference(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["id"].as_str())
}

/// Newest first, a page at a time.
fn list(objects: &Objects, asked: &Asked, places: Option<&BTreeSet<Place>>) -> Reply {
    let limit: usize = asked.query.get("limit").map_or(10, |limit| limit.parse().unwrap());
    let start = match asked.query.get("starting_after").map(|after| objects.by_id.get(after)) {
        None => Bound::Unbounded,
        Some(Some(after)) => Bound::Excluded(place_of(after)),
        Some(None) => return Reply::error(400, "resource_missing"),
    };
    let behind = places.into_iter().flat_map(|places| places.range((start.clone(), Bound::Unbounded)));
    let listed = behind.map(|(_, Reverse(id))| id).filter(|id| !objects.unlisted.contains(*id)).map(|id| &objects.by_id[id]);
    let mut page: Vec<&Value> = listed.filter(|object| passes(object, asked)).take(limit + 1).collect();
    let has_more = page.len() > limit;
    page.truncate(limit);
    Reply::of(&json!({"object": "list", "url": asked.path, "has_more": has_more, "data": page}))
}
