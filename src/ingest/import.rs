//! The import of the deprecated `user_profiles` table: batch by batch from one snapshot of it, each user's fact by the way of
//! every event; then a second reading, which compares what there is with what there should be. It can be ended between two
//! batches and run again: what is imported already is left alone.

mod rows;
mod verification;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::clock::Clock;
use crate::domain::billing::facts::Import;
use crate::domain::event::Outcome;
use crate::domain::import::{self, is_blank, is_same};
use crate::domain::rules::Rules;
use crate::domain::user_profile::{Mapping, OwnColumns, UserProfile};
use crate::ingest::transaction::{self, BatchError, ImportedUser, Receipt};
use crate::store::{KnownImport, OwnChange, ProfileTable, Store, StoreError};

use self::rows::{Rows, own_of};

/// How often users whom somebody else holds are tried, each time for as long as a batch waits for a lock.
const ATTEMPTS: u32 = 25;

/// After as many users, and ten times as many each time, the server counts the tables, so that it plans for what they hold.
const FIRST_COUNTED: u64 = 1_000;

/// What is done at a time, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Import,
    Verify,
}

/// Who watches an import, and may end it between two batches.
pub trait Observer {
    /// A stage begins; the table has that many rows.
    fn began(&self, stage: Stage, rows: u64);
    /// So many more rows are done.
    fn advanced(&self, rows: u64);
    /// Whether to end now.
    fn is_stopped(&self) -> bool;
}

/// What an import works with.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    pub store: &'a Store,
    pub rules: &'a Rules,
    pub clock: &'a Clock,
    /// The table's name, as a person writes it.
    pub table: &'a str,
    /// Rows of one transaction.
    pub batch: usize,
    /// Write nothing.
    pub dry_run: bool,
}

/// A row, or a value of one, that was not taken over, or not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The Clerk id, else the row's `id`, else its place in the order of the users.
    pub row: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    pub reason: String,
}

/// A column that nobody reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unmapped {
    pub column: String,
    pub reason: &'static str,
}

/// What an import did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub table: String,
    /// Our column → the table's.
    pub mapped: Vec<(&'static str, String)>,
    pub unmapped: Vec<Unmapped>,
    pub rows: u64,
    /// Users whose import was made or replaced; in a dry run, would be.
    pub imported: u64,
    /// Users who were imported before, with the same values.
    pub unchanged: u64,
    /// Users whose five tables were adopted with more than the old table can know.
    pub kept: u64,
    /// Rows that are no user's, or another's again.
    pub skipped: Vec<Finding>,
    /// Values that could not be read.
    pub values: Vec<Finding>,
    /// Users whom the database refused, or somebody else held all the time.
    pub left: Vec<Finding>,
    pub verified: Verified,
    pub is_stopped: bool,
}

/// What the second reading found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// Users who should be there, and those who are, with all five rows.
    pub expected: u64,
    pub found: u64,
    /// Values compared.
    pub values: u64,
    /// Users of whom a provider has spoken: its word counts.
    pub superseded: u64,
    /// What is otherwise than imported for a reason: another user's customer, a value that the application has written since.
    pub explained: Vec<Finding>,
    /// What is otherwise than it should be.
    pub wrong: Vec<Finding>,
}

/// Why an import ended early. What was committed stands.
#[derive(Debug, Error)]
pub enum ImportError {
    #[error("there is no table or view {0}")]
    NoTable(String),
    #[error("no column of {0} can be the Clerk user id: it has {1}")]
    NoUserId(String, String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// Imports the table, then verifies. A dry run only reads it and tells what would be.
pub async fn import_user_profiles(settings: Settings<'_>, observer: &dyn Observer) -> Result<Report, ImportError> {
    let found = settings.store.find_profile_table(settings.table).await?;
    let table = found.ok_or_else(|| ImportError::NoTable(settings.table.to_owned()))?;
    let mapping = Mapping::of(&table.columns);
    let Some(user_id) = mapping.column("user_id") else {
        return Err(ImportError::NoUserId(table.name, table.columns.join(", ")));
    };
    let plans = settings.store.list_plans().await?;
    let plan_keys: Vec<String> = plans.into_iter().map(|plan| plan.plan_key).collect();
    let (reader, count) = settings.store.read_profiles(&table, user_id).await?;
    let count = u64::try_from(count).unwrap_or_default();
    let rows = Rows::new(reader, &mapping, &plan_keys, settings.batch);
    let mut run = Run { settings, observer, table: &table, mapping: &mapping, report: Report::default() };
    run.describe();
    let done = run.read_and_verify(rows, count).await;
    done.map(|()| run.report)
}

struct Run<'a> {
    settings: Settings<'a>,
    observer: &'a dyn Observer,
    table: &'a ProfileTable,
    mapping: &'a Mapping,
    report: Report,
}

impl Run<'_> {
    fn describe(&mut self) {
        self.report.table.clone_from(&self.table.name);
        self.report.mapped = self.mapping.columns().map(|(ours, theirs)| (ours, theirs.to_owned())).collect();
        let unmapped = self.mapping.unmapped().iter();
        self.report.unmapped = unmapped.map(|(column, reason)| Unmapped { column: column.clone(), reason }).collect();
    }

    async fn read_and_verify(&mut self, mut rows: Rows<'_>, count: u64) -> Result<(), ImportError> {
        self.observer.began(Stage::Import, count);
        let mut counted_at = FIRST_COUNTED;
        loop {
            let read = rows.next().await?;
            let Some(profiles) = read else { break };
            if self.is_stopped() {
                rows.close().await;
                return Ok(());
            }
            self.import(&profiles).await?;
            self.observer.advanced(rows.take_advance());
            if self.report.imported >= counted_at && !self.settings.dry_run {
                self.have_tables_counted().await;
                counted_at *= 10;
            }
        }
        self.observer.advanced(rows.take_advance());
        self.report.rows = rows.count();
        let (skipped, values) = rows.take_findings();
        self.report.skipped = skipped;
        self.report.values = values;
        if !self.settings.dry_run {
            self.observer.began(Stage::Verify, count);
            if self.report.imported > 0 {
                self.have_tables_counted().await;
            }
            rows.rewind().await?;
            while let Some(profiles) = rows.next().await? {
                if self.is_stopped() {
                    break;
                }
                self.verify(&profiles).await?;
                self.observer.advanced(rows.take_advance());
            }
        }
        rows.close().await;
        Ok(())
    }

    /// It only makes reading faster: that it cannot be done now is no reason to end.
    async fn have_tables_counted(&self) {
        if let Err(error) = self.settings.store.analyze_imported().await {
            tracing::debug!("the tables are read with the statistics that there are: {error}");
        }
    }

    fn is_stopped(&mut self) -> bool {
        self.report.is_stopped |= self.observer.is_stopped();
        self.report.is_stopped
    }

    /// Writes what is not known yet of these users. Halves a batch that is held by somebody else or refused, so that one user does
    /// not keep the others from it; what is known is read anew for each attempt, for another run may have come first.
    async fn import(&mut self, profiles: &[UserProfile]) -> Result<(), ImportError> {
        let mut waiting = vec![(profiles, ATTEMPTS)];
        while let Some((part, attempts)) = waiting.pop() {
            if part.is_empty() {
                continue;
            }
            let Settings { store, rules, clock, dry_run, .. } = self.settings;
            let planned = self.plan(part).await?;
            if dry_run || planned.users.is_empty() {
                self.note(&planned, &[]);
                continue;
            }
            match transaction::commit_imports(store, &planned.users, rules, clock).await {
                Ok(receipts) => self.note(&planned, &receipts),
                Err(error @ (BatchError::Contended(_) | BatchError::Poison(_))) => match part {
                    [profile] if attempts == 0 || matches!(error, BatchError::Poison(_)) => {
                        let row = profile.user_id.clone();
                        self.report.left.push(Finding { row, column: None, reason: error.to_string() });
                    }
                    [_] => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        waiting.push((part, attempts - 1));
                    }
                    _ => {
                        let (one, other) = part.split_at(part.len() / 2);
                        waiting.extend([(other, ATTEMPTS), (one, ATTEMPTS)]);
                    }
                },
                // What had committed is found as known.
                Err(BatchError::ConnectionLost(_)) if attempts > 0 => waiting.push((part, attempts - 1)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn plan(&self, profiles: &[UserProfile]) -> Result<Planned, ImportError> {
        let ids: Vec<String> = profiles.iter().map(|profile| profile.user_id.clone()).collect();
        let known = self.settings.store.load_imports(&ids).await?;
        let now = self.settings.clock.now().trunc_subsecs(3);
        let mut planned = Planned { users: Vec::with_capacity(profiles.len()), unchanged: 0, kept: 0 };
        for profile in profiles {
            match standing(known.get(&profile.user_id), profile) {
                Standing::Kept => planned.kept += 1,
                Standing::Unchanged => planned.unchanged += 1,
                Standing::Newer => planned.users.push(self.imported_user(profile, known.get(&profile.user_id), now)),
            }
        }
        Ok(planned)
    }

    fn imported_user(&self, profile: &UserProfile, known: Option<&KnownImport>, now: DateTime<Utc>) -> ImportedUser {
        let seen = known.map(|known| known.as_of);
        let as_of = seen.map_or(now, |seen| now.max(seen + TimeDelta::milliseconds(1)));
        let fact = Import { imported_at: Some(as_of), ..profile.import.clone() };
        let object = json!({"source": self.table.name, "own": profile.own, "user_profile": profile.import});
        let base = known.map(|known| own_of(&known.object));
        let own = OwnChange { user_id: profile.user_id.clone(), new: profile.own.clone(), base };
        ImportedUser { event: Arc::new(import::event(&profile.user_id, fact, &object, as_of)), own, seen }
    }

    /// Without receipts, as a dry run has none, everybody counts as imported.
    fn note(&mut self, planned: &Planned, receipts: &[Receipt]) {
        self.report.kept += planned.kept;
        self.report.unchanged += planned.unchanged;
        self.report.imported += planned.users.len() as u64;
        for (user, receipt) in planned.users.iter().zip(receipts) {
            match receipt.outcome {
                Outcome::Ignored => {
                    let reason = receipt.reason.clone().unwrap_or_default();
                    self.report.left.push(Finding { row: user.own.user_id.clone(), column: None, reason });
                }
                // Another run has imported the user in the same millisecond.
                Outcome::Duplicate => self.report.unchanged += 1,
                _ => continue,
            }
            self.report.imported -= 1;
        }
    }
}

/// What is to be written of some users, and of how many nothing.
struct Planned {
    users: Vec<ImportedUser>,
    unchanged: u64,
    kept: u64,
}

/// What is to be done about a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Newer,
    Unchanged,
    Kept,
}

fn standing(known: Option<&KnownImport>, profile: &UserProfile) -> Standing {
    let Some(known) = known else { return Standing::Newer };
    // The five tables themselves, adopted, are newer than the table that they replaced.
    if known.object.get("source").and_then(Value::as_str) == Some("baseline") && !is_blank(&known.import) {
        return Standing::Kept;
    }
    let is_unchanged = is_same(&known.import, &profile.import) && own_of(&known.object) == profile.own;
    if is_unchanged { Standing::Unchanged } else { Standing::Newer }
}

/// The application's columns of an import by name.
fn own_values(own: &OwnColumns) -> [(&'static str, Value); 8] {
    let step = own.onboarding_step.as_deref().unwrap_or("pending");
    [
        ("business_name", json!(own.business_name)),
        ("brand_description", json!(own.brand_description)),
        ("industry", json!(own.industry)),
        ("onboarding_step", json!(step)),
        ("is_admin", json!(own.is_admin)),
        ("usage_campaigns_current", json!(own.usage_campaigns_current)),
        ("usage_creators_current_month", json!(own.usage_creators_current_month)),
        ("enrichments_current_month", json!(own.enrichments_current_month)),
    ]
}
