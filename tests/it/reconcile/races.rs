//! Webhooks and reads at the same time, in any order, with clocks that are wrong: no read undoes
//! what a webhook has told, and in the end everybody agrees.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use billsync::clock::Clock;
use billsync::reconcile::{Mode, Reconciler};
use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use serde_json::Value;

use super::World;
use crate::support::events::{Webhook, stripe_event, subscription};
use crate::support::server::now;

const VERSIONS: i64 = 40;

/// The subscription after `version` changes; each moves its end by a day.
fn version(version: i64) -> Value {
    let mut object = subscription(1, now() - TimeDelta::minutes(50));
    object["cancel_at"] = (now() + TimeDelta::days(100 + version)).timestamp().into();
    object
}

fn event(number: i64, at: DateTime<Utc>) -> Webhook {
    stripe_event(&format!("evt_v{number}"), "customer.subscription.updated", at, version(number))
}

/// The subscription changes at every request; the events of it come later, in any order, some not at all.
async fn race(offset_seconds: i64, seed: u64) {
    let world = World::with_linked_customer().await;
    let ours = Clock::manual(now() + TimeDelta::seconds(offset_seconds));
    let api = world.fake.api(ours.clone());
    let reconciler = Reconciler::new(api, world.store.clone(), world.committer.clone(), world.rules.clone(), world.clock.clone());
    let changes = Arc::new(AtomicI64::new(0));
    let (counter, stripes, own) = (Arc::clone(&changes), world.clock.clone(), ours);
    world.fake.put([version(0)]);
    world.fake.on_request(move |_, objects| {
        let next = counter.load(Ordering::SeqCst) + 1;
        if next <= VERSIONS {
            counter.store(next, Ordering::SeqCst);
            stripes.set(now() + TimeDelta::seconds(next));
            own.set(now() + TimeDelta::seconds(offset_seconds + next));
            objects.put(version(next));
        }
    });
    let mut rng = Rng::with_seed(seed);
    let (mut sent, mut waiting) = (0, Vec::new());
    while changes.load(Ordering::SeqCst) < VERSIONS {
        let customers = ["cus_1".to_owned()];
        let read = reconciler.reconcile_customers(&customers, Mode::Apply);
        let latest = changes.load(Ordering::SeqCst);
        waiting.extend(sent + 1..=latest);
        sent = latest;
        rng.shuffle(&mut waiting);
        let arriving: Vec<i64> = waiting.drain(..waiting.len() / 2).collect();
        let deliver = async {
            for number in arriving {
                world.deliver(&event(number, now() + TimeDelta::seconds(number))).await;
            }
        };
        let (read, ()) = tokio::join!(read, deliver);
        read.unwrap();
    }
    for number in waiting.into_iter().filter(|_| rng.bool()) {
        world.deliver(&event(number, now() + TimeDelta::seconds(number))).await;
    }
    world.clock.set(now() + TimeDelta::minutes(5));
    world.reconciler.reconcile_customers(&["cus_1".to_owned()], Mode::Apply).await.unwrap();
    let back = "select count(*) from billsync.webhook_events e join billsync.webhook_payloads p using (provider, event_id), \
        jsonb_array_elements(p.effects) c where e.source = 'reconcile' and c ->> 'column' = 'subscription_cancel_date' \
        and (c ->> 'new')::timestamptz < (c ->> 'old')::timestamptz";
    assert_eq!(world.database.ask::<i64>(back).await, 0, "offset {offset_seconds}: what was read undid what had come");
    let corrected = "select count(*) from billsync.webhook_events where source = 'reconcile'";
    assert!(world.database.ask::<i64>(corrected).await > 0);
    let end: DateTime<Utc> =
        world.column("user_subscriptions", "subscription_cancel_date").await.as_str().unwrap().parse().unwrap();
    assert_eq!(end, now() + TimeDelta::days(100 + VERSIONS), "offset {offset_seconds}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_our_clock_right_no_row_goes_back() {
    race(0, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_our_clock_fast_no_row_goes_back() {
    race(30, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_our_clock_slow_no_row_goes_back() {
    race(-30, 3).await;
}
