//! Whether the database can store now.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{SimpleQueryMessage, error::SqlState};

use crate::{
    error::{Error, Obstacle},
    store::connection::{Readers, checkout, classify},
};

/// Takes the lock that a writer needs, which ends with the statements, and asks whether rows are taken at all: a standby
/// answers queries and no more. Sent as one, so that it is one transaction, and over whoever stops waiting for it.
const READY: &str = "SET LOCAL lock_timeout = '1s'; \
     LOCK TABLE health_metrics, health_commits, health_dirty IN ROW EXCLUSIVE MODE; \
     SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean";

/// How long the database may take to answer that. One that takes longer stores nothing within anybody's patience.
const ANSWER_MAX: Duration = Duration::from_secs(2);

pub(crate) async fn ready(readers: &Readers) -> Result<(), Error> {
    let session = checkout(readers).await?;
    let answer = timeout(ANSWER_MAX, session.client().simple_query(READY)).await;
    let rows = match answer.map_err(|_| Error::TimedOut(ANSWER_MAX))? {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            return Err(Error::NotWritable(Obstacle::Locked));
        }
        answer => answer.map_err(classify)?,
    };
    let read_only = rows.iter().any(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0) == Some("t"),
        _ => false,
    });
    if read_only {
        Err(Error::NotWritable(Obstacle::ReadOnly))
    } else {
        Ok(())
    }
}
