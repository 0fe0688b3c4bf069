//! Asks whether the database can store samples now.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{SimpleQueryMessage, error::SqlState};

use crate::{
    error::{Error, NotWritableReason},
    store::connection::{Readers, checkout, classify},
};

/// Takes the lock that a writer needs and asks whether the database is read-only.
///
/// The statements are sent as one query: they are one transaction, so the lock ends with them, even if the caller has
/// stopped waiting. A database can be read-only for another reason than a
/// lock (a standby, a setting), which only the last statement tells.
const READY: &str = "SET LOCAL lock_timeout = '1s'; \
     LOCK TABLE health_metrics, health_commits, health_dirty IN ROW EXCLUSIVE MODE; \
     SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean";

/// The longest wait for the answer: twice the lock timeout of the query. A slower database stores nothing in time
/// either.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Checks that a writer could get its locks and that the database is not read-only.
///
/// # Errors
/// [`Error::NotWritable`] with the reason, [`Error::TimedOut`], or [`Error::Unavailable`].
pub(crate) async fn ready(readers: &Readers) -> Result<(), Error> {
    let session = checkout(readers).await?;
    let answer = timeout(ANSWER_TIMEOUT, session.client().simple_query(READY)).await;
    let messages = match answer.map_err(|_| Error::TimedOut(ANSWER_TIMEOUT))? {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            return Err(Error::NotWritable(NotWritableReason::Locked));
        }
        answer => answer.map_err(classify)?,
    };
    let is_read_only = messages.iter().any(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0) == Some("t"),
        _ => false,
    });
    if is_read_only {
        Err(Error::NotWritable(NotWritableReason::ReadOnly))
    } else {
        Ok(())
    }
}
