//! Row counts and sums of each user, to compare a restored backup with the database that it was made of.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::{Row, types::ToSql};

use crate::store::{
    commit_log::{self, BATCH_BITS, LogPage, LogPosition},
    connection::Session,
    error::StoreError,
    transaction::Transaction,
};

/// The counts and sums of one user's samples. Sums of floating-point columns are exact decimals, because the order of
/// rows must not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserTotals {
    pub(crate) user_id: i64,
    pub(crate) samples: i64,
    readings: i64,
    heart_rate: String,
    steps: i64,
    calories: String,
    first: DateTime<Utc>,
    last: DateTime<Utc>,
}

/// The totals of a database in one snapshot.
pub(crate) struct Totals {
    /// The newest commit in the snapshot.
    pub(crate) newest: LogPosition,
    /// By user.
    pub(crate) users: Vec<UserTotals>,
}

/// Reads every sample whose id is lower than `$1`.
const TOTALS: &str = "SELECT user_id, count(*), count(heart_rate), coalesce(sum(heart_rate::numeric), 0)::text, \
     coalesce(sum(steps), 0), coalesce(sum(calories::numeric), 0)::text, min(timestamp), max(timestamp) \
     FROM health_metrics WHERE id < $1 GROUP BY user_id ORDER BY user_id";

/// The two statements of a comparison see the same commits.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// How old a position may be: any age. PostgreSQL subtracts it from the present.
const ANY_AGE: Duration = Duration::from_hours(24 * 365 * 100);

/// Returns the totals of all samples.
pub(crate) async fn of_all(session: &mut Session) -> Result<Totals, StoreError> {
    let mut transaction = Transaction::begin(session, BEGIN).await?;
    let newest = commit_log::newest(&mut transaction).await?;
    let users = below(&mut transaction, i64::MAX).await?;
    transaction.commit().await?;
    Ok(Totals { newest, users })
}

/// Returns the totals of those samples that were written before `id`.
pub(crate) async fn below(session: &mut Session, id: i64) -> Result<Vec<UserTotals>, StoreError> {
    let statement = session.prepare(TOTALS).await?;
    let params: [&(dyn ToSql + Sync); 1] = [&id];
    let rows = session.client().query(&statement, &params).await?;
    Ok(rows.iter().map(totals).collect())
}

/// Returns the totals of the samples that no commit after `position` has written, and the first id of those that one
/// may have written. `None` if the commit log does not hold the position.
///
/// A batch takes its number before it writes and its place in the log when it commits. So the bound is the lowest batch
/// number of all later commits.
pub(crate) async fn unchanged_since(
    session: &mut Session,
    position: LogPosition,
) -> Result<Option<(Vec<UserTotals>, i64)>, StoreError> {
    let mut transaction = Transaction::begin(session, BEGIN).await?;
    let page = commit_log::page(&mut transaction, position, 1, ANY_AGE).await?;
    if !matches!(page, LogPage::Records { .. }) {
        return Ok(None);
    }
    let later = commit_log::batch_range(&mut transaction, position.number, i64::MAX).await?;
    let bound = later.map_or(i64::MAX, |(lowest, _)| lowest << BATCH_BITS);
    let users = below(&mut transaction, bound).await?;
    transaction.commit().await?;
    Ok(Some((users, bound)))
}

fn totals(row: &Row) -> UserTotals {
    UserTotals {
        user_id: row.get(0),
        samples: row.get(1),
        readings: row.get(2),
        heart_rate: row.get(3),
        steps: row.get(4),
        calories: row.get(5),
        first: row.get(6),
        last: row.get(7),
    }
}

#[cfg(test)]
impl UserTotals {
    /// Totals of a user whose other fields follow from the number of samples and of steps.
    pub(crate) fn for_test(user_id: i64, samples: i64, steps: i64) -> Self {
        Self {
            user_id,
            samples,
            readings: samples,
            heart_rate: (samples * 70).to_string(),
            steps,
            calories: "0".to_owned(),
            first: DateTime::UNIX_EPOCH,
            last: DateTime::UNIX_EPOCH,
        }
    }
}
