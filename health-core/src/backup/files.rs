//! The files around a backup: its new directory, small JSON files, and a place for a restored copy.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use crate::backup::error::BackupError;

/// A directory beside another one that is removed at the end.
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn beside(directory: &Path) -> Result<Self, BackupError> {
        let absolute = fs::canonicalize(directory).map_err(io("resolve the path", directory))?;
        let mut name = absolute.file_name().unwrap_or_default().to_owned();
        name.push(format!(".verify-{}", std::process::id()));
        Ok(Self(absolute.with_file_name(name)))
    }

    pub(super) fn data(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(directory = %self.0.display(), %error, "cannot remove the restored copy; remove it by hand");
            }
            _ => {}
        }
    }
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
/// Everybody who may enter the directory may read the file, also if the umask forbids it: root makes backups of a server that runs as
/// another user.
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
