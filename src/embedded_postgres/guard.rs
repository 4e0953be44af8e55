//! The process that runs the server and ends it once nobody uses it any more: the hidden command `postgres-guard`. It
//! holds nothing but the server, so that a panic or a kill -9 of billsync leaves no server behind.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::account::ServerAccount;
use super::binaries::Binaries;
use super::cluster::{Liveness, Postmaster, forget_stale_postmaster, is_running, process_id};
use super::place::{self, Place};
use super::{EmbeddedError, start_error};

/// The hidden command's name.
pub const COMMAND: &str = "postgres-guard";
/// What the guard tells its starter, a line each.
pub(super) const READY: &str = "ready";
pub(super) const WAITING: &str = "waiting";

const POLL: Duration = Duration::from_millis(10);
/// Between two lines of [`WAITING`].
const PATIENCE: Duration = Duration::from_secs(5);
/// After a crash, the dead server's children may hold its memory for a moment, and a new server refuses to start.
const RESTART_DEADLINE: Duration = Duration::from_secs(10);
/// What the server says then; on a busy machine it can say so for longer.
const HELD_MEMORY: &str = "pre-existing shared memory block";
const HELD_MEMORY_DEADLINE: Duration = Duration::from_secs(40);
const INT_INTERVAL: Duration = Duration::from_millis(200);
const QUIT_AFTER: Duration = Duration::from_secs(10);
const KILL_AFTER: Duration = Duration::from_secs(20);
/// POSIX' default; below it Postgres' parallel queries run out of shared memory.
const SMALL_SHARED_MEMORY_BYTES: u64 = 256 << 20;

/// What the guard is told to do, as it stands on its command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    cluster: PathBuf,
    /// `None`: adopt the server that runs.
    start: Option<ServerStart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ServerStart {
    postgres: PathBuf,
    socket_folder: PathBuf,
    account: ServerAccount,
}

impl Order {
    pub(super) fn adopt(place: &Place) -> Order {
        Order { cluster: place.cluster_folder().to_owned(), start: None }
    }

    pub(super) fn start(place: &Place, binaries: &Binaries, socket_folder: &Path, account: &ServerAccount) -> Order {
        let start = ServerStart { postgres: binaries.postgres(), socket_folder: socket_folder.to_owned(), account: *account };
        Order { cluster: place.cluster_folder().to_owned(), start: Some(start) }
    }

    pub(super) fn to_args(&self) -> Vec<OsString> {
        let mut args = vec![self.cluster.clone().into()];
        if let Some(start) = &self.start {
            args.extend([start.postgres.clone().into(), start.socket_folder.clone().into()]);
            args.extend(start.account.drop_to.into_iter().flat_map(|(uid, gid)| [uid, gid]).map(|id| id.to_string().into()));
        }
        args
    }

    fn from_args(args: &[OsString]) -> Option<Order> {
        let id = |text: &OsString| text.to_str()?.parse::<u32>().ok();
        let (cluster, rest) = args.split_first()?;
        let (postgres, socket_folder, drop_to) = match rest {
            [] => return Some(Order { cluster: cluster.into(), start: None }),
            [postgres, socket_folder] => (postgres, socket_folder, None),
            [postgres, socket_folder, uid, gid] => (postgres, socket_folder, Some((id(uid)?, id(gid)?))),
            _ => return None,
        };
        let account = ServerAccount { drop_to };
        let start = ServerStart { postgres: postgres.into(), socket_folder: socket_folder.into(), account };
        Some(Order { cluster: cluster.into(), start: Some(start) })
    }
}

/// Runs the server until its last user has gone. Started by [`super::EmbeddedPostgres::start`] with a pipe as stdin.
pub fn run(args: &[OsString]) -> Result<(), EmbeddedError> {
    let order = Order::from_args(args).ok_or(EmbeddedError::GuardUsage("it takes no arguments by hand"))?;
    let place = Place::of_cluster(order.cluster.clone());
    runtime(&place)?.block_on(guard(&order, &place))
}

fn runtime(place: &Place) -> Result<tokio::runtime::Runtime, EmbeddedError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(EmbeddedError::io("guard the server in", place.cluster_folder()))
}

async fn guard(order: &Order, place: &Place) -> Result<(), EmbeddedError> {
    ignore_signals()?;
    let lock = place::open_lock(&place.guard_lock(), &ServerAccount::ours())?;
    hold(&lock).await?;
    let mut users_gone = watch_users(place)?;
    let mut server = match &order.start {
        Some(start) => Server::start(place, start).await?,
        None => Server::adopt(place)?,
    };
    tell_starter(READY);
    let mut restarts = Restarts::default();
    loop {
        let started = Instant::now();
        tokio::select! {
            () = server.ended() => {}
            users = &mut users_gone => {
                server.stop().await;
                drop(users);
                return Ok(());
            }
        }
        // How an adopted server was started is not known: its users start it anew when they notice.
        let Some(start) = &order.start else { return Err(start_error(place)) };
        let delay = restarts.next(started.elapsed()).ok_or_else(|| start_error(place))?;
        note_restart(&restarts);
        tokio::time::sleep(delay).await;
        server = Server::start(place, start).await?;
    }
}

/// A server that somebody killed is started again; one that ends again and again is given up.
#[derive(Debug, Default)]
struct Restarts {
    in_a_row: u32,
}

impl Restarts {
    const MOST: u32 = 5;
    const FIRST_DELAY: Duration = Duration::from_millis(100);
    /// A server that ran for so long had recovered from whatever ended the one before.
    const STEADY_AFTER: Duration = Duration::from_secs(60);

    /// How long to wait before the next start: 100 ms, 200 ms, … 1.6 s; `None` after the last.
    fn next(&mut self, ran_for: Duration) -> Option<Duration> {
        if ran_for >= Restarts::STEADY_AFTER {
            self.in_a_row = 0;
        }
        if self.in_a_row >= Restarts::MOST {
            return None;
        }
        self.in_a_row += 1;
        Some(Restarts::FIRST_DELAY * 2_u32.pow(self.in_a_row - 1))
    }
}

/// In the cluster's log, between what the two servers say.
fn note_restart(restarts: &Restarts) {
    let (number, most) = (restarts.in_a_row, Restarts::MOST);
    let _ = writeln!(io::stderr().lock(), "billsync: the server ended by itself; starting it again ({number} of {most})");
}

/// Ends a server whose guard was killed, if it runs. The caller is its last user.
pub(super) fn stop_unguarded(place: &Place) -> Result<(), EmbeddedError> {
    let running = |it: &Postmaster| it.liveness(&place.data()) != Liveness::Dead;
    if Postmaster::read(&place.data()).is_none_or(|it| !running(&it)) {
        return Ok(());
    }
    let mut server = Server::adopt(place)?;
    runtime(place)?.block_on(server.stop());
    Ok(())
}

/// A service manager signals every process of the service at once; our end follows billsync's, when it needs us no more.
fn ignore_signals() -> Result<(), EmbeddedError> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        // The handler outlives the stream of signals that it would feed.
        drop(signal(kind).map_err(EmbeddedError::io("ignore signals in", Path::new("the guard")))?);
    }
    Ok(())
}

/// Retried, because others try the lock for an instant to see whether a guard lives.
async fn hold(lock: &File) -> Result<(), EmbeddedError> {
    let deadline = Instant::now() + PATIENCE;
    while lock.try_lock().is_err() {
        if Instant::now() > deadline {
            return Err(EmbeddedError::GuardUsage("the cluster has a guard already"));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Resolves, with the users' lock held, once our starter has gone and every other user has, too.
fn watch_users(place: &Place) -> Result<oneshot::Receiver<Option<File>>, EmbeddedError> {
    let users = place::open_lock(&place.users_lock(), &ServerAccount::ours())?;
    let (gone, users_gone) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock().by_ref(), &mut io::sink());
        let locked = users.lock().is_ok();
        let _ = gone.send(locked.then_some(users));
    });
    Ok(users_gone)
}

fn tell_starter(line: &str) {
    // Nobody may be listening any more, which is no reason to stop.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// The server, our child or adopted.
#[derive(Debug)]
struct Server {
    data: PathBuf,
    pid: i32,
    child: Option<Child>,
}

impl Server {
    async fn start(place: &Place, order: &ServerStart) -> Result<Server, EmbeddedError> {
        let patience = if forget_stale_postmaster(place)? { RESTART_DEADLINE } else { Duration::ZERO };
        let begun = Instant::now();
        loop {
            match Server::try_start(place, order).await? {
                Some(server) => return Ok(server),
                None if begun.elapsed() < patience => tokio::time::sleep(INT_INTERVAL).await,
                None if begun.elapsed() < HELD_MEMORY_DEADLINE && place.log_tail().contains(HELD_MEMORY) => {
                    tokio::time::sleep(INT_INTERVAL).await;
                }
                None => return Err(start_error(place)),
            }
        }
    }

    /// `None` when the server ended before it was ready.
    async fn try_start(place: &Place, order: &ServerStart) -> Result<Option<Server>, EmbeddedError> {
        let data = place.data();
        let mut command = order.account.command(&order.postgres);
        command.arg("-D").arg(&data).arg("-k").arg(&order.socket_folder).current_dir(&data);
        command.args(server_settings().iter().flat_map(|setting| ["-c", setting.as_str()]));
        let log = place.open_log()?;
        let log_too = log.try_clone().map_err(EmbeddedError::io("open", &place.log()))?;
        let child = command.stdout(Stdio::from(log_too)).stderr(Stdio::from(log)).spawn();
        let child = child.map_err(EmbeddedError::io("run", &order.postgres))?;
        let pid = i32::try_from(child.id()).unwrap_or_default();
        let mut server = Server { data, pid, child: Some(child) };
        let mut said = Instant::now();
        while !Postmaster::read(&server.data).is_some_and(|it| it.is_ready(pid)) {
            if !server.is_alive() {
                return Ok(None);
            }
            if said.elapsed() > PATIENCE {
                said = Instant::now();
                tell_starter(WAITING);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(Some(server))
    }

    fn adopt(place: &Place) -> Result<Server, EmbeddedError> {
        let data = place.data();
        let postmaster = Postmaster::read(&data).ok_or(EmbeddedError::GuardUsage("no server to adopt"))?;
        Ok(Server { data, pid: postmaster.pid, child: None })
    }

    fn is_alive(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            // One that has ended without a parent to reap it still has a process id, but has removed its file.
            None => is_running(self.pid) && Postmaster::read(&self.data).is_some_and(|it| it.pid == self.pid),
        }
    }

    async fn ended(&mut self) {
        while self.is_alive() {
            tokio::time::sleep(INT_INTERVAL).await;
        }
    }

    /// INT disconnects everybody and writes a checkpoint. It is repeated, because one that comes too early is lost.
    async fn stop(&mut self) {
        let begun = Instant::now();
        while self.is_alive() && begun.elapsed() < KILL_AFTER + QUIT_AFTER {
            let strongest = match begun.elapsed() {
                waited if waited < QUIT_AFTER => Signal::INT,
                waited if waited < KILL_AFTER => Signal::QUIT,
                _ => Signal::KILL,
            };
            if let Some(pid) = process_id(self.pid) {
                let _ = rustix::process::kill_process(pid, strongest);
            }
            let next = Instant::now() + INT_INTERVAL;
            while self.is_alive() && Instant::now() < next {
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

/// On the command line and not in the cluster's files, so that every cluster follows the version of billsync that runs it.
fn server_settings() -> Vec<String> {
    let mut settings = vec![
        "listen_addresses=".to_owned(),
        format!("port={}", place::SOCKET_PORT),
        "unix_socket_permissions=0700".to_owned(),
        "max_connections=200".to_owned(),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
        // The log must not hold what a payload says: neither statements nor the rows in an error's detail.
        "log_min_error_statement=panic".to_owned(),
        "log_error_verbosity=terse".to_owned(),
        "log_checkpoints=off".to_owned(),
        "logging_collector=off".to_owned(),
    ];
    if shared_memory_bytes().is_some_and(|bytes| bytes < SMALL_SHARED_MEMORY_BYTES) {
        settings.push("dynamic_shared_memory_type=mmap".to_owned());
    }
    settings
}

/// How large `/dev/shm` is, where the machine has one.
pub fn shared_memory_bytes() -> Option<u64> {
    let size = rustix::fs::statvfs("/dev/shm").map(|it| it.f_blocks.saturating_mul(it.f_frsize));
    if cfg!(target_os = "linux") { size.ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_keeps_ending_is_given_up_and_one_that_ran_long_is_not() {
        let mut restarts = Restarts::default();
        let delays: Vec<u128> = std::iter::from_fn(|| restarts.next(Duration::ZERO)).map(|delay| delay.as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600]);
        assert_eq!(restarts.next(Restarts::STEADY_AFTER), Some(Restarts::FIRST_DELAY));
    }

    #[test]
    fn an_order_survives_the_command_line() {
        let start = |drop_to| {
            let account = ServerAccount { drop_to };
            Some(ServerStart { postgres: "/p/postgres".into(), socket_folder: "/s s".into(), account })
        };
        for start in [None, start(None), start(Some((101, u32::MAX)))] {
            let order = Order { cluster: "/c".into(), start };
            assert_eq!(Order::from_args(&order.to_args()), Some(order));
        }
        for wrong in [vec![], vec!["c", "p"], vec!["c", "p", "s", "1"], vec!["c", "p", "s", "x", "1"]] {
            assert_eq!(Order::from_args(&wrong.into_iter().map(OsString::from).collect::<Vec<_>>()), None);
        }
    }
}
