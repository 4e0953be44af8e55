//! Stripe `customer`.

use crate::domain::billing::facts::{Address, Customer};
use crate::domain::json_text::{Keys, Value};

/// Reads a customer; nothing of it is required.
pub(super) fn read(customer: Value<'_>, clerk_user_id: Option<String>) -> Customer {
    let names = const { &Keys::new(["created", "email", "invoice_settings", "default_source", "address", "test_clock"]) };
    let [created, email, invoice_settings, default_source, address, test_clock] = customer.pick(names);
    Customer {
        created: created.and_then(Value::as_seconds),
        email: email.and_then(Value::as_str).filter(|email| !email.is_empty()).map(|email| email.to_lowercase()),
        clerk_user_id,
        default_payment_method: invoice_settings
            .and_then(|settings| settings.get("default_payment_method"))
            .and_then(Value::as_reference),
        default_source: default_source.and_then(Value::as_reference),
        address: address.and_then(address_of),
        test_clock: test_clock.and_then(Value::as_reference),
    }
}

/// The part of an address that is kept; `None` when it says nothing of it.
pub(super) fn address_of(address: Value<'_>) -> Option<Address> {
    let [city, country, postal_code] = address.pick(const { &Keys::new(["city", "country", "postal_code"]) });
    let address = Address {
        city: city.and_then(Value::as_text),
        country: country.and_then(Value::as_text),
        postal_code: postal_code.and_then(Value::as_text),
    };
    Some(address).filter(|address| !address.is_empty())
}
