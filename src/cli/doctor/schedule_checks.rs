//! Scheduled work: tasks that are late, that failed, that nobody has ever run.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::cli::doctor::database_checks::cannot_tell;
use crate::cli::doctor::event_checks::span;
use crate::cli::doctor::finding::Findings;
use crate::cli::output::time;
use crate::cli::stripe;
use crate::clock::Clock;
use crate::config::Config;
use crate::schedule::{Status, Work, statuses, tasks};
use crate::store::{LastRun, Store};

/// A task is late after this many of its intervals.
const LATE_INTERVALS: i32 = 3;
/// A task is never late before that: a process may just be starting.
const GRACE: TimeDelta = TimeDelta::minutes(5);

/// Every task that these settings bring about.
pub async fn check(config: &Config, store: &Store, findings: &mut Findings) {
    // Which tasks there are depends on whether there is somebody to ask; nothing is submitted, so nothing is written.
    let committer = stripe::start_committer(config, store);
    let reconciler = stripe::reconciler(config, store, &committer).ok();
    let work = Work::new(store.clone(), Arc::new(config.rules.clone()), Clock::System);
    let found = statuses(&tasks(config.ledger_retention_days, reconciler.as_ref()), &work).await;
    drop(reconciler);
    committer.close().await;
    let statuses = match found {
        Ok(statuses) => statuses,
        Err(error) => return cannot_tell("schedule", "when tasks ran", &error, findings),
    };
    if statuses.iter().all(|status| status.last.is_none()) {
        let names: Vec<&str> = statuses.iter().map(|status| status.name).collect();
        let what = format!("no task has ever run ({}): periods do not end, trials do not expire", names.join(", "));
        findings.warn("schedule", what, "billsync serve   # runs them all, each at its interval");
        return;
    }
    let now = Clock::System.now();
    for status in &statuses {
        check_task(status, now, findings);
    }
    if !findings.has_trouble("schedule") {
        findings.ok("schedule", format!("{} tasks, none of them late", statuses.len()));
    }
}

fn check_task(status: &Status, now: DateTime<Utc>, findings: &mut Findings) {
    let (name, run) = (status.name, format!("billsync schedule run {}", status.name));
    let Some(last) = &status.last else {
        findings.warn("schedule", format!("the task {name} has never run"), format!("{run}   # serve does it by itself"));
        return;
    };
    if let (Some(false), Some(error), false) = (last.succeeded, &last.error, was_stopped(last)) {
        findings.error("schedule", format!("the task {name} failed at {}: {error}", time(Some(last.started_at))), run);
        return;
    }
    let interval = TimeDelta::seconds(i64::try_from(status.interval_seconds).unwrap_or(i64::MAX / 1_000_000));
    let began = now - last.started_at;
    let is_running = last.succeeded.is_none() && last.holder.is_some();
    if !is_running && began > (interval * LATE_INTERVALS).max(interval + GRACE) {
        let what = format!("the task {name} is late: it runs every {}, and last began {} ago", span(interval), span(began));
        findings.warn("schedule", what, format!("billsync serve   # does it run? By hand: {run}"));
    }
}

/// A process that ends asks its tasks to; the next one goes on with them.
fn was_stopped(last: &LastRun) -> bool {
    last.summary.as_ref().is_some_and(|summary| summary.get("stopped") == Some(&serde_json::Value::Bool(true)))
}
