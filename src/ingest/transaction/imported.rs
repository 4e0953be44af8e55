//! Imported users in one batch: their facts by the way of every event, and what the application owns of them beside, in the
//! same transaction.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{BatchError, Concerned, Receipt, Work, run};
use crate::clock::Clock;
use crate::domain::billing::accounts::Accounts;
use crate::domain::event::Event;
use crate::domain::rules::Rules;
use crate::store::{ErrorKind, OwnChange, Store, StoreError, Tx, write_own_columns};

/// A user's import: the event, and the application's own columns.
#[derive(Clone, Debug)]
pub struct ImportedUser {
    pub event: Arc<Event>,
    pub own: OwnChange,
    /// As of when the import was that `own` was made with; `None` where there was none.
    pub seen: Option<DateTime<Utc>>,
}

/// Commits the imports, one receipt each. Contended when somebody else has imported one of the users since `seen`: what is to be
/// added to the counters is not the same any more.
pub async fn commit_imports(
    store: &Store,
    users: &[ImportedUser],
    rules: &Rules,
    clock: &Clock,
) -> Result<Vec<Receipt>, BatchError> {
    let events: Vec<Arc<Event>> = users.iter().map(|user| Arc::clone(&user.event)).collect();
    let own: Vec<OwnChange> = users.iter().map(|user| user.own.clone()).collect();
    let seen: Vec<Option<DateTime<Utc>>> = users.iter().map(|user| user.seen).collect();
    let work = Work::Imports { events: &events, own: &own, seen: &seen };
    Ok(run(store, Concerned::new(&events, rules), &work, rules, clock).await?.receipts)
}

impl Work<'_> {
    /// Under the locks, and before anything is written.
    pub(super) fn refuse_if_overtaken(&self, accounts: &Accounts) -> Result<(), StoreError> {
        let Work::Imports { events, seen, .. } = self else { return Ok(()) };
        let known = |event: &Event| {
            let object = event.snapshots().first().and_then(|snapshot| accounts.object(&snapshot.key));
            object.and_then(|object| object.winner.as_ref()).map(|winner| winner.as_of)
        };
        if events.iter().zip(*seen).all(|(event, seen)| known(event) == *seen) {
            return Ok(());
        }
        Err(StoreError::new(ErrorKind::Contended, "another import came first"))
    }

    /// Writes what comes after the rows are made, if anything does.
    pub(super) async fn write_beside(&self, tx: &mut Tx) -> Result<(), StoreError> {
        match self {
            Work::Imports { own, .. } => write_own_columns(tx, own).await,
            _ => Ok(()),
        }
    }
}
