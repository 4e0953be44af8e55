//! Which customer, card and address stand in `user_billing`: every rung of the chain.

use super::*;
use crate::domain::billing::facts::{Address, Card};

const NOW: &str = "2025-03-10T00:00:00Z";

fn card(last_4: &str) -> PaymentMethod {
    PaymentMethod {
        customer: Some("cus_1".to_owned()),
        kind: "card".to_owned(),
        card: Some(Card {
            last_4: Some(last_4.to_owned()),
            brand: Some("visa".to_owned()),
            exp_month: Some(12),
            exp_year: Some(2030),
        }),
        ..PaymentMethod::default()
    }
}

fn address(city: &str) -> Option<Address> {
    Some(Address { city: Some(city.to_owned()), ..Address::default() })
}

/// A user whose four defaults name `pm_1`, `card_2`, `pm_3` and `src_4`, with a fifth card attached.
fn everything() -> World {
    let mut world = World::with([Subscription {
        default_payment_method: Some("pm_1".to_owned()),
        default_source: Some("card_2".to_owned()),
        ..subscription("active", "glow_up")
    }]);
    world.customer().default_payment_method = Some("pm_3".to_owned());
    world.customer().default_source = Some("src_4".to_owned());
    for (id, last_4) in [("pm_1", "0001"), ("card_2", "0002"), ("pm_3", "0003"), ("src_4", "0004"), ("pm_5", "0005")] {
        world.put_method(id, card(last_4));
    }
    world
}

fn chosen(world: &World) -> (Option<String>, Option<String>) {
    let billing = world.rows(NOW).billing;
    (billing.payment_method_id, billing.card.last_4)
}

fn is(id: &str, last_4: &str) -> (Option<String>, Option<String>) {
    (Some(id.to_owned()), Some(last_4.to_owned()))
}

#[test]
fn the_defaults_come_in_order_and_detached_ones_are_skipped() {
    let mut world = everything();
    for (id, last_4, next) in
        [("pm_1", "0001", "card_2"), ("card_2", "0002", "pm_3"), ("pm_3", "0003", "src_4"), ("src_4", "0004", "pm_5")]
    {
        assert_eq!(chosen(&world), is(id, last_4));
        world.put_method(id, PaymentMethod { detached: true, ..card(last_4) });
        world.customers[0].attached_cards.remove(id);
        assert_eq!(chosen(&world).0.as_deref(), Some(next));
    }
    assert_eq!(chosen(&world), is("pm_5", "0005"), "the one attached card");
}

#[test]
fn deleted_and_unattached_ones_are_skipped_too() {
    let mut world = everything();
    world.customers[0].payment_methods.get_mut("pm_1").unwrap().deleted_at = Some(t(NOW));
    assert_eq!(chosen(&world), is("card_2", "0002"));
    world.put_method("card_2", PaymentMethod { customer: None, ..card("0002") });
    assert_eq!(chosen(&world), is("pm_3", "0003"));
}

#[test]
fn an_empty_id_names_nothing() {
    let mut world = everything();
    world.put("sub_1", Subscription { default_payment_method: Some(String::new()), ..subscription("active", "glow_up") });
    assert_eq!(chosen(&world), is("pm_3", "0003"));
}

#[test]
fn a_card_that_another_customer_of_the_user_has_is_known() {
    let mut world = everything();
    world.add_customer("cus_2", "2025-02-01T00:00:00Z");
    let moved = world.customers[0].payment_methods.remove("pm_1").unwrap();
    world.customers[1].payment_methods.insert("pm_1".to_owned(), moved);
    assert_eq!(chosen(&world), is("pm_1", "0001"));
}

#[test]
fn one_attached_card_counts_two_do_not() {
    let mut world = World::with([subscription("active", "glow_up")]);
    assert_eq!(chosen(&world), (None, None));
    world.put_method("pm_1", card("0001"));
    assert_eq!(chosen(&world), is("pm_1", "0001"));
    world.put_method("pm_2", card("0002"));
    assert_eq!(chosen(&world), (None, None));
}

#[test]
fn an_unknown_id_is_kept_and_asked_for() {
    let mut world = everything();
    world.customers[0].payment_methods.remove("pm_1");
    let projected = world.project(t(NOW));
    assert_eq!(projected.rows.billing.payment_method_id.as_deref(), Some("pm_1"));
    assert_eq!(projected.rows.billing.card, Card::default());
    assert_eq!(projected.rows.subscription.billing_sync_status, "needs_reconcile");
    let refetches: Vec<_> = projected.refetches.iter().map(|r| (r.object_id.as_str(), r.reason)).collect();
    assert_eq!(refetches, [("pm_1", "unknown_payment_method")]);
}

#[test]
fn what_is_not_a_card_has_an_id_and_an_address_alone() {
    let mut world = everything();
    let debit = PaymentMethod { kind: "sepa_debit".to_owned(), card: None, address: address("Kiel"), ..card("") };
    world.put_method("pm_1", debit);
    let billing = world.rows(NOW).billing;
    assert_eq!(billing.payment_method_id.as_deref(), Some("pm_1"));
    assert_eq!(billing.card, Card::default());
    assert_eq!(billing.address.city.as_deref(), Some("Kiel"));
}

#[test]
fn the_customers_address_counts_as_a_whole() {
    let mut world = everything();
    world.put_method("pm_1", PaymentMethod { address: address("Kiel"), ..card("0001") });
    assert_eq!(world.rows(NOW).billing.address.city.as_deref(), Some("Kiel"));
    world.customer().address = Some(Address::default());
    assert_eq!(world.rows(NOW).billing.address.city.as_deref(), Some("Kiel"), "an empty address is none");
    world.customer().address = Some(Address { country: Some("DE".to_owned()), ..Address::default() });
    let address = world.rows(NOW).billing.address;
    assert_eq!((address.city, address.country.as_deref()), (None, Some("DE")), "the two are not mixed");
}

#[test]
fn a_value_that_does_not_fit_is_null() {
    let mut world = everything();
    let mut wide = card("12345");
    wide.card.as_mut().unwrap().brand = Some("b".repeat(21));
    world.put_method("pm_1", wide);
    world.customer().address = Some(Address {
        city: Some("Llanfair".repeat(40)),
        country: Some("Germany".to_owned()),
        postal_code: Some("9".repeat(21)),
    });
    let billing = world.rows(NOW).billing;
    assert_eq!((billing.card.last_4, billing.card.brand, billing.card.exp_year), (None, None, Some(2030)));
    assert_eq!(billing.address, Address { city: Some("Llanfair".repeat(40)), country: None, postal_code: None });
    let mut fitting = card("1234");
    fitting.card.as_mut().unwrap().brand = Some("ß".repeat(20));
    world.put_method("pm_1", fitting);
    assert_eq!(world.rows(NOW).billing.card.brand, Some("ß".repeat(20)), "width counts characters");
}

#[test]
fn a_deleted_customer_keeps_its_id_alone() {
    let mut world = everything();
    world.customer().address = address("Kiel");
    world.customers[0].deleted_at = Some(t(NOW));
    let projected = world.project(t(NOW));
    let billing = projected.rows.billing;
    assert_eq!(billing.stripe_customer_id.as_deref(), Some("cus_1"));
    assert_eq!((billing.payment_method_id, billing.card, billing.address), (None, Card::default(), Address::default()));
    assert!(projected.refetches.is_empty());
}

#[test]
fn the_customer_is_the_primary_subscriptions_else_the_newest_undeleted_else_the_newest() {
    let mut world = World::with_customer();
    world.add_customer("cus_2", "2025-03-01T00:00:00Z");
    world.add_customer("cus_3", "2025-03-01T00:00:00Z");
    let unseen = CustomerFacts { customer_id: "cus_0".to_owned(), ..CustomerFacts::default() };
    world.customers.insert(0, unseen);
    let customer = |world: &World| world.rows(NOW).billing.stripe_customer_id.unwrap();
    assert_eq!(customer(&world), "cus_3", "of equally new ones the greater id");
    world.customers[2].deleted_at = Some(t(NOW));
    world.customers[3].deleted_at = Some(t(NOW));
    assert_eq!(customer(&world), "cus_1");
    world.customers[1].deleted_at = Some(t(NOW));
    assert_eq!(customer(&world), "cus_0", "one that was not seen is the oldest");
    world.customers[0].deleted_at = Some(t(NOW));
    assert_eq!(customer(&world), "cus_3");
    let dead = Subscription { ended_at: Some(t(NOW)), ..subscription("canceled", "glow_up") };
    world.customers[1].subscriptions.insert("sub_1".to_owned(), known("sub_1", dead));
    assert_eq!(customer(&world), "cus_1", "the primary subscription's, dead as it is");
}

#[test]
fn the_card_of_an_ended_subscription_stays() {
    let mut world = World::with([Subscription {
        default_payment_method: Some("pm_1".to_owned()),
        ended_at: Some(t(NOW)),
        ..subscription("canceled", "glow_up")
    }]);
    world.put_method("pm_1", card("0001"));
    assert_eq!(chosen(&world), is("pm_1", "0001"));
}

#[test]
fn a_card_expires_with_its_month_and_reminds_30_days_before() {
    let mut world = everything();
    for (month, year, reminder, expiry) in
        [(12, 2025, "2025-12-02T00:00:00Z", "2026-01-01T00:00:00Z"), (4, 2025, "2025-04-01T00:00:00Z", "2025-05-01T00:00:00Z")]
    {
        let mut expiring = card("0001");
        expiring.card.as_mut().unwrap().exp_month = Some(month);
        expiring.card.as_mut().unwrap().exp_year = Some(year);
        world.put_method("pm_1", expiring);
        let rows = world.rows(NOW);
        let entry = &rows.system.email_schedule_status["card_expiring:pm_1"];
        assert_eq!((entry.due_at, entry.active), (Some(t(reminder)), true));
        assert_eq!(rows.subscription.next_change_at, Some(t(reminder)));
        assert_eq!(world.subscription_row(reminder).next_change_at, Some(t(expiry)));
    }
    for (month, year) in [(0, 2025), (13, 2025), (-1, 2025), (12, i32::MAX), (1, i32::MIN)] {
        let mut odd = card("0001");
        odd.card.as_mut().unwrap().exp_month = Some(month);
        odd.card.as_mut().unwrap().exp_year = Some(year);
        world.put_method("pm_1", odd);
        assert!(!world.rows(NOW).system.email_schedule_status.contains_key("card_expiring:pm_1"), "{month}/{year}");
    }
}
