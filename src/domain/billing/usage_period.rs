//! Usage periods: calendar months counted from an anchor, and what the passing of one does to a user's usage row. The
//! counters themselves never appear here: they change by increments or by a reset in SQL, never by a value from memory.

use chrono::{DateTime, Datelike, Months, Utc};
use serde_json::{Map, Value};

use crate::domain::billing::plan::Limits;
use crate::domain::billing::rows::{UsageColumns, UsageReset};

/// A usage period, half-open: `start` belongs to it, `end` to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    pub start: DateTime<Utc>,
    pub end: DateTime<Utc>,
}

/// What a user's usage row is a function of, beside itself and now.
#[derive(Clone, Copy, Debug)]
pub struct UsageTerms<'a> {
    /// Where the months are counted from.
    pub anchor: DateTime<Utc>,
    /// True while past_due: nothing of the period moves.
    pub held: bool,
    /// The subscription (or Clerk item) that the anchor belongs to: each may cause one early reset.
    pub subscription: Option<&'a str>,
    /// Of the plan in force; they are copied at once, also in the middle of a period and while it is held.
    pub limits: Limits<'a>,
}

/// The period of `anchor` that `at` lies in.
pub fn period_at(anchor: DateTime<Utc>, at: DateTime<Utc>) -> Period {
    let index = index_at(anchor, at);
    Period { start: boundary(anchor, index), end: boundary(anchor, index + 1) }
}

/// What the end of a period does: the period that follows, and what is archived of the one that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollover {
    pub next: Period,
    pub ended: UsageReset,
}

/// The rollover that is due at `now`, if the period `[start, reset_at)` of `anchor` has ended. One, however long ago.
pub fn plan_rollover(
    anchor: DateTime<Utc>,
    start: DateTime<Utc>,
    reset_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<Rollover> {
    (now >= reset_at).then(|| {
        let target = period_at(anchor, now);
        rollover(anchor, start, reset_at, Period { start: target.start.max(reset_at), end: target.end })
    })
}

/// The usage columns at `now`, and the period that has to be archived with them, if one has ended.
pub fn plan_usage(
    stored: Option<&UsageColumns>,
    terms: UsageTerms<'_>,
    now: DateTime<Utc>,
) -> (UsageColumns, Option<UsageReset>) {
    let target = period_at(terms.anchor, now);
    let mut usage = UsageColumns {
        plan_campaigns_limit: terms.limits.campaigns,
        plan_creators_limit: terms.limits.creators,
        plan_features: terms.limits.features.cloned().unwrap_or_else(|| Value::Object(Map::new())),
        usage_reset_date: Some(target.end),
        usage_anchor: Some(terms.anchor),
        usage_period_start: Some(target.start),
        reset_held: terms.held,
        early_reset_subscription: stored.and_then(|s| s.early_reset_subscription.clone()),
    };
    let adopted = stored.and_then(|s| Some((s, s.usage_anchor?, s.usage_period_start?, s.usage_reset_date?)));
    // Without a whole period of our own there is nothing to hold or to archive: the target is adopted.
    let Some((stored, stored_anchor, start, reset_at)) = adopted else { return (usage, None) };
    if terms.held {
        usage.usage_anchor = Some(stored_anchor);
        usage.usage_period_start = Some(start);
        usage.usage_reset_date = Some(reset_at);
        return (usage, None);
    }
    if let Some(due) = plan_rollover(terms.anchor, start, reset_at, now) {
        usage.usage_period_start = Some(due.next.start);
        return (usage, Some(due.ended));
    }
    // A change of the anchor ends a period before its time. Once per subscription, or moving the billing date again and
    // again would refill the counters.
    let early = target.start > start
        && (terms.subscription.is_none() || stored.early_reset_subscription.as_deref() != terms.subscription);
    if !early {
        usage.usage_period_start = Some(start);
        // A clock that runs backwards must not make a period end before it starts.
        usage.usage_reset_date = Some(if target.end > start { target.end } else { reset_at });
        return (usage, None);
    }
    if terms.subscription.is_some() {
        usage.early_reset_subscription = terms.subscription.map(str::to_owned);
    }
    (usage, Some(rollover(terms.anchor, start, reset_at, target).ended))
}

fn rollover(anchor: DateTime<Utc>, start: DateTime<Utc>, reset_at: DateTime<Utc>, next: Period) -> Rollover {
    let ended = UsageReset {
        period_start: start,
        period_end: reset_at.min(next.start),
        periods_skipped: whole_periods(anchor, reset_at, next.start),
    };
    Rollover { next, ended }
}

/// How many whole periods lie between two instants.
fn whole_periods(anchor: DateTime<Utc>, from: DateTime<Utc>, to: DateTime<Utc>) -> u32 {
    let first = index_at(anchor, from);
    let first = if boundary(anchor, first) == from { first } else { first + 1 };
    u32::try_from(index_at(anchor, to) - first).unwrap_or(0)
}

/// `anchor` + `index` months, clamped to the month's end and to what a timestamp can hold.
fn boundary(anchor: DateTime<Utc>, index: i64) -> DateTime<Utc> {
    let months = Months::new(u32::try_from(index.unsigned_abs()).unwrap_or(u32::MAX));
    if index < 0 {
        anchor.naive_utc().checked_sub_months(months).map_or(DateTime::<Utc>::MIN_UTC, |at| at.and_utc())
    } else {
        anchor.naive_utc().checked_add_months(months).map_or(DateTime::<Utc>::MAX_UTC, |at| at.and_utc())
    }
}

/// The index of the period that `at` lies in. The boundary of `at`'s own month is either behind it, or the period began at
/// the boundary of the month before.
fn index_at(anchor: DateTime<Utc>, at: DateTime<Utc>) -> i64 {
    let index = month_number(at) - month_number(anchor);
    if boundary(anchor, index) <= at { index } else { index - 1 }
}

fn month_number(at: DateTime<Utc>) -> i64 {
    i64::from(at.year()) * 12 + i64::from(at.month0())
}

#[cfg(test)]
mod tests;
