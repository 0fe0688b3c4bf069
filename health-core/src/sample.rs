//! A sample and its values. All of them are valid by construction.
//!
//! Every value that reaches the store was checked by a constructor of this file. Deserialisation with serde uses the
//! same constructors.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::time::{self, TimestampError};

/// The number of a user, from 1 to 2^63 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct UserId(i64);

/// A heart rate in beats per minute, from 20 to 250.
///
/// The bounds are this product's convention. They admit athletes asleep and the highest rates of infants. They exclude
/// 0, -1 and 255, which devices send when they are not worn. 255 is the invalid value of type `uint8` in the Garmin FIT
/// protocol; sensors of the Bluetooth Heart Rate Service send 0 without skin contact.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct HeartRate(f64);

/// A number of steps since the source's previous sample, from 0 to 100 000.
///
/// The upper bound is this product's convention. A larger value is probably a running total of the device, not
/// an increase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Steps(i32);

/// An energy in kilocalories since the source's previous sample, from 0 to 10 000.
///
/// The upper bound is this product's convention. A larger value is probably a running total of the device, not
/// an increase.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Calories(f64);

/// The name of the device that measured: at most 64 bytes of UTF-8 without control characters.
///
/// The default, the empty name, stands for an unnamed device.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "SmolStr", into = "SmolStr")]
pub struct Source(SmolStr);

/// The measured values of a sample.
///
/// Absent is not zero: an absent value is stored as NULL and takes no part in averages.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Readings {
    /// Heart rate at the time of the sample.
    pub heart_rate: Option<HeartRate>,
    /// Steps since the source's previous sample.
    pub steps: Option<Steps>,
    /// Kilocalories since the source's previous sample.
    pub calories: Option<Calories>,
}

/// The key of a sample: a second sample with the same identity is merged into the first.
///
/// Identities are ordered like the primary key of the table. The writer writes batches in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The user who was measured.
    pub user_id: UserId,
    /// Time of the measurement, to the microsecond.
    pub timestamp: DateTime<Utc>,
    /// The device that measured.
    pub source: Source,
}

/// One reading of one user from one source at one time.
///
/// Steps and kilocalories are the increase since the source's previous sample.
///
/// ```
/// use health_core::{HeartRate, Readings, Sample, Source, UserId, parse_timestamp};
///
/// let sample = Sample::new(
///     UserId::new(101)?,
///     parse_timestamp("2025-03-02T18:00:00Z")?,
///     Source::new("watch")?,
///     Readings { heart_rate: Some(HeartRate::new(72.0)?), ..Readings::default() },
/// )?;
/// assert_eq!(sample.heart_rate().map(HeartRate::get), Some(72.0));
/// assert!(HeartRate::new(255.0).is_err()); // devices send it when they are not worn
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    identity: Identity,
    readings: Readings,
}

/// The reason why a value is not valid in a sample. The message names the value and the remedy.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSample {
    /// The number is not a [`UserId`].
    #[error("{0} is not between 1 and 9223372036854775807")]
    UserId(i64),
    /// The timestamp is before [`Sample::EARLIEST`].
    #[error("{} is before 2000-01-01T00:00:00Z: check the device's clock", time::format_timestamp(*.0))]
    TooEarly(DateTime<Utc>),
    /// The timestamp is too far ahead of the clock of the receiving machine.
    #[error(
        "{} is more than {} s ahead of the server's clock: check the device's clock",
        time::format_timestamp(*.timestamp),
        .max_future.as_seconds_f64()
    )]
    TooLate {
        /// The timestamp of the sample.
        timestamp: DateTime<Utc>,
        /// How far a timestamp may be ahead.
        max_future: TimeDelta,
    },
    /// An interval without a timestamp, where it would begin.
    #[error("needs the field timestamp, where the interval begins")]
    EndWithoutTimestamp,
    /// The end of an interval is not later than its start.
    #[error("{} is not later than the timestamp {}", time::format_timestamp(*.end), time::format_timestamp(*.start))]
    EndNotLater {
        /// The timestamp of the record.
        start: DateTime<Utc>,
        /// The end of the interval.
        end: DateTime<Utc>,
    },
    /// The interval is longer than [`Interval::LENGTH_MAX`](crate::Interval::LENGTH_MAX).
    #[error(
        "{} is more than 25 hours after the timestamp {}: divide the interval",
        time::format_timestamp(*.end),
        time::format_timestamp(*.start)
    )]
    IntervalTooLong {
        /// The timestamp of the record.
        start: DateTime<Utc>,
        /// The end of the interval.
        end: DateTime<Utc>,
    },
    /// The heart rate is 0, -1 or 255, which devices send when they are not worn.
    #[error("{0} means that the device was not worn: leave the field out")]
    NotWorn(f64),
    /// The number is not a [`HeartRate`].
    #[error("{0} is not between 20 and 250 beats per minute")]
    HeartRate(f64),
    /// The number is not a count of [`Steps`].
    #[error("{0} is not between 0 and 100000 steps")]
    Steps(i64),
    /// The number is not an energy in [`Calories`].
    #[error("{0} is not between 0 and 10000 kcal")]
    Calories(f64),
    /// The name is longer than [`Source::BYTES_MAX`]. The value is its length in bytes.
    #[error("is {length} bytes long; at most {max} bytes are allowed", length = .0, max = Source::BYTES_MAX)]
    SourceTooLong(usize),
    /// The name contains a control character, which a [`Source`] must not.
    #[error("contains the control character U+{:04X}", u32::from(*.0))]
    SourceControl(char),
    /// None of the three readings is present.
    #[error("at least one of heart_rate, steps and calories is required")]
    Empty,
    /// The timestamp is not valid.
    #[error(transparent)]
    Timestamp(#[from] TimestampError),
}

impl UserId {
    /// Returns the user id with this number.
    ///
    /// # Errors
    /// [`InvalidSample::UserId`] if the number is less than 1.
    pub fn new(id: i64) -> Result<Self, InvalidSample> {
        if id < 1 {
            Err(InvalidSample::UserId(id))
        } else {
            Ok(Self(id))
        }
    }

    /// Returns the number.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl HeartRate {
    /// Returns a heart rate of this many beats per minute.
    ///
    /// # Errors
    /// [`InvalidSample::NotWorn`] for 0, -1 and 255, [`InvalidSample::HeartRate`] for other values outside 20 to 250.
    pub fn new(bpm: f64) -> Result<Self, InvalidSample> {
        if (20.0..=250.0).contains(&bpm) {
            Ok(Self(bpm))
        } else if [0.0, -1.0, 255.0].contains(&bpm) {
            Err(InvalidSample::NotWorn(bpm))
        } else {
            Err(InvalidSample::HeartRate(bpm))
        }
    }

    /// Returns the beats per minute.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Steps {
    /// Returns a count of this many steps.
    ///
    /// # Errors
    /// [`InvalidSample::Steps`] if the number is not between 0 and 100 000.
    pub fn new(steps: i64) -> Result<Self, InvalidSample> {
        match i32::try_from(steps) {
            Ok(steps @ 0..=100_000) => Ok(Self(steps)),
            _ => Err(InvalidSample::Steps(steps)),
        }
    }

    /// Returns the number of steps.
    pub fn get(self) -> i32 {
        self.0
    }
}

impl Calories {
    /// Returns an energy of this many kilocalories. A negative zero becomes zero.
    ///
    /// # Errors
    /// [`InvalidSample::Calories`] if the number is not between 0 and 10 000.
    pub fn new(kcal: f64) -> Result<Self, InvalidSample> {
        if (0.0..=10_000.0).contains(&kcal) {
            Ok(Self(kcal + 0.0))
        } else {
            Err(InvalidSample::Calories(kcal))
        }
    }

    /// Returns the kilocalories.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Source {
    /// The greatest length of a name in bytes of UTF-8.
    ///
    /// The limit is this product's convention: it bounds the size of rows, index entries and lines of the feed.
    pub const BYTES_MAX: usize = 64;

    /// Returns the source with this name.
    ///
    /// # Errors
    /// [`InvalidSample::SourceTooLong`] for more than [`Source::BYTES_MAX`] bytes, [`InvalidSample::SourceControl`] if
    /// the name contains a control character (Unicode category Cc).
    pub fn new(name: impl Into<SmolStr>) -> Result<Self, InvalidSample> {
        let name = name.into();
        if name.len() > Self::BYTES_MAX {
            return Err(InvalidSample::SourceTooLong(name.len()));
        }
        match name.chars().find(|character| character.is_control()) {
            Some(control) => Err(InvalidSample::SourceControl(control)),
            None => Ok(Self(name)),
        }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Readings {
    /// Returns whether no value was measured.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the readings of a table row, unchecked: only valid values are stored.
    #[cfg(feature = "store")]
    pub(crate) fn from_row(heart_rate: Option<f64>, steps: Option<i32>, calories: Option<f64>) -> Self {
        Self {
            heart_rate: heart_rate.map(HeartRate),
            steps: steps.map(Steps),
            calories: calories.map(Calories),
        }
    }

    /// Returns these readings merged with newer ones. Values that are absent in `newer` are kept.
    #[must_use]
    pub fn merged_with(self, newer: Self) -> Self {
        Self {
            heart_rate: newer.heart_rate.or(self.heart_rate),
            steps: newer.steps.or(self.steps),
            calories: newer.calories.or(self.calories),
        }
    }
}

impl Sample {
    /// The earliest valid timestamp, 2000-01-01T00:00:00Z.
    ///
    /// The limit is this product's convention: an earlier timestamp shows that the clock of the device was not set.
    pub const EARLIEST: DateTime<Utc> = match DateTime::from_timestamp(946_684_800, 0) {
        Some(earliest) => earliest,
        None => DateTime::UNIX_EPOCH,
    };

    /// Returns a sample. The timestamp is truncated to the microsecond.
    ///
    /// The constructor knows no clock. A receiver that refuses timestamps of the future calls
    /// [`Sample::check_not_in_future`].
    ///
    /// # Errors
    /// [`InvalidSample::Empty`] if there is no reading, [`InvalidSample::TooEarly`] if the timestamp is before
    /// [`Sample::EARLIEST`].
    pub fn new(
        user_id: UserId,
        timestamp: DateTime<Utc>,
        source: Source,
        readings: Readings,
    ) -> Result<Self, InvalidSample> {
        if readings.is_empty() {
            return Err(InvalidSample::Empty);
        }
        let timestamp = time::truncate_to_micros(timestamp);
        if timestamp < Self::EARLIEST {
            return Err(InvalidSample::TooEarly(timestamp));
        }
        Ok(Self {
            identity: Identity {
                user_id,
                timestamp,
                source,
            },
            readings,
        })
    }

    /// Checks that the timestamp is not too far in the future.
    ///
    /// # Errors
    /// [`InvalidSample::TooLate`] if the timestamp is more than `max_future` after `now`.
    pub fn check_not_in_future(&self, now: DateTime<Utc>, max_future: TimeDelta) -> Result<(), InvalidSample> {
        check_not_ahead(self.timestamp(), now, max_future)
    }

    /// Returns the key of the sample.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the measured values.
    pub fn readings(&self) -> Readings {
        self.readings
    }

    /// Returns the user who was measured.
    pub fn user_id(&self) -> UserId {
        self.identity.user_id
    }

    /// Returns the time of the measurement, to the microsecond.
    pub fn timestamp(&self) -> DateTime<Utc> {
        self.identity.timestamp
    }

    /// Returns the device that measured.
    pub fn source(&self) -> &Source {
        &self.identity.source
    }

    /// Returns the heart rate, if measured.
    pub fn heart_rate(&self) -> Option<HeartRate> {
        self.readings.heart_rate
    }

    /// Returns the steps since the source's previous sample, if measured.
    pub fn steps(&self) -> Option<Steps> {
        self.readings.steps
    }

    /// Returns the kilocalories since the source's previous sample, if measured.
    pub fn calories(&self) -> Option<Calories> {
        self.readings.calories
    }

    /// Returns the sample merged with the readings of a newer sample of the same identity.
    #[must_use]
    pub fn merged_with(self, newer: Readings) -> Self {
        Self {
            identity: self.identity,
            readings: self.readings.merged_with(newer),
        }
    }
}

/// Checks that a time is at most `max_future` after `now`.
pub(crate) fn check_not_ahead(
    time: DateTime<Utc>,
    now: DateTime<Utc>,
    max_future: TimeDelta,
) -> Result<(), InvalidSample> {
    if time - now > max_future {
        return Err(InvalidSample::TooLate {
            timestamp: time,
            max_future,
        });
    }
    Ok(())
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! conversions {
    ($($leaf:ident from $raw:ty),+) => {$(
        impl TryFrom<$raw> for $leaf {
            type Error = InvalidSample;
            fn try_from(raw: $raw) -> Result<Self, InvalidSample> {
                Self::new(raw)
            }
        }
    )+};
}
conversions!(UserId from i64, HeartRate from f64, Steps from i64, Calories from f64, Source from SmolStr);

impl From<UserId> for i64 {
    fn from(id: UserId) -> Self {
        id.0
    }
}

impl From<HeartRate> for f64 {
    fn from(rate: HeartRate) -> Self {
        rate.0
    }
}

impl From<Steps> for i64 {
    fn from(steps: Steps) -> Self {
        Self::from(steps.0)
    }
}

impl From<Calories> for f64 {
    fn from(calories: Calories) -> Self {
        calories.0
    }
}

impl From<Source> for SmolStr {
    fn from(source: Source) -> Self {
        source.0
    }
}
