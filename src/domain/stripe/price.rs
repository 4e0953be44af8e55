//! What identifies a plan: a price, an old plan, or the mere id of one.

use crate::domain::billing::facts::Price;
use crate::domain::json_text::{Keys, Value};

/// The price of an item of any age: `price`, else `plan`.
pub(super) fn of_item(item: Value<'_>) -> Price {
    let [price, plan] = item.pick(const { &Keys::new(["price", "plan"]) });
    price.or(plan).map(read).unwrap_or_default()
}

/// Reads a price or an old plan, expanded or not.
pub(super) fn read(price: Value<'_>) -> Price {
    if let Some(id) = price.as_id() {
        return Price { id: Some(id), ..Price::default() };
    }
    let [id, product, lookup_key, metadata] = price.pick(const { &Keys::new(["id", "product", "lookup_key", "metadata"]) });
    Price {
        id: id.and_then(Value::as_id),
        product: product.and_then(Value::as_reference),
        lookup_key: lookup_key.and_then(Value::as_text),
        plan_key: metadata.and_then(|metadata| metadata.get("plan_key")).and_then(Value::as_text),
    }
}
