//! The schema: migrations, the tables and indexes that they make, the partitions that are made ahead.

use chrono::Months;

use crate::cli::doctor::database_checks::cannot_tell;
use crate::cli::doctor::finding::Findings;
use crate::cli::inspect::{fix_of_index, fix_of_leftover};
use crate::clock::Clock;
use crate::store::{Fault, FaultyIndex, MigrationState, Store};

/// Whether there is anything to ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    There,
    NotThere,
}

/// Migrations, tables, indexes, partitions.
pub async fn check(store: &Store, findings: &mut Findings) -> Tables {
    let status = match store.migration_status().await {
        Ok(status) => status,
        Err(error) => {
            cannot_tell("schema", "which migrations have run", &error, findings);
            return Tables::NotThere;
        }
    };
    let count = |is: fn(&MigrationState) -> bool| status.iter().filter(|it| is(&it.state)).count();
    let pending: Vec<String> =
        status.iter().filter(|it| it.state == MigrationState::Pending).map(|it| it.version.to_string()).collect();
    for changed in status.iter().filter(|it| matches!(it.state, MigrationState::Changed(_))) {
        findings.error(
            "schema",
            format!("migration {} ({}) was applied in another form than this binary holds", changed.version, changed.description),
            "run the version of billsync that applied it   # a released migration is never edited",
        );
    }
    let unknown = count(|state| matches!(state, MigrationState::Unknown(_)));
    if unknown > 0 {
        findings.warn(
            "schema",
            format!("{unknown} migrations are of a newer version than this binary"),
            "upgrade this binary   # to the version that runs elsewhere",
        );
    }
    if !pending.is_empty() {
        tell_of_pending(store, &pending, status.len(), findings).await;
    } else if !findings.has_trouble("schema") {
        findings.ok("schema", format!("all {} migrations have run", status.len()));
    }
    if pending.len() == status.len() {
        return Tables::NotThere;
    }
    check_unfinished(store, findings).await;
    check_indexes(store, unknown > 0, findings).await;
    check_partitions(store, findings).await;
    Tables::There
}

/// Migrations do not run over tables that something else has made.
async fn tell_of_pending(store: &Store, pending: &[String], known: usize, findings: &mut Findings) {
    match store.find_foreign_table().await {
        Ok(Some(table)) => findings.error(
            "schema",
            format!(
                "the table public.{table} is there, made by something else than billsync's migrations, of which none has run"
            ),
            "billsync migrate baseline > mend.sql   # what differs, as SQL; nothing is changed until it is run",
        ),
        Ok(None) => {
            let what = format!("{} of {known} migrations have not run: {}", pending.len(), pending.join(", "));
            findings.error("schema", what, "billsync migrate run");
        }
        Err(error) => cannot_tell("schema", "whose the tables are", &error, findings),
    }
}

async fn check_unfinished(store: &Store, findings: &mut Findings) {
    match store.list_unfinished_migrations().await {
        Ok(unfinished) => {
            for version in unfinished {
                findings.error(
                    "schema",
                    format!("migration {version} is dirty: it began and did not get to its end"),
                    format!("delete from billsync.migrations where version = {version};   -- then: billsync migrate run"),
                );
            }
        }
        Err(error) => cannot_tell("schema", "whether every migration got to its end", &error, findings),
    }
}

/// A newer version may have dropped what this one expects.
async fn check_indexes(store: &Store, is_older: bool, findings: &mut Findings) {
    let state = match store.expected_schema().await {
        Ok(expected) => store.find_index_state(&expected).await,
        Err(error) => Err(error),
    };
    let state = match state {
        Ok(state) => state,
        Err(error) => return cannot_tell("schema", "the indexes", &error, findings),
    };
    for table in state.missing_tables.iter().filter(|_| !is_older) {
        findings.error(
            "schema",
            format!("the table {table} is missing"),
            "restore it from a backup   # no migration makes it again",
        );
    }
    let faulty: Vec<&FaultyIndex> = state.faulty.iter().filter(|_| !is_older).collect();
    for index in &faulty {
        let FaultyIndex { fault, expected, .. } = index;
        let what = format!("index {} on {} is {}", expected.name, expected.table, fault.words());
        let is_needed = expected.constraint.is_some() && *fault != Fault::Different;
        match fix_of_index(index) {
            None => findings.ok("schema", what),
            // Without it, `on conflict` is refused and with it every event.
            Some(fix) if is_needed => findings.error("schema", format!("{what}, and a constraint needs it"), fix),
            Some(fix) => findings.warn("schema", what, fix),
        }
    }
    for index in &state.leftovers {
        let what = format!(
            "index {} on {}.{} is invalid: it slows writes and helps no read",
            index.name, index.schema_name, index.table_name
        );
        findings.warn("schema", what, fix_of_leftover(index));
    }
    if state.missing_tables.is_empty() && faulty.is_empty() && state.leftovers.is_empty() {
        findings.ok("schema", "every table and index of the migrations is there, and valid");
    }
}

/// Without the next one nothing is lost, but the default partition grows, and retention cannot drop it.
async fn check_partitions(store: &Store, findings: &mut Findings) {
    let now = Clock::System.now();
    for month in [now, now.checked_add_months(Months::new(1)).unwrap_or(now)] {
        match store.has_payload_partition(month).await {
            Ok(true) => {}
            Ok(false) => findings.warn(
                "schema",
                format!("payloads of {} have no partition of their own", month.format("%Y-%m")),
                "billsync schedule run retention",
            ),
            Err(error) => return cannot_tell("schema", "the partitions of payloads", &error, findings),
        }
    }
}
