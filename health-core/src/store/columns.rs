//! Samples by column, as `unnest` takes them: one array a column, whatever the number of rows.

use chrono::{DateTime, Utc};
use tokio_postgres::types::ToSql;

use crate::sample::{Calories, HeartRate, Readings, Sample, Steps};

/// The columns of a sample's identity.
#[derive(Default)]
pub(crate) struct IdentityColumns<'a> {
    pub(crate) user_id: Vec<i64>,
    pub(crate) timestamp: Vec<DateTime<Utc>>,
    pub(crate) source: Vec<&'a str>,
}

/// The columns of what a sample measured.
#[derive(Default)]
pub(crate) struct ReadingColumns {
    pub(crate) heart_rate: Vec<Option<f64>>,
    pub(crate) steps: Vec<Option<i32>>,
    pub(crate) calories: Vec<Option<f64>>,
}

/// Whole samples by column.
#[derive(Default)]
pub(crate) struct SampleColumns<'a> {
    identities: IdentityColumns<'a>,
    readings: ReadingColumns,
}

/// The parameters of the six columns of a sample, in the order in which every statement takes them.
pub(crate) type SampleParams<'a> = [&'a (dyn ToSql + Sync); 6];

impl<'a> IdentityColumns<'a> {
    pub(crate) fn push(&mut self, sample: &'a Sample) {
        self.user_id.push(sample.user_id().get());
        self.timestamp.push(sample.timestamp());
        self.source.push(sample.source().as_str());
    }
}

impl ReadingColumns {
    pub(crate) fn push(&mut self, readings: Readings) {
        self.heart_rate.push(readings.heart_rate.map(HeartRate::get));
        self.steps.push(readings.steps.map(Steps::get));
        self.calories.push(readings.calories.map(Calories::get));
    }
}

impl SampleColumns<'_> {
    /// Returns the parameters for a statement.
    pub(crate) fn params(&self) -> SampleParams<'_> {
        [
            &self.identities.user_id,
            &self.identities.timestamp,
            &self.readings.heart_rate,
            &self.readings.steps,
            &self.readings.calories,
            &self.identities.source,
        ]
    }
}

impl<'a> FromIterator<&'a Sample> for SampleColumns<'a> {
    fn from_iter<T: IntoIterator<Item = &'a Sample>>(samples: T) -> Self {
        let mut columns = Self::default();
        for sample in samples {
            columns.identities.push(sample);
            columns.readings.push(sample.readings());
        }
        columns
    }
}
