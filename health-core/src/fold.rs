//! The way from samples and stored summaries to statistics.
//!
//! [`SampleSummariser`] turns samples into [`SourceSummary`] values, one slice at a time. [`assemble`] turns these into
//! the statistics of each bucket, whether they were just computed or stored. Both are pure, so that readers, the roller
//! and the tests share the same arithmetic. All times are in microseconds since 1970.

use std::collections::HashMap;

use smol_str::SmolStr;

use crate::{
    grain::Grain,
    histogram::Histogram,
    stats::{RangeStats, SourceTotals, Stats, winning_source},
    summary::{HeartRateSummary, Observation, Summary, TimeWeightedSum, Totals, to_f64},
};

/// The statistics of one source over a time span that lies within one bucket.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SourceSummary {
    /// Start of the time span.
    pub(crate) at: i64,
    /// Name of the device.
    pub(crate) source: SmolStr,
    /// The statistics of its samples.
    pub(crate) summary: Summary,
    /// The totals of those slices in which this source is the winning source. See [`winning_source`].
    pub(crate) winning_totals: Totals,
    /// Its heart-rate readings by rate; empty unless the caller asked for histograms.
    pub(crate) histogram: Histogram,
}

/// Summarises samples that come in the order of time.
///
/// No summary reaches across the end of a bucket or of an interval of the grain.
#[derive(Debug)]
pub(crate) struct SampleSummariser<'a> {
    /// The end of each bucket, exclusive, ascending.
    bucket_ends: &'a [i64],
    /// Index of the bucket that the newest sample belongs to.
    bucket: usize,
    weights_end: i64,
    with_histograms: bool,
    grain: Grain,
    /// Start of the interval of the grain that the newest sample belongs to.
    interval: i64,
    /// For each source, the summaries of the current interval.
    open: SourceMap<OpenInterval>,
    /// The summaries of all earlier intervals.
    finished: Vec<SourceSummary>,
}

/// The summaries of one source in the current interval, one for each bucket that it touches.
#[derive(Debug, Default)]
struct OpenInterval {
    /// Bucket index and summary.
    summaries: Vec<(usize, SourceSummary)>,
}

/// A map from source names to values that is fast if samples of a few sources alternate.
#[derive(Debug)]
struct SourceMap<T> {
    indexes: HashMap<SmolStr, usize>,
    entries: Vec<(SmolStr, T)>,
    /// Index of the entry that was used last: the next sample is often of the same source.
    last: usize,
}

impl<'a> SampleSummariser<'a> {
    /// Creates a summariser by slice, without histograms.
    ///
    /// Readings at or after `weights_end` (the present) have no weight.
    pub(crate) fn new(bucket_ends: &'a [i64], weights_end: i64) -> Self {
        Self {
            bucket_ends,
            bucket: 0,
            weights_end,
            with_histograms: false,
            grain: Grain::Slice,
            interval: i64::MIN,
            open: SourceMap::default(),
            finished: Vec::new(),
        }
    }

    /// Counts heart rates in histograms as well.
    pub(crate) fn with_histograms(mut self) -> Self {
        self.with_histograms = true;
        self
    }

    /// Summarises by minute instead of by slice.
    ///
    /// The winning totals are then those of each minute. They do not add up to those of a slice.
    pub(crate) fn by_minute(mut self) -> Self {
        self.grain = Grain::Minute;
        self
    }

    /// Adds a sample. It must not be older than anything added before.
    pub(crate) fn push(&mut self, source: &str, observation: Observation) {
        let with_histograms = self.with_histograms;
        let summary = Summary::of(observation, self.weights_end);
        let open = self.open_summary(source, observation.at);
        open.summary.append(&summary);
        if let (true, Some(bpm)) = (with_histograms, observation.heart_rate) {
            open.histogram.add(bpm);
        }
    }

    /// Adds a summary of a time span that begins at `at` and lies within one slice and one bucket.
    ///
    /// It must not be older than anything added before.
    pub(crate) fn add_summary(&mut self, source: &str, at: i64, summary: &Summary) {
        self.open_summary(source, at).summary.append(summary);
    }

    /// Returns the summary that a sample of this source and time belongs to.
    fn open_summary(&mut self, source: &str, at: i64) -> &mut SourceSummary {
        let interval = self.grain.floor(at);
        if interval != self.interval {
            self.finish_interval();
            self.interval = interval;
        }
        while self.bucket_ends.get(self.bucket).is_some_and(|end| *end <= at) {
            self.bucket += 1;
        }
        let bucket = self.bucket;
        let summaries = &mut self.open.entry(source).summaries;
        if summaries.last().is_none_or(|(last, _)| *last != bucket) {
            let bucket_start = bucket
                .checked_sub(1)
                .map_or(i64::MIN, |previous| self.bucket_ends[previous]);
            let summary = SourceSummary {
                at: bucket_start.max(interval),
                source: SmolStr::new(source),
                summary: Summary::default(),
                winning_totals: Totals::default(),
                histogram: Histogram::default(),
            };
            summaries.push((bucket, summary));
        }
        let last = summaries.len() - 1;
        &mut summaries[last].1
    }

    /// Returns the summaries of everything added, in the order of time.
    pub(crate) fn finish(mut self) -> Vec<SourceSummary> {
        self.finish_interval();
        self.finished
    }

    /// Returns the start of the interval that the newest sample belongs to.
    pub(crate) fn current_interval(&self) -> i64 {
        self.interval
    }

    /// Returns the summaries of all intervals but the current one.
    pub(crate) fn finish_without_current_interval(self) -> Vec<SourceSummary> {
        self.finished
    }

    /// Determines the winning sources of the current interval and moves its summaries to the finished ones.
    fn finish_interval(&mut self) {
        let totals = self.open.entries.iter().map(|(source, open)| (source, open.totals()));
        let most_steps = winning_source(totals.clone().map(|(source, totals)| (source, totals.steps))).cloned();
        let most_calories = winning_source(totals.map(|(source, totals)| (source, totals.calories))).cloned();
        for (source, open) in self.open.entries.drain(..) {
            for (_, mut finished) in open.summaries {
                if Some(&source) == most_steps.as_ref() {
                    finished.winning_totals.steps = finished.summary.totals.steps;
                }
                if Some(&source) == most_calories.as_ref() {
                    finished.winning_totals.calories = finished.summary.totals.calories;
                }
                self.finished.push(finished);
            }
        }
        self.open.clear();
    }
}

impl OpenInterval {
    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (_, summary) in &self.summaries {
            totals += summary.summary.totals;
        }
        totals
    }
}

/// Computes the statistics of each bucket from all summaries between `start` and the end of the last bucket.
///
/// Time after `now` has no weight.
pub(crate) fn assemble(
    mut summaries: Vec<SourceSummary>,
    start: i64,
    bucket_ends: &[i64],
    now: i64,
) -> Vec<RangeStats> {
    summaries.sort_unstable_by_key(|summary| summary.at);
    let mut rest = summaries.as_slice();
    let mut start = start;
    let mut buckets = Vec::with_capacity(bucket_ends.len());
    for &end in bucket_ends {
        let (inside, later) = rest.split_at(rest.partition_point(|summary| summary.at < end));
        buckets.push(bucket_stats(inside, start, end.min(now)));
        rest = later;
        start = end;
    }
    buckets
}

/// Computes the statistics of one bucket from its summaries in the order of time.
///
/// `weights_end` is the end of the bucket or the present, whichever is earlier.
fn bucket_stats(summaries: &[SourceSummary], start: i64, weights_end: i64) -> RangeStats {
    let mut by_source = SourceMap::<Summary>::default();
    let mut winning_totals = Totals::default();
    for summary in summaries {
        by_source.entry(&summary.source).append(&summary.summary);
        winning_totals += summary.winning_totals;
    }
    let mut sources = by_source.entries;
    sources.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));

    let heart_rates = || sources.iter().filter_map(|(_, summary)| summary.heart_rate.as_ref());
    let time_weighted = most_covering(&sources, weights_end);
    let overall = Stats {
        samples: sources.iter().map(|(_, summary)| count(summary.samples)).sum(),
        average_heart_rate: HeartRateSummary::mean(
            heart_rates().map(|heart_rate| heart_rate.sum).sum(),
            heart_rates().map(|heart_rate| heart_rate.readings).sum(),
        ),
        min_heart_rate: heart_rates().map(|heart_rate| heart_rate.lowest).reduce(f64::min),
        max_heart_rate: heart_rates().map(|heart_rate| heart_rate.highest).reduce(f64::max),
        time_weighted_heart_rate: time_weighted.and_then(TimeWeightedSum::mean),
        heart_rate_coverage: time_weighted.map_or(0.0, |sum| coverage(sum.covered, weights_end - start)),
        total_steps: winning_totals.steps,
        total_calories: winning_totals.calories.kcal(),
    };
    let source_totals = |(source, summary): &(SmolStr, Summary)| SourceTotals {
        source: source.to_string(),
        samples: count(summary.samples),
        steps: summary.totals.steps,
        calories: summary.totals.calories.kcal(),
    };
    RangeStats {
        overall,
        sources: sources.iter().map(source_totals).collect(),
    }
}

/// Returns the time-weighted sum of the source that covers the most time; of equal sources that of the first.
fn most_covering(sources: &[(SmolStr, Summary)], weights_end: i64) -> Option<TimeWeightedSum> {
    sources
        .iter()
        .filter_map(|(_, summary)| summary.heart_rate?.time_weighted)
        .map(|time_weighted| time_weighted.closed_at(weights_end))
        // Not `max_by_key`, which returns the last of several equal elements.
        .reduce(|best, next| if next.covered > best.covered { next } else { best })
}

fn coverage(covered: i64, length: i64) -> f64 {
    if length > 0 {
        to_f64(covered.into()) / to_f64(length.into())
    } else {
        0.0
    }
}

fn count(samples: u64) -> i64 {
    i64::try_from(samples).unwrap_or(i64::MAX)
}

impl<T: Default> SourceMap<T> {
    /// Returns the value of a source, after inserting the default value if there is none.
    fn entry(&mut self, source: &str) -> &mut T {
        if self.entries.get(self.last).is_none_or(|(name, _)| name != source) {
            let next = self.entries.len();
            self.last = self.indexes.get(source).copied().unwrap_or(next);
            if self.last == next {
                self.indexes.insert(SmolStr::new(source), next);
                self.entries.push((SmolStr::new(source), T::default()));
            }
        }
        &mut self.entries[self.last].1
    }
}

impl<T> SourceMap<T> {
    fn clear(&mut self) {
        self.indexes.clear();
        self.entries.clear();
    }
}

impl<T> Default for SourceMap<T> {
    fn default() -> Self {
        Self {
            indexes: HashMap::new(),
            entries: Vec::new(),
            last: 0,
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the expected values are exact")]
mod tests {
    use super::*;

    const MINUTE: i64 = Grain::Minute.micros();

    fn observe(minute: i64, heart_rate: Option<f64>, steps: Option<i32>, calories: Option<f64>) -> Observation {
        Observation {
            at: minute * MINUTE,
            heart_rate,
            steps,
            calories,
        }
    }

    fn stats_of(samples: &[(&str, Observation)], start: i64, ends: &[i64], now: i64) -> Vec<RangeStats> {
        let ends: Vec<_> = ends.iter().map(|end| end * MINUTE).collect();
        let mut samples = samples.to_vec();
        samples.sort_by_key(|(source, observation)| (observation.at, *source));
        let mut summariser = SampleSummariser::new(&ends, now * MINUTE);
        for (source, observation) in samples {
            summariser.push(source, observation);
        }
        assemble(summariser.finish(), start * MINUTE, &ends, now * MINUTE)
    }

    #[test]
    fn without_samples_the_statistics_are_empty() {
        assert_eq!(stats_of(&[], 0, &[60], 100), [RangeStats::default()]);
    }

    #[test]
    fn a_reading_is_weighted_until_the_next_the_end_or_five_minutes() {
        let samples = [
            ("a", observe(0, Some(60.0), None, None)),
            ("a", observe(2, Some(120.0), None, None)), // weighted 5 of 10 minutes
            ("a", observe(12, Some(90.0), None, None)), // weighted 3 minutes, to the end of the range
        ];
        let stats = &stats_of(&samples, 0, &[15], 100)[0];
        assert_eq!(stats.overall.heart_rate_coverage, 10.0 / 15.0);
        assert_eq!(
            stats.overall.time_weighted_heart_rate,
            Some((60.0 * 2.0 + 120.0 * 5.0 + 90.0 * 3.0) / 10.0)
        );
        assert_eq!(stats.overall.average_heart_rate, Some(90.0));
        // The present ends weights and length. Later readings have no weight.
        let stats = &stats_of(&samples, 0, &[15], 8)[0];
        assert_eq!(stats.overall.heart_rate_coverage, 7.0 / 8.0);
        assert_eq!(stats.overall.samples, 3);
        let stats = &stats_of(&samples, 0, &[15], 1)[0];
        assert_eq!(
            (
                stats.overall.heart_rate_coverage,
                stats.overall.time_weighted_heart_rate
            ),
            (1.0, Some(60.0))
        );
        // No time of the range has elapsed.
        for now in [0, -5] {
            let stats = &stats_of(&samples, 0, &[15], now)[0];
            assert_eq!(
                (
                    stats.overall.heart_rate_coverage,
                    stats.overall.time_weighted_heart_rate
                ),
                (0.0, None)
            );
        }
    }

    #[test]
    fn the_source_that_covers_most_time_gives_the_weighted_mean() {
        let samples = [
            ("b", observe(0, Some(60.0), None, None)),
            ("a", observe(30, Some(80.0), None, None)),
            ("c", observe(50, Some(99.0), None, None)),
            ("c", observe(51, None, Some(1), None)),
        ];
        let stats = &stats_of(&samples, 0, &[60], 100)[0];
        assert_eq!(
            (
                stats.overall.time_weighted_heart_rate,
                stats.overall.heart_rate_coverage
            ),
            (Some(80.0), 5.0 / 60.0)
        );
        let names: Vec<_> = stats.sources.iter().map(|source| source.source.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn each_slice_has_its_own_winning_sources() {
        let samples = [
            ("phone", observe(1, None, Some(100), Some(1.0))),
            ("watch", observe(2, None, Some(60), Some(1.5))),
            ("watch", observe(3, None, Some(50), None)),
            ("phone", observe(16, None, Some(10), None)),
            ("watch", observe(17, None, Some(9), Some(0.25))),
        ];
        let stats = &stats_of(&samples, 0, &[30], 100)[0];
        assert_eq!((stats.overall.total_steps, stats.overall.total_calories), (120, 1.75));
        // Only samples within the range count.
        let inside: Vec<_> = samples
            .iter()
            .filter(|(_, observation)| observation.at < 3 * MINUTE)
            .copied()
            .collect();
        assert_eq!(stats_of(&inside, 0, &[3], 100)[0].overall.total_steps, 100);
    }

    #[test]
    fn every_bucket_counts_the_winning_sources_of_the_whole_range() {
        let samples = [
            ("a", observe(1, None, Some(10), Some(1.0))),
            ("b", observe(2, None, Some(30), Some(0.5))),
            ("a", observe(8, None, Some(20), Some(1.0))), // 30 steps each: the first by name wins
            ("b", observe(9, None, Some(0), Some(2.0))),
        ];
        let steps: Vec<_> = stats_of(&samples, 0, &[5, 10], 100)
            .iter()
            .map(|stats| stats.overall.total_steps)
            .collect();
        assert_eq!(steps, [10, 20]);
        let kcal: Vec<_> = stats_of(&samples, 0, &[5, 10], 100)
            .iter()
            .map(|stats| stats.overall.total_calories)
            .collect();
        assert_eq!(kcal, [0.5, 2.0]);
        // Queried alone, the first bucket has another winning source.
        let first: Vec<_> = samples
            .iter()
            .filter(|(_, observation)| observation.at < 5 * MINUTE)
            .copied()
            .collect();
        assert_eq!(stats_of(&first, 0, &[5], 100)[0].overall.total_steps, 30);
    }
}
