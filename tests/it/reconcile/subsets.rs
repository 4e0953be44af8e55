//! Any subset of a story's events is lost: what Stripe still says at the end makes the rows those of the full story. In memory
//! over very many subsets, in Postgres over HTTP for all stories at once.

use std::collections::{BTreeMap, BTreeSet};

use billsync::domain::billing::accounts::{Accounts, Context};
use billsync::domain::event::{Event, Provider, Source};
use billsync::domain::rules::Rules;
use billsync::domain::stripe::{ApiRead, decode_object, decode_object_of};
use billsync::ingest::transaction;
use billsync::reconcile::{Backfill, Mode, Stage};
use chrono::{DateTime, TimeZone, Utc};
use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::World;
use crate::journeys_in_postgres::columns_of;
use crate::stories::comparison::{Emails, compare, tables};
use crate::stories::dialect::Dialect;
use crate::stories::journey::{Journey, catalog, load_all};
use crate::stories::{fold, reproject_all};

/// Up to this many events every subset is tried.
const ALL_SUBSETS_UP_TO: usize = 8;
/// Of longer stories, that many.
const SUBSETS: usize = 100;

/// Stories whose end cannot be read off Stripe's API, and why. Catching up with the events still tells it.
const ONLY_EVENTS_TELL: &[(&str, &str)] = &[
    ("test_clock", "objects on a test clock are left alone"),
    ("customer_deleted_first", "of a deleted customer the API tells nothing but that it is deleted, not since when"),
    ("second_customer_deleted", "likewise"),
    ("same_second_unknowable", "reading settles what the events leave open, so the rows become better than the story's"),
    ("unreadable_event", "its event is lost with what makes the sync status `error`"),
    ("other_mode_and_connect", "a Connect account's objects and the other mode's are not in the account's own API"),
];

/// Told by events alone, so lost with them.
const COLUMNS_OF_EVENTS: [&str; 2] = ["last_webhook_event", "last_webhook_timestamp"];

fn stories() -> Vec<Journey> {
    let mut stories = load_all();
    stories.retain(|story| ONLY_EVENTS_TELL.iter().all(|(name, _)| *name != story.name));
    stories.retain(Journey::is_told_by_webhooks);
    stories.retain(|story| story.events(Dialect::Newest).iter().any(|event| event.provider == Provider::Stripe));
    stories
}

fn later_than_all() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2027, 1, 1, 0, 0, 0).unwrap()
}

/// What the API says after the whole story.
fn reads_after(story: &Journey, events: &[Event]) -> Vec<Event> {
    let how = ApiRead { as_of: later_than_all(), api_version: None, source: Source::Reconcile };
    let end = fold(story, events, &catalog(None), story.expected.now).into_loaded();
    let ours = end.objects.into_iter().filter(|object| object.key.provider == Provider::Stripe && object.key.account.is_empty());
    let mut reads = Vec::new();
    for object in ours {
        let text = object.winner.and_then(|winner| winner.object);
        let is_there = object.deleted_at.is_none() || object.object_type == "subscription";
        if let Some(text) = text.filter(|_| is_there) {
            // The refetch queue asks for a detached payment method on behalf of the customer that names it.
            reads.push(decode_object_of(&text, &how, object.owner_id.as_deref(), &story.rules()).unwrap());
        } else if object.object_type == "customer" {
            let stub = json!({"id": object.key.object_id, "object": "customer", "deleted": true}).to_string();
            reads.push(decode_object(&stub, &how, &story.rules()).unwrap());
        }
    }
    reads
}

fn rows(story: &Journey, mut accounts: Accounts) -> BTreeMap<String, Value> {
    reproject_all(story, &mut accounts, &catalog(None), story.expected.now);
    let of_user = |user: &String| {
        let mut rows = tables(accounts.rows(user)?, Emails::Active);
        for column in COLUMNS_OF_EVENTS {
            rows["user_system_data"].as_object_mut().unwrap().remove(column);
        }
        Some((user.clone(), rows))
    };
    story.expected.users.keys().filter_map(of_user).collect()
}

/// What differs when only `kept` of Stripe's events came before the API was read.
fn faults(
    story: &Journey,
    events: &[Event],
    reads: &[Event],
    kept: impl Fn(usize) -> bool,
    full: &BTreeMap<String, Value>,
) -> Vec<String> {
    let came = events.iter().enumerate().filter(|(index, event)| event.provider != Provider::Stripe || kept(*index));
    let mut accounts = fold(story, came.map(|(_, event)| event), &catalog(None), story.expected.now);
    let (plans, rules) = (catalog(None), story.rules());
    for read in reads {
        accounts.apply(read, Context { catalog: &plans, rules: &rules, now: story.expected.now });
    }
    let mut lines = Vec::new();
    let actual = rows(story, accounts);
    for (user, expected) in full {
        compare(&format!("{} {user}", story.name), expected, actual.get(user).unwrap_or(&Value::Null), &mut lines);
    }
    lines
}

#[test]
fn any_subset_of_events_ends_in_the_rows_of_the_full_story() {
    let mut rng = Rng::with_seed(11);
    let mut wrong: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut tried = 0;
    for story in stories() {
        let events: Vec<Event> = story.imports().into_iter().chain(story.events(Dialect::Newest)).collect();
        let reads = reads_after(&story, &events);
        let full = rows(&story, fold(&story, &events, &catalog(None), story.expected.now));
        let of_stripe: Vec<usize> =
            events.iter().enumerate().filter(|(_, event)| event.provider == Provider::Stripe).map(|(index, _)| index).collect();
        let every = of_stripe.len() <= ALL_SUBSETS_UP_TO;
        for number in 0..if every { 1 << of_stripe.len() } else { SUBSETS } {
            let mask: u64 = match number {
                _ if every => number as u64,
                0 => 0,
                1 => u64::MAX,
                _ => rng.u64(..),
            };
            let kept = |index: usize| of_stripe.iter().position(|of| *of == index).is_some_and(|bit| mask >> bit & 1 == 1);
            tried += 1;
            let lines = faults(&story, &events, &reads, kept, &full);
            if !lines.is_empty() {
                wrong.entry(story.name.clone()).or_insert(lines);
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tried > 5000, "{tried}");
}

#[test]
fn the_exceptions_are_stories() {
    let names: BTreeSet<String> = load_all().into_iter().map(|story| story.name).collect();
    for (name, why) in ONLY_EVENTS_TELL {
        assert!(names.contains(*name) && !why.is_empty(), "{name}");
    }
}

/// Every story at once: half of Stripe's events come, then `reconcile --all`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_stories_reconcile_over_http() {
    let mut rng = Rng::with_seed(3);
    let world = World::with(Rules::default(), later_than_all()).await;
    let mut told = stories();
    told.retain(Journey::is_told_by_default_rules);
    for story in &told {
        let events = story.events(Dialect::Newest);
        world.fake.put_state_of(fold(story, &events, &catalog(None), story.expected.now));
        for event in events.into_iter().filter(|event| event.provider != Provider::Stripe || rng.bool()) {
            world.committer.submit_patiently(event).await.unwrap();
        }
    }
    let report = world.reconcile().await;
    assert!(!report.drift.is_empty());
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let lines = differences_of(&world, &told, &COLUMNS_OF_EVENTS).await;
    assert!(lines.is_empty(), "{}", lines.join("\n"));
    let again = world.reconcile().await;
    assert!(again.drift.is_empty(), "{:#?}", again.drift);
}

/// With the events that Stripe still lists nothing is lost, not even what they alone tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_of_events_brings_back_everything() {
    let mut rng = Rng::with_seed(4);
    let world = World::with(Rules::default(), later_than_all()).await;
    let mut told = load_all();
    told.retain(Journey::is_told_by_default_rules);
    for story in &told {
        let listed = story.listed_events();
        // The list has no thin events.
        let is_listed = |event: &Event| listed.iter().any(|listed| listed["id"] == *event.id);
        for event in story.events(Dialect::Newest).into_iter().filter(|event| !is_listed(event) || rng.u8(0..3) == 0) {
            world.committer.submit_patiently(event).await.unwrap();
        }
        world.fake.put(listed);
    }
    let events_alone = Backfill { since: None, stages: vec![Stage::Events], mode: Mode::Apply };
    let report = world.reconciler.backfill(&events_alone, &|_| {}).await.unwrap();
    assert!(report.objects > 500);
    let lines = differences_of(&world, &told, &[]).await;
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

async fn differences_of(world: &World, told: &[Journey], left_out: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    for story in told {
        let users: Vec<String> = story.expected.users.keys().cloned().collect();
        let clock = billsync::clock::Clock::manual(story.expected.now);
        transaction::reproject(&world.store, &[], &users, &world.rules, &clock).await.unwrap();
        for (user_id, expected) in &story.expected.users {
            let expected = without(left_out, expected);
            let profile = world.store.find_profile(user_id).await.unwrap();
            let actual = profile.map(|profile| columns_of(&profile, &expected)).unwrap_or_default();
            compare(&format!("{} {user_id}", story.name), &expected, &actual, &mut lines);
        }
    }
    lines
}

fn without(left_out: &[&str], expected: &Value) -> Value {
    let tables = expected.as_object().unwrap().iter().map(|(table, columns)| {
        let mut columns = columns.as_object().unwrap().clone();
        columns.retain(|column, _| !left_out.contains(&column.as_str()));
        (table.clone(), Value::Object(columns))
    });
    tables.collect::<Map<_, _>>().into()
}
