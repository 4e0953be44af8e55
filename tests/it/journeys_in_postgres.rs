//! Every story of `fixtures/journeys` through the committers into a real Postgres: two of them on one database, eight
//! senders, any order, duplicates. The rows in the tables are those that a person derived from the rules.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use billsync::clock::Clock;
use billsync::domain::billing::plan::Plan;
use billsync::domain::event::Event;
use billsync::domain::rules::Rules;
use billsync::ingest::committer::{Committer, Options};
use billsync::ingest::transaction;
use billsync::store::{Profile, Store, StoreSettings};
use chrono::{DateTime, SecondsFormat, TimeZone, Utc};
use fastrand::Rng;
use serde_json::{Map, Value, json};

use crate::rebuild::differences;
use crate::stories::comparison::compare;
use crate::stories::dialect::Dialect;
use crate::stories::journey::{Journey, catalog, load_all};
use crate::support::database::{TestDatabase, database};

const SENDERS: usize = 8;

/// Fresh databases, each with another order.
const ROUNDS: u64 = 2;

/// A database that stories are told to.
pub struct World {
    pub database: TestDatabase,
    /// One for each of two processes.
    pub stores: [Store; 2],
    pub rules: Arc<Rules>,
    pub clock: Clock,
}

impl World {
    pub async fn new(rules: Rules) -> World {
        let now = Utc.with_ymd_and_hms(2026, 4, 1, 0, 0, 0).unwrap();
        let database = database().await;
        let settings = StoreSettings::new(database.url.clone());
        let stores = [Store::connect(&settings).await.unwrap(), Store::connect(&settings).await.unwrap()];
        stores[0].migrate(now).await.unwrap();
        stores[0].ensure_payload_partitions(now).await.unwrap();
        let plans: Vec<Plan> = catalog(None).plans().to_vec();
        stores[0].apply_plans(&plans).await.unwrap();
        World { database, stores, rules: Arc::new(rules), clock: Clock::manual(now) }
    }

    /// Submits the events and some of them twice, in any order.
    pub async fn deliver(&self, events: Vec<Event>, rng: &mut Rng) {
        let mut deliveries = events.clone();
        deliveries.extend(events.into_iter().filter(|_| rng.u8(0..4) == 0));
        rng.shuffle(&mut deliveries);
        let start = |store: &Store| Committer::start(store.clone(), self.rules.clone(), self.clock.clone(), Options::default());
        let committers = Arc::new(self.stores.each_ref().map(start));
        let (deliveries, next) = (Arc::new(deliveries), Arc::new(AtomicUsize::new(0)));
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (committers, deliveries, next) = (committers.clone(), deliveries.clone(), next.clone());
                tokio::spawn(async move {
                    while let Some(event) = deliveries.get(next.fetch_add(1, Ordering::Relaxed)) {
                        committers[sender % 2].submit_patiently(event.clone()).await.unwrap();
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.await.unwrap();
        }
        for committer in committers.iter() {
            committer.close().await;
        }
    }

    /// What the operator has said before the story begins.
    pub async fn link(&self, journey: &Journey) {
        for link in journey.operator_links() {
            sqlx::query("insert into billsync.operator_links (customer_id, clerk_user_id, reason) values ($1, $2, 'story')")
                .bind(&link.customer_id)
                .bind(&link.clerk_user_id)
                .execute(&mut self.database.connect().await)
                .await
                .unwrap();
        }
    }

    /// What differs from the story's rows, as they are at the story's end.
    pub async fn faults(&self, journey: &Journey) -> Vec<String> {
        let users: Vec<String> = journey.expected.users.keys().cloned().collect();
        let clock = Clock::manual(journey.expected.now);
        transaction::reproject(&self.stores[0], &[], &users, &self.rules, &clock).await.unwrap();
        let mut lines = Vec::new();
        for (user_id, expected) in &journey.expected.users {
            let Some(profile) = self.stores[0].find_profile(user_id).await.unwrap() else {
                lines.push(format!("{} {user_id}: has no rows", journey.name));
                continue;
            };
            compare(&format!("{} {user_id}", journey.name), expected, &columns_of(&profile, expected), &mut lines);
        }
        for (customer_id, expected) in &journey.expected.owners {
            let actual = self.owner(customer_id).await;
            compare(&format!("{} {customer_id}", journey.name), expected, &actual, &mut lines);
        }
        lines
    }

    async fn owner(&self, customer_id: &str) -> Value {
        let row: Option<(Option<String>, Option<String>)> =
            sqlx::query_as("select clerk_user_id, linked_by from billsync.owners where owner_id = $1")
                .bind(customer_id)
                .fetch_optional(&mut self.database.connect().await)
                .await
                .unwrap();
        let (clerk_user_id, linked_by) = row.unwrap_or_default();
        json!({"clerk_user_id": clerk_user_id, "linked_by": linked_by})
    }

    pub async fn close(self) {
        for store in &self.stores {
            store.close().await;
        }
    }
}

/// The columns that are expected, in the spelling of the fixtures.
pub fn columns_of(profile: &Profile, expected: &Value) -> Value {
    let profile = json!(profile);
    let tables = expected.as_object().unwrap().iter().map(|(table, columns)| {
        let row = &profile[table];
        let columns = columns.as_object().unwrap().keys().map(|column| {
            let mut value = row.get(column).cloned().unwrap_or_else(|| "(no such column)".into());
            if let (true, Value::Object(entries)) = (column == "email_schedule_status", &mut value) {
                entries.retain(|_key, entry| entry["active"] == json!(true));
            }
            (column.clone(), with_plain_instants(value))
        });
        (table.clone(), Value::Object(columns.collect()))
    });
    Value::Object(tables.collect::<Map<_, _>>())
}

/// Postgres writes `+00:00` and microseconds.
fn with_plain_instants(value: Value) -> Value {
    match value {
        Value::String(text) => match DateTime::parse_from_rfc3339(&text) {
            Ok(instant) => instant.to_utc().to_rfc3339_opts(SecondsFormat::AutoSi, true).into(),
            Err(_) => text.into(),
        },
        Value::Object(members) => {
            members.into_iter().map(|(key, member)| (key, with_plain_instants(member))).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_stories_at_once_end_in_their_rows() {
    let mut journeys = load_all();
    journeys.retain(Journey::is_told_by_default_rules);
    for seed in 0..ROUNDS {
        let mut rng = Rng::with_seed(seed);
        let world = World::new(Rules::default()).await;
        let events = journeys.iter().flat_map(|journey| journey.events(*rng.choice(&Dialect::ALL).unwrap())).collect();
        world.deliver(events, &mut Rng::with_seed(seed)).await;
        let mut lines = Vec::new();
        for journey in &journeys {
            lines.extend(world.faults(journey).await);
        }
        assert!(lines.is_empty(), "seed {seed}\n{}", lines.join("\n"));
        let latest = journeys.iter().map(|journey| journey.expected.now).max().unwrap();
        assert_eq!(differences(&world, latest).await, Vec::<String>::new(), "seed {seed}");
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stories_with_settings_of_their_own_end_in_their_rows() {
    let mut journeys = load_all();
    journeys.retain(|journey| !journey.is_told_by_default_rules());
    assert!(!journeys.is_empty());
    for journey in &journeys {
        let world = World::new(journey.rules()).await;
        world.link(journey).await;
        let events: Vec<Event> = journey.imports().into_iter().chain(journey.events(Dialect::Newest)).collect();
        let ids: BTreeSet<String> = events.iter().map(|event| event.id.clone()).collect();
        assert_eq!(ids.len(), events.len(), "{}: two events of one id", journey.name);
        world.deliver(events, &mut Rng::with_seed(5)).await;
        let lines = world.faults(journey).await;
        assert!(lines.is_empty(), "{}", lines.join("\n"));
        assert_eq!(differences(&world, journey.expected.now).await, Vec::<String>::new(), "{}", journey.name);
        world.close().await;
    }
}
