//! The mergeable statistics of a time span.
//!
//! A [`Summary`] of one source can be merged with the summary of the time that follows it, in any grouping and without
//! rounding: sums are integers in units fine enough for every value that a sample may have. The result of a
//! query is therefore the same to the last bit, whether it was computed from raw samples, from slices or from days. So
//! the statistics of years are computed from a few hundred rows.

use std::ops::AddAssign;

use crate::stats::READING_WEIGHT_SECONDS_MAX;

pub(crate) mod codec;

/// The statistics of one source over a time span.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Summary {
    /// Number of samples, whatever they measured.
    pub(crate) samples: u64,
    /// Sums of steps and kilocalories.
    pub(crate) totals: Totals,
    /// The heart-rate readings; `None` if there are none.
    pub(crate) heart_rate: Option<HeartRateSummary>,
}

/// Sums of steps and kilocalories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Steps.
    pub(crate) steps: i64,
    /// Kilocalories.
    pub(crate) calories: ExactCalories,
}

/// Kilocalories as a whole number of units of 2^-64.
///
/// An `f64` has 53 significant bits, so every value from 2^-12 (0.00025) to 10 000 is exact. An `i128` has room for the
/// sum of 10^14 samples of 10 000 kcal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ExactCalories(pub(crate) i128);

/// The heart-rate readings of a time span.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HeartRateSummary {
    /// Number of readings.
    pub(crate) readings: u64,
    /// Their sum, in units of 2^-48 beats per minute.
    pub(crate) sum: i128,
    /// The lowest, in beats per minute.
    pub(crate) lowest: f64,
    /// The highest, in beats per minute.
    pub(crate) highest: f64,
    /// The time-weighted sum; `None` if all readings are of the future.
    pub(crate) time_weighted: Option<TimeWeightedSum>,
}

/// Readings weighted by the time until the next one.
///
/// The weight of the last reading is not included: it depends on what follows. See [`TimeWeightedSum::closed_at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeWeightedSum {
    /// Time of the first reading, in microseconds since 1970.
    pub(crate) first_at: i64,
    /// Time of the last reading, in microseconds since 1970.
    pub(crate) last_at: i64,
    /// The last reading, in units of 2^-48 beats per minute.
    pub(crate) last_rate: i64,
    /// The weighted sum, in units of 2^-48 beats per minute times microseconds.
    pub(crate) sum: i128,
    /// The sum of the weights, in microseconds.
    pub(crate) covered: i64,
}

/// The values of one sample that a summary needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observation {
    /// Time, in microseconds since 1970.
    pub(crate) at: i64,
    /// Beats per minute.
    pub(crate) heart_rate: Option<f64>,
    /// Steps.
    pub(crate) steps: Option<i32>,
    /// Kilocalories.
    pub(crate) calories: Option<f64>,
}

/// [`READING_WEIGHT_SECONDS_MAX`] in microseconds.
const READING_WEIGHT_MICROS_MAX: i64 = READING_WEIGHT_SECONDS_MAX * 1_000_000;

/// Units in one beat per minute: 2^48.
///
/// A heart rate is at least 16, so the last of the 53 bits of its `f64` is worth at least 2^(4 - 52) = 2^-48. Every
/// heart rate is therefore a whole number of these units.
const HEART_RATE_UNITS: f64 = 281_474_976_710_656.0;

/// Units in a kilocalorie: 2^64.
const CALORIE_UNITS: f64 = 18_446_744_073_709_551_616.0;

impl Summary {
    /// Summarises a single sample. A reading at or after `weights_end` (the present) has no weight.
    pub(crate) fn of(observation: Observation, weights_end: i64) -> Self {
        let Observation {
            at,
            heart_rate,
            steps,
            calories,
        } = observation;
        Self {
            samples: 1,
            totals: Totals {
                steps: steps.map_or(0, i64::from),
                calories: calories.map_or(ExactCalories(0), ExactCalories::from_kcal),
            },
            heart_rate: heart_rate.map(|bpm| HeartRateSummary::of(bpm, at, weights_end)),
        }
    }

    /// Appends the summary of a later time span of the same source.
    pub(crate) fn append(&mut self, later: &Self) {
        self.samples += later.samples;
        self.totals += later.totals;
        match (&mut self.heart_rate, &later.heart_rate) {
            (Some(heart_rate), Some(later)) => heart_rate.append(later),
            (heart_rate @ None, later) => *heart_rate = *later,
            (Some(_), None) => {}
        }
    }
}

impl HeartRateSummary {
    fn of(bpm: f64, at: i64, weights_end: i64) -> Self {
        let rate = heart_rate_to_units(bpm);
        Self {
            readings: 1,
            sum: rate.into(),
            lowest: bpm,
            highest: bpm,
            time_weighted: (at < weights_end).then_some(TimeWeightedSum {
                first_at: at,
                last_at: at,
                last_rate: rate,
                sum: 0,
                covered: 0,
            }),
        }
    }

    fn append(&mut self, later: &Self) {
        self.readings += later.readings;
        self.sum += later.sum;
        self.lowest = self.lowest.min(later.lowest);
        self.highest = self.highest.max(later.highest);
        match (&mut self.time_weighted, &later.time_weighted) {
            (Some(time_weighted), Some(later)) => time_weighted.append(later),
            (time_weighted @ None, later) => *time_weighted = *later,
            (Some(_), None) => {}
        }
    }

    /// Returns the mean of `readings` readings in beats per minute, given their sum in units.
    pub(crate) fn mean(sum: i128, readings: u64) -> Option<f64> {
        (readings > 0).then(|| to_f64(sum) / HEART_RATE_UNITS / to_f64(readings.into()))
    }
}

impl TimeWeightedSum {
    fn append(&mut self, later: &Self) {
        debug_assert!(
            self.last_at < later.first_at,
            "summaries are appended in the order of time"
        );
        *self = self.closed_at(later.first_at);
        self.last_at = later.last_at;
        self.last_rate = later.last_rate;
        self.sum += later.sum;
        self.covered += later.covered;
    }

    /// Adds the weight of the last reading: the time until `end`, at most [`READING_WEIGHT_SECONDS_MAX`].
    pub(crate) fn closed_at(mut self, end: i64) -> Self {
        let weight = (end - self.last_at).clamp(0, READING_WEIGHT_MICROS_MAX);
        self.sum += i128::from(self.last_rate) * i128::from(weight);
        self.covered += weight;
        self
    }

    /// Returns the weighted mean in beats per minute; `None` if no time is covered.
    pub(crate) fn mean(self) -> Option<f64> {
        (self.covered > 0).then(|| to_f64(self.sum) / HEART_RATE_UNITS / to_f64(self.covered.into()))
    }
}

impl ExactCalories {
    pub(crate) fn from_kcal(kcal: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a sample has at most 10000 kcal, which fits"
        )]
        let units = (kcal * CALORIE_UNITS).round() as i128;
        Self(units)
    }

    pub(crate) fn kcal(self) -> f64 {
        to_f64(self.0) / CALORIE_UNITS
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.calories.0 += other.calories.0;
    }
}

fn heart_rate_to_units(bpm: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a heart rate is at most 250, which fits")]
    let units = (bpm * HEART_RATE_UNITS) as i64;
    units
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the only rounding of an exact sum, when it leaves the summary"
)]
pub(crate) fn to_f64(exact: i128) -> f64 {
    exact as f64
}

#[cfg(test)]
#[expect(
    clippy::float_cmp,
    clippy::cast_precision_loss,
    reason = "the sums are exact by design; the counts are small"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Observations of one source in the order of time.
    fn observations() -> impl Strategy<Value = Vec<Observation>> {
        let values = (
            prop::option::of(20.0_f64..=250.0),
            prop::option::of(0..100_000_i32),
            prop::option::of(0.0_f64..10_000.0),
        );
        prop::collection::btree_map(0_i64..4_000_000_000, values, 0..40).prop_map(|values_by_time| {
            let observation = |(at, (heart_rate, steps, calories))| Observation {
                at,
                heart_rate,
                steps,
                calories,
            };
            values_by_time.into_iter().map(observation).collect()
        })
    }

    fn summarise(observations: &[Observation]) -> Summary {
        let mut all = Summary::default();
        for observation in observations {
            all.append(&Summary::of(*observation, i64::MAX));
        }
        all
    }

    proptest! {
        #[test]
        fn any_grouping_gives_the_same_summary(
            observations in observations(), cuts in prop::collection::vec(0_usize..40, 2),
        ) {
            let first_cut = cuts[0].min(cuts[1]).min(observations.len());
            let second_cut = cuts[0].max(cuts[1]).min(observations.len());
            let a = summarise(&observations[..first_cut]);
            let b = summarise(&observations[first_cut..second_cut]);
            let c = summarise(&observations[second_cut..]);
            let (mut left, mut right, mut bc) = (a, a, b);
            left.append(&b);
            left.append(&c);
            bc.append(&c);
            right.append(&bc);
            prop_assert_eq!(left, right);
            prop_assert_eq!(left, summarise(&observations));
        }

        #[test]
        fn an_empty_summary_before_or_after_changes_nothing(observations in observations()) {
            let all = summarise(&observations);
            let mut empty_first = Summary::default();
            empty_first.append(&all);
            let mut empty_last = all;
            empty_last.append(&Summary::default());
            prop_assert_eq!((empty_first, empty_last), (all, all));
        }

        #[test]
        fn a_decoded_summary_equals_the_encoded_one(observations in observations()) {
            let all = summarise(&observations);
            let winning_totals = Totals { steps: 7, calories: ExactCalories(-1) };
            prop_assert_eq!(codec::decode(&codec::encode(&all, winning_totals)), Some((all, winning_totals)));
        }

        #[test]
        fn a_summary_agrees_with_a_naive_computation(
            observations in observations(), after_the_last in 0_i64..900_000_000,
        ) {
            let all = summarise(&observations);
            let end = observations.last().map_or(0, |last| last.at) + after_the_last;
            let readings: Vec<_> = observations
                .iter()
                .filter_map(|observation| observation.heart_rate.map(|bpm| (observation.at, bpm)))
                .collect();
            let weight = |index: usize| {
                let next = readings.get(index + 1).map_or(end, |next| next.0);
                (next - readings[index].0).min(READING_WEIGHT_MICROS_MAX)
            };
            let steps = observations.iter().filter_map(|observation| observation.steps).map(i64::from);
            let calories: f64 = observations.iter().filter_map(|observation| observation.calories).sum();
            prop_assert_eq!(all.samples, observations.len() as u64);
            prop_assert_eq!(all.totals.steps, steps.sum::<i64>());
            prop_assert!((all.totals.calories.kcal() - calories).abs() <= 1e-12 * calories);
            let Some(heart_rate) = all.heart_rate else {
                prop_assert!(readings.is_empty());
                return Ok(());
            };
            let rates = || readings.iter().map(|(_, bpm)| *bpm);
            let mean = rates().sum::<f64>() / readings.len() as f64;
            prop_assert!((HeartRateSummary::mean(heart_rate.sum, heart_rate.readings).unwrap() - mean).abs() < 1e-10);
            prop_assert_eq!(heart_rate.lowest, rates().fold(f64::MAX, f64::min));
            prop_assert_eq!(heart_rate.highest, rates().fold(f64::MIN, f64::max));
            let time_weighted = heart_rate.time_weighted.unwrap().closed_at(end);
            prop_assert_eq!(time_weighted.covered, (0..readings.len()).map(weight).sum::<i64>());
            let weighted: f64 = rates().enumerate().map(|(index, bpm)| bpm * weight(index) as f64).sum();
            let mean = time_weighted.mean();
            prop_assert!(mean.is_none_or(|mean| (mean - weighted / time_weighted.covered as f64).abs() < 1e-10));
        }
    }

    #[test]
    fn every_legal_value_is_kept_exactly() {
        for bpm in [
            20.0,
            20.000_000_000_000_004,
            72.123_456_789_012_34,
            249.999_999_999_999_97,
            250.0,
        ] {
            let observation = Observation {
                at: 0,
                heart_rate: Some(bpm),
                steps: None,
                calories: None,
            };
            let heart_rate = Summary::of(observation, 1).heart_rate.unwrap();
            assert_eq!(HeartRateSummary::mean(heart_rate.sum, 1), Some(bpm));
            assert_eq!(heart_rate.time_weighted.unwrap().closed_at(1).mean(), Some(bpm));
        }
        for kcal in [0.0, 0.000_3, 0.1, 12.5, 9_999.999_999, 10_000.0] {
            assert_eq!(ExactCalories::from_kcal(kcal).kcal(), kcal);
        }
    }
}
