//! Whether Stripe and Clerk accept the keys, and what the keys may read.

use std::time::Duration;

use crate::cli::doctor::finding::Findings;
use crate::cli::{stripe, users};
use crate::config::Config;
use crate::domain::billing::plan::Plan;
use crate::stripe_api::{ApiError, Options, Resource, StripeApi};

/// Asks both: a small read for each thing that is read from Stripe and for each price of the plans, and one from Clerk.
pub async fn check(config: &Config, plans: &[Plan], findings: &mut Findings) {
    check_stripe(config, plans, findings).await;
    check_clerk(config, findings).await;
}

async fn check_stripe(config: &Config, plans: &[Plan], findings: &mut Findings) {
    // A person waits: what does not answer soon is told as that.
    let hasty = Options { attempts: 2, attempt_timeout: Duration::from_secs(10), ..Options::default() };
    let api = match stripe::api_with(config, hasty) {
        Ok(Some(api)) => api,
        // A key that cannot be read has been told.
        Ok(None) if config.is_given("STRIPE_API_KEY") => return,
        Ok(None) => {
            findings.warn(
                "stripe",
                "STRIPE_API_KEY is not set: nobody asks Stripe for webhooks that were lost",
                "export STRIPE_API_KEY=rk_live_…   # a restricted key with read access, see \"Lost webhooks\" in the README",
            );
            return;
        }
        Err(error) => {
            findings.error("stripe", format!("{error:#}"), "export STRIPE_API_BASE=https://api.stripe.com");
            return;
        }
    };
    let missing = match api.find_missing_scopes().await {
        Ok(missing) => missing,
        Err(error) => return findings.error("stripe", format!("{error}"), stripe_fix(&error)),
    };
    if missing.is_empty() {
        findings.ok("stripe", "STRIPE_API_KEY may read everything that is asked for");
    }
    for scope in &missing {
        findings.error(
            "stripe",
            format!("STRIPE_API_KEY may not read {}", scope.resource),
            format!("in Stripe's Dashboard, Developers, API keys, give the restricted key: {}", scope.permission),
        );
    }
    if missing.iter().all(|scope| scope.resource != "prices") {
        check_prices(&api, plans, findings).await;
    }
}

/// A price of the other mode or of another account looks like any other, and means nothing.
async fn check_prices(api: &StripeApi, plans: &[Plan], findings: &mut Findings) {
    let mut known = 0;
    for plan in plans.iter().filter(|plan| plan.is_active) {
        for price in [&plan.stripe_price_id_monthly, &plan.stripe_price_id_yearly].into_iter().flatten() {
            match api.fetch(Resource::Prices, price).await {
                Ok(Some(_)) => known += 1,
                Ok(None) => findings.warn(
                    "stripe",
                    format!(
                        "Stripe does not know the price {price} of the plan {}: is it of the other mode or account?",
                        plan.plan_key
                    ),
                    format!("correct the price of {} in plans.toml, then: billsync plans apply plans.toml", plan.plan_key),
                ),
                Err(error) => return findings.error("stripe", format!("{error}"), stripe_fix(&error)),
            }
        }
    }
    if known > 0 {
        findings.ok("stripe", format!("{known} prices of the plans are known to Stripe"));
    }
}

fn stripe_fix(error: &ApiError) -> &'static str {
    if error.is_transient() {
        "curl -sS -o /dev/null -w '%{http_code}\\n' https://api.stripe.com   # does this machine reach Stripe, is STRIPE_API_BASE right?"
    } else {
        "export STRIPE_API_KEY=rk_live_…   # from Stripe's Dashboard, Developers, API keys, of the right account and mode"
    }
}

async fn check_clerk(config: &Config, findings: &mut Findings) {
    if config.clerk_secret_key.is_none() {
        if !config.is_given("CLERK_SECRET_KEY") {
            findings.ok("clerk", "CLERK_SECRET_KEY is not set: users are known by webhooks alone");
        }
        return;
    }
    let checked = match users::clerk_api(config) {
        Ok(api) => api.check_key().await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    match checked {
        Ok(()) => findings.ok("clerk", "CLERK_SECRET_KEY is accepted"),
        Err(error) => findings.error(
            "clerk",
            format!("CLERK_SECRET_KEY cannot be used: {error:#}"),
            "export CLERK_SECRET_KEY=sk_live_…   # from Clerk's Dashboard, API keys; is CLERK_API_BASE right?",
        ),
    }
}
