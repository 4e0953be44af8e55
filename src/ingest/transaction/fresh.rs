//! Which events of a batch are new, and what the sender of each is told.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{Receipt, Told};
use crate::domain::event::{Event, EventId, Outcome};
use crate::store::First;

/// The events of a batch that are to be applied: those that the ledger does not have, or has as failed.
pub(super) struct Fresh {
    /// One per event of the batch.
    is_fresh: Vec<bool>,
    /// Of those that had failed: when they came first.
    pub(super) received_at: HashMap<EventId, DateTime<Utc>>,
}

impl Fresh {
    pub(super) fn of(events: &[Arc<Event>], first: &First) -> Fresh {
        let mut seen: HashSet<EventId> =
            first.known.iter().filter(|known| !known.failed).map(|known| known.key.clone()).collect();
        let is_fresh = events.iter().map(|event| seen.insert(event.key())).collect();
        let failed = first.known.iter().filter(|known| known.failed);
        Fresh { is_fresh, received_at: failed.map(|known| (known.key.clone(), known.received_at)).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_fresh.contains(&true)
    }

    pub(super) fn indexes(&self) -> impl Iterator<Item = usize> {
        self.is_fresh.iter().enumerate().filter(|(_, fresh)| **fresh).map(|(index, _)| index)
    }

    pub(super) fn receipts(&self, told: &[Told]) -> Vec<Receipt> {
        let mut applied = told.iter().map(|told| &told.applied);
        let receipt = |fresh: &bool| match fresh.then(|| applied.next()).flatten() {
            Some(applied) => Receipt { outcome: applied.outcome, reason: applied.reason.clone() },
            None => Receipt { outcome: Outcome::Duplicate, reason: None },
        };
        self.is_fresh.iter().map(receipt).collect()
    }
}
