//! Half-open stretches of time.

use chrono::{DateTime, TimeDelta, Utc};

use crate::time::{self, format_timestamp};

/// From `start` up to, but not including, `end`. Never empty, never upside down.
///
/// ```
/// use health_core::{TimeRange, parse_timestamp};
///
/// let hour = TimeRange::new(parse_timestamp("2025-03-02T18:00:00Z")?, parse_timestamp("2025-03-02T19:00:00Z")?)?;
/// assert!(hour.contains(hour.start()) && !hour.contains(hour.end()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

/// A range whose start is not before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("start {} is not before end {}", format_timestamp(*.start), format_timestamp(*.end))]
pub struct EmptyRange {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

impl TimeRange {
    /// The range `[start, end)`, both cut to the microsecond.
    ///
    /// # Errors
    /// [`EmptyRange`] unless `start` is before `end`.
    pub fn new(start: DateTime<Utc>, end: DateTime<Utc>) -> Result<Self, EmptyRange> {
        let (start, end) = (time::truncate_to_micros(start), time::truncate_to_micros(end));
        if start < end {
            Ok(Self { start, end })
        } else {
            Err(EmptyRange { start, end })
        }
    }

    /// The `length` that ends now. A length below a microsecond counts as one.
    pub fn last(length: TimeDelta) -> Self {
        let end = time::truncate_to_micros(Utc::now());
        let start = time::truncate_to_micros(end - length.max(TimeDelta::microseconds(1)));
        Self { start, end }
    }

    /// The first instant inside.
    pub fn start(self) -> DateTime<Utc> {
        self.start
    }

    /// The first instant behind it.
    pub fn end(self) -> DateTime<Utc> {
        self.end
    }

    /// How long it is.
    pub fn length(self) -> TimeDelta {
        self.end - self.start
    }

    /// Whether an instant lies inside.
    pub fn contains(self, time: DateTime<Utc>) -> bool {
        self.start <= time && time < self.end
    }

    /// What it shares with another range.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.start.max(other.start), self.end.min(other.end)).ok()
    }
}
