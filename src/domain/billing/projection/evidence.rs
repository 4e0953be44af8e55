//! The facts of a user, read once: which subscription is the primary one, which trial counts, and which source speaks.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};

use crate::domain::billing::clerk_billing::ClerkBilling;
use crate::domain::billing::customer_facts::CustomerFacts;
use crate::domain::billing::facts::Import;
use crate::domain::billing::plan::Catalog;
use crate::domain::billing::projection::UserFacts;
use crate::domain::billing::projection::findings::Findings;
use crate::domain::billing::subscription::{Status, StripeSubscription, find_primary};
use crate::domain::billing::trial::{Trial, has_trial};
use crate::domain::rules::Rules;

/// Who says where the user stands.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    Stripe,
    Clerk,
    Import(&'a Import),
}

/// What the rows are made of.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    pub facts: &'a UserFacts<'a>,
    pub catalog: &'a Catalog,
    pub rules: &'a Rules,
    pub now: DateTime<Utc>,
    /// Every customer's.
    pub subscriptions: Vec<StripeSubscription<'a>>,
    pub primary: Option<StripeSubscription<'a>>,
    pub clerk: Option<ClerkBilling<'a>>,
    pub source: Source<'a>,
    pub trial: Option<Trial<'a>>,
}

impl<'a> Evidence<'a> {
    /// Reads the facts.
    pub fn read(facts: &'a UserFacts<'a>, catalog: &'a Catalog, rules: &'a Rules, now: DateTime<Utc>) -> Evidence<'a> {
        let of_customer = |customer: &'a CustomerFacts| {
            customer.subscriptions.values().map(move |known| StripeSubscription::new(customer, known, catalog))
        };
        let subscriptions: Vec<_> = facts.customers.iter().copied().flat_map(of_customer).collect();
        let primary = find_primary(&subscriptions).copied();
        let clerk = facts.clerk.and_then(|clerk| ClerkBilling::new(clerk, catalog, now));
        let source = choose_source(facts, primary.as_ref(), clerk.as_ref());
        let of_clerk = || clerk.as_ref().and_then(ClerkBilling::trial);
        let of_stripe = || stripe_trial(&subscriptions, primary.as_ref());
        // The other source's trial counts where the one that speaks had none: `pending` invites to a trial, and somebody
        // who has moved from one provider to the other has had theirs.
        let trial = match source {
            Source::Stripe => of_stripe().or_else(of_clerk),
            Source::Clerk => of_clerk().or_else(of_stripe),
            Source::Import(_) => None,
        };
        Evidence { facts, catalog, rules, now, subscriptions, primary, clerk, source, trial }
    }

    /// Notes what nobody could read, of everything that is live or decides.
    pub fn note_findings(&self, findings: &mut Findings) {
        if let Some(user) = self.facts.user {
            findings.read(user);
        }
        for subscription in &self.subscriptions {
            findings.read_if(subscription.ambiguous);
            let is_primary = self.primary.as_ref().is_some_and(|primary| primary.id == subscription.id);
            if subscription.plan.is_none() && (subscription.status.is_live() || is_primary) {
                findings.unmapped_price(subscription.id);
            }
            if subscription.status == Status::Unknown {
                findings.unknown_status(subscription.id);
            }
        }
        if let Some(clerk) = &self.clerk {
            findings.read_if(clerk.is_ambiguous());
            let decides = clerk.best().filter(|_| matches!(self.source, Source::Clerk)).map(|item| item.id);
            for item in clerk.items() {
                if item.plan.is_none() && (item.status.is_some() || decides == Some(item.id)) {
                    findings.unmapped_price(item.id);
                }
                if !item.has_known_status() {
                    findings.unknown_status(item.id);
                }
            }
        }
        let is_deleted = self.facts.user.is_some_and(|user| user.deleted_at.is_some());
        if is_deleted && self.subscriptions.iter().any(|subscription| subscription.status.is_live()) {
            findings.alert("deleted_user_with_live_subscription", self.facts.user_id);
        }
    }

    /// The import's customer, while it is still this user's.
    pub fn imported_customer_id(&self) -> Option<&'a str> {
        let Source::Import(import) = self.source else { return None };
        let id = import.stripe_customer_id.as_deref()?;
        self.facts.customers.iter().any(|customer| customer.customer_id == id).then_some(id)
    }

    /// The import's subscription, while its customer is still this user's.
    pub fn imported_subscription_id(&self) -> Option<&'a str> {
        let Source::Import(import) = self.source else { return None };
        self.imported_customer_id().and(import.stripe_subscription_id.as_deref())
    }
}

fn choose_source<'a>(
    facts: &UserFacts<'a>,
    primary: Option<&StripeSubscription<'_>>,
    clerk: Option<&ClerkBilling<'_>>,
) -> Source<'a> {
    let clerk_spoke = facts.clerk.is_some_and(|c| !c.items.is_empty() || !c.trials.is_empty() || !c.attempts.is_empty());
    let stripe_spoke = facts.customers.iter().any(|customer| customer.has_facts || customer.deleted_at.is_some());
    if let Some(import) = facts.import.filter(|_| !clerk_spoke && !stripe_spoke) {
        return Source::Import(import);
    }
    let Some(clerk) = clerk else { return Source::Stripe };
    let counts = clerk.best().is_some_and(|item| item.status.is_some());
    match primary {
        None => Source::Clerk,
        Some(primary) if !primary.status.is_live() && counts => Source::Clerk,
        Some(_) => Source::Stripe,
    }
}

/// The trial of the primary subscription, else of the newest that had one.
fn stripe_trial<'a>(subscriptions: &[StripeSubscription<'a>], primary: Option<&StripeSubscription<'a>>) -> Option<Trial<'a>> {
    let with_trial = subscriptions.iter().filter(|subscription| has_trial(subscription));
    let newest = || with_trial.min_by(|a, b| (Reverse(a.fact.created), a.id).cmp(&(Reverse(b.fact.created), b.id)));
    primary.filter(|primary| has_trial(primary)).or_else(newest).and_then(Trial::of_subscription)
}
