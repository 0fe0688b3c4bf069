//! What a stretch of time boils down to, so that years can be answered from a few hundred rows.
//!
//! A [`Summary`] of one source merges with the one that follows it, in any grouping, without rounding: sums are kept as
//! integers fine enough for every value a sample may hold. An answer is therefore the same to the last bit whether it was
//! made from raw samples, from quarters of an hour or from days.

use std::ops::AddAssign;

use crate::stats::READING_WEIGHT_SECONDS_MAX;

/// One source's samples over a stretch of time, boiled down.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Summary {
    /// Samples, whatever they measured.
    pub(crate) samples: u64,
    /// Steps and kilocalories.
    pub(crate) totals: Totals,
    /// HeartRateSummary rate, where there is a reading.
    pub(crate) heart: Option<HeartRateSummary>,
}

/// Sums of what is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Steps.
    pub(crate) steps: i64,
    /// Kilocalories.
    pub(crate) calories: ExactCalories,
}

/// Kilocalories in units of 2^-64: exact for every `f64` from 0.00025 to 10 000, with room for 10^14 samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ExactCalories(pub(crate) i128);

/// The heart-rate readings of a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HeartRateSummary {
    /// How many.
    pub(crate) readings: u64,
    /// Their sum, in units of 2^-48 beats per minute.
    pub(crate) sum: i128,
    /// The lowest, beats per minute.
    pub(crate) lowest: f64,
    /// The highest, beats per minute.
    pub(crate) highest: f64,
    /// How long each stands for, where any stands for a time before now.
    pub(crate) held: Option<TimeWeightedSum>,
}

/// Readings weighted by the time each stands for, from the first to the last; the last one's own time is still open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeWeightedSum {
    /// When the first was taken, microseconds since 1970.
    pub(crate) first_at: i64,
    /// When the last was taken, likewise.
    pub(crate) last_at: i64,
    /// The last, in units of 2^-48 beats per minute.
    pub(crate) last: i64,
    /// The weighted sum, in units of 2^-48 beats per minute times microseconds.
    pub(crate) weighted: i128,
    /// The sum of the weights, microseconds.
    pub(crate) covered: i64,
}

/// One sample as the fold takes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observation {
    /// When, microseconds since 1970.
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

/// HeartRateSummary rates lie in 16..256, where the last bit of an `f64` is worth at least 2^-48: as multiples of that all are exact. This is 2^48.
const HEART_RATE_UNITS: f64 = ENERGY_UNITS / 65_536.0;

/// Units in a kilocalorie: 2^64.
const ENERGY_UNITS: f64 = 18_446_744_073_709_551_616.0;

impl Summary {
    /// A single sample. Its reading stands for no time where it was taken at `weights_end` (now) or later.
    pub(crate) fn of(point: Observation, weights_end: i64) -> Self {
        Self {
            samples: 1,
            totals: Totals {
                steps: point.steps.map_or(0, i64::from),
                calories: point.calories.map_or(ExactCalories(0), ExactCalories::from_kcal),
            },
            heart: point
                .heart_rate
                .map(|bpm| HeartRateSummary::of(bpm, point.at, weights_end)),
        }
    }

    /// Appends what the same source measured later.
    pub(crate) fn append(&mut self, later: &Self) {
        self.samples += later.samples;
        self.totals += later.totals;
        match (&mut self.heart, &later.heart) {
            (Some(heart), Some(later)) => heart.append(later),
            (heart @ None, later) => *heart = *later,
            (Some(_), None) => {}
        }
    }
}

impl HeartRateSummary {
    fn of(bpm: f64, at: i64, weights_end: i64) -> Self {
        let units = heart_rate_to_units(bpm);
        Self {
            readings: 1,
            sum: units.into(),
            lowest: bpm,
            highest: bpm,
            held: (at < weights_end).then_some(TimeWeightedSum {
                first_at: at,
                last_at: at,
                last: units,
                weighted: 0,
                covered: 0,
            }),
        }
    }

    fn append(&mut self, later: &Self) {
        self.readings += later.readings;
        self.sum += later.sum;
        self.lowest = self.lowest.min(later.lowest);
        self.highest = self.highest.max(later.highest);
        match (&mut self.held, &later.held) {
            (Some(held), Some(later)) => held.append(later),
            (held @ None, later) => *held = *later,
            (Some(_), None) => {}
        }
    }

    /// Beats per minute.
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
        *self = self.until(later.first_at);
        self.last_at = later.last_at;
        self.last = later.last;
        self.weighted += later.weighted;
        self.covered += later.covered;
    }

    /// The same with the last reading standing until `end`, or as long as one may.
    pub(crate) fn until(mut self, end: i64) -> Self {
        let weight = (end - self.last_at).clamp(0, READING_WEIGHT_MICROS_MAX);
        self.weighted += i128::from(self.last) * i128::from(weight);
        self.covered += weight;
        self
    }

    /// Beats per minute, where any time is covered.
    pub(crate) fn mean(self) -> Option<f64> {
        (self.covered > 0).then(|| to_f64(self.weighted) / HEART_RATE_UNITS / to_f64(self.covered.into()))
    }
}

impl ExactCalories {
    pub(crate) fn from_kcal(kcal: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a sample holds at most 10000 kcal, which fits"
        )]
        let units = (kcal * ENERGY_UNITS).round() as i128;
        Self(units)
    }

    pub(crate) fn kcal(self) -> f64 {
        to_f64(self.0) / ENERGY_UNITS
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
    reason = "the one rounding of an exact sum, on its way out"
)]
pub(crate) fn to_f64(exact: i128) -> f64 {
    exact as f64
}

/// What a stored summary looks like.
///
/// Version 1, little endian: the version; samples u64; steps i64, calories i128, and what of these winning_totals likewise; readings u64.
/// Where there are readings: sum i128, lowest f64, highest f64; times of the first and the last i64, the last i64, weighted
/// i128, covered i64.
pub(crate) mod codec {
    use super::{ExactCalories, HeartRateSummary, Summary, TimeWeightedSum, Totals};

    const VERSION: u8 = 1;

    /// Bytes of a summary with readings.
    const LONGEST_BYTES: usize = 1 + 8 + 2 * (8 + 16) + 8 + 16 + 8 + 8 + 8 + 8 + 8 + 16 + 8;

    /// A summary as it is stored, and what of it winning_totals: of times before now, so that every reading stands for some.
    pub(crate) fn encode(summary: &Summary, winning_totals: Totals) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LONGEST_BYTES);
        bytes.push(VERSION);
        bytes.extend(summary.samples.to_le_bytes());
        for totals in [summary.totals, winning_totals] {
            bytes.extend(totals.steps.to_le_bytes());
            bytes.extend(totals.calories.0.to_le_bytes());
        }
        let held = summary.heart.and_then(|heart| heart.held.map(|held| (heart, held)));
        let Some((heart, held)) = held else {
            bytes.extend(0_u64.to_le_bytes());
            return bytes;
        };
        bytes.extend(heart.readings.to_le_bytes());
        bytes.extend(heart.sum.to_le_bytes());
        bytes.extend(heart.lowest.to_le_bytes());
        bytes.extend(heart.highest.to_le_bytes());
        bytes.extend(held.first_at.to_le_bytes());
        bytes.extend(held.last_at.to_le_bytes());
        bytes.extend(held.last.to_le_bytes());
        bytes.extend(held.weighted.to_le_bytes());
        bytes.extend(held.covered.to_le_bytes());
        bytes
    }

    /// The summary in these bytes, and what of it winning_totals; none where they are something else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Summary, Totals)> {
        let (&VERSION, mut bytes) = bytes.split_first()? else {
            return None;
        };
        let rest = &mut bytes;
        let samples = u64::from_le_bytes(take(rest)?);
        let (totals, winning_totals) = (take_totals(rest)?, take_totals(rest)?);
        let readings = u64::from_le_bytes(take(rest)?);
        let heart = if readings == 0 {
            None
        } else {
            Some(HeartRateSummary {
                readings,
                sum: i128::from_le_bytes(take(rest)?),
                lowest: f64::from_le_bytes(take(rest)?),
                highest: f64::from_le_bytes(take(rest)?),
                held: Some(TimeWeightedSum {
                    first_at: i64::from_le_bytes(take(rest)?),
                    last_at: i64::from_le_bytes(take(rest)?),
                    last: i64::from_le_bytes(take(rest)?),
                    weighted: i128::from_le_bytes(take(rest)?),
                    covered: i64::from_le_bytes(take(rest)?),
                }),
            })
        };
        let summary = Summary { samples, totals, heart };
        rest.is_empty().then_some((summary, winning_totals))
    }

    fn take_totals(bytes: &mut &[u8]) -> Option<Totals> {
        Some(Totals {
            steps: i64::from_le_bytes(take(bytes)?),
            calories: ExactCalories(i128::from_le_bytes(take(bytes)?)),
        })
    }

    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (taken, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*taken)
    }
}

#[cfg(test)]
#[expect(
    clippy::float_cmp,
    clippy::cast_precision_loss,
    reason = "exact by design; small counts"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Samples of one source in the order of time.
    pub(crate) fn points() -> impl Strategy<Value = Vec<Observation>> {
        let values = (
            prop::option::of(20.0_f64..=250.0),
            prop::option::of(0..100_000_i32),
            prop::option::of(0.0_f64..10_000.0),
        );
        prop::collection::btree_map(0_i64..4_000_000_000, values, 0..40).prop_map(|points| {
            let point = |(at, (heart_rate, steps, calories))| Observation {
                at,
                heart_rate,
                steps,
                calories,
            };
            points.into_iter().map(point).collect()
        })
    }

    fn fold(points: &[Observation]) -> Summary {
        let mut all = Summary::default();
        for point in points {
            all.append(&Summary::of(*point, i64::MAX));
        }
        all
    }

    proptest! {
        #[test]
        fn any_grouping_gives_the_same(points in points(), cuts in prop::collection::vec(0_usize..40, 2)) {
            let one = cuts[0].min(cuts[1]).min(points.len());
            let other = cuts[0].max(cuts[1]).min(points.len());
            let (a, b, c) = (fold(&points[..one]), fold(&points[one..other]), fold(&points[other..]));
            let (mut left, mut right, mut bc) = (a, a, b);
            left.append(&b);
            left.append(&c);
            bc.append(&c);
            right.append(&bc);
            prop_assert_eq!(left, right);
            prop_assert_eq!(left, fold(&points));
        }

        #[test]
        fn nothing_changes_nothing(points in points()) {
            let all = fold(&points);
            let mut before = Summary::default();
            before.append(&all);
            let mut behind = all;
            behind.append(&Summary::default());
            prop_assert_eq!((before, behind), (all, all));
        }

        #[test]
        fn what_is_stored_comes_back(points in points()) {
            let all = fold(&points);
            let winning_totals = Totals { steps: 7, calories: ExactCalories(-1) };
            prop_assert_eq!(codec::decode(&codec::encode(&all, winning_totals)), Some((all, winning_totals)));
        }

        #[test]
        fn agrees_with_a_naive_fold(points in points(), open in 0_i64..900_000_000) {
            let all = fold(&points);
            let end = points.last().map_or(0, |last| last.at) + open;
            let rates: Vec<_> = points.iter().filter_map(|point| point.heart_rate.map(|bpm| (point.at, bpm))).collect();
            let weight = |place: usize| {
                let next = rates.get(place + 1).map_or(end, |next| next.0);
                (next - rates[place].0).min(READING_WEIGHT_MICROS_MAX)
            };
            prop_assert_eq!(all.samples, points.len() as u64);
            prop_assert_eq!(all.totals.steps, points.iter().filter_map(|point| point.steps).map(i64::from).sum::<i64>());
            let calories: f64 = points.iter().filter_map(|point| point.calories).sum();
            prop_assert!((all.totals.calories.kcal() - calories).abs() <= 1e-12 * calories);
            let Some(heart) = all.heart else {
                prop_assert!(rates.is_empty());
                return Ok(());
            };
            let mean = rates.iter().map(|rate| rate.1).sum::<f64>() / rates.len() as f64;
            prop_assert!((HeartRateSummary::mean(heart.sum, heart.readings).unwrap() - mean).abs() < 1e-10);
            prop_assert_eq!(heart.lowest, rates.iter().map(|rate| rate.1).fold(f64::MAX, f64::min));
            prop_assert_eq!(heart.highest, rates.iter().map(|rate| rate.1).fold(f64::MIN, f64::max));
            let held = heart.held.unwrap().until(end);
            prop_assert_eq!(held.covered, (0..rates.len()).map(weight).sum::<i64>());
            let weighted: f64 = rates.iter().enumerate().map(|(place, rate)| rate.1 * weight(place) as f64).sum();
            let mean = held.mean();
            prop_assert!(mean.is_none_or(|mean| (mean - weighted / held.covered as f64).abs() < 1e-10));
        }
    }

    #[test]
    fn every_legal_value_is_exact() {
        for bpm in [
            20.0,
            20.000_000_000_000_004,
            72.123_456_789_012_34,
            249.999_999_999_999_97,
            250.0,
        ] {
            let point = Observation {
                at: 0,
                heart_rate: Some(bpm),
                steps: None,
                calories: None,
            };
            let heart = Summary::of(point, 1).heart.unwrap();
            assert_eq!(HeartRateSummary::mean(heart.sum, 1), Some(bpm));
            assert_eq!(heart.held.unwrap().until(1).mean(), Some(bpm));
        }
        for kcal in [0.0, 0.000_3, 0.1, 12.5, 9_999.999_999, 10_000.0] {
            assert_eq!(ExactCalories::from_kcal(kcal).kcal(), kcal);
        }
    }

    #[test]
    fn other_bytes_are_no_summary() {
        let point = Observation {
            at: 5,
            heart_rate: Some(60.0),
            steps: None,
            calories: None,
        };
        let stored = codec::encode(&Summary::of(point, 9), Totals::default());
        assert_eq!(codec::decode(&[]), None);
        assert_eq!(codec::decode(&stored[..stored.len() - 1]), None);
        assert_eq!(codec::decode(&[stored.as_slice(), &[0]].concat()), None);
        assert_eq!(codec::decode(&[&[9], &stored[1..]].concat()), None);
    }
}
