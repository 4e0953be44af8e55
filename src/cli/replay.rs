//! `billsync replay`: events from files through the same queues and transactions as webhooks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::Exit;
use crate::cli::database::{Database, Schema};
use crate::cli::event_files::{EventFile, FoundEvent, Position, check_files};
use crate::cli::output::{complain, print, print_json, table};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::event::{Event, Outcome, Provider, Source};
use crate::domain::rules::Rules;
use crate::domain::signature::VerifiedBody;
use crate::domain::{clerk, stripe};
use crate::ingest::committer::{Committer, Options, SubmitError};
use crate::ingest::transaction::Receipt;

/// Events on their way at a time: enough to fill the batches of every writer.
const IN_FLIGHT: usize = 256;
/// How long a database that is away, or an account that is locked, is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most events that are listed one by one at the end.
const MAX_LISTED: usize = 20;

/// Feed events from files through the same way as webhooks
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    billsync replay fixtures/journeys/trial_to_paid/\n  \
    billsync replay events.ndjson more/ --json\n\n\
    A file holds one event, a JSON array of events, or one event after the other (NDJSON). Of a folder the .json,\n\
    .ndjson and .jsonl files are read, in order of name, but for those that hold other things than events. A file that is\n\
    malformed anywhere stops the replay before it begins.\n\
    What has been received before is a duplicate and changes nothing. Clerk's events have no id of their own: give the\n\
    svix-id that they came with as a top-level \"svix_id\", else an id is made of the contents.\n\
    Exit code 1 when an event was refused or failed.")]
pub struct ReplayCommand {
    /// Files or folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of everything.
#[derive(Debug, Default, Serialize)]
struct Summary {
    events: usize,
    outcomes: BTreeMap<&'static str, usize>,
    /// Not events, so not kept.
    refused: Vec<Complaint>,
    /// Kept as `failed`.
    failed: Vec<Complaint>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Complaint {
    at: String,
    reason: String,
}

impl ReplayCommand {
    /// Reads everything once to find mistakes before anything is kept, then replays it.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        let (files, events) = check_files(&self.paths)?;
        let database = Database::open(config, Schema::Expect).await?;
        let replayed = replay(config, &database, &files, events).await;
        let summary = database.close_after(replayed).await?;
        if self.json {
            print_json(&summary)?
        } else {
            print_summary(&summary)?
        }
        Ok(if summary.refused.is_empty() && summary.failed.is_empty() { Exit::Success } else { Exit::Failure })
    }
}

async fn replay(config: &Config, database: &Database, files: &[PathBuf], events: usize) -> anyhow::Result<Summary> {
    let rules = Arc::new(config.rules.clone());
    let options = Options { queue_events: config.queue_events, ..Options::default() };
    let committer = Committer::start(database.store.clone(), rules.clone(), Clock::System, options);
    let bar = ProgressBar::new(events.try_into().unwrap_or(u64::MAX));
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} events, {per_sec}, {eta} left")?);
    let started = Instant::now();
    let mut summary = Summary { events, ..Summary::default() };
    let mut submitted = Ok(());
    for file in files {
        submitted = replay_file(&EventFile::read(file)?.events()?, &committer, &rules, &mut summary, &bar).await;
        if submitted.is_err() {
            break;
        }
    }
    bar.finish_and_clear();
    committer.close().await;
    let kept: usize = summary.outcomes.values().sum();
    submitted.with_context(|| format!("{kept} of {events} events are kept; run it again, they will be duplicates"))?;
    summary.seconds = started.elapsed().as_secs_f64();
    Ok(summary)
}

async fn replay_file(
    events: &[FoundEvent],
    committer: &Committer,
    rules: &Rules,
    summary: &mut Summary,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let answers = futures_util::stream::iter(events).map(async |found| match decode(found, rules) {
        Ok(event) => submit(committer, event).await.map(|receipt| (&found.at, Ok(receipt))),
        Err(malformed) => Ok((&found.at, Err(malformed))),
    });
    // Started in order, so that the events of one account are committed in the order of the file.
    let mut answers = std::pin::pin!(answers.buffered(IN_FLIGHT));
    while let Some(answer) = answers.next().await {
        let (at, result) = answer?;
        note(summary, at, result);
        bar.inc(1);
    }
    Ok(())
}

fn note(summary: &mut Summary, at: &Position, result: Result<Receipt, stripe::MalformedEvent>) {
    match result {
        Ok(receipt) => {
            *summary.outcomes.entry(receipt.outcome.as_str()).or_default() += 1;
            if receipt.outcome == Outcome::Failed {
                summary.failed.push(Complaint { at: at.to_string(), reason: receipt.reason.unwrap_or_default() });
            }
        }
        Err(malformed) => summary.refused.push(Complaint { at: at.to_string(), reason: malformed.0 }),
    }
}

fn decode(found: &FoundEvent, rules: &Rules) -> Result<Event, stripe::MalformedEvent> {
    let body = VerifiedBody::from_operator(found.body.clone());
    match found.provider {
        Provider::Clerk => clerk::decode_event(&body, &found.message_id(), Source::Replay, rules),
        Provider::Stripe | Provider::Import => stripe::decode_event(&body, Source::Replay, rules),
    }
}

async fn submit(committer: &Committer, event: Event) -> anyhow::Result<Receipt> {
    let started = Instant::now();
    loop {
        match committer.submit_patiently(event.clone()).await {
            Ok(receipt) => return Ok(receipt),
            Err(SubmitError::Closed) => bail!("a writer ended; the log says why"),
            Err(error) if started.elapsed() > PATIENCE => return Err(error.into()),
            Err(error) => tokio::time::sleep(Duration::from_secs(error.retry_after_seconds().into())).await,
        }
    }
}

fn print_summary(summary: &Summary) -> anyhow::Result<()> {
    let mut table = table(&["outcome", "events"]);
    for (outcome, count) in &summary.outcomes {
        table.add_row([*outcome, &count.to_string()]);
    }
    if !summary.refused.is_empty() {
        table.add_row(["refused", &summary.refused.len().to_string()]);
    }
    table.add_row(["all", &summary.events.to_string()]);
    print(&table.to_string())?;
    print(&format!("{:.1} s, {:.0} events/s", summary.seconds, rate(summary.events, summary.seconds)))?;
    for (what, complaints) in [("refused", &summary.refused), ("failed", &summary.failed)] {
        for complaint in complaints.iter().take(MAX_LISTED) {
            complain(&format!("{what}: {}: {}", complaint.at, complaint.reason));
        }
        if complaints.len() > MAX_LISTED {
            complain(&format!("{what}: and {} more", complaints.len() - MAX_LISTED));
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(events: usize, seconds: f64) -> f64 {
    events as f64 / seconds.max(0.001)
}
