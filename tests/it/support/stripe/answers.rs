//! What Stripe answers to a request: see "Pagination" and "Errors" in its API reference.

use serde_json::{Value, json};

use super::{Asked, Objects};

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
        let is_theirs = |object: &Value| is_payment_method(object) && reference(&object["customer"]) == Some(customer);
        return list(objects, asked, is_theirs);
    }
    let of_path = |(path, _): &&(&str, &str)| *path == asked.path;
    if let Some((_, object_type)) = COLLECTIONS.iter().find(of_path) {
        return list(objects, asked, |object| object["object"] == *object_type && passes(object, asked));
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
fn is_payment_method(object: &Value) -> bool {
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
fn reference(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["id"].as_str())
}

/// Newest first, a page at a time.
fn list(objects: &Objects, asked: &Asked, belongs: impl Fn(&Value) -> bool) -> Reply {
    let mut all: Vec<(&String, &Value)> = objects.by_id.iter().filter(|(_, object)| belongs(object)).collect();
    all.sort_by_key(|(id, object)| (std::cmp::Reverse(object["created"].as_i64()), std::cmp::Reverse(*id)));
    let limit: usize = asked.query.get("limit").map_or(10, |limit| limit.parse().unwrap());
    let start = match asked.query.get("starting_after") {
        None => 0,
        Some(after) => match all.iter().position(|(id, _)| *id == after) {
            Some(index) => index + 1,
            None => return Reply::error(400, "resource_missing"),
        },
    };
    let page: Vec<&Value> = all.iter().skip(start).take(limit).map(|(_, object)| *object).collect();
    let has_more = start + page.len() < all.len();
    Reply::of(&json!({"object": "list", "url": asked.path, "has_more": has_more, "data": page}))
}
