//! The data directory: what lies in it, whose it is, and the two locks that say who is using it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::embedded::{
    account::Account,
    error::{EmbeddedError, LogTail},
};

/// A log longer than this is set aside as `postgres.log.1` when PostgreSQL starts.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// How much of a log's end is read for an error message.
const TAIL_BYTES_MAX: u64 = 16 << 10;

/// Names inside the data directory.
///
/// * `server.lock` is locked by the process that owns the directory and by nobody else: the kernel frees it when that process
///   ends, however it ends.
/// * `pg.lock` is locked through a descriptor that every process of PostgreSQL inherits: while it is taken, one of them lives.
///
/// With the first free and the second taken, a PostgreSQL whose owner was killed is about to end: that is worth waiting for,
/// where a taken `server.lock` is not.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    path: PathBuf,
}

/// What a directory is owned for, said in `server.lock` behind the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Until told to stop: others may rely on its PostgreSQL.
    Serving,
    /// For one command: others had better wait for its end, which cuts their connections.
    Moment,
}

/// The second word in `server.lock` of one that owns it for a moment.
const MOMENT: &str = "moment";

/// Ours as long as this lives.
#[derive(Debug)]
pub(crate) struct OwnerLock(File);

impl Directory {
    /// `path` must be absolute: PostgreSQL runs in another working directory than we do.
    pub(crate) fn new(path: PathBuf) -> Directory {
        Directory { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn pgdata(&self) -> PathBuf {
        self.path.join("pgdata")
    }

    /// Where `initdb` works until it is done, so that `pgdata` is always whole.
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

    /// Makes the directory, private to `account`, or checks that the one that is there can be used. It holds nothing of ours
    /// until it is [owned](Self::own): a second start at the same moment finds it empty, or locked.
    pub(crate) fn prepare(&self, account: &Account) -> Result<(), EmbeddedError> {
        let missing: Vec<&Path> = self.path.ancestors().skip(1).take_while(|it| !it.exists()).collect();
        let present = self.path.ancestors().nth(1 + missing.len()).unwrap_or(&self.path);
        account.check_reach(present)?;
        for parent in missing.iter().rev() {
            fs::create_dir(parent).map_err(EmbeddedError::io("create the directory", *parent))?;
            if *account != Account::Ourselves {
                // Root's umask may be 077, and PostgreSQL has to pass.
                let open = Permissions::from_mode(0o755);
                fs::set_permissions(parent, open).map_err(EmbeddedError::io("open the directory", *parent))?;
            }
        }
        self.make_private(account)?;
        account.check_reach(&self.path)
    }

    fn make_private(&self, account: &Account) -> Result<(), EmbeddedError> {
        let created = DirBuilder::new().mode(0o700).create(&self.path);
        match created {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(EmbeddedError::io("create the directory", &self.path)(error)),
            Ok(()) => return account.give(&self.path),
        }
        let found = fs::metadata(&self.path).map_err(EmbeddedError::io("look at", &self.path))?;
        let foreign = |reason| {
            Err(EmbeddedError::ForeignDirectory {
                directory: self.path.clone(),
                reason,
            })
        };
        if !found.is_dir() {
            return foreign("it is a file");
        }
        if self.path.join("PG_VERSION").exists() {
            return foreign("it is the data of another PostgreSQL");
        }
        if self.is_ours()? {
            if found.mode() & 0o077 != 0 {
                let private = Permissions::from_mode(0o700);
                fs::set_permissions(&self.path, private).map_err(EmbeddedError::io("make private", &self.path))?;
            }
            // A link that was given as the data directory is meant to be followed.
            let real = fs::canonicalize(&self.path).map_err(EmbeddedError::io("look at", &self.path))?;
            return account.give(&real);
        }
        // Files of somebody else's are there: the directory is used as it is, unless that is not safe.
        if found.mode() & 0o022 != 0 {
            return foreign("it holds other files, and others may write in it");
        }
        if self.run().exists() {
            return foreign("it holds other files, among them one called `run`");
        }
        Ok(())
    }

    /// Whether the directory is empty or was one of ours before.
    fn is_ours(&self) -> Result<bool, EmbeddedError> {
        let names = [self.server_lock(), self.pg_lock(), self.pgdata(), self.pgdata_new()];
        if names.iter().any(|it| it.exists()) {
            return Ok(true);
        }
        let mut entries = fs::read_dir(&self.path).map_err(EmbeddedError::io("read the directory", &self.path))?;
        Ok(entries.next().is_none())
    }

    /// Makes us the owner, or says who is.
    pub(crate) fn own(&self, account: &Account, purpose: Purpose) -> Result<OwnerLock, EmbeddedError> {
        let path = self.server_lock();
        let mut file = open_private(&path, account)?;
        if !try_lock(&file, &path)? {
            let mut text = String::new();
            // Who it is, is said where it can be read; that it is taken is what matters.
            let _ = file.read_to_string(&mut text);
            let process = text.split_whitespace().next().and_then(|it| it.parse().ok());
            return Err(EmbeddedError::AlreadyRunning {
                directory: self.path.clone(),
                process,
            });
        }
        let write = |mut file: &File| {
            file.set_len(0)?;
            let word = if purpose == Purpose::Moment { MOMENT } else { "" };
            writeln!(file, "{} {word}", std::process::id())
        };
        write(&file).map_err(EmbeddedError::io("write", path))?;
        let owner = OwnerLock(file);
        make_directory(&self.run(), account)?;
        Ok(owner)
    }

    /// Whether the last one to own the directory said that it would not be for long, or has yet to say what for.
    pub(crate) fn may_be_owned_for_a_moment(&self) -> bool {
        let text = fs::read_to_string(self.server_lock()).unwrap_or_default();
        !text.ends_with('\n') || text.split_whitespace().nth(1) == Some(MOMENT)
    }

    /// The file whose lock PostgreSQL's processes inherit; locked, or `None` while one of them still lives.
    pub(crate) fn lock_for_postgres(&self, account: &Account) -> Result<Option<File>, EmbeddedError> {
        let path = self.pg_lock();
        let file = open_private(&path, account)?;
        Ok(try_lock(&file, &path)?.then_some(file))
    }

    /// Removes what a killed run left. Only with the lock held: then no PostgreSQL of ours lives.
    ///
    /// A stale `postmaster.pid` would block the start where its process id is in use: by an unreaped zombie, by another process,
    /// or in a restarted container, where ids repeat.
    pub(crate) fn sweep(&self) -> Result<(), EmbeddedError> {
        let unfinished = self.pgdata_new();
        remove(&unfinished, fs::remove_dir_all(&unfinished))?;
        let socket = self.run().join(".s.PGSQL.5432");
        for file in [
            self.pgdata().join("postmaster.pid"),
            self.run().join(".s.PGSQL.5432.lock"),
            socket,
        ] {
            remove(&file, fs::remove_file(&file))?;
        }
        Ok(())
    }

    /// Makes the empty directory `initdb` fills.
    pub(crate) fn begin_cluster(&self, account: &Account) -> Result<(), EmbeddedError> {
        make_directory(&self.pgdata_new(), account)
    }

    /// The finished cluster gets its name, for good: from here on it is data.
    pub(crate) fn finish_cluster(&self) -> Result<(), EmbeddedError> {
        let made = self.pgdata_new();
        fs::rename(&made, self.pgdata()).map_err(EmbeddedError::io("rename", made))?;
        let sync = File::open(&self.path).and_then(|directory| directory.sync_all());
        sync.map_err(EmbeddedError::io("write to the disk", &self.path))
    }

    /// Opens the log for appending, and says how long it is already.
    pub(crate) fn open_log(&self, account: &Account) -> Result<(File, u64), EmbeddedError> {
        let path = self.log();
        if fs::symlink_metadata(&path).is_ok_and(|it| it.len() > LOG_BYTES_MAX) {
            let aside = self.path.join("postgres.log.1");
            fs::rename(&path, aside).map_err(EmbeddedError::io("rename", &path))?;
        }
        let mut file = open_private(&path, account)?;
        let end = file.seek(SeekFrom::End(0)).map_err(EmbeddedError::io("read", path))?;
        Ok((file, end))
    }

    /// The end of the log, of what was written behind `begin`. Empty where it cannot be read.
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

    /// The process of the PostgreSQL that runs here, by its own account.
    pub(crate) fn postmaster(&self) -> Option<u32> {
        let text = fs::read_to_string(self.pgdata().join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        // Said rather than left to closing: a child that another thread is just starting may hold a copy for an instant.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn try_lock(file: &File, path: &Path) -> Result<bool, EmbeddedError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(EmbeddedError::io("lock", path)(error.into())),
    }
}

/// Root opens files in a directory that another user may write in, so links are not followed.
fn open_private(path: &Path, account: &Account) -> Result<File, EmbeddedError> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = options
        .custom_flags(nofollow)
        .open(path)
        .map_err(EmbeddedError::io("open", path))?;
    account.give(path)?;
    Ok(file)
}

/// A private directory that `account` may write in.
fn make_directory(path: &Path, account: &Account) -> Result<(), EmbeddedError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => created.map_err(EmbeddedError::io("create the directory", path))?,
    }
    let found = fs::symlink_metadata(path).map_err(EmbeddedError::io("look at", path))?;
    if !found.is_dir() {
        let reason = "it is in the way of a directory of that name";
        return Err(EmbeddedError::ForeignDirectory {
            directory: path.to_owned(),
            reason,
        });
    }
    account.give(path)
}

fn remove(path: &Path, removed: io::Result<()>) -> Result<(), EmbeddedError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(EmbeddedError::io("remove", path)(error)),
        _ => Ok(()),
    }
}
