//! The bound on the bytes of bodies that are read, wait, or are in work.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::SubmitError;

/// Bytes that may be held at a time.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: Arc<Semaphore>,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Budget {
        Budget { bytes: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))) }
    }

    pub(super) fn reserve(&self, bytes: usize) -> Result<Reservation, SubmitError> {
        let mut reservation = Reservation { budget: Some(Arc::clone(&self.bytes)), held: None };
        reservation.grow(bytes)?;
        Ok(reservation)
    }
}

/// Bytes held for one body; given back when it is dropped, which is when its event is settled.
#[derive(Debug)]
pub struct Reservation {
    budget: Option<Arc<Semaphore>>,
    held: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    /// For an event whose body is accounted for elsewhere.
    pub fn none() -> Reservation {
        Reservation { budget: None, held: None }
    }

    /// Takes more bytes; refused at once when there are none left.
    pub fn grow(&mut self, bytes: usize) -> Result<(), SubmitError> {
        let Some(budget) = &self.budget else { return Ok(()) };
        if bytes == 0 {
            return Ok(());
        }
        let bytes = u32::try_from(bytes).map_err(|_too_many| SubmitError::BytesFull)?;
        let more = Arc::clone(budget).try_acquire_many_owned(bytes).map_err(|_none_left| SubmitError::BytesFull)?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}
