//! A way to PostgreSQL's socket that is short enough to connect by.

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

/// The longest path of a socket's directory, in bytes: `sun_path` has 104 on macOS and 108 on Linux, of which the name
/// `/.s.PGSQL.5432` takes 14 and the final NUL one.
const DIRECTORY_BYTES_MAX: usize = 104 - 14 - 1;

/// How many names are tried where others have taken the first ones.
const NAMES_MAX: u32 = 100;

/// `run` itself, or, where its path is too long, a link to it in the temporary directory.
///
/// PostgreSQL binds its socket by a path relative to its data directory, so only those who connect have to mind the length. The
/// name of the link follows from the path, so that a run after a crash finds it again and they do not pile up.
pub(crate) fn short_path(run: &Path) -> Result<PathBuf, EmbeddedError> {
    if run.as_os_str().len() <= DIRECTORY_BYTES_MAX {
        return Ok(run.to_owned());
    }
    let uid = rustix::process::geteuid().as_raw();
    let mut hasher = DefaultHasher::new();
    run.as_os_str().as_bytes().hash(&mut hasher);
    let name = format!("health-{uid}-{:016x}", hasher.finish());
    let mut last = io::ErrorKind::AlreadyExists.into();
    for number in 0..NAMES_MAX {
        let link = temporary().join(format!("{name}-{number}"));
        match symlink(run, &link) {
            Ok(()) => return Ok(link),
            // Only a link of our own may be trusted to stay what it is: the temporary directory is everybody's.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let ours = fs::symlink_metadata(&link).is_ok_and(|it| it.uid() == uid);
                if ours && fs::read_link(&link).is_ok_and(|target| target == run) {
                    return Ok(link);
                }
            }
            Err(error) => last = error,
        }
    }
    Err(EmbeddedError::io("make a short link to", run)(last))
}

/// Removes the link again, if it is one.
pub(crate) fn remove_link(run: &Path, path: &Path) {
    if run != path {
        // Nothing depends on it: the next run would use it again.
        let _ = fs::remove_file(path);
    }
}

fn temporary() -> PathBuf {
    let named = env::temp_dir();
    // Room for the link's own name.
    if named.is_absolute() && named.as_os_str().len() <= DIRECTORY_BYTES_MAX - 45 {
        named
    } else {
        PathBuf::from("/tmp")
    }
}
