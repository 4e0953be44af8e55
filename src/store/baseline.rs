//! Adopting a database that something else has built: what differs from our schema, the SQL that mends it, and, when nothing
//! differs, the adoption. What our schema is, the migrations say: they run beside the existing tables, in a savepoint that
//! is undone, on the very server that holds those. Everything happens in one transaction.

mod adoption;
mod compare;
mod constraints;
mod conversion;
mod schema;
mod step;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::migrate::{Migration, Migrator};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

pub use adoption::Adopted;
pub use step::{Comparison, Difference};

use crate::store::baseline::compare::{Expected, compare, is_anything_there};
use crate::store::baseline::schema::Schema;
use crate::store::error::{ErrorKind, StoreError};
use crate::store::migrations::{MIGRATOR_LOCK, migrator};
use crate::store::pool::Store;

/// The migration with the application's own tables: recorded, not run, where they exist.
const APPLICATION_TABLES: i64 = 2;

/// Where the existing tables are while the migrations make ours.
const BESIDE: &str = "billsync_baseline_of_public";

statements! {
    HAS_OUR_SCHEMA = "select exists (select from pg_catalog.pg_namespace where nspname = 'billsync')";
    LOCK_MIGRATOR = "select pg_catalog.pg_advisory_xact_lock($1)";
}

/// Statements that are prepared against the migrated schema.
pub(crate) fn all() -> Vec<(&'static str, &'static str)> {
    [ALL, schema::ALL, adoption::ALL].concat()
}

/// What became of a baseline.
#[derive(Clone, Debug, Serialize)]
pub struct Baseline {
    #[serde(flatten)]
    pub comparison: Comparison,
    /// `None` while something differs.
    pub adopted: Option<Adopted>,
}

impl Store {
    /// Compares the database with our schema and, if nothing differs, adopts it: the migrations are recorded, what is ours alone
    /// is made, the rows become facts. `dry_run`: all of that is undone. Refused where a migration has run.
    pub async fn baseline(&self, now: DateTime<Utc>, dry_run: bool) -> Result<Baseline, StoreError> {
        let mut connection = self.connect_directly().await?;
        let done = run(&mut connection, now, dry_run).await;
        let _ = connection.close().await;
        done
    }
}

async fn run(connection: &mut PgConnection, now: DateTime<Utc>, dry_run: bool) -> Result<Baseline, StoreError> {
    let mut tx = connection.begin().await?;
    // An adoption may take long; a busy table must not be waited for while everybody else waits behind us.
    let limits = "set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0; set local timezone = 'UTC'; \
        set local lock_timeout = 0";
    sqlx::raw_sql(limits).execute(&mut *tx).await?;
    sqlx::query(LOCK_MIGRATOR).bind(MIGRATOR_LOCK).execute(&mut *tx).await?;
    sqlx::raw_sql("set local lock_timeout = '10s'").execute(&mut *tx).await?;
    let (is_managed,): (bool,) = sqlx::query_as(HAS_OUR_SCHEMA).fetch_one(&mut *tx).await?;
    if is_managed {
        let message = "this database is managed by billsync already: schema billsync exists. \
            `billsync migrate status` tells how far it is; after an adoption that was interrupted, `billsync rebuild` completes the rows";
        return Err(StoreError::new(ErrorKind::Unavailable, message));
    }
    let migrator = migrator();
    let expected = read_expected(&mut tx, &migrator).await?;
    let theirs = Schema::read(&mut tx, "public").await?;
    if !is_anything_there(&theirs, &expected) {
        let message = "there is nothing to adopt: schema public has none of the tables that billsync keeps. `billsync migrate run` \
            makes them, beside whatever else is there";
        return Err(StoreError::new(ErrorKind::Unavailable, message));
    }
    let mut comparison = compare(theirs, &expected, false);
    if !comparison.differences.is_empty() {
        count_rows(&mut tx, &mut comparison).await?;
        tx.rollback().await?;
        return Ok(Baseline { comparison, adopted: None });
    }
    restore_search_path(&mut tx).await?;
    let adopted = adoption::adopt(&mut tx, &migrator, &expected, now).await?;
    let left = compare(Schema::read(&mut tx, "public").await?, &expected, true);
    if let Some(left) = left.differences.first() {
        let message = format!(
            "the migrations have left {} of {} as {}, where it should be {}: nothing was adopted",
            left.what, left.table, left.found, left.expected
        );
        return Err(StoreError::new(ErrorKind::Unavailable, message));
    }
    if dry_run {
        tx.rollback().await?
    } else {
        tx.commit().await?
    }
    Ok(Baseline { comparison, adopted: Some(adopted) })
}

/// Has the migrations make our schema in an empty `public`, reads it, and undoes that. Nobody else sees anything of it, and no
/// table of theirs is locked.
async fn read_expected(connection: &mut PgConnection, migrator: &Migrator) -> Result<Expected, StoreError> {
    let mut scratch = connection.begin().await?;
    let aside = format!("alter schema public rename to {BESIDE}; create schema public; create schema billsync");
    sqlx::raw_sql(AssertSqlSafe(aside)).execute(&mut *scratch).await.map_err(explain_rights)?;
    restore_search_path(&mut scratch).await?;
    let mut application = None;
    for migration in migrator.iter() {
        sqlx::raw_sql(AssertSqlSafe(text_in_transaction(migration))).execute(&mut *scratch).await.map_err(explain_rights)?;
        if migration.version == APPLICATION_TABLES {
            application = Some(Schema::read(&mut scratch, "public").await?);
            restore_search_path(&mut scratch).await?;
        }
    }
    let complete = Schema::read(&mut scratch, "public").await?;
    scratch.rollback().await?;
    let application = application.unwrap_or_default();
    Ok(Expected { application, complete })
}

/// An index that is made beside writers cannot be made in a transaction: here nobody writes.
fn text_in_transaction(migration: &Migration) -> String {
    let text = migration.sql.as_str();
    if !migration.no_tx {
        return text.to_owned();
    }
    ["concurrently", "CONCURRENTLY"].iter().fold(text.to_owned(), |text, word| text.replace(word, ""))
}

async fn restore_search_path(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::raw_sql("set local search_path = public").execute(connection).await?;
    Ok(())
}

fn explain_rights(error: sqlx::Error) -> StoreError {
    let is_refused = error.as_database_error().is_some_and(|database| database.code().as_deref() == Some("42501"));
    let error = StoreError::from(error);
    if !is_refused {
        return error;
    }
    let message = format!(
        "{error}. To see what the migrations make, schema public is set aside within a transaction that is undone: connect as \
         the owner of the database"
    );
    StoreError::new(ErrorKind::Unavailable, message)
}

/// Counts the rows that each step would stumble over. Tables and columns that the script renames are renamed for that.
async fn count_rows(connection: &mut PgConnection, comparison: &mut Comparison) -> Result<(), StoreError> {
    let mut counting = connection.begin().await?;
    restore_search_path(&mut counting).await?;
    for difference in &mut comparison.differences {
        if difference.phase == step::Phase::Rename {
            sqlx::raw_sql(AssertSqlSafe(difference.sql.clone())).execute(&mut *counting).await?;
        }
        let Some(guard) = &difference.guard else { continue };
        if let Some(function) = &guard.function {
            sqlx::raw_sql(AssertSqlSafe(function.clone())).execute(&mut *counting).await?;
        }
        let count: (i64,) = sqlx::query_as(AssertSqlSafe(guard.count_sql.clone())).fetch_one(&mut *counting).await?;
        difference.note_rows(count.0);
    }
    counting.rollback().await?;
    Ok(())
}
