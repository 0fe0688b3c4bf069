//! Makes summaries of samples, and coarser summaries of finer ones, and stores them.

use std::{collections::HashMap, iter};

use futures_util::{TryStreamExt, pin_mut};
use smol_str::SmolStr;
use tokio_postgres::{Row, types::ToSql};

use crate::{
    fold::{SampleSummariser, SourceSummary},
    grain::Grain,
    histogram::Histogram,
    store::{
        columns::distinct,
        connection::Session,
        error::StoreError,
        micros::Micros,
        rows::{observation, text},
        tables::Tables,
    },
    summary::{Observation, Summary, Totals, codec},
};

/// A span of one user's time in whole slices, `[from, to)`, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserTimeSpan {
    pub(crate) user: i64,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// The summaries of some spans, each with its user.
#[derive(Debug, Default)]
pub(crate) struct Summaries {
    /// One a slice and source.
    pub(crate) slices: Vec<(i64, SourceSummary)>,
    /// One a minute and source, of dense slices only.
    pub(crate) minutes: Vec<(i64, SourceSummary)>,
    /// Where the limit of samples was reached: the index of the span, and the first slice without a summary.
    pub(crate) stopped_at: Option<(usize, i64)>,
}

/// Reads the samples of some spans, in the order of the spans and of time within each, as the fold needs them.
///
/// The lateral subquery makes each span one range of the primary key. The ordinality tells which span a sample
/// belongs to. The `LIMIT` is outside of it, so it counts the samples of all spans together.
pub(super) const SAMPLES_LOCAL: &str = "SELECT m.timestamp, m.source, m.heart_rate, m.steps, m.calories, spans.number \
     FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY AS spans (user_id, a, b, number) \
     CROSS JOIN LATERAL (SELECT timestamp, source, heart_rate, steps, calories FROM health_metrics m \
     WHERE m.user_id = spans.user_id AND m.timestamp >= spans.a AND m.timestamp < spans.b \
     ORDER BY timestamp, source) AS m \
     LIMIT $4";

/// The same with an explicit order of all rows, because those of several shards come in any order, and with the users
/// named. Each shard returns up to `$4` samples, of which the coordinator drops most if many users have as many. The
/// inner order keeps the subquery apart: a join could read all samples of the users.
const SAMPLES: &str = "SELECT m.timestamp, m.source, m.heart_rate, m.steps, m.calories, spans.number \
     FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY AS spans (user_id, a, b, number) \
     CROSS JOIN LATERAL (SELECT timestamp, source, heart_rate, steps, calories FROM health_metrics m \
     WHERE m.user_id = ANY($5::bigint[]) AND m.user_id = spans.user_id AND m.timestamp >= spans.a AND m.timestamp < spans.b \
     ORDER BY timestamp, source) AS m \
     ORDER BY spans.number, m.timestamp, m.source LIMIT $4";

/// Reads the summaries of one grain in some spans, in the order of the spans and of time within each, so that those
/// of one coarser summary follow each other. Each span is one range of the primary key.
const FINER_LOCAL: &str = "SELECT spans.user_id, r.start, r.source, r.summary, r.histogram \
     FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) AS spans (user_id, a, b) \
     CROSS JOIN LATERAL (SELECT start, source, summary, histogram FROM health_rollups r \
     WHERE r.user_id = spans.user_id AND r.minutes = $4 AND r.start >= spans.a AND r.start < spans.b ORDER BY start, source) AS r";

/// The same with an explicit order and with the users named, as in [`SAMPLES`]. The spans come by user and time.
const FINER: &str = "SELECT spans.user_id, r.start, r.source, r.summary, r.histogram \
     FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) AS spans (user_id, a, b) \
     CROSS JOIN LATERAL (SELECT start, source, summary, histogram FROM health_rollups r \
     WHERE r.user_id = ANY($5::bigint[]) AND r.user_id = spans.user_id AND r.minutes = $4 \
     AND r.start >= spans.a AND r.start < spans.b ORDER BY start, source) AS r \
     ORDER BY spans.user_id, r.start, r.source";

/// Stores summaries of one grain. A summary that exists is replaced. None is deleted: only erasing removes samples,
/// and the eraser removes their summaries too.
const STORE: &str = "INSERT INTO health_rollups (user_id, minutes, start, source, samples, summary, histogram) \
     SELECT user_id, $1, start, source, samples, summary, histogram \
     FROM unnest($2::bigint[], $3::timestamptz[], $4::text[], $5::bigint[], $6::bytea[], $7::bytea[]) \
     AS new (user_id, start, source, samples, summary, histogram) \
     ON CONFLICT (user_id, minutes, start, source) \
     DO UPDATE SET samples = excluded.samples, summary = excluded.summary, histogram = excluded.histogram";

/// Summarises the samples of some spans, at most `limit` samples.
///
/// A slice of `dense_samples` samples or more gets summaries of its minutes as well.
pub(crate) async fn samples(
    session: &mut Session,
    spans: &[UserTimeSpan],
    limit: Option<i64>,
    dense_samples: u64,
) -> Result<Summaries, StoreError> {
    let statement = session.prepare(session.tables().shape(SAMPLES_LOCAL, SAMPLES)).await?;
    let columns = SpanColumns::of(spans, session.tables());
    let most = limit.unwrap_or(i64::MAX);
    let rows = session.client().query_raw(&statement, columns.params(&most)).await?;
    pin_mut!(rows);

    let mut summaries = Summaries::default();
    let mut fold = UserFold::new(dense_samples);
    let (mut index, mut count) = (0, 0);
    while let Some(row) = rows.try_next().await? {
        // The ordinality counts from 1.
        let row_index = usize::try_from(row.get::<_, i64>(5) - 1).unwrap_or_default();
        if row_index != index {
            let done = std::mem::replace(&mut fold, UserFold::new(dense_samples));
            summaries.extend(spans[index].user, done.finish());
            index = row_index;
        }
        fold.push(text(&row, 1)?, observation(&row));
        count += 1;
    }
    let user = spans.get(index).map_or(0, |span| span.user);
    if count < most {
        summaries.extend(user, fold.finish());
    } else {
        // The limit may have cut the last slice.
        summaries.stopped_at = Some((index, fold.slices.current_interval()));
        summaries.extend(user, fold.without_current_slice());
    }
    Ok(summaries)
}

/// Folds the samples of one user into slices, and into minutes where slices are dense.
struct UserFold {
    slices: SampleSummariser<'static>,
    /// The minutes of the current slice.
    minutes: SampleSummariser<'static>,
    /// The number of samples in the current slice.
    samples: u64,
    /// The first instant of the current slice.
    slice: i64,
    dense_samples: u64,
    /// The minutes of dense slices that have ended.
    dense_minutes: Vec<SourceSummary>,
}

/// The summaries of one user: slices, and minutes of dense slices.
type SlicesAndMinutes = (Vec<SourceSummary>, Vec<SourceSummary>);

impl UserFold {
    fn new(dense_samples: u64) -> Self {
        Self {
            slices: fold(),
            minutes: fold().by_minute(),
            samples: 0,
            slice: i64::MIN,
            dense_samples,
            dense_minutes: Vec::new(),
        }
    }

    fn push(&mut self, source: &str, observation: Observation) {
        let slice = Grain::Slice.floor(observation.at);
        if slice != self.slice {
            self.end_slice();
            self.slice = slice;
        }
        self.samples += 1;
        self.slices.push(source, observation);
        self.minutes.push(source, observation);
    }

    /// Keeps the minutes of the current slice only if it is dense: sparse samples would have nearly as many minutes.
    fn end_slice(&mut self) {
        let minutes = std::mem::replace(&mut self.minutes, fold().by_minute());
        if std::mem::take(&mut self.samples) >= self.dense_samples {
            self.dense_minutes.extend(minutes.finish());
        }
    }

    fn finish(mut self) -> SlicesAndMinutes {
        self.end_slice();
        (self.slices.finish(), self.dense_minutes)
    }

    fn without_current_slice(self) -> SlicesAndMinutes {
        (self.slices.finish_without_current_interval(), self.dense_minutes)
    }
}

/// Makes a fold without buckets, in which every reading counts for the time until the next: the samples are in the
/// past.
fn fold() -> SampleSummariser<'static> {
    const ONE_BUCKET: &[i64] = &[i64::MAX];
    SampleSummariser::new(ONE_BUCKET, i64::MAX).with_histograms()
}

impl Summaries {
    fn extend(&mut self, user: i64, (slices, minutes): SlicesAndMinutes) {
        self.slices.extend(iter::repeat(user).zip(slices));
        self.minutes.extend(iter::repeat(user).zip(minutes));
    }

    /// Stores them all. Each replaces the stored summary of its key.
    pub(crate) async fn store(&self, session: &mut Session) -> Result<(), StoreError> {
        store(session, Grain::Slice, &self.slices).await?;
        store(session, Grain::Minute, &self.minutes).await
    }
}

/// Stores summaries of one grain. Each replaces the stored summary of its key.
async fn store(session: &mut Session, grain: Grain, rows: &[(i64, SourceSummary)]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let users: Vec<_> = rows.iter().map(|(user, _)| *user).collect();
    let starts: Vec<_> = rows.iter().map(|(_, row)| Micros(row.at)).collect();
    let sources: Vec<_> = rows.iter().map(|(_, row)| row.source.as_str()).collect();
    let samples: Vec<_> = rows
        .iter()
        .map(|(_, row)| i64::try_from(row.summary.samples).unwrap_or(i64::MAX))
        .collect();
    let summaries: Vec<_> = rows
        .iter()
        .map(|(_, row)| codec::encode(&row.summary, row.winning_totals))
        .collect();
    let histograms: Vec<_> = rows.iter().map(|(_, row)| row.histogram.encode()).collect();
    let statement = session.prepare(STORE).await?;
    let minutes = grain.minutes();
    let params: [&(dyn ToSql + Sync); 7] = [&minutes, &users, &starts, &sources, &samples, &summaries, &histograms];
    session.client().execute(&statement, &params).await?;
    Ok(())
}

/// Makes the hours and days that these spans touch from their slices, as far as they end by the `limit` of a span.
pub(crate) async fn coarser(
    session: &mut Session,
    spans: &[UserTimeSpan],
    limit: impl Fn(&UserTimeSpan) -> i64,
) -> Result<(), StoreError> {
    for (finer, grain) in iter::zip(Grain::ALWAYS_STORED, Grain::ALWAYS_STORED.into_iter().skip(1)) {
        let widened = widen(spans, grain, &limit);
        if widened.is_empty() {
            continue;
        }
        let statement = session.prepare(session.tables().shape(FINER_LOCAL, FINER)).await?;
        let columns = SpanColumns::of(&widened, session.tables());
        let finer_minutes = finer.minutes();
        let rows = session
            .client()
            .query_raw(&statement, columns.params(&finer_minutes))
            .await?;
        pin_mut!(rows);
        let mut merge = CoarserMerge::new(grain);
        while let Some(row) = rows.try_next().await? {
            merge.push(&row)?;
        }
        store(session, grain, &merge.summaries).await?;
    }
    Ok(())
}

/// Widens spans to the whole summaries of a grain that they touch, without overlaps. The spans come by user and time.
fn widen(spans: &[UserTimeSpan], grain: Grain, limit: impl Fn(&UserTimeSpan) -> i64) -> Vec<UserTimeSpan> {
    let mut widened: Vec<UserTimeSpan> = Vec::new();
    for span in spans {
        let from = grain.floor(span.from);
        let to = grain.ceil(span.to).min(grain.floor(limit(span)));
        match widened.last_mut() {
            Some(last) if last.user == span.user && from <= last.to => last.to = to.max(last.to),
            _ if from < to => widened.push(UserTimeSpan {
                user: span.user,
                from,
                to,
            }),
            _ => {}
        }
    }
    widened
}

/// Merges finer summaries, which come by user and time, into summaries of a coarser grain.
struct CoarserMerge {
    grain: Grain,
    summaries: Vec<(i64, SourceSummary)>,
    /// The index in `summaries` of each source's summary of the current user and time.
    index_by_source: HashMap<SmolStr, usize>,
}

impl CoarserMerge {
    fn new(grain: Grain) -> Self {
        Self {
            grain,
            summaries: Vec::new(),
            index_by_source: HashMap::new(),
        }
    }

    fn push(&mut self, row: &Row) -> Result<(), StoreError> {
        let (user, at) = (row.get(0), self.grain.floor(row.get::<_, Micros>(1).0));
        let source = SmolStr::new(text(row, 2)?);
        let (summary, winning_totals) = codec::decode(row.get(3)).ok_or(StoreError::UnreadableSummary)?;
        let is_next = |(last_user, last): &(i64, SourceSummary)| (*last_user, last.at) != (user, at);
        if self.summaries.last().is_none_or(is_next) {
            self.index_by_source.clear();
        }
        let index = *self
            .index_by_source
            .entry(source.clone())
            .or_insert(self.summaries.len());
        if index == self.summaries.len() {
            let empty = SourceSummary {
                at,
                source,
                summary: Summary::default(),
                winning_totals: Totals::default(),
                histogram: Histogram::default(),
            };
            self.summaries.push((user, empty));
        }
        let (_, coarser) = &mut self.summaries[index];
        coarser.summary.append(&summary);
        coarser.winning_totals += winning_totals;
        coarser
            .histogram
            .append_encoded(row.get(4))
            .ok_or(StoreError::UnreadableSummary)
    }
}

/// Spans by column, as `unnest` takes them.
struct SpanColumns {
    users: Vec<i64>,
    from: Vec<Micros>,
    to: Vec<Micros>,
    /// Each user once; `None` if the tables are local, where no statement names them.
    distinct_users: Option<Vec<i64>>,
}

impl SpanColumns {
    fn of(spans: &[UserTimeSpan], tables: Tables) -> Self {
        let users: Vec<_> = spans.iter().map(|span| span.user).collect();
        Self {
            distinct_users: (tables == Tables::Distributed).then(|| distinct(&users)),
            users,
            from: spans.iter().map(|span| Micros(span.from)).collect(),
            to: spans.iter().map(|span| Micros(span.to)).collect(),
        }
    }

    /// Returns the parameters of a statement that takes one more after the spans.
    fn params<'a>(&'a self, fourth: &'a (dyn ToSql + Sync)) -> Vec<&'a (dyn ToSql + Sync)> {
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&self.users, &self.from, &self.to, fourth];
        if let Some(users) = &self.distinct_users {
            params.push(users);
        }
        params
    }
}
