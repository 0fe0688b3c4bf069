//! Half-open ranges of time.

use chrono::{DateTime, TimeDelta, Utc};

use crate::time::{self, format_timestamp};

/// A range of time that includes its start and excludes its end. It is never empty.
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

/// The error for a range whose start is not before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("start {} is not before end {}", format_timestamp(*.start), format_timestamp(*.end))]
pub struct EmptyRange {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

impl TimeRange {
    /// Returns the range `[start, end)`. Both times are truncated to the microsecond.
    ///
    /// # Errors
    /// [`EmptyRange`] if `start` is not before `end` after truncation.
    pub fn new(start: DateTime<Utc>, end: DateTime<Utc>) -> Result<Self, EmptyRange> {
        let (start, end) = (time::truncate_to_micros(start), time::truncate_to_micros(end));
        if start < end {
            Ok(Self { start, end })
        } else {
            Err(EmptyRange { start, end })
        }
    }

    /// Returns the range of this length that ends at the present. It is at least one microsecond long.
    pub fn last(length: TimeDelta) -> Self {
        let end = time::truncate_to_micros(Utc::now());
        let start = time::truncate_to_micros(end - length.max(TimeDelta::microseconds(1)));
        Self { start, end }
    }

    /// Returns the start, inclusive.
    pub fn start(self) -> DateTime<Utc> {
        self.start
    }

    /// Returns the end, exclusive.
    pub fn end(self) -> DateTime<Utc> {
        self.end
    }

    /// Returns the length.
    pub fn length(self) -> TimeDelta {
        self.end - self.start
    }

    /// Returns whether a time is in the range.
    pub fn contains(self, time: DateTime<Utc>) -> bool {
        self.start <= time && time < self.end
    }

    /// Returns the overlap with another range; `None` if there is none.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.start.max(other.start), self.end.min(other.end)).ok()
    }
}
