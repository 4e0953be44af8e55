//! Another process that uses an embedded cluster, so that a test can kill it: this very test binary, started again with
//! one test that then holds the cluster instead.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use billsync::embedded_postgres::{EmbeddedPostgres, Options};
use sqlx::{Connection, PgConnection};

use super::{home, read_row, write_row};
use crate::support::service::child_of;

const HOME: &str = "TEST_HOLDER_HOME";
const GUARD: &str = "TEST_HOLDER_GUARD";

/// A child that holds a cluster, killed when dropped.
#[derive(Debug)]
pub struct Holder {
    child: Child,
    /// Kept open: the child still has a line to say when it ends.
    _stdout: BufReader<ChildStdout>,
    pub url: String,
}

/// How to start one.
#[derive(Debug)]
pub struct HolderCommand {
    command: Command,
}

impl HolderCommand {
    pub fn new(home: &Path) -> HolderCommand {
        let (program, guard) = (std::env::current_exe().unwrap(), Path::new(env!("CARGO_BIN_EXE_billsync")));
        HolderCommand::with_programs(&program, guard, home)
    }

    pub fn with_programs(program: &Path, guard: &Path, home: &Path) -> HolderCommand {
        let mut command = Command::new(program);
        command.args(["--exact", "embedded::holder::a_cluster_is_held_by_another_process", "--nocapture"]);
        command.env(HOME, home).env(GUARD, guard).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        HolderCommand { command }
    }

    pub fn under_account(mut self, uid: u32, gid: u32) -> HolderCommand {
        self.command.uid(uid).gid(gid);
        self
    }

    /// Starts it without waiting for its server.
    pub fn spawn(mut self) -> Child {
        self.command.spawn().unwrap()
    }

    /// Starts it and waits for its server.
    pub fn start(self) -> Holder {
        let mut child = self.spawn();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("postgres://") || !said.ends_with('\n') {
            if stdout.read_line(&mut said).unwrap() == 0 {
                let _ = child.wait();
                panic!("the holder did not start: {said}");
            }
        }
        let url = said[said.find("postgres://").unwrap()..].trim_end().to_owned();
        Holder { child, _stdout: stdout, url }
    }
}

impl Holder {
    /// Like kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop its server and waits for its end.
    pub fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }

    /// Its guard, a child process of it.
    pub fn guard_pid(&self) -> i32 {
        child_of(self.child.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a child process, what a [`Holder`] runs; else that one runs.
#[tokio::test]
async fn a_cluster_is_held_by_another_process() {
    if let Some(home) = std::env::var_os(HOME) {
        return hold(Path::new(&home)).await;
    }
    let home = home().await;
    let holder = HolderCommand::new(home.path()).start();
    write_row(&holder.url).await;
    assert_eq!(read_row(&holder.url).await, 42);
    let url = holder.url.clone();
    holder.stop();
    assert!(PgConnection::connect(&url).await.is_err(), "the server has ended with its only user");
}

/// Holds the cluster until nobody writes to our standard input any more.
async fn hold(home: &Path) {
    let options = Options { guard_program: std::env::var_os(GUARD).map(Into::into), ..Options::new(home) };
    match EmbeddedPostgres::start(&options).await {
        Ok(postgres) => {
            writeln!(std::io::stdout().lock(), "{}", postgres.url()).unwrap();
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
            postgres.stop().await.unwrap();
        }
        Err(error) => panic!("{error}"),
    }
}
