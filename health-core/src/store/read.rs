//! Reads statistics: stored summaries where they are up to date, samples for the rest.
//!
//! A reader queries twice within one repeatable read transaction. The first query tells what is sealed and which
//! slices are dirty. [`plan`] decides from this which rows make up the range, and the second query reads them. So
//! every answer equals a plain aggregate over the samples of the same transaction, whatever other sessions write,
//! seal or erase meanwhile.

use futures_util::{StreamExt, TryStreamExt, join, pin_mut, stream};
use tokio_postgres::{Row, RowStream, Statement, types::ToSql};

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
        client::SessionClient,
        connection::Session,
        error::StoreError,
        micros::Micros,
        readers::{Readers, checkout},
        rows::{observation, text},
        transaction::Transaction,
    },
    summary::codec,
};

/// Repeatable read: all statements of the transaction see one snapshot.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Reads the watermark, the user's dirty slices in the range, and which of the slices in `$4` have minutes.
///
/// `$4` contains the slices that the boundaries of buckets cut. The `LIMIT 1` tells whether a slice has minutes from
/// one entry of the index, instead of reading fifteen for each source.
pub(super) const SEALED: &str = "SELECT sealed_before, ARRAY(SELECT slice FROM health_dirty \
     WHERE user_id = $1 AND slice > $2 AND slice < $3 ORDER BY slice), \
     ARRAY(SELECT cut.slice FROM unnest($4::timestamptz[]) AS cut (slice) \
     CROSS JOIN LATERAL (SELECT 1 FROM health_rollups WHERE user_id = $1 AND minutes = 1 \
     AND start >= cut.slice AND start < cut.slice + interval '15 minutes' LIMIT 1) AS dense) \
     FROM health_sealing";

/// Reads the summaries of some ranges, in any order.
///
/// `OFFSET 0` keeps the planner from merging the subquery into a join. So each range stays one range of the primary
/// key, also while the planner believes that the table is empty.
const ROLLUPS: &str = "SELECT r.start, r.source, r.summary \
     FROM unnest($2::smallint[], $3::timestamptz[], $4::timestamptz[]) AS ranges (minutes, a, b) \
     CROSS JOIN LATERAL (SELECT start, source, summary FROM health_rollups \
     WHERE user_id = $1 AND minutes = ranges.minutes AND start >= ranges.a AND start < ranges.b OFFSET 0) AS r";

/// Reads the minutes of some ranges in the order of time, as the fold needs them. The `ORDER BY` also keeps the
/// subquery apart, like the `OFFSET 0` of [`ROLLUPS`].
const MINUTES: &str = "SELECT r.start, r.source, r.summary \
     FROM unnest($2::timestamptz[], $3::timestamptz[]) AS ranges (a, b) \
     CROSS JOIN LATERAL (SELECT start, source, summary FROM health_rollups \
     WHERE user_id = $1 AND minutes = 1 AND start >= ranges.a AND start < ranges.b ORDER BY start, source) AS r";

/// Reads the histograms of the same rows as [`ROLLUPS`]. Statistics do not need them, and they are the larger column.
const HISTOGRAMS: &str = "SELECT r.histogram \
     FROM unnest($2::smallint[], $3::timestamptz[], $4::timestamptz[]) AS ranges (minutes, a, b) \
     CROSS JOIN LATERAL (SELECT histogram FROM health_rollups \
     WHERE user_id = $1 AND minutes = ranges.minutes AND start >= ranges.a AND start < ranges.b OFFSET 0) AS r";

/// Reads the samples of some ranges in the order of time, as the fold needs them: the ranges are ascending, and
/// `ORDER BY` sorts within each by walking the primary key.
pub(super) const SAMPLES: &str = "SELECT m.timestamp, m.source, m.heart_rate, m.steps, m.calories \
     FROM unnest($2::timestamptz[], $3::timestamptz[]) AS ranges (a, b) \
     CROSS JOIN LATERAL (SELECT timestamp, source, heart_rate, steps, calories FROM health_metrics \
     WHERE user_id = $1 AND timestamp >= ranges.a AND timestamp < ranges.b ORDER BY timestamp, source) AS m";

/// Reads the heart rates of the same samples, in any order; `OFFSET 0` as in [`ROLLUPS`].
const HEART_RATES: &str = "SELECT m.heart_rate FROM unnest($2::timestamptz[], $3::timestamptz[]) AS ranges (a, b) \
     CROSS JOIN LATERAL (SELECT heart_rate FROM health_metrics \
     WHERE user_id = $1 AND timestamp >= ranges.a AND timestamp < ranges.b AND heart_rate IS NOT NULL OFFSET 0) AS m";

/// What a reader asks for. Times are in microseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StatsQuery<'a> {
    pub(crate) user: UserId,
    pub(crate) start: i64,
    /// The end of each bucket, ascending. The first bucket begins at `start`, each other at the end of the one before.
    pub(crate) ends: &'a [i64],
    /// The present: a heart rate counts for no time after it.
    pub(crate) now: i64,
}

/// Returns the statistics of a range.
pub(crate) async fn stats(readers: &Readers, user: UserId, range: TimeRange, now: i64) -> Result<RangeStats, Error> {
    let ends = [range.end().timestamp_micros()];
    let stats = series(readers, StatsQuery::of_range(user, range, &ends, now)).await?;
    Ok(stats.into_iter().next().unwrap_or_default())
}

/// Returns the statistics of each bucket. In each slice the source counts that has the most in the whole range.
pub(crate) async fn series(readers: &Readers, query: StatsQuery<'_>) -> Result<Vec<RangeStats>, Error> {
    let summaries = {
        let mut session = checkout(readers).await?;
        let mut transaction = ReadTransaction::begin(&mut session, query).await?;
        readers.awaited_users().note(query.user, transaction.dirty_slices);
        transaction.summaries().await?
    };
    // The connection is back in the pool: the rest needs none.
    Ok(assemble(summaries, query.start, query.ends, query.now))
}

/// Returns the histogram of the heart rates of a range.
pub(crate) async fn histogram(readers: &Readers, user: UserId, range: TimeRange, now: i64) -> Result<Histogram, Error> {
    let ends = [range.end().timestamp_micros()];
    let query = StatsQuery::of_range(user, range, &ends, now);
    let mut session = checkout(readers).await?;
    let mut transaction = ReadTransaction::begin(&mut session, query).await?;
    readers.awaited_users().note(user, transaction.dirty_slices);
    Ok(transaction.histogram().await?)
}

impl<'a> StatsQuery<'a> {
    /// Asks for a range in one bucket. `ends` must contain the end of the range.
    fn of_range(user: UserId, range: TimeRange, ends: &'a [i64; 1], now: i64) -> Self {
        Self {
            user,
            start: range.start().timestamp_micros(),
            ends,
            now,
        }
    }
}

/// A transaction that sees one snapshot, and the rows of it that answer a query.
///
/// It ends when it is dropped: after the answer, or earlier if the caller drops its future.
pub(crate) struct ReadTransaction<'a> {
    transaction: Transaction<'a>,
    query: StatsQuery<'a>,
    /// The number of dirty slices in the range.
    dirty_slices: usize,
    /// Summaries of slices, hours and days.
    rollups: RollupRanges,
    /// Summaries of minutes.
    minutes: TimeRanges,
    samples: TimeRanges,
}

/// Ranges of time by column, as `unnest` takes them.
#[derive(Debug, Clone, Default)]
struct TimeRanges {
    from: Vec<Micros>,
    to: Vec<Micros>,
}

/// Ranges of summaries by column.
#[derive(Debug, Clone, Default)]
struct RollupRanges {
    /// The grain of each range, in minutes.
    grains: Vec<i16>,
    ranges: TimeRanges,
}

impl<'a> ReadTransaction<'a> {
    pub(crate) async fn begin(session: &'a mut Session, query: StatsQuery<'a>) -> Result<Self, StoreError> {
        let statement = session.prepare(SEALED).await?;
        let transaction = Transaction::pipelined(session);
        // Both in one round trip.
        let client = transaction.client();
        let (begun, sealed) = join!(client.batch_execute(BEGIN), sealed_state(client, &statement, query));
        begun?;
        let sealed = sealed?;
        let mut transaction = Self {
            transaction,
            query,
            dirty_slices: 0,
            rollups: RollupRanges::default(),
            minutes: TimeRanges::default(),
            samples: TimeRanges::default(),
        };
        transaction.plan(&sealed);
        Ok(transaction)
    }

    /// Continues with another query about the same snapshot.
    #[cfg(test)]
    pub(crate) async fn set_query(&mut self, query: StatsQuery<'a>) -> Result<(), StoreError> {
        let statement = self.transaction.prepare(SEALED).await?;
        let sealed = sealed_state(self.transaction.client(), &statement, query).await?;
        self.query = query;
        self.plan(&sealed);
        Ok(())
    }

    /// Decides which rows to read.
    fn plan(&mut self, state: &SealedState) {
        let StatsQuery { start, ends, now, .. } = self.query;
        let usable = UsableRollups {
            // A reading in the future counts for no time yet. Summaries do not know that, so they are used for the
            // past only.
            sealed_before: state.sealed_before.min(Grain::Slice.floor(now)),
            dirty: &state.dirty,
            dense: &state.dense,
        };
        self.dirty_slices = state.dirty.len();
        self.rollups = RollupRanges::default();
        self.minutes = TimeRanges::default();
        self.samples = TimeRanges::default();
        for RollupSpan { grain, from, to } in plan(start, ends, usable) {
            match grain {
                Some(Grain::Minute) => self.minutes.push(from, to),
                Some(grain) => self.rollups.push(grain, from, to),
                None => self.samples.push(from, to),
            }
        }
    }

    /// Reads the rows and returns them as summaries, which [`assemble`] turns into statistics.
    pub(crate) async fn summaries(&mut self) -> Result<Vec<SourceSummary>, StoreError> {
        let rollups = self.transaction.prepare(ROLLUPS).await?;
        let minutes = self.transaction.prepare(MINUTES).await?;
        let samples = self.transaction.prepare(SAMPLES).await?;
        let (client, user) = (self.transaction.client(), self.query.user.get());
        let from_rollups = async {
            let mut summaries = Vec::new();
            if !self.rollups.grains.is_empty() {
                let rows = client.query_raw(&rollups, self.rollups.params(&user)).await?;
                pin_mut!(rows);
                while let Some(row) = rows.try_next().await? {
                    summaries.push(source_summary(&row)?);
                }
            }
            Ok::<_, StoreError>(summaries)
        };
        // One round trip. The minutes are few: they are of slices that the boundaries of buckets cut.
        let (from_rollups, minutes, samples) = join!(
            from_rollups,
            self.minutes.rows(client, &minutes, &user),
            self.samples.stream(client, &samples, &user)
        );
        let mut summaries = from_rollups?;
        summaries.extend(self.fold(&minutes?, samples?).await?);
        Ok(summaries)
    }

    /// Folds minutes and samples together. Both come in the order of time, and no sample lies in one of the minutes.
    ///
    /// The samples are folded while they arrive. A user may have millions of them that are not summarised yet, so they
    /// must not be kept.
    async fn fold(&self, minutes: &[Row], samples: Option<RowStream>) -> Result<Vec<SourceSummary>, StoreError> {
        let mut fold = SampleSummariser::new(self.query.ends, self.query.now);
        let mut minutes = minutes.iter().map(source_summary).peekable();
        let samples = stream::iter(samples).flatten();
        pin_mut!(samples);
        while let Some(row) = samples.try_next().await? {
            let observation = observation(&row);
            let is_earlier =
                |minute: &Result<SourceSummary, _>| minute.as_ref().map_or(true, |minute| minute.at < observation.at);
            while let Some(minute) = minutes.next_if(is_earlier) {
                let minute = minute?;
                fold.add_summary(&minute.source, minute.at, &minute.summary);
            }
            fold.push(text(&row, 1)?, observation);
        }
        for minute in minutes {
            let minute = minute?;
            fold.add_summary(&minute.source, minute.at, &minute.summary);
        }
        Ok(fold.finish())
    }

    /// Reads the heart rates and returns their histogram.
    pub(crate) async fn histogram(&mut self) -> Result<Histogram, StoreError> {
        let histograms = self.transaction.prepare(HISTOGRAMS).await?;
        let heart_rates = self.transaction.prepare(HEART_RATES).await?;
        let (client, user) = (self.transaction.client(), self.query.user.get());
        let ranges = self.rollups.with_minutes(&self.minutes);
        let from_rollups = async {
            let mut histogram = Histogram::default();
            let rows = client.query_raw(&histograms, ranges.params(&user)).await?;
            pin_mut!(rows);
            while let Some(row) = rows.try_next().await? {
                histogram
                    .append_encoded(row.get(0))
                    .ok_or(StoreError::UnreadableSummary)?;
            }
            Ok::<_, StoreError>(histogram)
        };
        let from_samples = async {
            let mut histogram = Histogram::default();
            let rows = client.query_raw(&heart_rates, self.samples.params(&user)).await?;
            pin_mut!(rows);
            while let Some(row) = rows.try_next().await? {
                histogram.add(row.get(0));
            }
            Ok::<_, StoreError>(histogram)
        };
        let (from_rollups, from_samples) = join!(from_rollups, from_samples);
        let mut histogram = from_rollups?;
        histogram.append(&from_samples?);
        Ok(histogram)
    }

    #[cfg(test)]
    pub(crate) fn session(&mut self) -> &mut Session {
        &mut self.transaction
    }
}

/// What a reader must know to plan. Times are in microseconds since 1970.
struct SealedState {
    /// Every earlier slice has summaries, or is dirty.
    sealed_before: i64,
    /// The dirty slices, ascending.
    dirty: Vec<i64>,
    /// Slices that a boundary of a bucket cuts and that have minutes, ascending.
    dense: Vec<i64>,
}

async fn sealed_state(
    client: &SessionClient,
    statement: &Statement,
    query: StatsQuery<'_>,
) -> Result<SealedState, StoreError> {
    let end = query.ends.last().copied().unwrap_or(query.start);
    let (user, from, to) = (
        query.user.get(),
        Micros(query.start - Grain::Slice.micros()),
        Micros(end),
    );
    let cut: Vec<_> = slices_cut_by(query.start, query.ends).into_iter().map(Micros).collect();
    let params: [&(dyn ToSql + Sync); 4] = [&user, &from, &to, &cut];
    let row = client.query_one(statement, &params).await?;
    let micros = |column| {
        let times: Vec<Micros> = row.get(column);
        times.into_iter().map(|Micros(at)| at).collect::<Vec<_>>()
    };
    let mut dense = micros(2);
    dense.sort_unstable();
    Ok(SealedState {
        sealed_before: row.get::<_, Micros>(0).0,
        dirty: micros(1),
        dense,
    })
}

impl TimeRanges {
    fn push(&mut self, from: i64, to: i64) {
        self.from.push(Micros(from));
        self.to.push(Micros(to));
    }

    fn params<'a>(&'a self, user: &'a i64) -> [&'a (dyn ToSql + Sync); 3] {
        [user, &self.from, &self.to]
    }

    /// Reads the rows of the ranges. Without a range there is no round trip.
    async fn rows(
        &self,
        client: &SessionClient,
        statement: &Statement,
        user: &i64,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        if self.from.is_empty() {
            return Ok(Vec::new());
        }
        client.query(statement, &self.params(user)).await
    }

    /// Returns the rows of the ranges as they arrive. Without a range there is no round trip.
    async fn stream(
        &self,
        client: &SessionClient,
        statement: &Statement,
        user: &i64,
    ) -> Result<Option<RowStream>, tokio_postgres::Error> {
        if self.from.is_empty() {
            return Ok(None);
        }
        client.query_raw(statement, self.params(user)).await.map(Some)
    }
}

impl RollupRanges {
    fn push(&mut self, grain: Grain, from: i64, to: i64) {
        self.grains.push(grain.minutes());
        self.ranges.push(from, to);
    }

    /// Returns the same ranges and those of minutes.
    fn with_minutes(&self, minutes: &TimeRanges) -> Self {
        let mut all = self.clone();
        all.grains
            .resize(self.grains.len() + minutes.from.len(), Grain::Minute.minutes());
        all.ranges.from.extend(&minutes.from);
        all.ranges.to.extend(&minutes.to);
        all
    }

    fn params<'a>(&'a self, user: &'a i64) -> [&'a (dyn ToSql + Sync); 4] {
        [user, &self.grains, &self.ranges.from, &self.ranges.to]
    }
}

/// Returns the summary in a row `start, source, summary` of `health_rollups`.
fn source_summary(row: &Row) -> Result<SourceSummary, StoreError> {
    let (summary, winning_totals) = codec::decode(row.get(2)).ok_or(StoreError::UnreadableSummary)?;
    Ok(SourceSummary {
        at: row.get::<_, Micros>(0).0,
        source: text(row, 1)?.into(),
        summary,
        winning_totals,
        histogram: Histogram::default(),
    })
}
