//! The operating system user that runs PostgreSQL. PostgreSQL refuses to run as root, so root runs it as another user.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::embedded::error::EmbeddedError;

/// If root starts a server and the data directory belongs to no other user, PostgreSQL runs as the first of these
/// users that exists. Packages of PostgreSQL create `postgres`, and most systems have `nobody`.
pub const UNPRIVILEGED_NAMES: [&str; 2] = ["postgres", "nobody"];

/// The user that runs PostgreSQL and owns its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OsUser {
    /// The user of this process, which is not root.
    Current,
    /// Another user, because this process runs as root.
    Other { name: String, uid: u32, gid: u32 },
}

impl OsUser {
    /// Chooses the user. For root: the owner of `pgdata` or else of the data directory, if that is not root; otherwise
    /// `postgres`, otherwise `nobody`.
    ///
    /// A data directory that was made for the user of a service stays that user's, also if root restores a backup into
    /// it.
    pub(crate) fn choose(pgdata: &Path) -> Result<OsUser, EmbeddedError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(OsUser::Current);
        }
        if let Some(owner) = pgdata.ancestors().take(2).find_map(OsUser::owner_of) {
            return Ok(owner);
        }
        UNPRIVILEGED_NAMES
            .iter()
            .find_map(|name| OsUser::from_name(name))
            .ok_or(EmbeddedError::NoUnprivilegedUser)
    }

    /// Returns the owner of a file or directory, unless that is root or the path does not exist.
    fn owner_of(path: &Path) -> Option<OsUser> {
        let metadata = fs::symlink_metadata(path).ok().filter(|metadata| metadata.uid() != 0)?;
        let uid = metadata.uid();
        let name = id(&["-un", &uid.to_string()]).unwrap_or_else(|| uid.to_string());
        Some(OsUser::Other {
            name,
            uid,
            gid: metadata.gid(),
        })
    }

    fn from_name(name: &str) -> Option<OsUser> {
        let uid = id(&["-u", name])?.parse().ok()?;
        let gid = id(&["-g", name])?.parse().ok()?;
        Some(OsUser::Other {
            name: name.to_owned(),
            uid,
            gid,
        })
    }

    /// Returns an error if the current user id has no name.
    ///
    /// `initdb` needs the name, and its own message does not say what to do.
    pub(crate) fn check_has_name(&self) -> Result<(), EmbeddedError> {
        if *self == OsUser::Current && id(&["-un"]).is_none() {
            return Err(EmbeddedError::NamelessUser {
                uid: rustix::process::geteuid().as_raw(),
            });
        }
        Ok(())
    }

    /// Makes `command` run as this user, in the working directory `/`. Ours may be closed to the user.
    pub(crate) fn apply_to(&self, command: &mut Command) {
        command.current_dir("/");
        if let OsUser::Other { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
    }

    /// Makes this user the owner of a file or directory. Symbolic links are not followed.
    pub(crate) fn make_owner_of(&self, path: &Path) -> Result<(), EmbeddedError> {
        let OsUser::Other { uid, gid, .. } = self else {
            return Ok(());
        };
        let metadata = fs::symlink_metadata(path).map_err(EmbeddedError::io("read the metadata of", path))?;
        if metadata.uid() == *uid || metadata.is_symlink() {
            return Ok(());
        }
        chown(path, Some(*uid), Some(*gid)).map_err(EmbeddedError::io("change the owner of", path))
    }

    /// Returns an error if this user cannot enter `directory`. The error names the first closed directory of the path.
    pub(crate) fn check_can_enter(&self, directory: &Path) -> Result<(), EmbeddedError> {
        let OsUser::Other { name, .. } = self else {
            return Ok(());
        };
        // The directories that links lead to count, not the path as it is written.
        let resolved = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        let mut ancestors: Vec<&Path> = resolved.ancestors().collect();
        ancestors.reverse();
        let mut command = Command::new("/bin/sh");
        command
            .args([
                "-c",
                r#"for d do cd "$d" 2>/dev/null || { printf %s "$d"; exit 1; }; done"#,
                "sh",
            ])
            .args(ancestors);
        command.stdin(Stdio::null());
        self.apply_to(&mut command);
        let output = command
            .output()
            .map_err(EmbeddedError::io("run as another user", "/bin/sh"))?;
        if output.status.success() {
            return Ok(());
        }
        let closed = PathBuf::from(OsStr::from_bytes(&output.stdout));
        Err(EmbeddedError::Unreachable {
            directory: directory.to_owned(),
            closed,
            user: name.clone(),
        })
    }
}

/// Runs `id` and returns its output, or `None` if it does not know the user.
///
/// The program asks the system's user database, which need not be `/etc/passwd`.
fn id(arguments: &[&str]) -> Option<String> {
    let output = Command::new("id").args(arguments).stderr(Stdio::null()).output();
    let output = output
        .or_else(|_: io::Error| Command::new("/usr/bin/id").args(arguments).output())
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_runs_postgresql_as_the_owner_of_the_data_directory() {
        let directory = tempfile::tempdir().unwrap();
        let pgdata = directory.path().join("pgdata");
        if !rustix::process::geteuid().is_root() {
            assert_eq!(OsUser::choose(&pgdata).unwrap(), OsUser::Current);
            println!("skipped: this process may not give files away");
            return;
        }
        let chosen = || match OsUser::choose(&pgdata).unwrap() {
            OsUser::Current => panic!("PostgreSQL would run as root"),
            OsUser::Other { uid, gid, .. } => (uid, gid),
        };
        assert_ne!(chosen().0, 0, "a directory of root says nothing");
        chown(directory.path(), Some(4001), Some(4002)).unwrap();
        assert_eq!(chosen(), (4001, 4002));
        fs::create_dir(&pgdata).unwrap();
        assert_eq!(chosen(), (4001, 4002), "files of root in it change nothing");
        chown(&pgdata, Some(4003), Some(4004)).unwrap();
        assert_eq!(chosen(), (4003, 4004));
    }
}
