//! Writes one batch in one transaction: looks up the rows that may exist and writes only what is new or different.
//!
//! The transaction locks no row in advance. If another server changes one of the rows after the look-up, a statement
//! meets a duplicate key, or an update finds values other than those that were looked up. Then the transaction is
//! rolled back, and the writer plans the batch again from the rows that are stored by then. So the counts are exact,
//! and unchanged rows cost no write.
//!
//! What a writer waits for:
//!
//! * a session that changes the threshold or the epoch, see [`dirty_slices`]. That session waits at most one second for
//!   the writers' transactions that have begun, and a writer that begins another one waits until that session has
//!   finished;
//! * a transaction of another server that has inserted or changed the same row and has not ended;
//! * a lock on the whole table, for example of `ALTER TABLE`;
//! * at the commit, the disk, and a synchronous standby if there is one.

use std::{
    iter,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_postgres::{Statement, error::SqlState, types::ToSql};

use crate::{
    batch::{Batch, WritePlan},
    sample::Sample,
    store::{
        append::{Append, Appended, CommitError, committed_after},
        batch_key::BatchKey,
        columns::SampleColumns,
        connection::Session,
        copy::copy,
        dirty_slices::{self, CommittedDirtySlices, Threshold},
        feed_rows::first_id,
        look_up::{StoredReadings, fill_cache, look_up},
        micros::Micros,
        newest_timestamps::{LookUp, NewestTimestamps, Novelty},
        required_version::{self, KNOWN_VERSION},
        tables::Tables,
        transaction::Transaction,
        update::update,
        write_error::WriteError,
    },
};

/// Takes a batch number; reads the threshold, the epoch, and the newest migration that a program must know to write.
///
/// The outer join returns a row also if `health_sealing` is empty.
const READ_START: &str = "SELECT nextval('health_batch_numbers'), threshold, epoch, required_version \
     FROM (VALUES (1)) AS one LEFT JOIN health_sealing ON true";

/// Inserts new rows from one array a column: one statement and one plan for any number of rows. There is no
/// `ON CONFLICT`, because a duplicate key must stop the transaction: the plan is out of date then.
///
/// The arrays have one length. `unnest` stands in the list of columns: in `FROM`, PostgreSQL would store all elements
/// of each array before it reads the first, and a small batch would take twice as long.
pub(super) const INSERT: &str = "INSERT INTO health_metrics (id, user_id, timestamp, heart_rate, steps, calories, source) \
     SELECT unnest($1::bigint[]), unnest($2::bigint[]), unnest($3::timestamptz[]), unnest($4::double precision[]), \
     unnest($5::integer[]), unnest($6::double precision[]), unnest($7::text[])";

/// Inserts a small batch of new samples, unless one of them is older than the threshold, or this program is outdated.
///
/// `$8` is the oldest timestamp of the batch. If the threshold is later, the statement inserts nothing, because the
/// samples' slices would have to be added to `health_dirty`. `$9` is the newest migration that this program knows. The
/// statement reads the threshold itself: it runs after the statement that takes the threshold lock, so its snapshot is
/// late enough.
pub(super) const INSERT_RECENT: &str = "INSERT INTO health_metrics (id, user_id, timestamp, heart_rate, steps, calories, source) \
     SELECT unnest($1::bigint[]), unnest($2::bigint[]), unnest($3::timestamptz[]), unnest($4::double precision[]), \
     unnest($5::integer[]), unnest($6::double precision[]), unnest($7::text[]) \
     WHERE (SELECT threshold FROM health_sealing WHERE required_version <= $9) <= $8";

/// The number of new rows from which COPY is faster than an INSERT from arrays; found by measurement.
const COPY_FROM_ROWS: usize = 500;

/// How long a transaction may use the batch number that came with the commit before it. An older number is not used:
/// the verification of a backup leaves out all samples from the lowest batch number of the later commits on, so batch
/// numbers should have nearly the order of the commits. After a pause, one more round trip for a new number costs
/// nothing.
const BATCH_NUMBER_LIFE: Duration = Duration::from_millis(100);

/// A batch that was committed.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) plan: WritePlan,
    /// The transaction's record in the commit log; `None` if there was nothing to write.
    pub(crate) appended: Option<Appended>,
}

/// A writer's connection.
pub(crate) struct WriterSession {
    session: Session,
    /// A random number, which no other connection has.
    writer_id: i64,
    /// A batch number that no transaction has used yet, and when it was taken.
    next_batch_number: Option<(i64, Instant)>,
    /// The threshold when a transaction of this connection last read it; microseconds since 1970.
    threshold_seen: i64,
    dirty_slices: CommittedDirtySlices,
}

impl WriterSession {
    /// Makes a writer's session of a connection.
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            writer_id: fastrand::i64(1..),
            next_batch_number: None,
            threshold_seen: i64::MIN,
            dirty_slices: CommittedDirtySlices::default(),
        }
    }

    /// Returns whether the connection or its session is lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.session.client().is_lost()
    }

    /// The process of PostgreSQL that serves the session.
    pub(crate) fn pid(&self) -> i32 {
        self.session.pid()
    }

    /// How long ago the session was opened.
    pub(crate) fn age(&self) -> Duration {
        self.session.age()
    }

    /// Writes a batch in one transaction. After success all of it is durable, after [`WriteError::Failed`] none of it.
    ///
    /// If the tables are distributed, a warning of PostgreSQL means that a node may not have committed its part yet.
    /// Then the outcome is unknown until the writer has recovered the prepared transactions, see
    /// [`prepared`](crate::store::prepared).
    pub(crate) async fn write(
        &mut self,
        cache: &mut NewestTimestamps,
        batch: &Batch,
        mode: LookUp,
    ) -> Result<Written, WriteError> {
        let warnings = self.session.client().warnings();
        let next_batch_number = self.next_batch_number.take();
        let next_batch_number = next_batch_number.filter(|(_, taken)| taken.elapsed() < BATCH_NUMBER_LIFE);
        let written = match next_batch_number {
            Some((batch_number, _)) if mode == LookUp::UnlessNew && self.is_recent(batch, cache) => {
                self.write_recent(cache, batch, batch_number).await?
            }
            _ => self.write_any(cache, batch, mode).await?,
        };
        if let Some(appended) = written.appended
            && self.session.tables() == Tables::Distributed
            && self.session.client().warnings() != warnings
        {
            return Err(WriteError::Unknown {
                key: self.key(appended.record.batch_number),
                cause: Arc::new(CommitIncomplete),
                plan: written.plan,
            });
        }
        self.next_batch_number = written
            .appended
            .map(|appended| (appended.next_batch_number, Instant::now()));
        cache.stored(&written.plan.inserts);
        Ok(written)
    }

    /// Returns whether a batch can be written by [`INSERT_RECENT`]: it has too few rows for COPY, no sample is older
    /// than the threshold, and the cache says that all are new.
    fn is_recent(&self, batch: &Batch, cache: &NewestTimestamps) -> bool {
        batch.len() < COPY_FROM_ROWS
            && batch.by_identity().all(|writes| {
                let sample = writes.first();
                sample.timestamp().timestamp_micros() >= self.threshold_seen
                    && cache.novelty(sample.identity()) == Novelty::New
            })
    }

    /// Writes a small batch of new samples in one round trip, unless one of them is older than the threshold.
    async fn write_recent(
        &mut self,
        cache: &mut NewestTimestamps,
        batch: &Batch,
        batch_number: i64,
    ) -> Result<Written, WriteError> {
        let plan = batch.plan(iter::repeat(None));
        let key = self.key(batch_number);
        match self.insert_recent(key, &plan).await {
            Ok(Some(appended)) => Ok(Written {
                plan,
                appended: Some(appended),
            }),
            Ok(None) => self.write_any(cache, batch, LookUp::UnlessNew).await,
            Err(failed) => Err(failed.with(key, plan)),
        }
    }

    fn key(&self, batch_number: i64) -> BatchKey {
        BatchKey {
            writer_id: self.writer_id,
            batch_number,
        }
    }

    /// Runs a whole transaction in one round trip. Returns `None` if it has stored nothing, see [`INSERT_RECENT`].
    ///
    /// `COMMIT` is sent with the other statements. If one of them fails, PostgreSQL rolls back at `COMMIT`.
    async fn insert_recent(&mut self, key: BatchKey, plan: &WritePlan) -> Result<Option<Appended>, CommitError> {
        let samples = plan.inserts.as_slice();
        let insert = self.session.prepare(INSERT_RECENT).await;
        let insert = insert.map_err(CommitError::RolledBack)?;
        let append = Append::prepare(&mut self.session, key, plan).await;
        let append = append.map_err(CommitError::RolledBack)?;
        let oldest = samples.iter().map(Sample::timestamp).min();
        let oldest = Micros(oldest.map_or(i64::MAX, |oldest| oldest.timestamp_micros()));
        let append = append.unless_threshold_is_after(oldest);
        let client = self.session.client();
        let columns = SampleColumns::new(first_id(key.batch_number).., samples);
        let [id, user_id, timestamp, heart_rate, steps, calories, source] = columns.params();
        let params: [&(dyn ToSql + Sync); 9] = [
            id,
            user_id,
            timestamp,
            heart_rate,
            steps,
            calories,
            source,
            &oldest,
            &KNOWN_VERSION,
        ];
        let (opened, inserted, committed) = futures_util::join!(
            client.batch_execute(self.session.begin_writing()),
            client.execute(&insert, &params),
            append.and_commit(client)
        );
        committed_after(opened.and(inserted), committed)
    }

    /// Writes any batch, in two to seven round trips: each step that has nothing to do saves one.
    async fn write_any(
        &mut self,
        cache: &mut NewestTimestamps,
        batch: &Batch,
        mode: LookUp,
    ) -> Result<Written, WriteError> {
        // If a transaction reads a shard and then inserts into it, Citus 13 takes it for one that only reads on that
        // node: it does not prepare it there, and the rows are lost if the node fails at the commit. So the look-up
        // runs before the transaction.
        let looked_up = match self.session.tables() {
            Tables::Local => None,
            Tables::Distributed => Some(look_up_batch(&mut self.session, cache, batch, mode).await?),
        };
        let mut transaction = Transaction::pipelined(&mut self.session);
        let Start {
            batch_number,
            threshold,
            required_version,
        } = begin(&mut transaction).await?;
        required_version::check(required_version).map_err(WriteError::NotWritable)?;
        self.threshold_seen = threshold.at;
        let key = BatchKey {
            writer_id: self.writer_id,
            batch_number,
        };
        let stored = match looked_up {
            Some(stored) => stored,
            None => look_up_batch(&mut transaction, cache, batch, mode).await?,
        };
        let plan = batch.plan(stored.iter().map(|row| row.map(|row| row.readings)));

        let first = first_id(batch_number);
        let first_update = first + i64::try_from(plan.inserts.len()).unwrap_or(i64::MAX);
        let use_copy = plan.inserts.len() >= COPY_FROM_ROWS;
        if use_copy {
            copy(&mut transaction, first, &plan.inserts).await?;
        }
        update(&mut transaction, first_update, &plan.updates, &stored).await?;
        let updated = plan.updates.iter().map(|update| &update.after);
        let slices = self.dirty_slices.missing(threshold, plan.inserts.iter().chain(updated));
        dirty_slices::insert(&mut transaction, threshold, &slices).await?;
        let inserts = if use_copy { &[] } else { plan.inserts.as_slice() };
        let committed = if plan.is_empty() {
            commit_nothing(&transaction).await
        } else {
            let end = InsertAndCommit::prepare(&mut transaction, key, &plan).await?;
            end.run(&transaction, key, inserts).await
        };
        // PostgreSQL has ended the transaction, also if it has refused a statement. A `ROLLBACK` would log a warning.
        transaction.ended();
        match committed {
            Ok(appended) => {
                self.dirty_slices.committed(threshold, slices);
                Ok(Written { plan, appended })
            }
            Err(failed) => Err(failed.with(key, plan)),
        }
    }
}

/// The cause of [`WriteError::Unknown`] if Citus gave a warning.
#[derive(Debug, thiserror::Error)]
#[error("a node of the cluster may not have committed its part yet")]
struct CommitIncomplete;

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

/// Looks up the stored rows with the identities of a batch. If they change afterwards, the transaction that writes the
/// batch is rolled back.
async fn look_up_batch(
    session: &mut Session,
    cache: &mut NewestTimestamps,
    batch: &Batch,
    mode: LookUp,
) -> Result<Vec<Option<StoredReadings>>, tokio_postgres::Error> {
    if mode == LookUp::UnlessNew {
        fill_cache(session, cache, batch).await?;
    }
    look_up(session, cache, batch, mode).await
}

/// What a transaction reads first.
struct Start {
    /// The batch number of the transaction.
    batch_number: i64,
    threshold: Threshold,
    /// The migration that a program must know to write.
    required_version: i32,
}

/// Opens the transaction, in one round trip.
async fn begin(session: &mut Session) -> Result<Start, tokio_postgres::Error> {
    let read_start = session.prepare(READ_START).await?;
    let client = session.client();
    let (opened, row) = futures_util::join!(
        client.batch_execute(session.begin_writing()),
        client.query_one(&read_start, &[])
    );
    let row = opened.and(row)?;
    Ok(Start {
        batch_number: row.get(0),
        threshold: Threshold {
            // If the threshold is unknown, every slice counts as older: slow, but right.
            at: row.get::<_, Option<Micros>>(1).map_or(i64::MAX, |Micros(at)| at),
            epoch: row.get::<_, Option<i64>>(2).unwrap_or_default(),
        },
        required_version: row.get::<_, Option<i32>>(3).unwrap_or_default(),
    })
}

/// Ends a transaction that has written nothing, so its outcome does not matter if the answer is lost.
async fn commit_nothing(session: &Session) -> Result<Option<Appended>, CommitError> {
    let committed = session.client().batch_execute("COMMIT").await;
    committed.map(|()| None).map_err(CommitError::RolledBack)
}

/// The prepared end of a transaction with the rows that are too few for COPY.
struct InsertAndCommit {
    insert: Statement,
    append: Append,
}

impl InsertAndCommit {
    async fn prepare(session: &mut Session, key: BatchKey, plan: &WritePlan) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            insert: session.prepare(INSERT).await?,
            append: Append::prepare(session, key, plan).await?,
        })
    }

    /// Inserts the rows, appends the record to the commit log and commits, in one round trip.
    ///
    /// If a statement fails, PostgreSQL refuses the later ones and turns the commit into a rollback.
    async fn run(&self, session: &Session, key: BatchKey, samples: &[Sample]) -> Result<Option<Appended>, CommitError> {
        let client = session.client();
        let columns = SampleColumns::new(first_id(key.batch_number).., samples);
        let params = columns.params();
        let inserting = async {
            if samples.is_empty() {
                Ok(0)
            } else {
                client.execute(&self.insert, &params).await
            }
        };
        let (inserted, committed) = futures_util::join!(inserting, self.append.and_commit(client));
        committed_after(inserted, committed)
    }
}
