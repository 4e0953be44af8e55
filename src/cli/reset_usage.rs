//! `billsync reset-usage`: end the usage periods that are over, without waiting for the schedule.

use std::sync::Arc;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::Exit;
use crate::cli::arguments::instant;
use crate::cli::database::{Database, Schema};
use crate::cli::failure::WrongUse;
use crate::cli::output::{print, print_json, table, time};
use crate::clock::Clock;
use crate::config::Config;
use crate::schedule::{Work, usage_reset};
use crate::store::{DueUsage, Store};

/// Rows that a dry run shows.
const SHOWN: i64 = 100;

/// End the usage periods that are over: archive and zero the counters, copy the plan's limits anew
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync reset-usage --dry-run\n  billsync reset-usage --user user_2abc\n  \
    billsync reset-usage --dry-run --at 2026-12-01T00:00:00Z --json\n\n\
    `serve` does the same every 30 seconds. Running it twice, or beside `serve`, resets nothing twice.")]
pub struct ResetUsageCommand {
    /// One user alone, by Clerk id
    #[arg(long, value_name = "CLERK_ID")]
    user: Option<String>,
    /// Show what would be reset, change nothing
    #[arg(long)]
    dry_run: bool,
    /// As if it were that time (RFC 3339); one that is still to come needs --dry-run, since a period never moves back
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<DateTime<Utc>>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ResetUsageCommand {
    /// Resets, or shows what a reset would do.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        if !self.dry_run && self.at.is_some_and(|at| at > Clock::default().now()) {
            let why = "--at is still to come: a period that has ended cannot be given back; add --dry-run to see what would end";
            bail!(WrongUse(why.to_owned()));
        }
        let database = Database::open(config, Schema::Expect).await?;
        let done = self.reset(config, &database.store).await;
        database.close_after(done).await?;
        Ok(Exit::Success)
    }

    async fn reset(&self, config: &Config, store: &Store) -> anyhow::Result<()> {
        let clock = self.at.map_or_else(Clock::default, Clock::manual);
        let user = self.user.as_deref();
        if let Some(user) = user
            && store.find_usage(user).await?.is_none()
        {
            bail!("there is no user {user}");
        }
        if self.dry_run {
            let (due, count) = store.describe_due_usage(clock.now(), user, SHOWN).await?;
            return self.show(&due, count);
        }
        let work = Work::new(store.clone(), Arc::new(config.rules.clone()), clock);
        let summary = usage_reset::reset(&work, user).await.context("resetting usage")?;
        if self.json {
            return print_json(&summary);
        }
        print(&format!("{} usage periods ended, in {} batches; {} left to others.", summary.rows, summary.batches, summary.left))
    }

    fn show(&self, due: &[DueUsage], count: i64) -> anyhow::Result<()> {
        if self.json {
            let shown: Vec<Value> = due.iter().map(due_json).collect();
            return print_json(&json!({ "due": count, "first": shown }));
        }
        if due.is_empty() {
            return print("No usage period is over.");
        }
        let mut table = table(&["user", "period", "to", "creators", "enrichments", "next period", "to", "skipped"]);
        for one in due {
            let (ended, next) = (&one.rollover.ended, &one.rollover.next);
            table.add_row([
                one.clerk_id.clone(),
                time(Some(ended.period_start)),
                time(Some(ended.period_end)),
                one.creators.to_string(),
                one.enrichments.to_string(),
                time(Some(next.start)),
                time(Some(next.end)),
                ended.periods_skipped.to_string(),
            ]);
        }
        print(&table.to_string())?;
        print(&format!("{count} usage periods would end; {} are shown. Nothing was changed.", due.len()))
    }
}

fn due_json(due: &DueUsage) -> Value {
    let (ended, next) = (&due.rollover.ended, &due.rollover.next);
    json!({
        "user_id": due.clerk_id,
        "period_start": ended.period_start,
        "period_end": ended.period_end,
        "usage_creators_current_month": due.creators,
        "enrichments_current_month": due.enrichments,
        "periods_skipped": ended.periods_skipped,
        "next_period_start": next.start,
        "usage_reset_date": next.end,
    })
}
