//! Rendering a Stripe event of the newest API version as Stripe would have sent it in another one. The
//! `previous_attributes` are told anew from the object before and after, because what changed depends on the shape.

use serde_json::{Map, Value, json};

/// A shape in which Stripe sends its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Periods on the subscription, `invoice.subscription`, `line.price`, `paid`, `cancel_at_period_end`.
    Of2024,
    /// Periods on the items, `parent`, `pricing`; the classic billing mode alone.
    Basil,
    /// As the fixtures are written.
    Newest,
    /// The newest one with every subscription in flexible billing mode: `cancel_at` without `cancel_at_period_end`.
    Flexible,
}

impl Dialect {
    /// Every dialect, oldest first.
    pub const ALL: [Dialect; 4] = [Dialect::Of2024, Dialect::Basil, Dialect::Newest, Dialect::Flexible];

    fn api_version(self) -> &'static str {
        match self {
            Dialect::Of2024 => "2024-06-20",
            Dialect::Basil => "2025-03-31.basil",
            Dialect::Newest | Dialect::Flexible => "2025-09-30.clover",
        }
    }

    /// The event as this dialect has it.
    pub fn render(self, event: &Value) -> Value {
        let mut event = event.clone();
        // An endpoint keeps its version: what is older than every dialect comes as it always did.
        let is_older = event["api_version"].as_str().is_some_and(|version| version < Dialect::Of2024.api_version());
        if event["data"]["object"].is_null() || is_older {
            return event;
        }
        event["api_version"] = self.api_version().into();
        let mut after = event["data"]["object"].clone();
        let mut before = after.clone();
        put_back(&mut before, &event["data"]["previous_attributes"]);
        let had_previous = event["data"].get("previous_attributes").is_some();
        self.convert(&mut after);
        self.convert(&mut before);
        let previous = difference(&before, &after);
        event["data"]["object"] = after;
        if had_previous {
            event["data"]["previous_attributes"] = Value::Object(previous);
        }
        event
    }

    fn convert(self, object: &mut Value) {
        match (self, object["object"].as_str()) {
            (Dialect::Newest, _) => {}
            (Dialect::Flexible, Some("subscription")) => cancel_flexibly(object),
            (Dialect::Basil, Some("subscription")) => cancel_classically(object),
            (Dialect::Of2024, Some("subscription")) => {
                cancel_classically(object);
                move_periods_up(object);
                add_plans(object);
            }
            (Dialect::Of2024, Some("invoice")) => flatten_invoice(object),
            _ => {}
        }
    }
}

/// Makes the object what it was before the change.
fn put_back(object: &mut Value, previous: &Value) {
    let Some(previous) = previous.as_object() else { return };
    for (key, old) in previous {
        if old.is_object() && object[key].is_object() {
            put_back(&mut object[key], old);
        } else {
            object[key] = old.clone();
        }
    }
}

/// What Stripe would send as `previous_attributes`: arrays as a whole, objects member by member.
fn difference(before: &Value, after: &Value) -> Map<String, Value> {
    let (Some(old), Some(new)) = (before.as_object(), after.as_object()) else { return Map::new() };
    let mut previous = Map::new();
    for key in new.keys().chain(old.keys().filter(|key| !new.contains_key(*key))) {
        let (a, b) = (old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null));
        if a.is_object() && b.is_object() {
            let inner = difference(a, b);
            if !inner.is_empty() {
                previous.insert(key.clone(), Value::Object(inner));
            }
        } else if a != b {
            previous.insert(key.clone(), a.clone());
        }
    }
    previous
}

fn items(subscription: &Value) -> &[Value] {
    subscription["items"]["data"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn earliest_period_end(subscription: &Value) -> Option<i64> {
    items(subscription).iter().filter_map(|item| item["current_period_end"].as_i64()).min()
}

fn cancel_flexibly(subscription: &mut Value) {
    if subscription["cancel_at_period_end"] == json!(true) {
        if subscription["cancel_at"].is_null() {
            subscription["cancel_at"] = json!(earliest_period_end(subscription));
        }
        subscription["cancel_at_period_end"] = json!(false);
    }
    subscription["billing_mode"] = json!({"flexible": {"proration_discounts": "included"}, "type": "flexible"});
}

fn cancel_classically(subscription: &mut Value) {
    if subscription["cancel_at"].is_i64() && subscription["cancel_at"].as_i64() == earliest_period_end(subscription) {
        subscription["cancel_at_period_end"] = json!(true);
    }
    remove(subscription, "billing_mode");
}

/// Where the items have different periods the old shape has no word for it: they keep their own.
fn move_periods_up(subscription: &mut Value) {
    for key in ["current_period_start", "current_period_end"] {
        let first = items(subscription).first().map(|item| item[key].clone()).unwrap_or_default();
        if items(subscription).iter().all(|item| item[key] == first) {
            for_each(&mut subscription["items"]["data"], |item| remove(item, key));
        }
        subscription[key] = first;
    }
    for_each(&mut subscription["pending_update"]["subscription_items"], |item| {
        remove(item, "current_period_start");
        remove(item, "current_period_end");
    });
    if subscription["pending_update"] == json!({"subscription_items": null}) {
        subscription["pending_update"] = Value::Null;
    }
}

fn add_plans(subscription: &mut Value) {
    for_each(&mut subscription["items"]["data"], |item| item["plan"] = plan(&item["price"]));
    let only = if let [item] = items(subscription) { item["plan"].clone() } else { Value::Null };
    subscription["plan"] = only;
    subscription["quantity"] = json!(1);
    subscription["discount"] = Value::Null;
}

fn plan(price: &Value) -> Value {
    json!({
        "id": price["id"], "object": "plan", "active": price["active"], "amount": price["unit_amount"],
        "billing_scheme": "per_unit", "created": price["created"], "currency": price["currency"],
        "interval": price["recurring"]["interval"], "interval_count": 1, "livemode": false, "metadata": {},
        "product": price["product"], "usage_type": "licensed",
    })
}

fn flatten_invoice(invoice: &mut Value) {
    let details = invoice["parent"]["subscription_details"].clone();
    invoice["subscription"] = details["subscription"].clone();
    invoice["subscription_details"] = if details.is_null() { Value::Null } else { json!({"metadata": details["metadata"]}) };
    invoice["paid"] = json!(invoice["status"] == "paid");
    invoice["charge"] = Value::Null;
    remove(invoice, "parent");
    for_each(&mut invoice["lines"]["data"], |line| {
        let kind = line["parent"]["type"].as_str().unwrap_or("subscription_item_details").to_owned();
        let item = line["parent"][&kind].clone();
        let price = line["pricing"]["price_details"].clone();
        line["price"] = json!({"id": price["price"], "object": "price", "product": price["product"], "type": "recurring"});
        line["plan"] = json!({"id": price["price"], "object": "plan", "product": price["product"]});
        line["proration"] = item["proration"].clone();
        line["subscription"] = item["subscription"].clone();
        line["subscription_item"] = item["subscription_item"].clone();
        line["type"] = if item["invoice_item"].is_null() { "subscription".into() } else { "invoiceitem".into() };
        for key in ["parent", "pricing", "taxes"] {
            remove(line, key);
        }
    });
}

fn for_each(array: &mut Value, mut change: impl FnMut(&mut Value)) {
    for element in array.as_array_mut().into_iter().flatten() {
        change(element);
    }
}

fn remove(object: &mut Value, key: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_in_the_shape_of_the_dialect() {
        let item = |start: i64| json!({"id": "si_1", "current_period_start": start, "current_period_end": start + 10, "price": {"id": "p"}});
        let event = json!({"data": {
            "object": {"object": "subscription", "items": {"data": [item(10)]}, "cancel_at": 20, "cancel_at_period_end": false},
            "previous_attributes": {"items": {"data": [item(0)]}, "cancel_at": null},
        }});
        let previous = |dialect: Dialect| dialect.render(&event)["data"]["previous_attributes"].clone();
        assert_eq!(previous(Dialect::Newest), json!({"items": {"data": [item(0)]}, "cancel_at": null}));
        assert_eq!(
            previous(Dialect::Of2024),
            json!({"cancel_at": null, "cancel_at_period_end": false, "current_period_start": 0, "current_period_end": 10})
        );
    }
}
