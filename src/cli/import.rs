//! `billsync import user-profiles`: the deprecated single table into the five.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cli::Exit;
use crate::cli::database::{Database, Schema};
use crate::cli::output::{complain, print, print_json, table};
use crate::clock::Clock;
use crate::config::Config;
use crate::http::end_signals::EndSignals;
use crate::ingest::import::{self, Finding, Observer, Report, Settings, Stage};

/// Most findings of a kind that are listed one by one; JSON lists all.
const MAX_LISTED: usize = 20;

/// Move rows of an older layout into the five tables
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  billsync import user-profiles --dry-run")]
pub struct ImportCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    UserProfiles(UserProfilesArgs),
}

/// The deprecated table user_profiles, one wide row a user
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync import user-profiles --dry-run\n  billsync import user-profiles\n  \
    billsync import user-profiles --from legacy.profiles --batch 500 --json\n\n\
    Columns are found by their usual names, with or without underscores, of whatever type; a view can give them others. Each\n\
    user becomes a fact that counts for as long as neither Stripe nor Clerk has said anything newer, so it may run before or\n\
    after the first webhooks, beside `serve`, and as often as one likes: what is imported already is left alone, and what the\n\
    application has written since stays. Killed or ended by SIGINT or SIGTERM, it goes on where it was when run again.\n\
    At the end every user is read again and compared. What could not be read is told by row and column, never by value, and\n\
    is no failure.\n\
    Exit code 3 when the comparison found a difference, 1 when it was ended early, had to leave a user out, or found no user.")]
struct UserProfilesArgs {
    /// The table or view to read, with its schema if that is not public
    #[arg(long, value_name = "TABLE", default_value = "user_profiles")]
    from: String,
    /// Rows of one transaction
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=500))]
    batch: u16,
    /// Read and tell what would be imported, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ImportCommand {
    /// Imports, and tells what became of every row.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        match &self.what {
            What::UserProfiles(arguments) => arguments.run(config).await,
        }
    }
}

impl UserProfilesArgs {
    async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        let mut signals = EndSignals::listen().context("cannot listen for signals")?;
        let database = Database::open(config, Schema::Expect).await?;
        let watched = Watched::default();
        let stopped = Arc::clone(&watched.stopped);
        let listening = tokio::spawn(async move {
            signals.next().await;
            stopped.store(true, Ordering::Relaxed);
        });
        let settings = Settings {
            store: &database.store,
            rules: &config.rules,
            clock: &Clock::System,
            table: &self.from,
            batch: usize::from(self.batch),
            dry_run: self.dry_run,
        };
        let started = Instant::now();
        let imported = import::import_user_profiles(settings, &watched).await;
        listening.abort();
        watched.bar.finish_and_clear();
        let report = database.close_after(imported.with_context(|| format!("importing {}", self.from))).await?;
        let seconds = started.elapsed().as_secs_f64();
        if self.json {
            print_json(&json!({ "dry_run": self.dry_run, "seconds": seconds, "report": report }))?
        } else {
            self.print_text(&report, seconds)?
        }
        if is_of_nobody(&report) {
            complain(&format!("no row of {} is a Clerk user's: is it the table that is meant?", report.table));
        }
        Ok(exit(&report))
    }

    fn print_text(&self, report: &Report, seconds: f64) -> anyhow::Result<()> {
        let mut columns = table(&["column", "of the table", ""]);
        for (ours, theirs) in &report.mapped {
            columns.add_row([*ours, theirs.as_str(), ""]);
        }
        for unmapped in &report.unmapped {
            columns.add_row(["-", unmapped.column.as_str(), unmapped.reason]);
        }
        print(&columns.to_string())?;
        let verb = if self.dry_run { "to import" } else { "imported" };
        let Report { rows, imported, unchanged, kept, skipped, .. } = report;
        print(&format!(
            "{} of {}: {rows} rows, {imported} users {verb}, {unchanged} unchanged, {kept} kept as adopted, {} rows skipped; \
             {seconds:.1} s, {:.0} rows/s.",
            if self.dry_run { "Dry run" } else { "Import" },
            report.table,
            skipped.len(),
            rate(*rows, seconds)
        ))?;
        if !self.dry_run {
            let verified = &report.verified;
            print(&format!(
                "Verified: {} of {} users have their five rows, {} values compared, {} wrong; of {} users a provider has spoken.",
                verified.found,
                verified.expected,
                verified.values,
                verified.wrong.len(),
                verified.superseded
            ))?;
        }
        list("skipped", &report.skipped);
        list("not taken over as it was", &report.values);
        list("left out", &report.left);
        list("otherwise for a reason", &report.verified.explained);
        list("WRONG", &report.verified.wrong);
        if report.is_stopped {
            complain("ended early: what was imported stands; run it again for the rest");
        }
        Ok(())
    }
}

fn list(what: &str, findings: &[Finding]) {
    for finding in findings.iter().take(MAX_LISTED) {
        let column = finding.column.as_ref().map(|column| format!(", column {column}")).unwrap_or_default();
        complain(&format!("{what}: {}{column}: {}", finding.row, finding.reason));
    }
    if findings.len() > MAX_LISTED {
        complain(&format!("{what}: and {} more, which --json lists", findings.len() - MAX_LISTED));
    }
}

/// Rows, and not one that could be a user.
fn is_of_nobody(report: &Report) -> bool {
    report.rows > 0 && report.skipped.len() as u64 == report.rows
}

fn exit(report: &Report) -> Exit {
    if report.is_stopped || is_of_nobody(report) || !report.left.is_empty() {
        Exit::Failure
    } else if report.verified.wrong.is_empty() {
        Exit::Success
    } else {
        Exit::Difference
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(rows: u64, seconds: f64) -> f64 {
    rows as f64 / seconds.max(0.001)
}

/// A progress bar, and whether somebody wants an end.
struct Watched {
    bar: ProgressBar,
    stopped: Arc<AtomicBool>,
}

impl Default for Watched {
    fn default() -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} rows, {per_sec}, {eta} left") {
            bar.set_style(style);
        }
        Watched { bar, stopped: Arc::default() }
    }
}

impl Observer for Watched {
    fn began(&self, stage: Stage, rows: u64) {
        self.bar.reset();
        self.bar.set_length(rows);
        self.bar.set_message(match stage {
            Stage::Import => "import",
            Stage::Verify => "verify",
        });
    }

    fn advanced(&self, rows: u64) {
        self.bar.inc(rows);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
