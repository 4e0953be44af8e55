//! Every story of `fixtures/journeys`, in every dialect, through decoders, fold and projection: the rows are those that a
//! person derived from the rules.

pub mod comparison;
pub mod dialect;
pub mod journey;

use std::collections::BTreeSet;

use billsync::domain::billing::accounts::{Accounts, Context};
use billsync::domain::billing::plan::Catalog;
use billsync::domain::billing::stored::Loaded;
use billsync::domain::event::Event;
use chrono::{DateTime, Utc};

use self::comparison::differences;
use self::dialect::Dialect;
use self::journey::{Journey, Then, catalog, load_all};

/// The accounts of a story before its first event.
pub fn beginning(journey: &Journey) -> Accounts {
    Accounts::new(Loaded { operator_links: journey.operator_links(), ..Loaded::default() })
}

/// Applies the events in turn.
pub fn fold<'a>(
    journey: &Journey,
    events: impl IntoIterator<Item = &'a Event>,
    catalog: &Catalog,
    now: DateTime<Utc>,
) -> Accounts {
    let (mut accounts, rules) = (beginning(journey), journey.rules());
    for event in events {
        accounts.apply(event, Context { catalog, rules: &rules, now });
    }
    accounts
}

/// Notes what people asked the application for.
fn note_requests(journey: &Journey, accounts: Accounts, then: &Then) -> Accounts {
    let mut loaded = accounts.into_loaded();
    for user in &mut loaded.users {
        if let Some(request) = then.requests.get(&user.user_id) {
            (user.requested_plan, user.requested_at) = (Some(request.plan.clone()), Some(request.at));
        }
    }
    Accounts::new(Loaded { operator_links: journey.operator_links(), ..loaded })
}

/// Every customer that the story names.
pub fn customers(events: &[Event]) -> BTreeSet<String> {
    events.iter().flat_map(|event| event.customer_ids.iter().cloned()).collect()
}

/// Projects everybody again, as the clock or a new catalog makes it necessary.
pub fn reproject_all(journey: &Journey, accounts: &mut Accounts, catalog: &Catalog, now: DateTime<Utc>) {
    let rules = journey.rules();
    for user_id in accounts.user_ids().map(str::to_owned).collect::<Vec<_>>() {
        accounts.reproject(&user_id, Context { catalog, rules: &rules, now });
    }
}

fn faults(journey: &Journey, dialect: Dialect) -> Vec<String> {
    let (expected, plans) = (&journey.expected, catalog(None));
    let events: Vec<Event> = journey.imports().into_iter().chain(journey.events(dialect)).collect();
    let imports = journey.imports().len();
    let customers = customers(&events);
    let mut lines = Vec::new();
    let mut note = |moment: String, found: Vec<String>| lines.extend(found.into_iter().map(|line| format!("  {moment}: {line}")));
    for midway in &expected.midway {
        let accounts = fold(journey, &events[..imports + midway.after], &plans, midway.now);
        let found = differences(&accounts, &midway.users, midway.owners.as_ref(), &customers);
        note(format!("after {:02}, at {}", midway.after, midway.now), found);
    }
    let mut accounts = fold(journey, &events, &plans, expected.now);
    note("at the end".into(), differences(&accounts, &expected.users, Some(&expected.owners), &customers));
    for then in &expected.then {
        accounts = note_requests(journey, accounts, then);
        reproject_all(journey, &mut accounts, &catalog(Some(then)), then.now);
        note(format!("then, at {}", then.now), differences(&accounts, &then.users, then.owners.as_ref(), &customers));
    }
    lines
}

fn assert_every_story(dialect: Dialect) {
    let mut report = String::new();
    for journey in load_all() {
        let lines = faults(&journey, dialect);
        if !lines.is_empty() {
            report.push_str(&format!("{}\n  ({})\n{}\n", journey.name, journey.rule, lines.join("\n")));
        }
    }
    assert!(report.is_empty(), "{dialect:?}\n{report}");
}

#[test]
fn there_are_enough_stories() {
    assert!(load_all().len() >= 40);
}

#[test]
fn every_story_ends_in_its_rows_in_the_dialect_of_2024() {
    assert_every_story(Dialect::Of2024);
}

#[test]
fn every_story_ends_in_its_rows_in_basil() {
    assert_every_story(Dialect::Basil);
}

#[test]
fn every_story_ends_in_its_rows_in_the_newest_dialect() {
    assert_every_story(Dialect::Newest);
}

#[test]
fn every_story_ends_in_its_rows_in_flexible_billing_mode() {
    assert_every_story(Dialect::Flexible);
}

#[test]
fn a_wrong_expectation_is_found() {
    let mut journey = load_all().into_iter().find(|journey| journey.name == "trial_to_paid").expect("the story exists");
    for rows in journey.expected.users.values_mut() {
        rows["user_subscriptions"]["current_plan"] = "viral_surge".into();
    }
    let lines = faults(&journey, Dialect::Newest);
    assert!(lines.iter().any(|line| line.contains("current_plan: expected \"viral_surge\"")), "{lines:?}");
}
