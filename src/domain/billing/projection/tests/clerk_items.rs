//! Clerk Billing: items, their statuses and trials, and what happens beside Stripe.

use std::collections::BTreeMap;

use super::*;
use crate::domain::billing::facts::{ClerkItemTrial, ClerkPaymentAttempt};

const NOW: &str = "2025-03-10T00:00:00Z";
const PERIOD_END: &str = "2025-04-01T00:00:00Z";

fn item(status: &str, plan: &str) -> ClerkItem {
    ClerkItem {
        user_id: USER.to_owned(),
        status: status.to_owned(),
        created_at: Some(t("2025-03-01T00:00:00Z")),
        plan_slug: Some(plan.to_owned()),
        period_start: Some(t("2025-03-01T00:00:00Z")),
        period_end: Some(t(PERIOD_END)),
        ..ClerkItem::default()
    }
}

fn default_item(status: &str) -> ClerkItem {
    ClerkItem { is_default_plan: true, ..item(status, "free") }
}

fn world(items: impl IntoIterator<Item = ClerkItem>) -> World {
    let mut world = World::new();
    for (index, item) in items.into_iter().enumerate() {
        world.put_item(&format!("csi_{}", index + 1), item);
    }
    world
}

/// `(status, current_plan, intended_plan)`.
fn standing(world: &World, now: &str) -> (String, String, Option<String>) {
    let row = world.subscription_row(now);
    (row.subscription_status, row.current_plan, row.intended_plan)
}

fn is(status: &str, current: &str, intended: Option<&str>) -> (String, String, Option<String>) {
    (status.to_owned(), current.to_owned(), intended.map(str::to_owned))
}

/// A world in which `csi_1` is on trial until [`TRIAL_END`].
fn on_trial(status: &str) -> World {
    let mut world = world([ClerkItem { is_free_trial: true, period_end: Some(t(TRIAL_END)), ..item(status, "glow_up") }]);
    let slot = ClerkItemTrial {
        user_id: USER.to_owned(),
        item_id: "csi_1".to_owned(),
        period_start: Some(t("2025-03-01T00:00:00Z")),
        period_end: Some(t(TRIAL_END)),
    };
    world.clerk.trials.insert("csi_1".to_owned(), known("csi_1#trial", slot));
    world
}

fn attempt(world: &mut World, id: &str, status: &str, start: DateTime<Utc>, paid_at: &str) {
    let attempt = ClerkPaymentAttempt {
        user_id: Some(USER.to_owned()),
        status: status.to_owned(),
        paid_at: Some(t(paid_at)),
        item_starts: BTreeMap::from([("csi_1".to_owned(), start)]),
    };
    world.clerk.attempts.insert(id.to_owned(), known(id, attempt));
}

#[test]
fn each_status_has_its_plan_and_dates() {
    for (status, expected, cancel, renewal) in [
        ("active", is("active", "glow_up", None), None, Some(PERIOD_END)),
        ("past_due", is("past_due", "glow_up", None), None, Some(PERIOD_END)),
        ("canceled", is("canceled", "glow_up", Some("free")), Some(PERIOD_END), None),
        ("incomplete", is("incomplete", "free", Some("glow_up")), None, None),
        ("upcoming", is("none", "free", Some("glow_up")), None, None),
        ("abandoned", is("none", "free", None), None, None),
        ("expired", is("none", "free", None), None, None),
        ("ended", is("none", "free", None), None, None),
    ] {
        let world = world([item(status, "glow_up")]);
        assert_eq!(standing(&world, NOW), expected, "{status}");
        let rows = world.rows(NOW);
        assert_eq!(rows.subscription.subscription_cancel_date, cancel.map(t), "{status}");
        assert_eq!(rows.subscription.subscription_renewal_date, renewal.map(t), "{status}");
        assert_eq!(rows.usage.plan_campaigns_limit, if expected.1 == "free" { 0 } else { 3 }, "{status}");
        assert_eq!(rows.usage.reset_held, status == "past_due", "{status}");
        assert_eq!(rows.billing.stripe_subscription_id, None);
    }
}

#[test]
fn a_canceled_item_keeps_its_plan_until_the_period_ends() {
    let world = world([item("canceled", "glow_up")]);
    assert_eq!(standing(&world, "2025-03-31T23:59:59Z"), is("canceled", "glow_up", Some("free")));
    assert_eq!(world.subscription_row("2025-03-31T23:59:59Z").next_change_at, Some(t(PERIOD_END)));
    for now in [PERIOD_END, "2025-04-01T00:00:01Z"] {
        assert_eq!(standing(&world, now), is("none", "free", None), "{now}");
        assert_eq!(world.subscription_row(now).next_change_at, None, "{now}");
    }
    let endless = self::world([ClerkItem { period_end: None, ..item("canceled", "glow_up") }]);
    assert_eq!(standing(&endless, NOW), is("none", "free", None));
}

#[test]
fn a_free_trial_is_trialing_before_its_end() {
    let world = on_trial("active");
    for (now, status) in [("2025-03-14T23:59:59Z", "trialing"), (TRIAL_END, "active"), ("2025-03-15T00:00:01Z", "active")] {
        assert_eq!(standing(&world, now), is(status, "glow_up", None), "{now}");
    }
    let endless = self::world([ClerkItem { is_free_trial: true, period_end: None, ..item("active", "glow_up") }]);
    assert_eq!(standing(&endless, NOW), is("trialing", "glow_up", None));
    assert_eq!(world.subscription_row(NOW).subscription_renewal_date, Some(t(TRIAL_END)));
    assert_eq!(world.rows(NOW).usage.usage_anchor, Some(t("2025-03-01T00:00:00Z")));
    assert_eq!(world.rows(TRIAL_END).usage.usage_anchor, Some(t("2025-01-10T08:00:00Z")));
}

#[test]
fn only_a_paid_attempt_for_time_after_the_trial_converts_it() {
    let row = |world: &World, now: &str| {
        let row = world.subscription_row(now);
        (row.trial_status, row.trial_conversion_date)
    };
    let mut world = on_trial("active");
    let end = t(TRIAL_END);
    attempt(&mut world, "pay_1", "paid", end - seconds(1), "2025-03-14T23:00:00Z");
    attempt(&mut world, "pay_2", "failed", end, "2025-03-15T00:00:05Z");
    assert_eq!(row(&world, NOW), ("active".to_owned(), None));
    assert_eq!(row(&world, "2025-03-17T23:59:59Z"), ("active".to_owned(), None));
    assert_eq!(row(&world, "2025-03-18T00:00:00Z"), ("expired".to_owned(), None), "silence converts nothing here");
    attempt(&mut world, "pay_3", "paid", end + seconds(40), "2025-03-16T00:00:05Z");
    attempt(&mut world, "pay_4", "paid", end, "2025-03-15T00:00:09Z");
    assert_eq!(row(&world, "2025-03-20T00:00:00Z"), ("converted".to_owned(), Some(t("2025-03-15T00:00:09Z"))));
    let ended = self::item("ended", "glow_up");
    world.put_item("csi_1", ended);
    assert_eq!(row(&world, "2025-03-20T00:00:00Z").0, "converted", "the slot outlasts the item");
}

#[test]
fn a_trial_that_fails_is_expired() {
    for status in ["past_due", "canceled", "ended", "incomplete"] {
        let row = on_trial(status).subscription_row(NOW);
        assert_eq!((row.trial_status.as_str(), row.trial_end_date), ("expired", Some(t(TRIAL_END))), "{status}");
    }
}

#[test]
fn the_best_items_trial_counts_else_the_newest() {
    let mut world = on_trial("ended");
    world.put_item("csi_2", ClerkItem { created_at: Some(t("2025-03-05T00:00:00Z")), ..item("active", "fame_flex") });
    assert_eq!(world.subscription_row(NOW).trial_start_date, Some(t("2025-03-01T00:00:00Z")));
    assert_eq!(world.subscription_row(NOW).trial_status, "expired");
    let slot = ClerkItemTrial {
        item_id: "csi_2".to_owned(),
        period_start: Some(t("2025-02-01T00:00:00Z")),
        ..ClerkItemTrial::default()
    };
    world.clerk.trials.insert("csi_2".to_owned(), known("csi_2#trial", slot));
    assert_eq!(world.subscription_row(NOW).trial_start_date, Some(t("2025-02-01T00:00:00Z")));
}

#[test]
fn the_best_item_in_order() {
    let later = |item: ClerkItem| ClerkItem { created_at: Some(t("2025-03-09T00:00:00Z")), ..item };
    let trialing = ClerkItem { is_free_trial: true, ..item("active", "fame_flex") };
    for (worse, better, plan, status) in [
        (later(item("ended", "fame_flex")), item("incomplete", "unknown"), "free", "incomplete"),
        (later(item("active", "unknown")), item("incomplete", "glow_up"), "free", "incomplete"),
        (later(item("past_due", "fame_flex")), item("active", "glow_up"), "glow_up", "active"),
        (later(item("canceled", "fame_flex")), item("past_due", "glow_up"), "glow_up", "past_due"),
        (later(item("incomplete", "fame_flex")), item("canceled", "glow_up"), "glow_up", "canceled"),
        (later(item("active", "glow_up")), trialing, "fame_flex", "trialing"),
        (later(item("active", "glow_up")), item("active", "fame_flex"), "fame_flex", "active"),
    ] {
        let found = standing(&world([worse, better]), NOW);
        assert_eq!((found.1.as_str(), found.0.as_str()), (plan, status));
    }
}

#[test]
fn then_the_newest_then_the_lesser_id() {
    let ending = |day: &str, item: ClerkItem| ClerkItem { period_end: Some(t(day)), ..item };
    let newer = ClerkItem { created_at: Some(t("2025-03-02T00:00:00Z")), ..item("active", "glow_up") };
    let two = world([item("active", "glow_up"), ending("2025-05-01T00:00:00Z", newer)]);
    assert_eq!(two.subscription_row(NOW).subscription_renewal_date, Some(t("2025-05-01T00:00:00Z")));
    let two = world([item("active", "glow_up"), ending("2025-05-01T00:00:00Z", item("active", "glow_up"))]);
    assert_eq!(two.subscription_row(NOW).subscription_renewal_date, Some(t(PERIOD_END)));
}

#[test]
fn an_upcoming_item_is_the_intended_plan() {
    let starting = |plan: &str, start: &str| ClerkItem { period_start: Some(t(start)), ..item("upcoming", plan) };
    let downgrade = world([item("canceled", "fame_flex"), starting("glow_up", PERIOD_END)]);
    assert_eq!(standing(&downgrade, NOW), is("canceled", "fame_flex", Some("glow_up")));
    let to_free = world([item("active", "fame_flex"), ClerkItem { is_default_plan: true, ..starting("free", PERIOD_END) }]);
    assert_eq!(standing(&to_free, NOW), is("active", "fame_flex", Some("free")));
    let to_yearly = world([item("canceled", "fame_flex"), starting("fame_flex", PERIOD_END)]);
    assert_eq!(standing(&to_yearly, NOW), is("canceled", "fame_flex", None), "the plan goes on");
    let two = world([
        item("active", "fame_flex"),
        starting("viral_surge", "2025-05-01T00:00:00Z"),
        starting("glow_up", PERIOD_END),
        starting("unknown", "2025-03-15T00:00:00Z"),
    ]);
    assert_eq!(standing(&two, NOW), is("active", "fame_flex", Some("glow_up")), "the first that the catalog knows");
}

#[test]
fn of_two_that_begin_together_the_greater_plan_is_intended() {
    let both = world([item("upcoming", "glow_up"), item("upcoming", "fame_flex"), item("upcoming", "viral_surge")]);
    assert_eq!(standing(&both, NOW).2.as_deref(), Some("fame_flex"));
    let undated = ClerkItem { period_start: None, ..item("upcoming", "fame_flex") };
    assert_eq!(standing(&world([undated, item("upcoming", "glow_up")]), NOW).2.as_deref(), Some("glow_up"), "dated ones first");
}

#[test]
fn falling_back_to_a_default_plan_without_a_slug_is_falling_back_to_free() {
    let fallback = ClerkItem { plan_slug: None, ..default_item("upcoming") };
    assert_eq!(standing(&world([item("active", "glow_up"), fallback]), NOW), is("active", "glow_up", Some("free")));
}

#[test]
fn the_end_of_any_item_that_counts_is_a_change() {
    let sooner = ClerkItem { period_end: Some(t("2025-03-20T00:00:00Z")), ..item("canceled", "glow_up") };
    let over = ClerkItem { period_end: Some(t("2025-03-15T00:00:00Z")), ..item("ended", "glow_up") };
    let world = world([item("active", "fame_flex"), sooner, over]);
    assert_eq!(world.subscription_row(NOW).next_change_at, Some(t("2025-03-20T00:00:00Z")));
    assert_eq!(world.subscription_row("2025-03-20T00:00:00Z").next_change_at, Some(t(PERIOD_END)));
}

#[test]
fn a_default_plan_is_no_subscription() {
    let mut world = world([default_item("active")]);
    assert_eq!(standing(&world, NOW), is("none", "free", None));
    assert_eq!(world.subscription_row(NOW).next_change_at, None);
    world.put_item("csi_2", item("past_due", "glow_up"));
    assert_eq!(standing(&world, NOW), is("past_due", "glow_up", None));
}

#[test]
fn an_unknown_slug_or_status_needs_reconcile() {
    let unmapped = world([item("active", "unknown")]);
    assert_eq!(standing(&unmapped, NOW), is("active", "free", None));
    assert_eq!(unmapped.subscription_row(NOW).billing_sync_status, "needs_reconcile");
    assert_eq!(unmapped.alerts(NOW), [("unmapped_price", "csi_1".to_owned())]);
    let odd = world([item("a_status_of_2031", "glow_up")]);
    assert_eq!(standing(&odd, NOW), is("none", "free", None));
    assert_eq!(odd.alerts(NOW), [("unknown_status", "csi_1".to_owned())]);
    let unmapped_end = world([item("ended", "unknown")]);
    assert_eq!(unmapped_end.alerts(NOW), [("unmapped_price", "csi_1".to_owned())], "nothing else decides");
    let beside = world([item("ended", "unknown"), item("ended", "glow_up")]);
    assert_eq!(beside.alerts(NOW), [], "over, and not the best one");
    let mut beside_stripe = World::with([subscription("canceled", "glow_up")]);
    beside_stripe.put_item("csi_1", item("ended", "unknown"));
    assert_eq!(beside_stripe.alerts(NOW), [], "over, and Stripe decides");
    let known_default = world([ClerkItem { plan_slug: None, ..default_item("active") }]);
    assert_eq!(known_default.subscription_row(NOW).billing_sync_status, "synced");
}

#[test]
fn a_live_stripe_subscription_goes_before_any_item() {
    let mut world = world([item("active", "fame_flex")]);
    world.add_customer("cus_1", "2025-02-01T00:00:00Z");
    for status in ["incomplete", "paused", "active"] {
        world.put("sub_1", subscription(status, "glow_up"));
        assert_eq!(world.subscription_row(NOW).subscription_status, status);
    }
}

#[test]
fn a_dead_stripe_subscription_yields_to_an_item_that_counts() {
    let mut world = World::with([Subscription { ended_at: Some(t(NOW)), ..with_trial("canceled") }]);
    let mut method = PaymentMethod { customer: Some("cus_1".to_owned()), ..PaymentMethod::default() };
    method.card = Some(Default::default());
    world.put_method("pm_1", method);
    for (status, expected) in [
        ("active", is("active", "fame_flex", None)),
        ("past_due", is("past_due", "fame_flex", None)),
        ("incomplete", is("incomplete", "free", Some("fame_flex"))),
        ("canceled", is("canceled", "fame_flex", Some("free"))),
        ("upcoming", is("canceled", "free", None)),
        ("ended", is("canceled", "free", None)),
    ] {
        world.put_item("csi_1", item(status, "fame_flex"));
        assert_eq!(standing(&world, NOW), expected, "{status}");
        let rows = world.rows(NOW);
        assert_eq!(rows.billing.stripe_subscription_id.as_deref(), Some("sub_1"), "{status}");
        assert_eq!(rows.billing.payment_method_id.as_deref(), Some("pm_1"), "{status}");
        assert_eq!(rows.subscription.trial_status, "expired", "{status}: the trial was had at Stripe");
    }
    world.clerk.items.clear();
    world.put_item("csi_1", default_item("active"));
    assert_eq!(standing(&world, NOW), is("canceled", "free", None), "a default plan does not count");
    world.put_item("csi_1", item("canceled", "fame_flex"));
    assert_eq!(standing(&world, PERIOD_END), is("canceled", "free", None), "and takes over again at its end");
}

#[test]
fn a_request_after_the_last_items_end_counts() {
    let mut world = world([item("canceled", "glow_up")]);
    world.stored().requested_plan = Some("fame_flex".to_owned());
    world.stored().requested_at = Some(t("2025-04-02T00:00:00Z"));
    assert_eq!(standing(&world, NOW).2.as_deref(), Some("free"), "while it counts it is a live subscription");
    assert_eq!(standing(&world, "2025-04-03T00:00:00Z").2.as_deref(), Some("fame_flex"));
    world.stored().requested_at = Some(t(PERIOD_END));
    assert_eq!(standing(&world, "2025-04-03T00:00:00Z").2, None);
}

#[test]
fn the_last_items_end_is_the_latest() {
    let over = |status: &str, canceled: Option<&str>, end: Option<&str>| ClerkItem {
        canceled_at: canceled.map(t),
        period_end: end.map(t),
        ..item(status, "glow_up")
    };
    for (items, requested_at, counts) in [
        (vec![over("ended", Some("2025-03-05T00:00:00Z"), Some(PERIOD_END))], "2025-03-05T00:00:00Z", false),
        (vec![over("ended", Some("2025-03-05T00:00:00Z"), Some(PERIOD_END))], "2025-03-05T00:00:01Z", true),
        (vec![over("canceled", Some("2025-03-02T00:00:00Z"), Some("2025-03-06T00:00:00Z"))], "2025-03-05T00:00:00Z", false),
        (vec![over("canceled", Some("2025-03-02T00:00:00Z"), None)], "2025-03-02T00:00:00Z", false),
        (vec![over("canceled", Some("2025-03-02T00:00:00Z"), None)], "2025-03-02T00:00:01Z", true),
        (vec![over("abandoned", None, None)], "2025-02-28T00:00:00Z", false),
        (vec![over("abandoned", None, None)], "2025-03-02T00:00:00Z", true),
        (
            vec![over("ended", None, Some("2025-03-05T00:00:00Z")), over("expired", None, Some("2025-03-03T00:00:00Z"))],
            "2025-03-04T00:00:00Z",
            false,
        ),
    ] {
        let mut world = world(items);
        world.stored().requested_plan = Some("fame_flex".to_owned());
        world.stored().requested_at = Some(t(requested_at));
        let expected = counts.then(|| "fame_flex".to_owned());
        assert_eq!(standing(&world, NOW), ("none".to_owned(), "free".to_owned(), expected), "{requested_at}");
    }
}

#[test]
fn an_unmapped_item_to_come_is_no_end() {
    let mut world = world([ClerkItem { period_start: Some(t(PERIOD_END)), ..item("upcoming", "unknown") }]);
    world.stored().requested_plan = Some("fame_flex".to_owned());
    world.stored().requested_at = Some(t(NOW));
    assert_eq!(standing(&world, NOW).2.as_deref(), Some("fame_flex"));
}

#[test]
fn messages_are_about_the_item() {
    let entry = |world: &World, now: &str, key: &str| {
        world.rows(now).system.email_schedule_status.get(key).map(|entry| (entry.due_at.unwrap(), entry.active))
    };
    let trial = on_trial("active");
    assert_eq!(entry(&trial, NOW, "trial_ending:csi_1"), Some((t("2025-03-12T00:00:00Z"), true)));
    assert_eq!(entry(&trial, NOW, "trial_ended:csi_1"), Some((t(TRIAL_END), false)));
    assert_eq!(entry(&trial, TRIAL_END, "trial_ending:csi_1").map(|e| e.1), Some(false));
    assert_eq!(entry(&trial, "2025-03-18T00:00:00Z", "trial_ended:csi_1").map(|e| e.1), Some(true));
    let past_due = ClerkItem { past_due_at: Some(t(NOW)), ..item("past_due", "glow_up") };
    let older = ClerkItemTrial { item_id: "csi_0".to_owned(), period_end: Some(t(NOW)), ..ClerkItemTrial::default() };
    let mut second = on_trial("ended");
    second.put_item("csi_0", ClerkItem { created_at: Some(t("2025-02-01T00:00:00Z")), ..item("ended", "glow_up") });
    second.clerk.trials.insert("csi_0".to_owned(), known("csi_0#trial", older));
    assert_eq!(entry(&second, NOW, "trial_ended:csi_1").map(|e| e.1), Some(true), "the newest that had one");
    assert_eq!(entry(&second, NOW, "trial_ended:csi_0").map(|e| e.1), Some(false), "only the row's trial is active");
    let world = world([past_due.clone(), ClerkItem { status: "active".to_owned(), ..past_due }]);
    assert_eq!(entry(&world, NOW, "payment_failed:csi_1"), Some((t(NOW), true)));
    assert_eq!(entry(&world, NOW, "payment_failed:csi_2"), None);
}
