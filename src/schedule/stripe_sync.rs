//! What is read from the providers' APIs at intervals: open questions within seconds, missed events within minutes, every linked
//! customer within the hour.

use std::time::Duration;

use crate::ingest::committer::SubmitError;
use crate::reconcile::{ReconcileError, Reconciler, Report};
use crate::schedule::{Stop, Summary, Task, TaskError};

/// Long enough to spare the database, short enough for "within seconds".
const REFETCH_INTERVAL: Duration = Duration::from_secs(3);
const CATCH_UP_INTERVAL: Duration = Duration::from_secs(600);
const RECONCILE_INTERVAL: Duration = Duration::from_secs(3600);

/// What a pass over very many customers is spread over: most of its interval.
const SPREAD_OVER: Duration = Duration::from_secs(45 * 60);

/// How often a task that waits for Stripe looks whether it is to end.
const LOOK_UP: Duration = Duration::from_millis(100);

/// The tasks for whom there is a key to ask.
pub fn tasks(reconciler: &Reconciler) -> Vec<Task> {
    let mut tasks = Vec::new();
    if reconciler.reads_stripe() || reconciler.reads_clerk() {
        tasks.push(refetch(reconciler.clone()));
    }
    if reconciler.reads_stripe() {
        tasks.extend(read_stripe(reconciler));
    }
    tasks
}

fn refetch(reconciler: Reconciler) -> Task {
    let purpose = "Asks Stripe and Clerk about objects whose newest state the events leave open";
    Task::new("refetch", purpose, REFETCH_INTERVAL, move |work| {
        let reconciler = reconciler.clone();
        async move {
            let drain = async { reconciler.drain_refetches().await };
            until_stopped(&work.stop, drain, |drained| Summary {
                rows: drained.settled + drained.dropped,
                left: drained.postponed,
                ..Summary::default()
            })
            .await
        }
    })
}

fn read_stripe(reconciler: &Reconciler) -> [Task; 2] {
    let (catching_up, comparing) = (reconciler.clone(), reconciler.clone());
    [
        Task::new("catch-up", "Reads the events that Stripe lists and that never came", CATCH_UP_INTERVAL, move |work| {
            let reconciler = catching_up.clone();
            async move {
                let catch_up = async { reconciler.catch_up().await };
                until_stopped(&work.stop, catch_up, |caught_up| Summary { rows: caught_up.new, ..Summary::default() }).await
            }
        }),
        Task::new("reconcile", "Compares every linked customer with Stripe", RECONCILE_INTERVAL, move |work| {
            let reconciler = comparing.clone();
            async move {
                let compare = async { reconciler.reconcile_linked(Some(SPREAD_OVER)).await };
                until_stopped(&work.stop, compare, |report| summary_of(&report)).await
            }
        }),
    ]
}

fn summary_of(report: &Report) -> Summary {
    Summary {
        rows: report.drifted_objects().len() as u64,
        left: report.problems.len() as u64,
        names: report.problems.clone(),
        ..Summary::default()
    }
}

/// Positions are kept page by page and what was submitted is committed anyway, so a reading can be dropped at any point.
async fn until_stopped<T>(
    stop: &Stop,
    reading: impl Future<Output = Result<T, ReconcileError>>,
    summary: impl FnOnce(T) -> Summary,
) -> Result<Summary, TaskError> {
    let asked = async {
        while !stop.is_asked() {
            tokio::time::sleep(LOOK_UP).await;
        }
    };
    let stopped = Summary { stopped: true, ..Summary::default() };
    tokio::select! {
        read = reading => match read {
            Ok(read) => Ok(summary(read)),
            Err(ReconcileError::Submit(SubmitError::Closed)) => Ok(stopped),
            Err(error) => Err(error.into()),
        },
        () = asked => Ok(stopped),
    }
}
