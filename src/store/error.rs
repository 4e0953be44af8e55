//! What can go wrong in the database, and whether a retry can help. The text never holds a value: Postgres's details and
//! many of its messages quote the data, so for those only the SQLSTATE and the names of things are kept.

use std::fmt;

use thiserror::Error;

/// What a failure means for whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Somebody else holds what is needed: try again.
    Contended,
    /// The data itself is refused: trying again cannot help.
    Refused,
    /// The connection broke; what was sent may or may not have happened.
    ConnectionLost,
    /// The database cannot do it as it stands: down, read-only, no right, no table, no room.
    Unavailable,
}

/// A failed statement, connection or migration.
#[derive(Clone, Debug, Error)]
pub struct StoreError {
    kind: ErrorKind,
    message: String,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StoreError {
    /// What it means.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// A failure that Postgres did not report itself.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> StoreError {
        StoreError { kind, message: message.into() }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        match error {
            sqlx::Error::Database(database) => from_database(database.as_ref()),
            sqlx::Error::Io(error) => StoreError::new(ErrorKind::ConnectionLost, format!("connection: {error}")),
            sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
                StoreError::new(ErrorKind::ConnectionLost, "the connection is in an unexpected state")
            }
            sqlx::Error::PoolTimedOut => StoreError::new(ErrorKind::Unavailable, "no database connection became free in time"),
            sqlx::Error::PoolClosed => StoreError::new(ErrorKind::Unavailable, "the connection pool is closed"),
            sqlx::Error::Tls(error) => StoreError::new(ErrorKind::Unavailable, format!("TLS to the database: {error}")),
            // The source of this one can quote the connection string.
            sqlx::Error::Configuration(_) => StoreError::new(ErrorKind::Unavailable, "the database URL cannot be read"),
            sqlx::Error::Encode(_) => StoreError::new(ErrorKind::Refused, "a value cannot be sent to the database"),
            sqlx::Error::ColumnNotFound(column) | sqlx::Error::ColumnDecode { index: column, .. } => {
                StoreError::new(ErrorKind::Unavailable, format!("column {column} is not of the expected shape"))
            }
            _ => StoreError::new(ErrorKind::Unavailable, "the database gave an unexpected answer"),
        }
    }
}

/// A connection that cannot be made is not one that was lost: nothing has been sent.
pub(crate) fn unreachable_server(error: sqlx::Error) -> StoreError {
    let error = StoreError::from(error);
    match error.kind() {
        ErrorKind::ConnectionLost => StoreError::new(ErrorKind::Unavailable, error.to_string()),
        _ => error,
    }
}

fn from_database(error: &dyn sqlx::error::DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default().into_owned();
    let mut message = format!("SQLSTATE {code}");
    if let Some(name) = condition_name(&code) {
        message = format!("{message} {name}");
    }
    if message_is_safe(&code) {
        message = format!("{message}: {}", error.message());
    }
    if let Some(postgres) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        let names = [("table", postgres.table()), ("column", postgres.column()), ("constraint", postgres.constraint())];
        for (what, name) in names {
            if let Some(name) = name {
                message = format!("{message}, {what} {name}");
            }
        }
    }
    StoreError::new(kind_of(&code), message)
}

/// What a SQLSTATE means. See "PostgreSQL Error Codes" in Postgres's manual.
fn kind_of(code: &str) -> ErrorKind {
    match code {
        "55P03" | "40P01" | "40001" | "57014" => ErrorKind::Contended,
        // The server ended the connection, or it (or a pooler) forgot or outgrew a prepared statement: a fresh one helps.
        "57P01" | "57P02" | "26000" | "0A000" => ErrorKind::ConnectionLost,
        _ => match code.get(..2) {
            Some("22" | "23" | "54") => ErrorKind::Refused,
            Some("08") => ErrorKind::ConnectionLost,
            _ => ErrorKind::Unavailable,
        },
    }
}

/// Classes whose messages name roles, tables and files, never data: connection, transaction state, authentication,
/// resources, syntax and rights, operator intervention, system.
fn message_is_safe(code: &str) -> bool {
    matches!(code.get(..2), Some("08" | "25" | "28" | "3D" | "3F" | "42" | "53" | "57" | "58"))
}

fn condition_name(code: &str) -> Option<&'static str> {
    Some(match code {
        "22001" => "string_data_right_truncation",
        "22003" => "numeric_value_out_of_range",
        "22008" => "datetime_field_overflow",
        "22021" => "character_not_in_repertoire",
        "22P02" => "invalid_text_representation",
        "22P05" => "untranslatable_character",
        "23502" => "not_null_violation",
        "23503" => "foreign_key_violation",
        "23505" => "unique_violation",
        "23514" => "check_violation",
        "40001" => "serialization_failure",
        "40P01" => "deadlock_detected",
        "54000" => "program_limit_exceeded",
        "54001" => "statement_too_complex",
        "55P03" => "lock_not_available",
        "57014" => "query_canceled",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlstate_says_whether_a_retry_helps() {
        for code in ["55P03", "40P01", "40001", "57014"] {
            assert_eq!(kind_of(code), ErrorKind::Contended, "{code}");
        }
        for code in ["22P05", "23505", "54001"] {
            assert_eq!(kind_of(code), ErrorKind::Refused, "{code}");
        }
        for code in ["08006", "57P01"] {
            assert_eq!(kind_of(code), ErrorKind::ConnectionLost, "{code}");
        }
        for code in ["25006", "42501", "42703", "42P01", "53100", "57P03", "58030", "XX000", "P0001", ""] {
            assert_eq!(kind_of(code), ErrorKind::Unavailable, "{code}");
        }
    }

    #[test]
    fn a_connection_string_is_never_quoted() {
        let error = StoreError::from(sqlx::Error::Configuration("postgres://me:hunter2@host/db".into()));
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
