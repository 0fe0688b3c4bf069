//! One batch, one transaction: look up what may exist, write only what is new or differs.
//!
//! Nothing is locked in advance. Should another server change one of the rows meanwhile, the transaction notices (a
//! duplicate key, or an update that finds other values than were looked up), is rolled back, and the batch is planned again
//! from what is stored by then; so counts are exact and unchanged rows cost no write at all.

use std::{
    collections::{BTreeSet, HashMap},
    pin::pin,
};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures_util::SinkExt;
use tokio_postgres::{error::SqlState, types::ToSql};

use crate::{
    batch::{Batch, Plan, Update, pieces},
    sample::{Calories, HeartRate, Readings, Sample, Steps},
    store::{
        connection::Session,
        known::{Known, Novelty},
        marks,
    },
};

/// What writers hold in common while they write; it comes first, in a statement of its own, see [`marks`].
const LOCK_THRESHOLD: &str = "SELECT pg_advisory_xact_lock_shared(hashtext('health threshold'))";

/// Nothing that the transaction writes gets an `id` at or below the sequence's last value, which is none yet before the
/// first. The threshold is in whole seconds since 1970.
const BEGUN: &str = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END, (SELECT extract(epoch FROM threshold)::bigint FROM health_sealing) \
     FROM health_metrics_id_seq";

/// The newest sample of each user: one probe of the key a user.
const NEWEST: &str = "SELECT users.user_id, newest.timestamp FROM unnest($1::bigint[]) AS users (user_id) \
     CROSS JOIN LATERAL (SELECT timestamp FROM health_metrics m WHERE m.user_id = users.user_id \
     ORDER BY timestamp DESC LIMIT 1) AS newest";

/// What is stored of these identities; the key's leaves hold it all.
const LOOK_UP: &str = "SELECT keys.place, m.heart_rate, m.steps, m.calories \
     FROM unnest($1::bigint[], $2::timestamptz[], $3::text[]) WITH ORDINALITY AS keys (user_id, timestamp, source, place) \
     JOIN health_metrics m ON m.user_id = keys.user_id AND m.timestamp = keys.timestamp AND m.source = keys.source";

const COPY: &str = "COPY health_metrics (user_id, timestamp, heart_rate, steps, calories, source) FROM STDIN BINARY";

const INSERT: &str = "INSERT INTO health_metrics (user_id, timestamp, heart_rate, steps, calories, source) \
     SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::double precision[], $4::integer[], $5::double precision[], $6::text[])";

/// A row that no longer holds what was looked up is left alone, and missing in the count. The `id` is renewed: the feed
/// finds changes by it.
const UPDATE: &str = "UPDATE health_metrics m SET id = DEFAULT, heart_rate = n.heart_rate, steps = n.steps, calories = n.calories \
     FROM unnest($1::bigint[], $2::timestamptz[], $3::double precision[], $4::integer[], $5::double precision[], $6::text[], \
     $7::double precision[], $8::integer[], $9::double precision[]) \
     AS n (user_id, timestamp, heart_rate, steps, calories, source, old_heart_rate, old_steps, old_calories) \
     WHERE m.user_id = n.user_id AND m.timestamp = n.timestamp AND m.source = n.source \
     AND m.heart_rate IS NOT DISTINCT FROM n.old_heart_rate AND m.steps IS NOT DISTINCT FROM n.old_steps \
     AND m.calories IS NOT DISTINCT FROM n.old_calories";

/// What the feed resumes from, and what tells afterwards how a commit ended whose answer was lost.
pub(super) const RECORD: &str = "INSERT INTO health_commits (first_id, last_id, server) \
     VALUES ($1, currval('health_metrics_id_seq'), $2) RETURNING xid::text, committed_at::text";

/// Whether a transaction is still under way. One that a crash took is an error: its number is yet to be given out.
const STATUS: &str = "SELECT pg_xact_status($1::text::xid8)";

/// Whether a transaction left its record. The number alone does not tell: what a crash took is given out again.
const RECORDED: &str = "SELECT FROM health_commits WHERE xid = $1::text::xid8 AND committed_at = $2::text::timestamptz";

/// From this many rows on, COPY is faster than an INSERT from arrays.
const COPY_FROM_ROWS: usize = 500;

/// Rows encoded before they are sent: about 64 KiB, so that PostgreSQL works while the next are encoded.
const COPY_PIECE_ROWS: usize = 1_000;

/// Why a batch was not committed.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// Another server changed some of the rows meanwhile. Rolled back; plan again, trusting nothing.
    Raced,
    /// Rolled back.
    Failed(tokio_postgres::Error),
    /// The connection was lost while the commit was under way.
    Unknown {
        /// The transaction to ask about, see [`outcome`].
        record: Option<Record>,
        /// What happened to the connection.
        error: tokio_postgres::Error,
        /// What was to be written.
        plan: Plan,
    },
}

/// What a transaction left in `health_commits`, if it was committed. Both together name it among all there ever are.
#[derive(Debug)]
pub(crate) struct Record {
    pub(super) xid: String,
    pub(super) committed_at: String,
}

/// A batch that was committed.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) plan: Plan,
    /// What it left; none where there was nothing to write.
    pub(crate) record: Option<Record>,
}

/// How much of what is known about stored samples is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Samples later than all that is known of their (user, source) are new.
    Known,
    /// Every sample is looked up.
    Nothing,
}

/// Writes a batch, durably, or not at all.
pub(crate) async fn write(
    session: &mut Session,
    known: &mut Known,
    server: i64,
    batch: &Batch,
    trust: Trust,
) -> Result<Written, WriteError> {
    let written = attempt(session, known, server, batch, trust).await;
    match &written {
        Ok(written) => known.stored(&written.plan.inserts),
        Err(WriteError::Raced | WriteError::Failed(_)) if !session.client().is_closed() => {
            // Should this fail too, the connection is at its end and takes the transaction with it.
            let _ = session.client().batch_execute("ROLLBACK").await;
        }
        Err(_) => {}
    }
    written
}

/// How a transaction ended whose commit was not answered: true where it was committed, none while it is under way.
pub(crate) async fn outcome(session: &Session, record: &Record) -> Result<Option<bool>, tokio_postgres::Error> {
    match session.client().query_one(STATUS, &[&record.xid]).await {
        Ok(row) if row.get::<_, Option<&str>>(0) == Some("in progress") => return Ok(None),
        Ok(_) => {}
        Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => return Ok(Some(false)),
        Err(error) => return Err(error),
    }
    // In a statement of its own: this snapshot is later than the end of the transaction.
    let keys: [&(dyn ToSql + Sync); 2] = [&record.xid, &record.committed_at];
    let found = session.client().query_opt(RECORDED, &keys).await?;
    Ok(Some(found.is_some()))
}

impl Record {
    /// The transaction.
    pub(crate) fn xid(&self) -> Option<u64> {
        self.xid.parse().ok()
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

async fn attempt(
    session: &mut Session,
    known: &mut Known,
    server: i64,
    batch: &Batch,
    trust: Trust,
) -> Result<Written, WriteError> {
    let Begun { first_id, threshold } = begin(session).await?;
    if trust == Trust::Known {
        learn(session, known, batch).await?;
    }
    let stored = look_up(session, known, batch, trust).await?;
    let plan = batch.plan(stored.into_iter());

    if plan.inserts.len() >= COPY_FROM_ROWS {
        copy(session, &plan.inserts).await?;
    }
    update(session, &plan.updates).await?;
    let changed = plan
        .inserts
        .iter()
        .chain(plan.updates.iter().map(|update| &update.after));
    marks::mark(session, threshold, changed).await?;
    let few = if plan.inserts.len() < COPY_FROM_ROWS {
        plan.inserts.as_slice()
    } else {
        &[]
    };
    match finish(session, server, first_id, few, !plan.is_empty()).await {
        Ok(record) => Ok(Written { plan, record }),
        Err(Finish::Before(error)) => Err(error.into()),
        Err(Finish::During { record, error }) => Err(WriteError::Unknown { record, error, plan }),
    }
}

/// What a transaction begins with.
struct Begun {
    first_id: i64,
    /// Samples older than this may be in summaries already; microseconds since 1970.
    threshold: i64,
}

/// Opens the transaction: three statements, one round trip.
async fn begin(session: &mut Session) -> Result<Begun, tokio_postgres::Error> {
    let lock = session.prepare(LOCK_THRESHOLD).await?;
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
        // Not known, everything is marked: that is slow but right.
        threshold: row
            .get::<_, Option<i64>>(1)
            .map_or(i64::MAX, |seconds| seconds.saturating_mul(1_000_000)),
    })
}

/// Fetches what is known of users that no batch has met before.
async fn learn(session: &mut Session, known: &mut Known, batch: &Batch) -> Result<(), tokio_postgres::Error> {
    let unknown = |known: &Known| {
        let samples = batch
            .by_identity()
            .filter(|writes| known.novelty(writes.first().identity()) == Novelty::Unknown);
        samples
            .map(|writes| (writes.first().user_id(), writes.first().source().clone()))
            .collect::<BTreeSet<_>>()
    };
    let pairs = unknown(known);
    if pairs.is_empty() {
        return Ok(());
    }
    let mut users: Vec<i64> = pairs.iter().map(|(user_id, _)| user_id.get()).collect();
    users.dedup();
    let statement = session.prepare(NEWEST).await?;
    let newest: HashMap<i64, DateTime<Utc>> = session
        .client()
        .query(&statement, &[&users])
        .await?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    for (user_id, source) in pairs {
        // The newest of any source is a bound for each of them.
        let last = newest.get(&user_id.get()).copied().unwrap_or(DateTime::<Utc>::MIN_UTC);
        known.learn(user_id, &source, last);
    }
    Ok(())
}

/// What is stored of each identity of the batch, in its order.
async fn look_up(
    session: &mut Session,
    known: &Known,
    batch: &Batch,
    trust: Trust,
) -> Result<Vec<Option<Readings>>, tokio_postgres::Error> {
    let mut stored = Vec::new();
    let mut places = Vec::new();
    let mut keys = Columns::default();
    for writes in batch.by_identity() {
        let identity = writes.first().identity();
        if trust == Trust::Nothing || known.novelty(identity) != Novelty::New {
            places.push(stored.len());
            keys.push_identity(writes.first());
        }
        stored.push(None);
    }
    if places.is_empty() {
        return Ok(stored);
    }
    let statement = session.prepare(LOOK_UP).await?;
    let rows = session
        .client()
        .query(&statement, &[&keys.user_id, &keys.timestamp, &keys.source])
        .await?;
    for row in rows {
        let place = usize::try_from(row.get::<_, i64>(0) - 1)
            .ok()
            .and_then(|place| places.get(place));
        if let Some(place) = place {
            stored[*place] = Some(Readings::stored(row.get(1), row.get(2), row.get(3)));
        }
    }
    Ok(stored)
}

async fn copy(session: &mut Session, samples: &[Sample]) -> Result<(), tokio_postgres::Error> {
    let statement = session.prepare(COPY).await?;
    let mut sink = pin!(session.client().copy_in::<_, Bytes>(&statement).await?);
    let mut buffer = BytesMut::new();
    copy_binary::begin(&mut buffer);
    for piece in pieces(samples.len(), COPY_PIECE_ROWS) {
        for sample in &samples[piece] {
            copy_binary::row(&mut buffer, sample);
        }
        sink.send(buffer.split().freeze()).await?;
    }
    copy_binary::end(&mut buffer);
    sink.send(buffer.freeze()).await?;
    sink.finish().await?;
    Ok(())
}

/// Changes rows that still hold what was looked up.
async fn update(session: &mut Session, updates: &[Update]) -> Result<(), WriteError> {
    if updates.is_empty() {
        return Ok(());
    }
    let mut new = Columns::default();
    let mut old = Columns::default();
    for update in updates {
        new.push_identity(&update.after);
        new.push_readings(update.after.readings());
        old.push_readings(update.before);
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
    let mut rows = Columns::default();
    for sample in few {
        rows.push_identity(sample);
        rows.push_readings(sample.readings());
    }
    let params: [&(dyn ToSql + Sync); 6] = [
        &rows.user_id,
        &rows.timestamp,
        &rows.heart_rate,
        &rows.steps,
        &rows.calories,
        &rows.source,
    ];
    let inserting = async {
        if few.is_empty() {
            Ok(0)
        } else {
            client.execute(&insert, &params).await
        }
    };
    let recording = async {
        if changes {
            client.query_opt(&record, &[&first_id, &server]).await
        } else {
            Ok(None)
        }
    };
    let (inserted, recorded, committed) = futures_util::join!(inserting, recording, client.batch_execute("COMMIT"));

    let left = match &recorded {
        Ok(Some(row)) => Some(Record {
            xid: row.get(0),
            committed_at: row.get(1),
        }),
        Ok(None) | Err(_) => None,
    };
    // A server that is shut down may say so in place of the answer to a commit it has carried out.
    let cut_off = |error: &tokio_postgres::Error| error.code().is_none_or(|code| code.code().starts_with("57P"));
    let begun = match inserted.map(drop).and(recorded.map(drop)) {
        Ok(()) => committed.map_err(|error| (cut_off(&error), error)),
        // No answer of PostgreSQL's, the connection broke: the commit had been sent.
        Err(error) => Err((error.code().is_none(), error)),
    };
    match begun {
        Ok(()) => Ok(left),
        Err((true, error)) if changes => Err(Finish::During { record: left, error }),
        Err((_, error)) => Err(Finish::Before(error)),
    }
}

/// Rows by column, as `unnest` takes them.
#[derive(Default)]
struct Columns<'a> {
    user_id: Vec<i64>,
    timestamp: Vec<DateTime<Utc>>,
    source: Vec<&'a str>,
    heart_rate: Vec<Option<f64>>,
    steps: Vec<Option<i32>>,
    calories: Vec<Option<f64>>,
}

impl<'a> Columns<'a> {
    fn push_identity(&mut self, sample: &'a Sample) {
        self.user_id.push(sample.user_id().get());
        self.timestamp.push(sample.timestamp());
        self.source.push(sample.source().as_str());
    }

    fn push_readings(&mut self, readings: Readings) {
        self.heart_rate.push(readings.heart_rate.map(HeartRate::get));
        self.steps.push(readings.steps.map(Steps::get));
        self.calories.push(readings.calories.map(Calories::get));
    }
}

/// PostgreSQL's binary COPY format. The driver's writer goes through a dynamic call a value, which at this rate is a tenth
/// of the server's work.
mod copy_binary {
    use bytes::{BufMut, BytesMut};

    use crate::sample::{Calories, HeartRate, Sample, Steps};

    const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
    const COLUMNS: i16 = 6;
    const NULL: i32 = -1;

    /// 2000-01-01, where PostgreSQL counts microseconds from, in those of Unix.
    const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

    pub(super) fn begin(to: &mut BytesMut) {
        to.put_slice(SIGNATURE);
        to.put_i32(0); // no flags
        to.put_i32(0); // no header extension
    }

    pub(super) fn row(to: &mut BytesMut, sample: &Sample) {
        to.put_i16(COLUMNS);
        to.put_i32(8);
        to.put_i64(sample.user_id().get());
        to.put_i32(8);
        to.put_i64(sample.timestamp().timestamp_micros() - POSTGRES_EPOCH_MICROS);
        float(to, sample.heart_rate().map(HeartRate::get));
        match sample.steps().map(Steps::get) {
            Some(steps) => {
                to.put_i32(4);
                to.put_i32(steps);
            }
            None => to.put_i32(NULL),
        }
        float(to, sample.calories().map(Calories::get));
        let source = sample.source().as_str();
        // At most `Source::LONGEST_BYTES`.
        to.put_i32(i32::try_from(source.len()).unwrap_or(0));
        to.put_slice(source.as_bytes());
    }

    pub(super) fn end(to: &mut BytesMut) {
        to.put_i16(-1);
    }

    fn float(to: &mut BytesMut, value: Option<f64>) {
        match value {
            Some(value) => {
                to.put_i32(8);
                to.put_f64(value);
            }
            None => to.put_i32(NULL),
        }
    }
}
