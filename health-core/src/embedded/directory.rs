//! The data directory: its files, its owner, and the two locks that say who uses it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Seek, SeekFrom, Write},
    iter,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};

use crate::embedded::{error::EmbeddedError, log_tail::LogTail, os_user::OsUser};

/// A log longer than this is renamed to `postgres.log.1` when PostgreSQL starts. 8 MiB.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// The number of bytes at the end of a log that an error message is made of. 16 KiB hold far more than its 15 lines.
const TAIL_BYTES_MAX: u64 = 16 << 10;

/// A data directory and the names of the files in it.
///
/// * `server.lock` is locked by the process that owns the directory. The kernel frees the lock when that process ends,
///   even if it is killed.
/// * `pg.lock` is locked through a descriptor that all processes of PostgreSQL inherit. While it is locked, one of them
///   runs.
///
/// If only `pg.lock` is locked, the owner was killed and its PostgreSQL is about to end. A start waits for that end,
/// but not for `server.lock`.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    path: PathBuf,
}

/// How long a process owns a data directory. The second word of `server.lock` names the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnerKind {
    /// A server: other processes may use its PostgreSQL.
    Server,
    /// A command that runs once: other processes wait for its end, which closes their connections.
    Command,
}

/// The second word in the `server.lock` of a command.
const COMMAND_MARK: &str = "moment";

/// The lock of the process that owns the directory. Dropping it gives the directory up.
#[derive(Debug)]
pub(crate) struct OwnerLock(File);

impl Directory {
    /// `path` must be absolute, because PostgreSQL runs in another working directory.
    pub(crate) fn new(path: PathBuf) -> Directory {
        Directory { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn pgdata(&self) -> PathBuf {
        self.path.join("pgdata")
    }

    /// The directory in which `initdb` works until it is done. So `pgdata` is always complete.
    pub(crate) fn pgdata_new(&self) -> PathBuf {
        self.path.join("pgdata.new")
    }

    /// The directory of PostgreSQL's socket.
    pub(crate) fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    fn log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }

    fn server_lock(&self) -> PathBuf {
        self.path.join("server.lock")
    }

    fn pg_lock(&self) -> PathBuf {
        self.path.join("pg.lock")
    }

    /// Creates the directory, private to `user`, or checks that the existing one can be used.
    ///
    /// Nothing is created inside before the directory is [locked](Self::lock_for_owner). A second start at the same
    /// moment finds it either empty or locked.
    pub(crate) fn prepare(&self, user: &OsUser) -> Result<(), EmbeddedError> {
        let missing: Vec<&Path> = self
            .path
            .ancestors()
            .skip(1)
            .take_while(|path| !path.exists())
            .collect();
        let existing = self.path.ancestors().nth(1 + missing.len()).unwrap_or(&self.path);
        if existing != self.path && existing.is_file() {
            return Err(EmbeddedError::ForeignDirectory {
                directory: self.path.clone(),
                reason: "its path leads through a file",
            });
        }
        user.check_can_enter(existing)?;
        for parent in missing.iter().rev() {
            match fs::create_dir(parent) {
                // Another start has created it meanwhile, and opens it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                created => created.map_err(EmbeddedError::io("create the directory", *parent))?,
            }
            if *user != OsUser::Current {
                // Root's umask may be 077, but PostgreSQL must be able to enter.
                let open = Permissions::from_mode(0o755);
                fs::set_permissions(parent, open).map_err(EmbeddedError::io("change the permissions of", *parent))?;
            }
        }
        self.create_or_check(user)?;
        user.check_can_enter(&self.path)
    }

    fn create_or_check(&self, user: &OsUser) -> Result<(), EmbeddedError> {
        let created = DirBuilder::new().mode(0o700).create(&self.path);
        match created {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(EmbeddedError::io("create the directory", &self.path)(error)),
            Ok(()) => return user.make_owner_of(&self.path),
        }
        let metadata = fs::metadata(&self.path).map_err(EmbeddedError::io("read the metadata of", &self.path))?;
        let unusable = |reason| {
            Err(EmbeddedError::ForeignDirectory {
                directory: self.path.clone(),
                reason,
            })
        };
        if !metadata.is_dir() {
            return unusable("it is a file");
        }
        if self.path.join("PG_VERSION").exists() {
            return unusable("it is the data directory of another PostgreSQL");
        }
        if self.is_empty_or_ours()? {
            if metadata.mode() & 0o077 != 0 {
                let private = Permissions::from_mode(0o700);
                fs::set_permissions(&self.path, private)
                    .map_err(EmbeddedError::io("change the permissions of", &self.path))?;
            }
            // If the data directory is given as a link, its target is meant.
            let resolved = fs::canonicalize(&self.path).map_err(EmbeddedError::io("resolve the path", &self.path))?;
            return user.make_owner_of(&resolved);
        }
        // The directory holds files of another program. It is used as it is, unless that is not safe.
        if metadata.mode() & 0o022 != 0 {
            return unusable("it holds other files, and other users may write in it");
        }
        if self.run().exists() {
            return unusable("it holds other files, and one of them is called `run`");
        }
        Ok(())
    }

    /// Returns whether the directory is empty or was used as a data directory before.
    ///
    /// Another start may create its files meanwhile. So the names are looked for last: the first file in the directory
    /// is one of them.
    fn is_empty_or_ours(&self) -> Result<bool, EmbeddedError> {
        let mut entries = fs::read_dir(&self.path).map_err(EmbeddedError::io("read the directory", &self.path))?;
        let names = [self.server_lock(), self.pg_lock(), self.pgdata(), self.pgdata_new()];
        Ok(entries.next().is_none() || names.iter().any(|path| path.exists()))
    }

    /// Returns an error if the directory holds a cluster, or anything that this program did not leave there.
    pub(crate) fn check_is_unused(&self) -> Result<(), EmbeddedError> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(EmbeddedError::io("read the directory", &self.path))?,
        };
        let own = [
            self.server_lock(),
            self.pg_lock(),
            self.run(),
            self.log(),
            self.pgdata_new(),
        ];
        for entry in entries {
            let entry = entry.map_err(EmbeddedError::io("read the directory", &self.path))?;
            if !own.contains(&entry.path()) {
                return Err(EmbeddedError::NotEmpty {
                    directory: self.path.clone(),
                    entry: entry.file_name().to_string_lossy().into_owned(),
                });
            }
        }
        Ok(())
    }

    /// Locks the directory for this process, or returns an error that names the owner.
    pub(crate) fn lock_for_owner(&self, user: &OsUser, kind: OwnerKind) -> Result<OwnerLock, EmbeddedError> {
        let path = self.server_lock();
        let mut file = open_private(&path, user)?;
        if !try_lock(&file, &path)? {
            let mut text = String::new();
            // The process id is only for the message, so a failure to read it does not matter.
            let _ = file.read_to_string(&mut text);
            let process = text.split_whitespace().next().and_then(|id| id.parse().ok());
            return Err(EmbeddedError::AlreadyRunning {
                directory: self.path.clone(),
                process,
            });
        }
        let write = |mut file: &File| {
            file.set_len(0)?;
            let mark = if kind == OwnerKind::Command { COMMAND_MARK } else { "" };
            writeln!(file, "{} {mark}", std::process::id())
        };
        write(&file).map_err(EmbeddedError::io("write", path))?;
        let owner = OwnerLock(file);
        create_private_directory(&self.run(), user)?;
        Ok(owner)
    }

    /// Returns whether the last owner is a command, or has not written its kind yet.
    pub(crate) fn owner_may_be_command(&self) -> bool {
        let text = fs::read_to_string(self.server_lock()).unwrap_or_default();
        !text.ends_with('\n') || text.split_whitespace().nth(1) == Some(COMMAND_MARK)
    }

    /// Returns the process id of the last server that owned the directory, which may have ended.
    pub(crate) fn server_process(&self) -> Option<u32> {
        let text = fs::read_to_string(self.server_lock()).ok()?;
        let mut words = text.split_whitespace();
        let process = words.next()?.parse().ok()?;
        (words.next() != Some(COMMAND_MARK)).then_some(process)
    }

    /// Locks the file whose lock the processes of PostgreSQL inherit. Returns `None` while one of them still runs.
    pub(crate) fn lock_for_postgres(&self, user: &OsUser) -> Result<Option<File>, EmbeddedError> {
        let path = self.pg_lock();
        let file = open_private(&path, user)?;
        Ok(try_lock(&file, &path)?.then_some(file))
    }

    /// Removes the files that a killed run left behind. The caller must hold `pg.lock`, so that no PostgreSQL runs.
    ///
    /// A stale `postmaster.pid` would block the start if its process id is in use by another process. Ids repeat, for
    /// instance in a restarted container.
    pub(crate) fn remove_stale_files(&self) -> Result<(), EmbeddedError> {
        let unfinished = self.pgdata_new();
        ignore_not_found(&unfinished, fs::remove_dir_all(&unfinished))?;
        for file in [
            self.pgdata().join("postmaster.pid"),
            self.run().join(".s.PGSQL.5432.lock"),
            self.run().join(".s.PGSQL.5432"),
        ] {
            ignore_not_found(&file, fs::remove_file(&file))?;
        }
        Ok(())
    }

    /// Creates the empty directory that `initdb` fills.
    pub(crate) fn begin_cluster(&self, user: &OsUser) -> Result<(), EmbeddedError> {
        create_private_directory(&self.pgdata_new(), user)
    }

    /// Gives the complete cluster its final name. From then on it is never removed.
    ///
    /// `initdb` has synced the cluster's files, but not the names of the directories that lead to them. A power cut
    /// could take such a name, and all data with it. So if the cluster is durable, they are synced here: also those
    /// that the operator, or a run that was killed, created a moment ago.
    pub(crate) fn finish_cluster(&self, is_durable: bool) -> Result<(), EmbeddedError> {
        let unfinished = self.pgdata_new();
        fs::rename(&unfinished, self.pgdata()).map_err(EmbeddedError::io("rename", unfinished))?;
        if is_durable {
            for directory in directories_of(&self.path) {
                sync_directory(&directory).map_err(EmbeddedError::io("sync to the disk", directory))?;
            }
        }
        Ok(())
    }

    /// Opens the log for appending, and returns its present length in bytes.
    pub(crate) fn open_log(&self, user: &OsUser) -> Result<(File, u64), EmbeddedError> {
        let path = self.log();
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
            let old = self.path.join("postgres.log.1");
            fs::rename(&path, old).map_err(EmbeddedError::io("rename", &path))?;
        }
        let mut file = open_private(&path, user)?;
        let end = file.seek(SeekFrom::End(0)).map_err(EmbeddedError::io("read", path))?;
        Ok((file, end))
    }

    /// Returns the end of the log, without its first `begin` bytes. The result is empty if the log cannot be read.
    pub(crate) fn log_tail(&self, begin: u64) -> LogTail {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(self.log())?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(begin.max(length.saturating_sub(TAIL_BYTES_MAX))))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        LogTail::of(&String::from_utf8_lossy(&read().unwrap_or_default()))
    }

    /// Returns the process id that PostgreSQL wrote to `postmaster.pid`; `None` if there is no such file.
    pub(crate) fn postmaster_pid(&self) -> Result<Option<u32>, EmbeddedError> {
        let path = self.pgdata().join("postmaster.pid");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().next().and_then(|pid| pid.trim().parse().ok())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(EmbeddedError::io("read", path)(error)),
        }
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        // Closing the file might not unlock it: a child that another thread is starting may hold a copy for an instant.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn try_lock(file: &File, path: &Path) -> Result<bool, EmbeddedError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(EmbeddedError::io("lock", path)(error.into())),
    }
}

/// Returns every directory whose entries lead to `path`, and `path` itself, without links.
fn directories_of(path: &Path) -> Vec<PathBuf> {
    // A link has its name in the directory of the path as it is written; its target has a path of its own.
    let links = path.ancestors().filter_map(Path::parent);
    let mut directories: Vec<PathBuf> = iter::once(path)
        .chain(links)
        .filter_map(|path| fs::canonicalize(path).ok())
        .flat_map(|path| path.ancestors().map(Path::to_owned).collect::<Vec<_>>())
        .collect();
    directories.sort_unstable();
    directories.dedup();
    directories
}

/// Writes the entries of a directory to the disk, so that files created in it keep their names after a power cut.
///
/// As in PostgreSQL, it is no error if the system cannot do this: some file systems cannot sync a directory, and a
/// directory above the data may be closed to this user.
fn sync_directory(path: &Path) -> io::Result<()> {
    match File::open(path).and_then(|directory| directory.sync_all()) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::IsADirectory
                    | io::ErrorKind::ReadOnlyFilesystem
            ) || error.raw_os_error() == Some(Errno::BADF.raw_os_error()) =>
        {
            tracing::debug!(directory = %path.display(), %error, "cannot sync a directory to the disk");
            Ok(())
        }
        synced => synced,
    }
}

/// Opens a file for reading and appending, and creates it if it is missing.
///
/// Links are not followed: root opens files in a directory in which another user may create them.
fn open_private(path: &Path, user: &OsUser) -> Result<File, EmbeddedError> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = options
        .custom_flags(nofollow)
        .open(path)
        .map_err(EmbeddedError::io("open", path))?;
    user.make_owner_of(path)?;
    Ok(file)
}

/// Creates a directory that only `user` can read and write. An existing directory is kept.
fn create_private_directory(path: &Path, user: &OsUser) -> Result<(), EmbeddedError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => created.map_err(EmbeddedError::io("create the directory", path))?,
    }
    let metadata = fs::symlink_metadata(path).map_err(EmbeddedError::io("read the metadata of", path))?;
    if !metadata.is_dir() {
        let reason = "it is a file, but a directory of that name is needed";
        return Err(EmbeddedError::ForeignDirectory {
            directory: path.to_owned(),
            reason,
        });
    }
    user.make_owner_of(path)
}

/// Converts the result of removing `path`: a path that does not exist is a success.
fn ignore_not_found(path: &Path, removed: io::Result<()>) -> Result<(), EmbeddedError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(EmbeddedError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_directory_that_leads_to_the_data_is_synced_through_links_too() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        fs::create_dir_all(root.join("disk/deep/data")).unwrap();
        fs::create_dir(root.join("home")).unwrap();
        symlink("../disk/deep", root.join("home/link")).unwrap();
        let mut expected: Vec<PathBuf> = root.ancestors().map(Path::to_owned).collect();
        expected.extend(["home", "disk", "disk/deep", "disk/deep/data"].map(|name| root.join(name)));
        expected.sort_unstable();
        assert_eq!(directories_of(&root.join("home/link/data")), expected);
        for directory in expected {
            sync_directory(&directory).unwrap();
        }
        let error = sync_directory(&root.join("missing")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
