//! `users`, `user_system_data` and the usage row's anchor.

use super::*;

const NOW: &str = "2025-03-10T00:00:00Z";

#[test]
fn the_user_is_as_clerk_says() {
    let rows = World::new().rows(NOW);
    assert_eq!(rows.user.email.as_deref(), Some("ann@example.com"));
    assert_eq!(rows.user.full_name.as_deref(), Some("Ann Example"));
    assert_eq!(rows.user.deleted_at, None);
    assert_eq!(rows.system.signup_timestamp, Some(t("2025-01-10T08:00:00Z")));
}

#[test]
fn a_deleted_user_has_no_name_and_keeps_the_billing_rows() {
    let mut world = World::with([subscription("active", "glow_up")]);
    world.import = Some(Import { email: Some("old@example.com".to_owned()), ..Import::default() });
    world.user.as_mut().unwrap().deleted_at = Some(t(NOW));
    let rows = world.rows(NOW);
    assert_eq!((rows.user.email, rows.user.full_name, rows.user.deleted_at), (None, None, Some(t(NOW))));
    assert_eq!(rows.subscription.current_plan, "glow_up");
    assert_eq!(rows.system.signup_timestamp, Some(t("2025-01-10T08:00:00Z")));
}

#[test]
fn the_newest_event_is_shown_unless_its_type_does_not_fit() {
    let mut world = World::new();
    let event = |event_type: String| NewestEvent { at: t(NOW), event_id: "evt_1".to_owned(), event_type, failed: false };
    for (length, fits) in [(100, true), (101, false)] {
        world.newest = Some(event("x".repeat(length)));
        let system = world.rows(NOW).system;
        assert_eq!(system.last_webhook_event.is_some(), fits);
        assert_eq!(system.last_webhook_timestamp, Some(t(NOW)));
    }
}

#[test]
fn usage_months_are_counted_from_the_status_own_anchor() {
    let signup = "2025-01-10T08:00:00Z";
    let cycle = "2025-02-01T00:00:00Z";
    for (status, anchor) in [
        ("trialing", "2025-03-01T00:00:00Z"),
        ("active", cycle),
        ("past_due", cycle),
        ("unpaid", signup),
        ("paused", signup),
        ("incomplete", signup),
        ("canceled", signup),
        ("incomplete_expired", signup),
        ("a_status_of_2031", signup),
    ] {
        assert_eq!(World::with([with_trial(status)]).rows(NOW).usage.usage_anchor, Some(t(anchor)), "{status}");
    }
    assert_eq!(World::new().rows(NOW).usage.usage_anchor, Some(t(signup)));
}

#[test]
fn without_a_signup_the_row_itself_is_the_anchor() {
    let mut world = World::new();
    world.user = None;
    assert_eq!(world.rows(NOW).usage.usage_anchor, Some(t(NOW)));
    world.stored();
    assert_eq!(world.rows(NOW).usage.usage_anchor, Some(t("2025-01-10T08:00:05Z")));
    assert_eq!(world.rows(NOW).system.signup_timestamp, None);
}

#[test]
fn a_reset_that_is_due_happens_with_the_projection() {
    let mut world = World::with([subscription("active", "glow_up")]);
    let first = world.project(t(NOW));
    assert_eq!(first.usage_reset, None);
    assert_eq!(first.rows.usage.usage_reset_date, Some(t("2025-04-01T00:00:00Z")));
    world.stored().rows = first.rows;
    let second = world.project(t("2025-04-01T00:00:00Z"));
    assert_eq!(second.usage_reset.unwrap().period_start, t("2025-03-01T00:00:00Z"));
    assert_eq!(second.rows.usage.usage_period_start, Some(t("2025-04-01T00:00:00Z")));
}
