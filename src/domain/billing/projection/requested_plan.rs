//! The plan that a user without a live subscription is about to take: what the application says they asked for, else what
//! their newest checkout is about.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};

use crate::domain::billing::clerk_billing::ClerkBilling;
use crate::domain::billing::facts::CheckoutSession;
use crate::domain::billing::projection::evidence::{Evidence, Source};
use crate::domain::billing::projection::findings::Findings;
use crate::domain::billing::subscription::StripeSubscription;

/// The key of that plan.
pub fn find(evidence: &Evidence<'_>, findings: &mut Findings) -> Option<String> {
    requested(evidence).or_else(|| in_checkout(evidence, findings)).map(str::to_owned)
}

/// What the application noted. A request that is older than the end of the last subscription was answered by it.
fn requested<'a>(evidence: &Evidence<'a>) -> Option<&'a str> {
    let stored = evidence.facts.stored?;
    let requested_at = stored.requested_at?;
    let is_open = last_end(evidence).is_none_or(|ended_at| requested_at > ended_at);
    stored.requested_plan.as_deref().filter(|_| is_open)
}

fn last_end(evidence: &Evidence<'_>) -> Option<DateTime<Utc>> {
    // A subscription that ended without saying when ended after it was created.
    let end = |subscription: &StripeSubscription<'_>| subscription.cancel_date().or(subscription.fact.created);
    let of_stripe = evidence.subscriptions.iter().filter_map(end).max();
    let of_clerk = evidence.clerk.as_ref().and_then(ClerkBilling::last_end);
    let of_import = match evidence.source {
        Source::Import(import) => import.subscription_cancel_date,
        _ => None,
    };
    of_stripe.max(of_clerk).max(of_import)
}

/// The plan of the newest session for a subscription that is open, or complete while its subscription has not been seen.
fn in_checkout<'a>(evidence: &Evidence<'a>, findings: &mut Findings) -> Option<&'a str> {
    let sessions = evidence.facts.customers.iter().flat_map(|customer| customer.sessions.values());
    let for_subscription = sessions.filter(|known| known.fact.mode.as_deref() == Some("subscription"));
    let unfinished = for_subscription.filter(|known| {
        findings.read(known);
        is_unfinished(evidence, &known.fact)
    });
    let newest = unfinished.min_by_key(|known| (Reverse(known.fact.created), known.object_id.as_str()))?;
    let plan_key = newest.fact.plan_key.as_deref()?;
    evidence.catalog.find(plan_key).map(|plan| plan.plan_key.as_str())
}

fn is_unfinished(evidence: &Evidence<'_>, session: &CheckoutSession) -> bool {
    let is_known = |id: &str| evidence.facts.customers.iter().any(|customer| customer.subscriptions.contains_key(id));
    match session.status.as_str() {
        "open" => true,
        "complete" => !session.subscription.as_deref().is_some_and(is_known),
        _ => false,
    }
}
