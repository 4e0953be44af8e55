//! One cluster for the run, a database for every test, cloned from a migrated template.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use billsync::embedded_postgres::{EmbeddedPostgres, Options};
use billsync::store::{Store, StoreSettings};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;

use super::server::now;

/// A variable with the folder of the server's programs, for a run of the tests on another version than the machine's.
const POSTGRES_BIN: &str = "TEST_POSTGRES_BIN";

/// A database of one test; dropped with it, also when the test fails.
#[derive(Debug)]
pub struct TestDatabase {
    pub url: String,
    pub name: String,
}

/// A database of its own, migrated.
pub async fn database() -> TestDatabase {
    let cluster = cluster().await;
    TestDatabase::create(cluster, &cluster.template).await
}

/// A database of its own without any table of ours.
pub async fn empty_database() -> TestDatabase {
    TestDatabase::create(cluster().await, "template0").await
}

/// A copy of a database, from which everybody is about to disconnect.
pub async fn copy_of(database: &TestDatabase) -> TestDatabase {
    TestDatabase::create(cluster().await, &database.name).await
}

#[derive(Debug)]
struct Cluster {
    /// Ended by its guard when this process ends, in whatever way.
    postgres: EmbeddedPostgres,
    template: String,
}

async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER.get_or_init(Cluster::start).await
}

impl Cluster {
    /// The cluster stays for the next run, which then starts faster; what a killed run has left in it is removed here.
    async fn start() -> Cluster {
        let binaries = std::env::var_os(POSTGRES_BIN).map(PathBuf::from);
        let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(cluster_name(binaries.as_deref()));
        let guard_program = Some(env!("CARGO_BIN_EXE_billsync").into());
        let options = Options { guard_program, binaries, ..Options::new(home) };
        let postgres = EmbeddedPostgres::start(&options).await.unwrap();
        let mut admin = PgConnection::connect(postgres.url()).await.unwrap();
        // Other test processes may be preparing the same template.
        execute(&mut admin, "select pg_advisory_lock(1)").await;
        let template = prepare_template(&mut admin, postgres.url()).await;
        remove_leftovers(&mut admin, &template).await;
        admin.close().await.unwrap();
        Cluster { postgres, template }
    }
}

/// A cluster is of one major version, which alone can open it.
fn cluster_name(binaries: Option<&Path>) -> String {
    let Some(binaries) = binaries else { return "postgres".to_owned() };
    let output = Command::new(binaries.join("postgres")).arg("--version").output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap();
    let (_, number) = version.trim().split_once("(PostgreSQL) ").unwrap();
    format!("postgres-{}", number.split('.').next().unwrap())
}

impl TestDatabase {
    async fn create(cluster: &Cluster, template: &str) -> TestDatabase {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut admin = PgConnection::connect(cluster.postgres.url()).await.unwrap();
        execute(&mut admin, &format!("create database {name} template {template}")).await;
        admin.close().await.unwrap();
        TestDatabase { url: url_of(cluster.postgres.url(), &name), name }
    }

    /// A connection of the test's own, as the superuser.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// One value, asked as the superuser.
    pub async fn ask<T>(&self, sql: &str) -> T
    where
        (T,): for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>,
        T: Send + Unpin,
    {
        let mut connection = self.connect().await;
        let row: (T,) = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
        row.0
    }

    /// What the ledger says about an event.
    pub async fn ledger(&self, event_id: &str) -> Option<String> {
        self.ask(&format!("select max(outcome) from billsync.webhook_events where event_id = '{event_id}'")).await
    }

    /// The same database for another role.
    pub fn url_for(&self, role: &str, password: &str) -> String {
        let (_, rest) = self.url.split_once('@').unwrap();
        format!("postgres://{role}:{password}@{rest}")
    }

    /// Runs statements as the superuser.
    pub async fn execute(&self, sql: &str) {
        execute(&mut self.connect().await, sql).await;
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (admin_url, statement) =
            (url_of(&self.url, "billsync"), format!("drop database if exists {} with (force)", self.name));
        // A thread, because the test's runtime cannot be waited for from here.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                if let Ok(mut admin) = PgConnection::connect(&admin_url).await {
                    let _ = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await;
                }
            });
        });
        let _ = dropping.join();
    }
}

/// The same server, another database.
fn url_of(url: &str, database: &str) -> String {
    let (before, query) = url.split_once('?').unwrap();
    let (server, _) = before.rsplit_once('/').unwrap();
    format!("{server}/{database}?{query}")
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

async fn remove_leftovers(admin: &mut PgConnection, current: &str) {
    let databases: Vec<String> =
        sqlx::query_scalar("select datname::text from pg_database where datname like 'test\\_%' or datname like 'template\\_%'")
            .fetch_all(&mut *admin)
            .await
            .unwrap();
    for database in databases {
        // A template of other migrations, or a database whose test process has ended.
        let process = database.split('_').nth(1).unwrap_or_default();
        if database != current && !PathBuf::from(format!("/proc/{process}")).exists() {
            execute(admin, &format!("drop database if exists {database} with (force)")).await;
        }
    }
}

/// The migrated template, named by its migrations, so that a change to them makes a new one. Nobody stays connected to it:
/// Postgres would refuse to clone it.
async fn prepare_template(admin: &mut PgConnection, server_url: &str) -> String {
    let template = format!("template_{}", fingerprint_of_migrations());
    let exists = sqlx::query_scalar::<_, bool>("select exists (select from pg_database where datname = $1)").bind(&template);
    if !exists.fetch_one(&mut *admin).await.unwrap() {
        let unfinished = format!("unfinished_{template}");
        execute(admin, &format!("drop database if exists {unfinished} with (force)")).await;
        execute(admin, &format!("create database {unfinished} template template0")).await;
        let store = Store::connect(&StoreSettings::new(url_of(server_url, &unfinished))).await.unwrap();
        store.migrate(now()).await.unwrap();
        store.close().await;
        execute(admin, &format!("alter database {unfinished} rename to {template}")).await;
    }
    template
}

fn fingerprint_of_migrations() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut digest = Sha256::new();
    for file in &files {
        digest.update(file.file_name().unwrap().as_encoded_bytes());
        digest.update(std::fs::read(file).unwrap());
    }
    hex::encode(digest.finalize()).chars().take(16).collect()
}

#[tokio::test]
async fn every_test_has_a_database_of_its_own_that_ends_with_it() {
    let (one, other) = (database().await, empty_database().await);
    one.execute("create table mine (n int)").await;
    other.execute("create table mine (n int)").await;
    let (admin, name) = (url_of(&one.url, "billsync"), one.name.clone());
    drop(one);
    let mut admin = PgConnection::connect(&admin).await.unwrap();
    let found = sqlx::query_scalar::<_, i64>("select count(*) from pg_database where datname = $1").bind(name);
    assert_eq!(found.fetch_one(&mut admin).await.unwrap(), 0);
    assert!(other.connect().await.ping().await.is_ok());
}
