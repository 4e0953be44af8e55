//! Scheduled work: what is done at intervals, by one process at a time across the fleet. One file per task; `runner` has the
//! leases and the clockwork. Every task is safe to run twice at once: a lease saves work, it protects nothing.

pub mod clock_sweep;
mod pace;
pub mod retention;
mod runner;
pub mod stripe_sync;
pub mod usage_reset;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use thiserror::Error;

use crate::clock::Clock;
use crate::domain::rules::Rules;
use crate::ingest::transaction::BatchError;
use crate::reconcile::{ReconcileError, Reconciler};
use crate::store::{Store, StoreError};

pub use self::runner::{RunReport, Schedule, Status, run_due, run_now, run_now_until, statuses};

/// What every task works with.
#[derive(Clone, Debug)]
pub struct Work {
    pub store: Store,
    pub rules: Arc<Rules>,
    pub clock: Clock,
    /// Asked between two transactions.
    pub stop: Stop,
}

impl Work {
    /// Work that nobody has asked to stop yet.
    pub fn new(store: Store, rules: Arc<Rules>, clock: Clock) -> Work {
        Work { store, rules, clock, stop: Stop::default() }
    }
}

/// Whether a run is to end early, at the next point where nothing is half-done.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks for the end.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Users, rows or partitions changed.
    pub rows: u64,
    /// Found, and left for the next run: somebody else held them, or the database refused them.
    pub left: u64,
    pub batches: u64,
    /// What the longest transaction took, for tasks that hold locks which others wait for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_ms: Option<u64>,
    /// What has a name, such as partitions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Whether it ended early because it was asked to.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
}

/// Why a run failed. The next one tries again.
#[derive(Debug, Error)]
pub enum TaskError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    #[error("the task panicked")]
    Panicked,
}

type Body = dyn Fn(Work) -> BoxFuture<'static, Result<Summary, TaskError>> + Send + Sync;

/// Something that is done again and again.
#[derive(Clone)]
pub struct Task {
    /// As in the tables, in the metrics and on the command line.
    pub name: &'static str,
    /// One sentence for people.
    pub purpose: &'static str,
    /// From the start of a run to the start of the next.
    pub interval: Duration,
    body: Arc<Body>,
}

impl Task {
    /// A task whose work is `body`.
    pub fn new<F>(
        name: &'static str,
        purpose: &'static str,
        interval: Duration,
        body: impl Fn(Work) -> F + Send + Sync + 'static,
    ) -> Task
    where
        F: Future<Output = Result<Summary, TaskError>> + Send + 'static,
    {
        Task { name, purpose, interval, body: Arc::new(move |work| Box::pin(body(work))) }
    }

    /// Does the work once, without lease and record.
    pub fn run(&self, work: Work) -> BoxFuture<'static, Result<Summary, TaskError>> {
        (self.body)(work)
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("name", &self.name).field("interval", &self.interval).finish_non_exhaustive()
    }
}

/// Everything that is done at intervals. `ledger_retention_days` is the setting: 0 keeps payloads for ever. Without a key of a
/// provider's there is nobody to read its API.
pub fn tasks(ledger_retention_days: u32, reconciler: Option<&Reconciler>) -> Vec<Task> {
    let own = [clock_sweep::task(), usage_reset::task(), retention::task(ledger_retention_days)];
    own.into_iter().chain(reconciler.map(stripe_sync::tasks).unwrap_or_default()).collect()
}
