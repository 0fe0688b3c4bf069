//! Rows by column, as `unnest` takes them.

use chrono::{DateTime, Utc};
use tokio_postgres::types::ToSql;

use crate::sample::{Calories, HeartRate, Readings, Sample, Steps};

/// Samples by column.
#[derive(Default)]
pub(crate) struct Columns<'a> {
    pub(crate) user_id: Vec<i64>,
    pub(crate) timestamp: Vec<DateTime<Utc>>,
    pub(crate) source: Vec<&'a str>,
    pub(crate) heart_rate: Vec<Option<f64>>,
    pub(crate) steps: Vec<Option<i32>>,
    pub(crate) calories: Vec<Option<f64>>,
}

/// The columns of a row, in the order in which statements take them.
pub(crate) type Params<'a> = [&'a (dyn ToSql + Sync); 6];

impl<'a> Columns<'a> {
    /// Whole samples.
    pub(crate) fn of(samples: &'a [Sample]) -> Self {
        let mut columns = Self::default();
        for sample in samples {
            columns.push_identity(sample);
            columns.push_readings(sample.readings());
        }
        columns
    }

    /// As statements take them.
    pub(crate) fn params(&self) -> Params<'_> {
        [
            &self.user_id,
            &self.timestamp,
            &self.heart_rate,
            &self.steps,
            &self.calories,
            &self.source,
        ]
    }

    pub(crate) fn push_identity(&mut self, sample: &'a Sample) {
        self.user_id.push(sample.user_id().get());
        self.timestamp.push(sample.timestamp());
        self.source.push(sample.source().as_str());
    }

    pub(crate) fn push_readings(&mut self, readings: Readings) {
        self.heart_rate.push(readings.heart_rate.map(HeartRate::get));
        self.steps.push(readings.steps.map(Steps::get));
        self.calories.push(readings.calories.map(Calories::get));
    }
}
