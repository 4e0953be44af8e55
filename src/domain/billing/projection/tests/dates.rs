//! Cancel date and renewal date, in every combination that the rules name.

use super::*;

const NOW: &str = "2025-03-10T00:00:00Z";
const PERIOD_END: &str = "2025-04-01T00:00:00Z";

fn dates(subscription: Subscription) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
    let row = World::with([subscription]).subscription_row(NOW);
    (row.subscription_cancel_date, row.subscription_renewal_date)
}

#[test]
fn renewal_by_status() {
    for (status, renews) in [
        ("incomplete", false),
        ("incomplete_expired", false),
        ("canceled", false),
        ("paused", false),
        ("active", true),
        ("past_due", true),
        ("unpaid", true),
        ("a_status_of_2031", true),
    ] {
        let expected = renews.then(|| t(PERIOD_END));
        assert_eq!(dates(subscription(status, "glow_up")), (None, expected), "{status}");
    }
}

#[test]
fn a_trial_renews_at_its_end() {
    assert_eq!(dates(with_trial("trialing")), (None, Some(t(TRIAL_END))));
    let endless = Subscription { trial_end: None, ..with_trial("trialing") };
    assert_eq!(dates(endless), (None, Some(t(PERIOD_END))), "without an end the period's");
}

#[test]
fn the_period_is_the_chosen_items_else_the_subscriptions() {
    let yearly = SubscriptionItem { current_period_end: Some(t("2026-03-01T00:00:00Z")), ..item("fame_flex") };
    let both = Subscription { items: vec![item("glow_up"), yearly], ..subscription("active", "none") };
    assert_eq!(dates(both), (None, Some(t("2026-03-01T00:00:00Z"))));
    let old_shape = SubscriptionItem { current_period_end: None, current_period_start: None, ..item("glow_up") };
    let old = Subscription {
        items: vec![old_shape],
        current_period_end: Some(t("2025-03-20T00:00:00Z")),
        ..subscription("active", "none")
    };
    assert_eq!(dates(old), (None, Some(t("2025-03-20T00:00:00Z"))));
    let unmapped = Subscription { items: vec![item("unknown")], ..subscription("active", "none") };
    assert_eq!(dates(unmapped), (None, Some(t(PERIOD_END))), "the first item stands in for a chosen one");
}

#[test]
fn cancel_at_period_end_takes_the_earliest_items_end() {
    let yearly = SubscriptionItem { current_period_end: Some(t("2026-03-01T00:00:00Z")), ..item("fame_flex") };
    let both =
        Subscription { items: vec![yearly, item("glow_up")], cancel_at_period_end: true, ..subscription("active", "none") };
    assert_eq!(dates(both), (Some(t(PERIOD_END)), None));
    let old_shape = SubscriptionItem { current_period_end: None, ..item("glow_up") };
    let old = Subscription {
        items: vec![old_shape],
        current_period_end: Some(t("2025-03-20T00:00:00Z")),
        cancel_at_period_end: true,
        ..subscription("active", "none")
    };
    assert_eq!(dates(old), (Some(t("2025-03-20T00:00:00Z")), None));
}

#[test]
fn cancel_at_counts_with_the_boolean_false() {
    let at = |text: &str| Subscription { cancel_at: Some(t(text)), ..subscription("active", "glow_up") };
    assert_eq!(dates(at(PERIOD_END)), (Some(t(PERIOD_END)), None), "at the period's end there is no renewal");
    assert_eq!(dates(at("2025-03-31T23:59:59Z")), (Some(t("2025-03-31T23:59:59Z")), None));
    let later = "2025-04-01T00:00:01Z";
    assert_eq!(dates(at(later)), (Some(t(later)), Some(t(PERIOD_END))), "it renews once more");
}

#[test]
fn cancel_at_goes_before_the_boolean() {
    let both = Subscription {
        cancel_at: Some(t("2025-03-20T00:00:00Z")),
        cancel_at_period_end: true,
        ..subscription("active", "glow_up")
    };
    assert_eq!(dates(both), (Some(t("2025-03-20T00:00:00Z")), None));
}

#[test]
fn a_trial_cancelled_at_its_end_does_not_renew() {
    let items = vec![SubscriptionItem { current_period_end: Some(t(TRIAL_END)), ..item("glow_up") }];
    let cancelled = Subscription { items, cancel_at_period_end: true, ..with_trial("trialing") };
    assert_eq!(dates(cancelled), (Some(t(TRIAL_END)), None));
    let periodless = vec![SubscriptionItem { current_period_end: None, ..item("glow_up") }];
    let cancelled = Subscription { items: periodless, cancel_at: Some(t(TRIAL_END)), ..with_trial("trialing") };
    assert_eq!(dates(cancelled), (Some(t(TRIAL_END)), None), "without a period the trial's end is compared");
}

#[test]
fn what_has_ended_says_when() {
    let ended = t("2025-03-05T00:00:00Z");
    let asked = t("2025-03-01T00:00:00Z");
    let planned = t("2025-03-08T00:00:00Z");
    let canceled = subscription("canceled", "glow_up");
    let all = Subscription { ended_at: Some(ended), canceled_at: Some(asked), cancel_at: Some(planned), ..canceled.clone() };
    assert_eq!(dates(all.clone()), (Some(ended), None));
    assert_eq!(dates(Subscription { ended_at: None, ..all.clone() }), (Some(asked), None), "canceled_at comes next");
    assert_eq!(dates(Subscription { ended_at: None, canceled_at: None, ..all }), (Some(planned), None));
    let by_period = Subscription { cancel_at_period_end: true, ..canceled.clone() };
    assert_eq!(dates(by_period), (Some(t(PERIOD_END)), None));
    assert_eq!(dates(canceled), (None, None));
}

#[test]
fn canceled_at_alone_says_nothing_of_a_live_subscription() {
    let reactivated = Subscription { canceled_at: Some(t("2025-03-01T00:00:00Z")), ..subscription("active", "glow_up") };
    assert_eq!(dates(reactivated), (None, Some(t(PERIOD_END))));
}

#[test]
fn a_subscription_without_dates_has_none() {
    let bare = Subscription { items: Vec::new(), ..subscription("active", "none") };
    assert_eq!(dates(bare.clone()), (None, None));
    assert_eq!(dates(Subscription { cancel_at_period_end: true, ..bare }), (None, None));
}
