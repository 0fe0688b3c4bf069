//! Parsing of one record (the JSON form of a sample) into a [`Record`], or into the list of all its faults.
//!
//! There are two parsers with the same rules. The fast one reads a valid record in one pass and borrows its strings. If
//! it refuses the record, the thorough one reads it again, field by field, and names every fault.

mod field_by_field;

use std::{borrow::Cow, str::from_utf8};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use crate::{
    interval::Interval,
    record::field_by_field::read_field_by_field,
    sample::{Calories, HeartRate, InvalidSample, Readings, Sample, Source, Steps, UserId},
    time::parse_timestamp,
};

/// The receive time of records and the limit for timestamps in the future.
#[derive(Debug, Clone, Copy)]
pub struct ReceiveClock {
    /// When the records arrived. A record without a timestamp gets this one.
    pub received_at: DateTime<Utc>,
    /// How far ahead of `received_at` a timestamp may be.
    pub max_future: TimeDelta,
}

/// What a valid record describes.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// One sample: the record has no `end`.
    Sample(Sample),
    /// A span of time, which is stored as its [parts](Interval::parts).
    Interval(Interval),
}

impl Record {
    /// Returns the user who was measured.
    pub fn user_id(&self) -> UserId {
        match self {
            Self::Sample(sample) => sample.user_id(),
            Self::Interval(interval) => interval.whole().user_id(),
        }
    }

    /// Returns the samples to store, in the order of their timestamps.
    pub fn into_samples(self) -> Vec<Sample> {
        match self {
            Self::Sample(sample) => vec![sample],
            Self::Interval(interval) => interval.parts().collect(),
        }
    }
}

/// The names of all fields of a record.
pub const RECORD_FIELDS: [&str; 7] = [
    "user_id",
    "timestamp",
    "end",
    "heart_rate",
    "steps",
    "calories",
    "source",
];

/// A reason why a record is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFault {
    /// The name of the faulty field; `None` if the record as a whole cannot be read.
    pub field: Option<String>,
    /// What is wrong with it: the rest of a sentence that begins with the name of the field.
    pub reason: String,
}

/// The reason why a record without a user is refused.
pub(crate) const REQUIRED: &str = "is required";

/// Parses one record.
///
/// The record is a JSON object with the fields `user_id` (required), `timestamp`, `end`, `heart_rate`, `steps`,
/// `calories` and `source`. A field that is `null` counts as absent. Unknown and repeated fields are faults. A record
/// with `end` covers the time from its timestamp to that end, see [`Interval`].
///
/// # Errors
/// All faults of the record: at least one, at most 100.
///
/// ```
/// use chrono::{TimeDelta, Utc};
/// use health_core::{ReceiveClock, Record, read_record};
///
/// let clock = ReceiveClock { received_at: Utc::now(), max_future: TimeDelta::minutes(5) };
/// let record = read_record(br#"{"user_id":101,"heart_rate":72}"#, &clock).unwrap();
/// let Record::Sample(sample) = record else { panic!("a record without end is one sample") };
/// assert_eq!(sample.timestamp().timestamp_micros(), clock.received_at.timestamp_micros());
///
/// let faults = read_record(br#"{"user_id":101,"heart_rate":255,"stpes":3}"#, &clock).unwrap_err();
/// assert_eq!(faults.len(), 2);
/// ```
pub fn read_record(json: &[u8], clock: &ReceiveClock) -> Result<Record, Vec<RecordFault>> {
    // One look at all bytes takes less time than one at each string.
    let fields = from_utf8(json).ok().map(serde_json::from_str::<RecordFields<'_>>);
    match fields {
        Some(Ok(fields)) => fields
            .into_record(clock)
            .or_else(|_| read_field_by_field(json, clock, None)),
        _ => read_field_by_field(json, clock, None),
    }
}

/// Parses one record, of which `user_id` may be absent: then it is the record of `user`.
///
/// # Errors
/// As for [`read_record`].
pub fn read_record_of(json: &[u8], clock: &ReceiveClock, user: Option<UserId>) -> Result<Record, Vec<RecordFault>> {
    read_field_by_field(json, clock, user)
}

/// A record before validation. A string is borrowed unless it contains an escape.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordFields<'a> {
    user_id: i64,
    #[serde(borrow)]
    timestamp: Option<BorrowedText<'a>>,
    #[serde(borrow)]
    end: Option<BorrowedText<'a>>,
    heart_rate: Option<f64>,
    steps: Option<i64>,
    calories: Option<f64>,
    #[serde(borrow)]
    source: Option<BorrowedText<'a>>,
}

/// A string that serde borrows if possible. Without this wrapper, serde copies a `Cow` that is inside an `Option`.
#[derive(Deserialize)]
#[serde(transparent)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

impl RecordFields<'_> {
    fn into_record(self, clock: &ReceiveClock) -> Result<Record, InvalidSample> {
        let has_timestamp = self.timestamp.is_some();
        let timestamp = match self.timestamp {
            Some(BorrowedText(text)) => parse_timestamp(&text)?,
            None => clock.received_at,
        };
        let source = self
            .source
            .map_or(Ok(Source::default()), |BorrowedText(name)| Source::new(name))?;
        let readings = Readings {
            heart_rate: self.heart_rate.map(HeartRate::new).transpose()?,
            steps: self.steps.map(Steps::new).transpose()?,
            calories: self.calories.map(Calories::new).transpose()?,
        };
        let sample = Sample::new(UserId::new(self.user_id)?, timestamp, source, readings)?;
        sample.check_not_in_future(clock.received_at, clock.max_future)?;
        match self.end {
            None => Ok(Record::Sample(sample)),
            Some(_) if !has_timestamp => Err(InvalidSample::EndWithoutTimestamp),
            Some(BorrowedText(end)) => read_interval(sample, &end, clock),
        }
    }
}

#[cold] // Sensors send samples. Phones send intervals, and fewer of them.
fn read_interval(whole: Sample, end: &str, clock: &ReceiveClock) -> Result<Record, InvalidSample> {
    let interval = Interval::new(whole, parse_timestamp(end)?)?;
    interval.check_not_in_future(clock.received_at, clock.max_future)?;
    Ok(Record::Interval(interval))
}

#[cfg(test)]
mod agreement_tests;

#[cfg(test)]
mod tests;
