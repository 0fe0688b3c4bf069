//! Making stored summaries of samples, and coarser ones of finer ones.

use std::{collections::HashMap, iter};

use futures_util::{TryStreamExt, pin_mut};
use smol_str::SmolStr;
use tokio_postgres::{Row, types::ToSql};

use crate::{
    fold::{SampleSummariser, SourceSummary},
    grain::Grain,
    histogram::Histogram,
    store::{connection::Session, failure::Failure, micros::Micros},
    summary::{Observation, Summary, Totals, codec},
};

/// A stretch of one user's time, in whole slices; microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserSpan {
    pub(crate) user: i64,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// What some spans hold.
#[derive(Debug)]
pub(crate) struct Piece {
    /// In slices, with their user.
    pub(crate) slices: Vec<(i64, SourceSummary)>,
    /// Of dense slices, in minutes.
    pub(crate) minutes: Vec<(i64, SourceSummary)>,
    /// Where the limit was reached: in which span, and the first slice that is missing.
    pub(crate) stopped_at: Option<(usize, i64)>,
}

const SAMPLES: &str = "SELECT spans.place, m.timestamp, m.source, m.heart_rate, m.steps, m.calories \
     FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY AS spans (user_id, a, b, place) \
     CROSS JOIN LATERAL (SELECT timestamp, source, heart_rate, steps, calories FROM health_metrics m \
     WHERE m.user_id = spans.user_id AND m.timestamp >= spans.a AND m.timestamp < spans.b ORDER BY timestamp, source) AS m \
     LIMIT $4";

const FINER: &str = "SELECT spans.user_id, r.start, r.source, r.summary, r.histogram \
     FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) AS spans (user_id, a, b) \
     CROSS JOIN LATERAL (SELECT start, source, summary, histogram FROM health_rollups r WHERE r.user_id = spans.user_id \
     AND r.minutes = $4 AND r.start >= spans.a AND r.start < spans.b ORDER BY start, source) AS r";

/// Nothing but erasing ever takes a sample away, and that takes the summaries as well: what is there is replaced, never left.
const STORE: &str = "INSERT INTO health_rollups (user_id, minutes, start, source, samples, summary, histogram) \
     SELECT user_id, $1, start, source, samples, summary, histogram \
     FROM unnest($2::bigint[], $3::timestamptz[], $4::text[], $5::bigint[], $6::bytea[], $7::bytea[]) \
     AS parts (user_id, start, source, samples, summary, histogram) \
     ON CONFLICT (user_id, minutes, start, source) \
     DO UPDATE SET samples = excluded.samples, summary = excluded.summary, histogram = excluded.histogram";

/// Boils down the samples of some spans, at most so many. A slice of `dense` samples or more is kept in minutes as well.
pub(crate) async fn samples(
    session: &mut Session,
    spans: &[UserSpan],
    limit: Option<i64>,
    dense: u64,
) -> Result<Piece, Failure> {
    let statement = session.prepare(SAMPLES).await?;
    let (users, from, to) = columns(spans);
    let most = limit.unwrap_or(i64::MAX);
    let params: [&(dyn ToSql + Sync); 4] = [&users, &from, &to, &most];
    let rows = session.client().query_raw(&statement, params).await?;
    pin_mut!(rows);

    let mut piece = Piece {
        slices: Vec::new(),
        minutes: Vec::new(),
        stopped_at: None,
    };
    let (mut place, mut open, mut count) = (0, UserFold::new(dense), 0);
    while let Some(row) = rows.try_next().await? {
        let span = usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or_default();
        if span != place {
            let done = std::mem::replace(&mut open, UserFold::new(dense));
            piece.take(spans[place].user, done.finish());
            place = span;
        }
        open.push(row.get(2), point(&row));
        count += 1;
    }
    let user = spans.get(place).map_or(0, |span| span.user);
    if count < most {
        piece.take(user, open.finish());
    } else {
        // There may be more of the last slice.
        piece.stopped_at = Some((place, open.slices.current_interval()));
        piece.take(user, open.without_current_slice());
    }
    Ok(piece)
}

/// One user's samples on their way, in both widths.
struct UserFold {
    slices: SampleSummariser<'static>,
    /// Of the current slice.
    minutes: SampleSummariser<'static>,
    /// Samples in it.
    samples: u64,
    /// Its first instant.
    slice: i64,
    dense: u64,
    /// Minutes of dense slices that are over.
    kept: Vec<SourceSummary>,
}

impl UserFold {
    fn new(dense: u64) -> Self {
        Self {
            slices: fold(),
            minutes: fold().by_minute(),
            samples: 0,
            slice: i64::MIN,
            dense,
            kept: Vec::new(),
        }
    }

    fn push(&mut self, source: &str, point: Observation) {
        let slice = Grain::Slice.floor(point.at);
        if slice != self.slice {
            self.end_slice();
            self.slice = slice;
        }
        self.samples += 1;
        self.slices.push(source, point);
        self.minutes.push(source, point);
    }

    /// Minutes of a slice that is not dense are forgotten at its end: of sparse samples there are as many minutes.
    fn end_slice(&mut self) {
        let minutes = std::mem::replace(&mut self.minutes, fold().by_minute());
        if std::mem::take(&mut self.samples) >= self.dense {
            self.kept.extend(minutes.finish());
        }
    }

    /// In slices, and in minutes.
    fn finish(mut self) -> (Vec<SourceSummary>, Vec<SourceSummary>) {
        self.end_slice();
        (self.slices.finish(), self.kept)
    }

    fn without_current_slice(self) -> (Vec<SourceSummary>, Vec<SourceSummary>) {
        (self.slices.finish_without_current_interval(), self.kept)
    }
}

fn fold() -> SampleSummariser<'static> {
    const ONE_BUCKET: &[i64] = &[i64::MAX];
    SampleSummariser::new(ONE_BUCKET, i64::MAX).with_histograms()
}

impl Piece {
    fn take(&mut self, user: i64, (slices, minutes): (Vec<SourceSummary>, Vec<SourceSummary>)) {
        self.minutes.extend(iter::repeat(user).zip(minutes));
        self.slices.extend(iter::repeat(user).zip(slices));
    }

    /// Stores it all, in the place of what was there.
    pub(crate) async fn store(&self, session: &mut Session) -> Result<(), Failure> {
        store(session, Grain::Slice, &self.slices).await?;
        store(session, Grain::Minute, &self.minutes).await
    }
}

/// Stores summaries, each in the place of the one that was there.
async fn store(session: &mut Session, grain: Grain, parts: &[(i64, SourceSummary)]) -> Result<(), Failure> {
    if parts.is_empty() {
        return Ok(());
    }
    let users: Vec<_> = parts.iter().map(|(user, _)| *user).collect();
    let starts: Vec<_> = parts.iter().map(|(_, part)| Micros(part.at)).collect();
    let sources: Vec<_> = parts.iter().map(|(_, part)| part.source.as_str()).collect();
    let samples: Vec<_> = parts
        .iter()
        .map(|(_, part)| i64::try_from(part.summary.samples).unwrap_or(i64::MAX))
        .collect();
    let summaries: Vec<_> = parts
        .iter()
        .map(|(_, part)| codec::encode(&part.summary, part.winning_totals))
        .collect();
    let histograms: Vec<_> = parts.iter().map(|(_, part)| part.histogram.encode()).collect();
    let statement = session.prepare(STORE).await?;
    session
        .client()
        .execute(
            &statement,
            &[
                &grain.minutes(),
                &users,
                &starts,
                &sources,
                &samples,
                &summaries,
                &histograms,
            ],
        )
        .await?;
    Ok(())
}

/// Makes the hours and days that these spans touch, of what the slices say. Only whole ones before the limit of a span.
pub(crate) async fn coarser(
    session: &mut Session,
    spans: &[UserSpan],
    limit: impl Fn(&UserSpan) -> i64,
) -> Result<(), Failure> {
    for (finer, grain) in iter::zip(Grain::ALWAYS_STORED, Grain::ALWAYS_STORED.into_iter().skip(1)) {
        let whole = widen(spans, grain, &limit);
        if whole.is_empty() {
            continue;
        }
        let statement = session.prepare(FINER).await?;
        let (users, from, to) = columns(&whole);
        let params: [&(dyn ToSql + Sync); 4] = [&users, &from, &to, &finer.minutes()];
        let rows = session.client().query_raw(&statement, params).await?;
        pin_mut!(rows);
        let mut merged = Merged::new(grain);
        while let Some(row) = rows.try_next().await? {
            merged.push(&row)?;
        }
        store(session, grain, &merged.done).await?;
    }
    Ok(())
}

/// The spans in whole rows of a grain, each row once.
fn widen(spans: &[UserSpan], grain: Grain, limit: impl Fn(&UserSpan) -> i64) -> Vec<UserSpan> {
    let mut whole: Vec<UserSpan> = Vec::new();
    for span in spans {
        let (from, to) = (
            grain.floor(span.from),
            grain.ceil(span.to).min(grain.floor(limit(span))),
        );
        match whole.last_mut() {
            Some(last) if last.user == span.user && from <= last.to => last.to = to.max(last.to),
            _ if from < to => whole.push(UserSpan {
                user: span.user,
                from,
                to,
            }),
            _ => {}
        }
    }
    whole
}

/// Finer summaries on their way to be coarser ones. They come by user and time.
struct Merged {
    grain: Grain,
    done: Vec<(i64, SourceSummary)>,
    /// Where in `done` each source of the current user's current row is.
    places: HashMap<SmolStr, usize>,
}

impl Merged {
    fn new(grain: Grain) -> Self {
        Self {
            grain,
            done: Vec::new(),
            places: HashMap::new(),
        }
    }

    fn push(&mut self, row: &Row) -> Result<(), Failure> {
        let (user, at) = (row.get(0), self.grain.floor(row.get::<_, Micros>(1).0));
        let source = SmolStr::new(row.get::<_, &str>(2));
        let (summary, winning_totals) = codec::decode(row.get(3)).ok_or(Failure::UnknownSummary)?;
        if self
            .done
            .last()
            .is_none_or(|(last, part)| (*last, part.at) != (user, at))
        {
            self.places.clear();
        }
        let place = *self.places.entry(source.clone()).or_insert(self.done.len());
        if place == self.done.len() {
            let (summary, winning_totals, histogram) = (Summary::default(), Totals::default(), Histogram::default());
            self.done.push((
                user,
                SourceSummary {
                    at,
                    source,
                    summary,
                    winning_totals,
                    histogram,
                },
            ));
        }
        let (_, part) = &mut self.done[place];
        part.summary.append(&summary);
        part.winning_totals += winning_totals;
        part.histogram.append_encoded(row.get(4)).ok_or(Failure::UnknownSummary)
    }
}

fn columns(spans: &[UserSpan]) -> (Vec<i64>, Vec<Micros>, Vec<Micros>) {
    let users = spans.iter().map(|span| span.user).collect();
    let from = spans.iter().map(|span| Micros(span.from)).collect();
    (users, from, spans.iter().map(|span| Micros(span.to)).collect())
}

fn point(row: &Row) -> Observation {
    Observation {
        at: row.get::<_, Micros>(1).0,
        heart_rate: row.get(3),
        steps: row.get(4),
        calories: row.get(5),
    }
}
