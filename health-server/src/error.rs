//! The reasons why the program ends with an error.

use std::io;

use health_core::{Error, backup::BackupError, embedded::EmbeddedError};

use crate::{listeners::BindError, secret_file::SecretFileError, tls::TlsError};

/// The reason why the program ended with an error, as a sentence for the person who started it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// An address is in use or does not belong to this machine.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file with a secret cannot be used.
    #[error(transparent)]
    SecretFile(#[from] SecretFileError),
    /// Only one of the certificate and its key is given.
    #[error("{given} is set without {missing}. TLS needs the certificate and its key: set both, or neither.")]
    HalfOfTls {
        /// The flag that is set.
        given: &'static str,
        /// The flag that is not.
        missing: &'static str,
    },
    /// The database is out of reach, or refused something.
    #[error(transparent)]
    Health(#[from] Error),
    /// The server's own PostgreSQL could not start, or ended.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// A backup could not be made, restored or verified.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The data directory has no database.
    #[error(
        "there is nothing to back up: {directory} has no database. Name the data directory of the server with --data-dir, or \
         in HEALTH_DATA_DIR."
    )]
    NothingToBackUp {
        /// The data directory.
        directory: String,
    },
    /// Only the server's own PostgreSQL is backed up by this program.
    #[error(
        "a database URL is given (--database-url or DATABASE_URL), but `{command}` is for the PostgreSQL that health-server runs \
         itself. Back up your own server with its tools (pg_basebackup or pg_dump); or leave the URL out, and name the data \
         directory with --data-dir."
    )]
    NotOwnPostgres {
        /// The command that was given.
        command: &'static str,
    },
    /// The command is for a cluster, and the server's own PostgreSQL is none.
    #[error(
        "`{command}` is for the coordinator of a Citus cluster: give its URL with --database-url or DATABASE_URL. The PostgreSQL \
         that health-server runs itself is a single one."
    )]
    NeedsUrl {
        /// The command that was given.
        command: &'static str,
    },
    /// Other machines can reach the address, no token exists, and `--allow-anonymous` was not given.
    #[error(
        "other machines can reach {flag} {address}, and no token exists, so every client could read, write and erase all \
         data. Create a token with `health-server token create --name NAME --scope ingest,read`, choose a loopback address \
         such as 127.0.0.1, or accept this with --allow-anonymous."
    )]
    NotLoopback {
        /// The flag that names the address.
        flag: &'static str,
        /// The address.
        address: String,
    },
    /// The system allows too few open files for the database connections and some clients.
    #[error(
        "the system allows {available} open files, and the server needs at least {needed}. Raise the limit with `ulimit -n`, \
         or lower --readers or --writers."
    )]
    TooFewFiles {
        /// How many files the process may have open.
        available: usize,
        /// How many it needs.
        needed: usize,
    },
    /// Ctrl-C or SIGTERM ended a command before it was done.
    #[error("interrupted before it was done")]
    Interrupted,
    /// `check` found something wrong.
    #[error("{} wrong", counted_things(*wrong))]
    Check {
        /// The number of lines that begin with `wrong`.
        wrong: usize,
    },
    /// The server cannot store samples now, or cannot be asked.
    #[error("the server at {address} is not ready: {reason}")]
    NotReady {
        /// The address of `--http`.
        address: String,
        /// The reason.
        reason: String,
    },
    /// The operating system refused something that every program needs.
    #[error("the operating system refused a resource that the server needs: {0}")]
    System(io::Error),
}

fn counted_things(number: usize) -> String {
    match number {
        1 => "one thing is".to_owned(),
        number => format!("{number} things are"),
    }
}
