//! A path of PostgreSQL's socket that is short enough to connect to.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, symlink},
    },
    path::{Path, PathBuf},
};

use crate::embedded::error::EmbeddedError;

/// The longest path of a socket's directory, in bytes.
///
/// `sun_path` has 104 bytes on macOS and 108 on Linux. The name `/.s.PGSQL.65535` takes 15 and the final NUL 1.
const DIRECTORY_BYTES_MAX: usize = 104 - 15 - 1;

/// The longest name of a link in bytes, with its leading slash: `/health-`, user id, `-`, hash, `-`, number.
const LINK_NAME_BYTES_MAX: usize = 45;

/// The number of link names that are tried if others are taken.
const LINK_NAMES_MAX: u32 = 100;

/// Returns `run`, or a link to it in the temporary directory if its path is too long for a socket address.
///
/// PostgreSQL binds its socket by a path relative to its data directory, so only clients depend on the length. The
/// name of the link is a hash of the path. So a run after a crash finds the link again, and links do not pile up.
pub(crate) fn short_path(run: &Path) -> Result<PathBuf, EmbeddedError> {
    if run.as_os_str().len() <= DIRECTORY_BYTES_MAX {
        return Ok(run.to_owned());
    }
    let uid = rustix::process::geteuid().as_raw();
    let mut hasher = DefaultHasher::new();
    run.as_os_str().as_bytes().hash(&mut hasher);
    let name = format!("health-{uid}-{:016x}", hasher.finish());
    let mut last_error = io::ErrorKind::AlreadyExists.into();
    for number in 0..LINK_NAMES_MAX {
        let link = temporary_directory().join(format!("{name}-{number}"));
        match symlink(run, &link) {
            Ok(()) => return Ok(link),
            // Every user can create files there. Only a link that belongs to this user cannot be changed by another.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let is_own = fs::symlink_metadata(&link).is_ok_and(|metadata| metadata.uid() == uid);
                if is_own && fs::read_link(&link).is_ok_and(|target| target == run) {
                    return Ok(link);
                }
            }
            Err(error) => last_error = error,
        }
    }
    Err(EmbeddedError::io("create a short link to", run)(last_error))
}

/// Removes the link that [`short_path`] created, if it did.
pub(crate) fn remove_link(run: &Path, path: &Path) {
    if run != path {
        // A link that stays is harmless: the next run uses it again.
        let _ = fs::remove_file(path);
    }
}

fn temporary_directory() -> PathBuf {
    let directory = env::temp_dir();
    if directory.is_absolute() && directory.as_os_str().len() <= DIRECTORY_BYTES_MAX - LINK_NAME_BYTES_MAX {
        directory
    } else {
        PathBuf::from("/tmp")
    }
}
