//! The errors of a [`Health`](crate::Health), sorted by what a caller can do about them.

use std::{error::Error as StdError, time::Duration};

use tokio_postgres::error::DbError;

use crate::{
    batch::Receipt, bucket::TooManyBuckets, cause::Cause, limit::LimitOutOfRange, outage::OutageReason,
    sample::InvalidSample, setup_error::SetupError, text::counted, token::TokenName,
};

/// Why a call failed. The message describes the failure itself; `source()` returns its cause.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database URL is wrong. Correct it.
    #[error("the database URL cannot be used")]
    Config(#[source] Cause),
    /// A limit is outside its range. Correct it.
    #[error(transparent)]
    Limit(#[from] LimitOutOfRange),
    /// A sample is too far in the future. Nothing of the call was stored: send it again without that sample.
    #[error("sample {index} of the call is invalid")]
    Invalid {
        /// The index of the sample in the call, from 0.
        index: usize,
        /// The rule that it breaks.
        #[source]
        fault: InvalidSample,
    },
    /// The queue had no room in time. Try again later, or send fewer samples at a time.
    #[error("the queue of {} had no room for {wanted} more within {waited:?}", counted(*.limit, "sample"))]
    Overloaded {
        /// The samples of the call.
        wanted: usize,
        /// The samples that the queue can hold.
        limit: usize,
        /// How long the call waited.
        waited: Duration,
    },
    /// The database cannot be reached, or refuses connections. Try again later.
    #[error("the database is out of reach")]
    Unavailable(#[source] Cause),
    /// The database answered, but could not do this now. Try again later.
    #[error("the database could not do this now: {reason}")]
    Temporary {
        /// What stood in the way.
        reason: TemporaryReason,
        /// The database's own words.
        #[source]
        cause: Cause,
    },
    /// PostgreSQL is down, and its supervisor starts it again. Try again later.
    #[error("PostgreSQL has stopped because {0}, and is being started again")]
    Stopped(OutageReason),
    /// The database and this program do not accept each other: the password, the role, TLS or a certificate is wrong.
    /// Waiting does not help; the cause says what to correct.
    #[error("the database cannot be used with this URL")]
    Refused(#[source] Cause),
    /// The database answers, but cannot store samples now. Try again later.
    #[error("the database cannot store samples now: {0}")]
    NotWritable(NotWritableReason),
    /// The database did not answer in time. Try again later.
    #[error("the database did not answer within {0:?}")]
    TimedOut(Duration),
    /// The samples of a call were not all stored within [`Limits::ingest_deadline`](crate::Limits::ingest_deadline),
    /// because the database is slow or out of reach, or because there are too many samples. Those that are not stored
    /// yet may still be. Sending all of them again is harmless.
    #[error("the samples were not all stored within {0:?}; a part of them may be stored")]
    NotStoredInTime(Duration),
    /// The connection was lost during a commit, so the samples may be stored or not. Sending them again is harmless.
    ///
    /// The writer asks the database how the commit ended. It reports this error to callers whose
    /// [`Limits::ingest_deadline`](crate::Limits::ingest_deadline) has passed meanwhile. A caller that was waiting for
    /// the receipt at its deadline has [`NotStoredInTime`](Self::NotStoredInTime) instead, which leaves the outcome
    /// open as well.
    #[error("the connection to the database was lost during a commit, and its outcome is unknown")]
    CommitUnknown(#[source] Cause),
    /// The database refused a statement. Its log says more.
    #[error("the database refused a statement")]
    Database(#[source] Cause),
    /// The database refused some samples of the call, for example because of a constraint that an operator added. All
    /// others are stored.
    #[error("the database refused {}", counted(.0.positions.len(), "sample"))]
    SamplesRefused(#[source] Refused),
    /// The schema could not be brought up to date.
    #[error("the database schema could not be brought up to date")]
    Migration(#[source] Cause),
    /// The database, its schema or the role of the URL cannot be used as they are. The message says what to change.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The database contains a row that this version cannot read. Run the newest version.
    #[error("a stored row cannot be read")]
    Unreadable(#[source] Cause),
    /// Another token has this name. Choose another name, or revoke that token first.
    #[error("a token named {0} exists. Revoke it first, or choose another name")]
    TokenExists(TokenName),
    /// No token has this name, or it was revoked already.
    #[error("no token is named {0:?}")]
    UnknownToken(String),
    /// The operating system has no random numbers for a secret.
    #[error("the operating system gave no random numbers")]
    NoRandomNumbers(#[source] Cause),
    /// The series would have too many buckets. Ask for wider buckets or a shorter range.
    #[error(transparent)]
    TooManyBuckets(#[from] TooManyBuckets),
    /// [`Health::close`](crate::Health::close) was called.
    #[error("this handle is closed")]
    Closed,
}

/// Why a database that answers cannot store samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotWritableReason {
    /// The database is a standby, or was set to read-only.
    #[error("it is read-only (a standby, or set so)")]
    ReadOnly,
    /// Another session holds a lock on the tables.
    #[error("another session has locked its tables")]
    Locked,
    /// PostgreSQL could not extend a file.
    #[error("its disk is full")]
    DiskFull,
    /// A writer waits for a lock that another session holds. The log says which session.
    #[error("another session has locked what a writer has to change")]
    WriterLocked,
    /// Samples wait, but no batch was committed for this time.
    #[error("samples wait, and none of them was stored within {0:?}")]
    Stalled(Duration),
    /// The role of the database URL lacks a right.
    #[error("the database role of the server lacks a right: health-server migrate --print-grants prints what to grant")]
    MissingRight,
    /// A newer program has migrated the schema, and this one would break a promise. Update this program.
    #[error(
        "a newer version of the program has changed its schema (version {required}), and this one (version {known}) may not write \
         any more: update it"
    )]
    OutdatedProgram {
        /// The migration that a program must know.
        required: i32,
        /// The newest migration that this program knows.
        known: i32,
    },
}

/// Why a database that answers could not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemporaryReason {
    /// SQLSTATE 57014.
    #[error("the statement was cancelled, because it ran for too long or because an operator cancelled it")]
    Cancelled,
    /// SQLSTATE class 40.
    #[error("it conflicted with what others did at the same time")]
    Conflict,
    /// SQLSTATE 55P03.
    #[error("another session holds a lock that it needs")]
    Locked,
    /// SQLSTATE 53300, or a pooler that has no connection left.
    #[error("too many connections are open")]
    TooManyConnections,
    /// All connections for reading are in use.
    #[error("every connection for reading is in use")]
    ReadersBusy,
    /// The prepared statements or the settings of a connection are gone.
    #[error(
        "its session was replaced by another one, as a connection pooler in transaction mode does; use session mode or a \
         direct connection"
    )]
    SessionLost,
    /// Class 53 otherwise.
    #[error("the database machine is short of memory or of another resource")]
    OutOfResources,
    /// SQLSTATE 58030.
    #[error("the database machine cannot read or write its files")]
    Io,
}

/// What became of a call of which the database refused some samples.
#[derive(Debug, Clone, thiserror::Error)]
#[error("one refusal")]
pub struct Refused {
    /// The counts of the samples that are stored.
    pub stored: Receipt,
    /// The positions of the refused samples in the call, from 0, ascending.
    pub positions: Vec<usize>,
    /// Why the database refused one of them.
    #[source]
    pub cause: Cause,
}

impl Error {
    /// Returns whether the same call may succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Overloaded { .. }
            | Self::Unavailable(_)
            | Self::Temporary { .. }
            | Self::Stopped(_)
            | Self::NotWritable(_)
            | Self::TimedOut(_)
            | Self::NotStoredInTime(_)
            | Self::CommitUnknown(_) => true,
            Self::Config(_)
            | Self::Limit(_)
            | Self::Refused(_)
            | Self::Invalid { .. }
            | Self::Database(_)
            | Self::SamplesRefused(_)
            | Self::Migration(_)
            | Self::Setup(_)
            | Self::Unreadable(_)
            | Self::TokenExists(_)
            | Self::UnknownToken(_)
            | Self::NoRandomNumbers(_)
            | Self::TooManyBuckets(_)
            | Self::Closed => false,
        }
    }

    /// Returns whether the database, or a pooler in front of it, gives out no more connections.
    pub(crate) fn is_too_many_connections(&self) -> bool {
        let too_many = TemporaryReason::TooManyConnections;
        matches!(self, Self::Temporary { reason, .. } if *reason == too_many)
    }

    /// Returns the message and the messages of all its causes in one line, for the log.
    ///
    /// It leaves out what PostgreSQL says about values.
    pub fn chain(&self) -> String {
        let mut chain = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            chain.push_str(": ");
            match cause.downcast_ref::<DbError>() {
                Some(refusal) => chain.push_str(&without_values(refusal)),
                None => chain.push_str(&cause.to_string()),
            }
            source = cause.source();
        }
        chain
    }
}

/// Returns what PostgreSQL says, without its detail, which has values of rows. The messages of class 22 have values
/// too.
fn without_values(refusal: &DbError) -> String {
    let code = refusal.code().code();
    let message = if code.starts_with("22") {
        "a value is not valid"
    } else {
        refusal.message()
    };
    let mut text = format!("{}: {message} (SQLSTATE {code})", refusal.severity());
    if let Some(constraint) = refusal.constraint() {
        text.push_str(", constraint ");
        text.push_str(constraint);
    }
    if let Some(hint) = refusal.hint() {
        text.push_str(". ");
        text.push_str(hint);
    }
    text.replace(['\n', '\r'], " ")
}
