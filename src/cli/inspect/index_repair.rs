//! `inspect db --fix-indexes`: makes what is missing while the service runs, and drops what an interrupted attempt left.
//! It can be interrupted at any point and run again.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::Exit;
use crate::cli::failure::WrongUse;
use crate::cli::output::{complain, print, print_json};
use crate::config::{Config, Pooler};
use crate::http::end_signals::EndSignals;
use crate::store::{Fault, FaultyIndex, IndexBuilder, IndexProgress, MigrationState, PresentIndex, Store, StoreError};

/// How often the server is asked how far it is.
const LOOK_UP: Duration = Duration::from_millis(500);
/// What `reindex concurrently` leaves when it is interrupted: a copy that is of no use to anybody.
const REINDEX_LEFTOVERS: [&str; 2] = ["_ccnew", "_ccold"];

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Repair {
    mended: Vec<Mended>,
    /// Leftovers of an interrupted `reindex`.
    dropped: Vec<String>,
    failed: Vec<Failed>,
    is_interrupted: bool,
}

#[derive(Debug, Serialize)]
struct Mended {
    index: String,
    table: String,
    was: Fault,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Failed {
    index: String,
    table: String,
    why: String,
}

/// What to look at while an index is made.
struct Watch<'a> {
    store: &'a Store,
    signals: EndSignals,
    bar: ProgressBar,
    is_interrupted: bool,
}

/// Mends every index that is not as the migrations make it.
pub async fn run(config: &Config, store: &Store, json: bool) -> anyhow::Result<Exit> {
    if config.pooler == Pooler::Transaction && config.migration_database_url.is_none() {
        let why = "indexes are made in a session of their own: set BILLSYNC_MIGRATION_DATABASE_URL to a direct connection";
        bail!(WrongUse(why.to_owned()));
    }
    let status = store.migration_status().await?;
    if status.iter().any(|migration| matches!(migration.state, MigrationState::Unknown(_))) {
        bail!("a newer version of billsync has migrated this database, and may make other indexes: use that version");
    }
    let signals = EndSignals::listen().context("cannot listen for signals")?;
    let expected = store.expected_schema().await?;
    let Some(mut builder) = store.open_index_builder().await? else {
        bail!("another process is making indexes on this database; when it has ended, run this again for what is left");
    };
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {msg}")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut watch = Watch { store, signals, bar, is_interrupted: false };
    // Looked at now that nobody else makes any.
    let repaired = match store.find_index_state(&expected).await {
        Ok(state) => watch.repair(&mut builder, &state.faulty, &state.leftovers, json).await,
        Err(error) => Err(error.into()),
    };
    watch.bar.finish_and_clear();
    builder.close().await;
    report(&repaired?, json)
}

impl Watch<'_> {
    async fn repair(
        &mut self,
        builder: &mut IndexBuilder,
        faulty: &[FaultyIndex],
        leftovers: &[PresentIndex],
        json: bool,
    ) -> anyhow::Result<Repair> {
        let mut repair = Repair::default();
        for index in leftovers.iter().filter(|index| REINDEX_LEFTOVERS.iter().any(|mark| index.name.contains(mark))) {
            builder.drop_index(&index.schema_name, &index.name).await?;
            repair.dropped.push(format!("{}.{}", index.schema_name, index.name));
        }
        for (number, index) in faulty.iter().enumerate() {
            if self.is_interrupted {
                break;
            }
            let (name, table) = (index.expected.name.clone(), index.expected.table.to_string());
            let title = format!("{} of {}: {name} on {table}", number + 1, faulty.len());
            let began = Instant::now();
            match self.mend(builder, index, &title).await {
                Ok(()) => {
                    let seconds = began.elapsed().as_secs_f64();
                    if !json {
                        self.bar.suspend(|| print(&format!("made {name} on {table} in {seconds:.1} s")))?;
                    }
                    repair.mended.push(Mended { index: name, table, was: index.fault, seconds });
                }
                Err(_canceled) if self.is_interrupted => {}
                Err(error) => repair.failed.push(Failed { index: name, table, why: error.to_string() }),
            }
        }
        repair.is_interrupted = self.is_interrupted;
        Ok(repair)
    }

    /// A signal has the server give up the statement in work, so that nothing goes on after us.
    async fn mend(&mut self, builder: &mut IndexBuilder, index: &FaultyIndex, title: &str) -> Result<(), StoreError> {
        self.bar.set_message(title.to_owned());
        let backend = builder.backend();
        let mut mending = pin!(builder.mend(index));
        loop {
            tokio::select! {
                mended = &mut mending => return mended,
                _signal = self.signals.next() => {
                    self.is_interrupted = true;
                    self.store.cancel_index_builder(backend).await?;
                }
                () = tokio::time::sleep(LOOK_UP) => {
                    // That it cannot be told how far it is hinders nobody.
                    if let Ok(Some(progress)) = self.store.find_index_progress(backend).await {
                        self.bar.set_message(format!("{title}: {}", describe(&progress)));
                    }
                }
            }
        }
    }
}

fn describe(progress: &IndexProgress) -> String {
    let phase = &progress.phase;
    let left = progress.lockers_total - progress.lockers_done;
    if phase.starts_with("waiting") && left > 0 {
        return format!("waiting for {left} transactions to end");
    }
    let counted = [(progress.blocks_done, progress.blocks_total), (progress.tuples_done, progress.tuples_total)];
    match counted.into_iter().find(|(_, total)| *total > 0) {
        Some((done, total)) => format!("{phase}, {} %", done.saturating_mul(100) / total),
        None => phase.clone(),
    }
}

fn report(repair: &Repair, json: bool) -> anyhow::Result<Exit> {
    if json {
        print_json(repair)?;
    } else {
        for name in &repair.dropped {
            print(&format!("dropped {name}, which an interrupted reindex had left"))?;
        }
        for failed in &repair.failed {
            complain(&format!("could not make {} on {}: {}", failed.index, failed.table, failed.why));
        }
        if repair.is_interrupted {
            complain("interrupted: what was made stands; run it again for the rest");
        }
        if repair.mended.is_empty() && repair.failed.is_empty() && !repair.is_interrupted {
            print("Every index that the migrations make is there, and valid.")?;
        }
    }
    Ok(if repair.failed.is_empty() && !repair.is_interrupted { Exit::Success } else { Exit::Failure })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_as_far_as_it_is_known() {
        let idle = IndexProgress {
            phase: "initializing".into(),
            lockers_total: 0,
            lockers_done: 0,
            blocks_total: 0,
            blocks_done: 0,
            tuples_total: 0,
            tuples_done: 0,
        };
        assert_eq!(describe(&idle), "initializing");
        let waiting =
            IndexProgress { phase: "waiting for old snapshots".into(), lockers_total: 3, lockers_done: 1, ..idle.clone() };
        assert_eq!(describe(&waiting), "waiting for 2 transactions to end");
        let scanning =
            IndexProgress { phase: "building index: scanning table".into(), blocks_total: 200, blocks_done: 50, ..idle };
        assert_eq!(describe(&scanning), "building index: scanning table, 25 %");
    }
}
