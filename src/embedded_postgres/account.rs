//! Whom the server runs as. Postgres refuses to run as root, so root drops to another account; everybody else runs it as
//! themselves.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::EmbeddedError;
use crate::config;

/// The account of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerAccount {
    /// User and group to change to; `None` when it is our own account.
    pub(super) drop_to: Option<(u32, u32)>,
}

impl ServerAccount {
    /// Our own.
    pub(super) fn ours() -> ServerAccount {
        ServerAccount { drop_to: None }
    }

    /// The account for a new cluster.
    pub(super) fn for_new_cluster() -> Result<ServerAccount, EmbeddedError> {
        if our_uid() != 0 {
            return Ok(ServerAccount::ours());
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = ["postgres", "nobody"].into_iter().find_map(|name| find_in_passwd(&passwd, name));
        found.map(|ids| ServerAccount { drop_to: Some(ids) }).ok_or(EmbeddedError::NoAccount)
    }

    /// The account that owns an existing cluster, which is the only one that may run it.
    pub(super) fn of_existing(data: &Path) -> Result<ServerAccount, EmbeddedError> {
        let metadata = std::fs::metadata(data).map_err(EmbeddedError::io("look at", data))?;
        let ours = our_uid();
        match metadata.uid() {
            0 if ours == 0 => Err(EmbeddedError::Foreign { path: data.to_owned(), owner: 0, ours }),
            owner if owner == ours => Ok(ServerAccount::ours()),
            owner if ours == 0 => Ok(ServerAccount { drop_to: Some((owner, metadata.gid())) }),
            owner => Err(EmbeddedError::Foreign { path: data.to_owned(), owner, ours }),
        }
    }

    /// Its user id.
    pub(super) fn uid(&self) -> u32 {
        self.drop_to.map_or_else(our_uid, |(uid, _)| uid)
    }

    /// A command that runs as this account and sees none of our secrets.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        keep_harmless_environment(&mut command);
        command.stdin(Stdio::null());
        if let Some((uid, gid)) = self.drop_to {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Gives it a file or folder.
    pub(super) fn own(&self, path: &Path) -> Result<(), EmbeddedError> {
        match self.drop_to {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)).map_err(EmbeddedError::io("give the server's account", path)),
            None => Ok(()),
        }
    }

    /// Whether it can enter a folder: tried, because modes alone do not tell (access lists, mounts).
    pub(super) fn can_enter(&self, folder: &Path) -> bool {
        let mut command = self.command(Path::new("/bin/sh"));
        command.args(["-c", ":"]).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

/// The effective user id of this process.
pub(super) fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Clears a command's environment but for what programs need to be found and run.
pub(super) fn keep_harmless_environment(command: &mut Command) {
    command.env_clear().env("LC_ALL", "C").envs(config::harmless_environment());
}

fn find_in_passwd(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let fields: Vec<&str> = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f.first() == Some(&name))?;
    // macOS writes `nobody` as -2, which is the same 32 bits.
    let id = |index: usize| fields.get(index)?.parse::<i64>().ok().map(|id| id as u32);
    Some((id(2)?, id(3)?))
}

#[cfg(test)]
mod tests {
    use super::find_in_passwd;

    #[test]
    fn accounts_are_read_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\npostgres2:x:7:8::/:/bin/sh\nnobody:*:-2:-2:::/usr/bin/false\n";
        assert_eq!(find_in_passwd(passwd, "postgres"), None);
        assert_eq!(find_in_passwd(passwd, "postgres2"), Some((7, 8)));
        assert_eq!(find_in_passwd(passwd, "nobody"), Some((4_294_967_294, 4_294_967_294)));
        assert_eq!(find_in_passwd("postgres:x:abc:1::", "postgres"), None);
    }
}
