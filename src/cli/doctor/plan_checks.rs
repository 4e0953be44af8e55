//! The plan catalog beside what is paid for: prices that no plan has, plans that nobody can have.

use std::collections::BTreeMap;

use crate::cli::doctor::database_checks::cannot_tell;
use crate::cli::doctor::event_checks::counted;
use crate::cli::doctor::finding::Findings;
use crate::config::Config;
use crate::domain::billing::facts::{Price, Subscription};
use crate::domain::billing::plan::{Catalog, FREE, Plan};
use crate::domain::billing::subscription::Status;
use crate::store::{Store, StoreError};

/// As many prices are named.
const SHOWN_PRICES: usize = 20;

/// The catalog itself, then what live subscriptions pay for. Returns the plans.
pub async fn check(config: &Config, store: &Store, findings: &mut Findings) -> Vec<Plan> {
    let plans = match store.list_plans().await {
        Ok(plans) => plans,
        Err(error) => {
            cannot_tell("plans", "the plan catalog", &error, findings);
            return Vec::new();
        }
    };
    if plans.is_empty() {
        let fix = "billsync plans apply plans.toml   # fixtures/plans.toml is a model";
        findings.error("plans", "the plan catalog is empty: no price means a plan, and every limit is 0", fix);
        return plans;
    }
    check_catalog(config, &plans, findings);
    let catalog = Catalog::new(plans);
    match find_unmapped(store, &catalog).await {
        Ok(unmapped) => report_unmapped(config, &unmapped, findings),
        Err(error) => cannot_tell("plans", "what live subscriptions pay for", &error, findings),
    }
    if !findings.has_trouble("plans") {
        findings.ok("plans", format!("{} plans; the price of every live subscription has one", catalog.plans().len()));
    }
    catalog.plans().to_vec()
}

fn check_catalog(config: &Config, plans: &[Plan], findings: &mut Findings) {
    let unmapped_plan = config.rules.unmapped_plan.as_str();
    let mut needed = vec![(FREE, "whoever pays nothing has it")];
    if unmapped_plan != FREE {
        needed.push((unmapped_plan, "BILLSYNC_UNMAPPED_PLAN names it"));
    }
    for (key, why) in needed {
        if plans.iter().all(|plan| plan.plan_key != key) {
            let what = format!("the catalog has no plan {key}, and {why}");
            findings.error(
                "plans",
                what,
                format!("add plan_key = \"{key}\" to plans.toml, then: billsync plans apply plans.toml"),
            );
        }
    }
    let is_for_sale = |plan: &&Plan| plan.is_active && plan.plan_key != FREE && plan.plan_key != unmapped_plan;
    for plan in plans.iter().filter(is_for_sale) {
        let ids = [&plan.stripe_price_id_monthly, &plan.stripe_price_id_yearly, &plan.stripe_product_id, &plan.clerk_plan_slug];
        if ids.iter().all(|id| id.is_none()) {
            findings.warn(
                "plans",
                format!(
                    "the plan {} has no price: neither a price nor a product of Stripe's nor a plan of Clerk's means it",
                    plan.plan_key
                ),
                format!(
                    "give {} stripe_price_id_monthly = \"price_…\" in plans.toml, then: billsync plans apply plans.toml",
                    plan.plan_key
                ),
            );
        }
    }
}

/// A price and how many live subscriptions have no plan because of it. By the projection's own rule: one item that has a plan
/// is enough.
async fn find_unmapped(store: &Store, catalog: &Catalog) -> Result<BTreeMap<String, i64>, StoreError> {
    let mut unmapped = BTreeMap::new();
    let mut after = String::new();
    loop {
        let page = store.list_live_subscriptions(&after).await?;
        let Some(last) = page.last() else { return Ok(unmapped) };
        after.clone_from(&last.id);
        for subscription in page.iter().filter(|it| lacks_plan(&it.fact, catalog)) {
            let mut prices: Vec<String> = subscription.fact.items.iter().map(|item| name(&item.price)).collect();
            prices.sort_unstable();
            prices.dedup();
            for price in prices {
                *unmapped.entry(price).or_default() += 1;
            }
        }
    }
}

fn lacks_plan(subscription: &Subscription, catalog: &Catalog) -> bool {
    Status::parse(&subscription.status).is_live()
        && subscription.items.iter().all(|item| catalog.find_by_price(&item.price).is_none())
}

fn name(price: &Price) -> String {
    let (id, product) = (price.id.as_deref().unwrap_or("without id"), price.product.as_deref());
    product.map_or_else(|| id.to_owned(), |product| format!("{id} of {product}"))
}

fn report_unmapped(config: &Config, unmapped: &BTreeMap<String, i64>, findings: &mut Findings) {
    let mut prices: Vec<(&String, &i64)> = unmapped.iter().collect();
    prices.sort_by_key(|(price, count)| (std::cmp::Reverse(**count), price.as_str()));
    for (price, count) in prices.iter().take(SHOWN_PRICES) {
        let subscriptions = counted(**count, "live subscription pays", "live subscriptions pay");
        let id = price.split(' ').next().unwrap_or_default();
        findings.error(
            "plans",
            format!("{subscriptions} price {price}, which no plan has: its user is on the plan {}", config.rules.unmapped_plan),
            format!("give a plan stripe_price_id_monthly = \"{id}\" in plans.toml, then: billsync plans apply plans.toml"),
        );
    }
    if let Some(more) = prices.len().checked_sub(SHOWN_PRICES).filter(|more| *more > 0) {
        findings.error(
            "plans",
            format!("{more} more prices have no plan"),
            "billsync doctor   # again, when those above have one",
        );
    }
}
