//! Moving the threshold, and ending the epoch, see [`dirty_slices`](crate::store::dirty_slices).

use tokio_postgres::error::SqlState;

use crate::store::{
    connection::Session,
    error::StoreError,
    micros::Micros,
    prepared::{self, Rows},
    threshold_lock::LOCK_EXCLUSIVE,
};

/// Bounds how long the roller waits for the threshold lock. While a long transaction holds the lock shared, new
/// writers wait as long as the roller does.
const THRESHOLD_LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '1s'";

/// Moves the threshold and starts sealing at the first user. `health_sealing` has one row, so its updates need no
/// condition.
const MOVE_THRESHOLD: &str = "UPDATE health_sealing SET threshold = $1, next_user = 0, next_slice = sealed_before";

/// Begins the next epoch.
const NEXT_EPOCH: &str = "UPDATE health_sealing SET epoch = epoch + 1, epoch_since = clock_timestamp()";

/// Moves the threshold. Returns false if a writer holds the lock for too long, or if its transaction is incomplete on
/// some nodes of a cluster.
pub(super) async fn move_threshold(session: &mut Session, due: i64) -> Result<bool, StoreError> {
    let is_locked = lock_threshold(session).await?;
    if is_locked {
        let statement = session.prepare(MOVE_THRESHOLD).await?;
        session.client().execute(&statement, &[&Micros(due)]).await?;
    }
    Ok(is_locked)
}

/// Ends the epoch: after the commit, rollers may remove its dirty slices. Returns false if a writer holds the lock
/// for too long, or if its transaction is incomplete on some nodes of a cluster.
pub(crate) async fn end_epoch(session: &mut Session) -> Result<bool, StoreError> {
    let is_locked = lock_threshold(session).await?;
    if is_locked {
        let statement = session.prepare(NEXT_EPOCH).await?;
        session.client().execute(&statement, &[]).await?;
    }
    Ok(is_locked)
}

/// Takes the threshold lock exclusively. Returns false if a writer holds it for too long.
///
/// A writer whose connection is lost no longer holds the lock, but its transaction may be prepared, and become visible
/// later. What it has written would be missing in the summaries for ever. So this returns false in that case as well.
///
/// The savepoint keeps the transaction usable after the lock timeout, which is an error.
async fn lock_threshold(session: &mut Session) -> Result<bool, StoreError> {
    let client = session.client();
    client.batch_execute("SAVEPOINT before_lock").await?;
    let lock = format!("{THRESHOLD_LOCK_TIMEOUT}; {LOCK_EXCLUSIVE}");
    match client.batch_execute(&lock).await {
        Ok(()) => prepared::have_ended(session, Rows::OfAllUsers).await,
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            client.batch_execute("ROLLBACK TO before_lock").await?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}
