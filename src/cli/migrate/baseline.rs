//! `billsync migrate baseline`: adopt a database that something else has built.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cli::Exit;
use crate::cli::database::{Database, Schema};
use crate::cli::output::{complain, print, print_json};
use crate::clock::Clock;
use crate::config::Config;
use crate::ingest::transaction::{self, BatchError};
use crate::store::{Adopted, Baseline};

/// Users re-projected in one transaction: few enough that their locks are held briefly.
const USERS_A_TRANSACTION: usize = 32;
/// Ids read at a time.
const PAGE: i64 = 1000;
/// How often an account that somebody else holds is tried.
const ATTEMPTS: u32 = 25;

/// The type of the ledger's entries about rows that the first projection changes.
const CAUSE: &str = "baseline";

/// Adopt a database whose tables something else has made, or print what differs and the SQL that mends it
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync migrate baseline --dry-run     # ends with 3 while something differs\n  \
    billsync migrate baseline > mend.sql    # ends with 3, and this is the SQL that mends it\n  \
    psql \"$DATABASE_URL\" -v ON_ERROR_STOP=1 -f mend.sql\n  billsync migrate baseline\n\n\
    Compares tables, columns, types, nullability, defaults, constraints and indexes of schema public with what the migrations\n\
    make. What it prints is SQL, one transaction with each difference in a comment: read it, run it, and call this again.\n\
    Additional tables and columns stay. A value that does not fit stays readable in a column or table …_before_billsync.\n\
    When nothing differs the database is adopted in one transaction: the migrations are recorded, schema billsync is made, and\n\
    the rows are kept as facts that count for as long as neither Stripe nor Clerk has said anything of a user. Stop what writes\n\
    billing columns before. The connection has to be the owner's of the database and its tables.\n\
    Exit code 3 while something differs, 1 where billsync manages the database already.")]
pub struct BaselineArgs {
    /// Compare and try, but adopt nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the first projection of the adopted rows did.
#[derive(Debug, Default)]
struct Projected {
    users: usize,
    changed: usize,
    /// Users whom somebody else held all the time.
    left: usize,
}

impl BaselineArgs {
    /// Compares, and adopts if nothing differs.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        let database = Database::open(config, Schema::Ignore).await?;
        let done = self.baseline(config, &database).await;
        database.close_after(done).await
    }

    async fn baseline(&self, config: &Config, database: &Database) -> anyhow::Result<Exit> {
        let baseline = database.store.baseline(Clock::System.now(), self.dry_run).await?;
        let Some(adopted) = &baseline.adopted else {
            self.print_differences(&baseline)?;
            return Ok(Exit::Difference);
        };
        let projected = if self.dry_run || !adopted.unknown_plans.is_empty() {
            None
        } else {
            Some(project_all(config, database).await.context("adopted; the rows are not all projected: run `billsync rebuild`")?)
        };
        self.print_adopted(&baseline, adopted, projected.as_ref())?;
        Ok(if projected.is_some_and(|projected| projected.left > 0) { Exit::Failure } else { Exit::Success })
    }

    fn print_differences(&self, baseline: &Baseline) -> anyhow::Result<()> {
        let comparison = &baseline.comparison;
        if self.json {
            return print_json(&json!({
                "differences": comparison.differences,
                "harmless": comparison.harmless,
                "sql": comparison.script(),
                "adopted": null,
                "dry_run": self.dry_run,
            }));
        }
        let harmless = comparison.harmless.iter().map(|note| format!("-- harmless: {}\n", note.replace(['\n', '\r'], " ")));
        let harmless: String = harmless.collect();
        print(&format!("{}{harmless}", comparison.script()))?;
        complain(&format!(
            "{} differences; nothing was changed. Run the SQL above, then `billsync migrate baseline` again.",
            comparison.differences.len()
        ));
        Ok(())
    }

    fn print_adopted(&self, baseline: &Baseline, adopted: &Adopted, projected: Option<&Projected>) -> anyhow::Result<()> {
        if self.json {
            let projected = projected.map(|done| json!({"users": done.users, "changed": done.changed, "left": done.left}));
            print_json(&json!({
                "differences": [],
                "harmless": baseline.comparison.harmless,
                "sql": "",
                "adopted": adopted,
                "projected": projected,
                "dry_run": self.dry_run,
            }))?;
        } else {
            for note in &baseline.comparison.harmless {
                print(&format!("harmless: {note}"))?;
            }
            let verb = if self.dry_run { "would be adopted" } else { "adopted" };
            print(&format!(
                "No difference: {verb}. {} migrations recorded, {} run; the rows of {} users kept as facts, {} customers linked.",
                adopted.recorded.len(),
                adopted.ran.len(),
                adopted.users,
                adopted.customers
            ))?;
            if let Some(done) = projected {
                print(&format!("{} users projected, the rows of {} changed.", done.users, done.changed))?;
            }
        }
        self.complain_of(adopted, projected);
        Ok(())
    }

    fn complain_of(&self, adopted: &Adopted, projected: Option<&Projected>) {
        if adopted.strangers > 0 {
            complain(&format!("{} rows of users have a user_id that is not Clerk's: left alone", adopted.strangers));
        }
        if !adopted.shut_out.is_empty() {
            complain(&format!(
                "row-level security is enabled on the tables: it shows no row to {} until a policy does, or they may bypass it \
                 (alter role … bypassrls)",
                adopted.shut_out.join(", ")
            ));
        }
        if !adopted.unknown_plans.is_empty() {
            complain(&format!(
                "not in the plan catalog: {}. Until it is, limits would be lost: `billsync plans apply FILE`, then \
                 `billsync rebuild`, before events are received",
                adopted.unknown_plans.join(", ")
            ));
        }
        if let Some(left) = projected.map(|done| done.left).filter(|left| *left > 0) {
            complain(&format!("{left} users were held by somebody else: run `billsync rebuild`"));
        }
    }
}

/// Works out every user's rows from the facts that were just made: what they have that a projection would not leave, such as a
/// missing row, is put right and told in the ledger.
async fn project_all(config: &Config, database: &Database) -> anyhow::Result<Projected> {
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {pos} users projected, {per_sec}")?);
    let mut done = Projected::default();
    let mut after = String::new();
    loop {
        let ids = database.store.list_clerk_user_ids(&after, PAGE).await?;
        let Some(last) = ids.last() else { break };
        after.clone_from(last);
        let users: Vec<String> = ids.into_iter().filter(|id| transaction::is_clerk_user(id)).collect();
        for chunk in users.chunks(USERS_A_TRANSACTION) {
            match project(config, database, chunk).await? {
                Some(changed) => done.changed += changed,
                None => done.left += chunk.len(),
            }
            done.users += chunk.len();
            bar.inc(chunk.len() as u64);
        }
    }
    bar.finish_and_clear();
    Ok(done)
}

/// `None` when somebody else holds one of them for too long.
async fn project(config: &Config, database: &Database, users: &[String]) -> anyhow::Result<Option<usize>> {
    for _ in 0..ATTEMPTS {
        match transaction::reproject_because(CAUSE, &database.store, &[], users, &config.rules, &Clock::System).await {
            Ok(changed) => return Ok(Some(changed)),
            Err(BatchError::Contended(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}
