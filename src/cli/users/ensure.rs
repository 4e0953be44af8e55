//! `billsync users ensure`: make the rows of users whom Clerk has, and bring known ones up to date.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use clap::{ArgGroup, Args};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use crate::clerk_api::UserCursor;
use crate::cli::Exit;
use crate::cli::interruption::unless_ended;
use crate::cli::output::{complain, print, print_json, table};
use crate::cli::users::clerk_api;
use crate::clock::Clock;
use crate::config::Config;
use crate::ensure::{Ensured, Ensurer};
use crate::ingest::committer::{Committer, Options};
use crate::store::Store;

/// Most users that are listed one by one.
const MAX_LISTED: usize = 20;

/// Under which name `--all` keeps its position.
const CURSOR: &str = "users_ensure";

/// A run that was interrupted longer ago is begun anew: users it had read may have changed.
const RESUMED_WITHIN: TimeDelta = TimeDelta::hours(24);

/// Where `--all` stands.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    cursor: UserCursor,
    began_at: DateTime<Utc>,
}

/// Read users from Clerk's API and make or update their rows
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync users ensure user_2abc user_2def\n  billsync users ensure --all --json\n\n\
    Needs CLERK_SECRET_KEY. What Clerk says goes the same way as a webhook, so it may run beside `serve`, and be\n\
    repeated: a user who is known, and as new, stays as is. An --all that was interrupted goes on where it ended, within a day. Exit code 1 when a user is not to be had.")]
#[command(group = ArgGroup::new("who").required(true).args(["ids", "all"]))]
pub struct EnsureArgs {
    /// Clerk user ids
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Every user of the Clerk instance
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of everybody.
#[derive(Debug, Default, Serialize)]
struct Summary {
    read: usize,
    created: usize,
    /// There before, and up to date.
    known: usize,
    problems: usize,
    /// Those asked for by id, and those that are not to be had.
    users: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    user_id: Option<String>,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl EnsureArgs {
    /// Ensures, and tells what became of whom.
    pub async fn run(&self, config: &Config, store: &Store) -> anyhow::Result<Exit> {
        let api = clerk_api(config)?;
        let options = Options { queue_events: config.queue_events, ..Options::default() };
        let committer = Committer::start(store.clone(), Arc::new(config.rules.clone()), Clock::System, options);
        let ensurer = Ensurer { api, committer: committer.clone(), store: store.clone() };
        let ensure = async { if self.all { ensure_all(&ensurer).await } else { self.ensure_ids(&ensurer).await } };
        let done = unless_ended(ensure).await;
        committer.close().await;
        let summary = done?;
        if self.json {
            print_json(&summary)?
        } else {
            print_summary(&summary)?
        }
        Ok(if summary.problems == 0 { Exit::Success } else { Exit::Failure })
    }

    async fn ensure_ids(&self, ensurer: &Ensurer) -> anyhow::Result<Summary> {
        let mut summary = Summary::default();
        for id in &self.ids {
            let ensured = ensurer.ensure_user(id).await?;
            summary.note(Some(id.clone()), ensured, true);
        }
        Ok(summary)
    }
}

async fn ensure_all(ensurer: &Ensurer) -> anyhow::Result<Summary> {
    let bar = ProgressBar::new_spinner();
    let (mut summary, mut met) = (Summary::default(), HashSet::new());
    let position = begin(&ensurer.store).await?;
    let mut cursor = Some(position.cursor);
    while let Some(from) = cursor {
        let page = ensurer.ensure_page(&from).await?;
        match &page.next {
            Some(next) => ensurer.store.save_cursor(CURSOR, &Position { cursor: next.clone(), ..position }).await?,
            None => ensurer.store.delete_cursor(CURSOR).await?,
        }
        for (id, ensured) in page.users {
            // Pages overlap, so that nobody is passed over.
            if id.as_ref().is_none_or(|id| met.insert(id.clone())) {
                summary.note(id, ensured, false);
            }
        }
        bar.set_message(format!("{} users read from Clerk, {} created", summary.read, summary.created));
        bar.tick();
        cursor = page.next;
    }
    bar.finish_and_clear();
    Ok(summary)
}

/// From where an interrupted run ended, else from the beginning.
async fn begin(store: &Store) -> anyhow::Result<Position> {
    let now = Clock::System.now();
    let stored: Option<Position> = store.find_cursor(CURSOR).await?;
    let resumed = stored.filter(|position| now - position.began_at < RESUMED_WITHIN);
    if let Some(position) = &resumed {
        complain(&format!("going on after the {} users that an interrupted run has read", position.cursor.offset));
    }
    Ok(resumed.unwrap_or_else(|| Position { cursor: UserCursor::default(), began_at: now }))
}

impl Summary {
    fn note(&mut self, user_id: Option<String>, ensured: Ensured, listed: bool) {
        let (result, reason) = match ensured {
            Ensured::Created => ("created", None),
            Ensured::Known => ("known", None),
            Ensured::NotApplied(reason) => ("not applied", Some(reason)),
            Ensured::NotFound => ("not found at Clerk", None),
            Ensured::Malformed(reason) => ("not readable", Some(reason)),
        };
        self.read += usize::from(result != "not found at Clerk");
        match result {
            "created" => self.created += 1,
            "known" => self.known += 1,
            _ => self.problems += 1,
        }
        if listed || !matches!(result, "created" | "known") {
            self.users.push(Line { user_id, result, reason });
        }
    }
}

fn print_summary(summary: &Summary) -> anyhow::Result<()> {
    if !summary.users.is_empty() {
        let mut table = table(&["user", "result", "reason"]);
        for line in summary.users.iter().take(MAX_LISTED) {
            table.add_row([line.user_id.as_deref().unwrap_or("-"), line.result, line.reason.as_deref().unwrap_or_default()]);
        }
        print(&table.to_string())?;
    }
    if summary.users.len() > MAX_LISTED {
        complain(&format!("and {} more", summary.users.len() - MAX_LISTED));
    }
    let Summary { read, created, known, problems, .. } = summary;
    print(&format!("{read} read from Clerk: {created} created, {known} known before; {problems} problems"))
}
