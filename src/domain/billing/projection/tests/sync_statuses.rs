//! `billing_sync_status`: the first of its reasons that holds, and what people are told.

use super::*;
use crate::domain::billing::facts::{CheckoutSession, ClerkPaymentAttempt, SubscriptionSchedule};

const NOW: &str = "2025-03-10T00:00:00Z";

fn sync(world: &World) -> String {
    world.subscription_row(NOW).billing_sync_status
}

fn newest(failed: bool) -> Option<NewestEvent> {
    Some(NewestEvent { at: t(NOW), event_id: "evt_1".to_owned(), event_type: "invoice.paid".to_owned(), failed })
}

#[test]
fn a_failed_newest_event_is_an_error_before_all_else() {
    let mut world = World::with([subscription("active", "unknown")]);
    world.newest = newest(true);
    assert_eq!(sync(&world), "error");
    world.newest = newest(false);
    assert_eq!(sync(&world), "needs_reconcile");
    let mut unlinked = World::new();
    unlinked.newest = newest(true);
    assert_eq!(sync(&unlinked), "error");
}

#[test]
fn what_is_not_understood_of_a_live_or_primary_subscription_needs_reconcile() {
    let world = World::with([subscription("active", "glow_up"), subscription("paused", "unknown")]);
    assert_eq!(sync(&world), "needs_reconcile", "live, but not the primary one");
    assert_eq!(world.alerts(NOW), [("unmapped_price", "sub_2".to_owned())]);
    let world = World::with([subscription("active", "glow_up"), subscription("canceled", "unknown")]);
    assert_eq!(sync(&world), "synced", "dead, and not the primary one");
    let world = World::with([subscription("canceled", "unknown")]);
    assert_eq!(sync(&world), "needs_reconcile", "dead, but the primary one");
    let world = World::with([subscription("active", "glow_up"), subscription("a_status_of_2031", "glow_up")]);
    assert_eq!(sync(&world), "needs_reconcile");
    assert_eq!(world.alerts(NOW), [("unknown_status", "sub_2".to_owned())]);
}

#[test]
fn doubt_about_an_object_that_was_read_needs_reconcile() {
    let mut world = World::with([subscription("active", "glow_up")]);
    world.customers[0].subscriptions.get_mut("sub_1").unwrap().ambiguous = true;
    assert_eq!(sync(&world), "needs_reconcile");
    let mut world = World::with([subscription("active", "glow_up")]);
    world.customers[0].customer.as_mut().unwrap().ambiguous = true;
    assert_eq!(sync(&world), "needs_reconcile");
    let mut world = World::with([subscription("active", "glow_up")]);
    world.user.as_mut().unwrap().ambiguous = true;
    assert_eq!(sync(&world), "needs_reconcile");
}

#[test]
fn doubt_about_a_payment_method_counts_if_it_was_looked_at() {
    let method = PaymentMethod { customer: Some("cus_1".to_owned()), ..PaymentMethod::default() };
    let mut world = World::with([subscription("active", "glow_up")]);
    world.put_method("pm_1", method);
    world.customers[0].payment_methods.get_mut("pm_1").unwrap().ambiguous = true;
    assert_eq!(sync(&world), "synced");
    world.customer().default_payment_method = Some("pm_1".to_owned());
    assert_eq!(sync(&world), "needs_reconcile");
}

#[test]
fn doubt_about_a_session_or_schedule_counts_where_it_is_read() {
    let mut world = World::with_customer();
    let session = CheckoutSession { mode: Some("subscription".to_owned()), ..CheckoutSession::default() };
    world.customers[0].sessions.insert("cs_1".to_owned(), Known { ambiguous: true, ..known("cs_1", session) });
    assert_eq!(sync(&world), "needs_reconcile");
    world.put("sub_1", subscription("active", "glow_up"));
    assert_eq!(sync(&world), "synced", "with a live subscription no session is read");
    let schedule = |of: &str| SubscriptionSchedule { subscription: Some(of.to_owned()), ..SubscriptionSchedule::default() };
    world.customers[0].schedules.insert("s_1".to_owned(), Known { ambiguous: true, ..known("s_1", schedule("sub_2")) });
    assert_eq!(sync(&world), "synced", "another subscription's schedule is not read");
    world.customers[0].schedules.insert("s_1".to_owned(), Known { ambiguous: true, ..known("s_1", schedule("sub_1")) });
    assert_eq!(sync(&world), "needs_reconcile");
}

#[test]
fn doubt_about_a_payment_attempt_counts_if_its_item_had_a_trial() {
    let mut world = World::new();
    world.put_item(
        "csi_1",
        ClerkItem { status: "active".to_owned(), plan_slug: Some("glow_up".to_owned()), ..ClerkItem::default() },
    );
    let item_starts = std::collections::BTreeMap::from([("csi_1".to_owned(), t(NOW))]);
    let attempt = ClerkPaymentAttempt { item_starts, ..ClerkPaymentAttempt::default() };
    world.clerk.attempts.insert("pay_1".to_owned(), Known { ambiguous: true, ..known("pay_1", attempt) });
    assert_eq!(sync(&world), "synced");
    let slot = crate::domain::billing::facts::ClerkItemTrial { item_id: "csi_1".to_owned(), ..Default::default() };
    world.clerk.trials.insert("csi_1".to_owned(), known("csi_1#trial", slot));
    assert_eq!(sync(&world), "needs_reconcile");
    world.clerk.attempts.clear();
    assert_eq!(sync(&world), "synced");
    world.clerk.trials.get_mut("csi_1").unwrap().ambiguous = true;
    assert_eq!(sync(&world), "needs_reconcile");
}

#[test]
fn nobodys_customer_is_not_linked() {
    assert_eq!(sync(&World::new()), "not_linked");
}

#[test]
fn a_customer_without_a_finished_subscription_is_pending() {
    assert_eq!(sync(&World::with_customer()), "pending");
    for status in ["incomplete", "incomplete_expired"] {
        assert_eq!(sync(&World::with([subscription(status, "glow_up")])), "pending", "{status}");
    }
    for status in ["trialing", "active", "past_due", "unpaid", "paused", "canceled"] {
        let world = World::with([subscription("incomplete", "glow_up"), subscription(status, "glow_up")]);
        assert_eq!(sync(&world), "synced", "{status}");
    }
}

#[test]
fn a_clerk_item_counts_as_a_subscription_unless_its_plan_is_a_default_one() {
    let item = |is_default_plan| ClerkItem {
        status: "active".to_owned(),
        plan_slug: Some("glow_up".to_owned()),
        is_default_plan,
        ..ClerkItem::default()
    };
    let mut world = World::new();
    world.put_item("csi_1", item(true));
    assert_eq!(sync(&world), "synced", "somebody without a customer who has the default plan lacks nothing");
    let mut world = World::with_customer();
    world.put_item("csi_1", item(true));
    assert_eq!(sync(&world), "pending");
    world.put_item("csi_1", item(false));
    assert_eq!(sync(&world), "synced");
    world.put_item("csi_1", ClerkItem { status: "incomplete".to_owned(), ..item(false) });
    assert_eq!(sync(&world), "pending");
}

#[test]
fn a_deleted_users_live_subscription_is_an_alert() {
    let mut world = World::with([subscription("paused", "glow_up")]);
    assert_eq!(world.alerts(NOW), []);
    world.user.as_mut().unwrap().deleted_at = Some(t(NOW));
    assert_eq!(world.alerts(NOW), [("deleted_user_with_live_subscription", USER.to_owned())]);
    world.put("sub_1", subscription("canceled", "glow_up"));
    assert_eq!(world.alerts(NOW), []);
}
