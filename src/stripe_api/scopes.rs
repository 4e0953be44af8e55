//! Whether the key may read what is needed: one small request per resource.

use serde::Serialize;

use super::{ApiError, Filter, Resource, StripeApi};

/// Every resource that reconcile, catch-up or backfill reads.
const NEEDED: [Resource; 10] = [
    Resource::Customers,
    Resource::Subscriptions,
    Resource::SubscriptionSchedules,
    Resource::PaymentMethods,
    Resource::Invoices,
    Resource::CheckoutSessions,
    Resource::PaymentIntents,
    Resource::Products,
    Resource::Prices,
    Resource::Events,
];

/// Something that a restricted key lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingScope {
    /// `customers`, `checkout/sessions`, …
    pub resource: &'static str,
    /// As Stripe and its Dashboard call it.
    pub permission: String,
}

pub(super) async fn find_missing(api: &StripeApi) -> Result<Vec<MissingScope>, ApiError> {
    let mut missing = Vec::new();
    let one = Filter { limit: Some(1), ..Filter::default() };
    for resource in NEEDED {
        let asked = match resource {
            // Listed per customer alone; whether the key may read one is told before whether it exists.
            Resource::PaymentMethods => api.fetch(resource, "pm_scope_check").await.map(drop),
            _ => api.fetch_page(resource, &one, None).await.map(drop),
        };
        match asked {
            Err(ApiError::MissingScope { permission, .. }) => {
                missing.push(MissingScope { resource: resource.name(), permission })
            }
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(missing)
}
