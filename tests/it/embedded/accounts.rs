//! Root and everybody else. Postgres refuses to run as root, so root has to hand the server to another account. These
//! tests need to be root themselves; for another account they hold by the others being green.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use super::holder::HolderCommand;
use super::{home, options, postmaster_pid, read_row, start, write_row};
use billsync::embedded_postgres::{EmbeddedError, EmbeddedPostgres};

const NOBODY: u32 = 65534;

fn we_are_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn root_hands_the_server_to_an_account_that_cannot_write_beside_its_data() {
    if !we_are_root() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    set_mode(home.path(), 0o755);
    let postgres = start(home.path()).await;
    let cluster = postgres.folder();
    assert_eq!(cluster, home.path().canonicalize().unwrap().join("postgres"));
    let server = std::fs::metadata(format!("/proc/{}", postmaster_pid(cluster).unwrap())).unwrap();
    assert_ne!(server.uid(), 0);
    assert_eq!(std::fs::metadata(cluster.join("data")).unwrap().uid(), server.uid());
    let folder = std::fs::metadata(cluster).unwrap();
    assert_eq!((folder.uid(), folder.mode() & 0o777), (0, 0o711));
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_home_that_the_account_cannot_enter_has_its_cluster_in_the_state_folder_and_finds_it_again() {
    if !we_are_root() {
        return;
    }
    let closed = tempfile::tempdir().unwrap();
    set_mode(closed.path(), 0o700);
    let home = closed.path().join("checkout/.billsync");
    let first = start(&home).await;
    write_row(first.url()).await;
    let cluster = first.folder().to_owned();
    assert!(!cluster.starts_with(closed.path()), "{}", cluster.display());
    first.stop().await.unwrap();
    let second = start(&home).await;
    assert_eq!(second.folder(), cluster);
    assert_eq!(read_row(second.url()).await, 42);
    second.stop().await.unwrap();
    std::fs::remove_dir_all(cluster.parent().unwrap()).unwrap();
}

#[tokio::test]
async fn an_unprivileged_account_runs_its_own_server_and_root_can_take_it_over() {
    if !we_are_root() {
        return;
    }
    let programs = tempfile::tempdir().unwrap();
    set_mode(programs.path(), 0o755);
    let (holder, guard) = (programs.path().join("holder"), programs.path().join("billsync"));
    std::fs::copy(std::env::current_exe().unwrap(), &holder).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_billsync"), &guard).unwrap();
    let home = tempfile::tempdir().unwrap();
    set_mode(home.path(), 0o755);
    chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();

    let theirs = HolderCommand::with_programs(&holder, &guard, home.path()).under_account(NOBODY, NOBODY).start();
    write_row(&theirs.url).await;
    let cluster = home.path().join("postgres");
    let server = std::fs::metadata(format!("/proc/{}", postmaster_pid(&cluster).unwrap())).unwrap();
    assert_eq!(server.uid(), NOBODY);
    let ours = start(home.path()).await;
    assert_eq!(read_row(ours.url()).await, 42);
    theirs.stop();
    ours.stop().await.unwrap();

    let ours = start(home.path()).await;
    assert_eq!(read_row(ours.url()).await, 42);
    ours.stop().await.unwrap();
    let again = HolderCommand::with_programs(&holder, &guard, home.path()).under_account(NOBODY, NOBODY).start();
    assert_eq!(read_row(&again.url).await, 42);
    again.stop();
}

#[tokio::test]
async fn a_cluster_of_root_is_refused_to_others_by_name() {
    if !we_are_root() {
        return;
    }
    let home = home().await;
    let postgres = start(home.path()).await;
    let data = postgres.folder().join("data");
    postgres.stop().await.unwrap();
    chown(&data, Some(0), Some(0)).unwrap();
    let error = EmbeddedPostgres::start(&options(home.path())).await.unwrap_err();
    assert!(matches!(&error, EmbeddedError::Foreign { owner: 0, .. }), "{error}");
}
