//! Imported users in one batch: their facts by the way of every event, and what the application owns of them beside, in the
//! same transaction.

use std::sync::Arc;

use super::{BatchError, Concerned, Receipt, Work, run};
use crate::clock::Clock;
use crate::domain::event::Event;
use crate::domain::rules::Rules;
use crate::store::{OwnChange, Store, StoreError, Tx, write_own_columns};

/// A user's import: the event, and the application's own columns.
#[derive(Clone, Debug)]
pub struct ImportedUser {
    pub event: Arc<Event>,
    pub own: OwnChange,
}

/// Commits the imports, one receipt each.
pub async fn commit_imports(
    store: &Store,
    users: &[ImportedUser],
    rules: &Rules,
    clock: &Clock,
) -> Result<Vec<Receipt>, BatchError> {
    let events: Vec<Arc<Event>> = users.iter().map(|user| Arc::clone(&user.event)).collect();
    let own: Vec<OwnChange> = users.iter().map(|user| user.own.clone()).collect();
    let work = Work::Imports { events: &events, own: &own };
    Ok(run(store, Concerned::new(&events, rules), &work, rules, clock).await?.receipts)
}

impl Work<'_> {
    /// Writes what comes after the rows are made, if anything does.
    pub(super) async fn write_beside(&self, tx: &mut Tx) -> Result<(), StoreError> {
        match self {
            Work::Imports { own, .. } => write_own_columns(tx, own).await,
            _ => Ok(()),
        }
    }
}
