//! The clockwork: when a task is due, who may run it, what is recorded of a run.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::metrics;
use crate::schedule::{Stop, Summary, Task, TaskError, Work};
use crate::store::{LastRun, StoreError};

/// How long a process may be silent before another takes its task over. Renewed at a third of it.
const LEASE: Duration = Duration::from_secs(60);

/// How soon a failed run is tried again, unless its interval is shorter.
const RETRY: Duration = Duration::from_secs(60);

/// How often the tables are asked again, however long the interval: another process may have died, a clock may be wrong.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A run that has ended.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    pub name: &'static str,
    pub summary: Option<Summary>,
    pub error: Option<String>,
}

/// A task and where it stands.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub name: &'static str,
    pub purpose: &'static str,
    pub interval_seconds: u64,
    pub due_at: DateTime<Utc>,
    pub last: Option<LastRun>,
}

/// The tasks at work, each in a loop of its own.
#[derive(Debug)]
pub struct Schedule {
    stopping: watch::Sender<bool>,
    loops: JoinSet<()>,
}

impl Schedule {
    /// Starts the loops. What is overdue runs at once.
    pub fn start(tasks: Vec<Task>, work: &Work) -> Schedule {
        let (stopping, stopped) = watch::channel(false);
        let mut loops = JoinSet::new();
        for task in tasks {
            loops.spawn(run_loop(task, work.clone(), stopped.clone()));
        }
        Schedule { stopping, loops }
    }

    /// Lets transactions in work end, begins none, gives the leases back.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        while let Some(ended) = self.loops.join_next().await {
            if ended.is_err() {
                tracing::error!("the loop of a scheduled task died");
            }
        }
    }
}

/// Where every task stands.
pub async fn statuses(tasks: &[Task], work: &Work) -> Result<Vec<Status>, StoreError> {
    let names: Vec<&str> = tasks.iter().map(|task| task.name).collect();
    let runs = work.store.last_runs(&names).await?;
    let now = work.clock.now();
    let status = |task: &Task| {
        let last = runs.iter().find(|run| run.name == task.name).cloned();
        Status {
            name: task.name,
            purpose: task.purpose,
            interval_seconds: task.interval.as_secs(),
            due_at: due_at(last.as_ref(), task.interval, now, None),
            last,
        }
    };
    Ok(tasks.iter().map(status).collect())
}

/// Runs the task if it is due and nobody else runs it.
pub async fn run_due(task: &Task, work: &Work) -> Result<Option<RunReport>, StoreError> {
    let (_running, stopped) = watch::channel(false);
    run_leased(task, work, When::Due, stopped).await
}

/// Runs the task whether or not it is due. `None` when another process runs it at the moment.
pub async fn run_now(task: &Task, work: &Work) -> Result<Option<RunReport>, StoreError> {
    run_now_until(task, work, std::future::pending()).await
}

/// [`run_now`], asked to stop early as soon as `ended` is done: it gives its lease back, and what it did is recorded.
pub async fn run_now_until(task: &Task, work: &Work, ended: impl Future<Output = ()>) -> Result<Option<RunReport>, StoreError> {
    let (stopping, stopped) = watch::channel(false);
    let run = run_leased(task, work, When::Now, stopped);
    tokio::pin!(run);
    tokio::select! {
        ran = &mut run => return ran,
        () = ended => {}
    }
    stopping.send_replace(true);
    run.await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Due,
    Now,
}

async fn run_loop(task: Task, work: Work, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let wait = match run_leased(&task, &work, When::Due, stopped.clone()).await {
            Ok(_) => wait_of(&task, &work).await,
            Err(error) => Err(error),
        };
        let wait = wait.unwrap_or_else(|error| {
            tracing::warn!(task = task.name, cause = %error, "cannot tell whether a task is due");
            RETRY.min(task.interval)
        });
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stopped.changed() => {}
        }
    }
}

/// How long until the task is due, with up to a tenth of the interval on top, so that a fleet started at once spreads out.
async fn wait_of(task: &Task, work: &Work) -> Result<Duration, StoreError> {
    let last = work.store.last_runs(&[task.name]).await?;
    let now = work.clock.now();
    let until_due = (due_at(last.first(), task.interval, now, None) - now).to_std().unwrap_or_default();
    Ok(until_due.min(LONGEST_WAIT) + task.interval.mul_f64(fastrand::f64() / 10.0))
}

/// When the task is to run next. What a dead process left unfinished is due at once, and so is a task whose last run lies in
/// the future: then a clock was wrong. `me` is the holder who asks: its own lease does not mean that somebody is at work.
fn due_at(last: Option<&LastRun>, interval: Duration, now: DateTime<Utc>, me: Option<&str>) -> DateTime<Utc> {
    let Some(last) = last.filter(|last| last.started_at <= now) else { return now };
    let after = |at: DateTime<Utc>, wait: Duration| at + TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX);
    match (last.succeeded, last.finished_at) {
        (Some(true), _) => after(last.started_at, interval),
        (Some(false), Some(finished_at)) => after(finished_at, RETRY.min(interval)),
        _ if last.holder.as_deref().is_some_and(|holder| Some(holder) != me) => after(now, LEASE),
        _ => now,
    }
}

async fn run_leased(
    task: &Task,
    work: &Work,
    when: When,
    stopped: watch::Receiver<bool>,
) -> Result<Option<RunReport>, StoreError> {
    if when == When::Due && !is_due(task, work, None).await? {
        return Ok(None);
    }
    let holder = format!("{}:{}", std::process::id(), Uuid::new_v4());
    if !work.store.take_lease(task.name, &holder, LEASE).await? {
        return Ok(None);
    }
    // Another process may have run it between the question and the lease.
    let ran = match when == When::Now || is_due(task, work, Some(&holder)).await? {
        true => run_held(task, work, &holder, stopped).await.map(Some),
        false => Ok(None),
    };
    let released = work.store.release_lease(task.name, &holder).await;
    let report = ran?;
    released?;
    Ok(report)
}

async fn is_due(task: &Task, work: &Work, me: Option<&str>) -> Result<bool, StoreError> {
    let last = work.store.last_runs(&[task.name]).await?;
    let now = work.clock.now();
    Ok(due_at(last.first(), task.interval, now, me) <= now)
}

/// Runs the task under its lease, and records the run.
async fn run_held(task: &Task, work: &Work, holder: &str, stopped: watch::Receiver<bool>) -> Result<RunReport, StoreError> {
    let run = work.store.begin_run(task.name, work.clock.now()).await?;
    let began = Instant::now();
    let stop = Stop::default();
    let body = tokio::spawn(task.run(Work { stop: stop.clone(), ..work.clone() }));
    let ended = tokio::select! {
        ended = body => ended.unwrap_or(Err(TaskError::Panicked)),
        never = watch_over(task, work, holder, stopped, stop) => match never {},
    };
    let (summary, error) = match ended {
        Ok(summary) if summary.stopped => (Some(summary), Some("asked to stop before the end".to_owned())),
        Ok(summary) => (Some(summary), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let shown = summary.as_ref().and_then(|summary| serde_json::to_value(summary).ok());
    report(task, began.elapsed(), work.clock.now(), summary.as_ref(), error.as_deref());
    work.store.finish_run(run, work.clock.now(), shown.as_ref(), error.as_deref()).await?;
    Ok(RunReport { name: task.name, summary, error })
}

/// Renews the lease, and asks the run to stop when the schedule is stopping or the lease is lost.
async fn watch_over(
    task: &Task,
    work: &Work,
    holder: &str,
    mut stopped: watch::Receiver<bool>,
    stop: Stop,
) -> std::convert::Infallible {
    loop {
        tokio::select! {
            is_stopping = async { stopped.wait_for(|is_stopping| *is_stopping).await.is_ok() } => {
                if is_stopping {
                    stop.ask();
                }
                // The transaction in work ends by itself, well within the lease.
                std::future::pending::<()>().await;
            }
            () = tokio::time::sleep(LEASE / 3) => match work.store.renew_lease(task.name, holder, LEASE).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(task = task.name, "lost the lease of a task");
                    stop.ask();
                }
                Err(error) => tracing::warn!(task = task.name, cause = %error, "could not renew the lease of a task"),
            }
        }
    }
}

fn report(task: &Task, took: Duration, now: DateTime<Utc>, summary: Option<&Summary>, error: Option<&str>) {
    let rows = summary.map_or(0, |summary| summary.rows);
    metrics::record_scheduled_run(task.name, took, rows, error.is_none().then_some(now));
    match error {
        Some(error) => tracing::warn!(task = task.name, cause = error, "a scheduled task did not get to its end"),
        None if rows > 0 => tracing::info!(task = task.name, rows, ?took, "ran a scheduled task"),
        None => tracing::debug!(task = task.name, ?took, "ran a scheduled task"),
    }
}
