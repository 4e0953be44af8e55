//! Who has rows: what commands about users look up.

use crate::store::error::StoreError;
use crate::store::pool::Store;

statements! {
    LIST_KNOWN_USERS = "select user_id from public.users where user_id = any($1)";
}

impl Store {
    /// Those of the Clerk ids that have rows.
    pub async fn list_known_users(&self, clerk_ids: &[String]) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as::<(String,)>(LIST_KNOWN_USERS).bind(clerk_ids.to_vec());
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }
}
