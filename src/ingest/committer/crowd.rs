//! Who is there at a time. A sender who has just been answered is likely to send its next event at once; when as many wait as
//! before, nobody else is coming.

use std::sync::Arc;

use tokio::sync::{Notify, Semaphore};

/// The senders whose events wait or are in work.
#[derive(Debug)]
pub(super) struct Crowd {
    /// The free places of the queue.
    free: Arc<Semaphore>,
    places: usize,
    arrivals: Notify,
}

impl Crowd {
    pub(super) fn new(free: Arc<Semaphore>, places: usize) -> Crowd {
        Crowd { free, places, arrivals: Notify::new() }
    }

    /// How many there are.
    pub(super) fn size(&self) -> usize {
        self.places.saturating_sub(self.free.available_permits())
    }

    /// Somebody came.
    pub(super) fn grow(&self) {
        self.arrivals.notify_waiters();
    }

    /// Returns when there are about as many as there were; all but one in sixteen, since some sender is always slow.
    pub(super) async fn is_back(&self, before: usize) {
        let enough = before - before / 16;
        loop {
            let arrival = self.arrivals.notified();
            if self.size() >= enough {
                return;
            }
            arrival.await;
        }
    }
}
