//! kill -9 of every process in turn, and of all of them.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::holder::HolderCommand;
use super::{home, options, postmaster_pid, read_row, start, write_row};
use crate::http::client::get;
use crate::support::service::Service;
use crate::support::until;
use billsync::embedded_postgres::EmbeddedPostgres;
use sqlx::{Connection, PgConnection};

fn kill_9(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

fn is_running(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_killed_billsync_takes_its_server_along() {
    let home = home().await;
    let holder = HolderCommand::new(home.path()).start();
    write_row(&holder.url).await;
    let (cluster, guard) = (home.path().join("postgres"), holder.guard_pid());
    holder.kill();
    until("the server has ended", async || postmaster_pid(&cluster).is_none()).await;
    until("the guard has ended", async || !is_running(guard)).await;
    let postgres = start(home.path()).await;
    assert_eq!(read_row(postgres.url()).await, 42);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn after_a_kill_of_everything_the_next_start_recovers() {
    let home = home().await;
    let holder = HolderCommand::new(home.path()).start();
    write_row(&holder.url).await;
    let cluster = home.path().join("postgres");
    let (guard, server) = (holder.guard_pid(), postmaster_pid(&cluster).unwrap());
    kill_9(guard);
    kill_9(server);
    holder.kill();
    until("the server is dead", async || !is_running(server)).await;
    assert_eq!(postmaster_pid(&cluster), Some(server), "it had no time to remove its file");
    let postgres = start(home.path()).await;
    assert_ne!(postmaster_pid(&cluster), Some(server));
    assert_eq!(read_row(postgres.url()).await, 42);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_lost_its_guard_is_adopted_and_ended() {
    let home = home().await;
    let holder = HolderCommand::new(home.path()).start();
    write_row(&holder.url).await;
    let cluster = home.path().join("postgres");
    let server = postmaster_pid(&cluster);
    kill_9(holder.guard_pid());
    holder.kill();

    let postgres = start(home.path()).await;
    assert_eq!(postmaster_pid(&cluster), server, "the same server, not a second one");
    assert_eq!(read_row(postgres.url()).await, 42);
    postgres.stop().await.unwrap();
    assert_eq!(postmaster_pid(&cluster), None);
}

#[tokio::test]
async fn a_billsync_that_lost_its_guard_ends_the_server_itself() {
    let home = home().await;
    let holder = HolderCommand::new(home.path()).start();
    let cluster = home.path().join("postgres");
    kill_9(holder.guard_pid());
    holder.stop();
    assert_eq!(postmaster_pid(&cluster), None);
}

#[tokio::test]
async fn a_first_start_that_was_interrupted_is_made_again() {
    let home = tempfile::tempdir().unwrap();
    let cluster = home.path().join("postgres");
    let mut interrupted = HolderCommand::new(home.path()).spawn();
    let unfinished = || {
        let entries = std::fs::read_dir(&cluster).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).any(|path| path.join("PG_VERSION").exists())
    };
    until("initdb is at work", async || unfinished()).await;
    interrupted.kill().unwrap();
    interrupted.wait().unwrap();
    assert!(!cluster.join("data").exists());

    let postgres = start(home.path()).await;
    write_row(postgres.url()).await;
    assert_eq!(read_row(postgres.url()).await, 42);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_stale_file_that_names_a_living_process_of_somebody_else_does_not_stop_the_start() {
    let home = home().await;
    let postgres = start(home.path()).await;
    let cluster = postgres.folder().to_owned();
    postgres.stop().await.unwrap();
    let file = cluster.join("data/postmaster.pid");
    let text = format!(
        "{}\n{}\n1700000000\n5432\n{}\n\n\nready   \n",
        std::process::id(),
        cluster.join("data").display(),
        cluster.display()
    );
    std::fs::write(&file, text).unwrap();
    let postgres = EmbeddedPostgres::start(&options(home.path())).await.unwrap();
    assert_ne!(postmaster_pid(&cluster), i32::try_from(std::process::id()).ok());
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_was_killed_is_started_again() {
    let home = home().await;
    let postgres = start(home.path()).await;
    write_row(postgres.url()).await;
    let (cluster, url) = (postgres.folder().to_owned(), postgres.url().to_owned());
    for _ in 0..2 {
        let server = postmaster_pid(&cluster).unwrap();
        kill_9(server);
        until("another server answers", async || {
            postmaster_pid(&cluster).is_some_and(|pid| pid != server) && PgConnection::connect(&url).await.is_ok()
        })
        .await;
        assert_eq!(read_row(&url).await, 42);
    }
    postgres.stop().await.unwrap();
    assert_eq!(postmaster_pid(&cluster), None);
}

#[tokio::test]
async fn a_server_that_cannot_be_started_again_is_told_to_its_user() {
    let home = home().await;
    let postgres = start(home.path()).await;
    let settings = postgres.folder().join("data/postgresql.conf");
    std::fs::write(&settings, "no_such_setting = 1\n").unwrap();
    kill_9(postmaster_pid(postgres.folder()).unwrap());
    let lost = postgres.lost().await.to_string();
    assert!(lost.contains("could not be started again") && lost.contains("no_such_setting"), "{lost}");
}

#[tokio::test]
async fn serve_goes_on_after_its_server_was_killed_and_ends_with_an_error_when_that_is_hopeless() {
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut service = Service::start(&[("BILLSYNC_HOME", home.path().to_str().unwrap())]).await;
    let cluster = home.path().join("postgres");
    let server = postmaster_pid(&cluster).unwrap();
    kill_9(server);
    until("another server runs", async || postmaster_pid(&cluster).is_some_and(|pid| pid != server)).await;
    until("it is ready again", async || get(service.address, "/readyz").await.status == 200).await;

    let guard = service.guard_pid();
    kill_9(guard);
    until("the guard has ended", async || !is_alive(guard)).await;
    assert_eq!(get(service.address, "/readyz").await.status, 200, "the server goes on without its guard");
    kill_9(postmaster_pid(&cluster).unwrap());
    assert!(!service.ended().await, "{}", service.log());
    until("the log tells why", async || service.log().contains("could not be started again")).await;
}

/// Neither gone nor waiting for a parent to notice its end.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
