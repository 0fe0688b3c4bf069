//! What the charts of one user are drawn from.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use health_core::{
    Calories, HeartRate, READING_WEIGHT_SECONDS_MAX, SLICE_SECONDS, Sample, SeriesBucket, Source, winning_source,
};

use crate::store::User;

/// The heart rate, steps and calories of one sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) at: DateTime<Utc>,
    pub(crate) source: Source,
    /// Beats per minute.
    pub(crate) heart_rate: Option<f64>,
    pub(crate) steps: Option<f64>,
    /// Kilocalories.
    pub(crate) calories: Option<f64>,
}

impl From<&Sample> for Reading {
    fn from(sample: &Sample) -> Self {
        Self {
            at: sample.timestamp(),
            source: sample.source().clone(),
            heart_rate: sample.heart_rate().map(HeartRate::get),
            steps: sample.steps().map(|steps| f64::from(steps.get())),
            calories: sample.calories().map(Calories::get),
        }
    }
}

impl Reading {
    /// Returns what the live table remembers of a user, in the order of time.
    pub(crate) fn remembered(user: &User) -> Vec<Self> {
        user.ring
            .samples()
            .map(|sample| Self {
                at: sample.timestamp(),
                source: user
                    .sources
                    .get(usize::from(sample.source))
                    .cloned()
                    .unwrap_or_default(),
                heart_rate: sample.heart_rate(),
                steps: sample.steps(),
                calories: sample.calories(),
            })
            .collect()
    }

    fn slice(&self) -> i64 {
        self.at.timestamp().div_euclid(SLICE_SECONDS)
    }
}

/// One sample, or one bucket of a series, on a chart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ChartPoint {
    /// The time of the heart rate: the timestamp of the sample, or the middle of the bucket.
    pub(crate) at: DateTime<Utc>,
    /// The half-open time range in which the steps and calories were counted.
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    /// Lowest, mean and highest heart rate, in beats per minute.
    pub(crate) heart_rate: Option<(f64, f64, f64)>,
    pub(crate) steps: Option<f64>,
    /// Kilocalories.
    pub(crate) calories: Option<f64>,
}

impl ChartPoint {
    /// Makes a point of each reading. The readings must be in the order of time.
    ///
    /// Overlapping devices are counted once: only the winning source of a slice keeps its steps, and only the winning
    /// source its calories. This is the server's own rule, from `health_core`.
    pub(crate) fn from_readings(readings: &[Reading]) -> Vec<Self> {
        let mut previous: HashMap<&Source, DateTime<Utc>> = HashMap::new();
        readings
            .chunk_by(|a, b| a.slice() == b.slice())
            .flat_map(|slice| {
                let steps_from = winning_source(totals(slice, |reading| reading.steps));
                let calories_from = winning_source(totals(slice, |reading| reading.calories));
                slice
                    .iter()
                    .map(|reading| {
                        let mut point = Self::from_reading(reading, previous.insert(&reading.source, reading.at));
                        point.steps = point.steps.filter(|_| steps_from == Some(reading.source.as_str()));
                        point.calories = point
                            .calories
                            .filter(|_| calories_from == Some(reading.source.as_str()));
                        point
                    })
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// `previous` is the time of the previous reading of the same source: steps and calories were counted since then.
    fn from_reading(reading: &Reading, previous: Option<DateTime<Utc>>) -> Self {
        let at = reading.at;
        let start = previous
            .filter(|previous| *previous < at && at - *previous <= TimeDelta::seconds(READING_WEIGHT_SECONDS_MAX));
        Self {
            at,
            start: start.unwrap_or(at - TimeDelta::seconds(1)),
            end: at,
            heart_rate: reading.heart_rate.map(|bpm| (bpm, bpm, bpm)),
            steps: reading.steps,
            calories: reading.calories,
        }
    }

    /// Makes a point of a bucket in the server's response.
    pub(crate) fn from_bucket(bucket: &SeriesBucket) -> Self {
        let stats = &bucket.stats;
        let has_samples = stats.samples > 0;
        Self {
            at: bucket.start + (bucket.end - bucket.start) / 2,
            start: bucket.start,
            end: bucket.end,
            heart_rate: match (stats.min_heart_rate, stats.average_heart_rate, stats.max_heart_rate) {
                (Some(lowest), Some(mean), Some(highest)) => Some((lowest, mean, highest)),
                _ => None,
            },
            steps: has_samples.then(|| to_f64(stats.total_steps)),
            calories: has_samples.then_some(stats.total_calories),
        }
    }
}

/// Returns the total of one metric for each source.
fn totals(slice: &[Reading], metric: impl Fn(&Reading) -> Option<f64>) -> HashMap<&str, f64> {
    let mut totals = HashMap::new();
    for reading in slice {
        *totals.entry(reading.source.as_str()).or_insert(0.0) += metric(reading).unwrap_or(0.0);
    }
    totals
}

#[expect(clippy::cast_precision_loss, reason = "step totals stay far below 2^53")]
fn to_f64(steps: i64) -> f64 {
    steps as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_devices_are_not_counted_twice() {
        let reading = |seconds: i64, steps: f64, source: &str| Reading {
            at: DateTime::from_timestamp(1_740_938_400 + seconds, 0).unwrap(),
            source: Source::new(source).unwrap(),
            heart_rate: None,
            steps: Some(steps),
            calories: None,
        };
        let points = ChartPoint::from_readings(&[
            reading(0, 10.0, "watch"),
            reading(1, 8.0, "phone"),
            reading(8, 10.0, "watch"),
            reading(900, 5.0, "phone"),
        ]);
        assert_eq!(
            points.iter().map(|point| point.steps).collect::<Vec<_>>(),
            [Some(10.0), None, Some(10.0), Some(5.0)]
        );
        assert_eq!((points[2].end - points[2].start).num_seconds(), 8);
    }
}
