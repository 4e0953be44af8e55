//! Clerk users that a batch locks and reads beforehand, because an earlier batch saw whose its customers are, also where that is
//! no longer so; and objects that are taken out of their events' payloads.

use std::collections::BTreeSet;

use billsync::domain::event::Outcome;
use billsync::domain::rules::Rules;
use billsync::ingest::erasure::erase_user;
use billsync::ingest::transaction::{self, BatchError, OperatorChange, OperatorWord, link_by_operator};
use billsync::store::{Concerned, Store, StoreSettings};
use serde_json::{Value, json};

use super::{Bench, arcs, bench, clerk_user, customer, outcomes, stripe_event, subscription};
use crate::support::round_trips::RoundTrips;
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

/// `subscription(1)` at second `n`, which a process commits.
async fn subscription_at(bench: &Bench, store: &Store, n: i64, status: &str) -> Outcome {
    let id = format!("evt_s1_{n}");
    let events = arcs([stripe_event(&id, "customer.subscription.updated", 1_772_000_200 + n, &subscription(1, status))]);
    outcomes(&transaction::commit(store, &events, &bench.rules, &bench.clock).await.unwrap())[0]
}

/// Whose `cus_1` is by the users' own rows, with the plan.
const HOLDERS: &str = "select jsonb_object_agg(u.user_id, jsonb_build_array(b.stripe_customer_id, s.current_plan)) from users u \
    join user_billing b on b.user_id = u.id join user_subscriptions s on s.user_id = u.id";

#[tokio::test]
async fn what_was_needed_once_is_read_in_one_load_from_then_on() {
    let bench = linked().await;
    let trips = RoundTrips::before(&bench.database.url).await;
    let store = Store::connect(&StoreSettings { max_connections: 1, ..StoreSettings::new(&trips.url) }).await.unwrap();
    // Prepares the statements.
    subscription_at(&bench, &bench.store, 0, "active").await;
    let paid = json!({"id": "in_2", "object": "invoice", "customer": "cus_2", "status": "paid", "created": 1_772_000_300,
        "lines": {"object": "list", "data": []}});
    let events = arcs([stripe_event("evt_i2", "invoice.paid", 1_772_000_300, &paid)]);
    transaction::commit(&store, &events, &bench.rules, &bench.clock).await.unwrap();
    trips.take();
    assert_eq!(subscription_at(&bench, &store, 1, "active").await, Outcome::Applied);
    assert_eq!(trips.take(), 6, "begin with the customer's lock, load, the user's lock, load, write, commit");
    assert_eq!(subscription_at(&bench, &store, 2, "past_due").await, Outcome::Applied);
    assert_eq!(trips.take(), 4, "begin with all locks, load, write, commit");
    assert_eq!(
        bench
            .query(
                "select to_jsonb(subscription_status) from user_subscriptions s join users u on u.id = s.user_id \
        where u.user_id = 'user_1'"
            )
            .await,
        "past_due"
    );
}

#[tokio::test]
async fn a_customer_that_changed_hands_in_another_process_is_its_new_owners() {
    let bench = linked().await;
    subscription_at(&bench, &bench.store, 0, "active").await;
    assert_eq!(bench.query(HOLDERS).await, json!({"user_1": ["cus_1", "glow_up"], "user_2": ["cus_2", "free"]}));
    let word = OperatorWord::BelongsTo("user_2".into());
    let change = OperatorChange { customer_id: "cus_1".into(), word, reason: None };
    link_by_operator(&another_process(&bench).await, &change, &bench.rules, &bench.clock).await.unwrap();

    assert_eq!(subscription_at(&bench, &bench.store, 1, "canceled").await, Outcome::Applied);
    let mut concerned = Concerned::of_accounts(&["cus_1".to_owned()], &[], &bench.rules);
    concerned.foresee(&bench.store, |_, _| BTreeSet::new());
    assert!(concerned.locks().has_clerk_id("user_2") && !concerned.locks().has_clerk_id("user_1"), "learnt from the load");
    let changed = "select jsonb_agg(distinct e ->> 'user_id') from billsync.webhook_payloads, jsonb_array_elements(effects) e \
        where event_id = 'evt_s1_1'";
    assert_eq!(bench.query(changed).await, json!(["user_2"]));
    let of_both = bench.accounts(&["cus_1".into(), "cus_2".into()], &["user_1".into(), "user_2".into()]).await;
    assert_eq!(of_both.owner("cus_1").unwrap().clerk_user_id.as_deref(), Some("user_2"));
    assert_eq!(bench.query(HOLDERS).await["user_1"], json!([null, "free"]));
}

#[tokio::test]
async fn a_card_that_became_the_default_in_another_process_is_the_one_shown() {
    let bench = linked().await;
    let card = |id: &str, last4: &str| {
        json!({"id": id, "object": "payment_method", "type": "card", "customer": "cus_1", "created": 1_772_000_150,
            "card": {"brand": "visa", "last4": last4, "exp_month": 1, "exp_year": 2030}})
    };
    let with_default = |id: &str| {
        let mut customer = customer(1);
        customer["invoice_settings"] = json!({"default_payment_method": id});
        customer
    };
    // Two of a customer's cards are read whatever it is that refers to them; the third is not.
    for n in 1..=3 {
        let card = card(&format!("pm_{n}"), &format!("{n}{n}{n}{n}"));
        bench.commit(&arcs([stripe_event(&format!("evt_p{n}"), "payment_method.attached", 1_772_000_150, &card)])).await;
    }
    bench.commit(&arcs([stripe_event("evt_d1", "customer.updated", 1_772_000_160, &with_default("pm_1"))])).await;
    subscription_at(&bench, &bench.store, 0, "active").await;
    let shown = "select to_jsonb(card_last_4) from user_billing where stripe_customer_id = 'cus_1'";
    assert_eq!(bench.query(shown).await, "1111");

    let other = another_process(&bench).await;
    let events = arcs([stripe_event("evt_d2", "customer.updated", 1_772_000_170, &with_default("pm_3"))]);
    transaction::commit(&other, &events, &bench.rules, &bench.clock).await.unwrap();
    assert_eq!(bench.query(shown).await, "3333");
    assert_eq!(subscription_at(&bench, &bench.store, 1, "past_due").await, Outcome::Applied);
    assert_eq!(bench.query(shown).await, "3333", "pm_1 is what this process remembers");
}

#[tokio::test]
async fn a_person_who_was_erased_in_another_process_stays_so() {
    let bench = linked().await;
    subscription_at(&bench, &bench.store, 0, "active").await;
    erase_user(&another_process(&bench).await, "user_1", &bench.rules, &bench.clock).await.unwrap();
    let rows = "select to_jsonb(count(*)) from users";
    assert_eq!(bench.query(rows).await, 1);
    let events = arcs([stripe_event("evt_back", "customer.updated", 1_772_000_300, &customer(1)), clerk_user(1)]);
    transaction::commit(&bench.store, &events, &bench.rules, &bench.clock).await.unwrap();
    assert_eq!(bench.query(rows).await, 1);
    let kept =
        "select to_jsonb(count(*)) from billsync.provider_objects where object::text like '%ada1@%' or fact::text like '%ada1@%'";
    assert_eq!(bench.query(kept).await, 0);
}
