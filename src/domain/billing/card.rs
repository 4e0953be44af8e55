//! Which customer, card and address stand in `user_billing`. What Stripe would charge next comes first; a guess is made only
//! where it cannot be wrong (one attached card).

use std::cmp::Reverse;

use chrono::{DateTime, Months, NaiveDate, NaiveTime, Utc};

use crate::domain::billing::customer_facts::{CustomerFacts, Known};
use crate::domain::billing::facts::{Address, Card, PaymentMethod};
use crate::domain::billing::projection::findings::Findings;
use crate::domain::billing::rows::BillingColumns;
use crate::domain::billing::subscription::StripeSubscription;

/// Width of `card_last_4`.
const LAST_4_WIDTH: usize = 4;
/// Widths of `card_brand` and of `billing_address_postal_code`.
const BRAND_WIDTH: usize = 20;
const POSTAL_CODE_WIDTH: usize = 20;
/// Width of `billing_address_country`: ISO 3166-1 alpha-2.
const COUNTRY_WIDTH: usize = 2;

/// The value, if a column of that many characters can hold it. A cut value would be a wrong one.
pub fn fit(value: Option<String>, width: usize) -> Option<String> {
    value.filter(|text| text.chars().nth(width).is_none())
}

/// A card as its columns can hold it.
pub fn fit_card(card: &Card) -> Card {
    Card {
        last_4: fit(card.last_4.clone(), LAST_4_WIDTH),
        brand: fit(card.brand.clone(), BRAND_WIDTH),
        exp_month: card.exp_month,
        exp_year: card.exp_year,
    }
}

/// An address as its columns can hold it.
pub fn fit_address(address: &Address) -> Address {
    Address {
        city: address.city.clone(),
        country: fit(address.country.clone(), COUNTRY_WIDTH),
        postal_code: fit(address.postal_code.clone(), POSTAL_CODE_WIDTH),
    }
}

/// The instant from which the card cannot be charged: the end of its last month.
pub fn expires_at(card: &Card) -> Option<DateTime<Utc>> {
    let month = u32::try_from(card.exp_month?).ok()?;
    let first_day = NaiveDate::from_ymd_opt(card.exp_year?, month, 1)?;
    Some(first_day.checked_add_months(Months::new(1))?.and_time(NaiveTime::MIN).and_utc())
}

/// The Stripe columns of a user with these customers and that primary subscription.
pub fn project_billing(
    customers: &[&CustomerFacts],
    primary: Option<&StripeSubscription<'_>>,
    findings: &mut Findings,
) -> BillingColumns {
    let Some(customer) = choose_customer(customers, primary) else { return BillingColumns::default() };
    if let Some(known) = &customer.customer {
        findings.read(known);
    }
    let mut billing = BillingColumns {
        stripe_customer_id: Some(customer.customer_id.clone()),
        stripe_subscription_id: primary.map(|subscription| subscription.id.to_owned()),
        ..BillingColumns::default()
    };
    if customer.deleted_at.is_some() {
        return billing;
    }
    let mut method = None;
    if let Some(id) = choose_payment_method(customer, customers, primary, findings) {
        method = find_payment_method(customer, customers, id).map(|known| &known.fact);
        if method.is_none() {
            findings.unknown_payment_method(id);
        }
        billing.payment_method_id = Some(id.to_owned());
    }
    let card = method.and_then(|method| method.card.as_ref());
    billing.card = card.map(fit_card).unwrap_or_default();
    let own = customer.customer.as_ref().and_then(|known| known.fact.address.as_ref()).filter(|address| !address.is_empty());
    let address = own.or(method.and_then(|method| method.address.as_ref()));
    billing.address = address.map(fit_address).unwrap_or_default();
    billing
}

/// The primary subscription's customer, else the newest undeleted one, else the newest.
fn choose_customer<'a>(customers: &[&'a CustomerFacts], primary: Option<&StripeSubscription<'a>>) -> Option<&'a CustomerFacts> {
    let created = |customer: &CustomerFacts| customer.customer.as_ref().and_then(|known| known.fact.created);
    let newest = || {
        let order = |c: &&&'a CustomerFacts| (c.deleted_at.is_some(), Reverse((created(c), c.customer_id.as_str())));
        customers.iter().min_by(|a, b| order(a).cmp(&order(b))).copied()
    };
    primary.map(|subscription| subscription.customer).or_else(newest)
}

/// The id of what is charged next. An id that is not known counts: Stripe names it, so it exists.
fn choose_payment_method<'a>(
    customer: &'a CustomerFacts,
    customers: &[&'a CustomerFacts],
    primary: Option<&StripeSubscription<'a>>,
    findings: &mut Findings,
) -> Option<&'a str> {
    let subscription = primary.map(|subscription| subscription.fact);
    let defaults = customer.customer.as_ref().map(|known| &known.fact);
    let chain = [
        subscription.and_then(|fact| fact.default_payment_method.as_deref()),
        subscription.and_then(|fact| fact.default_source.as_deref()),
        defaults.and_then(|fact| fact.default_payment_method.as_deref()),
        defaults.and_then(|fact| fact.default_source.as_deref()),
    ];
    for id in chain.into_iter().flatten().filter(|id| !id.is_empty()) {
        let Some(known) = find_payment_method(customer, customers, id) else { return Some(id) };
        findings.read(known);
        if is_attached(known) {
            return Some(id);
        }
    }
    let mut attached = customer.attached_cards.iter();
    let only = attached.next().filter(|_| attached.next().is_none())?;
    if let Some(known) = customer.payment_methods.get(only) {
        findings.read(known);
    }
    Some(only)
}

/// Looks at the customer itself first, then at the user's other customers.
fn find_payment_method<'a>(
    customer: &'a CustomerFacts,
    customers: &[&'a CustomerFacts],
    id: &str,
) -> Option<&'a Known<PaymentMethod>> {
    let elsewhere = || customers.iter().find_map(|other| other.payment_methods.get(id));
    customer.payment_methods.get(id).or_else(elsewhere)
}

fn is_attached(known: &Known<PaymentMethod>) -> bool {
    !known.fact.detached && known.deleted_at.is_none() && known.fact.customer.is_some()
}
