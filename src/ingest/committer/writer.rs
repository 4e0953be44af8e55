//! A writer: drains what waits in its queue into one transaction, again and again. No timer and no linger: at low load a
//! batch is one event, under a burst it grows by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::Backoff;
use super::SubmitError;
use super::batch::{Pending, Transactions};
use super::settle::Desk;

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
        while let Some(mut batch) = self.next_batch(&mut held_over).await {
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

    /// All that waits, up to the bounds of a batch; the event that would exceed them is held over to the next.
    async fn next_batch(&mut self, held_over: &mut Option<Pending>) -> Option<Vec<Pending>> {
        let first = match held_over.take() {
            Some(pending) => pending,
            None => self.receive().await?,
        };
        let options = &self.desk.options;
        let mut bytes = first.bytes;
        let mut batch = vec![first];
        while batch.len() < options.batch_events
            && let Ok(pending) = self.queue.try_recv()
        {
            bytes = bytes.saturating_add(pending.bytes);
            if bytes > options.batch_bytes {
                *held_over = Some(pending);
                break;
            }
            batch.push(pending);
        }
        Some(batch)
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
