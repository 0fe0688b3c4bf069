//! What the server must have stored of one user: sums of each source in each slice, which change with every
//! acknowledgement.
//!
//! The sums take the same memory however many samples a slice has. A sum of hashes stands for the samples themselves.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
};

use chrono::{DateTime, Utc};
use health_core::{Calories, HeartRate, SLICE_SECONDS, Sample, Source, StatsResponse, Steps};

/// What is stored of one user.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Oracle(BTreeMap<(i64, Source), Sums>);

/// The sums of one source in one slice. All values are multiples of 1/4, so floating-point sums are exact.
#[derive(Debug, Clone, Default, PartialEq)]
struct Sums {
    samples: i64,
    readings: i64,
    heart_rates: f64,
    steps: i64,
    calories: f64,
    /// The sum of the hashes of the samples.
    hash: u64,
}

impl Oracle {
    /// Returns what samples of one user add up to.
    pub(crate) fn of<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        let mut oracle = Self::default();
        for sample in samples {
            oracle.add(sample);
        }
        oracle
    }

    pub(crate) fn add(&mut self, sample: &Sample) {
        self.change(sample, 1, 1.0, u64::wrapping_add);
    }

    pub(crate) fn remove(&mut self, sample: &Sample) {
        self.change(sample, -1, -1.0, u64::wrapping_sub);
    }

    fn change(&mut self, sample: &Sample, sign: i64, sign_float: f64, combine: fn(u64, u64) -> u64) {
        let key = (slice_of(sample.timestamp()), sample.source().clone());
        let sums = self.0.entry(key.clone()).or_default();
        sums.samples += sign;
        sums.readings += sign * i64::from(sample.heart_rate().is_some());
        sums.heart_rates += sign_float * sample.heart_rate().map_or(0.0, HeartRate::get);
        sums.steps += sign * i64::from(sample.steps().map_or(0, Steps::get));
        sums.calories += sign_float * sample.calories().map_or(0.0, Calories::get);
        sums.hash = combine(sums.hash, hash_of(sample));
        if sums.samples == 0 {
            self.0.remove(&key);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn samples(&self) -> i64 {
        self.0.values().map(|sums| sums.samples).sum()
    }

    /// Returns the slices from the first to the last that have samples, or `None` if none has.
    pub(crate) fn slices(&self) -> Option<Range<i64>> {
        let (first, last) = (self.0.keys().next()?.0, self.0.keys().next_back()?.0);
        Some(first..last + 1)
    }

    /// Returns a slice that has samples.
    pub(crate) fn random_slice(&self, rng: &mut fastrand::Rng) -> Option<i64> {
        let index = rng.usize(..self.0.len().max(1));
        self.0.keys().nth(index).map(|(slice, _)| *slice)
    }

    /// Returns the part of some slices.
    pub(crate) fn part(&self, slices: Range<i64>) -> Self {
        let part = self.0.iter().filter(|((slice, _), _)| slices.contains(slice));
        Self(part.map(|(key, sums)| (key.clone(), sums.clone())).collect())
    }

    /// Compares this with what is stored. The error says where the first difference is.
    pub(crate) fn compare(&self, stored: &Self) -> Result<(), String> {
        let different = self
            .0
            .keys()
            .chain(stored.0.keys())
            .find(|key| self.0.get(key) != stored.0.get(key));
        different.map_or(Ok(()), |key| {
            let start = health_core::format_timestamp(start_of(key.0));
            let (expected, found) = (self.0.get(key), stored.0.get(key));
            Err(format!(
                "slice {start}, source {:?}: expected {expected:?}, found {found:?}",
                key.1.as_str()
            ))
        })
    }

    /// Compares the statistics of a range of whole slices with the sums. The error says what differs.
    pub(crate) fn compare_stats(&self, found: &StatsResponse) -> Result<(), String> {
        let mut sources: BTreeMap<&str, Sums> = BTreeMap::new();
        let mut winners: BTreeMap<i64, (i64, f64)> = BTreeMap::new();
        let (mut readings, mut heart_rates) = (0, 0.0);
        for ((slice, source), sums) in &self.0 {
            let total = sources.entry(source.as_str()).or_default();
            total.samples += sums.samples;
            total.steps += sums.steps;
            total.calories += sums.calories;
            readings += sums.readings;
            heart_rates += sums.heart_rates;
            // The source with the most steps counts for steps, and the one with the most kilocalories for kilocalories.
            let (steps, calories) = winners.entry(*slice).or_default();
            *steps = sums.steps.max(*steps);
            *calories = sums.calories.max(*calories);
        }
        let is_equal = |expected: f64, found: f64| (expected - found).abs() <= 1e-9 * expected.abs().max(1.0);
        let average = i32::try_from(readings).ok().filter(|readings| *readings > 0);
        let average = average.map(|readings| heart_rates / f64::from(readings));
        let stats = &found.stats;
        let (steps, calories) = winners
            .values()
            .fold((0, 0.0), |sum, (steps, calories)| (sum.0 + steps, sum.1 + calories));
        let is_average = match (average, stats.average_heart_rate) {
            (Some(expected), Some(found)) => is_equal(expected, found),
            (expected, found) => expected.is_none() && found.is_none(),
        };
        let are_sources = sources.len() == found.sources.len()
            && sources.iter().zip(&found.sources).all(|((name, sums), found)| {
                *name == found.source
                    && sums.samples == found.samples
                    && sums.steps == found.steps
                    && is_equal(sums.calories, found.calories)
            });
        let is_right = stats.samples == self.samples()
            && is_average
            && stats.total_steps == steps
            && is_equal(calories, stats.total_calories)
            && are_sources;
        if is_right {
            return Ok(());
        }
        let samples = self.samples();
        Err(format!(
            "expected {samples} samples, an average heart rate of {average:?}, {steps} steps and {calories} kcal, and of the \
             sources {sources:?}; found {found:?}"
        ))
    }
}

/// Returns the number of the slice of a time.
pub(crate) fn slice_of(time: DateTime<Utc>) -> i64 {
    time.timestamp().div_euclid(SLICE_SECONDS)
}

/// Returns when a slice begins.
pub(crate) fn start_of(slice: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(slice * SLICE_SECONDS, 0).unwrap_or_default()
}

/// Returns a number that differs if the samples differ.
pub(crate) fn hash_of(sample: &Sample) -> u64 {
    let mut hasher = DefaultHasher::new();
    sample.identity().hash(&mut hasher);
    sample.heart_rate().map(|rate| rate.get().to_bits()).hash(&mut hasher);
    sample.steps().map(Steps::get).hash(&mut hasher);
    sample.calories().map(|kcal| kcal.get().to_bits()).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use health_core::{Readings, Stats, UserId, parse_timestamp};

    use super::*;

    fn sample(time: &str, steps: i64) -> Sample {
        let readings = Readings {
            steps: Some(Steps::new(steps).unwrap()),
            ..Readings::default()
        };
        let source = Source::new("watch").unwrap();
        Sample::new(
            UserId::new(1).unwrap(),
            parse_timestamp(time).unwrap(),
            source,
            readings,
        )
        .unwrap()
    }

    #[test]
    fn every_difference_is_found() {
        let (first, second) = (sample("2025-03-02T18:00:00Z", 1), sample("2025-03-02T18:00:01Z", 2));
        let expected = Oracle::of([&first, &second]);
        assert_eq!(expected.compare(&Oracle::of([&second, &first])), Ok(()));
        let other_time = sample("2025-03-02T18:00:02Z", 2);
        for (name, stored) in [
            ("lost", vec![&first]),
            ("doubled", vec![&first, &second, &second]),
            ("at another time", vec![&first, &other_time]),
        ] {
            assert!(expected.compare(&Oracle::of(stored)).is_err(), "{name}");
        }
        let (swapped, other) = (sample("2025-03-02T18:00:00Z", 2), sample("2025-03-02T18:00:01Z", 1));
        assert!(
            expected.compare(&Oracle::of([&swapped, &other])).is_err(),
            "with the same sums"
        );
        let later = sample("2025-03-02T18:15:00Z", 1);
        assert!(
            expected.compare(&Oracle::of([&first, &second, &later])).is_err(),
            "come back"
        );
    }

    #[test]
    fn what_was_removed_leaves_nothing() {
        let (first, second) = (sample("2025-03-02T18:00:00Z", 1), sample("2025-03-02T18:15:00Z", 2));
        let mut oracle = Oracle::of([&first, &second]);
        oracle.remove(&first);
        assert_eq!(oracle, Oracle::of([&second]));
        oracle.remove(&second);
        assert!(oracle.is_empty());
        let mut stats = StatsResponse {
            user_id: first.user_id(),
            start: first.timestamp(),
            end: second.timestamp(),
            stats: Stats::default(),
            sources: Vec::new(),
            message: None,
        };
        assert_eq!(oracle.compare_stats(&stats), Ok(()));
        stats.stats.total_steps = 1;
        assert!(oracle.compare_stats(&stats).is_err());
    }
}
