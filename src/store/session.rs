//! Whether a connection is a session of our own. A pooler may refuse what a connection asks for when it starts, or drop it
//! without a word; in transaction mode it gives each transaction whichever of its server connections is free, and then
//! names of statements, settings and locks of a session are somebody else's the next moment.

use std::collections::BTreeSet;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::store::error::{ErrorKind, StoreError};

/// What every session keeps. A backstop: what has to be quicker says so in its own transaction, and the last one is for
/// statements without a transaction that could say so.
const SETTINGS: [(&str, &str); 3] =
    [("statement_timeout", "60s"), ("idle_in_transaction_session_timeout", "60s"), ("lock_timeout", "3s")];

/// What `idle_in_transaction_session_timeout` is where we have set it.
const IDLE_SECONDS: i32 = 60;

/// The least major version of Postgres: views with `security_invoker`.
const MINIMUM_VERSION: i32 = 150_000;

/// What to do where the pool's connections are shared.
pub(super) const SHARED_SESSIONS: &str =
    "set BILLSYNC_POOLER=transaction, and BILLSYNC_MIGRATION_DATABASE_URL to a direct connection";
/// What to do where those of migrations are.
pub(super) const SHARED_MIGRATIONS: &str =
    "migrations need BILLSYNC_MIGRATION_DATABASE_URL to be a direct connection, or a pooler's in session mode";

/// How often to look who is behind two connections that take turns.
const TURNS: usize = 3;

statements! {
    /// The server's version, and one of the settings as the session has it.
    DESCRIBE_SESSION = "select pg_catalog.current_setting('server_version_num')::int4, \
        extract(epoch from pg_catalog.current_setting('idle_in_transaction_session_timeout')::interval)::int4";
    /// The server connection behind ours.
    IDENTIFY_SERVER = "select pg_catalog.pg_backend_pid()::text || ' of ' || pg_catalog.pg_postmaster_start_time()::text";
}

/// How a session comes to its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SettingsWay {
    /// The connection asks for them when it starts.
    AtStart,
    /// A statement sets them: a pooler that keeps sessions drops or refuses what is asked for at the start.
    ByStatement,
    /// Not at all: there is no session.
    Never,
}

/// Options that ask for nothing that a pooler might not know.
pub(super) fn plain_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options: PgConnectOptions = url.parse().map_err(StoreError::from)?;
    Ok(options.application_name("billsync").extra_float_digits(None))
}

/// The same, asking for the settings.
pub(super) fn with_settings(options: PgConnectOptions) -> PgConnectOptions {
    options.options(SETTINGS)
}

/// Gives a session its settings.
pub(super) async fn set(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let statements: Vec<String> = SETTINGS.iter().map(|(name, value)| format!("set {name} = '{value}'")).collect();
    sqlx::raw_sql(AssertSqlSafe(statements.join("; "))).execute(connection).await?;
    Ok(())
}

/// The server's version, and whether the session has the settings that were asked for.
pub(super) async fn describe(connection: &mut PgConnection) -> Result<(i32, bool), sqlx::Error> {
    let row = sqlx::raw_sql(DESCRIBE_SESSION).fetch_one(connection).await?;
    let idle_seconds: i32 = row.try_get(1)?;
    Ok((row.try_get(0)?, idle_seconds == IDLE_SECONDS))
}

/// Whether a pooler has refused what the connection asks for.
pub(super) fn is_refused_at_start(error: &sqlx::Error) -> bool {
    // pgBouncer's words; Postgres itself knows every parameter that we send.
    error.as_database_error().is_some_and(|error| error.message().contains("unsupported startup parameter"))
}

/// Refuses connections that are shared, naming what to set.
pub(super) async fn refuse_shared(options: &PgConnectOptions, advice: &str) -> Result<(), StoreError> {
    match is_shared(options).await {
        Ok(false) => Ok(()),
        Ok(true) => {
            let message = format!("a pooler in transaction mode is in between, which keeps no session: {advice}");
            Err(StoreError::new(ErrorKind::Unavailable, message))
        }
        Err(error) => Err(error.into()),
    }
}

/// Refuses a server that lacks what the schema needs.
pub(super) fn refuse_old(version: i32) -> Result<(), StoreError> {
    if version >= MINIMUM_VERSION {
        return Ok(());
    }
    let (found, minimum) = (version / 10_000, MINIMUM_VERSION / 10_000);
    let message = format!("PostgreSQL {found} is too old: {minimum} is the minimum. Upgrade the server");
    Err(StoreError::new(ErrorKind::Unavailable, message))
}

/// Whether one server connection serves two of ours, or one of ours is served by two.
async fn is_shared(options: &PgConnectOptions) -> Result<bool, sqlx::Error> {
    let mut one = PgConnection::connect_with(options).await?;
    let mut other = PgConnection::connect_with(options).await?;
    let (mut behind_one, mut behind_other) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..TURNS {
        // Twice in a row, for a pooler that takes the server connection that has rested longest.
        behind_one.insert(identify(&mut one).await?);
        behind_one.insert(identify(&mut one).await?);
        behind_other.insert(identify(&mut other).await?);
    }
    let _ = (one.close().await, other.close().await);
    Ok(behind_one.len() > 1 || behind_other.len() > 1 || !behind_one.is_disjoint(&behind_other))
}

async fn identify(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    // Without a name, so that nothing is left behind on a stranger's connection.
    sqlx::raw_sql(IDENTIFY_SERVER).fetch_one(connection).await?.try_get(0)
}
