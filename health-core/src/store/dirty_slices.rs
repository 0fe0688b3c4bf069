//! How writers tell the roller which summaries are out of date: by rows of `health_dirty`, which the roller removes.
//!
//! A writer that changes a sample older than the threshold adds the sample's slice to `health_dirty` in the same
//! transaction. Two rules make this safe.
//!
//! * A writer takes the threshold lock shared and, in a later statement, reads the threshold and the epoch. (A
//!   single statement would take its snapshot before it waits for the lock, and might read old values.) A session
//!   that changes either of them takes the lock exclusively. So when it gets the lock, every writer that read the
//!   old values has ended.
//! * The roller removes dirty slices of past epochs only. So a row that this connection committed in the current epoch
//!   stays until everything that the connection writes in this epoch is committed. The writer need not add it again.

use foldhash::HashSet;
use tokio_postgres::{Row, types::ToSql};

use crate::{
    grain::Grain,
    sample::Sample,
    store::{columns::distinct, connection::Session, error::StoreError, micros::Micros, tables::Tables},
};

/// Adds dirty slices. There is no `ON CONFLICT`, because the table has no unique key: a writer would wait for another
/// writer's transaction that adds the same slice. Several rows of one slice do no harm.
const INSERT: &str = "INSERT INTO health_dirty (user_id, slice, epoch) \
     SELECT user_id, slice, $3 FROM unnest($1::bigint[], $2::timestamptz[]) AS slices (user_id, slice)";

/// Counts the rows, but not further than `$1`.
const COUNT: &str = "SELECT count(*) FROM (SELECT user_id FROM health_dirty LIMIT $1) AS counted";

/// Removes dirty slices of past epochs that follow one slice in the order of (user, slice).
///
/// The inner query walks the index. The outer one deletes by `ctid`: a join could get a bad plan while the table
/// looks empty to the planner. The rows keep their `ctid`, because only rollers and erasers remove them, and the
/// lock excludes those.
const REMOVE_LOCAL: &str = "DELETE FROM health_dirty WHERE ctid = ANY (ARRAY(SELECT ctid FROM health_dirty \
     WHERE (user_id, slice) > ($1, $2) AND epoch < $4 ORDER BY user_id, slice LIMIT $3)) RETURNING user_id, slice";

/// Finds the dirty slices of past epochs that follow one slice. [`REMOVE_RANGE`] then removes them: one statement for
/// both would need a `ctid`, or return the rows of all shards in any order.
const FIRST: &str = "SELECT user_id, slice FROM health_dirty WHERE (user_id, slice) > ($1, $2) AND epoch < $4 \
     ORDER BY user_id, slice LIMIT $3";

/// Removes the dirty slices that [`FIRST`] has found, and further rows of the last of these slices. No other row of a
/// past epoch is added meanwhile, because every writer of those epochs has ended.
const REMOVE_RANGE: &str = "DELETE FROM health_dirty WHERE user_id = ANY($1::bigint[]) \
     AND (user_id, slice) > ($2, $3) AND (user_id, slice) <= ($4, $5) AND epoch < $6";

/// The threshold and the epoch as one writing transaction has read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Threshold {
    /// Summaries may contain samples older than this; microseconds since 1970.
    pub(crate) at: i64,
    /// The epoch under which the transaction adds dirty slices.
    pub(crate) epoch: i64,
}

/// A slice of one user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UserSlice {
    pub(crate) user: i64,
    /// The first instant of the slice, microseconds since 1970.
    pub(crate) start: i64,
}

/// A cache of the dirty slices that one connection has committed in the current epoch.
#[derive(Debug, Default)]
pub(crate) struct CommittedDirtySlices {
    epoch: i64,
    slices: HashSet<UserSlice>,
}

impl CommittedDirtySlices {
    /// Slices in the cache, at most: about 20 bytes each, so 2 MB for each writer. A slice that was evicted from
    /// the cache is added to the table a second time, which costs no more than the first.
    const MAX_SLICES: usize = 100_000;

    /// Returns the slices that the transaction must add to `health_dirty` for these samples, ascending.
    pub(crate) fn missing<'a>(
        &self,
        threshold: Threshold,
        samples: impl Iterator<Item = &'a Sample>,
    ) -> Vec<UserSlice> {
        let mut slices: Vec<UserSlice> = Vec::new();
        for sample in samples {
            // Samples come by user and time, so most lie in the slice of the one before: this keeps the vector short.
            if let Some(slice) = slice_if_older(sample, threshold.at)
                && slices.last() != Some(&slice)
            {
                slices.push(slice);
            }
        }
        if threshold.epoch == self.epoch {
            slices.retain(|slice| !self.slices.contains(slice));
        }
        slices.sort_unstable();
        slices.dedup();
        slices
    }

    /// Notes that the transaction that added these slices has been committed.
    pub(crate) fn committed(&mut self, threshold: Threshold, slices: Vec<UserSlice>) {
        if slices.is_empty() {
            return;
        }
        if threshold.epoch != self.epoch || self.slices.len() + slices.len() > Self::MAX_SLICES {
            self.slices.clear();
        }
        self.epoch = threshold.epoch;
        if slices.len() <= Self::MAX_SLICES {
            self.slices.extend(slices);
        }
    }
}

/// Adds slices to `health_dirty`.
pub(crate) async fn insert(
    session: &mut Session,
    threshold: Threshold,
    slices: &[UserSlice],
) -> Result<(), tokio_postgres::Error> {
    if slices.is_empty() {
        return Ok(());
    }
    let (users, starts): (Vec<i64>, Vec<_>) = slices.iter().map(|slice| (slice.user, Micros(slice.start))).unzip();
    let statement = session.prepare(INSERT).await?;
    session
        .client()
        .execute(&statement, &[&users, &starts, &threshold.epoch])
        .await?;
    Ok(())
}

/// Returns the number of rows in `health_dirty`, or `most` if there are more.
pub(crate) async fn count(session: &mut Session, most: i64) -> Result<i64, StoreError> {
    let statement = session.prepare(COUNT).await?;
    Ok(session.client().query_one(&statement, &[&most]).await?.get(0))
}

/// Removes dirty slices of epochs before `epoch` that follow `after`, at most `rows_max` rows of the table or a few
/// more. Returns the slices, ascending, each once. The caller holds the lock of rollers and erasers.
pub(crate) async fn remove(
    session: &mut Session,
    epoch: i64,
    after: UserSlice,
    rows_max: i64,
) -> Result<Vec<UserSlice>, StoreError> {
    let tables = session.tables();
    let statement = session.prepare(tables.shape(REMOVE_LOCAL, FIRST)).await?;
    let start = Micros(after.start);
    let params: [&(dyn ToSql + Sync); 4] = [&after.user, &start, &rows_max, &epoch];
    let rows = session.client().query(&statement, &params).await?;
    let slice = |row: &Row| UserSlice {
        user: row.get(0),
        start: row.get::<_, Micros>(1).0,
    };
    let mut slices: Vec<_> = rows.iter().map(slice).collect();
    slices.sort_unstable();
    slices.dedup();
    if let (Tables::Distributed, Some(last)) = (tables, slices.last()) {
        let users: Vec<_> = slices.iter().map(|slice| slice.user).collect();
        let statement = session.prepare(REMOVE_RANGE).await?;
        let (users, end) = (distinct(&users), Micros(last.start));
        let params: [&(dyn ToSql + Sync); 6] = [&users, &after.user, &start, &last.user, &end, &epoch];
        session.client().execute(&statement, &params).await?;
    }
    Ok(slices)
}

/// Returns the slice of a sample that is older than the threshold.
fn slice_if_older(sample: &Sample, threshold: i64) -> Option<UserSlice> {
    let at = sample.timestamp().timestamp_micros();
    (at < threshold).then(|| UserSlice {
        user: sample.user_id().get(),
        start: Grain::Slice.floor(at),
    })
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::sample::{HeartRate, Readings, Source, UserId};

    fn sample(user: i64, minute: i64) -> Sample {
        let readings = Readings {
            heart_rate: HeartRate::new(60.0).ok(),
            ..Readings::default()
        };
        let time = Sample::EARLIEST + TimeDelta::minutes(minute);
        Sample::new(UserId::new(user).unwrap(), time, Source::default(), readings).unwrap()
    }

    #[test]
    fn a_slice_older_than_the_threshold_is_added_once_an_epoch() {
        let micros = |minute: i64| (Sample::EARLIEST + TimeDelta::minutes(minute)).timestamp_micros();
        let slice = |minute: i64| UserSlice {
            user: 1,
            start: micros(minute),
        };
        let threshold = |epoch| Threshold { at: micros(31), epoch };
        let samples = [sample(1, 0), sample(1, 14), sample(1, 30), sample(1, 31), sample(2, 45)];
        let mut committed = CommittedDirtySlices::default();

        let missing = committed.missing(threshold(1), samples.iter());
        assert_eq!(missing, [slice(0), slice(30)]);
        committed.committed(threshold(1), missing);
        assert_eq!(committed.missing(threshold(1), samples.iter()), []);
        let more = [sample(1, 20), sample(1, 1)];
        assert_eq!(committed.missing(threshold(1), more.iter()), [slice(15)]);
        assert_eq!(committed.missing(threshold(2), samples.iter()), [slice(0), slice(30)]);
    }
}
