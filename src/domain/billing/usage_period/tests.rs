//! Usage periods: the boundaries, and what each way of reaching a period does.

use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;

fn t(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn terms(anchor: DateTime<Utc>) -> UsageTerms<'static> {
    UsageTerms {
        anchor,
        held: false,
        subscription: Some("sub_1"),
        limits: Limits { campaigns: 3, creators: 1000, features: None },
    }
}

fn adopted(anchor: &str, now: &str) -> UsageColumns {
    plan_usage(None, terms(t(anchor)), t(now)).0
}

fn period(usage: &UsageColumns) -> (DateTime<Utc>, DateTime<Utc>) {
    (usage.usage_period_start.unwrap(), usage.usage_reset_date.unwrap())
}

#[test]
fn the_month_end_is_counted_from_the_anchor() {
    let anchor = t("2025-01-31T15:00:00Z");
    let starts = ["2025-02-28", "2025-03-31", "2025-04-30", "2025-05-31"].map(|day| t(&format!("{day}T15:00:00Z")));
    for pair in starts.windows(2) {
        assert_eq!(period_at(anchor, pair[0]), Period { start: pair[0], end: pair[1] });
        assert_eq!(period_at(anchor, pair[1] - TimeDelta::nanoseconds(1)), Period { start: pair[0], end: pair[1] });
    }
    assert_eq!(period_at(anchor, anchor), Period { start: anchor, end: starts[0] });
}

#[test]
fn a_leap_year_has_its_day() {
    let found = period_at(t("2024-01-31T00:00:00Z"), t("2024-03-01T00:00:00Z"));
    assert_eq!(found, Period { start: t("2024-02-29T00:00:00Z"), end: t("2024-03-31T00:00:00Z") });
}

#[test]
fn the_documented_periods() {
    for (anchor, now, start, end) in [
        ("2025-01-30T15:00:00Z", "2025-02-13T00:00:00Z", "2025-01-30T15:00:00Z", "2025-02-28T15:00:00Z"),
        ("2025-01-31T15:00:00Z", "2025-09-30T15:00:00Z", "2025-09-30T15:00:00Z", "2025-10-31T15:00:00Z"),
        ("2025-01-31T15:00:00Z", "2025-09-30T14:59:59Z", "2025-08-31T15:00:00Z", "2025-09-30T15:00:00Z"),
        ("2025-05-31T00:00:00Z", "2025-03-01T00:00:00Z", "2025-02-28T00:00:00Z", "2025-03-31T00:00:00Z"),
    ] {
        assert_eq!(period_at(t(anchor), t(now)), Period { start: t(start), end: t(end) }, "{anchor} {now}");
    }
}

#[test]
fn the_first_period_is_adopted_without_a_reset() {
    let stored = UsageColumns { usage_reset_date: Some(t("2020-01-01T00:00:00Z")), ..UsageColumns::default() };
    let (usage, reset) = plan_usage(Some(&stored), terms(t("2025-01-31T15:00:00Z")), t("2025-03-05T00:00:00Z"));
    assert_eq!(period(&usage), (t("2025-02-28T15:00:00Z"), t("2025-03-31T15:00:00Z")));
    assert_eq!((usage.usage_anchor, reset), (Some(t("2025-01-31T15:00:00Z")), None));
    let held = UsageTerms { held: true, ..terms(t("2025-01-31T15:00:00Z")) };
    let (usage, reset) = plan_usage(Some(&stored), held, t("2025-03-05T00:00:00Z"));
    assert_eq!((usage.usage_period_start, reset), (Some(t("2025-02-28T15:00:00Z")), None), "also while past_due");
}

#[test]
fn a_reset_is_due_at_its_instant() {
    let stored = adopted("2025-01-31T15:00:00Z", "2025-02-01T00:00:00Z");
    let at = |now: &str| plan_usage(Some(&stored), terms(t("2025-01-31T15:00:00Z")), t(now));
    assert_eq!(at("2025-02-28T14:59:59Z"), (stored.clone(), None));
    for now in ["2025-02-28T15:00:00Z", "2025-02-28T15:00:01Z"] {
        let (usage, reset) = at(now);
        assert_eq!(period(&usage), (t("2025-02-28T15:00:00Z"), t("2025-03-31T15:00:00Z")));
        let expected =
            UsageReset { period_start: t("2025-01-31T15:00:00Z"), period_end: t("2025-02-28T15:00:00Z"), periods_skipped: 0 };
        assert_eq!(reset, Some(expected));
        assert_eq!(usage.early_reset_subscription, None, "a reset in time is not an early one");
    }
}

#[test]
fn three_months_of_downtime_are_one_reset() {
    let stored = adopted("2025-01-31T15:00:00Z", "2025-02-01T00:00:00Z");
    let (usage, reset) = plan_usage(Some(&stored), terms(t("2025-01-31T15:00:00Z")), t("2025-05-05T00:00:00Z"));
    assert_eq!(period(&usage), (t("2025-04-30T15:00:00Z"), t("2025-05-31T15:00:00Z")));
    let reset = reset.unwrap();
    assert_eq!((reset.period_end, reset.periods_skipped), (t("2025-02-28T15:00:00Z"), 2));
}

#[test]
fn a_new_anchor_resets_early_once_per_subscription() {
    let signup = adopted("2025-01-01T00:00:00Z", "2025-03-10T00:00:00Z");
    let (usage, reset) = plan_usage(Some(&signup), terms(t("2025-03-10T00:00:00Z")), t("2025-03-10T00:00:00Z"));
    assert_eq!(period(&usage), (t("2025-03-10T00:00:00Z"), t("2025-04-10T00:00:00Z")));
    let expected =
        UsageReset { period_start: t("2025-03-01T00:00:00Z"), period_end: t("2025-03-10T00:00:00Z"), periods_skipped: 0 };
    assert_eq!(reset, Some(expected));
    assert_eq!(usage.early_reset_subscription.as_deref(), Some("sub_1"));

    let (moved, reset) = plan_usage(Some(&usage), terms(t("2025-03-20T00:00:00Z")), t("2025-03-20T00:00:00Z"));
    assert_eq!(reset, None, "moving the billing date again refills nothing");
    assert_eq!(period(&moved), (t("2025-03-10T00:00:00Z"), t("2025-04-20T00:00:00Z")));
    assert_eq!(moved.usage_anchor, Some(t("2025-03-20T00:00:00Z")));

    let other = UsageTerms { subscription: Some("sub_2"), ..terms(t("2025-03-20T00:00:00Z")) };
    let (usage, reset) = plan_usage(Some(&moved), other, t("2025-03-20T00:00:00Z"));
    assert_eq!(reset.map(|r| r.period_end), Some(t("2025-03-20T00:00:00Z")));
    assert_eq!(usage.early_reset_subscription.as_deref(), Some("sub_2"));
}

#[test]
fn an_anchor_that_starts_earlier_moves_the_end_alone() {
    let stored = adopted("2025-03-10T00:00:00Z", "2025-03-12T00:00:00Z");
    let (usage, reset) = plan_usage(Some(&stored), terms(t("2025-01-05T00:00:00Z")), t("2025-03-12T00:00:00Z"));
    assert_eq!(period(&usage), (t("2025-03-10T00:00:00Z"), t("2025-04-05T00:00:00Z")));
    assert_eq!((usage.usage_anchor, reset), (Some(t("2025-01-05T00:00:00Z")), None));
}

#[test]
fn a_passed_reset_date_bounds_the_new_start() {
    let stored = adopted("2025-01-20T00:00:00Z", "2025-03-01T00:00:00Z");
    let (usage, reset) = plan_usage(Some(&stored), terms(t("2025-01-10T00:00:00Z")), t("2025-03-25T00:00:00Z"));
    assert_eq!(period(&usage), (t("2025-03-20T00:00:00Z"), t("2025-04-10T00:00:00Z")), "not back to 03-10");
    let reset = reset.unwrap();
    assert_eq!((reset.period_start, reset.period_end), (t("2025-02-20T00:00:00Z"), t("2025-03-20T00:00:00Z")));
}

#[test]
fn while_past_due_only_the_limits_move() {
    let stored = adopted("2025-01-31T15:00:00Z", "2025-02-01T00:00:00Z");
    let limits = Limits { campaigns: -1, creators: -1, features: None };
    let held = UsageTerms { held: true, limits, ..terms(t("2025-03-10T00:00:00Z")) };
    let (usage, reset) = plan_usage(Some(&stored), held, t("2025-06-01T00:00:00Z"));
    assert_eq!(reset, None);
    let expected = UsageColumns { plan_campaigns_limit: -1, plan_creators_limit: -1, reset_held: true, ..stored };
    assert_eq!(usage, expected);
    let (usage, reset) = plan_usage(Some(&usage), terms(t("2025-01-31T15:00:00Z")), t("2025-06-01T00:00:00Z"));
    assert_eq!(reset.map(|r| r.periods_skipped), Some(3), "the boundary is crossed when the status leaves past_due");
    assert_eq!((period(&usage).0, usage.reset_held), (t("2025-05-31T15:00:00Z"), false));
}

#[test]
fn a_clock_that_runs_backwards_moves_nothing() {
    let stored = adopted("2025-01-31T15:00:00Z", "2025-06-01T00:00:00Z");
    for now in ["2025-02-01T00:00:00Z", "2025-05-31T14:59:59Z"] {
        let (usage, reset) = plan_usage(Some(&stored), terms(t("2025-01-31T15:00:00Z")), t(now));
        assert_eq!((&usage, reset), (&stored, None), "{now}");
    }
}

fn instant() -> impl Strategy<Value = DateTime<Utc>> {
    (0..4_000_000_000_i64).prop_map(|s| DateTime::from_timestamp(s, 0).unwrap())
}

proptest! {
    #[test]
    fn periods_are_contiguous_and_independent_of_when_one_asks(anchor in instant(), at in instant(), share in 0.0..1.0_f64) {
        let found = period_at(anchor, at);
        prop_assert!(found.start <= at && at < found.end);
        prop_assert_eq!(period_at(anchor, found.start), found);
        let inside = found.start + TimeDelta::seconds(((found.end - found.start).num_seconds() as f64 * share) as i64);
        prop_assert_eq!(period_at(anchor, inside), found);
        prop_assert_eq!(period_at(anchor, found.end - TimeDelta::nanoseconds(1)), found);
        prop_assert_eq!(period_at(anchor, found.end).start, found.end);
        prop_assert_eq!(period_at(anchor, found.start - TimeDelta::nanoseconds(1)).end, found.start);
        let days = (found.end - found.start).num_days();
        prop_assert!((28..=31).contains(&days), "{} days", days);
    }

    #[test]
    fn any_instant_has_a_period(anchor in any::<i64>(), at in any::<i64>()) {
        let clamp = |seconds: i64| DateTime::from_timestamp(seconds, 0).unwrap_or(
            if seconds < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC });
        let found = period_at(clamp(anchor), clamp(at));
        prop_assert!(found.start <= clamp(at) && clamp(at) <= found.end);
    }

    /// Whatever the anchors and however often one looks: starts strictly increase, archived periods never overlap, and a
    /// subscription causes one early reset.
    #[test]
    fn resets_never_overlap(steps in proptest::collection::vec((0..40_i64, 0..60_i64, 0..3_u8, any::<bool>()), 1..40)) {
        let mut now = t("2025-01-01T00:00:00Z");
        let mut stored: Option<UsageColumns> = None;
        let mut archived_until = None;
        let mut early = std::collections::BTreeMap::<u8, u32>::new();
        for (days, anchor_days, subscription, held) in steps {
            now += TimeDelta::days(days);
            let name = format!("sub_{subscription}");
            let anchor = t("2024-12-01T00:00:00Z") + TimeDelta::days(anchor_days);
            let terms = UsageTerms { held, subscription: Some(&name), ..terms(anchor) };
            let (usage, reset) = plan_usage(stored.as_ref(), terms, now);
            let (start, end) = period(&usage);
            prop_assert!(start < end);
            if let (Some(reset), Some(before)) = (&reset, &stored) {
                prop_assert!(!held);
                prop_assert_eq!(Some(reset.period_start), before.usage_period_start);
                prop_assert!(reset.period_start < reset.period_end && reset.period_end <= start);
                prop_assert!(archived_until.is_none_or(|until| until <= reset.period_start));
                archived_until = Some(reset.period_end);
                prop_assert!(now < end);
                if Some(now) < before.usage_reset_date {
                    prop_assert_ne!(before.early_reset_subscription.as_deref(), Some(name.as_str()));
                    *early.entry(subscription).or_default() += 1;
                }
            } else if let Some(before) = &stored {
                prop_assert_eq!(usage.usage_period_start, before.usage_period_start);
            }
            let (again, nothing) = plan_usage(Some(&usage), terms, now);
            prop_assert_eq!((&again, nothing), (&usage, None));
            stored = Some(usage);
        }
    }
}
