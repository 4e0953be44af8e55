//! Every row of the table of statuses: which plan is in force, which is intended, whose limits count.

use super::*;

const NOW: &str = "2025-03-10T00:00:00Z";

/// `(status, current_plan, intended_plan, campaigns limit)` of a subscription to `glow_up`.
const TABLE: [(&str, &str, Option<&str>, i32); 9] = [
    ("incomplete", "free", Some("glow_up"), 0),
    ("incomplete_expired", "free", None, 0),
    ("canceled", "free", None, 0),
    ("trialing", "glow_up", None, 3),
    ("active", "glow_up", None, 3),
    ("past_due", "glow_up", None, 3),
    ("a_status_of_2031", "glow_up", None, 3),
    ("unpaid", "free", Some("glow_up"), 0),
    ("paused", "free", Some("glow_up"), 0),
];

#[test]
fn each_status_has_its_plan_and_limits() {
    for (status, current, intended, campaigns) in TABLE {
        let rows = World::with([subscription(status, "glow_up")]).rows(NOW);
        let row = rows.subscription;
        assert_eq!((row.current_plan.as_str(), row.intended_plan.as_deref()), (current, intended), "{status}");
        assert_eq!(row.subscription_status, status);
        assert_eq!(rows.usage.plan_campaigns_limit, campaigns, "{status}");
        assert_eq!(rows.usage.plan_features, json!({ "plan": current }), "{status}");
        assert_eq!(rows.usage.reset_held, status == "past_due", "{status}");
    }
}

#[test]
fn without_a_subscription_the_status_is_none_and_the_plan_free() {
    for world in [World::new(), World::with_customer()] {
        let rows = world.rows(NOW);
        assert_eq!(rows.subscription.subscription_status, "none");
        assert_eq!(rows.subscription.current_plan, "free");
        assert_eq!(rows.subscription.intended_plan, None);
        assert_eq!(rows.usage.plan_creators_limit, 0);
    }
}

#[test]
fn pause_collection_changes_neither_plan_nor_status() {
    let paused = Subscription { pause_collection: true, ..subscription("active", "glow_up") };
    let row = World::with([paused]).subscription_row(NOW);
    assert_eq!((row.current_plan.as_str(), row.subscription_status.as_str()), ("glow_up", "active"));
}

#[test]
fn a_deleted_customer_ends_what_was_live_and_leaves_what_was_dead() {
    for (status, expected) in [
        ("active", "canceled"),
        ("incomplete", "canceled"),
        ("a_status_of_2031", "canceled"),
        ("canceled", "canceled"),
        ("incomplete_expired", "incomplete_expired"),
    ] {
        let mut world = World::with([Subscription { ended_at: Some(t("2025-02-20T00:00:00Z")), ..with_trial(status) }]);
        if Subscription::default().ended_at.is_none() && !["canceled", "incomplete_expired"].contains(&status) {
            world.put("sub_1", with_trial(status));
        }
        world.customers[0].deleted_at = Some(t("2025-03-05T00:00:00Z"));
        let row = world.subscription_row(NOW);
        assert_eq!(row.subscription_status, expected, "{status}");
        assert_eq!(row.current_plan, "free");
        let ended =
            if ["canceled", "incomplete_expired"].contains(&status) { "2025-02-20T00:00:00Z" } else { "2025-03-05T00:00:00Z" };
        assert_eq!(row.subscription_cancel_date, Some(t(ended)), "{status}");
        assert_eq!(row.trial_end_date, Some(t(ended)), "{status}");
        assert_eq!(world.rows(NOW).billing.stripe_customer_id.as_deref(), Some("cus_1"));
    }
}

#[test]
fn a_price_maps_by_id_then_product_then_lookup_key_then_metadata() {
    let price = |id: &str, product: &str, lookup: &str, key: &str| Price {
        id: Some(id.to_owned()),
        product: Some(product.to_owned()),
        lookup_key: Some(lookup.to_owned()),
        plan_key: Some(key.to_owned()),
    };
    for (price, plan) in [
        (price("price_glow_up_yearly", "prod_fame_flex", "fame_flex", "fame_flex"), "glow_up"),
        (price("price_old", "prod_viral_surge", "fame_flex", "fame_flex"), "viral_surge"),
        (price("price_old", "prod_old", "fame_flex", "glow_up"), "fame_flex"),
        (price("price_old", "prod_old", "old", "glow_up"), "glow_up"),
        (price("price_old", "prod_old", "old", "old"), "free"),
    ] {
        let item = SubscriptionItem { price, ..item("none") };
        let world = World::with([Subscription { items: vec![item], ..subscription("active", "none") }]);
        assert_eq!(world.subscription_row(NOW).current_plan, plan);
    }
}

#[test]
fn of_several_items_the_highest_display_order_decides() {
    let items = vec![item("unknown"), item("glow_up"), item("fame_flex"), item("viral_surge")];
    let world = World::with([Subscription { items, ..subscription("active", "none") }]);
    assert_eq!(world.subscription_row(NOW).current_plan, "fame_flex");
    assert_eq!(world.subscription_row(NOW).billing_sync_status, "synced");
}

#[test]
fn an_unmapped_price_gives_the_plan_of_the_setting() {
    let mut world = World::with([subscription("active", "unknown")]);
    world.rules.unmapped_plan = "glow_up".to_owned();
    let rows = world.rows(NOW);
    assert_eq!(rows.subscription.current_plan, "glow_up");
    assert_eq!(rows.usage.plan_creators_limit, 1000);
    assert_eq!(rows.subscription.billing_sync_status, "needs_reconcile");
    assert_eq!(world.alerts(NOW), [("unmapped_price", "sub_1".to_owned())]);
}

#[test]
fn a_subscription_without_items_is_unmapped() {
    let world = World::with([Subscription { items: Vec::new(), ..subscription("active", "none") }]);
    assert_eq!(world.subscription_row(NOW).billing_sync_status, "needs_reconcile");
}

#[test]
fn a_catalog_without_a_free_plan_grants_nothing() {
    let mut world = World::new();
    world.catalog = Catalog::default();
    let usage = world.rows(NOW).usage;
    assert_eq!((usage.plan_campaigns_limit, usage.plan_creators_limit, usage.plan_features), (0, 0, json!({})));
}

#[test]
fn a_plan_key_that_no_column_holds_becomes_the_free_plan() {
    let mut world = World::with([subscription("active", "unknown")]);
    world.rules.unmapped_plan = "é".repeat(50);
    assert_eq!(world.subscription_row(NOW).current_plan, "é".repeat(50));
    world.rules.unmapped_plan = "é".repeat(51);
    assert_eq!(world.subscription_row(NOW).current_plan, "free");
}
