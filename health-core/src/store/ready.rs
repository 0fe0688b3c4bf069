//! Whether the database can store now.

use crate::{
    error::Error,
    store::connection::{Readers, checkout, classify},
};

/// A standby answers queries but takes no rows.
const READY: &str = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean";

/// The database answers, but does not take rows.
#[derive(Debug, thiserror::Error)]
#[error("the database is read-only: it is a standby, or was set so")]
struct ReadOnly;

pub(crate) async fn ready(readers: &Readers) -> Result<(), Error> {
    let mut session = checkout(readers).await?;
    let statement = session.prepare(READY).await.map_err(classify)?;
    let read_only: bool = session
        .client()
        .query_one(&statement, &[])
        .await
        .map_err(classify)?
        .get(0);
    if read_only {
        Err(Error::Unavailable(std::sync::Arc::new(ReadOnly)))
    } else {
        Ok(())
    }
}
