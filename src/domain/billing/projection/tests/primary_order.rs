//! Every rung of the order that makes one of several subscriptions the primary one.

use super::*;

const NOW: &str = "2025-03-10T00:00:00Z";

/// The id of the primary subscription of these, whichever customer and position they have.
fn primary(first: Subscription, second: Subscription) -> String {
    let id = |world: &World| world.rows(NOW).billing.stripe_subscription_id.unwrap();
    let forward = id(&World::with([first.clone(), second.clone()]));
    let mut apart = World::with([first]);
    apart.add_customer("cus_2", "2025-03-01T00:00:00Z");
    apart.customers[1].subscriptions.insert("sub_2".to_owned(), known("sub_2", second));
    assert_eq!(id(&apart), forward, "two customers' subscriptions compare like one's");
    apart.customers.reverse();
    assert_eq!(id(&apart), forward);
    forward
}

fn created(text: &str, subscription: Subscription) -> Subscription {
    Subscription { created: Some(t(text)), ..subscription }
}

#[test]
fn live_before_dead_even_when_unmapped_and_older() {
    let dead = created("2025-03-09T00:00:00Z", subscription("canceled", "fame_flex"));
    let live = created("2020-01-01T00:00:00Z", subscription("incomplete", "unknown"));
    assert_eq!(primary(dead, live), "sub_2");
}

#[test]
fn a_deleted_customers_subscription_is_dead() {
    let mut world = World::with([subscription("active", "fame_flex")]);
    world.customers[0].deleted_at = Some(t("2025-03-01T00:00:00Z"));
    world.add_customer("cus_2", "2024-01-01T00:00:00Z");
    world.customers[1].subscriptions.insert("sub_2".to_owned(), known("sub_2", subscription("paused", "glow_up")));
    let rows = world.rows(NOW);
    assert_eq!(rows.billing.stripe_subscription_id.as_deref(), Some("sub_2"));
    assert_eq!(rows.billing.stripe_customer_id.as_deref(), Some("cus_2"));
}

#[test]
fn mapped_before_unmapped() {
    assert_eq!(primary(subscription("active", "unknown"), subscription("incomplete", "glow_up")), "sub_2");
}

#[test]
fn then_the_status() {
    let ranks: [&[&str]; 7] = [
        &["active", "trialing"],
        &["past_due", "a_status_of_2031"],
        &["unpaid"],
        &["paused"],
        &["incomplete"],
        &["canceled"],
        &["incomplete_expired"],
    ];
    for (index, better) in ranks.iter().enumerate() {
        for worse in &ranks[index + 1..] {
            for (better, worse) in better.iter().flat_map(|b| worse.iter().map(move |w| (b, w))) {
                let better = subscription(better, "glow_up");
                // A greater plan and a later creation do not outweigh the status.
                let worse = created("2025-03-09T00:00:00Z", subscription(worse, "fame_flex"));
                assert_eq!(primary(worse.clone(), better.clone()), "sub_2", "{} over {}", better.status, worse.status);
            }
        }
    }
}

#[test]
fn then_the_display_order_within_a_rank_of_statuses() {
    let newer = created("2025-03-09T00:00:00Z", subscription("active", "glow_up"));
    assert_eq!(primary(newer, subscription("trialing", "fame_flex")), "sub_2");
    let newer = created("2025-03-09T00:00:00Z", subscription("past_due", "glow_up"));
    assert_eq!(primary(newer, subscription("a_status_of_2031", "fame_flex")), "sub_2");
}

#[test]
fn then_active_before_trialing() {
    let newer = created("2025-03-09T00:00:00Z", subscription("trialing", "glow_up"));
    assert_eq!(primary(newer, subscription("active", "glow_up")), "sub_2");
}

#[test]
fn then_the_newest() {
    let newer = created("2025-02-02T00:00:00Z", subscription("active", "glow_up"));
    assert_eq!(primary(subscription("active", "glow_up"), newer.clone()), "sub_2");
    let undated = Subscription { created: None, ..newer.clone() };
    assert_eq!(primary(undated, newer), "sub_2");
}

#[test]
fn then_the_lesser_id() {
    assert_eq!(primary(subscription("active", "glow_up"), subscription("active", "glow_up")), "sub_1");
}

#[test]
fn the_end_of_an_old_subscription_downgrades_nobody() {
    let old = Subscription { ended_at: Some(t("2025-03-09T00:00:00Z")), ..subscription("canceled", "fame_flex") };
    let row = World::with([old, subscription("active", "glow_up")]).subscription_row(NOW);
    assert_eq!((row.current_plan.as_str(), row.subscription_status.as_str()), ("glow_up", "active"));
    assert_eq!(row.subscription_cancel_date, None);
}
