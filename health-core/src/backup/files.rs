//! The files around a backup: its new directory, small JSON files, and a place for a restored copy.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use serde::Serialize;

use crate::backup::error::BackupError;

/// A directory that is removed at the end, if it is still there.
pub(super) struct Place(PathBuf);

/// How often a removal is tried again, and the pause before each attempt: 10 s in all. A process that was told to end
/// may still write its last files into the directory.
const REMOVALS_MAX: u32 = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(100);

impl Place {
    pub(super) fn at(directory: PathBuf) -> Self {
        Self(directory)
    }

    pub(super) fn beside(directory: &Path) -> Result<Self, BackupError> {
        let absolute = fs::canonicalize(directory).map_err(io("resolve the path", directory))?;
        let mut name = absolute.file_name().unwrap_or_default().to_owned();
        name.push(format!(".verify-{}", std::process::id()));
        Ok(Self(absolute.with_file_name(name)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut removed = fs::remove_dir_all(&self.0);
        for _ in 0..REMOVALS_MAX {
            if !matches!(&removed, Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty) {
                break;
            }
            thread::sleep(REMOVAL_PAUSE);
            removed = fs::remove_dir_all(&self.0);
        }
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(directory = %self.0.display(), %error, "cannot remove the copy; remove it by hand");
            }
            _ => {}
        }
    }
}

/// Returns the absolute path without links, also of a directory that does not exist yet.
pub(super) fn resolve(directory: &Path) -> PathBuf {
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let resolved = absolute.ancestors().find_map(|ancestor| {
        let rest = absolute.strip_prefix(ancestor).ok()?;
        Some(fs::canonicalize(ancestor).ok()?.join(rest))
    });
    resolved.unwrap_or(absolute)
}

/// Creates the directory of a new backup. An empty directory is used.
pub(super) fn create_new(directory: &Path) -> Result<(), BackupError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => return created.map_err(io("create the directory", directory)),
    }
    let mut entries = fs::read_dir(directory).map_err(io("read the directory", directory))?;
    if entries.next().is_some() {
        return Err(BackupError::NotNew {
            directory: directory.to_owned(),
        });
    }
    fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(io("change the permissions of", directory))
}

/// Writes a value as JSON. The file gets its name after it is complete and on the disk.
///
/// Everybody who may enter the directory may read the file, also if the umask forbids it: root makes backups of a
/// server that runs as another user.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), BackupError> {
    let unfinished = path.with_extension("json.new");
    let write = || {
        let mut file = File::create(&unfinished)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        serde_json::to_writer_pretty(&mut file, value)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    write().map_err(io("write", path))
}

pub(super) fn sync(directory: &Path) -> Result<(), BackupError> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(io("sync to the disk", directory))
}

/// Returns a function for `map_err` that adds the operation and the path.
pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io {
        action,
        path,
        source: Arc::new(source),
    }
}
