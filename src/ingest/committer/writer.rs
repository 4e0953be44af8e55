//! A writer: drains what waits in its queue into one transaction, again and again. At low load a batch is one event, and goes
//! at once; under a burst it grows by itself, and a moment is given to the senders who have just been answered.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::batch::{Pending, Transactions};
use super::settle::Desk;
use super::{Backoff, Options, SubmitError};

/// How long a writer that has just answered a batch waits for those senders' next events. What a transaction costs before it
/// has an event is more than that, so fewer and larger ones let more events through. A timer of ours is as coarse as a
/// millisecond.
const LINGER: Duration = Duration::from_micros(500);

/// Who has not come by then did not come back: the load is over.
const COMING_BACK: Duration = Duration::from_millis(10);

/// After batches of so few events nobody is waited for: the writer has time for small ones.
const FEW: usize = 4;

pub(super) struct Writer<T> {
    pub(super) number: usize,
    pub(super) desk: Arc<Desk<T>>,
    pub(super) queue: mpsc::UnboundedReceiver<Pending>,
    /// Becomes true when no further events are accepted.
    pub(super) closed: watch::Receiver<bool>,
    /// Where events go that wait for somebody else's lock.
    pub(super) aside: mpsc::UnboundedSender<Pending>,
}

impl<T: Transactions> Writer<T> {
    /// Runs until its queue is closed and empty.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::up_to(Duration::from_secs(1));
        let mut held_over = None;
        let mut answered = 0;
        while let Some(mut batch) = self.next_batch(&mut held_over, answered).await {
            answered = batch.len();
            let locked = self.desk.take_aside(&mut batch);
            self.set_aside(locked);
            if batch.is_empty() {
                continue;
            }
            let leftover = self.desk.settle(batch).await;
            self.set_aside(leftover.contended);
            if leftover.unavailable {
                // What arrives meanwhile waits a moment rather than being refused: the database may be back by then.
                tokio::time::sleep(backoff.advance()).await;
            } else {
                backoff.reset();
            }
        }
        tracing::debug!(writer = self.number, "drained");
    }

    /// All that waits, up to the bounds of a batch; the event that would exceed them is held over to the next. Under load also
    /// what comes within [`LINGER`], up to as many as were `answered` last.
    async fn next_batch(&mut self, held_over: &mut Option<Pending>, answered: usize) -> Option<Vec<Pending>> {
        let begun = Instant::now();
        let first = match held_over.take() {
            Some(pending) => pending,
            None => self.receive().await?,
        };
        let mut filling = Filling { bytes: first.bytes, batch: vec![first], held_over };
        while filling.has_room(&self.desk.options)
            && let Ok(pending) = self.queue.try_recv()
        {
            filling.take(pending, &self.desk.options);
        }
        if answered > FEW && begun.elapsed() < COMING_BACK {
            let until = Instant::now() + LINGER;
            let wanted = filling.batch.len().saturating_add(answered);
            while filling.batch.len() < wanted
                && filling.has_room(&self.desk.options)
                && let Ok(Some(pending)) = timeout_at(until, self.queue.recv()).await
            {
                filling.take(pending, &self.desk.options);
            }
        }
        Some(filling.batch)
    }

    async fn receive(&mut self) -> Option<Pending> {
        if !*self.closed.borrow() {
            tokio::select! {
                biased;
                pending = self.queue.recv() => return pending,
                // An error means that the committer is gone, and with it every sender.
                _closed_or_gone = self.closed.wait_for(|closed| *closed) => {}
            }
        }
        self.queue.close();
        self.queue.recv().await
    }

    fn set_aside(&self, locked: Vec<Pending>) {
        for pending in locked {
            if !self.desk.enter_aside(pending.account) {
                pending.answer(Err(SubmitError::Contended));
                continue;
            }
            let account = pending.account;
            if let Err(returned) = self.aside.send(pending) {
                self.desk.leave_aside(account, 1);
                returned.0.answer(Err(SubmitError::Unavailable));
            }
        }
    }
}

/// A batch in the making.
struct Filling<'a> {
    batch: Vec<Pending>,
    bytes: usize,
    /// The event that found no room.
    held_over: &'a mut Option<Pending>,
}

impl Filling<'_> {
    fn has_room(&self, options: &Options) -> bool {
        self.held_over.is_none() && self.batch.len() < options.batch_events
    }

    fn take(&mut self, pending: Pending, options: &Options) {
        self.bytes = self.bytes.saturating_add(pending.bytes);
        if self.bytes > options.batch_bytes {
            *self.held_over = Some(pending);
        } else {
            self.batch.push(pending);
        }
    }
}
