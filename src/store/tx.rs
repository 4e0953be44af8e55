//! A transaction: everything happens inside one, since behind a transaction pooler nothing else is safe.

use std::collections::BTreeSet;
use std::fmt;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::{Query, QueryAs};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Postgres};

use crate::store::error::{ErrorKind, StoreError};
use crate::store::locks::{CLERK_CLASS, LockSet, clerk_keys_sql};

statements! {
    TRY_CLERK_USERS = "select coalesce(bool_and(pg_try_advisory_xact_lock($1, key)), true) from unnest($2::int4[]) key";
}

/// A statement that returns rows, to bind values to.
pub(crate) type RowQuery<O> = QueryAs<'static, Postgres, O, PgArguments>;

/// A statement without rows, with the parameters that it has been given.
pub(crate) type Statement = Query<'static, Postgres, PgArguments>;

/// A transaction. Dropped without [`Tx::commit`] or [`Tx::rollback`] it closes its connection, which undoes it.
pub struct Tx {
    connection: Option<PoolConnection<Postgres>>,
    persistent: bool,
    /// Whether there is no transaction, since its one statement is one.
    is_single: bool,
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}

impl Tx {
    /// On a connection on which a transaction is about to be begun. `persistent`: whether statements may be prepared by name.
    pub(super) fn begun(connection: PoolConnection<Postgres>, persistent: bool) -> Tx {
        Tx { connection: Some(connection), persistent, is_single: false }
    }

    /// For one statement that is a transaction by itself.
    pub(super) fn single(connection: PoolConnection<Postgres>) -> Tx {
        Tx { connection: Some(connection), persistent: true, is_single: true }
    }

    /// The one constructor of statements that return rows: unnamed where a pooler would lose track of names.
    pub(crate) fn query_as<O>(&self, sql: &'static str) -> RowQuery<O>
    where
        O: for<'r> FromRow<'r, PgRow>,
    {
        sqlx::query_as(sql).persistent(self.persistent)
    }

    /// The same for statements that return none.
    pub(crate) fn query(&self, sql: &'static str) -> Statement {
        sqlx::query(sql).persistent(self.persistent)
    }

    /// What statements are run on.
    pub(crate) fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        self.connection.as_deref_mut().ok_or_else(|| StoreError::new(ErrorKind::ConnectionLost, "the transaction has ended"))
    }

    /// Runs statements without parameters or rows, all in one round trip. The text must not hold anybody's data.
    pub(crate) async fn execute_raw(&mut self, sql: String) -> Result<(), StoreError> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(self.connection()?).await?;
        Ok(())
    }

    /// Takes the locks of the Clerk users that are not among those `held` since the beginning: the last ones of a batch. False
    /// when one of them is in use and waiting for it, while others of its class are held, could be waiting in a circle.
    pub async fn lock_clerk_users(&mut self, held: &LockSet, clerk_ids: &BTreeSet<String>) -> Result<bool, StoreError> {
        let keys = held.further_clerk_keys(clerk_ids);
        if keys.is_empty() {
            return Ok(true);
        }
        if !held.has_clerk_keys() {
            self.execute_raw(clerk_keys_sql(&keys)).await?;
            return Ok(true);
        }
        let query = self.query_as::<(bool,)>(TRY_CLERK_USERS).bind(CLERK_CLASS).bind(keys);
        Ok(query.fetch_one(self.connection()?).await?.0)
    }

    /// Makes it last or undoes it, as what was done in it says.
    pub(crate) async fn end<T>(self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        match done {
            Ok(done) => self.commit().await.map(|()| done),
            Err(error) => {
                self.roll_back_after(&error).await;
                Err(error)
            }
        }
    }

    /// Makes it last. An error with [`ErrorKind::ConnectionLost`] leaves open whether it did.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        if !self.is_single {
            self.execute_raw("commit".into()).await?;
        }
        self.connection = None;
        Ok(())
    }

    /// Undoes it because of an error. The connection is kept only if its session cannot be the cause: one that was opened
    /// while the database was read-only stays so after the cause has gone.
    pub async fn roll_back_after(self, error: &StoreError) {
        if error.kind() != ErrorKind::Unavailable {
            self.rollback().await;
        }
    }

    /// Undoes it and keeps the connection for others.
    pub async fn rollback(mut self) {
        if self.is_single || self.execute_raw("rollback".into()).await.is_ok() {
            self.connection = None;
        }
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }
}
