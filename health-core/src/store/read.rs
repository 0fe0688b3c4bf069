//! Statistics: stored summaries where they are true, raw samples for the rest, in one snapshot.
//!
//! A reader asks twice within one repeatable read transaction. The first answer says what is sealed and what of it is
//! dirty; [`plan`] makes of it which rows to fetch; the second fetches them. So every answer is what a plain aggregate over the
//! raw samples of the same snapshot would say, whatever is written, sealed or erased meanwhile.

use futures_util::{FutureExt, TryStreamExt, join, pin_mut};
use tokio_postgres::{Client, Row, Statement, types::ToSql};

use crate::{
    error::Error,
    fold::{Part, RawFold, SLICE_MICROS, assemble},
    histogram::Histogram,
    plan::{Grain, Sealed, Span, plan},
    range::TimeRange,
    sample::UserId,
    stats::Stats,
    store::{
        connection::{Readers, Session, checkout},
        failure::Failure,
        micros::Micros,
    },
    summary::{Point, codec},
};

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// What is sealed, and what of it is dirty for this user in this range.
const SEALED: &str = "SELECT sealed_before, ARRAY(SELECT slice FROM health_dirty \
     WHERE user_id = $1 AND slice > $2 AND slice < $3 ORDER BY slice) FROM health_sealing";

/// The rows of some spans. `OFFSET 0` keeps the spans outside: each is one stretch of the key's leaves then, however empty
/// the planner believes the table to be.
const ROLLUPS: &str = "SELECT r.start, r.source, r.summary \
     FROM unnest($2::smallint[], $3::timestamptz[], $4::timestamptz[]) AS spans (minutes, a, b) \
     CROSS JOIN LATERAL (SELECT start, source, summary FROM health_rollups \
     WHERE user_id = $1 AND minutes = spans.minutes AND start >= spans.a AND start < spans.b OFFSET 0) AS r";

const HISTOGRAMS: &str = "SELECT r.histogram \
     FROM unnest($2::smallint[], $3::timestamptz[], $4::timestamptz[]) AS spans (minutes, a, b) \
     CROSS JOIN LATERAL (SELECT histogram FROM health_rollups \
     WHERE user_id = $1 AND minutes = spans.minutes AND start >= spans.a AND start < spans.b OFFSET 0) AS r";

/// The samples of some spans. Ordered within each, and the spans come as they were given: the fold needs time to ascend.
const RAW: &str = "SELECT m.timestamp, m.source, m.heart_rate, m.steps, m.calories \
     FROM unnest($2::timestamptz[], $3::timestamptz[]) AS spans (a, b) \
     CROSS JOIN LATERAL (SELECT timestamp, source, heart_rate, steps, calories FROM health_metrics \
     WHERE user_id = $1 AND timestamp >= spans.a AND timestamp < spans.b ORDER BY timestamp, source) AS m";

const RAW_RATES: &str = "SELECT m.heart_rate FROM unnest($2::timestamptz[], $3::timestamptz[]) AS spans (a, b) \
     CROSS JOIN LATERAL (SELECT heart_rate FROM health_metrics \
     WHERE user_id = $1 AND timestamp >= spans.a AND timestamp < spans.b AND heart_rate IS NOT NULL OFFSET 0) AS m";

/// Whom and when a question is about; microseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) user: UserId,
    pub(crate) start: i64,
    /// The end of each bucket.
    pub(crate) ends: &'a [i64],
    /// Where weights end.
    pub(crate) now: i64,
}

/// The statistics of a range.
pub(crate) async fn stats(readers: &Readers, user: UserId, range: TimeRange, now: i64) -> Result<Stats, Error> {
    let ends = [range.end().timestamp_micros()];
    let question = Question {
        user,
        start: range.start().timestamp_micros(),
        ends: &ends,
        now,
    };
    let answers = series(readers, question).await?;
    Ok(answers.into_iter().next().unwrap_or_default())
}

/// The statistics of each bucket, with the winners of the whole.
pub(crate) async fn series(readers: &Readers, question: Question<'_>) -> Result<Vec<Stats>, Error> {
    let mut session = checkout(readers).await?;
    let mut snapshot = Snapshot::begin(&mut session, question).await?;
    let parts = snapshot.parts().await?;
    drop(snapshot);
    drop(session);
    Ok(assemble(parts, question.start, question.ends, question.now))
}

/// The heart rates of a range.
pub(crate) async fn histogram(readers: &Readers, user: UserId, range: TimeRange, now: i64) -> Result<Histogram, Error> {
    let ends = [range.end().timestamp_micros()];
    let question = Question {
        user,
        start: range.start().timestamp_micros(),
        ends: &ends,
        now,
    };
    let mut session = checkout(readers).await?;
    let mut snapshot = Snapshot::begin(&mut session, question).await?;
    Ok(snapshot.histogram().await?)
}

/// A transaction that sees one state of the database, and which rows of it answer the question.
///
/// The transaction ends when this is dropped: with the answer, or on the way there when whoever asked is gone.
pub(crate) struct Snapshot<'a> {
    session: &'a mut Session,
    question: Question<'a>,
    stored: Stored,
    raw: Spans,
}

/// Spans as `unnest` takes them.
#[derive(Debug, Default)]
struct Spans {
    from: Vec<Micros>,
    to: Vec<Micros>,
}

/// Spans of stored rows.
#[derive(Debug, Default)]
struct Stored {
    minutes: Vec<i16>,
    spans: Spans,
}

impl<'a> Snapshot<'a> {
    pub(crate) async fn begin(session: &'a mut Session, question: Question<'a>) -> Result<Self, Failure> {
        let statement = session.prepare(SEALED).await?;
        let mut snapshot = Self {
            session,
            question,
            stored: Stored::default(),
            raw: Spans::default(),
        };
        // Sent together, for one round trip.
        let client = snapshot.session.client();
        let (begun, sealed) = join!(client.batch_execute(BEGIN), sealed(client, &statement, question));
        begun?;
        snapshot.plan(&sealed?);
        Ok(snapshot)
    }

    /// Turns to another question about the same moment.
    #[cfg(test)]
    pub(crate) async fn ask(&mut self, question: Question<'a>) -> Result<(), Failure> {
        let statement = self.session.prepare(SEALED).await?;
        let sealed = sealed(self.session.client(), &statement, question).await?;
        self.question = question;
        self.plan(&sealed);
        Ok(())
    }

    fn plan(&mut self, (before, dirty): &(i64, Vec<i64>)) {
        let Question { start, ends, now, .. } = self.question;
        // Readings of the future stand for no time yet, which summaries do not know.
        let before = (*before).min(Grain::Slice.floor(now));
        (self.stored, self.raw) = (Stored::default(), Spans::default());
        for span in plan(start, ends, Sealed { before, dirty }) {
            self.add(span);
        }
    }

    fn add(&mut self, Span { grain, from, to }: Span) {
        let spans = match grain {
            Some(grain) => {
                self.stored.minutes.push(grain.minutes());
                &mut self.stored.spans
            }
            None => &mut self.raw,
        };
        spans.from.push(Micros(from));
        spans.to.push(Micros(to));
    }

    /// Everything there is, boiled down as far as it is.
    pub(crate) async fn parts(&mut self) -> Result<Vec<Part>, Failure> {
        let rollups = self.session.prepare(ROLLUPS).await?;
        let raw = self.session.prepare(RAW).await?;
        let (client, user) = (self.session.client(), self.question.user.get());
        let (stored_spans, raw_spans) = (self.stored.params(&user), self.raw.params(&user));
        let stored = async {
            let mut parts = Vec::new();
            if !self.stored.minutes.is_empty() {
                let rows = client.query_raw(&rollups, stored_spans).await?;
                pin_mut!(rows);
                while let Some(row) = rows.try_next().await? {
                    parts.push(stored_part(&row)?);
                }
            }
            Ok::<_, Failure>(parts)
        };
        let folded = async {
            let mut fold = RawFold::new(self.question.ends, self.question.now);
            if !self.raw.from.is_empty() {
                let rows = client.query_raw(&raw, raw_spans).await?;
                pin_mut!(rows);
                while let Some(row) = rows.try_next().await? {
                    fold.push(row.get(1), point(&row));
                }
            }
            Ok::<_, Failure>(fold.finish())
        };
        let (stored, folded) = join!(stored, folded);
        let mut parts = stored?;
        parts.extend(folded?);
        Ok(parts)
    }

    /// All heart rates.
    pub(crate) async fn histogram(&mut self) -> Result<Histogram, Failure> {
        let histograms = self.session.prepare(HISTOGRAMS).await?;
        let rates = self.session.prepare(RAW_RATES).await?;
        let (client, user) = (self.session.client(), self.question.user.get());
        let (stored_spans, raw_spans) = (self.stored.params(&user), self.raw.params(&user));
        let stored = async {
            let mut all = Histogram::default();
            let rows = client.query_raw(&histograms, stored_spans).await?;
            pin_mut!(rows);
            while let Some(row) = rows.try_next().await? {
                all.append_encoded(row.get(0)).ok_or(Failure::UnknownSummary)?;
            }
            Ok::<_, Failure>(all)
        };
        let counted = async {
            let mut all = Histogram::default();
            let rows = client.query_raw(&rates, raw_spans).await?;
            pin_mut!(rows);
            while let Some(row) = rows.try_next().await? {
                all.add(row.get(0));
            }
            Ok::<_, Failure>(all)
        };
        let (stored, counted) = join!(stored, counted);
        let mut all = stored?;
        all.append(&counted?);
        Ok(all)
    }

    #[cfg(test)]
    pub(crate) fn session(&mut self) -> &mut Session {
        self.session
    }
}

/// Up to when summaries are complete, and which slices in the range are dirty.
async fn sealed(client: &Client, statement: &Statement, question: Question<'_>) -> Result<(i64, Vec<i64>), Failure> {
    let end = question.ends.last().copied().unwrap_or(question.start);
    let (user, from, to) = (question.user.get(), Micros(question.start - SLICE_MICROS), Micros(end));
    let params: [&(dyn ToSql + Sync); 3] = [&user, &from, &to];
    let row = client.query_one(statement, &params).await?;
    let dirty = row.get::<_, Vec<Micros>>(1).into_iter().map(|Micros(slice)| slice);
    Ok((row.get::<_, Micros>(0).0, dirty.collect()))
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        // The first poll puts it in line, before anything the next user of the connection may ask; nobody waits for the answer.
        let _ = self.session.client().batch_execute("ROLLBACK").now_or_never();
    }
}

impl Spans {
    fn params<'a>(&'a self, user: &'a i64) -> [&'a (dyn ToSql + Sync); 3] {
        [user, &self.from, &self.to]
    }
}

impl Stored {
    fn params<'a>(&'a self, user: &'a i64) -> [&'a (dyn ToSql + Sync); 4] {
        [user, &self.minutes, &self.spans.from, &self.spans.to]
    }
}

fn stored_part(row: &Row) -> Result<Part, Failure> {
    let (summary, won) = codec::decode(row.get(2)).ok_or(Failure::UnknownSummary)?;
    Ok(Part {
        at: row.get::<_, Micros>(0).0,
        source: row.get::<_, &str>(1).into(),
        summary,
        won,
        histogram: Histogram::default(),
    })
}

fn point(row: &Row) -> Point {
    Point {
        at: row.get::<_, Micros>(0).0,
        heart_rate: row.get(2),
        steps: row.get(3),
        calories: row.get(4),
    }
}
