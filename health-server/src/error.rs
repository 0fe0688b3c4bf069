//! The reasons why the program ends with an error.

use std::io;

use health_core::{Error, embedded::EmbeddedError};

use crate::{listeners::BindError, tls::TlsError};

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
    /// The database is out of reach, or refused something.
    #[error(transparent)]
    Health(#[from] Error),
    /// The server's own PostgreSQL could not start, or ended.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
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
    /// The operating system refused something that every program needs.
    #[error("the operating system refused a resource that the server needs: {0}")]
    System(io::Error),
}
