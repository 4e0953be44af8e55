//! Catching up with the list of events: all of them, once, also through interruptions.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::World;
use crate::support::events::{stripe_event, subscription};
use crate::support::server::now;
use crate::support::stripe::Fault;

/// `customer.subscription.updated` number `number`, as the list has it.
fn listed(number: u32, at: DateTime<Utc>) -> Value {
    let webhook = stripe_event(&format!("evt_{number:04}"), "customer.subscription.updated", at, subscription(1, at));
    serde_json::from_slice(&webhook.body).unwrap()
}

async fn cursor(world: &World) -> Value {
    world.database.ask("select position from billsync.sync_cursors where name = 'stripe_events'").await
}

#[tokio::test]
async fn all_events_are_read_and_those_that_came_are_duplicates() {
    let world = World::with_linked_customer().await;
    world.fake.put((0..250).map(|number| listed(number, now() - TimeDelta::minutes(i64::from(number) + 1))));
    let came = stripe_event("evt_0007", "customer.subscription.updated", now() - TimeDelta::minutes(8), subscription(1, now()));
    world.deliver(&came).await;
    let caught_up = world.reconciler.catch_up().await.unwrap();
    assert_eq!((caught_up.events, caught_up.new), (250, 249));
    assert_eq!(world.fake.count("/v1/events"), 3);
    assert_eq!(world.column("user_subscriptions", "current_plan").await, "glow_up");
    assert_eq!(world.column("user_system_data", "last_webhook_event").await, "customer.subscription.updated");
    let sources: Value = world
        .database
        .ask("select jsonb_object_agg(source, n) from (select source, count(*) n from billsync.webhook_events where object_id = 'sub_1' group by 1) s")
        .await;
    assert_eq!(sources, json!({"catch_up": 249, "webhook": 1}));
    // The next time an hour is read again, and no more.
    world.clock.set(now() + TimeDelta::minutes(10));
    world.fake.put([listed(900, now() + TimeDelta::minutes(5))]);
    let caught_up = world.reconciler.catch_up().await.unwrap();
    assert_eq!(caught_up.new, 1);
    assert!((55..=65).contains(&caught_up.events), "{caught_up:?}");
}

#[tokio::test]
async fn an_interruption_costs_no_page_twice_and_loses_none() {
    let world = World::with_linked_customer().await;
    world.fake.put((0..450).map(|number| listed(number, now() - TimeDelta::minutes(i64::from(number) + 1))));
    world.fake.fail_from(3, Fault::Cut);
    world.reconciler.catch_up().await.unwrap_err();
    let stored = cursor(&world).await;
    assert!(stored["known_until"].is_null() && stored["window"]["after"].is_string(), "{stored}");
    world.fake.recover();
    world.fake.forget_asked();
    world.clock.set(now() + TimeDelta::minutes(30));
    world.fake.put([listed(999, now() + TimeDelta::minutes(1))]);
    let caught_up = world.reconciler.catch_up().await.unwrap();
    assert_eq!((caught_up.events, world.fake.count("/v1/events")), (250, 3), "goes on where it ended");
    assert_eq!(instant(&cursor(&world).await["known_until"]), now(), "what came since is the next window's");
    let count = "select count(*) from billsync.webhook_events where object_id = 'sub_1'";
    assert_eq!(world.database.ask::<i64>(count).await, 450);
    assert_eq!(world.reconciler.catch_up().await.unwrap().new, 1);
}

fn instant(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_position_that_stripe_has_forgotten_begins_its_window_anew() {
    let world = World::with_linked_customer().await;
    world.fake.put((0..150).map(|number| listed(number, now() - TimeDelta::minutes(i64::from(number) + 1))));
    let window = json!({"known_until": now() - TimeDelta::days(2),
        "window": {"since": now() - TimeDelta::days(2), "until": now(), "after": "evt_gone"}});
    world
        .database
        .execute(&format!("insert into billsync.sync_cursors (name, position) values ('stripe_events', '{window}')"))
        .await;
    assert_eq!(world.reconciler.catch_up().await.unwrap().new, 150);
}

#[tokio::test]
async fn whoever_has_never_caught_up_counts_from_the_first_attempt() {
    let world = World::with_linked_customer().await;
    world.fake.fail_always("/v1/events", Fault::Status(403, ""));
    world.reconciler.catch_up().await.unwrap_err();
    assert_eq!(instant(&cursor(&world).await["first_tried_at"]), now());
    world.clock.set(now() + TimeDelta::days(21));
    world.reconciler.catch_up().await.unwrap_err();
    assert_eq!(instant(&cursor(&world).await["first_tried_at"]), now(), "it does not move");
    world.fake.recover();
    world.fake.put([listed(1, now() + TimeDelta::days(20))]);
    assert_eq!(world.reconciler.catch_up().await.unwrap().new, 1);
}
