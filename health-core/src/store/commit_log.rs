//! The commit log: one record for each transaction that changed samples, in the order in which they became visible.
//!
//! # Numbers
//!
//! A writer takes the number of its commit as the last thing before `COMMIT`, under a lock that PostgreSQL releases
//! only after the transaction is visible. So a session that sees number *n* sees every number below it, and a
//! transaction that is rolled back leaves no number unused. Only commits wait for each other here, not the work before
//! them.
//!
//! # Positions
//!
//! A [`LogPosition`] is a number and a fingerprint of the record's writer. A writer id is random and belongs to one
//! connection to one PostgreSQL process. If the database is put back to an earlier state, the numbers after that state
//! are given again, but to other writers. So a position of the lost history is recognised, however far the new history
//! has grown.
//!
//! # Packs
//!
//! Records that are some minutes old are moved to `health_commit_packs`, up to [`PACK_RECORDS`] in one row, without
//! losing anything: see [`codec`].
//!
//! # Row keys
//!
//! A record names the rows of its commit by their keys, see [`row_keys`]. The feed reads the keys together with the
//! rows, not with the records, because a replay whose subscriber has stopped keeps records in memory.
//!
//! # Erasures
//!
//! A transaction that erased samples has a record too. Its number of rows is NULL, so that a server of a version
//! without erasures fails at the record and does not skip it. In a pack, the version byte has the same effect. A row of
//! `health_erasures` says what was erased, see [`erasures`].

pub(crate) mod codec;
pub(crate) mod erasures;
pub(crate) mod row_keys;
mod varint;

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::{Row, error::SqlState, types::ToSql};

use crate::store::{
    batch_key::BatchKey,
    commit_log::erasures::Erasures,
    connection::Session,
    error::StoreError,
    micros::Micros,
    required_version::{self, KNOWN_VERSION},
    transaction::Transaction,
};

/// One committed transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommitRecord {
    pub(crate) number: i64,
    /// The batch number. The transaction's rows have the ids from `batch_number << BATCH_BITS` on.
    pub(crate) batch_number: i64,
    pub(crate) writer_id: i64,
    /// How many rows the transaction wrote; 0 for a fence and for an erasure.
    pub(crate) rows: i32,
    /// Whether the transaction erased samples.
    pub(crate) is_erasure: bool,
}

/// A position in the commit log: everything up to this record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogPosition {
    pub(crate) number: i64,
    pub(crate) fingerprint: u32,
}

/// What the commit log holds after a position.
#[derive(Debug)]
pub(crate) enum LogPage {
    /// The position is in the log. These records follow it, and none is missing.
    Records {
        records: Vec<CommitRecord>,
        /// The erasures of those records that are erasures.
        erasures: Erasures,
        /// Whether the first of them is older than the replay window.
        is_too_old: bool,
    },
    /// The position is older than everything in the log.
    Pruned,
    /// The log has no such record: the position belongs to another history of the database, or to another database.
    OtherHistory,
}

/// How many bits of an `id` count the rows of one batch; the others are the batch number.
pub(crate) const BATCH_BITS: u32 = 20;

/// The most rows of a batch.
pub(crate) const BATCH_ROWS_MAX: i64 = 1 << BATCH_BITS;

/// The most records of one pack. To find one record, a session reads the whole pack, so they must not be too many. Each
/// pack is a row of a table, so they must not be too few.
const PACK_RECORDS: i64 = 1_000;

/// A pack ends with the record that brings the rows of its commits above this number. To find the keys of one record, a
/// session reads those of all rows of the pack.
const PACK_ROWS: i64 = 20_000;

/// How old a record must be before it is packed, and a pack before it is deleted. Pollers read the log every second, so
/// they read most records before they are packed. A fence also finds its record in a pack.
const PACK_AFTER: Duration = Duration::from_mins(5);

/// Serialises the last statements of writers. In a statement of its own, so that [`APPEND`] takes its snapshot after
/// the lock is granted and sees the newest record.
pub(crate) const COMMIT_LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('health commit order'))";

/// Adds a record after the newest one. Must follow [`COMMIT_LOCK`] in the same transaction.
///
/// `ORDER BY number DESC LIMIT 1` reads the end of the primary key: one probe, however long the log is. The outer join
/// gives a number also if the log is empty. The next batch number comes with the answer, so that a small transaction
/// needs no round trip for it.
///
/// `$6` are the keys of the rows, see [`row_keys`].
///
/// If the oldest timestamp `$4` is given and the threshold is later, or a program must know a newer migration than
/// `$5`, there is no record: [`INSERT_RECENT`](crate::store::write) has stored nothing then, and a record would say
/// that it did.
pub(crate) const APPEND: &str = "INSERT INTO health_commits (number, batch, writer, previous_writer, rows, keys) \
     SELECT coalesce(newest.number, 0) + 1, $1, $2, coalesce(newest.writer, 0), $3, $6 FROM (VALUES (1)) AS one \
     LEFT JOIN LATERAL (SELECT number, writer FROM health_commits ORDER BY number DESC LIMIT 1) AS newest ON true \
     WHERE $4::timestamptz IS NULL OR (SELECT threshold FROM health_sealing WHERE required_version <= $5) <= $4 \
     RETURNING number, previous_writer, nextval('health_batch_numbers')";

/// The newest record; it is never packed or deleted.
const NEWEST: &str = "SELECT number, batch, writer, rows FROM health_commits ORDER BY number DESC LIMIT 1";

/// Records and packs from a number on, in one snapshot, so that a record that is being packed is found in one of the
/// two.
///
/// The first half reads at most `$2` records from `$1` on. The second half reads at most two packs: the pack with `$1`
/// and the next one. If there are further packs, the records do not continue the second pack, and [`page`] stops
/// between the two. The outer order is explicit, because a union has none.
const PAGE: &str = "SELECT number, batch, writer, rows, is_old, records FROM ( \
     (SELECT number, batch, writer, rows, committed_at < now() - $3::bigint * interval '1 microsecond' AS is_old, NULL::bytea AS records \
     FROM health_commits WHERE number >= $1 ORDER BY number LIMIT $2) \
     UNION ALL (SELECT first_number, lowest_batch, 0, 0, last_committed < now() - $3::bigint * interval '1 microsecond', records \
     FROM health_commit_packs WHERE last_number >= $1 ORDER BY last_number LIMIT 2)) AS log ORDER BY number LIMIT $2";

/// The packs that [`PAGE`] reads.
const PAGE_PACKS: usize = 2;

/// The lowest number that the log still holds.
const OLDEST: &str = "SELECT least((SELECT first_number FROM health_commit_packs ORDER BY last_number LIMIT 1), \
     (SELECT number FROM health_commits ORDER BY number LIMIT 1))";

/// The lowest and the highest batch number among the records after a number, up to another.
#[cfg(feature = "embedded")]
const BATCH_RANGE: &str = "SELECT min(lowest), max(highest) FROM ( \
     SELECT min(batch) AS lowest, max(batch) AS highest FROM health_commits WHERE number > $1 AND number <= $2 \
     UNION ALL SELECT min(lowest_batch), max(highest_batch) FROM health_commit_packs \
     WHERE last_number > $1 AND first_number <= $2) AS log";

/// The record of a batch, and the packs that may hold it, in one snapshot. Only asked after a lost connection.
const RECORDS_OF_BATCH: &str = "SELECT number, rows, NULL::bytea FROM health_commits WHERE writer = $1 AND batch = $2 \
     UNION ALL SELECT first_number, 0, records FROM health_commit_packs WHERE lowest_batch <= $2 AND highest_batch >= $2";

/// Lets one server at a time pack and prune; the others skip it.
const TRY_MAINTENANCE_LOCK: &str = "SELECT pg_try_advisory_xact_lock(hashtext('health commit log'))";

/// Takes the records that are old enough out of the table, up to the first one that is not, and never the newest one.
/// So the numbers that stay follow each other, even if the clock has jumped.
///
/// The statement reads only the `$2` oldest records, at the start of the primary key, and takes all but the last of
/// them at most. It ends with the record that brings their rows above `$3`.
const TAKE_OLD: &str = "WITH oldest AS ( \
     SELECT number, committed_at < now() - $1::bigint * interval '1 microsecond' \
     AND sum(rows) OVER (ORDER BY number) - coalesce(rows, 0) <= $3 AS is_taken \
     FROM (SELECT number, committed_at, rows FROM health_commits ORDER BY number LIMIT $2) AS first) \
     DELETE FROM health_commits WHERE number < (SELECT coalesce(min(number) FILTER (WHERE NOT is_taken), max(number)) FROM oldest) \
     RETURNING number, batch, writer, rows, committed_at, keys";

const INSERT_PACK: &str = "INSERT INTO health_commit_packs \
     (last_number, first_number, lowest_batch, highest_batch, last_committed, records, keys) VALUES ($1, $2, $3, $4, $5, $6, $7)";

/// Deletes packs that no client can resume from any more.
///
/// The newest record that is older than the window stays, because a client that has received nothing since then resumes
/// from it. So a pack is deleted only if a later pack, or the oldest record outside the packs, is older than the window
/// as well.
const PRUNE: &str = "DELETE FROM health_commit_packs WHERE last_number < coalesce( \
     (SELECT number FROM (SELECT number, committed_at FROM health_commits ORDER BY number LIMIT 1) AS oldest \
     WHERE committed_at < now() - $1::bigint * interval '1 microsecond'), \
     (SELECT last_number FROM health_commit_packs WHERE last_committed < now() - $1::bigint * interval '1 microsecond' \
     ORDER BY last_number DESC LIMIT 1))";

impl LogPosition {
    /// The position before the first record.
    pub(crate) const START: Self = Self {
        number: 0,
        fingerprint: 0,
    };
}

impl CommitRecord {
    /// Returns the position of a subscriber that has everything up to this record.
    pub(crate) fn position(&self) -> LogPosition {
        LogPosition {
            number: self.number,
            // The record of a fence has the writer id of the batch that it keeps out. If the database was put back, the
            // lost history may hold that batch under the same number. So a fence has the high half of the id as its
            // fingerprint.
            fingerprint: fingerprint(if self.rows == 0 && !self.is_erasure {
                self.writer_id >> 32
            } else {
                self.writer_id
            }),
        }
    }
}

/// Returns the low 32 bits of a writer id, which a cursor carries. The id is random, so they are as good as a hash.
pub(crate) fn fingerprint(writer_id: i64) -> u32 {
    (writer_id & i64::from(u32::MAX)).try_into().unwrap_or_default()
}

/// Returns the position of the newest record.
pub(crate) async fn newest(session: &mut Session) -> Result<LogPosition, StoreError> {
    let statement = session.prepare(NEWEST).await?;
    let row = session.client().query_opt(&statement, &[]).await?;
    // Without any record everything is still to come.
    Ok(row.map_or(LogPosition::START, |row| record(&row).position()))
}

/// Returns the records after a position, at most `limit`.
///
/// `window` decides what is too old.
pub(crate) async fn page(
    session: &mut Session,
    from: LogPosition,
    limit: usize,
    window: Duration,
) -> Result<LogPage, StoreError> {
    let statement = session.prepare(PAGE).await?;
    let rows_max = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let params: [&(dyn ToSql + Sync); 3] = [&from.number, &rows_max, &micros(window)];
    let rows = session.client().query(&statement, &params).await?;
    let mut records: Vec<CommitRecord> = Vec::with_capacity(rows.len());
    let mut is_too_old = false;
    let mut is_complete = true;
    let mut packs = 0;
    for row in &rows {
        let first_number: i64 = row.get(0);
        if records.last().is_some_and(|last| last.number + 1 != first_number) {
            // There are further packs in between, or records were deleted by hand.
            is_complete = packs == PAGE_PACKS;
            break;
        }
        match row.get::<_, Option<&[u8]>>(5) {
            Some(pack) => {
                packs += 1;
                codec::decode(first_number, pack, &mut records).ok_or(StoreError::UnreadableCommitPack)?;
            }
            None => records.push(record(row)),
        }
        // The first record after the position decides, whichever row it is in.
        let last_number = records.last().map_or(0, |record| record.number);
        if last_number > from.number && first_number <= from.number + 1 {
            is_too_old |= row.get::<_, bool>(4);
        }
    }
    let first = match records.iter().position(|record| record.number == from.number) {
        Some(at) if records[at].position() == from => at + 1,
        Some(_) => return Ok(LogPage::OtherHistory),
        // Before the first record: the position of a log that was empty.
        None if from == LogPosition::START && records.first().is_none_or(|first| first.number == 1) => 0,
        None => return missing(session, from).await,
    };
    // A copy, because a pack is longer than the page, and a subscriber that has stopped keeps the page.
    let records: Vec<_> = records[first..].iter().take(limit).copied().collect();
    if records.is_empty() && !is_complete {
        return Ok(LogPage::Pruned);
    }
    Ok(match erasures::of_records(session, &records).await? {
        Some(erasures) => LogPage::Records {
            records,
            erasures,
            is_too_old,
        },
        None => LogPage::Pruned,
    })
}

/// Says why the log does not hold a position.
async fn missing(session: &mut Session, from: LogPosition) -> Result<LogPage, StoreError> {
    let statement = session.prepare(OLDEST).await?;
    let row = session.client().query_one(&statement, &[]).await?;
    let oldest: Option<i64> = row.get(0);
    Ok(match oldest {
        Some(oldest) if from.number < oldest && (from.number > 0 || from == LogPosition::START) => LogPage::Pruned,
        _ => LogPage::OtherHistory,
    })
}

/// Returns the lowest and the highest batch number among the records after `from` up to `to`; `None` if there are none.
#[cfg(feature = "embedded")]
pub(crate) async fn batch_range(session: &mut Session, from: i64, to: i64) -> Result<Option<(i64, i64)>, StoreError> {
    let statement = session.prepare(BATCH_RANGE).await?;
    let row = session.client().query_one(&statement, &[&from, &to]).await?;
    let (lowest, highest): (Option<i64>, Option<i64>) = (row.get(0), row.get(1));
    Ok(lowest.zip(highest))
}

/// Makes sure that a batch is either committed or never will be. Returns true if it was committed.
///
/// Adds a record without rows, with the batch key of the lost transaction. There are three cases:
///
/// * The log has no record with the key. When the record without rows is committed, the key is taken, and the lost
///   transaction can never commit.
/// * The log has a record with the key. With rows, it is the record of the batch. Without rows, an earlier call added
///   it and lost its own answer.
/// * Another transaction is adding a record with the key. PostgreSQL lets this one wait until the other has ended.
///
/// The packs are read after the insert: if the record was moved to a pack meanwhile, that pack is visible by then.
///
/// # Errors
/// Those of PostgreSQL. Then the outcome is still open; call again.
pub(crate) async fn fence(session: &mut Session, key: BatchKey) -> Result<bool, StoreError> {
    let BatchKey {
        writer_id,
        batch_number,
    } = key;
    let append = session.prepare(APPEND).await?;
    let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '1s'; {COMMIT_LOCK}");
    let mut transaction = Transaction::begin(session, &begin).await?;
    let no_keys: &[u8] = &[];
    let params: [&(dyn ToSql + Sync); 6] = [
        &batch_number,
        &writer_id,
        &0_i32,
        &None::<Micros>,
        &KNOWN_VERSION,
        &no_keys,
    ];
    match transaction.client().execute(&append, &params).await {
        Ok(_) => {}
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
            drop(transaction);
            return has_rows(session, key).await;
        }
        Err(error) => return Err(error.into()),
    }
    if has_rows(&mut transaction, key).await? {
        return Ok(true);
    }
    transaction.commit().await?;
    Ok(false)
}

/// Returns whether the log holds the record of the batch itself: it has rows, the record of a fence has none.
async fn has_rows(session: &mut Session, key: BatchKey) -> Result<bool, StoreError> {
    let BatchKey {
        writer_id,
        batch_number,
    } = key;
    let statement = session.prepare(RECORDS_OF_BATCH).await?;
    let mut packed = Vec::new();
    for row in session.client().query(&statement, &[&writer_id, &batch_number]).await? {
        match row.get::<_, Option<&[u8]>>(2) {
            Some(pack) => codec::decode(row.get(0), pack, &mut packed).ok_or(StoreError::UnreadableCommitPack)?,
            None if row.get::<_, Option<i32>>(1).is_some_and(|rows| rows > 0) => return Ok(true),
            None => {}
        }
    }
    let is_batch =
        |record: &CommitRecord| (record.writer_id, record.batch_number) == (writer_id, batch_number) && record.rows > 0;
    Ok(packed.iter().any(is_batch))
}

/// Packs old records and deletes packs that are older than the replay window. Returns whether there may be more to do.
///
/// One server at a time does this. If another one is at work, the call does nothing.
pub(crate) async fn maintain(session: &mut Session, window: Duration) -> Result<bool, StoreError> {
    let lock = session.prepare(TRY_MAINTENANCE_LOCK).await?;
    let take = session.prepare(TAKE_OLD).await?;
    let insert = session.prepare(INSERT_PACK).await?;
    let prune = session.prepare(PRUNE).await?;
    let mut transaction = Transaction::begin(session, "BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    let client = transaction.client();
    if !client.query_one(&lock, &[]).await?.get::<_, bool>(0) {
        return Ok(false);
    }
    required_version::check_now(&mut transaction).await?;
    let client = transaction.client();
    let params: [&(dyn ToSql + Sync); 3] = [&micros(PACK_AFTER), &(PACK_RECORDS + 1), &PACK_ROWS];
    let mut rows = client.query(&take, &params).await?;
    rows.sort_by_key(|row| row.get::<_, i64>(0));
    let records: Vec<_> = rows.iter().map(record).collect();
    if let (Some(first), Some(last)) = (records.first(), records.last()) {
        let lowest = records
            .iter()
            .map(|record| record.batch_number)
            .min()
            .unwrap_or_default();
        let highest = records
            .iter()
            .map(|record| record.batch_number)
            .max()
            .unwrap_or_default();
        let times = rows.iter().map(|row| row.get::<_, DateTime<Utc>>(4));
        let committed_at = times.max();
        let encoded = codec::encode(&records);
        let mut keys = Vec::new();
        for row in &rows {
            row_keys::pack(&mut keys, row.get(5));
        }
        let params: [&(dyn ToSql + Sync); 7] = [
            &last.number,
            &first.number,
            &lowest,
            &highest,
            &committed_at,
            &encoded,
            &keys,
        ];
        client.execute(&insert, &params).await?;
    }
    client.execute(&prune, &[&micros(window.max(PACK_AFTER))]).await?;
    erasures::prune(&mut transaction).await?;
    transaction.commit().await?;
    let rows: i64 = records.iter().map(|record| i64::from(record.rows)).sum();
    Ok(rows > PACK_ROWS || i64::try_from(records.len()).is_ok_and(|count| count == PACK_RECORDS))
}

/// The record of a row that begins with number, batch, writer and rows.
fn record(row: &Row) -> CommitRecord {
    let rows: Option<i32> = row.get(3);
    CommitRecord {
        number: row.get(0),
        batch_number: row.get(1),
        writer_id: row.get(2),
        rows: rows.unwrap_or_default(),
        is_erasure: rows.is_none(),
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
