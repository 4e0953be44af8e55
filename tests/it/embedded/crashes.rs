//! kill -9 of every process in turn, and of all of them.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::holder::HolderCommand;
use super::{home, options, postmaster_pid, read_row, start, write_row};
use crate::support::until;
use billsync::embedded_postgres::EmbeddedPostgres;

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
