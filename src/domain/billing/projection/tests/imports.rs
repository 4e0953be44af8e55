//! Imported rows: they speak while no provider has said anything of the user.

use super::*;
use crate::domain::billing::facts::{Address, Card};

const NOW: &str = "2025-03-10T00:00:00Z";

fn import() -> Import {
    Import {
        imported_at: Some(t("2025-03-01T00:00:00Z")),
        email: Some("old@example.com".to_owned()),
        full_name: Some("Old Name".to_owned()),
        signup_timestamp: Some(t("2024-06-01T00:00:00Z")),
        current_plan: Some("viral_surge".to_owned()),
        intended_plan: None,
        subscription_status: Some("active".to_owned()),
        trial_status: Some("converted".to_owned()),
        trial_start_date: Some(t("2024-06-01T00:00:00Z")),
        trial_end_date: Some(t("2024-06-08T00:00:00Z")),
        trial_conversion_date: Some(t("2024-06-08T01:00:00Z")),
        subscription_cancel_date: None,
        subscription_renewal_date: Some(t("2025-04-08T00:00:00Z")),
        stripe_customer_id: Some("cus_1".to_owned()),
        stripe_subscription_id: Some("sub_1".to_owned()),
        payment_method_id: Some("pm_1".to_owned()),
        card: Card { last_4: Some("4242".to_owned()), ..Card::default() },
        address: Address { country: Some("DE".to_owned()), ..Address::default() },
    }
}

/// An imported user whose customer is linked, and of whom no provider has said anything.
fn imported() -> World {
    let mut world = World::new();
    world.user = None;
    world.import = Some(import());
    world.customers.push(CustomerFacts { customer_id: "cus_1".to_owned(), ..CustomerFacts::default() });
    world
}

#[test]
fn the_old_rows_are_the_rows() {
    let rows = imported().rows(NOW);
    let row = rows.subscription;
    assert_eq!((row.current_plan.as_str(), row.subscription_status.as_str()), ("viral_surge", "active"));
    assert_eq!((row.trial_status.as_str(), row.trial_conversion_date), ("converted", Some(t("2024-06-08T01:00:00Z"))));
    assert_eq!(row.subscription_renewal_date, Some(t("2025-04-08T00:00:00Z")));
    assert_eq!(row.billing_sync_status, "synced");
    assert_eq!(rows.usage.plan_creators_limit, 10_000);
    assert_eq!(rows.user.email.as_deref(), Some("old@example.com"));
    assert_eq!(rows.system.signup_timestamp, Some(t("2024-06-01T00:00:00Z")));
    assert_eq!(rows.billing.stripe_customer_id.as_deref(), Some("cus_1"));
    assert_eq!(rows.billing.stripe_subscription_id.as_deref(), Some("sub_1"));
    assert_eq!(rows.billing.card.last_4.as_deref(), Some("4242"));
    assert_eq!(rows.billing.address.country.as_deref(), Some("DE"));
    assert!(rows.system.email_schedule_status["trial_ended:sub_1"].suppressed);
}

#[test]
fn a_running_trial_anchors_the_usage_and_reminds() {
    let mut world = imported();
    let trial = |status: &str| Import {
        subscription_status: Some(status.to_owned()),
        trial_status: Some("active".to_owned()),
        trial_start_date: Some(t("2025-03-05T00:00:00Z")),
        trial_end_date: Some(t("2025-03-19T00:00:00Z")),
        ..import()
    };
    for (status, anchor, reminds) in [("trialing", "2025-03-05T00:00:00Z", true), ("active", "2024-06-01T00:00:00Z", false)] {
        world.import = Some(trial(status));
        let rows = world.rows(NOW);
        assert_eq!(rows.usage.usage_anchor, Some(t(anchor)), "{status}");
        let entry = &rows.system.email_schedule_status["trial_ending:sub_1"];
        assert_eq!((entry.due_at, entry.active, entry.suppressed), (Some(t("2025-03-16T00:00:00Z")), reminds, false), "{status}");
        assert_eq!(rows.subscription.next_change_at, Some(t("2025-03-16T00:00:00Z")));
    }
}

#[test]
fn its_customer_and_subscription_leave_with_the_link() {
    let mut world = imported();
    world.customers.clear();
    let rows = world.rows(NOW);
    assert_eq!((rows.billing.stripe_customer_id, rows.billing.stripe_subscription_id), (None, None));
    assert_eq!(rows.billing.card.last_4.as_deref(), Some("4242"));
    assert_eq!(rows.subscription.current_plan, "viral_surge");
    assert_eq!(rows.subscription.billing_sync_status, "not_linked");
    world.customers.push(CustomerFacts { customer_id: "cus_2".to_owned(), ..CustomerFacts::default() });
    let billing = world.rows(NOW).billing;
    assert_eq!((billing.stripe_customer_id.as_deref(), billing.stripe_subscription_id), (Some("cus_2"), None));
}

#[test]
fn any_stripe_fact_silences_it() {
    let mut world = imported();
    world.customers[0].has_facts = true;
    let rows = world.rows(NOW);
    assert_eq!((rows.subscription.current_plan.as_str(), rows.subscription.subscription_status.as_str()), ("free", "none"));
    assert_eq!(rows.billing.card, Card::default());
    assert_eq!(rows.user.email.as_deref(), Some("old@example.com"), "the person is still the import's");
}

#[test]
fn any_clerk_billing_fact_silences_it() {
    let mut world = imported();
    world.put_item("csi_1", ClerkItem { status: "active".to_owned(), is_default_plan: true, ..ClerkItem::default() });
    assert_eq!(world.rows(NOW).subscription.subscription_status, "none");
    let mut world = imported();
    world.clerk.trials.insert("csi_1".to_owned(), known("csi_1#trial", Default::default()));
    assert_eq!(world.rows(NOW).subscription.subscription_status, "none");
    let mut world = imported();
    world.clerk.attempts.insert("pay_1".to_owned(), known("pay_1", Default::default()));
    assert_eq!(world.rows(NOW).subscription.subscription_status, "none");
}

#[test]
fn clerks_user_goes_before_it() {
    let mut world = imported();
    world.user = World::new().user;
    let rows = world.rows(NOW);
    assert_eq!(rows.user.email.as_deref(), Some("ann@example.com"));
    assert_eq!(rows.system.signup_timestamp, Some(t("2025-01-10T08:00:00Z")));
    assert_eq!(rows.subscription.current_plan, "viral_surge");
}

#[test]
fn an_empty_import_is_the_free_plan() {
    let mut world = imported();
    world.import = Some(Import::default());
    let row = world.subscription_row(NOW);
    assert_eq!((row.current_plan.as_str(), row.subscription_status.as_str()), ("free", "none"));
    assert_eq!((row.trial_status.as_str(), row.billing_sync_status.as_str()), ("pending", "pending"));
}

#[test]
fn a_later_request_shows_once_the_import_is_dead() {
    let mut world = imported();
    world.stored().requested_plan = Some("fame_flex".to_owned());
    world.stored().requested_at = Some(t("2025-03-02T00:00:00Z"));
    assert_eq!(world.subscription_row(NOW).intended_plan, None);
    let canceled = |ended: &str| Import {
        subscription_status: Some("canceled".to_owned()),
        subscription_cancel_date: Some(t(ended)),
        ..import()
    };
    world.import = Some(canceled("2025-03-01T00:00:00Z"));
    assert_eq!(world.subscription_row(NOW).intended_plan.as_deref(), Some("fame_flex"));
    world.import = Some(canceled("2025-03-03T00:00:00Z"));
    assert_eq!(world.subscription_row(NOW).intended_plan, None);
}

#[test]
fn values_wider_than_their_columns_do_not_fail() {
    let mut world = imported();
    world.import = Some(Import {
        current_plan: Some("p".repeat(51)),
        intended_plan: Some("p".repeat(51)),
        trial_status: Some("t".repeat(21)),
        ..import()
    });
    let row = world.subscription_row(NOW);
    assert_eq!((row.current_plan.as_str(), row.intended_plan, row.trial_status.as_str()), ("free", None, "pending"));
}
