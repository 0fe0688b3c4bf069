//! Writes one batch in one transaction: looks up the rows that may exist and writes only what is new or different.
//!
//! The transaction locks no row in advance. If another server changes one of the rows after the look-up, the
//! transaction notices: by a duplicate key, or by an update that finds other values than those looked up. It is
//! then rolled back, and the caller plans the batch again from the rows stored by then. So the counts are exact,
//! and unchanged rows cost no write.
//!
//! What a writer waits for:
//!
//! * a session that changes the threshold or the epoch, see [`dirty_slices`]. It waits at most a second for other
//!   writers, and new writers wait that long behind it;
//! * a transaction of another server that has inserted or changed the same row and has not ended;
//! * a lock on the whole table, for example of `ALTER TABLE`;
//! * at the commit, the disk, and a synchronous standby if there is one.

use std::iter;

use tokio_postgres::{Row, error::SqlState, types::ToSql};

use crate::{
    batch::{Batch, Update, WritePlan},
    sample::Sample,
    store::{
        columns::{ReadingColumns, SampleColumns},
        commit_outcome::CommitRecord,
        connection::Session,
        copy::copy,
        dirty_slices::{self, CommittedDirtySlices, Threshold},
        look_up::{StoredReadings, fill_cache, look_up},
        micros::Micros,
        newest_timestamps::{LookUp, NewestTimestamps, Novelty},
        transaction::Transaction,
    },
};

/// Reads a lower bound of the ids that the transaction will get, the threshold and the epoch.
///
/// The sequence never gives an `id` at or below its last value; a new sequence has given none, so the bound is 0.
/// The outer join returns a row also if `health_sealing` is empty.
const READ_START: &str = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END, threshold, epoch \
     FROM health_metrics_id_seq LEFT JOIN health_sealing ON true";

/// Inserts new rows from one array a column: one statement and one plan for any number of rows. There is no
/// `ON CONFLICT`, because a duplicate key must stop the transaction: the plan is out of date then.
const INSERT: &str = "INSERT INTO health_metrics (user_id, timestamp, heart_rate, steps, calories, source) \
     SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::double precision[], $4::integer[], \
     $5::double precision[], $6::text[])";

/// Changes rows that still hold the values that were looked up.
///
/// The `ctid` from the look-up finds each row without a second search of the key. A row that is no longer at that
/// location, or holds other values, is not changed, so the count of changed rows is too low and the caller notices.
/// The row gets a new `id`, because the feed finds changed rows by id.
const UPDATE: &str = "UPDATE health_metrics m SET id = DEFAULT, \
     heart_rate = n.heart_rate, steps = n.steps, calories = n.calories \
     FROM unnest($1::bigint[], $2::timestamptz[], $3::double precision[], $4::integer[], \
     $5::double precision[], $6::text[], $7::double precision[], $8::integer[], $9::double precision[], $10::tid[]) \
     AS n (user_id, timestamp, heart_rate, steps, calories, source, old_heart_rate, old_steps, old_calories, location) \
     WHERE m.ctid = n.location AND m.user_id = n.user_id AND m.timestamp = n.timestamp AND m.source = n.source \
     AND m.heart_rate IS NOT DISTINCT FROM n.old_heart_rate AND m.steps IS NOT DISTINCT FROM n.old_steps \
     AND m.calories IS NOT DISTINCT FROM n.old_calories";

/// Adds the transaction to the commit log.
///
/// The feed reads new rows by it, and after a lost connection it tells how the commit ended. `currval` is the last
/// id that this session got, so the statement must come after the inserts and updates. The returned text identifies
/// the record.
pub(super) const INSERT_COMMIT_RECORD: &str = "INSERT INTO health_commits (first_id, last_id, writer) \
     VALUES ($1, currval('health_metrics_id_seq'), $2) RETURNING xid::text, committed_at::text";

/// Inserts a small batch of new samples together with its commit record, in one statement.
///
/// `$7` is the oldest timestamp of the batch. If the threshold is later, the statement inserts nothing and returns
/// no row, because the samples' slices would have to be added to `health_dirty`. The statement reads the threshold
/// itself: it runs after the statement that takes the threshold lock, so its snapshot is late enough.
const INSERT_RECENT: &str = "WITH new AS ( \
     INSERT INTO health_metrics (user_id, timestamp, heart_rate, steps, calories, source) \
     SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::double precision[], $4::integer[], \
     $5::double precision[], $6::text[]) \
     WHERE (SELECT threshold FROM health_sealing) <= $7 RETURNING id) \
     INSERT INTO health_commits (first_id, last_id, writer) \
     SELECT min(id) - 1, max(id), $8 FROM new HAVING count(*) > 0 \
     RETURNING xid::text, committed_at::text";

/// The number of new rows from which COPY is faster than an INSERT from arrays; found by measurement.
const COPY_FROM_ROWS: usize = 500;

/// Why a batch was not committed.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// Another server changed some of the rows meanwhile. Rolled back: plan again, and look up every sample.
    Conflict,
    /// Rolled back.
    Failed(tokio_postgres::Error),
    /// The connection was lost during the commit.
    Unknown {
        /// The record to ask about, see [`commit_outcome`](crate::store::commit_outcome::commit_outcome). `None` if the
        /// connection was lost before the record arrived: then there is no way to ask.
        record: Option<CommitRecord>,
        /// What happened to the connection.
        error: tokio_postgres::Error,
        /// What the transaction was to write.
        plan: WritePlan,
    },
}

/// A batch that was committed.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) plan: WritePlan,
    /// The transaction's row in the commit log; `None` if there was nothing to write.
    pub(crate) record: Option<CommitRecord>,
}

/// A writer's connection, with the dirty slices that it has committed.
pub(crate) struct WriterSession {
    session: Session,
    dirty_slices: CommittedDirtySlices,
}

impl WriterSession {
    /// Makes a writer's session of a connection.
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            dirty_slices: CommittedDirtySlices::default(),
        }
    }

    /// Returns whether the connection is lost.
    pub(crate) fn is_closed(&self) -> bool {
        self.session.client().is_closed()
    }

    /// Writes a batch in one transaction. After success all of it is durable, after [`WriteError::Failed`] none of it.
    pub(crate) async fn write(
        &mut self,
        cache: &mut NewestTimestamps,
        writer_id: i64,
        batch: &Batch,
        mode: LookUp,
    ) -> Result<Written, WriteError> {
        let written = if mode == LookUp::UnlessNew && is_small_and_new(batch, cache) {
            self.write_recent(cache, writer_id, batch).await?
        } else {
            self.write_any(cache, writer_id, batch, mode).await?
        };
        cache.stored(&written.plan.inserts);
        Ok(written)
    }

    /// Writes a small batch of new samples in one round trip, unless one of them is older than the threshold.
    async fn write_recent(
        &mut self,
        cache: &mut NewestTimestamps,
        writer_id: i64,
        batch: &Batch,
    ) -> Result<Written, WriteError> {
        let plan = batch.plan(iter::repeat(None));
        match self.insert_recent(writer_id, &plan.inserts).await {
            Ok(None) => self.write_any(cache, writer_id, batch, LookUp::UnlessNew).await,
            Ok(record) => Ok(Written { plan, record }),
            Err(failed) => Err(failed.with(plan)),
        }
    }

    /// Runs a whole transaction in one round trip. Returns `None` if it has written nothing, see [`INSERT_RECENT`].
    ///
    /// `COMMIT` is sent with the other statements. If one of them fails, PostgreSQL turns it into a rollback.
    async fn insert_recent(&mut self, writer_id: i64, samples: &[Sample]) -> Result<Option<CommitRecord>, CommitError> {
        let lock = self.session.prepare(dirty_slices::LOCK_SHARED).await;
        let lock = lock.map_err(CommitError::RolledBack)?;
        let insert = self.session.prepare(INSERT_RECENT).await;
        let insert = insert.map_err(CommitError::RolledBack)?;
        let client = self.session.client();
        let columns: SampleColumns<'_> = samples.iter().collect();
        let oldest = samples.iter().map(Sample::timestamp).min();
        let oldest = Micros(oldest.map_or(i64::MAX, |oldest| oldest.timestamp_micros()));
        let [user_id, timestamp, heart_rate, steps, calories, source] = columns.params();
        let params: [&(dyn ToSql + Sync); 8] = [
            user_id, timestamp, heart_rate, steps, calories, source, &oldest, &writer_id,
        ];
        let (opened, locked, inserted, committed) = futures_util::join!(
            client.batch_execute("BEGIN"),
            client.execute(&lock, &[]),
            client.query_opt(&insert, &params),
            client.batch_execute("COMMIT")
        );
        commit_result(opened.and(locked.map(drop)).and(inserted), committed)
    }

    /// Writes any batch, in two to seven round trips: each step that has nothing to do saves one.
    async fn write_any(
        &mut self,
        cache: &mut NewestTimestamps,
        writer_id: i64,
        batch: &Batch,
        mode: LookUp,
    ) -> Result<Written, WriteError> {
        let mut transaction = Transaction::pipelined(&mut self.session);
        let Start { first_id, threshold } = begin(&mut transaction).await?;
        if mode == LookUp::UnlessNew {
            fill_cache(&mut transaction, cache, batch).await?;
        }
        let stored = look_up(&mut transaction, cache, batch, mode).await?;
        let plan = batch.plan(stored.iter().map(|row| row.map(|row| row.readings)));

        let use_copy = plan.inserts.len() >= COPY_FROM_ROWS;
        if use_copy {
            copy(&mut transaction, &plan.inserts).await?;
        }
        update(&mut transaction, &plan.updates, &stored).await?;
        let updated = plan.updates.iter().map(|update| &update.after);
        let slices = self.dirty_slices.missing(threshold, plan.inserts.iter().chain(updated));
        dirty_slices::insert(&mut transaction, threshold, &slices).await?;
        let inserts = if use_copy { &[] } else { plan.inserts.as_slice() };
        let committed = if plan.is_empty() {
            commit_nothing(&transaction).await
        } else {
            insert_and_commit(&mut transaction, writer_id, first_id, inserts).await
        };
        match committed {
            Ok(record) => {
                transaction.committed();
                self.dirty_slices.committed(threshold, slices);
                Ok(Written { plan, record })
            }
            Err(failed) => Err(failed.with(plan)),
        }
    }
}

impl From<tokio_postgres::Error> for WriteError {
    fn from(error: tokio_postgres::Error) -> Self {
        // Citus reports a duplicate key that a worker finds during COPY as an internal error.
        let is_duplicate_key = error.code() == Some(&SqlState::UNIQUE_VIOLATION)
            || error.as_db_error().is_some_and(|refusal| {
                refusal.code() == &SqlState::INTERNAL_ERROR && refusal.message().contains("duplicate key")
            });
        if is_duplicate_key {
            Self::Conflict
        } else {
            Self::Failed(error)
        }
    }
}

/// Returns whether a batch can be written by [`INSERT_RECENT`]: too few rows for COPY, and all new by the cache.
fn is_small_and_new(batch: &Batch, cache: &NewestTimestamps) -> bool {
    batch.len() < COPY_FROM_ROWS
        && batch
            .by_identity()
            .all(|writes| cache.novelty(writes.first().identity()) == Novelty::New)
}

/// What a transaction reads first.
struct Start {
    /// Every id that the transaction gets is greater.
    first_id: i64,
    threshold: Threshold,
}

/// Opens the transaction: three statements, one round trip.
async fn begin(session: &mut Session) -> Result<Start, tokio_postgres::Error> {
    let lock = session.prepare(dirty_slices::LOCK_SHARED).await?;
    let read_start = session.prepare(READ_START).await?;
    let client = session.client();
    let (opened, locked, row) = futures_util::join!(
        client.batch_execute("BEGIN"),
        client.execute(&lock, &[]),
        client.query_one(&read_start, &[])
    );
    let row = opened.and(locked).and(row)?;
    Ok(Start {
        first_id: row.get(0),
        threshold: Threshold {
            // If the threshold is unknown, every slice counts as older: slow, but right.
            at: row.get::<_, Option<Micros>>(1).map_or(i64::MAX, |Micros(at)| at),
            epoch: row.get::<_, Option<i64>>(2).unwrap_or_default(),
        },
    })
}

/// Updates the rows that differ; [`WriteError::Conflict`] if another server has changed one of them.
async fn update(
    session: &mut Session,
    updates: &[Update],
    stored: &[Option<StoredReadings>],
) -> Result<(), WriteError> {
    if updates.is_empty() {
        return Ok(());
    }
    let new: SampleColumns<'_> = updates.iter().map(|update| &update.after).collect();
    let mut old = ReadingColumns::default();
    let mut locations = Vec::with_capacity(updates.len());
    for update in updates {
        old.push(update.before);
        locations.push(stored.get(update.position).copied().flatten().map(|row| row.ctid));
    }
    let statement = session.prepare(UPDATE).await?;
    let [user_id, timestamp, heart_rate, steps, calories, source] = new.params();
    let params: [&(dyn ToSql + Sync); 10] = [
        user_id,
        timestamp,
        heart_rate,
        steps,
        calories,
        source,
        &old.heart_rate,
        &old.steps,
        &old.calories,
        &locations,
    ];
    let changed = session.client().execute(&statement, &params).await?;
    if usize::try_from(changed) == Ok(updates.len()) {
        Ok(())
    } else {
        Err(WriteError::Conflict)
    }
}

/// Why a commit was not confirmed.
enum CommitError {
    /// The transaction was rolled back.
    RolledBack(tokio_postgres::Error),
    /// The transaction may have been committed.
    Unknown {
        record: Option<CommitRecord>,
        error: tokio_postgres::Error,
    },
}

impl CommitError {
    fn with(self, plan: WritePlan) -> WriteError {
        match self {
            Self::RolledBack(error) => error.into(),
            Self::Unknown { record, error } => WriteError::Unknown { record, error, plan },
        }
    }
}

/// Ends a transaction that has written nothing. If the answer is lost, nothing is lost with it.
async fn commit_nothing(session: &Session) -> Result<Option<CommitRecord>, CommitError> {
    let committed = session.client().batch_execute("COMMIT").await;
    committed.map(|()| None).map_err(CommitError::RolledBack)
}

/// Inserts the rows that are too few for COPY, adds the commit record and commits: three statements, one round trip.
///
/// If a statement fails, PostgreSQL refuses the later ones and turns the commit into a rollback.
async fn insert_and_commit(
    session: &mut Session,
    writer_id: i64,
    first_id: i64,
    samples: &[Sample],
) -> Result<Option<CommitRecord>, CommitError> {
    let insert = session.prepare(INSERT).await.map_err(CommitError::RolledBack)?;
    let record = session.prepare(INSERT_COMMIT_RECORD).await;
    let record = record.map_err(CommitError::RolledBack)?;
    let client = session.client();
    let columns: SampleColumns<'_> = samples.iter().collect();
    let insert_params = columns.params();
    let record_params: [&(dyn ToSql + Sync); 2] = [&first_id, &writer_id];
    let inserting = async {
        if samples.is_empty() {
            Ok(0)
        } else {
            client.execute(&insert, &insert_params).await
        }
    };
    let (inserted, recorded, committed) = futures_util::join!(
        inserting,
        client.query_opt(&record, &record_params),
        client.batch_execute("COMMIT")
    );
    commit_result(inserted.and(recorded), committed)
}

/// Says how a transaction ended, from the answers to its last statement and to the `COMMIT` that was sent with it.
fn commit_result(
    recorded: Result<Option<Row>, tokio_postgres::Error>,
    committed: Result<(), tokio_postgres::Error>,
) -> Result<Option<CommitRecord>, CommitError> {
    let record = match recorded {
        Ok(row) => row.as_ref().map(CommitRecord::from_row),
        // An error without a code comes from the connection. The `COMMIT` had been sent, and the record did not
        // arrive, so nothing identifies the transaction.
        Err(error) if error.code().is_none() => return Err(CommitError::Unknown { record: None, error }),
        Err(error) => return Err(CommitError::RolledBack(error)),
    };
    match committed {
        Ok(()) => Ok(record),
        // Class 57P: a server that shuts down may report that in place of a commit that it has carried out.
        Err(error) if error.code().is_none_or(|code| code.code().starts_with("57P")) => {
            Err(CommitError::Unknown { record, error })
        }
        Err(error) => Err(CommitError::RolledBack(error)),
    }
}
