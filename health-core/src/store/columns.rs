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

/// Returns each user once. A statement names them in its predicate, so that Citus sends it only to the shards that it
/// needs.
pub(crate) fn distinct(users: &[i64]) -> Vec<i64> {
    let mut distinct = users.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    distinct
}

/// Returns the values at some indices.
pub(crate) fn at<T: Copy>(values: &[T], indices: &[usize]) -> Vec<T> {
    indices.iter().filter_map(|index| values.get(*index).copied()).collect()
}

/// The columns of what a sample measured.
#[derive(Default)]
pub(crate) struct ReadingColumns {
    pub(crate) heart_rate: Vec<Option<f64>>,
    pub(crate) steps: Vec<Option<i32>>,
    pub(crate) calories: Vec<Option<f64>>,
}

/// Whole samples by column, with the ids that their rows get.
#[derive(Default)]
pub(crate) struct SampleColumns<'a> {
    ids: Vec<i64>,
    identities: IdentityColumns<'a>,
    readings: ReadingColumns,
}

/// The parameters of the seven columns of a sample, in the order in which every statement takes them.
pub(crate) type SampleParams<'a> = [&'a (dyn ToSql + Sync); 7];

impl<'a> IdentityColumns<'a> {
    /// Returns the identities at some indices.
    pub(crate) fn at(&self, indices: &[usize]) -> Self {
        Self {
            user_id: at(&self.user_id, indices),
            timestamp: at(&self.timestamp, indices),
            source: at(&self.source, indices),
        }
    }

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

impl<'a> SampleColumns<'a> {
    /// Takes samples and the ids of their rows.
    pub(crate) fn new(ids: impl IntoIterator<Item = i64>, samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        let mut columns = Self::default();
        for (id, sample) in ids.into_iter().zip(samples) {
            columns.ids.push(id);
            columns.identities.push(sample);
            columns.readings.push(sample.readings());
        }
        columns
    }

    /// Returns the parameters for a statement.
    pub(crate) fn params(&self) -> SampleParams<'_> {
        [
            &self.ids,
            &self.identities.user_id,
            &self.identities.timestamp,
            &self.readings.heart_rate,
            &self.readings.steps,
            &self.readings.calories,
            &self.identities.source,
        ]
    }
}
