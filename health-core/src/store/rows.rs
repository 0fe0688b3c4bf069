//! Rows of `health_metrics`, as the rest of the crate takes them.

use tokio_postgres::Row;

use crate::{
    sample::{Readings, Sample, Source, UserId},
    store::{error::StoreError, micros::Micros},
    summary::Observation,
};

/// Returns a user's sample from the columns `timestamp, source, heart_rate, steps, calories`, which begin at `first`.
///
/// # Errors
/// [`StoreError::InvalidSample`] if the row breaks a rule of a sample.
pub(crate) fn sample(user_id: UserId, row: &Row, first: usize) -> Result<Sample, StoreError> {
    let source = Source::new(text(row, first + 1)?).map_err(|_| StoreError::InvalidSample)?;
    let readings = Readings::from_row(row.get(first + 2), row.get(first + 3), row.get(first + 4));
    Sample::new(user_id, row.get(first), source, readings).map_err(|_| StoreError::InvalidSample)
}

/// Returns a text. A database with the encoding `SQL_ASCII` may contain bytes that are not UTF-8, from another program.
pub(crate) fn text(row: &Row, column: usize) -> Result<&str, StoreError> {
    row.try_get(column).map_err(|_| StoreError::InvalidSample)
}

/// Returns what the fold needs of a row whose columns begin with `timestamp, source, heart_rate, steps, calories`.
pub(crate) fn observation(row: &Row) -> Observation {
    Observation {
        at: row.get::<_, Micros>(0).0,
        heart_rate: row.get(2),
        steps: row.get(3),
        calories: row.get(4),
    }
}
