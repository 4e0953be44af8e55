//! `billsync schedule list|run`: what is done at intervals, and doing it now.

use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use crate::cli::Exit;
use crate::cli::database::{Database, Schema};
use crate::cli::failure::WrongUse;
use crate::cli::output::{print, print_json, table, time};
use crate::cli::stripe;
use crate::clock::Clock;
use crate::config::Config;
use crate::http::end_signals::EndSignals;
use crate::ingest::committer::Committer;
use crate::schedule::{RunReport, Status, Task, Work, run_now_until, statuses, tasks};
use crate::store::Store;

/// Scheduled work: what is done at intervals, when it ran last, and running it now
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync schedule list\n  billsync schedule run usage-reset")]
pub struct ScheduleCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the tasks, with their last run and the next
    #[command(after_help = "Example:\n  billsync schedule list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Run a task now, unless another process is running it
    #[command(after_help = "Example:\n  billsync schedule run clock-sweep")]
    Run {
        /// As in the list
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl ScheduleCommand {
    /// Does what is asked.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        let database = Database::open(config, Schema::Expect).await?;
        let committer = stripe::start_committer(config, &database.store);
        let done = self.act(config, &database.store, &committer).await;
        committer.close().await;
        database.close_after(done).await
    }

    async fn act(&self, config: &Config, store: &Store, committer: &Committer) -> anyhow::Result<Exit> {
        let reconciler = stripe::reconciler(config, store, committer)?;
        let tasks = tasks(config.ledger_retention_days, Some(&reconciler));
        let work = Work::new(store.clone(), Arc::new(config.rules.clone()), Clock::System);
        match &self.action {
            Action::List { json } => list(&tasks, &work, *json).await,
            Action::Run { name, json } => run(find(&tasks, name)?, &work, *json).await,
        }
    }
}

fn find<'a>(tasks: &'a [Task], name: &str) -> Result<&'a Task, WrongUse> {
    tasks.iter().find(|task| task.name == name).ok_or_else(|| {
        let names: Vec<&str> = tasks.iter().map(|task| task.name).collect();
        WrongUse(format!("there is no task {name}: the tasks are {}", names.join(", ")))
    })
}

async fn list(tasks: &[Task], work: &Work, json: bool) -> anyhow::Result<Exit> {
    let statuses = statuses(tasks, work).await?;
    if json {
        print_json(&statuses)?;
        return Ok(Exit::Success);
    }
    let mut table = table(&["task", "every", "last run", "ended as", "rows", "due", "what it does"]);
    for status in &statuses {
        let last = status.last.as_ref();
        table.add_row([
            status.name.to_owned(),
            format!("{} s", status.interval_seconds),
            time(last.map(|last| last.started_at)),
            ending(status),
            last.and_then(|last| last.summary.as_ref()?.get("rows").map(ToString::to_string)).unwrap_or_default(),
            time(Some(status.due_at)),
            status.purpose.to_owned(),
        ]);
    }
    print(&table.to_string())?;
    Ok(Exit::Success)
}

fn ending(status: &Status) -> String {
    match &status.last {
        None => "never ran".to_owned(),
        Some(last) => match (last.succeeded, &last.error, &last.holder) {
            (Some(true), ..) => "succeeded".to_owned(),
            (_, Some(error), _) => format!("failed: {error}"),
            (_, None, Some(holder)) => format!("running, by {holder}"),
            (_, None, None) => "its process died".to_owned(),
        },
    }
}

async fn run(task: &Task, work: &Work, json: bool) -> anyhow::Result<Exit> {
    let mut signals = EndSignals::listen().context("cannot listen for signals")?;
    let ended = async {
        signals.next().await;
    };
    let Some(report) = run_now_until(task, work, ended).await? else {
        bail!("another process is running {} at the moment", task.name);
    };
    if json {
        print_json(&report)?;
    } else {
        print(&describe(&report))?;
    }
    Ok(if report.error.is_none() { Exit::Success } else { Exit::Failure })
}

fn describe(report: &RunReport) -> String {
    let mut text = report.summary.as_ref().map_or_else(String::new, |summary| {
        let names: String = summary.names.iter().map(|name| format!("\n  {name}")).collect();
        format!("{}: {} rows changed, {} left for later{names}", report.name, summary.rows, summary.left)
    });
    if let Some(error) = &report.error {
        text = format!("{text}\n{} failed: {error}", report.name).trim_start().to_owned();
    }
    text
}
