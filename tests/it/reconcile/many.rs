//! Ten thousand customers: what they cost in requests.

use billsync::reconcile::Mode;
use chrono::TimeDelta;

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
