//! A server as a place for databases: making one that is marked as somebody's own, finding it again by that mark, and dropping
//! it. Nothing here touches a database without the mark.

use std::fmt;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::store::error::{ErrorKind, StoreError, unreachable_server};
use crate::store::session::plain_options;

/// How long a server may take to greet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(6);

/// What the servers keep as a database's comment.
const MARK: &str = "made by billsync bench, which may drop it";

/// `bsbn`: with the hash of a database's name, one bench at a time in it.
const BENCH_LOCK_CLASS: i32 = 0x6273_626e;

/// Longest name that Postgres does not cut.
const NAME_BYTES: usize = 63;

statements! {
    /// Never the one that is connected to.
    FIND_DATABASE_MARK = "select pg_catalog.shobj_description(d.oid, 'pg_database'), d.datname = pg_catalog.current_database() \
        from pg_catalog.pg_database d where d.datname = $1";
    TRY_BENCH_LOCK = "select pg_catalog.pg_try_advisory_lock($1, pg_catalog.hashtext($2))";
    HAS_RELATIONS = "select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
        where n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_')";
}

/// The name of a database: safe to stand in a statement without quotation marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseName(String);

/// Who has a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned {
    /// There is none of that name.
    Missing,
    /// It carries our mark, or holds nothing at all yet.
    Ours,
    Others,
}

/// A connection to a server, which keeps a lock on the database that it is for.
pub struct DatabaseServer {
    connection: PgConnection,
    url: String,
}

impl DatabaseName {
    /// Lower-case letters, digits and underscores, beginning with a letter.
    pub fn parse(text: &str) -> Result<DatabaseName, String> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
        if begins && text.len() <= NAME_BYTES && text.chars().all(fits) {
            return Ok(DatabaseName(text.to_owned()));
        }
        Err(format!("has to be up to {NAME_BYTES} lower-case letters, digits and underscores, beginning with a letter"))
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DatabaseServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseServer").field("url", &"[redacted]").finish_non_exhaustive()
    }
}

impl DatabaseServer {
    /// Connects directly to the database of that URL, only to get at its server.
    pub async fn connect(url: &str) -> Result<DatabaseServer, StoreError> {
        let options = plain_options(url)?.disable_statement_logging();
        let mut connection = connect(&options).await?;
        sqlx::raw_sql("set statement_timeout = 0").execute(&mut connection).await?;
        Ok(DatabaseServer { connection, url: url.to_owned() })
    }

    /// The same server, that database.
    pub fn url_of(&self, name: &DatabaseName) -> String {
        let separator = if self.url.contains('?') { '&' } else { '?' };
        // The last word on it, whatever the path says.
        format!("{}{separator}dbname={name}", self.url)
    }

    /// Keeps others from the database until this connection ends; false when somebody has it.
    pub async fn try_lock(&mut self, name: &DatabaseName) -> Result<bool, StoreError> {
        let query = sqlx::query_scalar(TRY_BENCH_LOCK).bind(BENCH_LOCK_CLASS).bind(&name.0);
        Ok(query.fetch_one(&mut self.connection).await?)
    }

    /// Whose a database is.
    pub async fn find(&mut self, name: &DatabaseName) -> Result<Owned, StoreError> {
        let query = sqlx::query_as::<_, (Option<String>, bool)>(FIND_DATABASE_MARK).bind(&name.0);
        match query.fetch_optional(&mut self.connection).await? {
            None => Ok(Owned::Missing),
            Some((_, true)) => Ok(Owned::Others),
            Some((Some(mark), false)) if mark == MARK => Ok(Owned::Ours),
            Some((Some(_other), false)) => Ok(Owned::Others),
            // Whoever made it was interrupted before it got its mark.
            Some((None, false)) if !self.has_relations(name).await? => Ok(Owned::Ours),
            Some((None, false)) => Ok(Owned::Others),
        }
    }

    /// Makes a database and marks it.
    pub async fn create(&mut self, name: &DatabaseName) -> Result<(), StoreError> {
        self.execute(format!("create database {name} template template0")).await?;
        self.mark(name).await
    }

    /// Marks a database that is [`Owned::Ours`].
    pub async fn mark(&mut self, name: &DatabaseName) -> Result<(), StoreError> {
        self.execute(format!("comment on database {name} is '{MARK}'")).await
    }

    /// Drops a database that is [`Owned::Ours`], with whatever is connected to it; any other is refused.
    pub async fn drop_database(&mut self, name: &DatabaseName) -> Result<(), StoreError> {
        match self.find(name).await? {
            Owned::Missing => Ok(()),
            Owned::Ours => self.execute(format!("drop database {name} with (force)")).await,
            Owned::Others => {
                Err(StoreError::new(ErrorKind::Refused, format!("the database {name} was not made by billsync bench")))
            }
        }
    }

    /// Ends the connection, and with it the lock.
    pub async fn close(self) {
        // The server notices the end of a connection whether or not it was told of it.
        let _ = self.connection.close().await;
    }

    async fn has_relations(&self, name: &DatabaseName) -> Result<bool, StoreError> {
        let options = plain_options(&self.url_of(name))?.disable_statement_logging();
        let mut connection = connect(&options).await?;
        let has = sqlx::query_scalar(HAS_RELATIONS).fetch_one(&mut connection).await?;
        let _ = connection.close().await;
        Ok(has)
    }

    async fn execute(&mut self, sql: String) -> Result<(), StoreError> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await?;
        Ok(())
    }
}

/// A server that takes the connection and says nothing is as good as none.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await {
        Ok(connected) => connected.map_err(unreachable_server),
        Err(_elapsed) => Err(unreachable_server(sqlx::Error::PoolTimedOut)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_needs_no_quotation_marks() {
        for fine in ["billsync_bench", "b2"] {
            assert_eq!(DatabaseName::parse(fine).expect("a name").to_string(), fine);
        }
        for wrong in ["", "_b", "2b", "B", "b-c", "b;drop", "b c", "é", &"b".repeat(64)] {
            assert!(DatabaseName::parse(wrong).is_err(), "{wrong}");
        }
    }
}
