//! Convergence: any order, duplication and batching of a story's events ends in the same rows, owners and facts.

#![expect(clippy::expect_used, reason = "helpers of tests fail the test")]

mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use billsync::domain::billing::accounts::{Accounts, Context};
use billsync::domain::billing::facts::Fact;
use billsync::domain::billing::rows::{Rows, UsageColumns};
use billsync::domain::event::{Event, ObjectKey};
use billsync::domain::rules::Rules;
use chrono::{DateTime, Utc};
use fastrand::Rng;
use serde_json::{Map, Value, json};

use self::memory::Memory;
use crate::stories::comparison::{Emails, compare, owner, tables};
use crate::stories::dialect::Dialect;
use crate::stories::journey::{Journey, catalog, load_all};
use crate::stories::{customers, fold};

/// Up to so many events every order is tried.
const EVERY_ORDER_UP_TO: usize = 7;

/// Beyond, so many random ones.
const RANDOM_ORDERS: usize = 2_000;

/// What of either is tried of a story in one dialect: all of it where the code is optimised, `cargo test --release`.
const MOST_ORDERS: usize = if cfg!(debug_assertions) { 100 } else { usize::MAX };

#[test]
fn every_order_of_a_story_ends_in_the_same_rows_in_the_dialect_of_2024() {
    assert_convergence(Dialect::Of2024);
}

#[test]
fn every_order_of_a_story_ends_in_the_same_rows_in_basil() {
    assert_convergence(Dialect::Basil);
}

#[test]
fn every_order_of_a_story_ends_in_the_same_rows_in_the_newest_dialect() {
    assert_convergence(Dialect::Newest);
}

#[test]
fn every_order_of_a_story_ends_in_the_same_rows_in_flexible_billing_mode() {
    assert_convergence(Dialect::Flexible);
}

#[test]
fn all_stories_at_once_end_in_their_rows() {
    let (plans, rules) = (catalog(None), Rules::default());
    let mut journeys = load_all();
    journeys.retain(Journey::is_told_by_default_rules);
    let mut events: Vec<Event> = journeys.iter().flat_map(|journey| journey.events(Dialect::Newest)).collect();
    let (mut rng, mut memory) = (Rng::with_seed(3), Memory::new(Vec::new()));
    rng.shuffle(&mut events);
    for batch in events.chunks(64) {
        let context = Context { catalog: &plans, rules: &rules, now: batch[0].occurred_at };
        memory.commit(&batch.iter().collect::<Vec<_>>(), context);
    }
    let mut accounts = memory.into_accounts();
    let mut lines = Vec::new();
    for journey in &journeys {
        for (user_id, expected) in &journey.expected.users {
            accounts.reproject(user_id, Context { catalog: &plans, rules: &rules, now: journey.expected.now });
            let actual = accounts.rows(user_id).map(|rows| tables(rows, Emails::Active)).unwrap_or_default();
            compare(&format!("{} {user_id}", journey.name), expected, &actual, &mut lines);
        }
    }
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn projecting_again_changes_nothing() {
    let plans = catalog(None);
    for journey in load_all() {
        let rules = journey.rules();
        let context = Context { catalog: &plans, rules: &rules, now: journey.expected.now };
        let events = all_events(&journey, Dialect::Newest);
        let mut memory = Memory::new(journey.operator_links());
        memory.commit(&events.iter().collect::<Vec<_>>(), context);
        assert_eq!(memory.reproject_all(context), Vec::<String>::new(), "{}", journey.name);
    }
}

#[test]
fn every_fact_survives_being_stored() {
    for journey in load_all() {
        for dialect in Dialect::ALL {
            for snapshot in journey.events(dialect).iter().flat_map(Event::snapshots) {
                let Some(fact) = snapshot.fact.as_deref() else { continue };
                let stored = serde_json::to_value(fact).expect("a fact is JSON");
                let read = serde_json::from_value(stored).expect("a stored fact is readable");
                assert_eq!(*fact, read, "{}: {}", journey.name, snapshot.event_id);
            }
        }
    }
}

#[test]
fn every_order_is_every_order() {
    let mut seen = BTreeSet::new();
    permutations(&mut [0, 1, 2, 3, 4], 5, &mut |order| {
        seen.insert(order.to_vec());
    });
    assert_eq!(seen.len(), 120);
}

fn all_events(journey: &Journey, dialect: Dialect) -> Vec<Event> {
    journey.imports().into_iter().chain(journey.events(dialect)).collect()
}

fn assert_convergence(dialect: Dialect) {
    let journeys = load_all();
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(journey) = journeys.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(fault) = converges(journey, dialect) {
                        faults.lock().expect("no thread panics").push(fault);
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().expect("no thread panics");
    assert!(faults.is_empty(), "{} of {} stories\n{}", faults.len(), journeys.len(), faults.join("\n"));
}

fn converges(journey: &Journey, dialect: Dialect) -> Result<(), String> {
    let plans = catalog(None);
    let rules = journey.rules();
    let context = Context { catalog: &plans, rules: &rules, now: journey.expected.now };
    let events = all_events(journey, dialect);
    let customers = customers(&events);
    let keys: BTreeSet<ObjectKey> = events.iter().flat_map(Event::snapshots).map(|snapshot| snapshot.key.clone()).collect();
    let reference = Picture::of(&fold(journey, &events, &plans, context.now), &customers, &keys);
    let (mut rng, mut orders_of) = (Rng::with_seed(7), Rng::with_seed(11));
    let mut check = |order: &[usize]| {
        let deliveries = with_duplicates(order, &mut rng);
        let mut memory = Memory::new(journey.operator_links());
        for batch in batches(&deliveries, &mut rng) {
            memory.commit(&batch.iter().map(|&index| &events[index]).collect::<Vec<_>>(), context);
        }
        let changed = memory.reproject_all(context);
        let actual = Picture::of(&memory.into_accounts(), &customers, &keys);
        if actual == reference && changed.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        compare("", &reference.to_json(), &actual.to_json(), &mut lines);
        let told: Vec<String> = deliveries.iter().map(|&index| format!("{:02}", index + 1)).collect();
        lines.extend(changed.iter().map(|user_id| format!("{user_id} changed when projected again")));
        Err(format!("{} in the order {}\n    {}", journey.name, told.join(" "), lines.join("\n    ")))
    };
    let mut order: Vec<usize> = (0..events.len()).collect();
    let every_order = events.len() <= EVERY_ORDER_UP_TO && (1..=events.len()).product::<usize>() <= MOST_ORDERS;
    if every_order {
        let mut result = Ok(());
        permutations(&mut order, events.len(), &mut |order| {
            if result.is_ok() {
                result = check(order);
            }
        });
        return result;
    }
    order.reverse();
    check(&order)?;
    for _ in 0..RANDOM_ORDERS.min(MOST_ORDERS) {
        orders_of.shuffle(&mut order);
        check(&order)?;
    }
    Ok(())
}

/// What has to be the same whatever the order.
#[derive(PartialEq)]
struct Picture {
    users: BTreeMap<String, Rows>,
    owners: BTreeMap<String, Value>,
    objects: BTreeMap<ObjectKey, ObjectPicture>,
}

#[derive(PartialEq)]
struct ObjectPicture {
    owner_id: Option<String>,
    fact: Option<Arc<Fact>>,
    ambiguous: bool,
    deleted_at: Option<DateTime<Utc>>,
    as_of: Option<DateTime<Utc>>,
    terminal: Option<bool>,
}

impl Picture {
    fn of(accounts: &Accounts, customers: &BTreeSet<String>, keys: &BTreeSet<ObjectKey>) -> Picture {
        let object = |key: &ObjectKey| {
            let object = accounts.object(key)?;
            let winner = object.winner.as_ref();
            Some(ObjectPicture {
                owner_id: object.owner_id.clone(),
                fact: object.fact.clone(),
                ambiguous: object.ambiguous,
                deleted_at: object.deleted_at,
                as_of: winner.map(|winner| winner.as_of),
                terminal: winner.map(|winner| winner.terminal),
            })
        };
        Picture {
            users: accounts.user_ids().filter_map(|id| Some((id.to_owned(), without_period(accounts.rows(id)?)))).collect(),
            owners: customers.iter().map(|id| (id.clone(), owner(accounts, id))).collect(),
            objects: keys.iter().filter_map(|key| Some((key.clone(), object(key)?))).collect(),
        }
    }

    /// For people.
    fn to_json(&self) -> Value {
        let users = self.users.iter().map(|(id, rows)| (id.clone(), tables(rows, Emails::All)));
        let objects = self.objects.iter().map(|(key, object)| {
            let told = json!({
                "owner_id": object.owner_id, "fact": object.fact.as_deref(), "ambiguous": object.ambiguous,
                "deleted_at": object.deleted_at, "as_of": object.as_of, "terminal": object.terminal,
            });
            (format!("{} {}", key.account, key.object_id), told)
        });
        json!({
            "users": users.collect::<Map<_, _>>(),
            "owners": self.owners,
            "objects": objects.collect::<Map<_, _>>(),
        })
    }
}

/// Usage periods tell what happened when, and may differ.
fn without_period(rows: &Rows) -> Rows {
    let mut rows = rows.clone();
    rows.usage = UsageColumns {
        plan_campaigns_limit: rows.usage.plan_campaigns_limit,
        plan_creators_limit: rows.usage.plan_creators_limit,
        plan_features: rows.usage.plan_features,
        reset_held: rows.usage.reset_held,
        ..UsageColumns::default()
    };
    rows
}

/// Some events come twice, the second time at a random later place.
fn with_duplicates(order: &[usize], rng: &mut Rng) -> Vec<usize> {
    let mut deliveries = order.to_vec();
    for _ in 0..rng.usize(0..=order.len() / 3) {
        let from = rng.usize(0..deliveries.len());
        let to = rng.usize(from + 1..=deliveries.len());
        deliveries.insert(to, deliveries[from]);
    }
    deliveries
}

fn batches(deliveries: &[usize], rng: &mut Rng) -> Vec<Vec<usize>> {
    let mut rest = deliveries;
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(rng.usize(1..=rest.len().min(6)));
        batches.push(batch.to_vec());
        rest = later;
    }
    batches
}

/// Heap's algorithm.
fn permutations(order: &mut [usize], size: usize, visit: &mut impl FnMut(&[usize])) {
    if size <= 1 {
        return visit(order);
    }
    for index in 0..size {
        permutations(order, size - 1, visit);
        order.swap(if size.is_multiple_of(2) { index } else { 0 }, size - 1);
    }
}
