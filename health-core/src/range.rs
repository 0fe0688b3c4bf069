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
    /// A time outside the years 0000 to 9999 becomes the nearest one inside: no sample is outside, and neither
    /// PostgreSQL nor the calendars of time zones reach as far as `DateTime` does.
    ///
    /// # Errors
    /// [`EmptyRange`] if `start` is not before `end` after truncation.
    pub fn new(start: DateTime<Utc>, end: DateTime<Utc>) -> Result<Self, EmptyRange> {
        let (start, end) = (time::truncate_to_micros(start), time::truncate_to_micros(end));
        if start < end {
            Ok(Self::within_years(start, end))
        } else {
            Err(EmptyRange { start, end })
        }
    }

    /// Returns the range of this length that ends at the present. It is at least one microsecond long.
    pub fn last(length: TimeDelta) -> Self {
        let end = time::truncate_to_micros(Utc::now());
        let length = length.max(TimeDelta::microseconds(1));
        let start = end.checked_sub_signed(length).unwrap_or(time::FIRST);
        Self::within_years(time::truncate_to_micros(start), end)
    }

    /// Makes a range of two times in order. Afterwards they still are, also if both were outside on the same side.
    fn within_years(start: DateTime<Utc>, end: DateTime<Utc>) -> Self {
        let micro = TimeDelta::microseconds(1);
        Self {
            start: start.clamp(time::FIRST, time::LAST - micro),
            end: end.clamp(time::FIRST + micro, time::LAST),
        }
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

#[cfg(test)]
mod tests {
    use chrono_tz::{Etc, Pacific, Tz};
    use proptest::prelude::*;

    use super::*;
    use crate::bucket::Bucket;

    /// Any time that the type can hold, mostly at the ends of what is legal.
    fn any_time() -> impl Strategy<Value = DateTime<Utc>> {
        let (min, max) = (
            DateTime::<Utc>::MIN_UTC.timestamp(),
            DateTime::<Utc>::MAX_UTC.timestamp(),
        );
        let edges = [min, time::FIRST.timestamp(), 0, time::LAST.timestamp(), max];
        let near_edge = (0..edges.len(), -2_i64..=2).prop_map(move |(index, step)| edges[index] + step);
        prop_oneof![near_edge, min..=max]
            .prop_map(move |seconds| DateTime::from_timestamp(seconds.clamp(min, max), 0).unwrap_or_default())
    }

    proptest! {
        // Counting the days of ten thousand years takes a while.
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn every_range_can_be_split_in_every_zone(one in any_time(), other in any_time()) {
            prop_assume!(one != other);
            let range = TimeRange::new(one.min(other), one.max(other)).unwrap();
            prop_assert!(range.start < range.end && range.start >= time::FIRST && range.end <= time::LAST);
            for zone in [Tz::UTC, Pacific::Kiritimati, Etc::GMTPlus12] {
                for bucket in Bucket::ALL {
                    // No bucket, or the number of buckets. Neither panics.
                    match bucket.split(range, zone) {
                        Ok(buckets) => prop_assert_eq!(buckets.last().map(|last| last.end), Some(range.end)),
                        Err(error) => prop_assert!(error.to_string().contains("buckets"), "{}", error),
                    }
                }
            }
        }
    }

    #[test]
    fn the_last_range_of_any_length_ends_now() {
        for length in [TimeDelta::MIN, TimeDelta::zero(), TimeDelta::days(1), TimeDelta::MAX] {
            let range = TimeRange::last(length);
            assert!(range.start < range.end && range.end <= Utc::now(), "{length}");
        }
    }
}
