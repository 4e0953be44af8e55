//! The plan catalog as a TOML file: from text to checked plans.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::domain::billing::plan::{FREE, Plan};

/// The catalog that the demo starts with.
pub const BUILT_IN: &str = include_str!("../../../fixtures/plans.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogFile {
    plans: Vec<PlanEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanEntry {
    plan_key: String,
    plan_name: String,
    campaigns_limit: i32,
    creators_limit: i32,
    #[serde(default)]
    features: BTreeMap<String, Value>,
    price_monthly: Option<Price>,
    price_yearly: Option<Price>,
    stripe_product_id: Option<String>,
    stripe_price_id_monthly: Option<String>,
    stripe_price_id_yearly: Option<String>,
    clerk_plan_slug: Option<String>,
    #[serde(default = "active")]
    is_active: bool,
    display_order: i32,
}

fn active() -> bool {
    true
}

/// A text keeps every digit; a number is what one writes first.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Price {
    Text(String),
    Whole(i64),
    Fraction(f64),
}

impl Price {
    fn into_decimal(self) -> anyhow::Result<String> {
        let text = match self {
            Price::Text(text) => text,
            Price::Whole(number) => number.to_string(),
            Price::Fraction(number) => number.to_string(),
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
        let digits = |part: &str| !part.is_empty() && part.len() <= 12 && part.bytes().all(|b| b.is_ascii_digit());
        ensure!(digits(whole) && digits(fraction), "a price has to be a decimal number such as 99 or 99.50");
        Ok(text)
    }
}

/// Reads a catalog. The error says which plan it is about.
pub fn parse(text: &str) -> anyhow::Result<Vec<Plan>> {
    let file: CatalogFile = toml::from_str(text).map_err(|error| anyhow::anyhow!("{}", error.to_string().trim_end()))?;
    ensure!(!file.plans.is_empty(), "there is no [[plans]] entry");
    let plans = file.plans.into_iter().map(checked).collect::<anyhow::Result<Vec<Plan>>>()?;
    refuse_repeats(&plans)?;
    Ok(plans)
}

/// Whether the catalog has the plan that everybody without another has.
pub fn has_free_plan(plans: &[Plan]) -> bool {
    plans.iter().any(|plan| plan.plan_key == FREE)
}

fn checked(entry: PlanEntry) -> anyhow::Result<Plan> {
    let key = entry.plan_key.clone();
    checked_plan(entry).with_context(|| format!("plan {key:?}"))
}

fn checked_plan(entry: PlanEntry) -> anyhow::Result<Plan> {
    ensure!(!entry.plan_key.trim().is_empty(), "plan_key is empty");
    ensure!(entry.plan_key.chars().count() <= 50, "plan_key has more than 50 characters");
    for (name, limit) in [("campaigns_limit", entry.campaigns_limit), ("creators_limit", entry.creators_limit)] {
        ensure!(limit >= -1, "{name} has to be -1 (unlimited), 0 or more");
    }
    let ids = [
        ("stripe_product_id", &entry.stripe_product_id),
        ("stripe_price_id_monthly", &entry.stripe_price_id_monthly),
        ("stripe_price_id_yearly", &entry.stripe_price_id_yearly),
        ("clerk_plan_slug", &entry.clerk_plan_slug),
    ];
    for (name, id) in ids {
        ensure!(id.as_deref().is_none_or(|id| !id.trim().is_empty()), "{name} is empty; leave it out instead");
    }
    Ok(Plan {
        plan_key: entry.plan_key,
        plan_name: entry.plan_name,
        campaigns_limit: entry.campaigns_limit,
        creators_limit: entry.creators_limit,
        features: Value::Object(entry.features.into_iter().collect()),
        price_monthly: entry.price_monthly.map(Price::into_decimal).transpose().context("price_monthly")?,
        price_yearly: entry.price_yearly.map(Price::into_decimal).transpose().context("price_yearly")?,
        stripe_price_id_monthly: entry.stripe_price_id_monthly,
        stripe_price_id_yearly: entry.stripe_price_id_yearly,
        stripe_product_id: entry.stripe_product_id,
        clerk_plan_slug: entry.clerk_plan_slug,
        is_active: entry.is_active,
        display_order: entry.display_order,
    })
}

/// An id that two plans claim would silently belong to the first.
fn refuse_repeats(plans: &[Plan]) -> anyhow::Result<()> {
    let mut seen = HashSet::new();
    for plan in plans {
        if !seen.insert(("plan_key", plan.plan_key.as_str())) {
            bail!("plan {:?} stands there twice", plan.plan_key);
        }
        let ids = [
            ("price", &plan.stripe_price_id_monthly),
            ("price", &plan.stripe_price_id_yearly),
            ("stripe_product_id", &plan.stripe_product_id),
            ("clerk_plan_slug", &plan.clerk_plan_slug),
        ];
        for (kind, id) in ids.into_iter().filter_map(|(kind, id)| id.as_deref().map(|id| (kind, id))) {
            ensure!(seen.insert((kind, id)), "plan {:?}: {kind} {id:?} belongs to another plan already", plan.plan_key);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str =
        "[[plans]]\nplan_key = \"free\"\nplan_name = \"Free\"\ncampaigns_limit = 0\ncreators_limit = 0\ndisplay_order = 0\n";

    fn problem(text: &str) -> String {
        format!("{:#}", parse(text).expect_err("refused"))
    }

    #[test]
    fn the_built_in_catalog_has_the_four_plans() {
        let plans = parse(BUILT_IN).expect("is valid");
        let shown: Vec<(&str, i32, i32, Option<&str>)> = plans
            .iter()
            .map(|p| (p.plan_key.as_str(), p.campaigns_limit, p.creators_limit, p.price_monthly.as_deref()))
            .collect();
        assert_eq!(
            shown,
            [
                ("free", 0, 0, Some("0")),
                ("glow_up", 3, 1000, Some("99")),
                ("viral_surge", 10, 10000, Some("249")),
                ("fame_flex", -1, -1, Some("499")),
            ]
        );
        assert!(has_free_plan(&plans));
    }

    #[test]
    fn prices_may_be_text_or_numbers() {
        let plans = parse(&format!("{ONE}price_monthly = 99\nprice_yearly = \"990.50\"\n")).expect("is valid");
        assert_eq!(plans[0].price_monthly.as_deref(), Some("99"));
        assert_eq!(plans[0].price_yearly.as_deref(), Some("990.50"));
        for wrong in ["\"99 USD\"", "-1", "\"\"", "\"1.\"", "1e300"] {
            assert!(problem(&format!("{ONE}price_monthly = {wrong}\n")).contains("free"), "{wrong}");
        }
    }

    #[test]
    fn a_mistake_is_located() {
        assert!(problem("").contains("plans"));
        assert!(problem("[[plans]]\nplan_kee = 1").contains("line 2"));
        assert!(problem(&ONE.replace("campaigns_limit = 0", "campaigns_limit = -2")).contains("campaigns_limit"));
        assert!(problem(&format!("{ONE}{ONE}")).contains("twice"));
        assert!(problem(&format!("{ONE}stripe_product_id = \" \"\n")).contains("stripe_product_id"));
        let other = ONE.replace("\"free\"", "\"other\"");
        let price = "stripe_price_id_monthly = \"price_1\"\n";
        assert!(problem(&format!("{ONE}{price}{other}{price}")).contains("price_1"));
    }
}
