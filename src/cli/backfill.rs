//! `billsync backfill`: the history that the providers have, into facts.

use std::time::Instant;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::json;

use crate::cli::Exit;
use crate::cli::arguments::instant;
use crate::cli::database::{Database, Schema};
use crate::cli::failure::WrongUse;
use crate::cli::output::{complain, print, print_json};
use crate::cli::stripe::with_reconciler;
use crate::cli::stripe_progress::StripeProgress;
use crate::config::Config;
use crate::reconcile::{Backfill, Mode, Reconciler, Report, Stage};

/// Read the history that Clerk and Stripe have: users, customers, subscriptions, payment methods, invoices and the rest
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync backfill --dry-run\n  billsync backfill --since 2025-01-01T00:00:00Z\n  \
    billsync backfill --type clerk.user\n  billsync backfill --type customers --type subscriptions --json\n\n\
    Needs STRIPE_API_KEY (a restricted key that may read is enough), CLERK_SECRET_KEY, or both; without --type it reads what\n\
    there is a key for. Interrupted in whatever way, the same command goes on where it ended. A second run reads everything\n\
    again and changes nothing. Canceled subscriptions are read too; of customers that were deleted, what the events of the\n\
    last 30 days tell. Users whom Clerk does not have any more become deleted, unless more are missing than there are.")]
pub struct BackfillCommand {
    /// Only what was created since (RFC 3339); of payment methods always all
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<DateTime<Utc>>,
    /// Only this; may be repeated
    #[arg(long = "type", value_name = "TYPE", value_parser = PossibleValuesParser::new(Backfill::STAGES.map(Stage::name)))]
    types: Vec<String>,
    /// Read and compare, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl BackfillCommand {
    /// Reads it all.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        let database = Database::open(config, Schema::Expect).await?;
        let began = Instant::now();
        let read = async |reconciler: Reconciler| {
            let bar = StripeProgress::start(began)?;
            let read = match self.what(&reconciler) {
                Ok(what) => reconciler.backfill(&what, &|progress| bar.note(progress)).await.map_err(Into::into),
                Err(error) => Err(error),
            };
            bar.finish();
            read
        };
        let done = with_reconciler(config, &database, read).await;
        let report = database.close_after(done).await?;
        self.show(&report, began.elapsed().as_secs_f64())?;
        Ok(if report.problems.is_empty() { Exit::Success } else { Exit::Failure })
    }

    /// What is asked for by name is read or refused; what is not, as far as there is a key for it.
    fn what(&self, reconciler: &Reconciler) -> anyhow::Result<Backfill> {
        let mut stages = Backfill::STAGES.to_vec();
        if self.types.is_empty() {
            for (provider, is_there, setting) in
                [("Clerk", reconciler.reads_clerk(), "CLERK_SECRET_KEY"), ("Stripe", reconciler.reads_stripe(), "STRIPE_API_KEY")]
            {
                if !is_there {
                    stages.retain(|stage| stage.provider() != provider);
                    complain(&format!("{setting} is not set: nothing is read from {provider}"));
                }
            }
            if stages.is_empty() {
                bail!(WrongUse("neither STRIPE_API_KEY nor CLERK_SECRET_KEY is set: there is nobody to ask".to_owned()));
            }
        } else {
            stages.retain(|stage| self.types.iter().any(|name| name == stage.name()));
        }
        let mode = if self.dry_run { Mode::DryRun } else { Mode::Apply };
        Ok(Backfill { since: self.since, stages, mode })
    }

    fn show(&self, report: &Report, seconds: f64) -> anyhow::Result<()> {
        for problem in &report.problems {
            complain(problem);
        }
        let changed = report.drifted_objects().len();
        if self.json {
            return print_json(&json!({
                "dry_run": self.dry_run,
                "objects": report.objects,
                "changed": changed,
                "on_test_clocks": report.on_test_clocks,
                "problems": report.problems,
                "seconds": seconds,
            }));
        }
        let did = if self.dry_run { "would be new or changed" } else { "were new or changed" };
        print(&format!("{} objects read in {seconds:.1} s; of those that rows depend on, {changed} {did}.", report.objects))
    }
}
