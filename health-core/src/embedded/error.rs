//! What can go wrong with a PostgreSQL of our own, each worded for the person who has to act on it.

use std::{fmt, io, path::PathBuf, process::ExitStatus};

/// Why an embedded PostgreSQL could not be found, started or stopped.
///
/// Every message says what happened, with which directory or value, and what to do about it; some have several lines.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// No directory holds both `postgres` and `initdb`.
    #[error(
        "No database: DATABASE_URL is not set, and no PostgreSQL server was found on this machine.\n\
         health-server keeps its own PostgreSQL if the server programs (postgres, initdb; version 14 or later) are installed:\n\
         {INSTALL}\n\
         Installed elsewhere?  HEALTH_PG_BINDIR=/path/to/bin\n\
         Your own server?      DATABASE_URL=postgres://user:password@host/health_db\n\
         Looked in: {}", looked_in.join(", ")
    )]
    NotFound {
        /// The places looked in, as a person would write them.
        looked_in: Vec<String>,
    },

    /// There are server programs, but none of version 14 or later.
    #[error(
        "No database: DATABASE_URL is not set, and the PostgreSQL on this machine is too old: {}; version 14 or later is needed:\n{INSTALL}",
        Installed(found)
    )]
    TooOld {
        /// The versions found, each with its directory.
        found: Vec<(u32, PathBuf)>,
    },

    /// The data was made by a major version that is not installed. PostgreSQL reads no other major's files.
    #[error(
        "The data in {} was made by PostgreSQL {made_by}, and only that version can read it. Found here: {}. \
         Install the server programs of PostgreSQL {made_by} (or name them by HEALTH_PG_BINDIR), \
         or give another directory with --data-dir.",
        directory.display(), Installed(found)
    )]
    OtherVersion {
        /// The cluster's directory.
        directory: PathBuf,
        /// The major version in its `PG_VERSION`.
        made_by: u32,
        /// The versions found, each with its directory.
        found: Vec<(u32, PathBuf)>,
    },

    /// A `pgdata` directory is there, but its `PG_VERSION` is missing or holds no version.
    #[error(
        "{} is not a PostgreSQL data directory: its PG_VERSION is missing or names no version. \
         Restore it from a backup, move it away, or give another directory with --data-dir.",
        directory.display()
    )]
    NotACluster {
        /// The `pgdata` directory.
        directory: PathBuf,
    },

    /// Another process keeps its PostgreSQL in the same data directory.
    #[error(
        "The data directory {} is in use: a health-server is already running on it{}. \
         Stop that one first, or give another directory with --data-dir.",
        directory.display(), Process(*process)
    )]
    AlreadyRunning {
        /// The data directory.
        directory: PathBuf,
        /// The process that owns it, where it said so.
        process: Option<u32>,
    },

    /// The process that owned the directory is gone, but its PostgreSQL does not end.
    #[error(
        "The data directory {} is in use: a PostgreSQL left behind by an earlier run is still running on it{} and has not \
         ended within {seconds} seconds. End it with SIGINT, then try again.",
        directory.display(), Process(*process)
    )]
    StillEnding {
        /// The data directory.
        directory: PathBuf,
        /// PostgreSQL's process, by its `postmaster.pid`.
        process: Option<u32>,
        /// How long was waited, in seconds.
        seconds: u64,
    },

    /// The directory holds somebody else's files or is open to others' writing.
    #[error(
        "{} cannot be the data directory: {reason}. Give a directory of its own with --data-dir; it is made where it is missing.",
        directory.display()
    )]
    ForeignDirectory {
        /// The directory that was asked for.
        directory: PathBuf,
        /// What is the matter with it.
        reason: &'static str,
    },

    /// No data directory was given and none follows from the environment.
    #[error(
        "No data directory: neither HOME nor XDG_DATA_HOME is set to an absolute path. Give a directory with --data-dir."
    )]
    NoHome,

    /// PostgreSQL refuses to run as root, and there is nobody else to run it as.
    #[error(
        "PostgreSQL refuses to run as root, and this machine has neither a user `postgres` nor a user `nobody`. \
         Add one (useradd --system postgres), or start as an ordinary user."
    )]
    NoAccount,

    /// The user PostgreSQL must run as cannot get into the directory.
    #[error(
        "PostgreSQL refuses to run as root, so it runs as the user {user}, who cannot reach {}: {} is closed to others. \
         Give a place that is open to {user} with --data-dir (such as /var/lib/health), or open the way: chmod o+x {}",
        directory.display(), closed.display(), closed.display()
    )]
    Unreachable {
        /// The data directory.
        directory: PathBuf,
        /// The first directory on the way that does not let the user through.
        closed: PathBuf,
        /// The user PostgreSQL runs as.
        user: String,
    },

    /// We run under a user id that has no entry in the user database, which `initdb` refuses.
    #[error(
        "The user id {uid} has no name on this machine, and PostgreSQL's initdb refuses to run without one. \
         Add it to /etc/passwd, or start as a user who is there (in a container: `--user` with a user the image knows)."
    )]
    NamelessUser {
        /// The effective user id.
        uid: u32,
    },

    /// `initdb` did not make the cluster.
    #[error("PostgreSQL's initdb failed in {} ({status}). The end of its output:\n{log}", directory.display())]
    Initdb {
        /// The data directory.
        directory: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it said last.
        log: LogTail,
    },

    /// PostgreSQL ended before it answered.
    #[error("PostgreSQL stopped while starting in {} ({status}). The end of its log:\n{log}", directory.display())]
    StoppedWhileStarting {
        /// The data directory.
        directory: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The end of `postgres.log`.
        log: LogTail,
    },

    /// PostgreSQL runs, but did not answer in time.
    #[error("PostgreSQL in {} did not answer within {seconds} seconds. The end of its log:\n{log}", directory.display())]
    NotReady {
        /// The data directory.
        directory: PathBuf,
        /// How long was waited, in seconds.
        seconds: u64,
        /// The end of `postgres.log`.
        log: LogTail,
    },

    /// PostgreSQL ended although nobody asked it to.
    #[error("PostgreSQL in {} ended unasked ({}). The end of its log:\n{log}", directory.display(), Status(*status))]
    EndedUnasked {
        /// The data directory.
        directory: PathBuf,
        /// How it ended, where that is known.
        status: Option<ExitStatus>,
        /// The end of `postgres.log`.
        log: LogTail,
    },

    /// PostgreSQL was told to end and has not.
    #[error("PostgreSQL in {} did not end within {seconds} seconds, not even by SIGQUIT.", directory.display())]
    NotStopped {
        /// The data directory.
        directory: PathBuf,
        /// How long was waited, in seconds.
        seconds: u64,
    },

    /// The operating system refused something.
    #[error("Cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// With which file, directory or program.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// The last lines of a log, indented for reading inside a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTail(Vec<String>);

/// How to install the server programs, by system.
const INSTALL: &str = "  Debian, Ubuntu:  sudo apt-get install postgresql\n  \
                         Fedora, RHEL:    sudo dnf install postgresql-server\n  \
                         macOS:           brew install postgresql@17\n  \
                         Alpine:          apk add postgresql17";

impl EmbeddedError {
    /// Wraps what the operating system said about `path`; made for `map_err`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> EmbeddedError {
        let path = path.into();
        move |source| EmbeddedError::Io { action, path, source }
    }
}

impl LogTail {
    /// As many lines as a person reads in an error message.
    const LINES_MAX: usize = 15;

    /// The last lines of `text`. Those about our own knocking at a server that is still starting are left out.
    pub(crate) fn of(text: &str) -> LogTail {
        let mut lines: Vec<String> = text
            .lines()
            .rev()
            .filter(|line| !line.trim().is_empty() && !line.contains("the database system is starting up"))
            .take(Self::LINES_MAX)
            .map(str::to_owned)
            .collect();
        lines.reverse();
        LogTail(lines)
    }
}

impl fmt::Display for LogTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("  (it is empty)");
        }
        for (index, line) in self.0.iter().enumerate() {
            let end = if index + 1 < self.0.len() { "\n" } else { "" };
            write!(f, "  {line}{end}")?;
        }
        Ok(())
    }
}

struct Installed<'a>(&'a [(u32, PathBuf)]);

impl fmt::Display for Installed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no PostgreSQL");
        }
        for (index, (major, bindir)) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{major} in {}", bindir.display())?;
        }
        Ok(())
    }
}

struct Process(Option<u32>);

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |id| write!(f, " (process {id})"))
    }
}

struct Status(Option<ExitStatus>);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(status) => status.fmt(f),
            None => f.write_str("exit status unknown"),
        }
    }
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
    fn a_log_tail_keeps_the_last_lines_without_our_own_knocking() {
        let lines: Vec<_> = (0..40)
            .map(|n| format!("line {n}\nFATAL:  the database system is starting up\n"))
            .collect();
        let text = lines.join("\n");
        let tail = LogTail::of(&text).to_string();
        assert_eq!(tail.lines().count(), LogTail::LINES_MAX);
        assert!(tail.starts_with("  line 25\n") && tail.ends_with("  line 39"), "{tail}");
    }
}
