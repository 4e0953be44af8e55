//! Forgetting what has had its time. Payloads go by whole partitions (see `migrations`); the ledger itself never goes.

use chrono::{DateTime, Utc};

use crate::store::error::StoreError;
use crate::store::pool::Store;

statements! {
    PRUNE_CONSUME_KEYS = "\
        delete from billsync.consume_keys k using ( \
            select user_id, idempotency_key from billsync.consume_keys where created_at <= $1 \
            order by created_at limit $2 for update skip locked) old \
        where k.user_id = old.user_id and k.idempotency_key = old.idempotency_key";
}

impl Store {
    /// Forgets up to `limit` idempotency keys made until `before`; returns how many.
    pub async fn prune_consume_keys(&self, before: DateTime<Utc>, limit: i64) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let done = tx.query(PRUNE_CONSUME_KEYS).bind(before).bind(limit).execute(tx.connection()?).await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }
}
