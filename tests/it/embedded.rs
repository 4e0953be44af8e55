//! The embedded Postgres as an operator meets it: first start, sharing, crashes, accounts.

mod accounts;
mod crashes;
mod holder;
mod sharing;

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use billsync::embedded_postgres::{EmbeddedError, EmbeddedPostgres, Options};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::sync::OnceCell;

fn options(home: &Path) -> Options {
    Options { guard_program: Some(env!("CARGO_BIN_EXE_billsync").into()), ..Options::new(home) }
}

async fn start(home: &Path) -> EmbeddedPostgres {
    EmbeddedPostgres::start(&options(home)).await.unwrap()
}

/// A home with a cluster that has ended well, copied from one that is made once: most tests are not about a first start,
/// which costs a second.
async fn home() -> TempDir {
    static MADE: OnceCell<()> = OnceCell::const_new();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (made, lock) = (folder.join("home"), File::create(folder.join("home.lock")).unwrap());
    // Nobody may copy it while its server runs, neither here nor in another test process.
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap().unwrap();
    MADE.get_or_init(async || {
        let made = match EmbeddedPostgres::start(&options(&made)).await {
            Ok(postgres) => postgres,
            // The machine may have got another major version since.
            Err(_unusable) => {
                std::fs::remove_dir_all(&made).unwrap();
                start(&made).await
            }
        };
        made.stop().await.unwrap();
    })
    .await;
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    // As root, below a folder that the server's account cannot enter, the cluster is elsewhere, and every home gets its own.
    if made.join("postgres/data").exists() {
        let copied = Command::new("cp").arg("-a").arg(made.join("postgres")).arg(home.path()).status().unwrap();
        assert!(copied.success());
    }
    drop(lock);
    home
}

/// Writes a row that a crash must not lose.
async fn write_row(url: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql("create table kept (n int); insert into kept values (42)").execute(&mut connection).await.unwrap();
}

async fn read_row(url: &str) -> i32 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("select n from kept").fetch_one(&mut connection).await.unwrap()
}

async fn setting(url: &str, name: &str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("select current_setting($1)").bind(name).fetch_one(&mut connection).await.unwrap()
}

fn postmaster_pid(cluster: &Path) -> Option<i32> {
    std::fs::read_to_string(cluster.join("data/postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()
}

#[tokio::test]
async fn a_cluster_keeps_its_rows_from_one_start_to_the_next() {
    let home = tempfile::tempdir().unwrap();
    let first = start(home.path()).await;
    write_row(first.url()).await;
    let url = first.url().to_owned();
    first.stop().await.unwrap();
    assert!(PgConnection::connect(&url).await.is_err(), "the server should have ended with its only user");

    let second = start(home.path()).await;
    assert_eq!(second.url(), url, "the password and the socket stay the same");
    assert_eq!(read_row(second.url()).await, 42);
    second.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_is_private_durable_and_large_enough() {
    let home = home().await;
    let postgres = start(home.path()).await;
    for (name, expected) in [
        ("listen_addresses", ""),
        ("unix_socket_permissions", "0700"),
        ("max_connections", "200"),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("server_encoding", "UTF8"),
        ("TimeZone", "UTC"),
    ] {
        assert_eq!(setting(postgres.url(), name).await, expected, "{name}");
    }
    let (before, after) = postgres.url().split_once('@').unwrap();
    let without_password = format!("postgres://billsync:wrong@{after}");
    assert!(before.len() > "postgres://billsync:".len() + 60, "a long password");
    let refused = PgConnection::connect(&without_password).await.unwrap_err();
    assert!(refused.to_string().contains("password authentication failed"), "{refused}");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_home_with_a_long_path_has_its_socket_elsewhere_and_finds_it_again() {
    let home = tempfile::tempdir().unwrap();
    let long = home.path().join("a folder whose name is long ".repeat(4));
    let first = start(&long).await;
    write_row(first.url()).await;
    let url = first.url().to_owned();
    assert!(!url.contains("long"), "{url}");
    first.stop().await.unwrap();
    let second = start(&long).await;
    assert_eq!(second.url(), url);
    assert_eq!(read_row(second.url()).await, 42);
    second.stop().await.unwrap();
    let socket_folder = std::fs::read_to_string(long.join("postgres/socket-folder")).unwrap();
    std::fs::remove_dir_all(socket_folder).unwrap();
}

#[tokio::test]
async fn a_cluster_of_another_major_version_is_refused_naming_both() {
    let home = home().await;
    let postgres = start(home.path()).await;
    let version = std::fs::read_to_string(postgres.folder().join("data/PG_VERSION")).unwrap();
    postgres.stop().await.unwrap();
    let programs = tempfile::tempdir().unwrap();
    std::fs::set_permissions(programs.path(), Permissions::from_mode(0o755)).unwrap();
    for program in ["initdb", "postgres"] {
        let path = programs.path().join(program);
        std::fs::write(&path, "#!/bin/sh\necho 'postgres (PostgreSQL) 99.1'\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    let options = Options { binaries: Some(programs.path().to_owned()), ..options(home.path()) };
    let error = EmbeddedPostgres::start(&options).await.unwrap_err();
    let expected: u32 = version.trim().parse().unwrap();
    assert!(matches!(error, EmbeddedError::OtherMajor { cluster, .. } if cluster == expected), "{error}");
    assert!(error.to_string().contains("PostgreSQL 99 in"), "{error}");
}

#[tokio::test]
async fn a_folder_without_a_server_is_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let nothing = tempfile::tempdir().unwrap();
    let options = Options { binaries: Some(nothing.path().to_owned()), ..options(home.path()) };
    let error = EmbeddedPostgres::start(&options).await.unwrap_err();
    assert!(error.to_string().contains(&nothing.path().display().to_string()), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_start_shows_its_own_reason() {
    let home = home().await;
    let postgres = start(home.path()).await;
    let settings = postgres.folder().join("data/postgresql.conf");
    postgres.stop().await.unwrap();
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{text}\nno_such_setting = 1\n")).unwrap();
    let error = EmbeddedPostgres::start(&options(home.path())).await.unwrap_err();
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}
