//! How a commit ended whose answer was lost.

use tokio_postgres::{Row, error::SqlState, types::ToSql};

use crate::store::connection::Session;

/// Whether a transaction is still under way. One that a crash took is an error: its number is yet to be given out.
const STATUS: &str = "SELECT pg_xact_status($1::text::xid8)";

/// Whether a transaction left its record. The number alone does not tell: what a crash took is given out again.
const RECORDED: &str = "SELECT FROM health_commits WHERE xid = $1::text::xid8 AND committed_at = $2::text::timestamptz";

/// What a transaction left in `health_commits`, if it was committed. Both together name it among all there ever are.
#[derive(Debug)]
pub(crate) struct Record {
    pub(super) xid: String,
    pub(super) committed_at: String,
}

/// How a transaction ended whose commit was not answered: true where it was committed, none while it is under way.
pub(crate) async fn outcome(session: &Session, record: &Record) -> Result<Option<bool>, tokio_postgres::Error> {
    match session.client().query_one(STATUS, &[&record.xid]).await {
        Ok(row) if row.get::<_, Option<&str>>(0) == Some("in progress") => return Ok(None),
        Ok(_) => {}
        Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => return Ok(Some(false)),
        Err(error) => return Err(error),
    }
    // In a statement of its own: this snapshot is later than the end of the transaction.
    let keys: [&(dyn ToSql + Sync); 2] = [&record.xid, &record.committed_at];
    let found = session.client().query_opt(RECORDED, &keys).await?;
    Ok(Some(found.is_some()))
}

impl Record {
    /// As the statements that leave one return it.
    pub(crate) fn returned(row: &Row) -> Self {
        Self {
            xid: row.get(0),
            committed_at: row.get(1),
        }
    }

    /// The transaction.
    pub(crate) fn xid(&self) -> Option<u64> {
        self.xid.parse().ok()
    }
}
