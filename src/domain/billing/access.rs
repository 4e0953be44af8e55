//! What a user may use right now: read off the projected columns, with the time that has passed since they were written.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::billing::plan::FREE as FREE_PLAN;
use crate::domain::billing::trial::DECISION;

/// The columns that the decision follows from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing<'a> {
    pub current_plan: Option<&'a str>,
    pub subscription_status: &'a str,
    pub trial_status: &'a str,
    pub trial_end_date: Option<DateTime<Utc>>,
    pub subscription_cancel_date: Option<DateTime<Utc>>,
    pub is_deleted: bool,
}

/// Whether a paid plan is in force, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Access {
    /// Whether a plan other than `free` is in force.
    pub granted: bool,
    /// The plan in force.
    #[schema(example = "glow_up")]
    pub plan: String,
    pub reason: Reason,
    /// When the plan is known to end.
    pub until: Option<DateTime<Utc>>,
}

/// Why access is granted or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Trialing,
    Active,
    /// A payment is overdue, or the status is one that this version does not know: the plan is kept meanwhile.
    Grace,
    /// Canceled, and paid until later.
    Canceling,
    NoSubscription,
    Incomplete,
    Canceled,
    Unpaid,
    Paused,
    /// The subscription is to the free plan.
    FreePlan,
    /// The account was deleted.
    Deleted,
}

impl Standing<'_> {
    /// The decision at `now`.
    pub fn access(&self, now: DateTime<Utc>) -> Access {
        let plan = self.current_plan.filter(|plan| !plan.is_empty()).unwrap_or(FREE_PLAN);
        let is_over = self.subscription_cancel_date.is_some_and(|at| at <= now);
        let reason = match self.subscription_status {
            _ if self.is_deleted => Reason::Deleted,
            "none" | "" => Reason::NoSubscription,
            "incomplete" => Reason::Incomplete,
            "incomplete_expired" => Reason::Canceled,
            "unpaid" => Reason::Unpaid,
            "paused" => Reason::Paused,
            "canceled" if is_over || plan == FREE_PLAN => Reason::Canceled,
            _ if plan == FREE_PLAN => Reason::FreePlan,
            "canceled" => Reason::Canceling,
            "trialing" => Reason::Trialing,
            "active" => Reason::Active,
            _ => Reason::Grace,
        };
        let granted = matches!(reason, Reason::Trialing | Reason::Active | Reason::Grace | Reason::Canceling);
        let plan = if granted { plan } else { FREE_PLAN }.to_owned();
        Access { granted, plan, reason, until: self.subscription_cancel_date.filter(|at| granted && *at > now) }
    }

    /// The trial's status at `now`: a trial that nobody paid for has expired 72 hours after its end, whether or not the
    /// row says so yet. An active subscription without a known payment is left to the projection, which knows its invoices.
    pub fn effective_trial_status(&self, now: DateTime<Utc>) -> &str {
        let is_decided = self.trial_end_date.and_then(|end| end.checked_add_signed(DECISION)).is_some_and(|at| at <= now);
        match self.trial_status {
            "active" if is_decided && self.subscription_status != "active" => "expired",
            status => status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("an instant")
    }

    fn standing<'a>(plan: &'a str, status: &'a str) -> Standing<'a> {
        Standing { current_plan: Some(plan), subscription_status: status, ..Standing::default() }
    }

    #[test]
    fn a_paid_plan_grants_while_its_status_does() {
        let now = at("2026-03-10T12:00:00Z");
        for (plan, status, granted, reason) in [
            ("glow_up", "active", true, Reason::Active),
            ("glow_up", "trialing", true, Reason::Trialing),
            ("glow_up", "past_due", true, Reason::Grace),
            ("glow_up", "some_new_status", true, Reason::Grace),
            ("glow_up", "unpaid", false, Reason::Unpaid),
            ("free", "unpaid", false, Reason::Unpaid),
            ("free", "paused", false, Reason::Paused),
            ("free", "incomplete", false, Reason::Incomplete),
            ("free", "incomplete_expired", false, Reason::Canceled),
            ("free", "canceled", false, Reason::Canceled),
            ("free", "none", false, Reason::NoSubscription),
            ("free", "active", false, Reason::FreePlan),
            ("", "active", false, Reason::FreePlan),
        ] {
            let access = standing(plan, status).access(now);
            assert_eq!((access.granted, access.reason), (granted, reason), "{plan} {status}");
            assert_eq!(access.plan, if granted { plan } else { "free" }, "{plan} {status}");
        }
        let deleted = Standing { is_deleted: true, ..standing("glow_up", "active") };
        assert_eq!(deleted.access(now).reason, Reason::Deleted);
        assert!(!deleted.access(now).granted);
    }

    #[test]
    fn a_cancelled_plan_is_kept_until_its_end_and_no_longer() {
        let end = at("2026-03-10T12:00:00Z");
        let canceled = Standing { subscription_cancel_date: Some(end), ..standing("glow_up", "canceled") };
        let before = canceled.access(end - chrono::TimeDelta::seconds(1));
        assert_eq!((before.granted, before.reason, before.until), (true, Reason::Canceling, Some(end)));
        let after = canceled.access(end);
        assert_eq!((after.granted, after.reason, after.until), (false, Reason::Canceled, None));
    }

    #[test]
    fn a_trial_expires_by_the_clock_unless_it_may_have_been_paid() {
        let end = at("2026-03-10T12:00:00Z");
        let decided = end + DECISION;
        let trial = |subscription_status, trial_status| Standing {
            subscription_status,
            trial_status,
            trial_end_date: Some(end),
            ..Standing::default()
        };
        assert_eq!(trial("trialing", "active").effective_trial_status(decided - chrono::TimeDelta::seconds(1)), "active");
        assert_eq!(trial("trialing", "active").effective_trial_status(decided), "expired");
        assert_eq!(trial("active", "active").effective_trial_status(decided), "active");
        for settled in ["pending", "converted", "expired"] {
            assert_eq!(trial("trialing", settled).effective_trial_status(decided), settled);
        }
    }
}
