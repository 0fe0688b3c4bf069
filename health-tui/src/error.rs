//! What can go wrong, by what a person can do about it.

use std::{io, path::PathBuf};

use crate::{config::ConfigError, net::BaseError};

/// Why the dashboard did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Standard input or output is a file or a pipe.
    #[error("this is not a terminal: run health-tui in one, or `health-tui --plain` for a line a reading")]
    NotATerminal,
    /// The terminal could not be prepared, or no longer takes what is drawn.
    #[error("the terminal does not answer")]
    Terminal(#[source] io::Error),
    /// `--server` is no address.
    #[error(transparent)]
    Server(#[from] BaseError),
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file of readings cannot be opened, read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line of a file of readings is no sample.
    #[error("{}, line {line}: {reason}", path.display())]
    Recording {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Standard output does not take what is written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// A part of the program panicked; the panic's own message stands above this one.
    #[error("a part of the dashboard failed; please report the message above")]
    Panicked,
}
