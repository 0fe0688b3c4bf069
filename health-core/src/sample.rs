//! One reading of one person's wearable, legal by construction.
//!
//! Every value that reaches the store has passed through the constructors of this file, also when it was read by serde.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::time::{self, TimestampError};

/// Who was measured: 1 to 2^63 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct UserId(i64);

/// Beats per minute, 20 to 250.
///
/// The bounds leave room for athletes asleep and infants' maxima, and leave out 0, -1 and 255, which devices send when
/// they are not worn (the Bluetooth Heart Rate Service and FIT's invalid `uint8`).
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct HeartRate(f64);

/// Steps since the source's previous sample, 0 to 100 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Steps(i32);

/// Kilocalories since the source's previous sample, 0 to 10 000.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Calories(f64);

/// The device that measured: at most 64 bytes of UTF-8 without control characters; empty where nobody said.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "SmolStr", into = "SmolStr")]
pub struct Source(SmolStr);

/// What was measured at one moment. Absent is not zero: it is stored as NULL and never averaged.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Readings {
    /// Beats per minute at that moment.
    pub heart_rate: Option<HeartRate>,
    /// Steps since the source's previous sample.
    pub steps: Option<Steps>,
    /// Kilocalories since the source's previous sample.
    pub calories: Option<Calories>,
}

/// What tells one sample from another: sending the same identity again changes nothing.
///
/// Ordered as the table's key is, which is the order batches are written in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Who was measured.
    pub user_id: UserId,
    /// When, to the microsecond.
    pub timestamp: DateTime<Utc>,
    /// By which device.
    pub source: Source,
}

/// One reading (or one small delta) of one person's wearable.
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
/// assert!(HeartRate::new(255.0).is_err()); // "not worn"
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    identity: Identity,
    readings: Readings,
}

/// A rule of a sample that a value breaks. The message names the value and says what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSample {
    /// See [`UserId`].
    #[error("{0} is not between 1 and 9223372036854775807")]
    UserId(i64),
    /// See [`Sample::EARLIEST`].
    #[error("{} is before 2000-01-01T00:00:00Z: check the device's clock", time::format_timestamp(*.0))]
    TooEarly(DateTime<Utc>),
    /// Ahead of the clock of the machine that takes the sample.
    #[error("{} is more than {} s ahead of the server's clock: check the device's clock", time::format_timestamp(*.timestamp), .max_future.as_seconds_f64())]
    TooLate {
        /// What the sample says.
        timestamp: DateTime<Utc>,
        /// What is tolerated.
        max_future: TimeDelta,
    },
    /// 0, -1 and 255 are what devices send when they are not worn.
    #[error("{0} is what devices send when they are not worn: leave the field out")]
    NotWorn(f64),
    /// See [`HeartRate`].
    #[error("{0} is not between 20 and 250 beats per minute")]
    HeartRate(f64),
    /// See [`Steps`].
    #[error("{0} is not between 0 and 100000 steps")]
    Steps(i64),
    /// See [`Calories`].
    #[error("{0} is not between 0 and 10000 kcal")]
    Calories(f64),
    /// See [`Source`].
    #[error("is {0} bytes long, at most 64 are kept")]
    SourceTooLong(usize),
    /// See [`Source`].
    #[error("holds the control character U+{:04X}", u32::from(*.0))]
    SourceControl(char),
    /// Nothing was measured.
    #[error("at least one of heart_rate, steps, calories has to be present")]
    Empty,
    /// The time cannot be read.
    #[error(transparent)]
    Timestamp(#[from] TimestampError),
}

impl UserId {
    /// A user id, if it is at least 1.
    ///
    /// # Errors
    /// [`InvalidSample::UserId`].
    pub fn new(id: i64) -> Result<Self, InvalidSample> {
        if id < 1 {
            Err(InvalidSample::UserId(id))
        } else {
            Ok(Self(id))
        }
    }

    /// The number.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl HeartRate {
    /// A heart rate in beats per minute, if it is between 20 and 250.
    ///
    /// # Errors
    /// [`InvalidSample::NotWorn`] for 0, -1 and 255, else [`InvalidSample::HeartRate`].
    pub fn new(bpm: f64) -> Result<Self, InvalidSample> {
        if (20.0..=250.0).contains(&bpm) {
            Ok(Self(bpm))
        } else if [0.0, -1.0, 255.0].contains(&bpm) {
            Err(InvalidSample::NotWorn(bpm))
        } else {
            Err(InvalidSample::HeartRate(bpm))
        }
    }

    /// Beats per minute.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Steps {
    /// A step count, if it is between 0 and 100 000.
    ///
    /// # Errors
    /// [`InvalidSample::Steps`].
    pub fn new(steps: i64) -> Result<Self, InvalidSample> {
        match i32::try_from(steps) {
            Ok(kept @ 0..=100_000) => Ok(Self(kept)),
            _ => Err(InvalidSample::Steps(steps)),
        }
    }

    /// Steps.
    pub fn get(self) -> i32 {
        self.0
    }
}

impl Calories {
    /// An energy in kilocalories, if it is between 0 and 10 000. A negative zero becomes zero.
    ///
    /// # Errors
    /// [`InvalidSample::Calories`].
    pub fn new(kcal: f64) -> Result<Self, InvalidSample> {
        if (0.0..=10_000.0).contains(&kcal) {
            Ok(Self(kcal + 0.0))
        } else {
            Err(InvalidSample::Calories(kcal))
        }
    }

    /// Kilocalories.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Source {
    /// Bytes of UTF-8 a source may be long.
    pub const BYTES_MAX: usize = 64;

    /// A source name, if it is short enough and holds no control character (Unicode's category Cc).
    ///
    /// # Errors
    /// [`InvalidSample::SourceTooLong`] or [`InvalidSample::SourceControl`].
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

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Readings {
    /// True where nothing was measured.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a row holds, as it is.
    #[cfg(feature = "store")]
    pub(crate) fn from_row(heart_rate: Option<f64>, steps: Option<i32>, calories: Option<f64>) -> Self {
        Self {
            heart_rate: heart_rate.map(HeartRate),
            steps: steps.map(Steps),
            calories: calories.map(Calories),
        }
    }

    /// These readings with a newer write laid over them: what the newer one leaves out keeps its value.
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
    /// The earliest moment a sample may carry, 2000-01-01T00:00:00Z: before it no wearable had a clock worth believing.
    pub const EARLIEST: DateTime<Utc> = match DateTime::from_timestamp(946_684_800, 0) {
        Some(earliest) => earliest,
        None => DateTime::UNIX_EPOCH,
    };

    /// A sample. The timestamp is cut to the microsecond.
    ///
    /// How far ahead of the clock a sample may be is for whoever takes it: see [`Sample::check_not_in_future`].
    ///
    /// # Errors
    /// [`InvalidSample::Empty`] where nothing was measured, [`InvalidSample::TooEarly`] before [`Sample::EARLIEST`].
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

    /// Refuses a sample from the future: `max_future` is how far a device's clock may be ahead of `now`.
    ///
    /// # Errors
    /// [`InvalidSample::TooLate`].
    pub fn check_not_in_future(&self, now: DateTime<Utc>, max_future: TimeDelta) -> Result<(), InvalidSample> {
        if self.timestamp() - now > max_future {
            return Err(InvalidSample::TooLate {
                timestamp: self.timestamp(),
                max_future,
            });
        }
        Ok(())
    }

    /// What tells it from other samples.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What was measured.
    pub fn readings(&self) -> Readings {
        self.readings
    }

    /// Who was measured.
    pub fn user_id(&self) -> UserId {
        self.identity.user_id
    }

    /// When, to the microsecond.
    pub fn timestamp(&self) -> DateTime<Utc> {
        self.identity.timestamp
    }

    /// By which device.
    pub fn source(&self) -> &Source {
        &self.identity.source
    }

    /// Beats per minute, if measured.
    pub fn heart_rate(&self) -> Option<HeartRate> {
        self.readings.heart_rate
    }

    /// Steps since the source's previous sample, if measured.
    pub fn steps(&self) -> Option<Steps> {
        self.readings.steps
    }

    /// Kilocalories since the source's previous sample, if measured.
    pub fn calories(&self) -> Option<Calories> {
        self.readings.calories
    }

    /// The sample after a newer write of the same identity.
    #[must_use]
    pub fn merged_with(self, newer: Readings) -> Self {
        Self {
            identity: self.identity,
            readings: self.readings.merged_with(newer),
        }
    }
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
