//! What somebody with a lot to write looks at, so that nobody else waits for it: how much is on its way to the disk, which
//! whoever commits waits for, and whether events come in.

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use crate::store::error::StoreError;
use crate::store::pool::Store;

const BEGIN_LOOK: &str = "begin; set local statement_timeout = '2s'; set local lock_timeout = '2s'";

statements! {
    LOOK_AT_PRESSURE = "\
        select pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), pg_catalog.pg_current_wal_flush_lsn())::int8 \
            as unwritten_bytes, \
            (select max(e.received_at) from billsync.webhook_events e) as newest_event";
}

/// How busy the database is with the writes of others.
#[derive(Clone, Debug, FromRow)]
pub struct Pressure {
    /// Of the write-ahead log, not on the disk yet. "Write-Ahead Logging (WAL)" in Postgres's manual.
    pub unwritten_bytes: i64,
    /// When the ledger's newest event came.
    pub newest_event: Option<DateTime<Utc>>,
}

impl Store {
    /// Looks at it. An error where the server does not tell, as some hosted ones do not.
    pub async fn look_at_pressure(&self) -> Result<Pressure, StoreError> {
        let mut tx = self.begin_single(BEGIN_LOOK).await?;
        let pressure = tx.query_as(LOOK_AT_PRESSURE).fetch_one(tx.connection()?).await.map_err(StoreError::from);
        tx.end(pressure).await
    }
}
