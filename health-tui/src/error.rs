//! What can go wrong, by what a person can do about it.

use std::io;

use crate::net::BaseError;

/// Why the dashboard did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Standard input or output is a file or a pipe.
    #[error("this is not a terminal: run health-tui in one, or see `health-tui --help` for what works in a pipe")]
    NotATerminal,
    /// The terminal could not be prepared, or no longer takes what is drawn.
    #[error("the terminal does not answer")]
    Terminal(#[source] io::Error),
    /// `--server` is no address.
    #[error(transparent)]
    Server(#[from] BaseError),
    /// A part of the program panicked; the panic's own message stands above this one.
    #[error("a part of the dashboard failed; please report the message above")]
    Panicked,
}
