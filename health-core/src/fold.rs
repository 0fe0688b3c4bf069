//! From samples and stored summaries to answers.
//!
//! [`SampleSummariser`] boils samples down to [`SourceSummary`]s, a quarter of an hour at a time; [`assemble`] makes an answer a bucket from
//! parts, wherever they came from. Both are pure, so that readers, the roller and the tests share one arithmetic.

use std::collections::HashMap;

use smol_str::SmolStr;

use crate::{
    histogram::Histogram,
    stats::{RangeStats, SourceTotals, Stats},
    summary::{HeartRateSummary, Observation, Summary, Totals, to_f64},
};

/// A quarter of an hour in microseconds: within one, the source with the most steps counts.
///
/// Every zone's offset is a multiple of it, so that local days can be cut from such slices.
pub(crate) const SLICE_MICROS: i64 = 900_000_000;

/// A minute in microseconds.
const MINUTE_MICROS: i64 = 60_000_000;

/// What one source measured in one stretch of time that lies within one bucket.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SourceSummary {
    /// The first instant of the stretch, microseconds since 1970.
    pub(crate) at: i64,
    /// The device.
    pub(crate) source: SmolStr,
    /// What it measured.
    pub(crate) summary: Summary,
    /// What of it counts: the sums of those slices in which it was the source with the most.
    pub(crate) winning_totals: Totals,
    /// Its readings by rate, where they were asked for.
    pub(crate) histogram: Histogram,
}

/// Boils samples down that come in the order of time.
#[derive(Debug)]
pub(crate) struct SampleSummariser<'a> {
    /// The first instant behind each bucket, ascending.
    bucket_ends: &'a [i64],
    /// The bucket of the samples that come.
    bucket: usize,
    weights_end: i64,
    with_histograms: bool,
    /// Of a slice.
    width: i64,
    /// The slice of the samples that come, in slices since 1970.
    slice: i64,
    open: SourceMap<OpenSlice>,
    parts: Vec<SourceSummary>,
}

/// What one source measured in the slice that is not over: a part for each bucket it lies in.
#[derive(Debug, Default)]
struct OpenSlice {
    parts: Vec<(usize, SourceSummary)>,
}

/// A value for each source, found fast when samples of few sources take turns.
#[derive(Debug)]
struct SourceMap<T> {
    places: HashMap<SmolStr, usize>,
    entries: Vec<(SmolStr, T)>,
    last: usize,
}

impl<'a> SampleSummariser<'a> {
    /// Parts do not reach across the end of a bucket or of a slice. Readings from `weights_end` on (now) stand for no time.
    pub(crate) fn new(bucket_ends: &'a [i64], weights_end: i64) -> Self {
        Self {
            bucket_ends,
            bucket: 0,
            weights_end,
            with_histograms: false,
            width: SLICE_MICROS,
            slice: i64::MIN,
            open: SourceMap::default(),
            parts: Vec::new(),
        }
    }

    /// The same, counting heart rates as well.
    pub(crate) fn with_histograms(mut self) -> Self {
        self.with_histograms = true;
        self
    }

    /// The same, with parts that do not reach across the end of a minute either. What they say of winning is of that minute
    /// alone, and nothing that counts for a slice.
    pub(crate) fn by_minute(mut self) -> Self {
        self.width = MINUTE_MICROS;
        self
    }

    /// Takes a sample, not earlier than those before.
    pub(crate) fn push(&mut self, source: &str, point: Observation) {
        let with_histograms = self.with_histograms;
        let summary = Summary::of(point, self.weights_end);
        let part = self.open_part(source, point.at);
        part.summary.append(&summary);
        if let (true, Some(bpm)) = (with_histograms, point.heart_rate) {
            part.histogram.add(bpm);
        }
    }

    /// Takes what a source measured in a stretch from `at` on that lies within one slice and one bucket, not earlier than all
    /// that was taken before.
    pub(crate) fn add_summary(&mut self, source: &str, at: i64, summary: &Summary) {
        self.open_part(source, at).summary.append(summary);
    }

    fn open_part(&mut self, source: &str, at: i64) -> &mut SourceSummary {
        let slice = at.div_euclid(self.width);
        if slice != self.slice {
            self.end_slice();
            self.slice = slice;
        }
        while self.bucket_ends.get(self.bucket).is_some_and(|end| *end <= at) {
            self.bucket += 1;
        }
        let bucket = self.bucket;
        let parts = &mut self.open.entry(source).parts;
        if parts.last().is_none_or(|(last, _)| *last != bucket) {
            let bucket_start = bucket
                .checked_sub(1)
                .map_or(i64::MIN, |before| self.bucket_ends[before]);
            let part = SourceSummary {
                at: bucket_start.max(slice * self.width),
                source: SmolStr::new(source),
                summary: Summary::default(),
                winning_totals: Totals::default(),
                histogram: Histogram::default(),
            };
            parts.push((bucket, part));
        }
        let last = parts.len() - 1;
        &mut parts[last].1
    }

    /// Everything that was taken, by time.
    pub(crate) fn finish(mut self) -> Vec<SourceSummary> {
        self.end_slice();
        self.parts
    }

    /// The slice of the sample taken last, in microseconds since 1970.
    pub(crate) fn current_slice(&self) -> i64 {
        self.slice.saturating_mul(self.width)
    }

    /// What of the current slice is not over is forgotten.
    pub(crate) fn without_current_slice(mut self) -> Vec<SourceSummary> {
        self.open.clear();
        self.finish()
    }

    /// Finds who had the most in the slice that is over.
    fn end_slice(&mut self) {
        let sums = self.open.entries.iter().map(|(source, open)| {
            let mut sum = Totals::default();
            open.parts.iter().for_each(|(_, part)| sum += part.summary.totals);
            (source, sum)
        });
        // Of equals the first by name: compared the other way round, since the maximum is asked for.
        let most_steps = sums
            .clone()
            .max_by_key(|(source, sum)| (sum.steps, std::cmp::Reverse(*source)));
        let most_calories = sums.max_by_key(|(source, sum)| (sum.calories, std::cmp::Reverse(*source)));
        let most_steps = most_steps.map(|(source, _)| source.clone());
        let most_calories = most_calories.map(|(source, _)| source.clone());
        for (source, open) in self.open.entries.drain(..) {
            for (_, mut part) in open.parts {
                if Some(&source) == most_steps.as_ref() {
                    part.winning_totals.steps = part.summary.totals.steps;
                }
                if Some(&source) == most_calories.as_ref() {
                    part.winning_totals.calories = part.summary.totals.calories;
                }
                self.parts.push(part);
            }
        }
        self.open.clear();
    }
}

/// The statistics of each bucket, given all parts between `start` and the last bucket's end. Weights end at `now`.
pub(crate) fn assemble(mut parts: Vec<SourceSummary>, start: i64, bucket_ends: &[i64], now: i64) -> Vec<RangeStats> {
    parts.sort_unstable_by_key(|part| part.at);
    let mut parts = parts.as_slice();
    let mut start = start;
    let mut answers = Vec::with_capacity(bucket_ends.len());
    for &end in bucket_ends {
        let (inside, behind) = parts.split_at(parts.partition_point(|part| part.at < end));
        answers.push(answer(inside, start, end.min(now)));
        parts = behind;
        start = end;
    }
    answers
}

/// The statistics of parts in the order of time. `weights_end` is the end of their range, or now.
fn answer(parts: &[SourceSummary], start: i64, weights_end: i64) -> RangeStats {
    let mut by_source = SourceMap::<Summary>::default();
    let mut winning_totals = Totals::default();
    for part in parts {
        by_source.entry(&part.source).append(&part.summary);
        winning_totals += part.winning_totals;
    }
    let mut sources = by_source.entries;
    sources.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));

    let hearts = || sources.iter().filter_map(|(_, summary)| summary.heart.as_ref());
    let held = hearts()
        .filter_map(|heart| heart.held)
        .map(|held| held.until(weights_end));
    // The first of those that cover equally much, which `max_by_key` would not take.
    let best = held.reduce(|best, next| if next.covered > best.covered { next } else { best });
    let lowest = hearts().map(|heart| heart.lowest).reduce(f64::min);
    let overall = Stats {
        samples: sources.iter().map(|(_, summary)| count(summary.samples)).sum(),
        average_heart_rate: HeartRateSummary::mean(
            hearts().map(|heart| heart.sum).sum(),
            hearts().map(|heart| heart.readings).sum(),
        ),
        min_heart_rate: lowest,
        max_heart_rate: hearts().map(|heart| heart.highest).reduce(f64::max),
        time_weighted_heart_rate: best.and_then(crate::summary::TimeWeightedSum::mean),
        heart_rate_coverage: best.map_or(0.0, |held| coverage(held.covered, weights_end - start)),
        total_steps: winning_totals.steps,
        total_calories: winning_totals.calories.kcal(),
    };
    RangeStats {
        overall,
        sources: sources
            .iter()
            .map(|(source, summary)| SourceTotals {
                source: source.to_string(),
                samples: count(summary.samples),
                steps: summary.totals.steps,
                calories: summary.totals.calories.kcal(),
            })
            .collect(),
    }
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
    fn entry(&mut self, source: &str) -> &mut T {
        if self.entries.get(self.last).is_none_or(|(name, _)| name != source) {
            let next = self.entries.len();
            self.last = self.places.get(source).copied().unwrap_or(next);
            if self.last == next {
                self.places.insert(SmolStr::new(source), next);
                self.entries.push((SmolStr::new(source), T::default()));
            }
        }
        &mut self.entries[self.last].1
    }
}

impl<T> SourceMap<T> {
    fn clear(&mut self) {
        self.places.clear();
        self.entries.clear();
    }
}

impl<T> Default for SourceMap<T> {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            entries: Vec::new(),
            last: 0,
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these answers are exact")]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn point(minute: i64, heart_rate: Option<f64>, steps: Option<i32>, calories: Option<f64>) -> Observation {
        Observation {
            at: minute * MINUTE,
            heart_rate,
            steps,
            calories,
        }
    }

    fn answers(samples: &[(&str, Observation)], start: i64, ends: &[i64], now: i64) -> Vec<Stats> {
        let ends: Vec<_> = ends.iter().map(|end| end * MINUTE).collect();
        let mut samples = samples.to_vec();
        samples.sort_by_key(|(source, point)| (point.at, *source));
        let mut fold = SampleSummariser::new(&ends, now * MINUTE);
        for (source, point) in samples {
            fold.push(source, point);
        }
        assemble(fold.finish(), start * MINUTE, &ends, now * MINUTE)
    }

    #[test]
    fn nothing_is_known_of_nothing() {
        assert_eq!(answers(&[], 0, &[60], 100), [Stats::default()]);
    }

    #[test]
    fn readings_stand_until_the_next_the_end_or_five_minutes() {
        let samples = [
            ("a", point(0, Some(60.0), None, None)),
            ("a", point(2, Some(120.0), None, None)), // held five minutes of ten
            ("a", point(12, Some(90.0), None, None)), // three, by the end of the range
        ];
        let stats = &answers(&samples, 0, &[15], 100)[0];
        assert_eq!(stats.heart_rate_coverage, 10.0 / 15.0);
        assert_eq!(
            stats.time_weighted_heart_rate,
            Some((60.0 * 2.0 + 120.0 * 5.0 + 90.0 * 3.0) / 10.0)
        );
        assert_eq!(stats.average_heart_rate, Some(90.0));
        // Now is the end of weights and length, and what comes later stands for nothing.
        let stats = &answers(&samples, 0, &[15], 8)[0];
        assert_eq!(stats.heart_rate_coverage, 7.0 / 8.0);
        assert_eq!(stats.samples, 3);
        let stats = &answers(&samples, 0, &[15], 1)[0];
        assert_eq!(
            (stats.heart_rate_coverage, stats.time_weighted_heart_rate),
            (1.0, Some(60.0))
        );
        // Nothing has elapsed.
        for now in [0, -5] {
            let stats = &answers(&samples, 0, &[15], now)[0];
            assert_eq!((stats.heart_rate_coverage, stats.time_weighted_heart_rate), (0.0, None));
        }
    }

    #[test]
    fn the_source_that_covers_most_speaks() {
        let samples = [
            ("b", point(0, Some(60.0), None, None)),
            ("a", point(30, Some(80.0), None, None)),
            ("c", point(50, Some(99.0), None, None)),
            ("c", point(51, None, Some(1), None)),
        ];
        let stats = &answers(&samples, 0, &[60], 100)[0];
        assert_eq!(
            (stats.time_weighted_heart_rate, stats.heart_rate_coverage),
            (Some(80.0), 5.0 / 60.0)
        );
        let names: Vec<_> = stats.sources.iter().map(|source| source.source.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn each_slice_has_its_winners() {
        let samples = [
            ("phone", point(1, None, Some(100), Some(1.0))),
            ("watch", point(2, None, Some(60), Some(1.5))),
            ("watch", point(3, None, Some(50), None)),
            ("phone", point(16, None, Some(10), None)),
            ("watch", point(17, None, Some(9), Some(0.25))),
        ];
        let stats = &answers(&samples, 0, &[30], 100)[0];
        assert_eq!((stats.total_steps, stats.total_calories), (120, 1.75));
        // Only what lies in the range counts.
        let inside: Vec<_> = samples
            .iter()
            .filter(|(_, point)| point.at < 3 * MINUTE)
            .copied()
            .collect();
        assert_eq!(answers(&inside, 0, &[3], 100)[0].total_steps, 100);
    }

    #[test]
    fn winners_are_those_of_the_whole_range_in_every_bucket() {
        let samples = [
            ("a", point(1, None, Some(10), Some(1.0))),
            ("b", point(2, None, Some(30), Some(0.5))),
            ("a", point(8, None, Some(20), Some(1.0))), // a tie: the first by name
            ("b", point(9, None, Some(0), Some(2.0))),
        ];
        let steps: Vec<_> = answers(&samples, 0, &[5, 10], 100)
            .iter()
            .map(|stats| stats.total_steps)
            .collect();
        assert_eq!(steps, [10, 20]);
        let kcal: Vec<_> = answers(&samples, 0, &[5, 10], 100)
            .iter()
            .map(|stats| stats.total_calories)
            .collect();
        assert_eq!(kcal, [0.5, 2.0]);
        // On its own, the first bucket has another winner.
        let first: Vec<_> = samples
            .iter()
            .filter(|(_, point)| point.at < 5 * MINUTE)
            .copied()
            .collect();
        assert_eq!(answers(&first, 0, &[5], 100)[0].total_steps, 30);
    }
}
