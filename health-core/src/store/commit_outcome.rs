//! Finds out how a commit ended whose answer was lost.

use tokio_postgres::{Row, error::SqlState, types::ToSql};

use crate::store::connection::Session;

/// Tells whether a transaction is still in progress. If a crash took the transaction, PostgreSQL may not have given
/// out its number again yet; then it reports an invalid parameter.
const STATUS: &str = "SELECT pg_xact_status($1::text::xid8)";

/// Tells whether the commit log contains a row. Both columns are needed: after a crash PostgreSQL gives out the
/// number of a lost transaction again.
const RECORDED: &str = "SELECT FROM health_commits WHERE xid = $1::text::xid8 AND committed_at = $2::text::timestamptz";

/// Identifies a row of the commit log among all that ever existed, by transaction id and time.
///
/// The fields are PostgreSQL's text, so that nothing is lost in a conversion.
#[derive(Debug)]
pub(crate) struct CommitRecord {
    pub(super) xid: String,
    pub(super) committed_at: String,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommitOutcome {
    /// It has not ended.
    InProgress,
    /// It was committed.
    Committed,
    /// It was rolled back, or a crash took it.
    RolledBack,
}

/// Asks PostgreSQL how the transaction ended that inserted this row of the commit log.
pub(crate) async fn commit_outcome(
    session: &Session,
    record: &CommitRecord,
) -> Result<CommitOutcome, tokio_postgres::Error> {
    match session.client().query_one(STATUS, &[&record.xid]).await {
        Ok(row) if row.get::<_, Option<&str>>(0) == Some("in progress") => return Ok(CommitOutcome::InProgress),
        Ok(_) => {}
        Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => {
            return Ok(CommitOutcome::RolledBack);
        }
        Err(error) => return Err(error),
    }
    // A second statement, so that its snapshot is later than the end of the transaction.
    let keys: [&(dyn ToSql + Sync); 2] = [&record.xid, &record.committed_at];
    let found = session.client().query_opt(RECORDED, &keys).await?;
    Ok(if found.is_some() {
        CommitOutcome::Committed
    } else {
        CommitOutcome::RolledBack
    })
}

impl CommitRecord {
    /// Takes `xid::text, committed_at::text` from a statement that inserted a row into the commit log.
    pub(crate) fn from_row(row: &Row) -> Self {
        Self {
            xid: row.get(0),
            committed_at: row.get(1),
        }
    }

    /// Returns the transaction id.
    pub(crate) fn xid(&self) -> Option<u64> {
        self.xid.parse().ok()
    }
}
