//! The errors of the program. Each variant is something that a user can fix in a different way.

use std::{io, path::PathBuf};

use health_core::client::{CredentialsError, FeedError};

use crate::{config::ConfigError, net::ServerUrlError};

/// Why the program did not start, or why it ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Standard input or output is a file or a pipe.
    #[error(
        "Standard input or output is not a terminal. Run health-tui in a terminal, or use --plain for one line per sample."
    )]
    NotATerminal,
    /// The terminal cannot place the cursor.
    #[error(
        "The terminal cannot show a dashboard: TERM is `{term}`. Use --plain for one line per sample, or set TERM to the name of the terminal, such as xterm-256color."
    )]
    DumbTerminal {
        /// The value of `TERM`.
        term: String,
    },
    /// The terminal cannot be prepared, or writing to it failed.
    #[error("Cannot use the terminal")]
    Terminal(#[source] io::Error),
    /// `--server` is not a URL.
    #[error(transparent)]
    Server(#[from] ServerUrlError),
    /// The token or the authority cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A setting is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A recording cannot be opened, read or written.
    #[error("Cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// A line of a recording is not a sample.
    #[error("{}, line {line}: {reason}", path.display())]
    Recording {
        /// The file.
        path: PathBuf,
        /// The number of the line. The first line is 1.
        line: u64,
        /// What is wrong with the line.
        reason: String,
    },
    /// Writing to standard output failed.
    #[error("Cannot write to standard output")]
    Output(#[source] io::Error),
    /// The feed refuses what the user asked for, so another attempt cannot succeed.
    #[error("Cannot read the feed")]
    Feed(#[source] FeedError),
    /// The program was ended before there was a connection.
    #[error("Nothing was received: the feed could not be reached. Check that health-server runs, and --feed.")]
    NeverConnected,
    /// The threads of the program cannot be started.
    #[error("Cannot start. Are too many processes running, or too many files open?")]
    Runtime(#[source] io::Error),
    /// A task of the program panicked. The message of the panic is printed before this one.
    #[error("A part of the dashboard failed. Please report the message above.")]
    Panicked,
}
