//! Every story told by several writers at once, in any order: whoever comes first, the rows are the same.

use std::sync::Arc;

use billsync::clock::Clock;
use billsync::domain::event::Event;
use billsync::store::{Store, StoreSettings};

use super::{bench, commit_patiently};
use crate::stories::comparison::differences;
use crate::stories::customers;
use crate::stories::dialect::Dialect;
use crate::stories::journey::load_all;

const WRITERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_story_told_by_writers_that_race_ends_in_its_rows() {
    let mut bench = bench().await;
    let other = Store::connect(&StoreSettings::new(&bench.database.url)).await.unwrap();
    let mut report = String::new();
    for (number, journey) in load_all().iter().enumerate() {
        let mut random = fastrand::Rng::with_seed(number as u64);
        super::stories::begin(&mut bench, journey).await;
        let mut events: Vec<Event> = journey.imports().into_iter().chain(journey.events(Dialect::Newest)).collect();
        let customers = customers(&events);
        random.shuffle(&mut events);
        let events: Vec<Arc<Event>> = events.into_iter().map(Arc::new).collect();
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let store = if writer % 2 == 0 { bench.store.clone() } else { other.clone() };
            let (rules, clock): (_, Clock) = (journey.rules(), bench.clock.clone());
            // Every event is told twice, by different writers.
            let mine = events.iter().enumerate().filter(|(i, _)| i % WRITERS == writer || (i + 1) % WRITERS == writer);
            let mine: Vec<Arc<Event>> = mine.map(|(_, event)| event.clone()).collect();
            writers.push(tokio::spawn(async move {
                for batch in mine.chunks(2) {
                    commit_patiently(&store, batch, &rules, &clock).await;
                }
            }));
        }
        for writer in writers {
            writer.await.unwrap();
        }
        let ids: Vec<String> = customers.iter().cloned().collect();
        let users: Vec<String> = journey.expected.users.keys().cloned().collect();
        let accounts = bench.accounts(&ids, &users).await;
        let lines = differences(&accounts, &journey.expected.users, Some(&journey.expected.owners), &customers);
        if !lines.is_empty() {
            report.push_str(&format!("{}\n  {}\n", journey.name, lines.join("\n  ")));
        }
    }
    assert!(report.is_empty(), "{report}");
}
