//! The queues in front of the transactions: group commit, bounds, failure of a batch, shutdown. No SQL and no HTTP: what
//! a batch does to the database is behind [`Transactions`].

mod aside;
mod batch;
mod budget;
mod health;
mod settle;
mod writer;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::domain::event::Event;
use crate::domain::rules::Rules;
use crate::ingest::transaction::{BatchError, Receipt};
use crate::store::Store;

pub use self::batch::{Database, Transactions};
pub use self::budget::Reservation;
pub use self::health::HealthReport;

use self::batch::Pending;
use self::budget::Budget;
use self::health::Health;

/// The bounds of a [`Committer`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Writer tasks; each has a queue and, while it writes, a connection.
    pub writers: usize,
    /// Events that may wait or be in work at a time; one more is refused at once.
    pub queue_events: usize,
    /// Bytes of bodies that may be read, wait or be in work at a time.
    pub queue_bytes: usize,
    /// Most events of one transaction.
    pub batch_events: usize,
    /// Most payload bytes of one transaction; a single larger event still goes alone.
    pub batch_bytes: usize,
    /// How long a sender waits for its answer.
    pub sender_wait: Duration,
    /// How long an event may stay locked by somebody else.
    pub lock_patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            // A batch costs as much as ten of its events before it has any, so more writers would make smaller ones; fewer leave the
            // database idle while they wait for the disk and for us.
            writers: 3,
            queue_events: 1024,
            queue_bytes: 32 * 1024 * 1024,
            batch_events: 64,
            batch_bytes: 4 * 1024 * 1024,
            // Clerk gives up after 15 s: the answer has to be well on its way by then.
            sender_wait: Duration::from_secs(8),
            lock_patience: Duration::from_secs(5),
        }
    }
}

/// Why an event was not acknowledged. A later retry by its sender can help in every case.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SubmitError {
    #[error("the queue is full")]
    QueueFull,
    #[error("too many bytes are waiting")]
    BytesFull,
    /// The event is still in work and will be committed; its retry is a duplicate.
    #[error("not committed in time")]
    TimedOut,
    /// Nothing of it is kept.
    #[error("its account is locked by somebody else")]
    Contended,
    /// Nothing of it is kept.
    #[error("the database does not accept it at the moment")]
    Unavailable,
    #[error("shutting down")]
    Closed,
}

impl SubmitError {
    /// What to tell the sender to wait before its retry.
    pub fn retry_after_seconds(&self) -> u32 {
        match self {
            SubmitError::QueueFull | SubmitError::BytesFull => 1,
            SubmitError::Contended | SubmitError::Closed => 2,
            SubmitError::TimedOut | SubmitError::Unavailable => 5,
        }
    }
}

/// How the writers ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Closed, and everything accepted was settled.
    Drained,
    /// A writer panicked: what it held is lost to its senders, who were told so.
    Died,
}

/// Takes events and answers once they are durably committed. Cheap to clone; all clones share the queues.
#[derive(Clone, Debug)]
pub struct Committer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    slots: Arc<Semaphore>,
    budget: Budget,
    queues: Vec<mpsc::UnboundedSender<Pending>>,
    questions: mpsc::UnboundedSender<oneshot::Sender<bool>>,
    health: Arc<Health>,
    closing: watch::Sender<bool>,
    ending: watch::Receiver<Option<Ending>>,
}

impl Committer {
    /// Starts the writers on the current runtime, in front of the database.
    pub fn start(store: Store, rules: Arc<Rules>, clock: Clock, options: Options) -> Committer {
        Committer::start_with(Database::new(store, rules, clock), options)
    }

    /// Starts the writers in front of whatever commits batches.
    pub fn start_with<T: Transactions>(transactions: T, options: Options) -> Committer {
        let writers = options.writers.max(1);
        let health = Arc::new(Health::new(writers, options.sender_wait));
        let (closing, closed) = watch::channel(false);
        let (ended, ending) = watch::channel(None);
        let desk = Arc::new(settle::Desk::new(transactions, options.clone(), Arc::clone(&health)));

        let mut tasks = JoinSet::new();
        let (to_aside, aside_queue) = mpsc::unbounded_channel();
        tasks.spawn(aside::run_aside(Arc::clone(&desk), aside_queue));
        let mut queues = Vec::with_capacity(writers);
        for number in 0..writers {
            let (sender, queue) = mpsc::unbounded_channel();
            queues.push(sender);
            let writer =
                writer::Writer { number, desk: Arc::clone(&desk), queue, closed: closed.clone(), aside: to_aside.clone() };
            tasks.spawn(writer.run());
        }
        drop(to_aside);

        let slots = Arc::new(Semaphore::new(options.queue_events));
        let (questions, asked) = mpsc::unbounded_channel();
        tokio::spawn(health::run_probe(Arc::clone(&desk), asked, ending.clone()));
        tokio::spawn(supervise(tasks, Arc::clone(&slots), ended));
        let budget = Budget::new(options.queue_bytes);
        Committer { shared: Arc::new(Shared { options, slots, budget, queues, questions, health, closing, ending }) }
    }

    /// Sets bytes of memory aside for a body that is about to be read; refused at once when too many wait already.
    pub fn reserve(&self, bytes: usize) -> Result<Reservation, SubmitError> {
        self.shared.budget.reserve(bytes)
    }

    /// Hands over an event and waits for what became of it. Refuses at once when the queue is full. Dropping the returned
    /// future after its first poll does not take the event back: it is committed all the same.
    pub async fn submit(&self, event: Event) -> Result<Receipt, SubmitError> {
        self.submit_reserved(event, Reservation::none()).await
    }

    /// As [`Committer::submit`], with the reservation that the event's body was read under; kept until it is settled.
    pub async fn submit_reserved(&self, event: Event, reservation: Reservation) -> Result<Receipt, SubmitError> {
        let slot = match Arc::clone(&self.shared.slots).try_acquire_owned() {
            Ok(slot) => slot,
            Err(TryAcquireError::NoPermits) => return Err(SubmitError::QueueFull),
            Err(TryAcquireError::Closed) => return Err(SubmitError::Closed),
        };
        let answer = self.enqueue(event, slot, reservation)?;
        match tokio::time::timeout(self.shared.options.sender_wait, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_dropped)) => Err(SubmitError::Unavailable),
            Err(_elapsed) => Err(SubmitError::TimedOut),
        }
    }

    /// As [`Committer::submit`], for callers that would rather wait than be refused (`replay`): waits for a free place, then
    /// without limit for the answer.
    pub async fn submit_patiently(&self, event: Event) -> Result<Receipt, SubmitError> {
        let slot = Arc::clone(&self.shared.slots).acquire_owned().await.map_err(|_closed| SubmitError::Closed)?;
        let answer = self.enqueue(event, slot, Reservation::none())?;
        answer.await.unwrap_or(Err(SubmitError::Unavailable))
    }

    /// Whether batches are getting through, and how many events wait.
    pub fn health(&self) -> HealthReport {
        let free = self.shared.slots.available_permits();
        self.shared.health.report(self.shared.options.queue_events.saturating_sub(free), self.shared.options.queue_events)
    }

    /// Whether the database accepts events at the moment, found out by trying without one.
    pub async fn probe(&self) -> bool {
        let (question, answer) = oneshot::channel();
        self.shared.questions.send(question).is_ok() && answer.await.unwrap_or(false)
    }

    /// Refuses further events, commits all that were accepted, and returns when nothing is left. False when a writer had died.
    pub async fn close(&self) -> bool {
        self.shared.slots.close();
        self.shared.closing.send_replace(true);
        self.ended().await == Ending::Drained
    }

    /// Returns when a writer has panicked, which the process must not survive; never otherwise.
    pub async fn died(&self) {
        if self.ended().await != Ending::Died {
            std::future::pending::<()>().await;
        }
    }

    fn enqueue(
        &self,
        event: Event,
        slot: OwnedSemaphorePermit,
        reservation: Reservation,
    ) -> Result<oneshot::Receiver<Result<Receipt, SubmitError>>, SubmitError> {
        let account = account_of(&event);
        let number = (account % self.shared.queues.len().max(1) as u64) as usize;
        let (reply, answer) = oneshot::channel();
        let pending = Pending {
            account,
            bytes: event.payload.text.len(),
            event: Arc::new(event),
            reply,
            contended_since: None,
            accepted: self.shared.health.accepted(number),
            slot,
            reservation,
        };
        let queue = self.shared.queues.get(number).ok_or(SubmitError::Closed)?;
        queue.send(pending).map_err(|_ended| SubmitError::Closed)?;
        Ok(answer)
    }

    async fn ended(&self) -> Ending {
        let mut ending = self.shared.ending.clone();
        match ending.wait_for(Option::is_some).await {
            Ok(ending) => ending.unwrap_or(Ending::Died),
            Err(_supervisor_gone) => Ending::Died,
        }
    }
}

/// The events of one account go through one writer, so that two of ours seldom wait for each other's locks.
fn account_of(event: &Event) -> u64 {
    let key = event.owner_id.as_deref().or(event.object_id.as_deref()).unwrap_or(&event.id);
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
}

async fn supervise(mut tasks: JoinSet<()>, slots: Arc<Semaphore>, ended: watch::Sender<Option<Ending>>) {
    let mut ending = Ending::Drained;
    while let Some(joined) = tasks.join_next().await {
        if let Err(error) = joined {
            tracing::error!(panicked = error.is_panic(), "a writer died; refusing further events");
            ending = Ending::Died;
            slots.close();
            ended.send_replace(Some(ending));
        }
    }
    ended.send_replace(Some(ending));
}

/// Seconds of waiting that double from try to try: 25 ms, 50 ms, … up to a most.
#[derive(Debug)]
struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(25);

    fn up_to(most: Duration) -> Backoff {
        Backoff { next: Backoff::FIRST, most }
    }

    fn reset(&mut self) {
        self.next = Backoff::FIRST;
    }

    fn peek(&self) -> Duration {
        self.next.min(self.most)
    }

    fn advance(&mut self) -> Duration {
        let delay = self.peek();
        self.next = delay.saturating_mul(2);
        delay
    }
}

fn is_past(since: Option<Instant>, patience: Duration) -> bool {
    since.is_some_and(|since| since.elapsed() >= patience)
}
