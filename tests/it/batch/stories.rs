//! Every story through Postgres, in batches and in any order: the rows are those of the fold in memory, so that what the
//! loads leave out is never missed.

use std::sync::Arc;

use billsync::clock::Clock;
use billsync::domain::event::Event;
use billsync::ingest::transaction;

use super::{Bench, bench};
use crate::stories::comparison::differences;
use crate::stories::customers;
use crate::stories::dialect::Dialect;
use crate::stories::journey::{Journey, catalog, load_all};

const EMPTY: &str = "delete from users; delete from billsync.webhook_events; delete from billsync.webhook_payloads; \
    delete from billsync.provider_objects; delete from billsync.owners; delete from billsync.operator_links; \
    delete from billsync.refetch_queue";

/// Empties the database and sets it to what the story begins with.
pub async fn begin(bench: &mut Bench, journey: &Journey) {
    bench.database.execute(EMPTY).await;
    for link in journey.operator_links() {
        let user = link.clerk_user_id.map_or("null".to_owned(), |id| format!("'{id}'"));
        let columns = "billsync.operator_links (customer_id, clerk_user_id)";
        bench.database.execute(&format!("insert into {columns} values ('{}', {user})", link.customer_id)).await;
    }
    bench.rules = journey.rules();
    bench.clock = Clock::manual(journey.expected.now);
    bench.store.apply_plans(catalog(None).plans()).await.unwrap();
}

/// Commits the story in batches of random sizes and compares the rows with the expected ones.
async fn faults(bench: &mut Bench, journey: &Journey, events: Vec<Event>, sizes: &mut fastrand::Rng) -> Vec<String> {
    begin(bench, journey).await;
    let customers = customers(&events);
    let users: Vec<String> = journey.expected.users.keys().cloned().collect();
    let mut rest: Vec<Arc<Event>> = events.into_iter().map(Arc::new).collect();
    while !rest.is_empty() {
        let tail = rest.split_off(sizes.usize(1..=4).min(rest.len()));
        bench.commit(&rest).await;
        rest = tail;
    }
    let ids: Vec<String> = customers.iter().cloned().collect();
    let accounts = bench.accounts(&ids, &users).await;
    let expected = &journey.expected;
    let mut lines = differences(&accounts, &expected.users, Some(&expected.owners), &customers);
    for then in &expected.then {
        bench.clock = Clock::manual(then.now);
        bench.store.apply_plans(catalog(Some(then)).plans()).await.unwrap();
        for (user_id, request) in &then.requests {
            let values = format!("requested_plan = '{}', requested_at = '{}'", request.plan, request.at.to_rfc3339());
            let of_user = format!("user_id = (select id from users where user_id = '{user_id}')");
            bench.database.execute(&format!("update user_subscriptions set {values} where {of_user}")).await;
        }
        let known = bench.store.list_clerk_user_ids("", 100).await.unwrap();
        transaction::reproject(&bench.store, &[], &known, &bench.rules, &bench.clock).await.unwrap();
        let accounts = bench.accounts(&ids, &users).await;
        lines.extend(differences(&accounts, &then.users, then.owners.as_ref(), &customers));
    }
    if !expected.then.is_empty() {
        bench.database.execute("delete from subscription_plans").await;
    }
    lines
}

#[tokio::test]
async fn every_story_ends_in_its_rows_in_postgres() {
    let mut bench = bench().await;
    let mut report = String::new();
    for (number, journey) in load_all().iter().enumerate() {
        for (seed, dialect) in [(1, Dialect::Newest), (2, Dialect::Of2024)] {
            let mut random = fastrand::Rng::with_seed(seed * 1000 + number as u64);
            let mut events: Vec<Event> = journey.imports().into_iter().chain(journey.events(dialect)).collect();
            if seed > 1 {
                random.shuffle(&mut events);
            }
            let lines = faults(&mut bench, journey, events, &mut random).await;
            if !lines.is_empty() {
                report.push_str(&format!("{} (seed {seed})\n  {}\n", journey.name, lines.join("\n  ")));
            }
        }
    }
    assert!(report.is_empty(), "{report}");
}
