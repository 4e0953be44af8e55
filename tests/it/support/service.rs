//! The real binary as a process of its own, killed by its process id when the test ends, however it ends.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};

use rustix::process::{Pid, Signal, kill_process};

use super::until;
use super::wait::DEADLINE;
use crate::http::client::{CLERK_SECRET, STRIPE_SECRET, get};

/// A running `billsync serve`.
#[derive(Debug)]
pub struct Service {
    child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Service {
    /// Starts `billsync serve` on a free port with these settings and waits until it is ready.
    pub async fn start(settings: &[(&str, &str)]) -> Service {
        let mut command = billsync(settings);
        let mut child = command.args(["serve", "--listen", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (listening, addresses) = mpsc::channel();
        let (lines, stderr) = (Arc::clone(&log), BufReader::new(child.stderr.take().unwrap()));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(address) = listening_address(&line) {
                    let _ = listening.send(address);
                }
                lines.lock().unwrap().push(line);
            }
        });
        let service = match tokio::task::spawn_blocking(move || addresses.recv_timeout(DEADLINE)).await.unwrap() {
            Ok(address) => Service { child, address, log },
            Err(_nothing) => {
                let _ = child.kill();
                panic!("billsync did not start:\n{}", log.lock().unwrap().join("\n"));
            }
        };
        until("billsync is ready", async || get(service.address, "/readyz").await.status == 200).await;
        service
    }

    /// The guard of its embedded Postgres, its only child.
    pub fn guard_pid(&self) -> i32 {
        child_of(self.child.id())
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Like kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; true when it ended well.
    pub async fn ended(&mut self) -> bool {
        until("billsync has ended", async || self.child.try_wait().unwrap().is_some()).await;
        self.child.wait().unwrap().success()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary with these settings and none of ours.
pub fn billsync(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_billsync"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("BILLSYNC_LOG_FORMAT", "json");
    command.env("STRIPE_WEBHOOK_SECRETS", STRIPE_SECRET).env("CLERK_WEBHOOK_SECRETS", CLERK_SECRET);
    command.envs(settings.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn listening_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http://")?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The only child process of a process.
pub fn child_of(parent: u32) -> i32 {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).unwrap().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<i32> = children.collect::<String>().split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(children.len(), 1, "{children:?}");
    children[0]
}
