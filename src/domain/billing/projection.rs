//! `project`: the facts of a user, the plan catalog and now, to the user's rows. Pure: no history, no clock, no SQL.

mod evidence;
pub mod findings;
mod requested_plan;
mod standing;
mod sync_status;
mod timetable;

use chrono::{DateTime, Utc};

use crate::domain::billing::card::{fit, fit_address, fit_card, project_billing};
use crate::domain::billing::customer_facts::{ClerkFacts, CustomerFacts, Known};
use crate::domain::billing::email_schedule::{Message, plan_schedule};
use crate::domain::billing::facts::{ClerkUser, Import};
use crate::domain::billing::plan::Catalog;
use crate::domain::billing::projection::evidence::{Evidence, Source};
use crate::domain::billing::projection::findings::Findings;
use crate::domain::billing::projection::standing::Standing;
use crate::domain::billing::rows::{
    BillingColumns, Rows, SubscriptionColumns, SystemColumns, UsageColumns, UsageReset, UserColumns,
};
use crate::domain::billing::stored::{Alert, NewestEvent, Refetch, StoredUser};
use crate::domain::billing::usage_period::{UsageTerms, plan_usage};
use crate::domain::rules::Rules;

/// Width of `last_webhook_event`.
const EVENT_TYPE_WIDTH: usize = 100;

/// Everything that a user's rows are a function of, beside the catalog, the rules and now.
#[derive(Clone, Debug)]
pub struct UserFacts<'a> {
    /// The Clerk id.
    pub user_id: &'a str,
    /// The Clerk user; a deleted one whose object was never seen has a default fact and `deleted_at`.
    pub user: Option<&'a Known<ClerkUser>>,
    /// Every customer linked to the user, by id.
    pub customers: Vec<&'a CustomerFacts>,
    pub clerk: Option<&'a ClerkFacts>,
    pub import: Option<&'a Import>,
    /// The newest event over all of the user's owner ids.
    pub newest: Option<&'a NewestEvent>,
    /// The stored rows: application-owned inputs, `sent_at` marks, the usage period. `None` for a user without rows.
    pub stored: Option<&'a StoredUser>,
}

/// A user's rows and what else follows from the same facts.
#[derive(Clone, Debug, Default)]
pub struct Projected {
    pub rows: Rows,
    pub usage_reset: Option<UsageReset>,
    pub refetches: Vec<Refetch>,
    pub alerts: Vec<Alert>,
}

/// Computes the rows. `now` is the test clock's time for a user whose customers live by one.
pub fn project(facts: &UserFacts<'_>, catalog: &Catalog, rules: &Rules, now: DateTime<Utc>) -> Projected {
    let evidence = Evidence::read(facts, catalog, rules, now);
    let mut findings = Findings::default();
    evidence.note_findings(&mut findings);
    let standing = standing::project_standing(&evidence, &mut findings);
    let billing = match evidence.source {
        Source::Import(import) => imported_billing(&evidence, import, &mut findings),
        _ => project_billing(&facts.customers, evidence.primary.as_ref(), &mut findings),
    };
    let signup_at = signup_at(facts);
    let messages = timetable::list_messages(&evidence, &standing, &billing, signup_at);
    let next_change_at = timetable::next_change_at(&evidence, &standing, &billing, &messages);
    let (usage, usage_reset) = project_usage(&evidence, &standing, signup_at);
    let rows = Rows {
        user: project_user(facts),
        subscription: SubscriptionColumns {
            current_plan: standing.current_plan,
            intended_plan: standing.intended_plan,
            subscription_status: standing.status,
            trial_status: standing.trial_status,
            trial_start_date: standing.trial_start_date,
            trial_end_date: standing.trial_end_date,
            trial_conversion_date: standing.trial_conversion_date,
            subscription_cancel_date: standing.cancel_date,
            subscription_renewal_date: standing.renewal_date,
            billing_sync_status: sync_status::sync_status(&evidence, &findings).to_owned(),
            next_change_at,
        },
        billing,
        usage,
        system: project_system(facts, messages, signup_at),
    };
    let (refetches, alerts) = findings.into_parts(now);
    Projected { rows, usage_reset, refetches, alerts }
}

/// The user as Clerk has them; before Clerk has said anything, as the import has them. A deleted person has no name.
fn project_user(facts: &UserFacts<'_>) -> UserColumns {
    match (facts.user, facts.import) {
        (Some(user), _) if user.deleted_at.is_some() => UserColumns { email: None, full_name: None, deleted_at: user.deleted_at },
        (Some(user), _) => {
            UserColumns { email: user.fact.email.clone(), full_name: user.fact.full_name.clone(), deleted_at: None }
        }
        (None, Some(import)) => {
            UserColumns { email: import.email.clone(), full_name: import.full_name.clone(), deleted_at: None }
        }
        (None, None) => UserColumns::default(),
    }
}

fn signup_at(facts: &UserFacts<'_>) -> Option<DateTime<Utc>> {
    let of_clerk = facts.user.and_then(|user| user.fact.created_at);
    of_clerk.or_else(|| facts.import.and_then(|import| import.signup_timestamp))
}

/// The import's customer and subscription only while that customer is still the user's.
fn imported_billing(evidence: &Evidence<'_>, import: &Import, findings: &mut Findings) -> BillingColumns {
    let linked = project_billing(&evidence.facts.customers, None, findings);
    BillingColumns {
        stripe_customer_id: evidence.imported_customer_id().map(str::to_owned).or(linked.stripe_customer_id),
        stripe_subscription_id: evidence.imported_subscription_id().map(str::to_owned),
        payment_method_id: import.payment_method_id.clone(),
        card: fit_card(&import.card),
        address: fit_address(&import.address),
    }
}

fn project_usage(
    evidence: &Evidence<'_>,
    standing: &Standing,
    signup_at: Option<DateTime<Utc>>,
) -> (UsageColumns, Option<UsageReset>) {
    let stored = evidence.facts.stored;
    let since = signup_at.or(stored.map(|user| user.created_at)).unwrap_or(evidence.now);
    let terms = UsageTerms {
        anchor: standing.usage_anchor.unwrap_or(since),
        held: standing.status == "past_due",
        subscription: standing.subscription_id.as_deref(),
        limits: evidence.catalog.limits(&standing.current_plan),
    };
    plan_usage(stored.map(|user| &user.rows.usage), terms, evidence.now)
}

fn project_system(facts: &UserFacts<'_>, messages: Vec<Message>, signup_at: Option<DateTime<Utc>>) -> SystemColumns {
    let imported_at = facts.import.and_then(|import| import.imported_at);
    let stored = facts.stored.map(|user| &user.rows.system.email_schedule_status);
    SystemColumns {
        signup_timestamp: signup_at,
        email_schedule_status: plan_schedule(messages, imported_at.or(signup_at), stored),
        last_webhook_event: facts.newest.and_then(|newest| fit(Some(newest.event_type.clone()), EVENT_TYPE_WIDTH)),
        last_webhook_timestamp: facts.newest.map(|newest| newest.at),
    }
}

#[cfg(test)]
mod tests;
