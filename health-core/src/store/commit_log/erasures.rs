//! Erasures in the commit log: a record for each, and a row of `health_erasures` that says what was erased.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use tokio_postgres::{Row, types::ToSql};

use crate::{
    erasure::Erasure,
    range::TimeRange,
    sample::{Source, UserId},
    store::{
        commit_log::{APPEND, COMMIT_LOCK, CommitRecord},
        connection::Session,
        error::StoreError,
        micros::Micros,
        prepared::{self, Rows},
        required_version::KNOWN_VERSION,
        tables::Tables,
    },
};

/// Erasures by the numbers of their commits.
pub(crate) type Erasures = BTreeMap<i64, Arc<Erasure>>;

/// An erasure that was committed.
#[derive(Debug, Clone)]
pub(crate) struct ErasureCommit {
    pub(crate) record: CommitRecord,
    /// The writer id of the record before it.
    pub(crate) previous_writer_id: i64,
    pub(crate) erasure: Arc<Erasure>,
    /// How many samples were erased.
    pub(crate) samples: u64,
}

/// Takes a batch number. No row has an id with it: the number is only a part of the record's batch key.
const NEXT_BATCH_NUMBER: &str = "SELECT nextval('health_batch_numbers')";

/// Describes the erasure of the record that [`APPEND`] has just added. It finds the number by the key of the record, so
/// that both statements can be sent at once.
const INSERT: &str = "INSERT INTO health_erasures (number, erased_user, range_start, range_end, source) \
     SELECT number, $3, $4, $5, $6 FROM health_commits WHERE writer = $1 AND batch = $2";

/// Reads the erasures of some commits that follow each other.
const OF_NUMBERS: &str = "SELECT number, erased_user, range_start, range_end, source FROM health_erasures \
     WHERE number >= $1 AND number <= $2 ORDER BY number";

/// Deletes the erasures whose records are no longer in the log.
const PRUNE: &str = "DELETE FROM health_erasures WHERE number < \
     least((SELECT first_number FROM health_commit_packs ORDER BY last_number LIMIT 1), \
     (SELECT number FROM health_commits ORDER BY number LIMIT 1))";

/// The statements that end an erasing transaction.
pub(crate) struct ErasureAppend {
    record: CommitRecord,
    erasure: Arc<Erasure>,
}

impl ErasureAppend {
    /// Takes a batch number for the record.
    pub(crate) async fn new(session: &mut Session, erasure: Erasure) -> Result<Self, StoreError> {
        let statement = session.prepare(NEXT_BATCH_NUMBER).await?;
        let batch_number = session.client().query_one(&statement, &[]).await?.get(0);
        Ok(Self {
            record: CommitRecord {
                number: 0,
                batch_number,
                // As random as that of a writer's connection. No other transaction has it.
                writer_id: fastrand::i64(1..),
                rows: 0,
                is_erasure: true,
            },
            erasure: Arc::new(erasure),
        })
    }

    /// Takes the commit lock, runs `delete` again, and appends the record, all in one round trip. If the tables are
    /// distributed, it takes the lock in a round trip before, and fails if a commit of the user's samples is
    /// incomplete. Returns how many samples `delete` has deleted, and the writer id of the record before.
    ///
    /// While the lock is held, no other transaction commits. So `delete` finds the samples that others have committed
    /// since it ran before, and later commits come after the record.
    pub(crate) async fn append(
        &mut self,
        session: &mut Session,
        delete: (&'static str, &[&(dyn ToSql + Sync)]),
    ) -> Result<(u64, i64), StoreError> {
        let lock = session.prepare(COMMIT_LOCK).await?;
        if session.tables() == Tables::Distributed {
            // The record of a commit before this one may be visible although its samples cannot be deleted yet.
            session.client().execute(&lock, &[]).await?;
            if !prepared::have_ended(session, Rows::Of(self.erasure.user_id())).await? {
                return Err(StoreError::LeftPrepared);
            }
        }
        let delete_again = session.prepare(delete.0).await?;
        let append = session.prepare(APPEND).await?;
        let insert = session.prepare(INSERT).await?;
        let client = session.client();
        let CommitRecord {
            batch_number,
            writer_id,
            ..
        } = self.record;
        let user = self.erasure.user_id().get();
        let (start, end) = self.erasure.range().map(|range| (range.start(), range.end())).unzip();
        let source = self.erasure.source().map(Source::as_str);
        let no_keys: &[u8] = &[];
        let record: [&(dyn ToSql + Sync); 6] = [
            &batch_number,
            &writer_id,
            &None::<i32>,
            &None::<Micros>,
            &KNOWN_VERSION,
            &no_keys,
        ];
        let described: [&(dyn ToSql + Sync); 6] = [&writer_id, &batch_number, &user, &start, &end, &source];
        let (locked, limited, deleted, appended, inserted) = futures_util::join!(
            client.execute(&lock, &[]),
            client.batch_execute(ROW_LOCK_TIMEOUT),
            client.execute(&delete_again, delete.1),
            client.query_one(&append, &record),
            client.execute(&insert, &described),
        );
        locked?;
        limited?;
        let deleted = deleted?;
        let appended = appended?;
        inserted?;
        self.record.number = appended.get(0);
        Ok((deleted, appended.get(1)))
    }

    /// Returns the commit, after it has succeeded.
    pub(crate) fn committed(self, previous_writer_id: i64, samples: u64) -> ErasureCommit {
        ErasureCommit {
            record: self.record,
            previous_writer_id,
            erasure: self.erasure,
            samples,
        }
    }
}

/// How long an erasure waits for a row while it holds the commit lock. A writer that has changed the row may wait for
/// that lock, so waiting longer would not help. The eraser begins again then.
const ROW_LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '20ms'";

/// Reads the erasures of those records that are erasures. Returns `None` if one is missing: it was pruned meanwhile, or
/// deleted by hand.
pub(crate) async fn of_records(
    session: &mut Session,
    records: &[CommitRecord],
) -> Result<Option<Erasures>, StoreError> {
    let mut numbers = records
        .iter()
        .filter(|record| record.is_erasure)
        .map(|record| record.number);
    let Some(first) = numbers.next() else {
        return Ok(Some(Erasures::new()));
    };
    let count = 1 + numbers.clone().count();
    let last = numbers.next_back().unwrap_or(first);
    let statement = session.prepare(OF_NUMBERS).await?;
    let rows = session.client().query(&statement, &[&first, &last]).await?;
    let erasures = rows.iter().map(numbered).collect::<Result<Erasures, _>>()?;
    Ok((erasures.len() == count).then_some(erasures))
}

/// Deletes the erasures whose records were pruned.
pub(crate) async fn prune(session: &mut Session) -> Result<(), StoreError> {
    let statement = session.prepare(PRUNE).await?;
    session.client().execute(&statement, &[]).await?;
    Ok(())
}

fn numbered(row: &Row) -> Result<(i64, Arc<Erasure>), StoreError> {
    let erasure = erasure(row).ok_or(StoreError::InvalidErasure)?;
    Ok((row.get(0), Arc::new(erasure)))
}

fn erasure(row: &Row) -> Option<Erasure> {
    let user = UserId::new(row.get(1)).ok()?;
    let (start, end): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) = (row.get(2), row.get(3));
    let Some((start, end)) = start.zip(end) else {
        return Some(Erasure::of_user(user));
    };
    // A database with the encoding `SQL_ASCII` may contain bytes that are not UTF-8, from another program.
    let source: Option<&str> = row.try_get(4).ok()?;
    let source = source.map(Source::new).transpose().ok()?;
    Some(Erasure::of_range(user, TimeRange::new(start, end).ok()?, source))
}
