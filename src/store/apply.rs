//! Writing what the fold changed and what the ledger gets: one statement for all tables of a batch, each set-based, since a
//! round trip costs more than a table's rows. New users' rows alone are made before, by statements of their own.

use std::collections::HashMap;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::billing::stored::{Changes, UserWrite};
use crate::store::error::StoreError;
use crate::store::facts::{self, UPSERT_OBJECTS};
use crate::store::ledger::{self, LedgerEntry, RECORD_EVENTS};
use crate::store::owners::{self, UPSERT_OWNERS};
use crate::store::payloads::{self, RECORD_PAYLOADS};
use crate::store::pool::Tx;
use crate::store::refetch_queue::{self, ENQUEUE_REFETCHES};
use crate::store::statements::compose;
use crate::store::users::{self, UPDATES};

/// Rows of users are locked since they were read, those of objects and owners by the batch's locks: no two batches can wait
/// for each other here, whatever the order.
static WRITE_BATCH: LazyLock<String> = LazyLock::new(|| {
    let others = [RECORD_PAYLOADS, UPSERT_OBJECTS, UPSERT_OWNERS, ENQUEUE_REFETCHES, RECORD_EVENTS];
    compose(&UPDATES.into_iter().chain(others).collect::<Vec<_>>())
});

/// The write of a batch, by name.
pub(crate) fn all() -> [(&'static str, &'static str); 1] {
    [("WRITE_BATCH", WRITE_BATCH.as_str())]
}

/// Writes the changes and the ledger's entries; one per key or event. `ids` are the `users.id` of the users that have rows.
pub async fn write_batch(
    tx: &mut Tx,
    changes: &Changes,
    entries: &[LedgerEntry<'_>],
    ids: &HashMap<String, Uuid>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let fresh: Vec<&UserWrite> = changes.users.iter().filter(|write| !ids.contains_key(&write.user_id)).collect();
    let mut known: Vec<(Uuid, &UserWrite)> =
        changes.users.iter().filter_map(|write| Some((*ids.get(&write.user_id)?, write))).collect();
    known.sort_by_key(|(id, _)| *id);
    if !fresh.is_empty() {
        users::insert(tx, &fresh, now).await?;
    }
    write(tx, changes, &known, entries).await
}

/// Runs every write of a batch on no rows: a revoked grant, a missing column or a read-only server shows.
pub async fn probe_writes(tx: &mut Tx, now: DateTime<Utc>) -> Result<(), StoreError> {
    users::insert(tx, &[], now).await?;
    write(tx, &Changes::default(), &[], &[]).await
}

async fn write(
    tx: &mut Tx,
    changes: &Changes,
    known: &[(Uuid, &UserWrite)],
    entries: &[LedgerEntry<'_>],
) -> Result<(), StoreError> {
    let query = users::bind_updates(tx.query(WRITE_BATCH.as_str()), known);
    let query = payloads::bind_record(query, entries);
    let query = facts::bind_upsert(query, &changes.objects, &payloads::numbers_of(&changes.objects, entries));
    let query = owners::bind_upsert(query, &changes.owners);
    let query = refetch_queue::bind_enqueue(query, &changes.refetches);
    let query = ledger::bind_record(query, entries);
    query.execute(tx.connection()?).await?;
    Ok(())
}
