//! A cluster's files: making a new one, its password, and what `postmaster.pid` tells about its server.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Pid;
use uuid::Uuid;

use super::EmbeddedError;
use super::account::ServerAccount;
use super::binaries::Binaries;
use super::place::{Place, SOCKET_PORT};

/// The superuser of the cluster and the database in it.
const NAME: &str = "billsync";

/// What a server writes about itself, see "postmaster.pid" in its documentation's Database File Layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Postmaster {
    pub(super) pid: i32,
    socket_folder: PathBuf,
    status: String,
}

/// How a server that once wrote its `postmaster.pid` is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Liveness {
    Ready,
    /// Starting or ending.
    Changing,
    /// Ended without removing its file, perhaps long ago: the process id may be anybody's.
    Dead,
}

impl Postmaster {
    /// What stands in the file; `None` without one.
    pub(super) fn read(data: &Path) -> Option<Postmaster> {
        Postmaster::parse(&fs::read_to_string(data.join("postmaster.pid")).ok()?)
    }

    fn parse(text: &str) -> Option<Postmaster> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        let socket_folder = PathBuf::from(lines.nth(3).unwrap_or_default());
        let status = lines.nth(2).unwrap_or_default().trim().to_owned();
        Some(Postmaster { pid, socket_folder, status })
    }

    /// Whether this is the ready server with that process id.
    pub(super) fn is_ready(&self, pid: i32) -> bool {
        self.pid == pid && self.status == "ready"
    }

    pub(super) fn liveness(&self, data: &Path) -> Liveness {
        let socket = self.socket_folder.join(format!(".s.PGSQL.{SOCKET_PORT}"));
        let answers = is_running(self.pid) && UnixStream::connect(socket).is_ok();
        match (answers, self.status.as_str()) {
            (true, "ready") => Liveness::Ready,
            (true, _) => Liveness::Changing,
            (false, _) if is_running(self.pid) && command_line(self.pid).contains(&*data.to_string_lossy()) => Liveness::Changing,
            (false, _) => Liveness::Dead,
        }
    }

    /// The connection string. The host in the query is the socket's folder; the one before it is a placeholder.
    pub(super) fn url(&self, password: &str) -> String {
        let folder: String = self.socket_folder.as_os_str().as_bytes().iter().map(percent_encoded).collect();
        format!("postgres://{NAME}:{password}@localhost:{SOCKET_PORT}/{NAME}?host={folder}")
    }
}

fn percent_encoded(byte: &u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => char::from(*byte).to_string(),
        other => format!("%{other:02X}"),
    }
}

/// Whether a process with this id exists, ours or not.
pub(super) fn is_running(pid: i32) -> bool {
    let found = process_id(pid).map(rustix::process::test_kill_process);
    found.is_some_and(|result| result.is_ok() || result == Err(rustix::io::Errno::PERM))
}

/// The process that a file names; a number that names a group, or everybody, is none.
pub(super) fn process_id(pid: i32) -> Option<Pid> {
    if pid > 0 { Pid::from_raw(pid) } else { None }
}

fn command_line(pid: i32) -> String {
    if let Ok(bytes) = fs::read(format!("/proc/{pid}/cmdline")) {
        return String::from_utf8_lossy(&bytes).into_owned();
    }
    let output = Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).output();
    output.map(|it| String::from_utf8_lossy(&it.stdout).into_owned()).unwrap_or_default()
}

/// Removes the file of a server that is [`Liveness::Dead`], and tells whether there was one: Postgres itself would refuse
/// to start when its process id has meanwhile gone to another process of the same account, which in a container is the rule.
pub(super) fn forget_stale_postmaster(place: &Place) -> Result<bool, EmbeddedError> {
    let path = place.data().join("postmaster.pid");
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(EmbeddedError::io("remove", &path)(error)),
    }
}

/// The major version that made the cluster; `None` when there is none yet.
pub(super) fn major_version(data: &Path) -> Result<Option<u32>, EmbeddedError> {
    if !data.exists() {
        return Ok(None);
    }
    let path = data.join("PG_VERSION");
    let text = fs::read_to_string(&path).map_err(EmbeddedError::io("read", &path))?;
    let major = text.trim().split('.').next().and_then(|major| major.parse().ok());
    major.map(Some).ok_or_else(|| EmbeddedError::Init(format!("{} holds no version", path.display())))
}

/// Makes a new cluster beside its final place and moves it there when it is complete, so that an interruption leaves
/// nothing that looks like one.
pub(super) fn initialise(place: &Place, account: &ServerAccount, binaries: &Binaries) -> Result<(), EmbeddedError> {
    place.remove_unfinished_data();
    write_new_password(place, account)?;
    let made = run_initdb(place, account, binaries, "C.UTF-8");
    let unfinished = made.or_else(|_| run_initdb(place, account, binaries, "C"))?;
    create_database(&unfinished, account, binaries)?;
    let data = place.data();
    fs::rename(&unfinished, &data).map_err(EmbeddedError::io("finish", &data))
}

fn run_initdb(place: &Place, account: &ServerAccount, binaries: &Binaries, locale: &str) -> Result<PathBuf, EmbeddedError> {
    let unfinished = place.new_unfinished_data();
    fs::DirBuilder::new().mode(0o700).create(&unfinished).map_err(EmbeddedError::io("create", &unfinished))?;
    account.own(&unfinished)?;
    let mut command = account.command(&binaries.initdb());
    command.arg("-D").arg(&unfinished).args(["-U", NAME, "-E", "UTF8", "--locale", locale, "--auth=scram-sha-256"]);
    command.arg("--pwfile").arg(place.password()).current_dir(&unfinished);
    let output = command.output().map_err(EmbeddedError::io("run", &binaries.initdb()))?;
    if output.status.success() {
        return Ok(unfinished);
    }
    Err(EmbeddedError::Init(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// In single-user mode, which needs neither a socket nor a connection.
fn create_database(data: &Path, account: &ServerAccount, binaries: &Binaries) -> Result<(), EmbeddedError> {
    let mut command = account.command(&binaries.postgres());
    command.args(["--single", "-j", "-D"]).arg(data).arg("postgres").current_dir(data);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(EmbeddedError::io("run", &binaries.postgres()))?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(format!("create database {NAME};\n\n").as_bytes());
    }
    let output = child.wait_with_output().map_err(EmbeddedError::io("run", &binaries.postgres()))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    // Single-user mode ends with success even when the statement failed.
    match output.status.success() && !stderr.contains("ERROR:") && !stderr.contains("FATAL:") {
        true => Ok(()),
        false => Err(EmbeddedError::Init(stderr.trim().to_owned())),
    }
}

fn write_new_password(place: &Place, account: &ServerAccount) -> Result<(), EmbeddedError> {
    let path = place.password();
    if path.exists() {
        fs::remove_file(&path).map_err(EmbeddedError::io("replace", &path))?;
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.map_err(EmbeddedError::io("create", &path))?;
    let password = format!("{}{}\n", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    file.write_all(password.as_bytes()).and_then(|()| file.sync_all()).map_err(EmbeddedError::io("write", &path))?;
    account.own(&path)
}

/// The password of the cluster's superuser.
pub(super) fn read_password(place: &Place) -> Result<String, EmbeddedError> {
    let path = place.password();
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        _ => Err(EmbeddedError::NoPassword { path }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "4711\n/x/data\n1700000000\n5432\n/x/so cket\n\n  12345    0\nready   \n";

    #[test]
    fn a_postmaster_file_is_read_line_by_line() {
        let postmaster = Postmaster::parse(FILE).unwrap();
        assert_eq!(postmaster.socket_folder, Path::new("/x/so cket"));
        assert!(postmaster.is_ready(4711) && !postmaster.is_ready(4712));
        assert_eq!(postmaster.url("pw"), "postgres://billsync:pw@localhost:5432/billsync?host=/x/so%20cket");
    }

    #[test]
    fn a_half_written_postmaster_file_is_not_ready() {
        assert_eq!(Postmaster::parse(""), None);
        assert_eq!(Postmaster::parse("abc\n"), None);
        for end in 1..FILE.len() - 5 {
            let parsed = Postmaster::parse(&FILE[..end]);
            assert!(parsed.is_none_or(|it| !it.is_ready(4711)), "{:?}", &FILE[..end]);
        }
    }

    #[test]
    fn a_file_whose_process_is_somebody_else_is_dead() {
        let ours = std::process::id() as i32;
        let postmaster = Postmaster { pid: ours, socket_folder: "/nonexistent".into(), status: "ready".into() };
        assert_eq!(postmaster.liveness(Path::new("/nonexistent/data")), Liveness::Dead);
        assert!(is_running(ours) && !is_running(0) && !is_running(-1));
    }
}
