//! `billsync replay`: events from files or the ledger through the same queues and transactions as webhooks.

mod dry_run;
mod source;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use clap::{ArgGroup, Args};
use futures_util::{StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::Exit;
use crate::cli::arguments::instant;
use crate::cli::database::{Database, Schema};
use crate::cli::event_files::check_files;
use crate::cli::output::{complain, print, print_json, table};
use crate::cli::replay::source::{EventSource, Found};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::event::{Event, Outcome};
use crate::ingest::committer::{Committer, Options, SubmitError};
use crate::ingest::transaction::Receipt;
use crate::store::{ReplayFilter, Store, UserKey};

/// Events on their way at a time: enough to fill the batches of every writer.
const IN_FLIGHT: usize = 256;
/// How long a database that is away, or an account that is locked, is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most events that are listed one by one at the end.
const MAX_LISTED: usize = 20;

/// Feed events from files or the ledger through the same way as webhooks
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    billsync replay fixtures/journeys/trial_to_paid/\n  \
    billsync replay events.ndjson more/ --json\n  \
    billsync replay --failed --since 2026-03-01T00:00:00Z --dry-run\n  \
    billsync replay --event evt_1RkT0q\n\n\
    A file holds one event, a JSON array of events, or one event after the other (NDJSON). Of a folder the .json,\n\
    .ndjson and .jsonl files are read, in order of name, but for those that hold other things than events. A file that is\n\
    malformed anywhere stops the replay before it begins.\n\
    Without files, the events that the ledger has: those that --failed, --event, --type, --user and --since all choose.\n\
    What has been received before and had not failed is a duplicate and changes nothing. Clerk's events have no id of\n\
    their own: give the svix-id that they came with as a top-level \"svix_id\", else an id is made of the contents.\n\
    Exit code 1 when an event was refused or failed.")]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["paths", "failed", "event", "types", "user", "since"]))]
pub struct ReplayCommand {
    /// Files or folders
    #[arg(value_name = "PATH", conflicts_with = "ledger")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    choice: LedgerChoice,
    /// Print what each event would change, after those before it, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which events of the ledger.
#[derive(Debug, Args)]
#[group(id = "ledger", multiple = true)]
struct LedgerChoice {
    /// Those that failed
    #[arg(long)]
    failed: bool,
    /// The one of this id; may be repeated
    #[arg(long, value_name = "ID")]
    event: Vec<String>,
    /// Those of this type; may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Those of a user and its customers: an address, a Clerk user id, or a Stripe customer id
    #[arg(long, value_name = "WHO")]
    user: Option<String>,
    /// Those received since then, such as 2026-03-01T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<DateTime<Utc>>,
}

impl LedgerChoice {
    async fn to_filter(&self, store: &Store) -> anyhow::Result<ReplayFilter> {
        let list = |values: &[String]| (!values.is_empty()).then(|| values.to_vec());
        let owner_ids = match &self.user {
            None => None,
            Some(who) => Some(owner_ids(store, who).await?),
        };
        Ok(ReplayFilter {
            outcome: self.failed.then(|| Outcome::Failed.as_str().to_owned()),
            event_ids: list(&self.event),
            event_types: list(&self.types),
            owner_ids,
            received_from: self.since,
        })
    }
}

impl LedgerChoice {
    /// A choice of nothing is no mistake (nothing has failed), but should not look like work that was done; a named event that is
    /// not there is one.
    fn tell_of_few(&self, events: usize) -> anyhow::Result<()> {
        ensure!(events > 0 || self.event.is_empty(), "no such event in the ledger");
        if events == 0 {
            complain("the ledger has no such event: there is nothing to replay");
        } else if events < self.event.len() {
            complain(&format!("of {} events only {events} are in the ledger and as chosen", self.event.len()));
        }
        Ok(())
    }
}

/// Whose events are a user's. A customer whom nobody is linked to has events, too.
async fn owner_ids(store: &Store, who: &str) -> anyhow::Result<Vec<String>> {
    let mut ids = vec![who.to_owned()];
    for clerk_id in store.find_users(&UserKey::of(who)).await? {
        ids.extend(store.list_owner_ids(&clerk_id).await?.into_iter().map(|(id, _)| id));
        ids.push(clerk_id);
    }
    Ok(ids)
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
        let of_files = if self.paths.is_empty() { None } else { Some(check_files(&self.paths)?) };
        let database = Database::open(config, Schema::Expect).await?;
        let replayed = self.replay(config, &database.store, of_files).await;
        let is_well = database.close_after(replayed).await?;
        Ok(if is_well { Exit::Success } else { Exit::Failure })
    }

    async fn replay(&self, config: &Config, store: &Store, of_files: Option<(Vec<PathBuf>, usize)>) -> anyhow::Result<bool> {
        let rules = Arc::new(config.rules.clone());
        let (mut source, events) = match of_files {
            Some((files, events)) => (EventSource::of_files(files, &rules), events),
            None => {
                let filter = self.choice.to_filter(store).await?;
                let events = usize::try_from(store.count_replayable(&filter).await?).unwrap_or_default();
                self.choice.tell_of_few(events)?;
                (EventSource::of_ledger(store, filter, &rules), events)
            }
        };
        if self.dry_run {
            ensure!(events <= dry_run::MOST_EVENTS, "{events} events are too many to try at once: narrow the choice");
            return dry_run::show(store, &mut source, &rules, self.json).await;
        }
        let options = Options { queue_events: config.queue_events, ..Options::default() };
        let committer = Committer::start(store.clone(), rules.clone(), Clock::System, options);
        let submitted = submit_all(source, events, &committer).await;
        committer.close().await;
        let summary = submitted?;
        if self.json {
            print_json(&summary)?
        } else {
            print_summary(&summary)?
        }
        Ok(summary.refused.is_empty() && summary.failed.is_empty())
    }
}

/// Submits everything, some at a time. Started in order, so that the events of one account are committed in their order.
async fn submit_all(source: EventSource<'_>, events: usize, committer: &Committer) -> anyhow::Result<Summary> {
    let bar = ProgressBar::new(events.try_into().unwrap_or(u64::MAX));
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} events, {per_sec}, {eta} left")?);
    let started = Instant::now();
    let mut summary = Summary { events, ..Summary::default() };
    let parts = futures_util::stream::try_unfold(source, async |mut source| {
        let part = source.next_part().await?;
        anyhow::Ok((!part.is_empty()).then_some((part, source)))
    });
    let found = parts.map_ok(|part| futures_util::stream::iter(part).map(anyhow::Ok)).try_flatten();
    let answers = found.map(async |found| {
        let Found { at, event } = found?;
        match event {
            Ok(event) => anyhow::Ok((at, Ok(submit(committer, event).await?))),
            Err(reason) => Ok((at, Err(reason))),
        }
    });
    let mut answers = std::pin::pin!(answers.buffered(IN_FLIGHT));
    while let Some(answer) = answers.next().await {
        let kept: usize = summary.outcomes.values().sum();
        let told = || format!("{kept} of {events} events are kept; run it again, they will be duplicates");
        let (at, result) = answer.with_context(told)?;
        note(&mut summary, at, result);
        bar.inc(1);
    }
    bar.finish_and_clear();
    summary.seconds = started.elapsed().as_secs_f64();
    Ok(summary)
}

fn note(summary: &mut Summary, at: String, result: Result<Receipt, String>) {
    match result {
        Ok(receipt) => {
            *summary.outcomes.entry(receipt.outcome.as_str()).or_default() += 1;
            if receipt.outcome == Outcome::Failed {
                summary.failed.push(Complaint { at, reason: receipt.reason.unwrap_or_default() });
            }
        }
        Err(reason) => summary.refused.push(Complaint { at, reason }),
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
