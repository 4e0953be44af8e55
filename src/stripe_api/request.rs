//! What can be asked for: the resources, how a list is narrowed down, and the request that async-stripe makes of it.

use serde::Serialize;
use stripe::StripeRequest;
use stripe_client_core::{RequestBuilder, StripeMethod};

/// Most objects of a page; Stripe's own limit.
const PAGE: u32 = 100;

/// A kind of object that the API can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    Products,
    Prices,
    Customers,
    Subscriptions,
    SubscriptionSchedules,
    /// Listed per customer; also finds the legacy `card_…` by id.
    PaymentMethods,
    /// By id alone.
    Sources,
    Invoices,
    CheckoutSessions,
    PaymentIntents,
    Events,
}

impl Resource {
    /// The resource that an id of Stripe's belongs to, by its prefix.
    pub fn of_id(id: &str) -> Option<Resource> {
        const PREFIXES: [(&str, Resource); 12] = [
            ("cus_", Resource::Customers),
            ("sub_sched_", Resource::SubscriptionSchedules),
            ("sub_", Resource::Subscriptions),
            ("pm_", Resource::PaymentMethods),
            ("card_", Resource::PaymentMethods),
            ("src_", Resource::Sources),
            ("in_", Resource::Invoices),
            ("cs_", Resource::CheckoutSessions),
            ("pi_", Resource::PaymentIntents),
            ("prod_", Resource::Products),
            ("price_", Resource::Prices),
            ("evt_", Resource::Events),
        ];
        PREFIXES.into_iter().find(|(prefix, _)| id.starts_with(prefix)).map(|(_, resource)| resource)
    }

    /// The resource of an object of that type, with that id.
    pub fn of_object(object_type: &str, id: &str) -> Option<Resource> {
        Some(match object_type {
            "customer" => Resource::Customers,
            "subscription" => Resource::Subscriptions,
            "subscription_schedule" => Resource::SubscriptionSchedules,
            "payment_method" | "card" => Resource::PaymentMethods,
            "source" => Resource::Sources,
            "invoice" => Resource::Invoices,
            "checkout.session" => Resource::CheckoutSessions,
            "payment_intent" => Resource::PaymentIntents,
            _ => return Resource::of_id(id),
        })
    }

    /// As on the command line, and below `/v1/`.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Products => "products",
            Resource::Prices => "prices",
            Resource::Customers => "customers",
            Resource::Subscriptions => "subscriptions",
            Resource::SubscriptionSchedules => "subscription_schedules",
            Resource::PaymentMethods => "payment_methods",
            Resource::Sources => "sources",
            Resource::Invoices => "invoices",
            Resource::CheckoutSessions => "checkout/sessions",
            Resource::PaymentIntents => "payment_intents",
            Resource::Events => "events",
        }
    }

    /// What the Dashboard calls the permission of a restricted key.
    pub fn permission(self) -> &'static str {
        match self {
            Resource::Products => "Products: Read",
            Resource::Prices => "Prices: Read",
            Resource::Customers => "Customers: Read",
            Resource::Subscriptions | Resource::SubscriptionSchedules => "Subscriptions: Read",
            Resource::PaymentMethods => "Payment Methods: Read",
            Resource::Sources => "Sources: Read",
            Resource::Invoices => "Invoices: Read",
            Resource::CheckoutSessions => "Checkout Sessions: Read",
            Resource::PaymentIntents => "PaymentIntents: Read",
            Resource::Events => "Events: Read",
        }
    }
}

/// What a list is narrowed down to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub customer: Option<String>,
    /// Created at that second or later, in seconds since the epoch.
    pub created_since: Option<i64>,
    /// Created before that second.
    pub created_before: Option<i64>,
    pub status: Option<&'static str>,
    /// Event types; all when empty. Stripe takes at most 20.
    pub types: Vec<String>,
    /// Objects of a page, where fewer than a full one are wanted.
    pub limit: Option<u32>,
}

impl Filter {
    /// What belongs to that customer.
    pub fn of_customer(customer_id: &str) -> Filter {
        Filter { customer: Some(customer_id.to_owned()), ..Filter::default() }
    }
}

/// A request as it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request<'a> {
    Retrieve { resource: Resource, id: &'a str },
    List { resource: Resource, filter: &'a Filter, after: Option<&'a str> },
}

impl Request<'_> {
    pub(super) fn resource(&self) -> Resource {
        match self {
            Request::Retrieve { resource, .. } | Request::List { resource, .. } => *resource,
        }
    }
}

#[derive(Serialize)]
struct Parameters<'a> {
    limit: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    starting_after: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Created>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    types: &'a [String],
}

#[derive(Serialize)]
struct Created {
    #[serde(skip_serializing_if = "Option::is_none")]
    gte: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lt: Option<i64>,
}

impl StripeRequest for Request<'_> {
    /// The text is kept beside the crate's own decoding, which has nothing to decode.
    type Output = ();

    fn build(&self) -> RequestBuilder {
        match *self {
            Request::Retrieve { resource, id } => RequestBuilder::new(StripeMethod::Get, format!("/{}/{id}", resource.name())),
            Request::List { resource, filter, after } => {
                let (path, customer) = match (&filter.customer, resource) {
                    (Some(customer), Resource::PaymentMethods) => (format!("/customers/{customer}/payment_methods"), None),
                    (customer, _) => (format!("/{}", resource.name()), customer.as_deref()),
                };
                // Without it Stripe leaves out the canceled ones.
                let status = filter.status.or((resource == Resource::Subscriptions).then_some("all"));
                let is_dated = filter.created_since.is_some() || filter.created_before.is_some();
                let created = is_dated.then_some(Created { gte: filter.created_since, lt: filter.created_before });
                let parameters = Parameters {
                    limit: filter.limit.unwrap_or(PAGE),
                    starting_after: after,
                    customer,
                    status,
                    created,
                    types: &filter.types,
                };
                RequestBuilder::new(StripeMethod::Get, path).query(&parameters)
            }
        }
    }
}

/// Whether an id can stand in a path. Stripe's own consist of letters, digits, `_` and, in old test data, `-`.
pub(super) fn is_plain_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 255 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_ask_for_everything_that_is_meant() {
        let filter = Filter { created_since: Some(5), types: vec!["a.b".into()], ..Filter::of_customer("cus_1") };
        let request = Request::List { resource: Resource::Subscriptions, filter: &filter, after: Some("sub_9") }.build();
        assert_eq!(request.path, "/subscriptions");
        let query = request.query.unwrap_or_default();
        for part in ["limit=100", "starting_after=sub_9", "customer=cus_1", "status=all", "created[gte]=5", "types[0]=a.b"] {
            assert!(query.contains(part), "{part} in {query}");
        }
        let request = Request::List { resource: Resource::PaymentMethods, filter: &filter, after: None }.build();
        assert_eq!(request.path, "/customers/cus_1/payment_methods");
        assert!(!request.query.unwrap_or_default().contains("customer="));
    }

    #[test]
    fn ids_tell_their_resource_and_cannot_leave_their_place() {
        assert_eq!(Resource::of_id("sub_sched_1"), Some(Resource::SubscriptionSchedules));
        assert_eq!(Resource::of_id("sub_1"), Some(Resource::Subscriptions));
        assert_eq!(Resource::of_object("card", "card_1"), Some(Resource::PaymentMethods));
        assert_eq!(Resource::of_id("user_1"), None);
        for id in ["", "..", "sub_1/../x", "sub_1?a=b", "sub 1", "sub_ü"] {
            assert!(!is_plain_id(id), "{id}");
        }
        assert!(is_plain_id("cs_test_a1B2"));
    }
}
