//! The errors of an embedded PostgreSQL. Their messages are written for the person who has to act.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
};

use crate::{embedded::log_tail::LogTail, outage::OutageReason};

/// An error of an embedded PostgreSQL: it cannot be found, started or stopped, or it ended.
///
/// Every message says what happened, with which directory or value, and what to do. Some messages have several lines.
///
/// ```no_run
/// use health_core::embedded::{Cluster, EmbeddedError, Options};
///
/// # async fn example() -> Result<(), EmbeddedError> {
/// let cluster = match Cluster::start(Options::new()).await {
///     Err(EmbeddedError::AlreadyRunning { .. }) => Cluster::attach(Options::new()).await?,
///     result => result?,
/// };
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// No directory holds both `postgres` and `initdb`.
    #[error(
        "No database: DATABASE_URL is not set, and no PostgreSQL server was found on this machine.\n\
         health-server keeps its own PostgreSQL if the server programs (postgres, initdb; version 14 or later) \
         are installed:\n\
         {INSTALL}\n\
         Installed elsewhere?  HEALTH_PG_BINDIR=/path/to/bin\n\
         Your own server?      DATABASE_URL=postgres://user:password@host/health_db\n\
         Looked in: {}", looked_in.join(", ")
    )]
    NotFound {
        /// The places that were searched, as a person would write them.
        looked_in: Vec<String>,
    },

    /// Server programs were found, but none of version 14 or later.
    #[error(
        "No database: DATABASE_URL is not set, and the PostgreSQL on this machine is too old. Versions found: {}. \
         Install version 14 or later:\n{INSTALL}",
        list_versions(found)
    )]
    TooOld {
        /// The major versions that were found, each with its directory.
        found: Vec<(u32, PathBuf)>,
    },

    /// The data belongs to a major version that is not installed. PostgreSQL cannot read the files of another one.
    #[error(
        "The data in {} was created by PostgreSQL {made_by}, and only that version can read it. Versions found: {}. \
         Install the server programs of PostgreSQL {made_by} (or set HEALTH_PG_BINDIR to their directory), \
         or choose another directory with --data-dir.",
        directory.display(), list_versions(found)
    )]
    OtherVersion {
        /// The cluster's directory.
        directory: PathBuf,
        /// The major version in its `PG_VERSION`.
        made_by: u32,
        /// The major versions that were found, each with its directory.
        found: Vec<(u32, PathBuf)>,
    },

    /// A `pgdata` directory exists, but its `PG_VERSION` is missing or holds no version.
    #[error(
        "{} is not a PostgreSQL data directory: its file PG_VERSION is missing or holds no version. \
         Restore the directory from a backup, move it away, or choose another directory with --data-dir.",
        directory.display()
    )]
    NotACluster {
        /// The `pgdata` directory.
        directory: PathBuf,
    },

    /// Another process runs its PostgreSQL in the same data directory.
    #[error(
        "The data directory {} is in use: a health-server is already running on it{}. \
         Stop that server first, or choose another directory with --data-dir.",
        directory.display(), in_parentheses(*process)
    )]
    AlreadyRunning {
        /// The data directory.
        directory: PathBuf,
        /// The id of the process that owns it, if known.
        process: Option<u32>,
    },

    /// The process that owned the directory has ended, but its PostgreSQL has not.
    #[error(
        "The data directory {} is in use: the PostgreSQL of an earlier run{} did not end within {seconds} seconds. \
         Send SIGINT to it, then try again.",
        directory.display(), in_parentheses(*process)
    )]
    StillEnding {
        /// The data directory.
        directory: PathBuf,
        /// The process id in PostgreSQL's `postmaster.pid`, if there is one.
        process: Option<u32>,
        /// The time waited, in seconds.
        seconds: u64,
    },

    /// The directory cannot be used safely: it holds other files, or other users may write in it.
    #[error(
        "{} cannot be the data directory: {reason}. \
         Choose a directory for this purpose alone with --data-dir; it is created if it is missing.",
        directory.display()
    )]
    ForeignDirectory {
        /// The directory that was given.
        directory: PathBuf,
        /// The reason, as a clause.
        reason: &'static str,
    },

    /// No data directory was given, and the environment names no home directory.
    #[error(
        "No data directory: neither HOME nor XDG_DATA_HOME is set to an absolute path. \
         Choose a directory with --data-dir."
    )]
    NoHome,

    /// PostgreSQL refuses to run as root, and there is no other user to run it.
    #[error(
        "PostgreSQL refuses to run as root, and this machine has neither a user `postgres` nor a user `nobody`. \
         Add a user (useradd --system postgres), or start this program as an ordinary user."
    )]
    NoUnprivilegedUser,

    /// The user that runs PostgreSQL cannot enter the directory.
    #[error(
        "PostgreSQL refuses to run as root, so it runs as the user {user}. \
         That user cannot enter {}, because {} is closed. Choose a directory that {user} can enter with --data-dir \
         (such as /var/lib/health), or open this one: chmod o+x {}",
        directory.display(), closed.display(), closed.display()
    )]
    Unreachable {
        /// The data directory.
        directory: PathBuf,
        /// The first directory of its path that the user cannot enter.
        closed: PathBuf,
        /// The user that runs PostgreSQL.
        user: String,
    },

    /// The user id of this process has no entry in the user database, which `initdb` refuses.
    #[error(
        "The user id {uid} has no name on this machine, and PostgreSQL's initdb refuses to run without one. \
         Add it to /etc/passwd, or start as a user that has a name (in a container: `--user` with a user of the image)."
    )]
    NamelessUser {
        /// The effective user id.
        uid: u32,
    },

    /// `initdb` failed to create the cluster.
    #[error(
        "PostgreSQL's initdb failed in {} ({status}). Its last output may say what to change:\n{log}",
        directory.display()
    )]
    Initdb {
        /// The data directory.
        directory: PathBuf,
        /// The exit status of `initdb`.
        status: ExitStatus,
        /// The end of its output.
        log: LogTail,
    },

    /// PostgreSQL ended before it accepted connections.
    #[error(
        "PostgreSQL stopped while starting in {} ({status}). The end of its log may say what to change:\n{log}",
        directory.display()
    )]
    StoppedWhileStarting {
        /// The data directory.
        directory: PathBuf,
        /// The exit status of PostgreSQL.
        status: ExitStatus,
        /// The end of `postgres.log`.
        log: LogTail,
    },

    /// The data directory was removed, moved or replaced while PostgreSQL ran on it.
    #[error(
        "The data directory {} is gone, or another one took its place, while PostgreSQL ran on it. PostgreSQL was stopped, because what it stores \
         now would be lost. Stop this program, and restore a backup into the place of the directory",
        directory.display()
    )]
    DirectoryGone {
        /// The directory.
        directory: PathBuf,
    },
    /// PostgreSQL runs, but did not answer in time.
    #[error(
        "PostgreSQL in {} did not answer within {seconds} seconds. \
         After a crash its recovery may take longer; then try again. The end of its log:\n{log}",
        directory.display()
    )]
    NotReady {
        /// The data directory.
        directory: PathBuf,
        /// The time waited, in seconds.
        seconds: u64,
        /// The end of `postgres.log`.
        log: LogTail,
    },

    /// PostgreSQL ended although it was not asked to.
    #[error(
        "PostgreSQL in {} ended unexpectedly ({}). The end of its log may say why:\n{log}",
        directory.display(), status_text(*status)
    )]
    EndedUnexpectedly {
        /// The data directory.
        directory: PathBuf,
        /// The exit status of PostgreSQL, if known.
        status: Option<ExitStatus>,
        /// The end of `postgres.log`.
        log: LogTail,
    },

    /// PostgreSQL did not end in time when it was stopped.
    #[error(
        "PostgreSQL in {} did not end within {seconds} seconds, not even after SIGQUIT. \
         Find its process with ps and end it before the next start.",
        directory.display()
    )]
    NotStopped {
        /// The data directory.
        directory: PathBuf,
        /// The time waited, in seconds.
        seconds: u64,
    },

    /// A backup is not put back into a directory that is in use.
    #[error(
        "{} is not empty: it holds {entry}. A backup is restored into a new data directory only, so that nothing is \
         overwritten. Move the directory away, or choose another one with --data-dir.",
        directory.display()
    )]
    NotEmpty {
        /// The data directory.
        directory: PathBuf,
        /// Something that is in it.
        entry: String,
    },

    /// The program that copies a running cluster is missing.
    #[error(
        "pg_basebackup was not found beside the server programs in {} or in PATH. It belongs to the client programs of \
         PostgreSQL {major} (Debian, Ubuntu: sudo apt-get install postgresql-client-{major}).",
        bindir.display()
    )]
    NoBaseBackup {
        /// The directory of the server programs.
        bindir: PathBuf,
        /// Their major version.
        major: u32,
    },

    /// `pg_basebackup` failed.
    #[error(
        "pg_basebackup could not copy the database in {} ({status}). Its last output may say what to change:\n{log}",
        directory.display()
    )]
    BaseBackup {
        /// The data directory.
        directory: PathBuf,
        /// The exit status of `pg_basebackup`.
        status: ExitStatus,
        /// The end of its output.
        log: LogTail,
    },

    /// The operating system refused an operation on a file, directory or program.
    #[error("Cannot {action} {}: {source}", path.display())]
    Io {
        /// The operation, as a verb.
        action: &'static str,
        /// The file, directory or program.
        path: PathBuf,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
}

/// What the system says of a full disk, and of a user who has used up a share of it, see strerror(3).
const DISK_FULL: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

/// What PostgreSQL logs before it stops for a reason that lasts: missing rights, damaged files, wrong settings.
const PERMANENT: [&str; 12] = [
    "could not find the database system",
    "Permission denied",
    "has invalid permissions",
    "has wrong ownership",
    "incorrect checksum in control file",
    "could not open file \"global/pg_control\"",
    "could not read file \"global/pg_control\"",
    "database files are incompatible with server",
    "is not a valid data directory",
    "valid checkpoint record",
    "invalid value for parameter",
    "unrecognized configuration parameter",
];

/// The least space with which PostgreSQL can go on: one segment of its WAL, 16 MiB.
const SPACE_BYTES_MIN: u64 = 16 << 20;

/// Returns whether the file system of a directory is full.
///
/// The log of PostgreSQL lies on the same file system, so PostgreSQL may have been unable to write the reason to it.
fn has_no_space(directory: &Path) -> bool {
    rustix::fs::statvfs(directory).is_ok_and(|system| system.f_bavail.saturating_mul(system.f_frsize) < SPACE_BYTES_MIN)
}

/// The commands that install the server programs.
const INSTALL: &str = "  Debian, Ubuntu:  sudo apt-get install postgresql\n  \
                         Fedora, RHEL:    sudo dnf install postgresql-server\n  \
                         macOS:           brew install postgresql@17\n  \
                         Alpine:          apk add postgresql17";

impl EmbeddedError {
    /// Returns a function for `map_err` that adds the operation and the path to an error of the operating system.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> EmbeddedError {
        let path = path.into();
        move |source| EmbeddedError::Io {
            action,
            path,
            source: Arc::new(source),
        }
    }

    /// Returns the error as the reason of an outage. `directory` is the data directory.
    pub(crate) fn outage_reason(&self, directory: &Path) -> OutageReason {
        if matches!(self, EmbeddedError::DirectoryGone { .. }) {
            return OutageReason::DirectoryGone;
        }
        if self.is_disk_full() || has_no_space(directory) {
            return OutageReason::DiskFull;
        }
        match self {
            EmbeddedError::EndedUnexpectedly {
                status: Some(status), ..
            } if status.signal().is_some() => OutageReason::Killed,
            EmbeddedError::EndedUnexpectedly { .. } => OutageReason::Ended,
            _ => OutageReason::CannotStart,
        }
    }

    /// Returns whether PostgreSQL, or the creation of its cluster, failed because the disk is full.
    pub(crate) fn needs_space(&self, directory: &Path) -> bool {
        let may_be_silent = matches!(
            self,
            EmbeddedError::Initdb { .. } | EmbeddedError::StoppedWhileStarting { .. }
        );
        self.is_disk_full() || (may_be_silent && has_no_space(directory))
    }

    /// Returns whether the error says that a disk is full. PostgreSQL starts as soon as there is space.
    pub(crate) fn is_disk_full(&self) -> bool {
        match self {
            EmbeddedError::Initdb { log, .. }
            | EmbeddedError::StoppedWhileStarting { log, .. }
            | EmbeddedError::NotReady { log, .. }
            | EmbeddedError::EndedUnexpectedly { log, .. } => log.contains_any(&DISK_FULL),
            EmbeddedError::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    /// Returns whether waiting cannot cure the error: a person has to act.
    ///
    /// This is about a PostgreSQL that ran before. An error that is not known counts as temporary, because a server
    /// that keeps trying costs less than one that has ended.
    pub(crate) fn is_permanent(&self) -> bool {
        if self.is_disk_full() {
            return false;
        }
        match self {
            EmbeddedError::StoppedWhileStarting { status, log, .. } => {
                // The shell's statuses for a program that it may not run, or that does not exist.
                matches!(status.code(), Some(126 | 127)) || log.contains_any(&PERMANENT)
            }
            EmbeddedError::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            EmbeddedError::EndedUnexpectedly { .. }
            | EmbeddedError::DirectoryGone { .. }
            | EmbeddedError::NotReady { .. }
            | EmbeddedError::StillEnding { .. } => false,
            _ => true,
        }
    }
}

/// Returns `14 in /a, 17 in /b`.
fn list_versions(found: &[(u32, PathBuf)]) -> String {
    if found.is_empty() {
        return "none".to_owned();
    }
    let versions = found
        .iter()
        .map(|(major, bindir)| format!("{major} in {}", bindir.display()));
    versions.collect::<Vec<_>>().join(", ")
}

fn in_parentheses(process: Option<u32>) -> String {
    process.map_or_else(String::new, |id| format!(" (process {id})"))
}

fn status_text(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "exit status unknown".to_owned(), |status| status.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_for_a_machine_without_postgresql_is_the_documented_one() {
        let error = EmbeddedError::NotFound {
            looked_in: vec!["PATH".into(), "pg_config".into()],
        };
        let expected = "\
No database: DATABASE_URL is not set, and no PostgreSQL server was found on this machine.
health-server keeps its own PostgreSQL if the server programs (postgres, initdb; version 14 or later) are installed:
  Debian, Ubuntu:  sudo apt-get install postgresql
  Fedora, RHEL:    sudo dnf install postgresql-server
  macOS:           brew install postgresql@17
  Alpine:          apk add postgresql17
Installed elsewhere?  HEALTH_PG_BINDIR=/path/to/bin
Your own server?      DATABASE_URL=postgres://user:password@host/health_db
Looked in: PATH, pg_config";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn only_what_waiting_cannot_cure_is_permanent_and_a_full_disk_never_is() {
        let stopped = |line: &str| EmbeddedError::StoppedWhileStarting {
            directory: "/data".into(),
            status: ExitStatus::from_raw(1 << 8),
            log: LogTail::of(line),
        };
        for line in [
            "FATAL:  could not open file \"global/pg_control\": Permission denied",
            "PANIC:  could not locate a valid checkpoint record",
            "FATAL:  database files are incompatible with server",
            "FATAL:  data directory \"/data/pgdata\" has invalid permissions",
        ] {
            assert!(stopped(line).is_permanent(), "{line}");
        }
        for line in [
            "FATAL:  could not write lock file \"postmaster.pid\": No space left on device",
            "PANIC:  could not write to file \"global/pg_control\": No space left on device",
            "PANIC:  could not write to file \"pg_wal/xlogtemp.1\": Disk quota exceeded",
            "FATAL:  could not map anonymous shared memory: Cannot allocate memory",
        ] {
            assert!(!stopped(line).is_permanent(), "{line}");
        }
        let other_version = EmbeddedError::OtherVersion {
            directory: "/data".into(),
            made_by: 13,
            found: Vec::new(),
        };
        assert!(other_version.is_permanent());
        let io = |kind: io::ErrorKind| EmbeddedError::io("open", "/data/pg.lock")(kind.into());
        assert!(io(io::ErrorKind::PermissionDenied).is_permanent());
        assert!(!io(io::ErrorKind::StorageFull).is_permanent());
        assert!(io(io::ErrorKind::StorageFull).is_disk_full());
    }
}
