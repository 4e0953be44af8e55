//! Rows of users that an application holds: who need not wait for them, and that those who do hold no others out of order.

use std::sync::Arc;

use billsync::domain::event::Outcome;
use billsync::ingest::committer::{Committer, Options};
use billsync::ingest::transaction::{self, BatchError, OperatorChange, OperatorWord, link_by_operator};
use billsync::store::{Store, StoreSettings};
use serde_json::Value;
use sqlx::Connection;

use super::{Bench, arcs, bench, clerk_user, customer, outcomes, stripe_event, subscription};
use crate::support::wait::until;

const HOLD: &str = "select 1 from users where user_id = 'user_1' for update";

/// A process that has just started.
async fn process(bench: &Bench) -> Store {
    Store::connect(&StoreSettings::new(&bench.database.url)).await.unwrap()
}

/// Users with a customer each.
async fn linked() -> Bench {
    let bench = bench().await;
    let customers = [1, 2].map(|n| stripe_event(&format!("evt_c{n}"), "customer.created", 1_772_000_100, &customer(n)));
    bench.commit(&arcs([1, 2, 3].map(clerk_user).into_iter().chain(customers))).await;
    bench
}

async fn say(bench: &Bench, store: &Store, word: OperatorWord) {
    let change = OperatorChange { customer_id: "cus_1".into(), word, reason: None };
    link_by_operator(store, &change, &bench.rules, &bench.clock).await.unwrap();
}

#[tokio::test]
async fn a_duplicate_does_not_wait() {
    let bench = linked().await;
    let event = stripe_event("evt_s", "customer.subscription.created", 1_772_000_101, &subscription(1, "active"));
    bench.commit(&arcs([event.clone()])).await;
    let mut application = bench.database.connect().await;
    let mut held = application.begin().await.unwrap();
    sqlx::query(HOLD).execute(&mut *held).await.unwrap();
    let committer = Committer::start(bench.store.clone(), Arc::new(bench.rules.clone()), bench.clock.clone(), Options::default());
    for event in [event, clerk_user(1)] {
        assert_eq!(committer.submit(event).await.unwrap().outcome, Outcome::Duplicate);
    }
    held.rollback().await.unwrap();
    committer.close().await;
}

#[tokio::test]
async fn a_duplicate_locks_no_row() {
    let bench = linked().await;
    let marks = "select jsonb_build_array((select jsonb_agg(xmax::text order by user_id) from users), \
        (select jsonb_agg(xmax::text order by user_id) from user_billing))";
    let before = bench.query(marks).await;
    assert_eq!(outcomes(&bench.commit(&arcs([clerk_user(1)])).await), [Outcome::Duplicate]);
    assert_eq!(bench.query(marks).await, before);
}

#[tokio::test]
async fn a_customer_that_is_nobodys_by_now_does_not_wait_for_its_former_owner() {
    let bench = bench().await;
    bench.commit(&arcs([clerk_user(1)])).await;
    let event = |n: i64| {
        let id = format!("evt_s{n}");
        arcs([stripe_event(&id, "customer.subscription.updated", 1_772_000_101 + n, &subscription(1, "active"))])
    };
    let other = process(&bench).await;
    say(&bench, &other, OperatorWord::BelongsTo("user_1".into())).await;
    bench.commit(&event(0)).await;
    say(&bench, &other, OperatorWord::Nothing).await;
    assert_eq!(outcomes(&bench.commit(&event(1)).await), [Outcome::Unlinked]);

    let mut application = bench.database.connect().await;
    let mut held = application.begin().await.unwrap();
    sqlx::query(HOLD).execute(&mut *held).await.unwrap();
    assert_eq!(outcomes(&bench.commit(&event(2)).await), [Outcome::Unlinked]);
    held.rollback().await.unwrap();
}

#[tokio::test]
async fn whoever_waits_for_a_row_holds_no_later_one_when_a_customer_is_unknown() {
    let bench = linked().await;
    let started = process(&bench).await;
    let known = arcs([stripe_event("evt_k", "customer.subscription.created", 1_772_000_101, &subscription(2, "active"))]);
    transaction::commit(&started, &known, &bench.rules, &bench.clock).await.unwrap();
    waits_in_order(&bench, started).await;
}

#[tokio::test]
async fn whoever_waits_for_a_row_holds_no_later_one_when_a_customer_changed_hands() {
    let bench = linked().await;
    say(&bench, &bench.store, OperatorWord::BelongsTo("user_3".into())).await;
    say(&bench, &process(&bench).await, OperatorWord::Nothing).await;
    waits_in_order(&bench, bench.store.clone()).await;
}

/// An application holds `user_1` and wants `user_2`, whose customers both have an event in one batch.
async fn waits_in_order(bench: &Bench, store: Store) {
    let mut application = bench.database.connect().await;
    let mut held = application.begin().await.unwrap();
    sqlx::query(HOLD).execute(&mut *held).await.unwrap();
    let events = arcs([1, 2].map(|n| {
        stripe_event(&format!("evt_w{n}"), "customer.subscription.updated", 1_772_000_200, &subscription(n, "past_due"))
    }));
    let (rules, clock) = (bench.rules.clone(), bench.clock.clone());
    let committing = tokio::spawn(async move {
        loop {
            match transaction::commit(&store, &events, &rules, &clock).await {
                // It waits for 200 ms at a time.
                Err(BatchError::Contended(_)) => {}
                other => return other,
            }
        }
    });
    until("the batch waits for user_1", async || {
        let waits = "select to_jsonb(exists (select from pg_stat_activity where datname = current_database() \
            and wait_event_type = 'Lock' and wait_event in ('transactionid', 'tuple')))";
        bench.query(waits).await == Value::Bool(true)
    })
    .await;
    let later = sqlx::query("select 1 from users where user_id = 'user_2' for update nowait").execute(&mut *held).await;
    assert!(later.is_ok(), "{later:?}");
    held.rollback().await.unwrap();
    assert_eq!(outcomes(&committing.await.unwrap().unwrap()), [Outcome::Applied, Outcome::Applied]);
}
