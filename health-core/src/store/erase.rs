//! Erases a user: samples, summaries and dirty slices.

use std::sync::Arc;

use tokio_postgres::error::SqlState;

use crate::{
    error::Error,
    sample::UserId,
    store::{
        connection::{Readers, Session, checkout},
        error::StoreError,
        rollup,
        transaction::Transaction,
    },
};

/// The longest time to erase one user, in place of the readers' statement timeout. PostgreSQL deletes about ten million
/// samples a minute, so this is enough for more than a hundred million.
const STATEMENT_TIMEOUT: &str = "SET LOCAL statement_timeout = '15min'";

/// Removes dirty slices of past epochs. Those of the current epoch must stay: a writer may rely on one of them for
/// a sample that it has not committed yet.
const DELETE_DIRTY_SLICES: &str =
    "DELETE FROM health_dirty WHERE user_id = $1 AND epoch < (SELECT epoch FROM health_sealing)";

/// Tells whether to end the epoch; reads one entry of the index at most.
const ANY_DIRTY_SLICE: &str = "SELECT EXISTS (SELECT 1 FROM health_dirty WHERE user_id = $1)";

/// One range of the primary key.
const DELETE_SAMPLES: &str = "DELETE FROM health_metrics WHERE user_id = $1";

/// One range of the primary key, for all grains.
const DELETE_ROLLUPS: &str = "DELETE FROM health_rollups WHERE user_id = $1";

/// Attempts if PostgreSQL ends the transaction because of a deadlock: a writer and the eraser both change several
/// rows of the user, each in its own order. A second attempt nearly always succeeds, so the number is generous.
const MAX_ATTEMPTS: usize = 5;

/// Removes everything that is stored of a user and returns the number of samples.
///
/// A started erasure runs to its end, even if the caller drops the future.
pub(crate) async fn erase(readers: &Readers, user: UserId) -> Result<u64, Error> {
    let readers = readers.clone();
    let erasing = tokio::spawn(async move {
        let mut session = checkout(&readers).await?;
        let mut attempts = 1;
        loop {
            match attempt(&mut session, user).await {
                Err(StoreError::Postgres(error))
                    if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) && attempts < MAX_ATTEMPTS =>
                {
                    attempts += 1;
                }
                done => {
                    return done.map_err(|error| {
                        let error = Error::from(error);
                        session.retire_if_read_only(&error);
                        error
                    });
                }
            }
        }
    });
    match erasing.await {
        Ok(erased) => erased,
        Err(stopped) => Err(Error::Unavailable(Arc::new(stopped))),
    }
}

async fn attempt(session: &mut Session, user: UserId) -> Result<u64, StoreError> {
    // Ending the epoch makes writers wait until the transaction ends. So it has a short transaction of its own.
    let mut transaction = begin(session).await?;
    let any_dirty_slice = transaction.prepare(ANY_DIRTY_SLICE).await?;
    let row = transaction.client().query_one(&any_dirty_slice, &[&user.get()]).await?;
    if row.get(0) {
        rollup::end_epoch(&mut transaction).await?;
    }
    transaction.commit().await?;

    let mut transaction = begin(session).await?;
    delete(&mut transaction, DELETE_DIRTY_SLICES, user).await?;
    let samples = delete(&mut transaction, DELETE_SAMPLES, user).await?;
    delete(&mut transaction, DELETE_ROLLUPS, user).await?;
    transaction.commit().await?;
    Ok(samples)
}

/// Begins a transaction with the lock of the rollers.
///
/// While it holds the lock, no roller summarises samples that are about to be deleted, and the epoch does not end.
/// So the deletion also removes the summaries of all samples committed before it. A sample committed later has a
/// dirty slice of the current epoch, which the deletion leaves.
async fn begin(session: &mut Session) -> Result<Transaction<'_>, StoreError> {
    let begin = format!("BEGIN; {STATEMENT_TIMEOUT}; {}", rollup::LOCK);
    Ok(Transaction::begin(session, &begin).await?)
}

async fn delete(session: &mut Session, sql: &'static str, user: UserId) -> Result<u64, StoreError> {
    let statement = session.prepare(sql).await?;
    Ok(session.client().execute(&statement, &[&user.get()]).await?)
}
