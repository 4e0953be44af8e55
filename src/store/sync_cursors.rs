//! `billsync.sync_cursors`: how far long readings of a provider's API have come, so that a restart goes on from there.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::error::StoreError;
use crate::store::pool::Store;

statements! {
    FIND_CURSOR = "select position::text from billsync.sync_cursors where name = $1";

    SAVE_CURSOR = "\
        insert into billsync.sync_cursors (name, position) values ($1, $2::jsonb) \
        on conflict (name) do update set position = excluded.position";

    DELETE_CURSOR = "delete from billsync.sync_cursors where name = $1";
}

impl Store {
    /// A reading's position; `None` when there is none, or another version wrote one that this one cannot read.
    pub async fn find_cursor<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let mut tx = self.begin().await?;
        let row: Option<(String,)> = tx.query_as(FIND_CURSOR).bind(name.to_owned()).fetch_optional(tx.connection()?).await?;
        tx.commit().await?;
        Ok(row.and_then(|(position,)| serde_json::from_str(&position).ok()))
    }

    /// Keeps a reading's position.
    pub async fn save_cursor(&self, name: &str, position: &impl Serialize) -> Result<(), StoreError> {
        let position = serde_json::to_value(position).unwrap_or_default().to_string();
        let mut tx = self.begin().await?;
        tx.query(SAVE_CURSOR).bind(name.to_owned()).bind(position).execute(tx.connection()?).await?;
        tx.commit().await
    }

    /// Forgets a reading's position: the next one begins anew.
    pub async fn delete_cursor(&self, name: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        tx.query(DELETE_CURSOR).bind(name.to_owned()).execute(tx.connection()?).await?;
        tx.commit().await
    }
}
