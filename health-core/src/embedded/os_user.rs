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

/// The users that root tries, in this order. Packages of PostgreSQL create `postgres`; `nobody` exists on most systems.
const UNPRIVILEGED_NAMES: [&str; 2] = ["postgres", "nobody"];

/// The user that runs PostgreSQL and owns its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OsUser {
    /// The user of this process, which is not root.
    Current,
    /// Another user, because this process runs as root.
    Other { name: String, uid: u32, gid: u32 },
}

impl OsUser {
    /// Chooses the user. For root: the owner of `pgdata` if it exists, otherwise `postgres`, otherwise `nobody`.
    pub(crate) fn choose(pgdata: &Path) -> Result<OsUser, EmbeddedError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(OsUser::Current);
        }
        if let Ok(metadata) = fs::symlink_metadata(pgdata)
            && metadata.uid() != 0
        {
            let uid = metadata.uid();
            let name = id(&["-un", &uid.to_string()]).unwrap_or_else(|| uid.to_string());
            return Ok(OsUser::Other {
                name,
                uid,
                gid: metadata.gid(),
            });
        }
        UNPRIVILEGED_NAMES
            .iter()
            .find_map(|name| OsUser::from_name(name))
            .ok_or(EmbeddedError::NoUnprivilegedUser)
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
