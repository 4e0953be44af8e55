//! Whose a Stripe customer is: a pure function of the customer's winning facts, the users that claim it, and what the
//! operator said. `owners` only caches the answer.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::domain::billing::customer_facts::CustomerFacts;
use crate::domain::billing::stored::{LinkedBy, OperatorLink};
use crate::domain::rules::Rules;

/// Everything that speaks for a link.
#[derive(Clone, Copy, Debug)]
pub struct LinkEvidence<'a> {
    pub operator: Option<&'a OperatorLink>,
    pub facts: Option<&'a CustomerFacts>,
    /// The Clerk users whose metadata claims the customer.
    pub claimed_by: Option<&'a BTreeSet<String>>,
    /// The live Clerk users that have the customer's address verified.
    pub verified_by: Option<&'a BTreeSet<String>>,
    /// The Clerk users whose import fact names the customer.
    pub imported_by: Option<&'a BTreeSet<String>>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// `None`: nobody's (yet, or by the operator's word).
    pub clerk_user_id: Option<String>,
    pub linked_by: Option<LinkedBy>,
    /// Whether several users claim the customer.
    pub claimed_twice: bool,
}

/// Finds the strongest evidence.
pub fn resolve(evidence: &LinkEvidence<'_>, rules: &Rules) -> Link {
    let claimed_twice = evidence.claimed_by.is_some_and(|users| users.len() > 1);
    if let Some(operator) = evidence.operator {
        let clerk_user_id = operator.clerk_user_id.clone();
        return Link { clerk_user_id, linked_by: Some(LinkedBy::Operator), claimed_twice };
    }
    let found = LinkedBy::ALL.into_iter().find_map(|rank| user_by(rank, evidence, rules).map(|user| (rank, user.to_owned())));
    match found {
        Some((rank, user)) => Link { clerk_user_id: Some(user), linked_by: Some(rank), claimed_twice },
        None => Link { claimed_twice, ..Link::default() },
    }
}

fn user_by<'a>(rank: LinkedBy, evidence: &LinkEvidence<'a>, rules: &Rules) -> Option<&'a str> {
    match rank {
        LinkedBy::Operator => None,
        LinkedBy::CustomerMetadata => evidence.facts?.customer.as_ref()?.fact.clerk_user_id.as_deref(),
        LinkedBy::ClerkMetadata => only(evidence.claimed_by),
        LinkedBy::Checkout => user_by_checkout(evidence.facts?, rules),
        LinkedBy::ObjectMetadata => user_by_object(evidence.facts?),
        LinkedBy::VerifiedEmail if rules.link_by_verified_email => only(evidence.verified_by),
        LinkedBy::VerifiedEmail => None,
        LinkedBy::Imported => evidence.imported_by?.first().map(String::as_str),
    }
}

fn only(users: Option<&BTreeSet<String>>) -> Option<&str> {
    let users = users?;
    if users.len() == 1 { users.first().map(String::as_str) } else { None }
}

/// The earliest complete session that names a user; anybody can put a reference into a Payment Link's URL.
fn user_by_checkout<'a>(facts: &'a CustomerFacts, rules: &Rules) -> Option<&'a str> {
    facts
        .sessions
        .values()
        .filter(|session| session.fact.status == "complete" && (!session.fact.payment_link || rules.link_by_payment_link))
        .filter_map(|session| {
            let user = session.fact.clerk_user_id.as_deref()?;
            Some(((session.fact.created.is_none(), session.fact.created, session.object_id.as_str()), user))
        })
        .min()
        .map(|(_, user)| user)
}

/// Subscription, then payment intent, then invoice; the newest of each kind.
fn user_by_object(facts: &CustomerFacts) -> Option<&str> {
    let subscriptions = facts.subscriptions.values().filter_map(|subscription| {
        let user = subscription.fact.clerk_user_id.as_deref()?;
        Some(((Reverse(subscription.fact.created), subscription.object_id.as_str()), user))
    });
    let intents = facts.payment_intents.values().filter_map(|intent| {
        let user = intent.fact.clerk_user_id.as_deref()?;
        Some(((Reverse(intent.fact.created), intent.object_id.as_str()), user))
    });
    let newest = subscriptions.min().or_else(|| intents.min()).map(|(_, user)| user);
    newest.or_else(|| facts.invoices.clerk_user_id())
}
