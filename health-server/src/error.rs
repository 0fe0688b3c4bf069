//! Why the program could not do what it was started for.

use std::{fmt, io};

use health_core::{Error, embedded::EmbeddedError};

use crate::accept::BindError;

/// Why the program ended without having done what it was started for. A sentence for whoever started it.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProgramError {
    /// A port is taken, or an address is not ours.
    Bind(BindError),
    /// The database, or something about it.
    Health(Error),
    /// The PostgreSQL of our own.
    Embedded(EmbeddedError),
    /// An address that others can reach, and nobody said that they may.
    NotLoopback(String),
    /// The system refused something that every program needs.
    System(io::Error),
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(f),
            Self::Health(error) => f.write_str(&error.chain()),
            Self::Embedded(error) => error.fmt(f),
            Self::NotLoopback(what) => write!(
                f,
                "{what} can be reached by others, and whoever reaches it may read and write everything: use a loopback address \
                 such as 127.0.0.1, or allow it with --allow-anonymous"
            ),
            Self::System(error) => write!(f, "the system refused what the server needs: {error}"),
        }
    }
}

impl std::error::Error for ProgramError {}

impl From<BindError> for ProgramError {
    fn from(error: BindError) -> Self {
        Self::Bind(error)
    }
}

impl From<EmbeddedError> for ProgramError {
    fn from(error: EmbeddedError) -> Self {
        Self::Embedded(error)
    }
}

impl From<Error> for ProgramError {
    fn from(error: Error) -> Self {
        Self::Health(error)
    }
}
