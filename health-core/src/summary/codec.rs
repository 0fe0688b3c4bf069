//! The binary form of a stored summary, column `health_rollups.summary`.
//!
//! Version 1, all numbers little-endian:
//!
//! | field | type |
//! |---|---|
//! | version | u8 |
//! | samples | u64 |
//! | steps, kilocalories (2^-64) | i64, i128 |
//! | winning steps, winning kilocalories (2^-64) | i64, i128 |
//! | heart-rate readings | u64 |
//!
//! If there are heart-rate readings, these fields follow:
//!
//! | field | type |
//! |---|---|
//! | sum of the readings (2^-48 bpm) | i128 |
//! | lowest, highest (bpm) | f64, f64 |
//! | times of the first and the last reading (µs since 1970) | i64, i64 |
//! | last reading (2^-48 bpm) | i64 |
//! | time-weighted sum (2^-48 bpm · µs) | i128 |
//! | covered time (µs) | i64 |

use super::{ExactCalories, HeartRateSummary, Summary, TimeWeightedSum, Totals};

const VERSION: u8 = 1;

/// The size of an encoded summary without heart-rate readings: the first table above.
const BYTES_MIN: usize = 1 + 8 + 2 * (8 + 16) + 8;

/// The size of an encoded summary with heart-rate readings: both tables above.
const BYTES_MAX: usize = BYTES_MIN + 16 + 2 * 8 + 2 * 8 + 8 + 16 + 8;

/// Encodes a summary and its winning totals.
///
/// The summary must describe the past only, so that its readings have a time-weighted sum.
pub(crate) fn encode(summary: &Summary, winning_totals: Totals) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BYTES_MAX);
    bytes.push(VERSION);
    bytes.extend(summary.samples.to_le_bytes());
    for totals in [summary.totals, winning_totals] {
        bytes.extend(totals.steps.to_le_bytes());
        bytes.extend(totals.calories.0.to_le_bytes());
    }
    let readings = summary
        .heart_rate
        .and_then(|heart_rate| Some((heart_rate, heart_rate.time_weighted?)));
    let Some((heart_rate, time_weighted)) = readings else {
        bytes.extend(0_u64.to_le_bytes());
        return bytes;
    };
    bytes.extend(heart_rate.readings.to_le_bytes());
    bytes.extend(heart_rate.sum.to_le_bytes());
    bytes.extend(heart_rate.lowest.to_le_bytes());
    bytes.extend(heart_rate.highest.to_le_bytes());
    bytes.extend(time_weighted.first_at.to_le_bytes());
    bytes.extend(time_weighted.last_at.to_le_bytes());
    bytes.extend(time_weighted.last_rate.to_le_bytes());
    bytes.extend(time_weighted.sum.to_le_bytes());
    bytes.extend(time_weighted.covered.to_le_bytes());
    bytes
}

/// Decodes a summary and its winning totals. Returns `None` if the bytes are not of this version and form.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Summary, Totals)> {
    let (&VERSION, mut bytes) = bytes.split_first()? else {
        return None;
    };
    let rest = &mut bytes;
    let samples = u64::from_le_bytes(take(rest)?);
    let (totals, winning_totals) = (take_totals(rest)?, take_totals(rest)?);
    let readings = u64::from_le_bytes(take(rest)?);
    let heart_rate = if readings == 0 {
        None
    } else {
        Some(take_heart_rate(readings, rest)?)
    };
    let summary = Summary {
        samples,
        totals,
        heart_rate,
    };
    rest.is_empty().then_some((summary, winning_totals))
}

fn take_heart_rate(readings: u64, bytes: &mut &[u8]) -> Option<HeartRateSummary> {
    Some(HeartRateSummary {
        readings,
        sum: i128::from_le_bytes(take(bytes)?),
        lowest: f64::from_le_bytes(take(bytes)?),
        highest: f64::from_le_bytes(take(bytes)?),
        time_weighted: Some(TimeWeightedSum {
            first_at: i64::from_le_bytes(take(bytes)?),
            last_at: i64::from_le_bytes(take(bytes)?),
            last_rate: i64::from_le_bytes(take(bytes)?),
            sum: i128::from_le_bytes(take(bytes)?),
            covered: i64::from_le_bytes(take(bytes)?),
        }),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Observation;

    fn encoded(heart_rate: Option<f64>) -> Vec<u8> {
        let observation = Observation {
            at: 5,
            heart_rate,
            steps: Some(1),
            calories: None,
        };
        encode(&Summary::of(observation, 9), Totals::default())
    }

    #[test]
    fn an_encoded_summary_has_65_or_145_bytes() {
        assert_eq!((encoded(None).len(), BYTES_MIN), (65, 65));
        assert_eq!((encoded(Some(60.0)).len(), BYTES_MAX), (145, 145));
    }

    #[test]
    fn bytes_of_another_form_are_not_decoded() {
        let stored = encoded(Some(60.0));
        assert!(decode(&stored).is_some());
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&stored[..stored.len() - 1]), None);
        assert_eq!(decode(&[stored.as_slice(), &[0]].concat()), None);
        assert_eq!(decode(&[&[9], &stored[1..]].concat()), None);
    }
}
