//! A private Postgres for those who have none: found, initialised, started, shared and ended by billsync itself.
//! Local only: a Unix socket in a folder of ours, never a TCP port. What it does not do: upgrade a cluster to another
//! major version, replicate, back up.
//!
//! Every process that uses a cluster holds a shared lock on one file; the [`guard`] that runs the server ends it once
//! nobody holds that lock any more, however its holders ended. So a second billsync with the same home shares the server.

use std::fs::{File, TryLockError};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use thiserror::Error;

use account::ServerAccount;
use cluster::{Liveness, Postmaster};
use place::Place;

mod account;
mod binaries;
mod cluster;
pub mod guard;
mod place;
mod wheel;

/// How long to wait for another process that is just starting or stopping the same cluster.
const OTHERS_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// Between two looks at whether the server is still there.
const LOSS_POLL: Duration = Duration::from_secs(1);

/// What a start needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// `BILLSYNC_HOME`: the cluster lies below it, unless the server's account cannot enter it.
    pub home: PathBuf,
    /// The folder of the server's programs, when the operator says so; else they are looked for.
    pub binaries: Option<PathBuf>,
    /// The program whose hidden command is the guard; billsync itself unless a test says otherwise.
    pub guard_program: Option<PathBuf>,
}

impl Options {
    /// The cluster of this home, everything else found by itself.
    pub fn new(home: impl Into<PathBuf>) -> Options {
        Options { home: home.into(), binaries: None, guard_program: None }
    }
}

/// Why there is no embedded server. Every message says what an operator can do.
#[derive(Debug, Error)]
pub enum EmbeddedError {
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{}", binaries::nothing_found(tried))]
    NoBinaries { tried: Vec<String> },
    #[error("no usable PostgreSQL programs in {}: {reason}", folder.display())]
    BadBinaries { folder: PathBuf, reason: String },
    #[error(
        "the cluster in {} was made by PostgreSQL {cluster} and only that major version can open it; found: {found}. \
         Install PostgreSQL {cluster}, or dump and restore it into another BILLSYNC_HOME",
        data.display()
    )]
    OtherMajor { data: PathBuf, cluster: u32, found: String },
    #[error("PostgreSQL refuses to run as root, and neither `postgres` nor `nobody` has an entry in /etc/passwd")]
    NoAccount,
    #[error("the account that owns {} (uid {uid}) cannot enter it; move the folder, or set another BILLSYNC_HOME", path.display())]
    NotEnterable { path: PathBuf, uid: u32 },
    #[error("{} belongs to uid {owner}, we run as uid {ours}; run as that account, or set another BILLSYNC_HOME", path.display())]
    Foreign { path: PathBuf, owner: u32, ours: u32 },
    #[error("no private folder for the server's socket could be made below {}", tried.join(", "))]
    NoSocketFolder { tried: Vec<String> },
    #[error("the cluster in {} is being started or stopped by another process for too long; its log: {}", folder.display(), log.display())]
    Busy { folder: PathBuf, log: PathBuf },
    #[error("the cluster in {} is in use by a server that cannot be reached from here (another container?)", folder.display())]
    Unreachable { folder: PathBuf },
    #[error("the password of the cluster is gone: {} (restore it, or move the folder `postgres` beside it away)", path.display())]
    NoPassword { path: PathBuf },
    #[error("cannot make a new cluster: {0}")]
    Init(String),
    #[error("the embedded PostgreSQL did not start; the end of {}:\n{tail}", log.display())]
    Start { log: PathBuf, tail: String },
    #[error("the embedded PostgreSQL ended and could not be started again; the end of {}:\n{tail}", log.display())]
    Lost { log: PathBuf, tail: String },
    #[error("postgres-guard is started by billsync itself: {0}")]
    GuardUsage(&'static str),
    #[error("interrupted: {0}")]
    Interrupted(String),
}

impl EmbeddedError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EmbeddedError {
        let path = path.to_owned();
        move |source| EmbeddedError::Io { action, path, source }
    }
}

/// A running private server that this process uses. Dropping it releases the server in the background.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    url: String,
    place: Place,
    /// Held shared for as long as we use the server.
    users: File,
    /// Ours, when this process started it.
    guard: Option<StartedGuard>,
}

#[derive(Debug)]
struct StartedGuard {
    child: Child,
    /// Its end of file tells the guard that its starter has gone.
    stdin: Option<ChildStdin>,
}

impl EmbeddedPostgres {
    /// Makes the cluster if there is none, starts its server or joins the one that runs, and waits until it accepts connections.
    pub async fn start(options: &Options) -> Result<EmbeddedPostgres, EmbeddedError> {
        let options = options.clone();
        in_background(move || start(&options)).await?
    }

    /// Whether that home has a cluster already. Nothing is made.
    pub fn exists(home: &Path) -> bool {
        Place::existing(home).is_some()
    }

    /// The connection string; it holds the password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder of the cluster, its log and its password.
    pub fn folder(&self) -> &Path {
        self.place.cluster_folder()
    }

    /// Returns once the server has ended for good: the guard, which starts it again, has given up or is gone too. Never
    /// otherwise.
    pub async fn lost(&self) -> EmbeddedError {
        loop {
            tokio::time::sleep(LOSS_POLL).await;
            let place = self.place.clone();
            let lost = in_background(move || is_lost(&place)).await;
            if !matches!(lost, Ok(Ok(false))) {
                return EmbeddedError::Lost { log: self.place.log(), tail: self.place.log_tail() };
            }
        }
    }

    /// Stops using the server, and returns once it has ended; at once when other processes still use it.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        in_background(move || stop(self)).await?
    }
}

async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, EmbeddedError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| EmbeddedError::Interrupted(error.to_string()))
}

fn start(options: &Options) -> Result<EmbeddedPostgres, EmbeddedError> {
    let (place, account) = Place::choose(&options.home)?;
    place.prepare(&account)?;
    let _starting = wait_for_lock(&place, &place.starting_lock(), &account, File::try_lock)?;
    let users = wait_for_lock(&place, &place.users_lock(), &account, File::try_lock_shared)?;

    let guard = match find_running(&place, &account)? {
        Some(_) if guard_is_alive(&place, &account)? => {
            tracing::info!(folder = %place.cluster_folder().display(), "sharing the embedded PostgreSQL that runs already");
            None
        }
        Some(_) => {
            tracing::info!(folder = %place.cluster_folder().display(), "adopting the embedded PostgreSQL that runs without a guard");
            Some(start_guard(options, &place, &guard::Order::adopt(&place))?)
        }
        None => Some(start_server(options, &place, &account)?),
    };
    let postmaster = Postmaster::read(&place.data()).ok_or_else(|| start_error(&place))?;
    let url = postmaster.url(&cluster::read_password(&place)?);
    Ok(EmbeddedPostgres { url, place, users, guard })
}

/// Neither a guard nor a server is there. A server without its guard goes on serving.
fn is_lost(place: &Place) -> Result<bool, EmbeddedError> {
    if guard_is_alive(place, &ServerAccount::ours())? {
        return Ok(false);
    }
    let postmaster = Postmaster::read(&place.data());
    Ok(postmaster.is_none_or(|it| it.liveness(&place.data()) == Liveness::Dead))
}

/// The server of this cluster, if one runs. Waits for one that is just starting or ending.
fn find_running(place: &Place, account: &ServerAccount) -> Result<Option<Postmaster>, EmbeddedError> {
    let deadline = Instant::now() + OTHERS_DEADLINE;
    loop {
        let guarded = guard_is_alive(place, account)?;
        let postmaster = Postmaster::read(&place.data());
        match postmaster.as_ref().map_or(Liveness::Dead, |it| it.liveness(&place.data())) {
            Liveness::Ready => return Ok(postmaster),
            Liveness::Dead if !guarded => return Ok(None),
            Liveness::Dead | Liveness::Changing if Instant::now() < deadline => std::thread::sleep(POLL),
            Liveness::Dead => return Err(EmbeddedError::Unreachable { folder: place.cluster_folder().to_owned() }),
            Liveness::Changing => return Err(busy(place)),
        }
    }
}

fn start_server(options: &Options, place: &Place, account: &ServerAccount) -> Result<StartedGuard, EmbeddedError> {
    let wanted = cluster::major_version(&place.data())?;
    let binaries = binaries::find(options.binaries.as_deref(), wanted, place, account)?;
    if wanted.is_none() {
        tracing::info!(folder = %place.cluster_folder().display(), major = binaries.major, "making a new PostgreSQL cluster");
        cluster::initialise(place, account, &binaries)?;
    }
    let socket_folder = place.socket_folder(account)?;
    tracing::info!(folder = %place.cluster_folder().display(), major = binaries.major, "starting the embedded PostgreSQL");
    start_guard(options, place, &guard::Order::start(place, &binaries, &socket_folder, account))
}

/// Starts the guard in a process group of its own, so that Ctrl-C in a terminal reaches us and not the server.
fn start_guard(options: &Options, place: &Place, order: &guard::Order) -> Result<StartedGuard, EmbeddedError> {
    use std::os::unix::process::CommandExt;
    let program = match &options.guard_program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(EmbeddedError::io("find", Path::new("our own program")))?,
    };
    let mut command = Command::new(&program);
    command.arg(guard::COMMAND).args(order.to_args()).current_dir("/");
    account::keep_harmless_environment(&mut command);
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(place.open_log()?);
    let mut child = command.spawn().map_err(EmbeddedError::io("run", &program))?;
    let stdin = child.stdin.take();
    let ready = child.stdout.take().is_some_and(|stdout| {
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        lines.any(|line| {
            if line == guard::WAITING {
                tracing::info!("the embedded PostgreSQL is still starting (it recovers after a crash)");
            }
            line == guard::READY
        })
    });
    if !ready {
        drop(stdin);
        let _ = child.wait();
        return Err(start_error(place));
    }
    Ok(StartedGuard { child, stdin })
}

fn stop(embedded: EmbeddedPostgres) -> Result<(), EmbeddedError> {
    let EmbeddedPostgres { place, users, guard, .. } = embedded;
    if users.try_lock().is_err() {
        tracing::info!("leaving the embedded PostgreSQL running: another process uses it");
        return Ok(());
    }
    // The guard waits for this lock before it ends the server.
    drop(users);
    if let Some(StartedGuard { mut child, stdin }) = guard {
        drop(stdin);
        child.wait().map_err(EmbeddedError::io("wait for", Path::new("the guard")))?;
    }
    let deadline = Instant::now() + OTHERS_DEADLINE;
    while guard_is_alive(&place, &ServerAccount::ours())? && Instant::now() < deadline {
        std::thread::sleep(POLL);
    }
    // A guard that was killed leaves the server to us, unless somebody has come to use it meanwhile.
    let users = place::open_lock(&place.users_lock(), &ServerAccount::ours())?;
    if users.try_lock().is_ok() { guard::stop_unguarded(&place) } else { Ok(()) }
}

/// Whether a guard watches the cluster: it holds its lock for as long as it lives.
fn guard_is_alive(place: &Place, account: &ServerAccount) -> Result<bool, EmbeddedError> {
    let path = place.guard_lock();
    match place::open_lock(&path, account)?.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(EmbeddedError::io("lock", &path)(error)),
    }
}

fn wait_for_lock(
    place: &Place,
    path: &Path,
    account: &ServerAccount,
    attempt: fn(&File) -> Result<(), TryLockError>,
) -> Result<File, EmbeddedError> {
    let file = place::open_lock(path, account)?;
    let deadline = Instant::now() + OTHERS_DEADLINE;
    loop {
        match attempt(&file) {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(EmbeddedError::io("lock", path)(error)),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(POLL),
            Err(TryLockError::WouldBlock) => return Err(busy(place)),
        }
    }
}

fn busy(place: &Place) -> EmbeddedError {
    EmbeddedError::Busy { folder: place.cluster_folder().to_owned(), log: place.log() }
}

fn start_error(place: &Place) -> EmbeddedError {
    EmbeddedError::Start { log: place.log(), tail: place.log_tail() }
}
