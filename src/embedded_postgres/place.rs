//! Where a cluster lies. Below `BILLSYNC_HOME`, unless we are root and the server's account cannot enter that: then below
//! the system's state folder, at a path that is the same for the same home.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::EmbeddedError;
use super::account::{ServerAccount, our_uid};

/// A socket's whole path may have 103 bytes on macOS and 107 on Linux.
const SOCKET_PATH_LIMIT: usize = 103;
/// The name that Postgres gives to its socket; the number is a name only, nothing listens on that port.
pub(super) const SOCKET_PORT: u16 = 5432;
const UNFINISHED: &str = "data.unfinished.";
/// A log that has grown beyond this is set aside at the next start.
const LOG_LIMIT_BYTES: u64 = 4 << 20;

/// The folder of one home's cluster, and the names in it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    root: PathBuf,
    cluster: PathBuf,
}

impl Place {
    /// The place of an existing cluster, else the one for a new cluster, and the account that runs it.
    pub(super) fn choose(home: &Path) -> Result<(Place, ServerAccount), EmbeddedError> {
        create_folder(home, 0o755)?;
        let home = home.canonicalize().map_err(EmbeddedError::io("find", home))?;
        let in_home = Place::below(home.clone());
        if in_home.data().exists() || our_uid() != 0 {
            return in_home.with_account();
        }
        let account = ServerAccount::for_new_cluster()?;
        let elsewhere = Place::elsewhere(&home);
        if let Some(existing) = elsewhere.iter().find(|it| it.data().exists() && is_safe(&it.root)) {
            return existing.clone().with_account();
        }
        if account.can_enter(&home) {
            return Ok((in_home, account));
        }
        let usable =
            |place: &&Place| create_folder(&place.root, 0o755).is_ok() && is_safe(&place.root) && account.can_enter(&place.root);
        let chosen = elsewhere.iter().find(usable).cloned();
        chosen.map(|place| (place, account)).ok_or(EmbeddedError::NotEnterable { path: home, uid: account.uid() })
    }

    /// The place of the cluster that this home has; nothing is made.
    pub(super) fn existing(home: &Path) -> Option<Place> {
        let home = home.canonicalize().ok()?;
        let in_home = Place::below(home.clone());
        std::iter::once(in_home).chain(Place::elsewhere(&home)).find(|place| place.data().exists())
    }

    /// Where the cluster of a home lies that the server's account cannot enter.
    fn elsewhere(home: &Path) -> Vec<Place> {
        let state_folders = [PathBuf::from("/var/lib/billsync"), std::env::temp_dir().join("billsync")];
        state_folders.iter().map(|it| Place::below(it.join(fingerprint(home)))).collect()
    }

    /// The place of the cluster in this folder.
    pub(super) fn of_cluster(cluster: PathBuf) -> Place {
        Place { root: cluster.parent().map_or_else(|| cluster.clone(), Path::to_owned), cluster }
    }

    fn below(root: PathBuf) -> Place {
        Place { cluster: root.join("postgres"), root }
    }

    fn with_account(self) -> Result<(Place, ServerAccount), EmbeddedError> {
        let (data, ours) = (self.data(), our_uid());
        if let Ok(metadata) = fs::metadata(&self.cluster)
            && ours != 0
            && metadata.uid() != ours
        {
            return Err(EmbeddedError::Foreign { path: self.cluster, owner: metadata.uid(), ours });
        }
        if !data.exists() {
            return ServerAccount::for_new_cluster().map(|account| (self, account));
        }
        let account = ServerAccount::of_existing(&data)?;
        if !account.can_enter(&data) {
            return Err(EmbeddedError::NotEnterable { path: data, uid: account.uid() });
        }
        Ok((self, account))
    }

    /// Makes the folder. As root it stays root's, so that the server's account can plant nothing in it.
    pub(super) fn prepare(&self, account: &ServerAccount) -> Result<(), EmbeddedError> {
        create_folder(&self.cluster, if account.drop_to.is_some() { 0o711 } else { 0o700 })?;
        let log = self.log();
        if fs::metadata(&log).is_ok_and(|it| it.len() > LOG_LIMIT_BYTES) {
            fs::rename(&log, log.with_extension("log.old")).map_err(EmbeddedError::io("set aside", &log))?;
        }
        Ok(())
    }

    pub(super) fn cluster_folder(&self) -> &Path {
        &self.cluster
    }

    /// Postgres' data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.cluster.join("data")
    }

    /// Where a new cluster grows until it is complete. Never the same twice: the `initdb` of a killed billsync may still
    /// be writing to the one before.
    pub(super) fn new_unfinished_data(&self) -> PathBuf {
        self.cluster.join(format!("{UNFINISHED}{}", short_random()))
    }

    /// Removes what interrupted starts have left, as far as it goes.
    pub(super) fn remove_unfinished_data(&self) {
        let entries = fs::read_dir(&self.cluster).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(UNFINISHED)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }

    pub(super) fn password(&self) -> PathBuf {
        self.cluster.join("password")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.cluster.join("server.log")
    }

    /// Held by the one process that is just starting the server.
    pub(super) fn starting_lock(&self) -> PathBuf {
        self.cluster.join("starting.lock")
    }

    /// Held shared by every process that uses the server.
    pub(super) fn users_lock(&self) -> PathBuf {
        self.cluster.join("users.lock")
    }

    /// Held by the guard for as long as it lives.
    pub(super) fn guard_lock(&self) -> PathBuf {
        self.cluster.join("guard.lock")
    }

    /// Where fetched server programs are unpacked.
    pub(super) fn fetched_binaries(&self) -> PathBuf {
        self.root.join("binaries")
    }

    /// A private folder that is short enough for a socket: in the cluster's own, else a new one below the temp folder,
    /// whose name is kept so that the next start finds it again.
    pub(super) fn socket_folder(&self, account: &ServerAccount) -> Result<PathBuf, EmbeddedError> {
        let own = self.cluster.join("socket");
        if fits_a_socket(&own) {
            return make_private(&own, account).map(|()| own);
        }
        let note = self.cluster.join("socket-folder");
        let noted = fs::read_to_string(&note).map(PathBuf::from);
        if let Ok(noted) = noted
            && fits_a_socket(&noted)
            && is_private(&noted, account)
        {
            return Ok(noted);
        }
        let parents = [std::env::temp_dir(), PathBuf::from("/tmp")];
        for parent in &parents {
            let folder = parent.join(format!("billsync-{}", short_random()));
            if fits_a_socket(&folder) && make_private(&folder, account).is_ok() && account.can_enter(&folder) {
                fs::write(&note, folder.as_os_str().as_bytes()).map_err(EmbeddedError::io("write", &note))?;
                return Ok(folder);
            }
        }
        Err(EmbeddedError::NoSocketFolder { tried: parents.iter().map(|it| it.display().to_string()).collect() })
    }

    /// The log, to append to.
    pub(super) fn open_log(&self) -> Result<File, EmbeddedError> {
        let path = self.log();
        OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(EmbeddedError::io("open", &path))
    }

    /// The log's last lines.
    pub(super) fn log_tail(&self) -> String {
        let text = fs::read(self.log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
    }
}

/// Opens a lock file; it belongs to the server's account, so that root and that account can take turns.
pub(super) fn open_lock(path: &Path, account: &ServerAccount) -> Result<File, EmbeddedError> {
    let missing = !path.exists();
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
    let file = options.open(path).map_err(EmbeddedError::io("open", path))?;
    if missing {
        account.own(path)?;
    }
    Ok(file)
}

/// Creates a folder and its parents; one that is there keeps its mode.
pub(super) fn create_folder(path: &Path, mode: u32) -> Result<(), EmbeddedError> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(EmbeddedError::io("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(EmbeddedError::io("set the mode of", path))
}

fn make_private(folder: &Path, account: &ServerAccount) -> Result<(), EmbeddedError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => account.own(folder)?,
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(EmbeddedError::io("create", folder)(error));
        }
        Err(_) => {}
    }
    match is_private(folder, account) {
        true => Ok(()),
        false => Err(EmbeddedError::NoSocketFolder { tried: vec![folder.display().to_string()] }),
    }
}

/// A folder (no link) of that account that nobody else can enter.
fn is_private(folder: &Path, account: &ServerAccount) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|it| it.is_dir() && it.uid() == account.uid() && it.mode() & 0o077 == 0)
}

/// A folder (no link) of ours into which nobody else can write, nor into its parent.
fn is_safe(folder: &Path) -> bool {
    let ours =
        |path: &Path| fs::symlink_metadata(path).is_ok_and(|it| it.is_dir() && it.uid() == our_uid() && it.mode() & 0o022 == 0);
    ours(folder) && folder.parent().is_some_and(ours)
}

fn fits_a_socket(folder: &Path) -> bool {
    folder.as_os_str().len() + format!("/.s.PGSQL.{SOCKET_PORT}").len() <= SOCKET_PATH_LIMIT
}

fn fingerprint(home: &Path) -> String {
    hex::encode(Sha256::digest(home.as_os_str().as_bytes())).chars().take(16).collect()
}

fn short_random() -> String {
    Uuid::new_v4().simple().to_string().chars().take(12).collect()
}
