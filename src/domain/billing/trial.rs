//! The state of a trial, for both providers alike: it has converted when a paid bill covers time after it, not when a
//! status turns active, for Stripe does that about an hour before it charges.

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::billing::subscription::{Status, StripeSubscription};

/// How long after its end a trial without a known payment stays undecided.
pub const DECISION: TimeDelta = TimeDelta::hours(72);

/// How much earlier than the trial's end the first paid period may start.
const TOLERANCE: TimeDelta = TimeDelta::seconds(60);

/// A subscription's trial.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// The id of the subscription (or Clerk item) whose trial it is.
    pub subject: &'a str,
    /// What that subscription is; `None` for a Clerk item that does not count.
    pub status: Option<Status>,
    pub start_at: Option<DateTime<Utc>>,
    /// As the provider says, also when the subscription ended before.
    pub end_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    /// The earliest payment of time after the trial.
    pub converted_at: Option<DateTime<Utc>>,
    /// Whether silence counts as a conversion: it is charged automatically and no bill of it is known at all.
    pub converts_unseen: bool,
}

/// The trial columns of `user_subscriptions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialColumns {
    pub status: &'static str,
    pub start_date: Option<DateTime<Utc>>,
    pub end_date: Option<DateTime<Utc>>,
    pub conversion_date: Option<DateTime<Utc>>,
}

impl TrialColumns {
    /// No subscription ever had a trial.
    pub const NONE: TrialColumns = TrialColumns { status: "pending", start_date: None, end_date: None, conversion_date: None };
}

impl<'a> Trial<'a> {
    /// The trial of a Stripe subscription that had one. A subscription that is trialing without saying until when had one.
    pub fn of_subscription(subscription: &StripeSubscription<'a>) -> Option<Trial<'a>> {
        let fact = subscription.fact;
        if !has_trial(subscription) {
            return None;
        }
        let since = fact.trial_end.map(|end| end.checked_sub_signed(TOLERANCE).unwrap_or(DateTime::<Utc>::MIN_UTC));
        let conversion = since.map(|since| subscription.customer.invoices.conversion(subscription.id, since)).unwrap_or_default();
        // Stripe's default for a collection method that a snapshot does not name is to charge.
        let charges = fact.collection_method.as_deref().is_none_or(|method| method == "charge_automatically");
        Some(Trial {
            subject: subscription.id,
            status: Some(subscription.status),
            start_at: fact.trial_start,
            end_at: fact.trial_end,
            ended_at: subscription.ended_at(),
            converted_at: conversion.converted_at,
            converts_unseen: charges && !fact.pause_collection && !conversion.billed,
        })
    }

    /// The columns at `now`.
    pub fn columns(&self, now: DateTime<Utc>) -> TrialColumns {
        let undecided = self.decided_at().is_none_or(|at| now < at);
        let (status, conversion_date) = match self.status {
            _ if self.converted_at.is_some() => ("converted", self.converted_at),
            // An active subscription whose trial has not ended yet is one that Stripe turned active early.
            Some(Status::Trialing | Status::Active) if undecided => ("active", None),
            Some(Status::Active) if self.converts_unseen => ("converted", self.end_at),
            _ => ("expired", None),
        };
        TrialColumns { status, start_date: self.start_at, end_date: self.end_date(), conversion_date }
    }

    /// When it ended or will end.
    pub fn end_date(&self) -> Option<DateTime<Utc>> {
        let end_at = self.end_at?;
        Some(self.ended_at.map_or(end_at, |ended_at| ended_at.min(end_at)))
    }

    /// From when on the absence of a payment means something.
    pub fn decided_at(&self) -> Option<DateTime<Utc>> {
        self.end_date().map(|end| end.checked_add_signed(DECISION).unwrap_or(DateTime::<Utc>::MAX_UTC))
    }
}

/// Whether the subscription has or had a trial.
pub fn has_trial(subscription: &StripeSubscription<'_>) -> bool {
    subscription.fact.trial_end.is_some() || subscription.status == Status::Trialing
}
