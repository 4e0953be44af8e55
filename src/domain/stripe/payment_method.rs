//! Stripe `payment_method`, and its predecessors `card` and `source`.

use super::customer::address_of;
use crate::domain::billing::facts::{Address, Card, PaymentMethod};
use crate::domain::json_text::{Keys, Unreadable, Value, required_text};

/// Reads a payment method. Required: type.
pub(super) fn read(method: Value<'_>, customer: Option<String>, detached: bool) -> Result<PaymentMethod, Unreadable> {
    let [kind, created, card, billing_details] =
        method.pick(const { &Keys::new(["type", "created", "card", "billing_details"]) });
    let kind = required_text(kind, "type")?;
    Ok(PaymentMethod {
        customer: customer.filter(|_| !detached),
        card: (kind == "card").then(|| card.map(read_card).unwrap_or_default()),
        kind,
        created: created.and_then(Value::as_seconds),
        address: billing_details.and_then(|details| details.get("address")).and_then(address_of),
        detached,
    })
}

/// Reads a legacy card, whose face and address are fields of its own.
pub(super) fn read_legacy_card(card: Value<'_>, customer: Option<String>) -> PaymentMethod {
    let names = const { &Keys::new(["created", "address_city", "address_country", "address_zip"]) };
    let [created, city, country, postal_code] = card.pick(names);
    let address = Address {
        city: city.and_then(Value::as_text),
        country: country.and_then(Value::as_text),
        postal_code: postal_code.and_then(Value::as_text),
    };
    PaymentMethod {
        customer,
        kind: "card".to_owned(),
        created: created.and_then(Value::as_seconds),
        card: Some(read_card(card)),
        address: Some(address).filter(|address| !address.is_empty()),
        detached: false,
    }
}

/// Reads a legacy source: a type and a member of that name, like a payment method, but for the address of its owner.
pub(super) fn read_source(source: Value<'_>, customer: Option<String>) -> PaymentMethod {
    let [kind, created, card, owner] = source.pick(const { &Keys::new(["type", "created", "card", "owner"]) });
    let kind = kind.and_then(Value::as_text).unwrap_or_else(|| "source".to_owned());
    PaymentMethod {
        customer,
        card: (kind == "card").then(|| card.map(read_card).unwrap_or_default()),
        kind,
        created: created.and_then(Value::as_seconds),
        address: owner.and_then(|owner| owner.get("address")).and_then(address_of),
        detached: false,
    }
}

fn read_card(card: Value<'_>) -> Card {
    let [last_4, brand, exp_month, exp_year] = card.pick(const { &Keys::new(["last4", "brand", "exp_month", "exp_year"]) });
    let number = |value: Value<'_>| value.as_i64().and_then(|number| i32::try_from(number).ok());
    Card {
        last_4: last_4.and_then(Value::as_text),
        brand: brand.and_then(Value::as_text).map(|brand| normalise_brand(&brand)),
        exp_month: exp_month.and_then(number),
        exp_year: exp_year.and_then(number),
    }
}

/// Payment methods write brands in lower case, cards and sources as one would print them; see `card.brand` of both in
/// Stripe's API reference.
fn normalise_brand(brand: &str) -> String {
    let lower = brand.to_lowercase();
    match lower.as_str() {
        "american express" => "amex".to_owned(),
        "diners club" => "diners".to_owned(),
        "cartes bancaires" => "cartes_bancaires".to_owned(),
        "eftpos australia" => "eftpos_au".to_owned(),
        _ => lower,
    }
}
