//! All SQL. `Store` is the pool; nothing of sqlx leaves this module but through its own types.

/// A pool of connections to the application's database.
#[derive(Clone, Debug)]
pub struct Store {}

impl Store {
    /// Closes every connection, waiting for those in use.
    pub async fn close(&self) {}
}
