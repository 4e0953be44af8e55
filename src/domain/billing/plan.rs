//! The plan catalog, and which plan a price means.

use std::collections::HashMap;

use serde_json::Value;

use crate::domain::billing::facts::Price;

/// The plan that everybody has who has no other.
pub const FREE: &str = "free";

/// One row of `subscription_plans`.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub plan_key: String,
    pub plan_name: String,
    /// -1: unlimited.
    pub campaigns_limit: i32,
    /// -1: unlimited.
    pub creators_limit: i32,
    pub features: Value,
    pub price_monthly: Option<String>,
    pub price_yearly: Option<String>,
    pub stripe_price_id_monthly: Option<String>,
    pub stripe_price_id_yearly: Option<String>,
    pub stripe_product_id: Option<String>,
    pub clerk_plan_slug: Option<String>,
    pub is_active: bool,
    pub display_order: i32,
}

/// What a plan grants.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits<'a> {
    /// -1: unlimited.
    pub campaigns: i32,
    /// -1: unlimited.
    pub creators: i32,
    /// `None`: no features.
    pub features: Option<&'a Value>,
}

/// Every plan, with the lookups that the projection needs.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    plans: Vec<Plan>,
    by_key: HashMap<String, usize>,
    by_price: HashMap<String, usize>,
    by_product: HashMap<String, usize>,
    by_slug: HashMap<String, usize>,
}

impl Catalog {
    /// Builds the lookups. Where two plans claim one id, the one with the lower `display_order`, then key, has it.
    pub fn new(mut plans: Vec<Plan>) -> Catalog {
        plans.sort_by(|a, b| (a.display_order, &a.plan_key).cmp(&(b.display_order, &b.plan_key)));
        let mut catalog = Catalog::default();
        for (index, plan) in plans.iter().enumerate() {
            catalog.by_key.entry(plan.plan_key.clone()).or_insert(index);
            for price in [&plan.stripe_price_id_monthly, &plan.stripe_price_id_yearly].into_iter().flatten() {
                catalog.by_price.entry(price.clone()).or_insert(index);
            }
            if let Some(product) = &plan.stripe_product_id {
                catalog.by_product.entry(product.clone()).or_insert(index);
            }
            if let Some(slug) = &plan.clerk_plan_slug {
                catalog.by_slug.entry(slug.clone()).or_insert(index);
            }
        }
        catalog.plans = plans;
        catalog
    }

    /// Every plan, by `display_order`.
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// The plan with that key, active or not.
    pub fn find(&self, plan_key: &str) -> Option<&Plan> {
        self.by_key.get(plan_key).map(|&index| &self.plans[index])
    }

    /// What the plan with that key grants. A key that is not in the catalog grants what the free plan does, and without a
    /// free plan nothing.
    pub fn limits(&self, plan_key: &str) -> Limits<'_> {
        let plan = self.find(plan_key).or_else(|| self.find(FREE));
        plan.map_or_else(Limits::default, |plan| Limits {
            campaigns: plan.campaigns_limit,
            creators: plan.creators_limit,
            features: Some(&plan.features),
        })
    }

    /// The plan of a price: by price id, else product, else lookup key, else `metadata.plan_key`.
    pub fn find_by_price(&self, price: &Price) -> Option<&Plan> {
        let by = |index: Option<&usize>| index.map(|&index| &self.plans[index]);
        by(price.id.as_ref().and_then(|id| self.by_price.get(id)))
            .or_else(|| by(price.product.as_ref().and_then(|id| self.by_product.get(id))))
            .or_else(|| price.lookup_key.as_deref().and_then(|key| self.find(key)))
            .or_else(|| price.plan_key.as_deref().and_then(|key| self.find(key)))
    }

    /// The plan of a Clerk Billing plan.
    pub fn find_by_clerk_slug(&self, slug: &str) -> Option<&Plan> {
        self.by_slug.get(slug).map(|&index| &self.plans[index])
    }
}
