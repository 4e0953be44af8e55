//! The README tells what the code does: its tables are read and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use billsync::config::SETTINGS;
use billsync::domain::billing::accounts::{Accounts, Context};
use billsync::domain::event::{Event, Provider, Source};

use crate::stories::dialect::Dialect;
use crate::stories::journey;

/// What any event may change, as the README says below its table.
const BY_ANY_EVENT: [&str; 4] = ["last_webhook_event", "last_webhook_timestamp", "billing_sync_status", "next_change_at"];

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The words in backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn rows_of_table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    let lines = text.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
    lines.take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// One row of the tables of events.
#[derive(Debug)]
struct Meaning {
    patterns: Vec<String>,
    /// `None`: all.
    columns: Option<Vec<String>>,
}

impl Meaning {
    fn covers(&self, event_type: &str) -> bool {
        self.patterns.iter().any(|pattern| matches(pattern, event_type))
    }

    fn allows(&self, table: &str, column: &str) -> bool {
        let Some(columns) = &self.columns else { return true };
        columns.iter().any(|pattern| matches(pattern, column) || matches(pattern, &format!("{table}.{column}")))
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == text, |start| text.starts_with(start))
}

/// The two tables of events: Stripe's, then Clerk's.
fn meanings() -> BTreeMap<Provider, Vec<Meaning>> {
    let text = readme();
    let (stripe, clerk) = text.split_once("## Connecting Clerk").unwrap();
    let read = |part: &str| {
        let rows = rows_of_table(part, "| events |");
        let meaning = |cells: Vec<String>| Meaning {
            patterns: quoted(&cells[0]),
            columns: if cells[2].starts_with("all") { None } else { Some(quoted(&cells[2])) },
        };
        rows.into_iter().map(meaning).collect::<Vec<Meaning>>()
    };
    BTreeMap::from([(Provider::Stripe, read(stripe)), (Provider::Clerk, read(clerk))])
}

#[test]
fn every_event_type_that_has_a_fixture_has_a_row() {
    let meanings = meanings();
    for (provider, folder) in [(Provider::Stripe, "stripe"), (Provider::Clerk, "clerk")] {
        let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder)).unwrap();
        for file in files {
            let name = file.unwrap().file_name().into_string().unwrap();
            let event_type = name.trim_end_matches(".json");
            let rows = meanings[&provider].iter().filter(|meaning| meaning.covers(event_type)).count();
            assert_eq!(rows, 1, "{event_type} stands in {rows} rows of the table for {folder}");
        }
    }
}

#[test]
fn events_change_no_other_columns_than_the_table_says() {
    let meanings = meanings();
    let mut wrong = BTreeSet::new();
    for journey in journey::load_all() {
        let (catalog, rules) = (journey::catalog(None), journey.rules());
        let events: Vec<Event> = journey.imports().into_iter().chain(journey.events(Dialect::Newest)).collect();
        let mut accounts = Accounts::default();
        for event in &events {
            let applied = accounts.apply(event, Context { catalog: &catalog, rules: &rules, now: journey.expected.now });
            let Some(rows) = meanings.get(&event.provider).filter(|_| event.source == Source::Webhook) else { continue };
            let row = rows.iter().find(|row| row.covers(&event.event_type));
            for effect in applied.effects {
                let allowed = row.is_some_and(|row| row.allows(&effect.table, &effect.column));
                if !allowed && !BY_ANY_EVENT.iter().any(|column| *column == effect.column) {
                    wrong.insert(format!("{} changed {}.{} in {}", event.event_type, effect.table, effect.column, journey.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_setting_is_told() {
    let text = readme();
    let start = text.find("## Settings").unwrap();
    let section = &text[start..start + text[start + 3..].find("\n## ").unwrap()];
    let told: BTreeSet<String> = quoted(section).into_iter().collect();
    for setting in SETTINGS {
        for name in [Some(setting.name), setting.alias].into_iter().flatten() {
            assert!(told.contains(name), "the README does not tell of {name}");
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let text = readme();
    for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        match target.strip_prefix('#') {
            Some(anchor) => {
                let headings = text.lines().filter_map(|line| line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")));
                let found = headings.map(|heading| heading.to_lowercase().replace(' ', "-")).any(|slug| slug == anchor);
                assert!(found, "no heading for #{anchor}");
            }
            None => assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(target).exists(), "{target} does not exist"),
        }
    }
}
