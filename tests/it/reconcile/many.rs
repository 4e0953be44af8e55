//! Ten thousand customers: what they cost in requests.

use billsync::reconcile::Mode;
use chrono::TimeDelta;
use serde_json::json;

use super::{World, card, customer};
use crate::support::events::subscription;
use crate::support::server::now;

const CUSTOMERS: u32 = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_customers_cost_little_more_than_a_request_each() {
    let world = World::new().await;
    world
        .database
        .execute(&format!(
            "insert into billsync.owners (owner_id, clerk_user_id, linked_by, has_facts) \
             select 'cus_' || n, 'user_' || n, 'customer_metadata', true from generate_series(0, {}) n",
            CUSTOMERS - 1
        ))
        .await;
    let began = now() - TimeDelta::days(20);
    for number in 0..CUSTOMERS {
        world.fake.put([customer(number), subscription(number, began), card(&format!("pm_{number}"), number, "4242")]);
    }
    let report = world.reconciler.reconcile_all(Mode::DryRun, &|_| {}).await.unwrap();
    let requests = world.fake.asked().len();
    assert_eq!(report.objects, u64::from(3 * CUSTOMERS));
    assert_eq!(report.drifted_objects().len() as u32, 3 * CUSTOMERS, "all of it is news");
    assert!(requests * 10 <= CUSTOMERS as usize * 22, "{requests} requests");
    assert!(world.fake.connections() <= 20, "{} connections", world.fake.connections());
}

/// Customers `from..to` that belong to the users of the same numbers.
async fn link(world: &World, from: u32, to: u32) {
    world
        .database
        .execute(&format!(
            "insert into billsync.owners (owner_id, clerk_user_id, linked_by, has_facts) \
             select 'cus_' || n, 'user_' || n, 'customer_metadata', true from generate_series({from}, {}) n",
            to - 1
        ))
        .await;
}

#[tokio::test]
async fn the_hourly_pass_of_an_account_that_is_linked_costs_little_more_than_a_request_each() {
    let world = World::new().await;
    link(&world, 0, 500).await;
    world.fake.put((0..500).map(customer));
    world.reconciler.reconcile_linked(None).await.unwrap();
    let requests = world.fake.asked().len();
    assert!(requests * 10 <= 500 * 22, "{requests} requests");
}

#[tokio::test]
async fn of_a_large_account_the_few_that_are_linked_are_asked_for_one_by_one() {
    let world = World::new().await;
    link(&world, 0, 3).await;
    // Listed last: the oldest of nine thousand.
    for number in 0..9_000 {
        let mut stranger = customer(number);
        stranger["created"] = json!(1_700_000_000 + number);
        if number >= 3 {
            stranger["metadata"] = json!({});
        }
        world.fake.put([stranger]);
    }
    world.fake.put([subscription(1, now() - TimeDelta::days(20)), card("pm_1", 1, "4242")]);
    let report = world.reconciler.reconcile_linked(None).await.unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let requests = world.fake.asked().len();
    assert!(requests <= 52 + 3 * 7, "{requests} requests, where the lists alone have 90 pages and more");
    let drifted: Vec<&str> = report.drifted_objects().into_iter().collect();
    assert_eq!(drifted, ["cus_0", "cus_1", "cus_2", "pm_1", "sub_1"]);
    assert_eq!(world.database.ask::<i64>("select count(*) from billsync.provider_objects").await, 5, "no stranger");
    // Interrupted in the middle of the customers, it goes on with the next.
    let position = json!({"stages": ["customers", "subscriptions", "subscription_schedules", "invoices", "open_invoices",
        "checkout_sessions", "payment_methods"], "since": null, "started_at": now(), "stage": "one_by_one", "after": "cus_1",
        "objects": 5});
    world
        .database
        .execute(&format!("insert into billsync.sync_cursors (name, position) values ('reconcile', '{position}')"))
        .await;
    world.fake.forget_asked();
    world.reconciler.reconcile_linked(None).await.unwrap();
    assert_eq!((world.fake.count("/v1/customers/cus_2"), world.fake.asked().len()), (1, 7));
}
