//! The rows that the feed reads back from the table: those of commits without kept samples, and those of replays.

use std::{collections::HashMap, ops::Range};

use tokio_postgres::{Row, types::ToSql};

use crate::{
    sample::{Sample, UserId},
    store::{
        commit_log::{BATCH_BITS, CommitRecord},
        connection::Session,
        error::StoreError,
        rows,
    },
};

/// The rows of a range of ids, by the block range index on `id`.
///
/// `user_id + 0` keeps the planner from the primary key, which would read everything that these users ever stored.
const ROWS: &str = "SELECT id, user_id, timestamp, source, heart_rate, steps, calories FROM health_metrics \
     WHERE id >= $1 AND id < $2 AND ($3::bigint[] IS NULL OR user_id + 0 = ANY($3)) ORDER BY id";

/// The first rows of one user in a range of ids, for a user who is pulled ahead in a replay. It reads that user's rows instead
/// of those of all users.
const ROWS_OF_USER: &str = "SELECT id, user_id, timestamp, source, heart_rate, steps, calories FROM health_metrics \
     WHERE user_id = $1 AND id >= $2 AND id < $3 ORDER BY id LIMIT $4";

/// The largest difference of two batch numbers whose rows are read as one range of ids.
///
/// Batches that are committed one after the other mostly have neighbouring numbers. But a writer that was idle may use a
/// number that it took long ago, and one range from there would hold all that was written since.
const BATCHES_BETWEEN_MAX: i64 = 100;

/// A stored row, as the feed sends it.
#[derive(Debug)]
pub(crate) struct FeedRow {
    pub(crate) id: i64,
    pub(crate) sample: Sample,
}

impl FeedRow {
    /// Returns the number of the batch that wrote the row as it is now.
    pub(crate) fn batch_number(&self) -> i64 {
        self.id >> BATCH_BITS
    }

    /// Returns the place of the row among those of its batch, counted from 0.
    pub(crate) fn place(&self) -> i64 {
        self.id - first_id(self.batch_number())
    }
}

/// Returns the lowest id that a batch may give. All ids of earlier batch numbers are lower.
pub(crate) fn first_id(batch_number: i64) -> i64 {
    batch_number << BATCH_BITS
}

/// Returns the rows that some commits wrote, in the order of the commits, then of ids; if `users` are given, only theirs.
///
/// A row that a later commit has changed again is not among them: it belongs to that commit now.
pub(crate) async fn rows(
    session: &mut Session,
    records: &[CommitRecord],
    users: Option<&[i64]>,
) -> Result<Vec<FeedRow>, StoreError> {
    let number_of: HashMap<i64, i64> = records
        .iter()
        .map(|record| (record.batch_number, record.number))
        .collect();
    let mut batches: Vec<i64> = number_of.keys().copied().collect();
    batches.sort_unstable();
    let statement = session.prepare(ROWS).await?;
    let mut rows = Vec::new();
    for range in batches.chunk_by(|batch, next| next - batch <= BATCHES_BETWEEN_MAX) {
        let (Some(lowest), Some(highest)) = (range.first(), range.last()) else {
            continue;
        };
        let params: [&(dyn ToSql + Sync); 3] = [&first_id(*lowest), &first_id(highest + 1), &users];
        let found = session.client().query(&statement, &params).await?;
        // The range may hold batches of other commits.
        let wanted = |row: &&Row| number_of.contains_key(&(row.get::<_, i64>(0) >> BATCH_BITS));
        rows.extend(found.iter().filter(wanted).filter_map(feed_row));
    }
    rows.sort_by_key(|row| (number_of.get(&row.batch_number()).copied(), row.id));
    Ok(rows)
}

/// Returns whether these are all rows that some commits wrote.
pub(crate) fn are_complete(records: &[CommitRecord], rows: &[FeedRow]) -> bool {
    let written: i64 = records.iter().map(|record| i64::from(record.rows)).sum();
    i64::try_from(rows.len()) == Ok(written)
}

/// Returns some rows of one batch, counted from 0, in the order of ids; if `users` are given, only theirs.
pub(crate) async fn rows_of_batch(
    session: &mut Session,
    batch_number: i64,
    part: &Range<i64>,
    users: Option<&[i64]>,
) -> Result<Vec<FeedRow>, StoreError> {
    let statement = session.prepare(ROWS).await?;
    let first = first_id(batch_number);
    let params: [&(dyn ToSql + Sync); 3] = [&(first + part.start), &(first + part.end), &users];
    let found = session.client().query(&statement, &params).await?;
    Ok(found.iter().filter_map(feed_row).collect())
}

/// Returns the first `limit` rows of one user with `first <= id < end`, in the order of ids.
pub(crate) async fn rows_of_user(
    session: &mut Session,
    user: UserId,
    first: i64,
    end: i64,
    limit: i64,
) -> Result<Vec<FeedRow>, StoreError> {
    let statement = session.prepare(ROWS_OF_USER).await?;
    let params: [&(dyn ToSql + Sync); 4] = [&user.get(), &first, &end, &limit];
    let found = session.client().query(&statement, &params).await?;
    Ok(found.iter().filter_map(feed_row).collect())
}

/// Returns the row as a sample. A row that breaks a rule of a sample is left out and logged: this program writes none.
fn feed_row(row: &Row) -> Option<FeedRow> {
    let id = row.get(0);
    let sample = UserId::new(row.get(1))
        .map_err(|_| StoreError::InvalidSample)
        .and_then(|user| rows::sample(user, row, 2));
    match sample {
        Ok(sample) => Some(FeedRow { id, sample }),
        Err(error) => {
            tracing::warn!(%error, id, "the feed leaves out a stored row");
            None
        }
    }
}
