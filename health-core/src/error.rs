//! What can go wrong with a [`Health`](crate::Health), by what a caller can do about it.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use crate::{bucket::TooManyBuckets, sample::InvalidSample};

/// Why something could not be done. The message speaks of its own level; the cause is behind `source()`.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot work. Change it.
    #[error("the database URL cannot be used")]
    Config(#[source] Cause),
    /// A sample breaks a rule that depends on the clock. Nothing of the call was stored: leave it out.
    #[error("sample {index} of the call cannot be taken")]
    Invalid {
        /// Its place in the call, from 0.
        index: usize,
        /// The rule.
        #[source]
        fault: InvalidSample,
    },
    /// More is asked for at once than the limit allows. Try again later, or send less at a time.
    #[error("{wanted} samples did not find room in the queue of {limit} rows within {waited:?}")]
    Overloaded {
        /// The rows asked for.
        wanted: usize,
        /// The rows there is room for altogether.
        limit: usize,
        /// How long they waited.
        waited: Duration,
    },
    /// The database is out of reach, or turns connections away. Try again later.
    #[error("the database is out of reach")]
    Unavailable(#[source] Cause),
    /// The database answers, but takes no samples now. Try again later.
    #[error("the database takes no samples now, {0}")]
    NotWritable(Obstacle),
    /// The database did not answer in time. Try again later.
    #[error("the database did not answer within {0:?}")]
    TimedOut(Duration),
    /// The connection was lost while a commit was under way: it may be stored or not. Sending it again is harmless.
    #[error("the connection to the database was lost during a commit, its outcome is not known")]
    CommitUnknown(#[source] Cause),
    /// The database refused a statement. Its log says more.
    #[error("the database refused a statement")]
    Database(#[source] Cause),
    /// The schema could not be brought up to date.
    #[error("the database schema could not be brought up to date")]
    Migration(#[source] Cause),
    /// Something stored is in no form this version knows. Run the newest version.
    #[error("what is stored cannot be read")]
    Unreadable(#[source] Cause),
    /// More buckets than one answer holds. Ask for wider ones, or for less.
    #[error(transparent)]
    TooManyBuckets(#[from] TooManyBuckets),
    /// [`Health::close`](crate::Health::close) was called.
    #[error("this handle is closed")]
    Closed,
}

/// What keeps a database that answers from taking samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// It follows another one, or was told to take nothing.
    #[error("it is read-only: a standby, or set so")]
    ReadOnly,
    /// Somebody else holds a lock on the tables.
    #[error("its tables are locked by another session")]
    Locked,
}

/// The error behind an [`Error`], kept for the log.
pub type Cause = Arc<dyn StdError + Send + Sync + 'static>;

impl Error {
    /// Whether the same call may succeed later without anything being changed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Overloaded { .. }
            | Self::Unavailable(_)
            | Self::NotWritable(_)
            | Self::TimedOut(_)
            | Self::CommitUnknown(_) => true,
            Self::Config(_)
            | Self::Invalid { .. }
            | Self::Database(_)
            | Self::Migration(_)
            | Self::Unreadable(_)
            | Self::TooManyBuckets(_)
            | Self::Closed => false,
        }
    }

    /// The message with every cause behind it, for a log line.
    pub fn chain(&self) -> String {
        let mut chain = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            chain.push_str(": ");
            chain.push_str(&cause.to_string());
            source = cause.source();
        }
        chain
    }
}
