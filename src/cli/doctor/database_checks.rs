//! The server: whether it can be reached, what it is, how it is reached, and how much room it has.

use chrono::{DateTime, Utc};

use crate::cli::database::{Database, Schema};
use crate::cli::doctor::finding::Findings;
use crate::cli::failure::causes_once;
use crate::clock::Clock;
use crate::config::{Config, DatabaseUrl, Pooler};
use crate::embedded_postgres::{EmbeddedPostgres, guard};
use crate::store::{ErrorKind, ServerDescription, Store, StoreError};

/// Leases and runs of scheduled work go by the database's clock, everything else by ours.
const SKEW_SECONDS: i64 = 5;
/// What one process takes at most.
const CONNECTIONS_OF_A_PROCESS: i64 = 10;
/// Below it parallel queries of a server on this machine run out of shared memory.
const SMALL_SHARED_MEMORY_BYTES: u64 = 256 << 20;
/// The port that Supabase's pooler has for its transaction mode.
const TRANSACTION_POOLER_PORT: &str = ":6543";
/// What the driver asks for when it connects. A pooler between us drops it.
const ASKED_IDLE_TIMEOUT: &str = "1min";

/// What to set behind a pooler.
const POOLER_FIX: &str =
    "export BILLSYNC_POOLER=transaction BILLSYNC_MIGRATION_DATABASE_URL=postgres://…   # the latter: a direct connection";

/// Connects, if there is something to connect to. Nothing is made: an embedded database that was never used stays unmade.
pub async fn open(config: &Config, findings: &mut Findings) -> Option<Database> {
    if config.pooler == Pooler::None && names_pooler_port(config) {
        let what = "poolers in transaction mode listen on port 6543, but BILLSYNC_POOLER does not say so";
        findings.error("database", what, POOLER_FIX);
    }
    if config.database_url.is_none() && config.is_given("DATABASE_URL") {
        findings.error(
            "database",
            "DATABASE_URL cannot be read, so the database was not looked at",
            "export DATABASE_URL=postgres://user:password@host:5432/database   # percent-encode @ : / # ? in the password",
        );
        return None;
    }
    if config.database_url.is_none() && !EmbeddedPostgres::exists(&config.home) {
        findings.warn(
            "database",
            format!("DATABASE_URL is not set: serve would make an embedded PostgreSQL below {}", config.home.display()),
            "export DATABASE_URL=postgres://user:password@host:5432/database",
        );
        return None;
    }
    match Database::open(config, Schema::Ignore).await {
        Ok(database) => {
            findings.ok("database", format!("reached {}", database.description));
            Some(database)
        }
        Err(error) => {
            let told = causes_once(&error);
            let fix = connection_fix(&told);
            findings.error("database", told, fix);
            None
        }
    }
}

fn connection_fix(told: &str) -> String {
    let is = |parts: &[&str]| parts.iter().any(|part| told.contains(part));
    if is(&["28P01", "28000"]) {
        "alter role … password '…';   -- then the same, percent-encoded, in DATABASE_URL".to_owned()
    } else if is(&["3D000"]) {
        "create database …;   -- or correct the name after the host in DATABASE_URL".to_owned()
    } else if is(&["53300"]) {
        "alter role … connection limit -1;   -- or end other clients, or raise max_connections, or use a pooler".to_owned()
    } else if is(&["startup parameter", "transaction mode"]) {
        POOLER_FIX.to_owned()
    } else if is(&["too old"]) {
        "pg_upgrade   # to PostgreSQL 15 or newer".to_owned()
    } else if is(&["invalid peer certificate"]) {
        "add &sslrootcert=FILE to DATABASE_URL, the certificate of the authority that vouches for the server, and name the server as it does"
            .to_owned()
    } else if is(&["TLS", "no pg_hba.conf entry"]) {
        "add ?sslmode=require to DATABASE_URL, or allow this machine in the server's pg_hba.conf".to_owned()
    } else if is(&["embedded database"]) {
        "export DATABASE_URL=postgres://user:password@host:5432/database   # or mend what the message names".to_owned()
    } else {
        "pg_isready -d \"$DATABASE_URL\"   # does the server run, are host and port right, does a firewall let us through?"
            .to_owned()
    }
}

/// Version, clocks, durability, pooler, connections, shared memory.
pub async fn check(config: &Config, store: &Store, findings: &mut Findings) {
    let asked_at = Clock::System.now();
    let described = store.describe_server().await;
    let answered_at = Clock::System.now();
    match described {
        Ok(server) => {
            findings.ok("database", format!("PostgreSQL {}, database {}, role {}", server.version, server.database, server.role));
            check_clock(&server, asked_at, answered_at, findings);
            check_durability(&server, findings);
            check_connections(&server, findings);
            check_pooler(config, store, &server, findings).await;
        }
        Err(error) => cannot_tell("database", "what the server is", &error, findings),
    }
    check_shared_memory(config, findings);
}

/// What could not be looked at is a finding: a warning if it may be otherwise in a minute.
pub fn cannot_tell(area: &'static str, what: &str, error: &StoreError, findings: &mut Findings) {
    let told = format!("could not look at {what}: {error}");
    match error.kind() {
        ErrorKind::Contended => findings.warn(area, told, "billsync doctor   # again, when the database is less busy"),
        _ => findings.error(area, told, "mend what the message names, then: billsync doctor"),
    }
}

fn check_clock(server: &ServerDescription, asked_at: DateTime<Utc>, answered_at: DateTime<Utc>, findings: &mut Findings) {
    let skew = (server.clock - (asked_at + (answered_at - asked_at) / 2)).num_seconds();
    if skew.abs() > SKEW_SECONDS {
        findings.warn(
            "database",
            format!("its clock is {} s {} this machine's", skew.abs(), if skew > 0 { "ahead of" } else { "behind" }),
            "timedatectl set-ntp true   # on the machine that is wrong",
        );
    } else {
        findings.ok("database", format!("its clock agrees with this machine's within {SKEW_SECONDS} s"));
    }
}

fn check_durability(server: &ServerDescription, findings: &mut Findings) {
    let database = &server.database;
    if server.read_only {
        findings.error(
            "database",
            "it is read-only: no event can be kept",
            format!("alter database {database} reset default_transaction_read_only;   -- or connect to the primary"),
        );
    }
    if server.encoding != "UTF8" {
        findings.error(
            "database",
            format!("its encoding is {}: not every event can be kept", server.encoding),
            "create database billsync encoding 'UTF8' template template0;   -- and restore a dump into it",
        );
    }
    if server.synchronous_commit == "off" {
        findings.warn(
            "database",
            "synchronous_commit is off: a crash can lose events that were answered with 200",
            format!("alter role {} set synchronous_commit = on;", server.role),
        );
    }
}

fn check_connections(server: &ServerDescription, findings: &mut Findings) {
    let limits = [
        (
            i64::from(server.server_limit),
            server.server_connections,
            "the server",
            "alter system set max_connections = 200;   -- and restart".to_owned(),
        ),
        (
            i64::from(server.role_limit),
            server.role_connections,
            "the role",
            format!("alter role {} connection limit -1;", server.role),
        ),
        (
            i64::from(server.database_limit),
            server.database_connections,
            "the database",
            format!("alter database {} connection limit -1;", server.database),
        ),
    ];
    for (limit, used, whose, fix) in limits.into_iter().filter(|(limit, ..)| *limit >= 0) {
        let told = format!("{used} of the {limit} connections that {whose} allows are in use");
        if limit - used < CONNECTIONS_OF_A_PROCESS {
            findings.warn("database", format!("{told}; a process of billsync takes up to {CONNECTIONS_OF_A_PROCESS}"), fix);
        } else {
            findings.ok("database", told);
        }
    }
}

fn names_pooler_port(config: &Config) -> bool {
    config.database_url.as_ref().map(DatabaseUrl::to_string).is_some_and(|url| url.contains(TRANSACTION_POOLER_PORT))
}

async fn check_pooler(config: &Config, store: &Store, server: &ServerDescription, findings: &mut Findings) {
    match config.pooler {
        // Told before it was connected to.
        Pooler::None if names_pooler_port(config) => {}
        Pooler::None if server.idle_timeout != ASKED_IDLE_TIMEOUT => findings.warn(
            "database",
            "the session lacks settings that were asked for when it was opened: is there a pooler in between?",
            POOLER_FIX,
        ),
        Pooler::None => findings.ok("database", "reached directly, or by a pooler that keeps sessions"),
        Pooler::Transaction => {
            findings.ok("database", "BILLSYNC_POOLER=transaction: no named statement, nothing kept in sessions");
            check_migration_url(config, store, findings).await;
        }
    }
}

async fn check_migration_url(config: &Config, store: &Store, findings: &mut Findings) {
    let fix = "export BILLSYNC_MIGRATION_DATABASE_URL=postgres://…   # a direct connection to the same database";
    if config.migration_database_url.is_none() {
        findings.warn("database", "BILLSYNC_MIGRATION_DATABASE_URL is not set: migrations cannot go through the pooler", fix);
        return;
    }
    match store.migrations_reach_same_database().await {
        Ok(true) => findings.ok("database", "BILLSYNC_MIGRATION_DATABASE_URL reaches the same database"),
        Ok(false) => {
            findings.error("database", "BILLSYNC_MIGRATION_DATABASE_URL reaches another database than DATABASE_URL", fix)
        }
        Err(error) => findings.error("database", format!("BILLSYNC_MIGRATION_DATABASE_URL cannot be used: {error}"), fix),
    }
}

/// Of a server elsewhere nothing can be told.
fn check_shared_memory(config: &Config, findings: &mut Findings) {
    if config.database_url.as_ref().is_some_and(|url| !url.is_local()) {
        return;
    }
    let Some(bytes) = guard::shared_memory_bytes() else { return };
    let size = format!("/dev/shm has {} MB", bytes >> 20);
    if bytes >= SMALL_SHARED_MEMORY_BYTES {
        findings.ok("database", size);
    } else if config.database_url.is_none() {
        findings.ok("database", format!("{size}: the embedded server keeps shared memory in files instead"));
    } else {
        findings.warn(
            "database",
            format!("{size}: a server in this container runs out of shared memory in parallel queries"),
            "docker run --shm-size=256m …   # or, in the server's configuration: dynamic_shared_memory_type = mmap",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::connection_fix;

    #[test]
    fn a_certificate_of_a_private_authority_is_not_taken_for_a_server_that_is_down() {
        let told = "connection: invalid peer certificate: UnknownIssuer";
        assert!(connection_fix(told).contains("sslrootcert"));
        assert!(connection_fix("connection: Connection refused (os error 111)").contains("pg_isready"));
    }
}
