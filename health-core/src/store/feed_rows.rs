//! The rows that the feed reads back from the table: those of commits without kept samples, and those of replays.
//!
//! The commit log names the rows of each commit by their [keys](row_keys). So the cost of reading a commit depends on
//! the number of its rows, not on the size of the table, and for a subscriber of some users only on the number of their
//! rows.

use std::{collections::HashMap, ops::Range};

use futures_util::future::try_join_all;
use tokio_postgres::{Row, Statement, types::ToSql};

use crate::{
    sample::{Sample, UserId},
    store::{
        client::SessionClient,
        columns::{at, distinct},
        commit_log::{
            BATCH_BITS, CommitRecord,
            row_keys::{self, RowKey},
        },
        connection::Session,
        error::StoreError,
        micros::Micros,
        rows,
        shards::by_shard,
        tables::Tables,
    },
};

/// Finds rows by their keys. A key also finds rows of other sources.
pub(super) const ROWS_LOCAL: &str = "SELECT m.id, m.user_id, m.timestamp, m.source, m.heart_rate, m.steps, m.calories \
     FROM unnest($1::bigint[], $2::timestamptz[]) AS keys (user_id, timestamp) \
     JOIN health_metrics m ON m.user_id = keys.user_id AND m.timestamp = keys.timestamp";

/// The same for the users of one shard. The statement names these users, so that Citus asks only this shard.
const ROWS_OF_SHARD: &str = "SELECT m.id, m.user_id, m.timestamp, m.source, m.heart_rate, m.steps, m.calories \
     FROM unnest($1::bigint[], $2::timestamptz[]) AS keys (user_id, timestamp) \
     JOIN health_metrics m ON m.user_id = keys.user_id AND m.timestamp = keys.timestamp \
     WHERE m.user_id = ANY($3::bigint[])";

/// The most keys of one statement, so that neither its plan nor its time depends on the size of a commit.
const KEYS_AT_ONCE: usize = 10_000;

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

/// Returns the rows that some commits wrote, in the order of the commits, then of ids.
///
/// If `users` are given, which must be sorted, returns only their rows. `part` chooses rows of each batch by their
/// places, counted from 0; `None` stands for all rows. A row that a later commit has changed again is left out, because
/// it belongs to that commit. Returns `None` if the commit log does not hold all of the commits any more, or does not
/// say which rows they wrote.
pub(crate) async fn rows(
    session: &mut Session,
    records: &[CommitRecord],
    part: Option<&Range<i64>>,
    users: Option<&[UserId]>,
) -> Result<Option<Vec<FeedRow>>, StoreError> {
    let with_rows: Vec<_> = records.iter().filter(|record| record.rows > 0).copied().collect();
    let Some(keys) = row_keys::of_records(session, &with_rows).await? else {
        return Ok(None);
    };
    let is_wanted =
        |key: &&RowKey| users.is_none_or(|users| users.binary_search_by_key(&key.user_id, |user| user.get()).is_ok());
    let mut wanted: Vec<RowKey> = keys
        .iter()
        .flat_map(|keys| in_part(keys, part).iter().filter(is_wanted))
        .copied()
        .collect();
    // Several commits may have changed one row, and several sources may have one key.
    wanted.sort_unstable();
    wanted.dedup();
    let number_of: HashMap<i64, i64> = with_rows
        .iter()
        .map(|record| (record.batch_number, record.number))
        .collect();
    let is_of_records = |row: &FeedRow| {
        number_of.contains_key(&row.batch_number()) && part.is_none_or(|part| part.contains(&row.place()))
    };
    let mut rows = Vec::new();
    for keys in wanted.chunks(KEYS_AT_ONCE) {
        let found = find(session, keys).await?;
        rows.extend(found.iter().filter_map(feed_row).filter(is_of_records));
    }
    rows.sort_by_key(|row| (number_of.get(&row.batch_number()).copied(), row.id));
    Ok(Some(rows))
}

/// Returns the keys of the rows of a part: the writer has encoded the keys in the order of ids.
fn in_part<'a>(keys: &'a [RowKey], part: Option<&Range<i64>>) -> &'a [RowKey] {
    let Some(part) = part else { return keys };
    let [start, end] = [part.start, part.end].map(|place| usize::try_from(place).unwrap_or(usize::MAX).min(keys.len()));
    keys.get(start..end).unwrap_or_default()
}

/// Finds rows by their keys, in any order.
async fn find(session: &mut Session, keys: &[RowKey]) -> Result<Vec<Row>, tokio_postgres::Error> {
    let users: Vec<i64> = keys.iter().map(|key| key.user_id).collect();
    let times: Vec<Micros> = keys.iter().map(|key| Micros(key.timestamp)).collect();
    if session.tables() == Tables::Local {
        let statement = session.prepare(ROWS_LOCAL).await?;
        return session.client().query(&statement, &[&users, &times]).await;
    }
    let groups = by_shard(session, &users).await?;
    let statement = session.prepare(ROWS_OF_SHARD).await?;
    let client = session.client();
    let of_shards: Vec<_> = groups
        .iter()
        .map(|group| (at(&users, group), at(&times, group)))
        .collect();
    let asking = of_shards
        .iter()
        .map(|(users, times)| find_of_shard(client, &statement, users, times));
    Ok(try_join_all(asking).await?.into_iter().flatten().collect())
}

async fn find_of_shard(
    client: &SessionClient,
    statement: &Statement,
    users: &[i64],
    times: &[Micros],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let named = distinct(users);
    let params: [&(dyn ToSql + Sync); 3] = [&users, &times, &named];
    client.query(statement, &params).await
}

/// Returns whether `rows` are all rows that these commits wrote.
pub(crate) fn are_complete(records: &[CommitRecord], rows: &[FeedRow]) -> bool {
    let written: i64 = records.iter().map(|record| i64::from(record.rows)).sum();
    i64::try_from(rows.len()) == Ok(written)
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
