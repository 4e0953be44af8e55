//! Running and comparing the migrations that are compiled into the binary.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, PgConnection};

use crate::store::error::{ErrorKind, StoreError};
use crate::store::expected_schema::ExpectedSchema;
use crate::store::pool::{Store, Tx};

/// `bsmi`: one migrator at a time in a database.
pub(crate) const MIGRATOR_LOCK: i64 = 0x6273_6d69;

/// While another process migrates.
const LOCK_ASKED_EVERY: Duration = Duration::from_millis(100);

statements! {
    HAS_MIGRATIONS = "select to_regclass('billsync.migrations') is not null";
    /// Tables of somebody else's, where no migration has begun.
    FIND_FOREIGN_TABLE = "\
        select t.name from unnest($1::text[]) as t(name) where to_regclass(format('public.%I', t.name)) is not null \
            and not exists (select from pg_catalog.pg_namespace where nspname = 'billsync') limit 1";
    /// One that does not run in a transaction may have ended half-way.
    LIST_UNFINISHED_MIGRATIONS = "select version from billsync.migrations where not success order by version";
    LIST_APPLIED_MIGRATIONS = "select version, checksum, installed_on from billsync.migrations where success order by version";
    LOCK_MIGRATIONS = "select pg_catalog.pg_try_advisory_lock($1)";
    UNLOCK_MIGRATIONS = "select pg_catalog.pg_advisory_unlock($1)";
    ENSURE_PAYLOAD_PARTITIONS = "select billsync.ensure_payload_partitions($1, $2)";
    DROP_PAYLOAD_PARTITIONS = "select billsync.drop_payload_partitions($1)";
}

/// Where one migration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MigrationState {
    Pending,
    Applied(DateTime<Utc>),
    /// Applied, and the file has been edited since.
    Changed(DateTime<Utc>),
    /// Applied by a newer version of billsync.
    Unknown(DateTime<Utc>),
}

/// One migration, compiled in or found in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationStatus {
    pub version: i64,
    pub description: String,
    pub state: MigrationState,
}

/// The migrations of this binary, with their bookkeeping in our own schema.
pub(crate) fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.create_schema("billsync");
    migrator.dangerous_set_table_name("billsync.migrations");
    // The previous version goes on running, and may restart, while a newer one has migrated.
    migrator.set_ignore_missing(true);
    // Locked by `run`, which waits for as long as another migrator takes but not for a busy table.
    migrator.set_locking(false);
    migrator
}

/// What all migrations of this binary make, whether or not they have run anywhere.
pub fn schema_of_migrations() -> ExpectedSchema {
    ExpectedSchema::read(migrator().iter().map(|migration| migration.sql.as_str()))
}

impl Store {
    /// Every migration and whether it has run, by version.
    pub async fn migration_status(&self) -> Result<Vec<MigrationStatus>, StoreError> {
        let mut tx = self.begin().await?;
        let applied = list_applied(&mut tx).await?;
        tx.commit().await?;
        Ok(compare(&migrator(), applied))
    }

    /// The versions that began outside of a transaction and did not get to their end.
    pub async fn list_unfinished_migrations(&self) -> Result<Vec<i64>, StoreError> {
        let mut tx = self.begin().await?;
        let (exists,): (bool,) = tx.query_as(HAS_MIGRATIONS).fetch_one(tx.connection()?).await?;
        let rows: Vec<(i64,)> = match exists {
            true => tx.query_as(LIST_UNFINISHED_MIGRATIONS).fetch_all(tx.connection()?).await?,
            false => Vec::new(),
        };
        tx.commit().await?;
        Ok(rows.into_iter().map(|(version,)| version).collect())
    }

    /// What the migrations that have run on this database make.
    pub async fn expected_schema(&self) -> Result<ExpectedSchema, StoreError> {
        let status = self.migration_status().await?;
        let ran = |version: i64| status.iter().any(|it| it.version == version && it.state != MigrationState::Pending);
        let migrator = migrator();
        Ok(ExpectedSchema::read(migrator.iter().filter(|it| ran(it.version)).map(|it| it.sql.as_str())))
    }

    /// The versions that have yet to run; those that have been edited since are an error.
    pub async fn missing_migrations(&self) -> Result<Vec<i64>, StoreError> {
        let mut missing = Vec::new();
        for migration in self.migration_status().await? {
            match migration.state {
                MigrationState::Pending => missing.push(migration.version),
                MigrationState::Changed(_) => return Err(changed(migration.version)),
                MigrationState::Applied(_) | MigrationState::Unknown(_) => {}
            }
        }
        Ok(missing)
    }

    /// Runs what is pending, one process at a time, and returns the versions that this call has run. Then makes the
    /// partitions of this month and the next three.
    pub async fn migrate(&self, now: DateTime<Utc>) -> Result<Vec<i64>, StoreError> {
        let missing = self.missing_migrations().await?;
        let done = if missing.is_empty() { Vec::new() } else { self.run_migrations().await? };
        self.ensure_payload_partitions(now).await?;
        Ok(done)
    }

    /// Makes the partitions of the month of `now` and the following three; returns those that were missing.
    pub async fn ensure_payload_partitions(&self, now: DateTime<Utc>) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin().await?;
        let made: Vec<(String,)> =
            tx.query_as(ENSURE_PAYLOAD_PARTITIONS).bind(now).bind(3_i32).fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(made.into_iter().map(|(name,)| name).collect())
    }

    /// Drops the partitions that end before `keep_from`; returns their names.
    pub async fn drop_payload_partitions(&self, keep_from: DateTime<Utc>) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin().await?;
        let dropped: Vec<(String,)> = tx.query_as(DROP_PAYLOAD_PARTITIONS).bind(keep_from).fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(dropped.into_iter().map(|(name,)| name).collect())
    }

    /// A table that has a name of ours, made by something else, in a database where no migration has begun.
    pub async fn find_foreign_table(&self) -> Result<Option<String>, StoreError> {
        let mut tx = self.begin().await?;
        let ours = schema_of_migrations().application_tables();
        let found: Option<(String,)> = tx.query_as(FIND_FOREIGN_TABLE).bind(ours).fetch_optional(tx.connection()?).await?;
        tx.commit().await?;
        Ok(found.map(|(table,)| table))
    }

    async fn run_migrations(&self) -> Result<Vec<i64>, StoreError> {
        let mut connection = self.connect_directly().await?;
        let result = run_locked(&mut connection).await;
        // Closing ends the session and with it the lock, also after an error.
        let _ = connection.close().await;
        result
    }
}

async fn run_locked(connection: &mut PgConnection) -> Result<Vec<i64>, StoreError> {
    sqlx::raw_sql("set statement_timeout = 0; set lock_timeout = 0").execute(&mut *connection).await?;
    // Asked for again and again: a statement that waits for the lock holds a snapshot, and an index that another migrator
    // makes concurrently waits for every snapshot to go.
    while !sqlx::query_scalar::<_, bool>(LOCK_MIGRATIONS).bind(MIGRATOR_LOCK).fetch_one(&mut *connection).await? {
        tokio::time::sleep(LOCK_ASKED_EVERY).await;
    }
    // Behind a DDL statement that waits, everybody else waits too.
    sqlx::raw_sql("set lock_timeout = '10s'").execute(&mut *connection).await?;
    let migrator = migrator();
    let ours = schema_of_migrations().application_tables();
    let foreign: Option<String> = sqlx::query_scalar(FIND_FOREIGN_TABLE).bind(ours).fetch_optional(&mut *connection).await?;
    if let Some(table) = foreign {
        let message = format!(
            "the table public.{table} is there, made by something else than billsync's migrations; nothing was changed. \
             Adopt the database with `billsync migrate baseline`, or give billsync one of its own"
        );
        return Err(StoreError::new(ErrorKind::Unavailable, message));
    }
    let before = list_applied_directly(connection).await?;
    migrator.run_direct(None, &mut *connection, false).await.map_err(from_migrate)?;
    sqlx::query(UNLOCK_MIGRATIONS).bind(MIGRATOR_LOCK).execute(&mut *connection).await?;
    Ok(migrator.iter().map(|m| m.version).filter(|version| !before.iter().any(|(known, ..)| known == version)).collect())
}

type AppliedRow = (i64, Vec<u8>, DateTime<Utc>);

async fn list_applied(tx: &mut Tx) -> Result<Vec<AppliedRow>, StoreError> {
    let (exists,): (bool,) = tx.query_as(HAS_MIGRATIONS).fetch_one(tx.connection()?).await?;
    if !exists {
        return Ok(Vec::new());
    }
    Ok(tx.query_as(LIST_APPLIED_MIGRATIONS).fetch_all(tx.connection()?).await?)
}

async fn list_applied_directly(connection: &mut PgConnection) -> Result<Vec<AppliedRow>, StoreError> {
    let (exists,): (bool,) = sqlx::query_as(HAS_MIGRATIONS).fetch_one(&mut *connection).await?;
    if !exists {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as(LIST_APPLIED_MIGRATIONS).fetch_all(connection).await?)
}

fn compare(migrator: &Migrator, applied: Vec<AppliedRow>) -> Vec<MigrationStatus> {
    let mut applied: HashMap<i64, (Vec<u8>, DateTime<Utc>)> =
        applied.into_iter().map(|(version, checksum, at)| (version, (checksum, at))).collect();
    let mut all: Vec<MigrationStatus> = migrator
        .iter()
        .map(|migration| {
            let state = match applied.remove(&migration.version) {
                None => MigrationState::Pending,
                Some((checksum, at)) if checksum == *migration.checksum => MigrationState::Applied(at),
                Some((_, at)) => MigrationState::Changed(at),
            };
            MigrationStatus { version: migration.version, description: migration.description.to_string(), state }
        })
        .collect();
    all.extend(applied.into_iter().map(|(version, (_, at))| MigrationStatus {
        version,
        description: "of a newer version".into(),
        state: MigrationState::Unknown(at),
    }));
    all.sort_by_key(|migration| migration.version);
    all
}

fn changed(version: i64) -> StoreError {
    let message = format!(
        "migration {version} was applied in another form than this binary holds: a released migration is never edited. \
         Run the version of billsync that applied it, or restore the file"
    );
    StoreError::new(ErrorKind::Unavailable, message)
}

pub(crate) fn from_migrate(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) => StoreError::from(error),
        MigrateError::ExecuteMigration(error, version) => {
            // A migration's own statements hold no data, so Postgres's words may be repeated.
            let words = error.as_database_error().map(|database| database.message().to_owned());
            let exists = error.as_database_error().is_some_and(|database| database.code().as_deref() == Some("42P07"));
            let error = StoreError::from(error);
            let words = words.map(|words| format!(" ({words})")).unwrap_or_default();
            let hint = if exists { ". To adopt tables that something else has made: `billsync migrate baseline`" } else { "" };
            StoreError::new(error.kind(), format!("migration {version}: {error}{words}{hint}"))
        }
        MigrateError::VersionMismatch(version) => changed(version),
        other => StoreError::new(ErrorKind::Unavailable, format!("migrations: {other}")),
    }
}
