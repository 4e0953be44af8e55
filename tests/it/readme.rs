//! The README tells what the code does: its tables are read and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use billsync::config::SETTINGS;
use billsync::domain::billing::accounts::{Accounts, Context};
use billsync::domain::event::{Event, Provider, Source};

use crate::stories::dialect::Dialect;
use crate::stories::journey;
use crate::support::examples::help::commands;
use crate::support::examples::{NOT_RUN, collected, is_not_run, try_all};

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

#[tokio::test(flavor = "multi_thread")]
async fn every_example_works() {
    try_all(collected::of_readme()).await;
}

#[test]
fn what_cannot_be_run_is_still_there_and_everything_else_is() {
    let blocks: Vec<collected::Block> = collected::of_readme().into_iter().chain(collected::of_help()).collect();
    let examples: Vec<&collected::Example> = blocks.iter().flat_map(|block| &block.examples).collect();
    for (start, reason) in NOT_RUN {
        assert!(!reason.is_empty() && examples.iter().any(|example| example.line.starts_with(start)), "{start} is no example");
    }
    let run = examples.iter().filter(|example| !is_not_run(example));
    let of = |program: &str| run.clone().filter(|example| example.line.contains(program)).count();
    assert!(of("billsync ") > 60 && of("curl ") > 0 && of("cargo run ") > 1, "{examples:#?}");
}

#[test]
fn the_table_of_commands_names_each_with_flags_that_it_has() {
    let known = commands();
    let rows = rows_of_table(&readme(), "| command |");
    let told: Vec<String> = rows.iter().flat_map(|cells| quoted(&cells[0])).collect();
    let named: BTreeSet<String> = told.iter().map(|form| words_before_flags(form)).collect();
    for command in &known {
        let is_leaf = !command.text.contains("\nCommands:\n");
        let name = command.path.join(" ");
        // What only those need who work on billsync itself stands elsewhere.
        if is_leaf && name != "migrate new" {
            assert!(named.iter().any(|form| *form == name || form.starts_with(&format!("{name} "))), "no row tells of `{name}`");
        }
    }
    for code in collected::code_in_sentences() {
        let words: Vec<&str> = code.split_whitespace().skip_while(|word| *word == "billsync").collect();
        let called = known.iter().filter(|command| !command.path.is_empty() && words.starts_with(&as_words(&command.path)));
        let Some(command) = called.max_by_key(|command| command.path.len()) else { continue };
        for flag in words.iter().map(|word| word.trim_matches(|c| "[]…".contains(c))).filter(|word| word.starts_with("--")) {
            assert!(
                command.text.contains(&format!("{flag} ")) || command.text.contains(&format!("{flag}\n")),
                "`{code}`: no {flag}"
            );
        }
    }
}

fn as_words(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

fn words_before_flags(form: &str) -> String {
    let words = form.split_whitespace().take_while(|word| !word.starts_with(['-', '[']));
    words.collect::<Vec<&str>>().join(" ")
}
