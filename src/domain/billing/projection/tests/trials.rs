//! Every row of the table of trial statuses, at its limits and one second to either side.

use super::*;

const START: &str = "2025-03-01T00:00:00Z";
const DECIDED: &str = "2025-03-18T00:00:00Z";

fn trial_at(world: &World, now: DateTime<Utc>) -> (String, Option<DateTime<Utc>>) {
    let row = world.project(now).rows.subscription;
    (row.trial_status, row.trial_conversion_date)
}

/// The trial status one second before the instant, at it, and one second after.
fn around(world: &World, instant: &str) -> [String; 3] {
    [-1, 0, 1].map(|n| trial_at(world, t(instant) + seconds(n)).0)
}

fn invoice(status: &str, line_start: DateTime<Utc>) -> Invoice {
    Invoice {
        customer: Some("cus_1".to_owned()),
        subscription: Some("sub_1".to_owned()),
        status: status.to_owned(),
        created: Some(t("2025-03-15T00:00:10Z")),
        finalized_at: Some(t("2025-03-15T01:00:00Z")),
        paid_at: (status == "paid").then(|| t("2025-03-15T01:00:30Z")),
        line_start: Some(line_start),
        ..Invoice::default()
    }
}

#[test]
fn who_never_had_a_trial_is_pending() {
    for world in [World::new(), World::with_customer(), World::with([subscription("active", "glow_up")])] {
        let row = world.subscription_row(DECIDED);
        assert_eq!((row.trial_status.as_str(), row.trial_start_date, row.trial_end_date), ("pending", None, None));
    }
}

#[test]
fn trialing_is_active_until_72_hours_after_the_end() {
    let world = World::with([with_trial("trialing")]);
    let row = world.subscription_row("2025-03-10T00:00:00Z");
    assert_eq!((row.trial_start_date, row.trial_end_date), (Some(t(START)), Some(t(TRIAL_END))));
    assert_eq!(around(&world, TRIAL_END), ["active", "active", "active"]);
    assert_eq!(around(&world, DECIDED), ["active", "expired", "expired"]);
}

#[test]
fn trialing_without_an_end_is_active() {
    let world = World::with([Subscription { trial_end: None, ..with_trial("trialing") }]);
    assert_eq!(around(&world, DECIDED), ["active", "active", "active"]);
}

#[test]
fn active_without_an_invoice_is_active_then_converted() {
    let world = World::with([with_trial("active")]);
    assert_eq!(around(&world, TRIAL_END), ["active", "active", "active"]);
    assert_eq!(around(&world, DECIDED), ["active", "converted", "converted"]);
    assert_eq!(trial_at(&world, t(DECIDED)), ("converted".to_owned(), Some(t(TRIAL_END))));
}

#[test]
fn silence_converts_only_what_is_charged_automatically_and_not_paused() {
    let by_invoice = Subscription { collection_method: Some("send_invoice".to_owned()), ..with_trial("active") };
    assert_eq!(around(&World::with([by_invoice]), DECIDED), ["active", "expired", "expired"]);
    let paused = Subscription { pause_collection: true, ..with_trial("active") };
    assert_eq!(around(&World::with([paused]), DECIDED), ["active", "expired", "expired"]);
    let unsaid = Subscription { collection_method: None, ..with_trial("active") };
    assert_eq!(around(&World::with([unsaid]), DECIDED), ["active", "converted", "converted"]);
}

#[test]
fn an_unpaid_invoice_of_time_after_the_trial_breaks_the_silence() {
    for status in ["draft", "open", "uncollectible", "void"] {
        let mut world = World::with([with_trial("active")]);
        world.put_invoice("in_1", invoice(status, t(TRIAL_END)));
        assert_eq!(around(&world, DECIDED), ["active", "expired", "expired"], "{status}");
        world.put_invoice("in_1", invoice(status, t(START)));
        assert_eq!(around(&world, DECIDED), ["active", "converted", "converted"], "{status} of the trial itself");
    }
}

#[test]
fn of_invoices_a_deletion_ends_drafts_alone() {
    for (status, is_deleted) in [("draft", true), ("open", false), ("paid", false), ("void", false)] {
        assert_eq!(invoice(status, t(TRIAL_END)).is_deleted(Some(t(TRIAL_END))), is_deleted, "{status}");
        assert!(!invoice(status, t(TRIAL_END)).is_deleted(None));
    }
}

#[test]
fn a_paid_invoice_converts_if_its_period_starts_at_the_end_of_the_trial() {
    for (offset, converts) in [(-61, false), (-60, true), (-59, true), (0, true), (1, true)] {
        let mut world = World::with([with_trial("active")]);
        world.put_invoice("in_1", invoice("paid", t(TRIAL_END) + seconds(offset)));
        let expected = if converts { ("converted", Some(t("2025-03-15T01:00:30Z"))) } else { ("active", None) };
        let (status, at) = trial_at(&world, t("2025-03-16T00:00:00Z"));
        assert_eq!((status.as_str(), at), expected, "{offset}");
    }
}

#[test]
fn the_zero_invoice_at_the_start_of_the_trial_converts_nothing() {
    let mut world = World::with([with_trial("trialing")]);
    world.put_invoice("in_1", invoice("paid", t(START)));
    assert_eq!(trial_at(&world, t("2025-03-10T00:00:00Z")), ("active".to_owned(), None));
}

#[test]
fn the_conversion_is_the_earliest_payment_by_paid_then_finalized_then_created() {
    let mut world = World::with([with_trial("active")]);
    let mut paid = invoice("paid", t(TRIAL_END));
    world.put_invoice("in_2", Invoice { paid_at: Some(t("2025-04-15T00:00:00Z")), ..invoice("paid", t("2025-04-15T00:00:00Z")) });
    for expected in ["2025-03-15T01:00:30Z", "2025-03-15T01:00:00Z", "2025-03-15T00:00:10Z"] {
        world.put_invoice("in_1", paid.clone());
        assert_eq!(trial_at(&world, t("2025-05-01T00:00:00Z")).1, Some(t(expected)));
        if paid.paid_at.take().is_none() {
            paid.finalized_at = None;
        }
    }
}

#[test]
fn a_conversion_outlasts_every_later_status() {
    for status in ["trialing", "active", "past_due", "unpaid", "paused", "canceled", "incomplete", "a_status_of_2031"] {
        let mut world = World::with([with_trial(status)]);
        world.put_invoice("in_1", invoice("paid", t(TRIAL_END)));
        assert_eq!(trial_at(&world, t("2025-06-01T00:00:00Z")).0, "converted", "{status}");
    }
}

#[test]
fn another_subscriptions_invoice_does_not_convert() {
    let mut world = World::with([with_trial("past_due")]);
    let subscription = Some("sub_2".to_owned());
    world.put_invoice("in_1", Invoice { subscription, ..invoice("paid", t(TRIAL_END)) });
    assert_eq!(trial_at(&world, t("2025-03-16T00:00:00Z")).0, "expired");
}

#[test]
fn everything_else_is_expired() {
    for status in ["past_due", "unpaid", "paused", "canceled", "incomplete", "incomplete_expired", "a_status_of_2031"] {
        let world = World::with([with_trial(status)]);
        assert_eq!(around(&world, TRIAL_END), ["expired", "expired", "expired"], "{status}");
    }
}

#[test]
fn a_trial_that_was_cut_short_ended_then() {
    let ended = t("2025-03-06T00:00:00Z");
    let world = World::with([Subscription { ended_at: Some(ended), ..with_trial("canceled") }]);
    assert_eq!(world.subscription_row("2025-03-10T00:00:00Z").trial_end_date, Some(ended));
    let outlived = Subscription { ended_at: Some(t("2025-08-01T00:00:00Z")), ..with_trial("canceled") };
    assert_eq!(World::with([outlived]).subscription_row("2025-09-01T00:00:00Z").trial_end_date, Some(t(TRIAL_END)));
}

#[test]
fn the_primary_subscriptions_trial_counts_else_the_newest() {
    let old = |created: &str, start: &str| Subscription {
        created: Some(t(created)),
        trial_start: Some(t(start)),
        ended_at: Some(t("2025-02-20T00:00:00Z")),
        ..with_trial("canceled")
    };
    let older = old("2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z");
    let newer = old("2025-01-15T00:00:00Z", "2025-01-15T00:00:00Z");
    let mut world = World::with([older, newer, subscription("active", "glow_up")]);
    let row = world.subscription_row(DECIDED);
    assert_eq!(row.trial_start_date, Some(t("2025-01-15T00:00:00Z")));
    assert_eq!((row.trial_status.as_str(), row.subscription_status.as_str()), ("expired", "active"));
    world.put("sub_3", with_trial("active"));
    assert_eq!(world.subscription_row(DECIDED).trial_start_date, Some(t(START)));
}

#[test]
fn the_limits_of_a_trial_are_the_next_changes() {
    let world = World::with([with_trial("trialing")]);
    for (now, next) in [
        ("2025-03-02T00:00:00Z", Some("2025-03-12T00:00:00Z")),
        ("2025-03-12T00:00:00Z", Some(TRIAL_END)),
        ("2025-03-14T23:59:59Z", Some(TRIAL_END)),
        (TRIAL_END, Some(DECIDED)),
        (DECIDED, None),
    ] {
        assert_eq!(world.subscription_row(now).next_change_at, next.map(t), "{now}");
    }
}
