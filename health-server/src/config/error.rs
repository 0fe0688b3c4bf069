//! The reasons why a configuration cannot be used.

use std::{io, path::PathBuf};

/// The reason why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The command line or a variable; also `--help` and `--version`, which only print.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}: {cause}. {}.", path.display(), remedy(cause))]
    Unreadable { path: PathBuf, cause: io::Error },
    /// Something in the file is wrong.
    #[error("{}, line {line}: {reason}", path.display())]
    File {
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        reason: String,
    },
    /// Two settings exclude each other.
    #[error("{first} and {second} both name the database. Set one of them.")]
    TwoDatabases { first: String, second: String },
}

fn remedy(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::InvalidData => "It must be a text in UTF-8",
        io::ErrorKind::PermissionDenied => "Let the user of this program read it",
        _ => "Write its path to --config or HEALTH_CONFIG",
    }
}
