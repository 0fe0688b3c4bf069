//! One batch, one transaction: look up what may exist, write only what is new or differs.
//!
//! Nothing is locked in advance. Should another server change one of the rows meanwhile, the transaction notices (a
//! duplicate key, or an update that finds other values than were looked up), is rolled back, and the batch is planned again
//! from what is stored by then; so counts are exact and unchanged rows cost no write at all.

use std::iter;

use tokio_postgres::{Row, error::SqlState, types::ToSql};

use crate::{
    batch::{Batch, Plan, Update},
    sample::Sample,
    store::{
        columns::Columns,
        connection::Session,
        copy::copy,
        known::{Known, Novelty, Trust},
        look_up::{Stored, learn, look_up},
        marks::{self, Line, Marked},
        micros::Micros,
        outcome::Record,
    },
};

/// Nothing that the transaction writes gets an `id` at or below the sequence's last value, which is none yet before the
/// first.
const BEGUN: &str = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END, threshold, epoch \
     FROM health_metrics_id_seq LEFT JOIN health_sealing ON true";

const INSERT: &str = "INSERT INTO health_metrics (user_id, timestamp, heart_rate, steps, calories, source) \
     SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::double precision[], $4::integer[], $5::double precision[], $6::text[])";

/// Rows that were looked up are found by where they lie, which saves a second walk down the key for each. One that does not lie there
/// any more, or holds something else by now, is left alone, and missing in the count. The `id` is renewed: the feed finds
/// changes by it.
const UPDATE: &str = "UPDATE health_metrics m SET id = DEFAULT, heart_rate = n.heart_rate, steps = n.steps, calories = n.calories \
     FROM unnest($1::bigint[], $2::timestamptz[], $3::double precision[], $4::integer[], $5::double precision[], $6::text[], \
     $7::double precision[], $8::integer[], $9::double precision[], $10::tid[]) \
     AS n (user_id, timestamp, heart_rate, steps, calories, source, old_heart_rate, old_steps, old_calories, place) \
     WHERE m.ctid = n.place AND m.user_id = n.user_id AND m.timestamp = n.timestamp AND m.source = n.source \
     AND m.heart_rate IS NOT DISTINCT FROM n.old_heart_rate AND m.steps IS NOT DISTINCT FROM n.old_steps \
     AND m.calories IS NOT DISTINCT FROM n.old_calories";

/// What the feed resumes from, and what tells afterwards how a commit ended whose answer was lost.
pub(super) const RECORD: &str = "INSERT INTO health_commits (first_id, last_id, writer) \
     VALUES ($1, currval('health_metrics_id_seq'), $2) RETURNING xid::text, committed_at::text";

/// A whole batch of samples that are new and not older than the threshold, with its record. Where the threshold has passed one
/// of them, nothing is written and nothing returned.
const INSERT_RECENT: &str = "WITH new AS ( \
     INSERT INTO health_metrics (user_id, timestamp, heart_rate, steps, calories, source) \
     SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::double precision[], $4::integer[], $5::double precision[], $6::text[]) \
     WHERE (SELECT threshold FROM health_sealing) <= $7 RETURNING id) \
     INSERT INTO health_commits (first_id, last_id, writer) SELECT min(id) - 1, max(id), $8 FROM new HAVING count(*) > 0 \
     RETURNING xid::text, committed_at::text";

/// From this many rows on, COPY is faster than an INSERT from arrays.
const COPY_FROM_ROWS: usize = 500;

/// Why a batch was not committed.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// Another server changed some of the rows meanwhile. Rolled back; plan again, trusting nothing.
    Raced,
    /// Rolled back.
    Failed(tokio_postgres::Error),
    /// The connection was lost while the commit was under way.
    Unknown {
        /// The transaction to ask about, see [`outcome`](crate::store::outcome::outcome).
        record: Option<Record>,
        /// What happened to the connection.
        error: tokio_postgres::Error,
        /// What was to be written.
        plan: Plan,
    },
}

/// A batch that was committed.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) plan: Plan,
    /// What it left; none where there was nothing to write.
    pub(crate) record: Option<Record>,
}

/// A writer's connection, and the marks it has left in the current epoch.
pub(crate) struct WriterSession {
    session: Session,
    marked: Marked,
}

/// Writes a batch, durably, or not at all.
pub(crate) async fn write(
    writer: &mut WriterSession,
    known: &mut Known,
    server: i64,
    batch: &Batch,
    trust: Trust,
) -> Result<Written, WriteError> {
    let written = writer.attempt(known, server, batch, trust).await;
    match &written {
        Ok(written) => known.stored(&written.plan.inserts),
        Err(WriteError::Raced | WriteError::Failed(_)) if !writer.is_closed() => {
            // Should this fail too, the connection is at its end and takes the transaction with it.
            let _ = writer.session.client().batch_execute("ROLLBACK").await;
        }
        Err(_) => {}
    }
    written
}

impl WriterSession {
    /// Writes over a connection.
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            marked: Marked::default(),
        }
    }

    /// Whether the connection is lost.
    pub(crate) fn is_closed(&self) -> bool {
        self.session.client().is_closed()
    }

    async fn attempt(
        &mut self,
        known: &mut Known,
        server: i64,
        batch: &Batch,
        trust: Trust,
    ) -> Result<Written, WriteError> {
        if trust == Trust::Known && is_small_and_new(batch, known) {
            let plan = batch.plan(iter::repeat(None));
            match self.insert_recent(server, &plan.inserts).await {
                Ok(None) => {} // One of them is older than it looks: as any other batch.
                Ok(record) => return Ok(Written { plan, record }),
                Err(failed) => return Err(failed.with(plan)),
            }
        }
        self.write_any(known, server, batch, trust).await
    }

    /// The way of live samples: the whole transaction in one round trip. Says nothing where it has written nothing.
    async fn insert_recent(&mut self, server: i64, samples: &[Sample]) -> Result<Option<Record>, Finish> {
        let lock = self.session.prepare(marks::LOCK_SHARED).await.map_err(Finish::Before)?;
        let insert = self.session.prepare(INSERT_RECENT).await.map_err(Finish::Before)?;
        let client = self.session.client();
        let rows = Columns::of(samples);
        let oldest = samples.iter().map(Sample::timestamp).min();
        let oldest = Micros(oldest.map_or(i64::MAX, |oldest| oldest.timestamp_micros()));
        let [user_id, timestamp, heart_rate, steps, calories, source] = rows.params();
        let params: [&(dyn ToSql + Sync); 8] = [
            user_id, timestamp, heart_rate, steps, calories, source, &oldest, &server,
        ];
        let (opened, locked, inserted, committed) = futures_util::join!(
            client.batch_execute("BEGIN"),
            client.execute(&lock, &[]),
            client.query_opt(&insert, &params),
            client.batch_execute("COMMIT")
        );
        finished(opened.and(locked.map(drop)).and(inserted), committed)
    }

    /// The way of all others.
    async fn write_any(
        &mut self,
        known: &mut Known,
        server: i64,
        batch: &Batch,
        trust: Trust,
    ) -> Result<Written, WriteError> {
        let session = &mut self.session;
        let Begun { first_id, line } = begin(session).await?;
        if trust == Trust::Known {
            learn(session, known, batch).await?;
        }
        let stored = look_up(session, known, batch, trust).await?;
        let plan = batch.plan(stored.iter().map(|row| row.map(|row| row.readings)));

        let many = plan.inserts.len() >= COPY_FROM_ROWS;
        if many {
            copy(session, &plan.inserts).await?;
        }
        update(session, &plan.updates, &stored).await?;
        let updated = plan.updates.iter().map(|update| &update.after);
        let slices = self.marked.missing(line, plan.inserts.iter().chain(updated));
        marks::leave(session, line, &slices).await?;
        let few = if many { &[] } else { plan.inserts.as_slice() };
        match finish(session, server, first_id, few, !plan.is_empty()).await {
            Ok(record) => {
                self.marked.committed(line, slices);
                Ok(Written { plan, record })
            }
            Err(failed) => Err(failed.with(plan)),
        }
    }
}

impl From<tokio_postgres::Error> for WriteError {
    fn from(error: tokio_postgres::Error) -> Self {
        // Citus reports a worker's duplicate key during COPY under a code of its own.
        let duplicate = error.code() == Some(&SqlState::UNIQUE_VIOLATION)
            || error.as_db_error().is_some_and(|refusal| {
                refusal.code() == &SqlState::INTERNAL_ERROR && refusal.message().contains("duplicate key")
            });
        if duplicate { Self::Raced } else { Self::Failed(error) }
    }
}

/// Whether a batch is one that goes in at once: too little for COPY, and later than all that is stored of its sources.
fn is_small_and_new(batch: &Batch, known: &Known) -> bool {
    batch.len() < COPY_FROM_ROWS
        && batch
            .by_identity()
            .all(|writes| known.novelty(writes.first().identity()) == Novelty::New)
}

/// What a transaction begins with.
struct Begun {
    first_id: i64,
    line: Line,
}

/// Opens the transaction: three statements, one round trip.
async fn begin(session: &mut Session) -> Result<Begun, tokio_postgres::Error> {
    let lock = session.prepare(marks::LOCK_SHARED).await?;
    let begun = session.prepare(BEGUN).await?;
    let client = session.client();
    let (opened, locked, row) = futures_util::join!(
        client.batch_execute("BEGIN"),
        client.execute(&lock, &[]),
        client.query_one(&begun, &[])
    );
    let row = opened.and(locked).and(row)?;
    Ok(Begun {
        first_id: row.get(0),
        line: Line {
            // Not known, everything is marked: that is slow but right.
            threshold: row.get::<_, Option<Micros>>(1).map_or(i64::MAX, |Micros(at)| at),
            epoch: row.get::<_, Option<i64>>(2).unwrap_or_default(),
        },
    })
}

/// Changes rows that still hold what was looked up.
async fn update(session: &mut Session, updates: &[Update], stored: &[Option<Stored>]) -> Result<(), WriteError> {
    if updates.is_empty() {
        return Ok(());
    }
    let mut new = Columns::default();
    let mut old = Columns::default();
    let mut places = Vec::with_capacity(updates.len());
    for update in updates {
        new.push_identity(&update.after);
        new.push_readings(update.after.readings());
        old.push_readings(update.before);
        places.push(stored.get(update.place).copied().flatten().map(|row| row.ctid));
    }
    let statement = session.prepare(UPDATE).await?;
    let changed = session
        .client()
        .execute(
            &statement,
            &[
                &new.user_id,
                &new.timestamp,
                &new.heart_rate,
                &new.steps,
                &new.calories,
                &new.source,
                &old.heart_rate,
                &old.steps,
                &old.calories,
                &places,
            ],
        )
        .await?;
    if usize::try_from(changed) == Ok(updates.len()) {
        Ok(())
    } else {
        Err(WriteError::Raced)
    }
}

/// How the end of a transaction can fail.
enum Finish {
    /// Rolled back.
    Before(tokio_postgres::Error),
    /// Nobody knows yet.
    During {
        record: Option<Record>,
        error: tokio_postgres::Error,
    },
}

impl Finish {
    fn with(self, plan: Plan) -> WriteError {
        match self {
            Self::Before(error) => error.into(),
            Self::During { record, error } => WriteError::Unknown { record, error, plan },
        }
    }
}

/// Inserts what is too little for COPY, records the transaction for the feed and commits: one round trip for all three.
///
/// Should one of them fail, PostgreSQL refuses those behind it and turns the commit into a rollback.
async fn finish(
    session: &mut Session,
    server: i64,
    first_id: i64,
    few: &[Sample],
    changes: bool,
) -> Result<Option<Record>, Finish> {
    let insert = session.prepare(INSERT).await.map_err(Finish::Before)?;
    let record = session.prepare(RECORD).await.map_err(Finish::Before)?;
    let client = session.client();
    if !changes {
        return client
            .batch_execute("COMMIT")
            .await
            .map(|()| None)
            .map_err(Finish::Before);
    }
    let rows = Columns::of(few);
    let params = rows.params();
    let commit: [&(dyn ToSql + Sync); 2] = [&first_id, &server];
    let inserting = async {
        if few.is_empty() {
            Ok(0)
        } else {
            client.execute(&insert, &params).await
        }
    };
    let (inserted, recorded, committed) = futures_util::join!(
        inserting,
        client.query_opt(&record, &commit),
        client.batch_execute("COMMIT")
    );
    finished(inserted.and(recorded), committed)
}

/// How a transaction ended whose last statement returned its record and was sent together with the commit.
fn finished(
    recorded: Result<Option<Row>, tokio_postgres::Error>,
    committed: Result<(), tokio_postgres::Error>,
) -> Result<Option<Record>, Finish> {
    let record = match recorded {
        Ok(row) => row.as_ref().map(Record::returned),
        // No answer of PostgreSQL's, the connection broke: the commit had been sent.
        Err(error) if error.code().is_none() => return Err(Finish::During { record: None, error }),
        Err(error) => return Err(Finish::Before(error)),
    };
    match committed {
        Ok(()) => Ok(record),
        // A server that is shut down may say so in place of the answer to a commit it has carried out.
        Err(error) if error.code().is_none_or(|code| code.code().starts_with("57P")) => {
            Err(Finish::During { record, error })
        }
        Err(error) => Err(Finish::Before(error)),
    }
}
