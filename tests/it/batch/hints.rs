//! Clerk users that a batch locks beforehand, because an earlier batch saw whose its customers are; and objects that are
//! taken out of their events' payloads.

use std::collections::BTreeSet;

use billsync::domain::event::Outcome;
use billsync::domain::rules::Rules;
use billsync::ingest::transaction::{self, BatchError};
use billsync::store::{Concerned, Store, StoreSettings};
use serde_json::Value;

use super::{Bench, arcs, bench, clerk_user, customer, outcomes, stripe_event, subscription};
use crate::support::wait::until;

/// Two users with a customer each.
async fn linked() -> Bench {
    let bench = bench().await;
    let customers = [1, 2].map(|n| stripe_event(&format!("evt_c{n}"), "customer.created", 1_772_000_100, &customer(n)));
    bench.commit(&arcs([clerk_user(1), clerk_user(2)].into_iter().chain(customers))).await;
    bench
}

/// A process that has just started.
async fn another_process(bench: &Bench) -> Store {
    Store::connect(&StoreSettings::new(&bench.database.url)).await.unwrap()
}

#[tokio::test]
async fn a_user_is_locked_with_their_customer_once_the_link_was_seen() {
    let bench = linked().await;
    let events = arcs([stripe_event("evt_s1", "customer.subscription.created", 1_772_000_101, &subscription(1, "active"))]);
    let mut concerned = Concerned::new(&events, &bench.rules);
    assert!(!concerned.locks().has_clerk_id("user_1"), "the event does not name them");
    let nobody_erased = |_: &Concerned, _: &BTreeSet<String>| BTreeSet::new();
    concerned.foresee(&another_process(&bench).await, nobody_erased);
    assert!(!concerned.locks().has_clerk_id("user_1"), "nothing was seen yet");
    concerned.foresee(&bench.store, nobody_erased);
    assert!(concerned.locks().has_clerk_id("user_1"));
    assert_eq!(outcomes(&bench.commit(&events).await), [Outcome::Applied]);
}

#[tokio::test]
async fn a_user_in_use_who_was_not_known_beforehand_is_waited_for_in_order() {
    let bench = linked().await;
    let started = another_process(&bench).await;
    let first = arcs([stripe_event("evt_s1", "customer.subscription.created", 1_772_000_101, &subscription(1, "active"))]);
    transaction::commit(&started, &first, &bench.rules, &bench.clock).await.unwrap();

    let in_use = Concerned::of_accounts(&[], &["user_2".to_owned()], &bench.rules);
    let holder = bench.store.begin_batch(in_use.locks()).await.unwrap();
    let events = arcs([
        stripe_event("evt_s1b", "customer.subscription.updated", 1_772_000_102, &subscription(1, "past_due")),
        stripe_event("evt_s2", "customer.subscription.created", 1_772_000_102, &subscription(2, "active")),
    ]);
    let clock = bench.clock.clone();
    let committing = tokio::spawn(async move {
        loop {
            match transaction::commit(&started, &events, &Rules::default(), &clock).await {
                // It waits for 200 ms at a time.
                Err(BatchError::Contended(_)) => {}
                other => return other,
            }
        }
    });
    until("the batch waits for user_2", async || {
        let waits = "select to_jsonb(exists (select from pg_locks l join pg_database d on d.oid = l.database \
            where l.locktype = 'advisory' and not l.granted and d.datname = current_database()))";
        bench.query(waits).await == Value::Bool(true)
    })
    .await;
    holder.rollback().await;
    assert_eq!(outcomes(&committing.await.unwrap().unwrap()), [Outcome::Applied, Outcome::Applied]);
}

#[tokio::test]
async fn a_stored_object_is_the_one_of_its_event() {
    let bench = linked().await;
    bench
        .commit(&arcs([1, 2].map(|n| {
            stripe_event(&format!("evt_s{n}"), "customer.subscription.created", 1_772_000_101, &subscription(n, "active"))
        })))
        .await;
    let same = "select jsonb_build_object('objects', count(*), 'same', count(*) filter (where o.object = \
            case o.provider when 'stripe' then p.payload #> '{data,object}' else p.payload -> 'data' end)) \
        from billsync.provider_objects o join billsync.webhook_payloads p on p.provider = o.provider and p.event_id = o.event_id";
    assert_eq!(bench.query(same).await, serde_json::json!({"objects": 6, "same": 6}));
}
