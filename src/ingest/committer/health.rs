//! Whether events get through: how many wait in which queue, and since when the database refuses.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::batch::Transactions;
use super::settle::Desk;
use super::{Backoff, BatchError, Ending};

/// What `/readyz` asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// Events accepted and not settled.
    pub queue_depth: usize,
    pub queue_limit: usize,
    /// Whether a queue holds events and has settled none for longer than a sender waits.
    pub stuck: bool,
    /// Why the last commit failed, if none has succeeded since. Without payloads.
    pub last_failure: Option<String>,
}

/// The state behind [`HealthReport`].
#[derive(Debug)]
pub(super) struct Health {
    started: Instant,
    stuck_after: Duration,
    lanes: Vec<Arc<Lane>>,
    failure: watch::Sender<Option<Arc<str>>>,
    last_logged: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Lane {
    started: Instant,
    depth: AtomicUsize,
    /// Milliseconds from `started` to the last time that it was empty or an event of it was settled.
    progressed_at: AtomicU64,
}

impl Lane {
    fn progressed(&self) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progressed_at.store(millis, Ordering::Relaxed);
    }
}

/// Counts one event in its queue's depth for as long as it lives.
#[derive(Debug)]
pub(super) struct Accepted {
    lane: Option<Arc<Lane>>,
}

impl Drop for Accepted {
    fn drop(&mut self) {
        if let Some(lane) = &self.lane {
            lane.progressed();
            lane.depth.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Health {
    pub(super) fn new(writers: usize, stuck_after: Duration) -> Health {
        let started = Instant::now();
        let lane = || Arc::new(Lane { started, depth: AtomicUsize::new(0), progressed_at: AtomicU64::new(0) });
        let lanes = std::iter::repeat_with(lane).take(writers).collect();
        Health { started, stuck_after, lanes, failure: watch::Sender::new(None), last_logged: Mutex::new(None) }
    }

    pub(super) fn accepted(&self, writer: usize) -> Accepted {
        let lane = self.lanes.get(writer).cloned();
        if let Some(lane) = &lane
            && lane.depth.fetch_add(1, Ordering::Relaxed) == 0
        {
            lane.progressed();
        }
        Accepted { lane }
    }

    pub(super) fn report(&self, queue_depth: usize, queue_limit: usize) -> HealthReport {
        let now = self.started.elapsed();
        let stuck = self.lanes.iter().any(|lane| {
            let progressed_at = Duration::from_millis(lane.progressed_at.load(Ordering::Relaxed));
            lane.depth.load(Ordering::Relaxed) > 0 && now.saturating_sub(progressed_at) > self.stuck_after
        });
        let last_failure = self.failure.borrow().as_deref().map(str::to_owned);
        HealthReport { queue_depth, queue_limit, stuck, last_failure }
    }

    /// A batch committed: whatever failed before is over.
    pub(super) fn committed(&self) {
        if self.failure.borrow().is_some() {
            tracing::info!("the database accepts events again");
            self.failure.send_replace(None);
        }
    }

    /// The database refuses for a reason that is not the events'. Logged on the first, then at most once in five seconds.
    pub(super) fn failed(&self, cause: &str, events: usize) {
        let is_first = self.failure.send_replace(Some(cause.into())).is_none();
        let mut last_logged = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last_logged.is_none_or(|at| at.elapsed() >= Duration::from_secs(5));
        if is_first || is_due {
            *last_logged = Some(Instant::now());
            tracing::error!(cause, events, "the database does not accept events; their senders were asked to retry");
        }
    }
}

/// Tries the database without an event: when asked to, and from time to time while commits fail, so that a balancer that
/// has stopped sending because of a red `/readyz` learns when it can start again.
pub(super) async fn run_probe<T: Transactions>(
    desk: Arc<Desk<T>>,
    mut questions: mpsc::UnboundedReceiver<oneshot::Sender<bool>>,
    mut ending: watch::Receiver<Option<Ending>>,
) {
    let mut failure = desk.health.failure.subscribe();
    let mut backoff = Backoff::up_to(Duration::from_secs(2));
    loop {
        let is_failing = failure.borrow_and_update().is_some();
        if !is_failing {
            backoff.reset();
        }
        let mut waiting = Vec::new();
        tokio::select! {
            Some(question) = questions.recv() => waiting.push(question),
            () = tokio::time::sleep(backoff.peek()), if is_failing => { backoff.advance(); }
            Ok(()) = failure.changed(), if !is_failing => continue,
            _ended = ending.wait_for(Option::is_some) => return,
        }
        let accepts = match desk.transactions.probe().await {
            // A lock that somebody else holds says nothing against the database.
            Ok(()) | Err(BatchError::Contended(_)) => true,
            Err(error) => {
                desk.health.failed(&error.to_string(), 0);
                false
            }
        };
        if accepts {
            desk.health.committed();
        }
        while let Ok(question) = questions.try_recv() {
            waiting.push(question);
        }
        for question in waiting {
            let _asker_gone = question.send(accepts);
        }
    }
}
