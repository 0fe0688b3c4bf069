//! Why the server cannot read a body to its end.

use std::{io, time::Duration};

use hyper::StatusCode;

/// Why the server cannot read a body to its end. The message is a sentence for the client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The connection or HTTP's framing broke.
    #[error("Cannot read the body to its end: {0}.")]
    Broken(#[source] hyper::Error),
    /// The client sent nothing for too long.
    #[error("The client sent nothing more of the body for {0:?}.")]
    TimedOut(Duration),
    /// The compressed bytes are damaged or end too early.
    #[error(
        "The body is not valid gzip, which the header Content-Encoding names: {0}. If it is not compressed, leave that header out."
    )]
    Gzip(#[source] io::Error),
}

impl BodyError {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Broken(_) | Self::Gzip(_) => StatusCode::BAD_REQUEST,
            Self::TimedOut(_) => StatusCode::REQUEST_TIMEOUT,
        }
    }
}
