//! `billsync rebuild`: everything derived worked out anew from the facts, and what differed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::Exit;
use crate::cli::database::{Database, Schema};
use crate::cli::output::{complain, print, print_json, table};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::billing::differences::Difference;
use crate::http::end_signals::EndSignals;
use crate::ingest::rebuild::{self, Observer, Report, Settings, Stage};

/// Recompute everything derived from the stored facts, and tell what differed
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync rebuild --dry-run\n  billsync rebuild\n  \
    billsync rebuild --user user_2abc --json\n\n\
    Recomputed are the projected columns of the five tables, whose customer is whose, and what facts are looked up by:\n\
    from the facts, the operator's links, the imports, the plan catalog and the ledger, under the same locks as webhooks\n\
    and beside them. What the application owns (counters, usage periods in progress, sent_at marks, …) stays.\n\
    A change that the passing of time brings and that is still to be made is made, and is no difference.\n\
    SIGINT or SIGTERM ends it after the batch in work; it can be run again at any time.\n\
    Exit code 3 when a difference was found, 1 when it was ended early or had to leave something out.")]
pub struct RebuildCommand {
    /// One user alone, by Clerk id, with the customers that are or might be the user's
    #[arg(long, value_name = "CLERK_ID")]
    user: Option<String>,
    /// Tell what differs, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl RebuildCommand {
    /// Rebuilds, or tells what a rebuild would change.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        let mut signals = EndSignals::listen().context("cannot listen for signals")?;
        let database = Database::open(config, Schema::Expect).await?;
        let watched = Watched::new(&database, self.user.is_some()).await;
        let stopped = Arc::clone(&watched.stopped);
        let listening = tokio::spawn(async move {
            signals.next().await;
            stopped.store(true, Ordering::Relaxed);
        });
        let settings = Settings { store: &database.store, rules: &config.rules, clock: &Clock::System, dry_run: self.dry_run };
        let rebuilt = rebuild::rebuild(settings, self.user.as_deref(), &watched).await;
        listening.abort();
        watched.bar.finish_and_clear();
        let report = database.close_after(rebuilt.context("rebuilding")).await?;
        if self.json {
            print_json(&self.to_json(&report))?
        } else {
            self.print_text(&report)?
        }
        Ok(exit(&report))
    }

    fn to_json(&self, report: &Report) -> Value {
        json!({
            "differences": report.differences,
            "objects": report.objects,
            "customers": report.customers,
            "users": report.users,
            "left": report.left,
            "dry_run": self.dry_run,
            "stopped": report.is_stopped,
        })
    }

    fn print_text(&self, report: &Report) -> anyhow::Result<()> {
        let count = report.differences.len();
        if count > 0 {
            let mut table = table(&["user", "column", "stored", "recomputed"]);
            for difference in &report.differences {
                let shown = [show(&difference.stored), show(&difference.recomputed)];
                let [stored, recomputed] = shown;
                table.add_row([difference.user_id.clone().unwrap_or_else(|| "-".into()), name(difference), stored, recomputed]);
            }
            print(&table.to_string())?;
        }
        let found = match (count, self.dry_run) {
            (0, _) => "no difference".to_owned(),
            (_, true) => format!("{count} differences, nothing was written"),
            (_, false) => format!("{count} differences, mended"),
        };
        print(&format!(
            "{} users, {} customers and {} objects recomputed: {found}.",
            report.users, report.customers, report.objects
        ))?;
        if !report.left.is_empty() {
            complain(&format!("left out, because others held them or the database refused them: {}", report.left.join(", ")));
        }
        if report.is_stopped {
            complain("ended early: what was recomputed stands; run it again for the rest");
        }
        Ok(())
    }
}

fn exit(report: &Report) -> Exit {
    if report.is_stopped || !report.left.is_empty() {
        Exit::Failure
    } else if report.differences.is_empty() {
        Exit::Success
    } else {
        Exit::Difference
    }
}

fn name(difference: &Difference) -> String {
    let row = difference.row.as_ref().map(|row| format!(" of {row}")).unwrap_or_default();
    format!("{}.{}{row}", difference.table, difference.column)
}

fn show(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A progress bar, and whether somebody wants an end.
struct Watched {
    bar: ProgressBar,
    stopped: Arc<AtomicBool>,
}

impl Watched {
    async fn new(database: &Database, is_one_user: bool) -> Watched {
        // The planner's memory of how many there are; a table that was never analysed gives no length.
        let estimate = if is_one_user { None } else { database.store.estimate_accounts().await.ok() };
        let (accounts, objects) = estimate.unwrap_or_default();
        let bar = if accounts == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(objects + 2 * accounts) };
        let template = if accounts == 0 { "{spinner} {pos} {msg}" } else { "{bar:40} {pos}/~{len} {msg}, {per_sec}, {eta} left" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Watched { bar, stopped: Arc::default() }
    }
}

impl Observer for Watched {
    fn advanced(&self, stage: Stage, count: u64) {
        self.bar.set_message(match stage {
            Stage::Objects => "objects",
            Stage::ClerkUsers => "Clerk users",
            Stage::Customers => "customers",
            Stage::Rows => "users' rows",
        });
        self.bar.inc(count);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
