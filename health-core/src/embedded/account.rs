//! As whom PostgreSQL runs. It refuses root, so root hands it to another user.

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

/// Whom root runs PostgreSQL as, in order: the user packagers make for it, then the one who owns nothing.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// The user PostgreSQL runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Account {
    /// We are not root: PostgreSQL runs as we do.
    Ourselves,
    /// We are root: PostgreSQL runs as this user, and its files belong to them.
    Other { name: String, uid: u32, gid: u32 },
}

impl Account {
    /// For root: the owner of the data that is already there, else `postgres`, else `nobody`.
    pub(crate) fn choose(pgdata: &Path) -> Result<Account, EmbeddedError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Account::Ourselves);
        }
        if let Ok(data) = fs::symlink_metadata(pgdata)
            && data.uid() != 0
        {
            let uid = data.uid();
            let name = id(&["-un", &uid.to_string()]).unwrap_or_else(|| uid.to_string());
            return Ok(Account::Other {
                name,
                uid,
                gid: data.gid(),
            });
        }
        NAMES
            .iter()
            .find_map(|name| Account::named(name))
            .ok_or(EmbeddedError::NoAccount)
    }

    fn named(name: &str) -> Option<Account> {
        let uid = id(&["-u", name])?.parse().ok()?;
        let gid = id(&["-g", name])?.parse().ok()?;
        Some(Account::Other {
            name: name.to_owned(),
            uid,
            gid,
        })
    }

    /// Fails where our own user id has no name: `initdb` looks it up, and its own message does not say what to do.
    pub(crate) fn check_named(&self) -> Result<(), EmbeddedError> {
        if *self == Account::Ourselves && id(&["-un"]).is_none() {
            return Err(EmbeddedError::NamelessUser {
                uid: rustix::process::geteuid().as_raw(),
            });
        }
        Ok(())
    }

    /// Makes `command` run as this user. The working directory becomes `/`: ours may be closed to them.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.current_dir("/");
        if let Account::Other { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
    }

    /// Gives a file or directory to this user, where it is not theirs already. Links are not followed.
    pub(crate) fn give(&self, path: &Path) -> Result<(), EmbeddedError> {
        let Account::Other { uid, gid, .. } = self else {
            return Ok(());
        };
        let found = fs::symlink_metadata(path).map_err(EmbeddedError::io("look at", path))?;
        if found.uid() == *uid || found.is_symlink() {
            return Ok(());
        }
        chown(path, Some(*uid), Some(*gid)).map_err(EmbeddedError::io("change the owner of", path))
    }

    /// Fails where this user cannot get into `directory`, naming the first closed one on the way.
    pub(crate) fn check_reach(&self, directory: &Path) -> Result<(), EmbeddedError> {
        let Account::Other { name, .. } = self else {
            return Ok(());
        };
        // Where links lead counts, not how the path is written.
        let real = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        let mut way: Vec<&Path> = real.ancestors().collect();
        way.reverse();
        let mut command = Command::new("/bin/sh");
        command
            .args([
                "-c",
                r#"for d do cd "$d" 2>/dev/null || { printf %s "$d"; exit 1; }; done"#,
                "sh",
            ])
            .args(way);
        command.stdin(Stdio::null());
        self.apply(&mut command);
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

/// What `id` answers, `None` where it knows no such user. It asks the system's directory of users, whichever that is.
fn id(arguments: &[&str]) -> Option<String> {
    let output = Command::new("id").args(arguments).stderr(Stdio::null()).output();
    let output = output
        .or_else(|_: io::Error| Command::new("/usr/bin/id").args(arguments).output())
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
