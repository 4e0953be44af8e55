//! Several processes, or several users in one process, with one home.

use super::holder::HolderCommand;
use super::{home, postmaster_pid, read_row, start, write_row};
use crate::support::until;

#[tokio::test]
async fn the_last_user_ends_the_server_whoever_started_it() {
    let home = home().await;
    let first = start(home.path()).await;
    write_row(first.url()).await;
    let cluster = first.folder().to_owned();
    let second = HolderCommand::new(home.path()).start();
    assert_eq!(second.url, first.url());
    let server = postmaster_pid(&cluster);

    first.stop().await.unwrap();
    assert_eq!(read_row(&second.url).await, 42);
    assert_eq!(postmaster_pid(&cluster), server, "still the same server");
    second.stop();
    assert_eq!(postmaster_pid(&cluster), None, "its last user waits for its end");
}

#[tokio::test]
async fn a_server_goes_on_when_the_process_that_started_it_is_killed() {
    let home = home().await;
    let starter = HolderCommand::new(home.path()).start();
    let second = start(home.path()).await;
    write_row(second.url()).await;
    starter.kill();
    assert_eq!(read_row(second.url()).await, 42);
    let cluster = second.folder().to_owned();
    second.stop().await.unwrap();
    assert_eq!(postmaster_pid(&cluster), None);
}

#[tokio::test]
async fn a_dropped_server_ends_in_the_background() {
    let home = home().await;
    let postgres = start(home.path()).await;
    let cluster = postgres.folder().to_owned();
    drop(postgres);
    until("the server has ended", async || postmaster_pid(&cluster).is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_first_starts_at_once_make_one_cluster() {
    let home = tempfile::tempdir().unwrap();
    let children: Vec<_> = (0..3).map(|_| HolderCommand::new(home.path())).collect();
    let children: Vec<_> = children.into_iter().map(|it| std::thread::spawn(|| it.start())).collect();
    let ours = start(home.path()).await;
    write_row(ours.url()).await;
    for child in children {
        let child = child.join().unwrap();
        assert_eq!(child.url, ours.url());
        assert_eq!(read_row(&child.url).await, 42);
        child.stop();
    }
    ours.stop().await.unwrap();
}

#[tokio::test]
async fn starting_and_stopping_in_turns_never_meets_a_server_that_is_ending() {
    let home = home().await;
    start(home.path()).await.stop().await.unwrap();
    let turns = (0..3).map(|_| {
        let home = home.path().to_owned();
        tokio::spawn(async move {
            for _ in 0..8 {
                let postgres = start(&home).await;
                super::setting(postgres.url(), "fsync").await;
                postgres.stop().await.unwrap();
            }
        })
    });
    for turn in turns.collect::<Vec<_>>() {
        turn.await.unwrap();
    }
}
