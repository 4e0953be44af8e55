//! Writing what the fold changed: one set-based statement a table, and only tables that differ.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::billing::stored::{Changes, UserWrite};
use crate::store::error::StoreError;
use crate::store::pool::Tx;
use crate::store::{facts, ledger, owners, refetch_queue, users};

/// Writes the changes. `ids` are the `users.id` of the users that have rows. The tables of users come first and in their
/// fixed order: whoever else locks rows of several of them does it in the same one.
pub async fn record_changes(
    tx: &mut Tx,
    changes: &Changes,
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
    users::update(tx, &known).await?;
    if !changes.objects.is_empty() {
        facts::upsert(tx, &changes.objects).await?;
    }
    if !changes.owners.is_empty() {
        owners::upsert(tx, &changes.owners).await?;
    }
    if !changes.refetches.is_empty() {
        refetch_queue::enqueue(tx, &changes.refetches).await?;
    }
    Ok(())
}

/// Runs every write of a batch on no rows: a revoked grant, a missing column or a read-only server shows.
pub async fn probe_writes(tx: &mut Tx, now: DateTime<Utc>) -> Result<(), StoreError> {
    users::probe(tx, now).await?;
    facts::upsert(tx, &[]).await?;
    owners::upsert(tx, &[]).await?;
    refetch_queue::enqueue(tx, &[]).await?;
    ledger::record_events(tx, &[]).await
}
