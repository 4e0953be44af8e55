//! Where a user stands: plan, status and dates, as one of three sources has them. Stripe's live subscriptions come first,
//! then what counts of Clerk Billing; an import speaks only while neither provider has said anything.

use chrono::{DateTime, Utc};

use crate::domain::billing::card::fit;
use crate::domain::billing::facts::Import;
use crate::domain::billing::plan::FREE;
use crate::domain::billing::projection::evidence::{Evidence, Source};
use crate::domain::billing::projection::findings::Findings;
use crate::domain::billing::projection::requested_plan;
use crate::domain::billing::subscription::{Status, StripeSubscription};
use crate::domain::billing::trial::TrialColumns;

/// Width of `current_plan` and `intended_plan`.
const PLAN_WIDTH: usize = 50;
/// Width of `trial_status`.
const TRIAL_STATUS_WIDTH: usize = 20;

/// The status of a user without a subscription.
pub const NONE: &str = "none";

/// What the subscription columns and the usage period follow from.
#[derive(Clone, Debug)]
pub struct Standing {
    pub current_plan: String,
    pub intended_plan: Option<String>,
    pub status: String,
    pub trial_status: String,
    pub trial_start_date: Option<DateTime<Utc>>,
    pub trial_end_date: Option<DateTime<Utc>>,
    pub trial_conversion_date: Option<DateTime<Utc>>,
    pub cancel_date: Option<DateTime<Utc>>,
    pub renewal_date: Option<DateTime<Utc>>,
    /// `None`: from the sign-up.
    pub usage_anchor: Option<DateTime<Utc>>,
    /// The subscription or Clerk item that `usage_anchor` belongs to.
    pub subscription_id: Option<String>,
}

/// Reads the standing off the source that counts.
pub fn project_standing(evidence: &Evidence<'_>, findings: &mut Findings) -> Standing {
    let mut standing = match evidence.source {
        Source::Stripe => from_stripe(evidence, findings),
        Source::Clerk => from_clerk(evidence, findings),
        Source::Import(import) => from_import(evidence, import, findings),
    };
    // `current_plan` is never NULL: who has a plan that no column can hold has the free one.
    standing.current_plan = fit(Some(standing.current_plan), PLAN_WIDTH).unwrap_or_else(|| FREE.to_owned());
    standing.intended_plan = fit(standing.intended_plan, PLAN_WIDTH);
    standing
}

impl Standing {
    /// The standing of a user who has no subscription.
    fn none(trial: TrialColumns) -> Standing {
        Standing {
            current_plan: FREE.to_owned(),
            intended_plan: None,
            status: NONE.to_owned(),
            trial_status: trial.status.to_owned(),
            trial_start_date: trial.start_date,
            trial_end_date: trial.end_date,
            trial_conversion_date: trial.conversion_date,
            cancel_date: None,
            renewal_date: None,
            usage_anchor: None,
            subscription_id: None,
        }
    }
}

fn trial_columns(evidence: &Evidence<'_>) -> TrialColumns {
    evidence.trial.map_or(TrialColumns::NONE, |trial| trial.columns(evidence.now))
}

fn from_stripe(evidence: &Evidence<'_>, findings: &mut Findings) -> Standing {
    let none = Standing::none(trial_columns(evidence));
    let Some(primary) = &evidence.primary else {
        return Standing { intended_plan: requested_plan::find(evidence, findings), ..none };
    };
    let (current_plan, intended_plan) = plans_of(primary, evidence, findings);
    Standing {
        current_plan,
        intended_plan,
        status: primary.status_text().to_owned(),
        cancel_date: primary.cancel_date(),
        renewal_date: primary.renewal_date(),
        usage_anchor: primary.usage_anchor(),
        subscription_id: Some(primary.id.to_owned()),
        ..none
    }
}

/// `current_plan` and `intended_plan` by the primary subscription's status.
fn plans_of(primary: &StripeSubscription<'_>, evidence: &Evidence<'_>, findings: &mut Findings) -> (String, Option<String>) {
    let its_plan = primary.plan.map_or(evidence.rules.unmapped_plan.as_str(), |plan| plan.plan_key.as_str());
    match primary.status {
        Status::Canceled | Status::IncompleteExpired => (FREE.to_owned(), requested_plan::find(evidence, findings)),
        status if status.grants_plan() => {
            primary.schedules().for_each(|schedule| findings.read(schedule));
            let next = primary.next_plan(its_plan, evidence.catalog, evidence.now);
            (its_plan.to_owned(), next.map(str::to_owned))
        }
        _ => (FREE.to_owned(), Some(its_plan.to_owned())),
    }
}

fn from_clerk(evidence: &Evidence<'_>, findings: &mut Findings) -> Standing {
    let none = Standing::none(trial_columns(evidence));
    let Some(clerk) = &evidence.clerk else { return none };
    let upcoming = |current: &str| clerk.upcoming_plan(current, evidence.catalog).map(|plan| plan.map(str::to_owned));
    let subscription_id = clerk.best().map(|item| item.id.to_owned());
    let Some((item, status)) = clerk.best().and_then(|item| Some((item, item.status?))) else {
        let intended_plan = upcoming(FREE).unwrap_or_else(|| requested_plan::find(evidence, findings));
        return Standing { intended_plan, subscription_id, ..none };
    };
    let its_plan = item.plan.map_or(evidence.rules.unmapped_plan.as_str(), |plan| plan.plan_key.as_str());
    let period_end = item.fact.period_end;
    let standing = Standing { current_plan: its_plan.to_owned(), subscription_id, ..none };
    match status {
        Status::Incomplete => Standing {
            current_plan: FREE.to_owned(),
            intended_plan: Some(its_plan.to_owned()),
            status: "incomplete".to_owned(),
            ..standing
        },
        // Clerk keeps the plan until the period ends; what follows is the free plan, unless an item says otherwise.
        Status::Canceled => Standing {
            intended_plan: upcoming(its_plan).unwrap_or_else(|| Some(FREE.to_owned())),
            status: "canceled".to_owned(),
            cancel_date: period_end,
            ..standing
        },
        _ => Standing {
            intended_plan: upcoming(its_plan).flatten(),
            status: if status == Status::Trialing { "trialing".to_owned() } else { item.fact.status.clone() },
            renewal_date: period_end,
            usage_anchor: clerk.usage_anchor(),
            ..standing
        },
    }
}

/// The old rows, as they were. A plan requested later than they ended still shows.
fn from_import(evidence: &Evidence<'_>, import: &Import, findings: &mut Findings) -> Standing {
    let status = import.subscription_status.clone().unwrap_or_else(|| NONE.to_owned());
    let is_live = status != NONE && Status::parse(&status).is_live();
    let requested = if is_live { None } else { requested_plan::find(evidence, findings) };
    Standing {
        current_plan: import.current_plan.clone().unwrap_or_else(|| FREE.to_owned()),
        intended_plan: requested.or_else(|| import.intended_plan.clone()),
        trial_status: fit(import.trial_status.clone(), TRIAL_STATUS_WIDTH).unwrap_or_else(|| "pending".to_owned()),
        trial_start_date: import.trial_start_date,
        trial_end_date: import.trial_end_date,
        trial_conversion_date: import.trial_conversion_date,
        cancel_date: import.subscription_cancel_date,
        renewal_date: import.subscription_renewal_date,
        // An import has no billing cycle: of its dates only a running trial's start can be an anchor.
        usage_anchor: import.trial_start_date.filter(|_| status == "trialing"),
        subscription_id: evidence.imported_subscription_id().map(str::to_owned),
        status,
    }
}
