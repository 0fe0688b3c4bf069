//! Statistics: stored summaries where they are true, raw samples for the rest, in one snapshot.
//!
//! A reader asks twice within one repeatable read transaction. The first answer says what is sealed and what of it is
//! dirty; [`plan`] makes of it which rows to fetch; the second fetches them. So every answer is what a plain aggregate over the
//! raw samples of the same snapshot would say, whatever is written, sealed or erased meanwhile.

use futures_util::{FutureExt, TryStreamExt, join, pin_mut};
use tokio_postgres::{Client, Row, Statement, types::ToSql};

use crate::{
    error::Error,
    fold::{SampleSummariser, SourceSummary, assemble},
    grain::Grain,
    histogram::Histogram,
    plan::{RollupSpan, UsableRollups, plan, slices_cut_by},
    range::TimeRange,
    sample::UserId,
    stats::RangeStats,
    store::{
        connection::{Readers, Session, checkout},
        failure::Failure,
        micros::Micros,
    },
    summary::{Observation, codec},
};

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// What is sealed, what of it is dirty for this user in this range, and which of the slices that borders cut are stored in minutes.
const SEALED: &str = "SELECT sealed_before, ARRAY(SELECT slice FROM health_dirty \
     WHERE user_id = $1 AND slice > $2 AND slice < $3 ORDER BY slice), \
     ARRAY(SELECT cut.slice FROM unnest($4::timestamptz[]) AS cut (slice) CROSS JOIN LATERAL (SELECT FROM health_rollups \
     WHERE user_id = $1 AND minutes = 1 AND start >= cut.slice AND start < cut.slice + interval '15 minutes' LIMIT 1) AS dense) \
     FROM health_sealing";

/// The rows of some spans. `OFFSET 0` keeps the spans outside: each is one stretch of the key's leaves then, however empty
/// the planner believes the table to be.
const ROLLUPS: &str = "SELECT r.start, r.source, r.summary \
     FROM unnest($2::smallint[], $3::timestamptz[], $4::timestamptz[]) AS spans (minutes, a, b) \
     CROSS JOIN LATERAL (SELECT start, source, summary FROM health_rollups \
     WHERE user_id = $1 AND minutes = spans.minutes AND start >= spans.a AND start < spans.b OFFSET 0) AS r";

/// The minutes of some spans, ordered as the fold needs them.
const MINUTES: &str = "SELECT r.start, r.source, r.summary FROM unnest($2::timestamptz[], $3::timestamptz[]) AS spans (a, b) \
     CROSS JOIN LATERAL (SELECT start, source, summary FROM health_rollups \
     WHERE user_id = $1 AND minutes = 1 AND start >= spans.a AND start < spans.b ORDER BY start, source) AS r";

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
pub(crate) async fn stats(readers: &Readers, user: UserId, range: TimeRange, now: i64) -> Result<RangeStats, Error> {
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
pub(crate) async fn series(readers: &Readers, question: Question<'_>) -> Result<Vec<RangeStats>, Error> {
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
    /// Of what is stored, the minutes.
    minutes: Spans,
    raw: Spans,
}

/// Spans as `unnest` takes them.
#[derive(Debug, Clone, Default)]
struct Spans {
    from: Vec<Micros>,
    to: Vec<Micros>,
}

/// Spans of stored rows.
#[derive(Debug, Clone, Default)]
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
            minutes: Spans::default(),
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

    fn plan(&mut self, state: &State) {
        let Question { start, ends, now, .. } = self.question;
        // Readings of the future stand for no time yet, which summaries do not know.
        let sealed = UsableRollups {
            sealed_before: state.before.min(Grain::Slice.floor(now)),
            dirty: &state.dirty,
            dense: &state.dense,
        };
        (self.stored, self.minutes, self.raw) = (Stored::default(), Spans::default(), Spans::default());
        for span in plan(start, ends, sealed) {
            self.add(span);
        }
    }

    fn add(&mut self, RollupSpan { grain, from, to }: RollupSpan) {
        let spans = match grain {
            Some(Grain::Minute) => &mut self.minutes,
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
    pub(crate) async fn parts(&mut self) -> Result<Vec<SourceSummary>, Failure> {
        let rollups = self.session.prepare(ROLLUPS).await?;
        let minutes = self.session.prepare(MINUTES).await?;
        let raw = self.session.prepare(RAW).await?;
        let (client, user) = (self.session.client(), self.question.user.get());
        let (stored_spans, raw_spans) = (self.stored.params(&user), self.raw.params(&user));
        let minute_spans = self.minutes.params(&user);
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
        let minutes = async {
            if self.minutes.from.is_empty() {
                return Ok(Vec::new());
            }
            client.query(&minutes, &minute_spans).await
        };
        let points = async {
            let mut points = Vec::new();
            if !self.raw.from.is_empty() {
                let rows = client.query_raw(&raw, raw_spans).await?;
                pin_mut!(rows);
                // Folded below, where minutes come in between.
                while let Some(row) = rows.try_next().await? {
                    points.push(row);
                }
            }
            Ok::<_, Failure>(points)
        };
        let (stored, minutes, points) = join!(stored, minutes, points);
        let mut parts = stored?;
        parts.extend(self.fold(&minutes?, &points?)?);
        Ok(parts)
    }

    /// Boils down minutes and samples, each in the order of time and apart from each other.
    fn fold(&self, minutes: &[Row], points: &[Row]) -> Result<Vec<SourceSummary>, Failure> {
        let mut fold = SampleSummariser::new(self.question.ends, self.question.now);
        let mut minutes = minutes.iter().map(stored_part).peekable();
        for row in points {
            let point = point(row);
            while let Some(minute) =
                minutes.next_if(|minute| minute.as_ref().map_or(true, |minute| minute.at < point.at))
            {
                let minute = minute?;
                fold.add_summary(&minute.source, minute.at, &minute.summary);
            }
            fold.push(row.get(1), point);
        }
        for minute in minutes {
            let minute = minute?;
            fold.add_summary(&minute.source, minute.at, &minute.summary);
        }
        Ok(fold.finish())
    }

    /// All heart rates.
    pub(crate) async fn histogram(&mut self) -> Result<Histogram, Failure> {
        let histograms = self.session.prepare(HISTOGRAMS).await?;
        let rates = self.session.prepare(RAW_RATES).await?;
        let (client, user) = (self.session.client(), self.question.user.get());
        let rows = self.stored.and_minutes(&self.minutes);
        let (stored_spans, raw_spans) = (rows.params(&user), self.raw.params(&user));
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

/// What a reader has to know before it can plan; microseconds since 1970.
struct State {
    /// Up to when summaries are complete.
    before: i64,
    /// Slices of which they are not true.
    dirty: Vec<i64>,
    /// Slices that are cut, and stored in minutes.
    dense: Vec<i64>,
}

async fn sealed(client: &Client, statement: &Statement, question: Question<'_>) -> Result<State, Failure> {
    let end = question.ends.last().copied().unwrap_or(question.start);
    let (user, from, to) = (
        question.user.get(),
        Micros(question.start - Grain::Slice.micros()),
        Micros(end),
    );
    let cut: Vec<_> = slices_cut_by(question.start, question.ends)
        .into_iter()
        .map(Micros)
        .collect();
    let params: [&(dyn ToSql + Sync); 4] = [&user, &from, &to, &cut];
    let row = client.query_one(statement, &params).await?;
    let micros = |column| {
        let times: Vec<Micros> = row.get(column);
        times.into_iter().map(|Micros(at)| at).collect::<Vec<_>>()
    };
    let mut dense = micros(2);
    dense.sort_unstable();
    Ok(State {
        before: row.get::<_, Micros>(0).0,
        dirty: micros(1),
        dense,
    })
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
    /// The same, and minutes.
    fn and_minutes(&self, minutes: &Spans) -> Self {
        let mut all = self.clone();
        all.minutes
            .resize(self.minutes.len() + minutes.from.len(), Grain::Minute.minutes());
        all.spans.from.extend(&minutes.from);
        all.spans.to.extend(&minutes.to);
        all
    }

    fn params<'a>(&'a self, user: &'a i64) -> [&'a (dyn ToSql + Sync); 4] {
        [user, &self.minutes, &self.spans.from, &self.spans.to]
    }
}

fn stored_part(row: &Row) -> Result<SourceSummary, Failure> {
    let (summary, winning_totals) = codec::decode(row.get(2)).ok_or(Failure::UnknownSummary)?;
    Ok(SourceSummary {
        at: row.get::<_, Micros>(0).0,
        source: row.get::<_, &str>(1).into(),
        summary,
        winning_totals,
        histogram: Histogram::default(),
    })
}

fn point(row: &Row) -> Observation {
    Observation {
        at: row.get::<_, Micros>(0).0,
        heart_rate: row.get(2),
        steps: row.get(3),
        calories: row.get(4),
    }
}
