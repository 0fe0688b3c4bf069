//! The division of a range of time into buckets, by the clock of a time zone.
//!
//! Buckets shorter than a day begin when the local clock shows a multiple of their width. Days begin at the first
//! instant of their local date, weeks at that of a Monday. No bucket begins at a clock change as such.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, Utc, Weekday};
use chrono_tz::Tz;

use self::local_clock::{MICROS_PER_SECOND, count_multiples, first_instant, local_date, next_multiple, skipped_dates};
use crate::range::TimeRange;

mod local_clock;

/// The width of the buckets of a series. Its text form is the one of the HTTP parameter `bucket`.
///
/// ```
/// use health_core::Bucket;
///
/// assert_eq!("15m".parse(), Ok(Bucket::QuarterHour));
/// assert_eq!(Bucket::Week.to_string(), "1w");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// `1m`: one minute.
    Minute,
    /// `5m`: five minutes.
    FiveMinutes,
    /// `15m`: 15 minutes.
    QuarterHour,
    /// `1h`: one hour.
    Hour,
    /// `1d`: one local date. It is 23 or 25 hours long when clocks change by an hour.
    Day,
    /// `1w`: seven local dates from Monday to Sunday, as in ISO 8601.
    Week,
}

/// The error for a text that is not the name of a [`Bucket`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a bucket: choose 1m, 5m, 15m, 1h, 1d or 1w")]
pub struct ParseBucketError(String);

/// The error for a range with more than [`Bucket::COUNT_MAX`] buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the range has {count} buckets of {bucket}; at most {} are allowed: choose wider buckets or a shorter range",
    Bucket::COUNT_MAX
)]
pub struct TooManyBuckets {
    /// The requested width.
    pub bucket: Bucket,
    /// The number of buckets that overlap the range.
    pub count: u64,
}

/// How much of an unknown name an error message quotes.
const QUOTED_CHARS_MAX: usize = 64;

impl Bucket {
    /// All widths, from the narrowest to the widest.
    pub const ALL: [Self; 6] = [
        Self::Minute,
        Self::FiveMinutes,
        Self::QuarterHour,
        Self::Hour,
        Self::Day,
        Self::Week,
    ];

    /// The maximum number of buckets of one series.
    ///
    /// It admits a week of minutes (10 080), a year of hours (8 784) or thirty years of days (10 958), and bounds the
    /// memory that one response takes.
    pub const COUNT_MAX: usize = 11_000;

    /// Splits a range into buckets. The first and the last bucket are shortened to the range.
    ///
    /// # Errors
    /// [`TooManyBuckets`] if there are more than [`Bucket::COUNT_MAX`].
    ///
    /// ```
    /// use health_core::{Bucket, TimeRange, parse_timestamp};
    ///
    /// let range = TimeRange::new(parse_timestamp("2025-03-29T23:00:00Z")?, parse_timestamp("2025-03-31T22:00:00Z")?)?;
    /// let days = Bucket::Day.split(range, chrono_tz::Europe::Berlin)?;
    /// let hours: Vec<_> = days.iter().map(|day| day.length().num_hours()).collect();
    /// assert_eq!(hours, [23, 24]); // clocks went forward on 30 March
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn split(self, range: TimeRange, zone: Tz) -> Result<Vec<TimeRange>, TooManyBuckets> {
        let mut buckets = Vec::new();
        let mut start = range.start();
        for boundary in self.boundaries(range, zone) {
            buckets.extend(TimeRange::new(start, boundary));
            start = boundary;
            if buckets.len() >= Self::COUNT_MAX {
                return Err(TooManyBuckets {
                    bucket: self,
                    count: self.count(range, zone),
                });
            }
        }
        buckets.extend(TimeRange::new(start, range.end()));
        Ok(buckets)
    }

    /// Returns the boundaries between the buckets of a range, ascending, without its start and end.
    fn boundaries(self, range: TimeRange, zone: Tz) -> Box<dyn Iterator<Item = DateTime<Utc>>> {
        let end = range.end();
        if let Some(width) = self.width_micros() {
            let after =
                move |at: &i64| Some(next_multiple(*at, width, zone)).filter(|next| *next < end.timestamp_micros());
            let first = after(&range.start().timestamp_micros());
            return Box::new(std::iter::successors(first, after).filter_map(DateTime::from_timestamp_micros));
        }
        let dates = self.first_dates(local_date(range.start(), zone));
        let boundaries = dates
            .map(move |date| first_instant(date, zone))
            .take_while(move |boundary| *boundary < end);
        let mut last = range.start();
        Box::new(boundaries.filter(move |boundary| {
            let is_new = last < *boundary;
            last = last.max(*boundary);
            is_new
        }))
    }

    /// Returns the first dates of the buckets of a day or a week that begin after `date`.
    fn first_dates(self, date: NaiveDate) -> impl Iterator<Item = NaiveDate> {
        let (first, step) = match self {
            Self::Week => (
                date + Days::new(7) - Days::new(date.weekday().days_since(Weekday::Mon).into()),
                7,
            ),
            _ => (date + Days::new(1), 1),
        };
        std::iter::successors(Some(first), move |date| date.checked_add_days(Days::new(step)))
    }

    /// Counts the buckets that overlap a range, without a limit. Takes time in proportion to the days of the range.
    fn count(self, range: TimeRange, zone: Tz) -> u64 {
        let inner = match self.width_micros() {
            Some(width) => count_multiples(range, width, zone),
            None => self.count_dates(range, zone),
        };
        inner.unsigned_abs() + 1
    }

    fn count_dates(self, range: TimeRange, zone: Tz) -> i64 {
        // If the clock passes midnight twice, the next date begins at the first midnight. A later moment may still show
        // the previous date.
        let date_begun = |at: DateTime<Utc>| {
            let date = local_date(at, zone);
            let next = date + Days::new(1);
            if first_instant(next, zone) <= at { next } else { date }
        };
        let (first, last) = (
            date_begun(range.start()),
            date_begun(range.end() - TimeDelta::microseconds(1)),
        );
        match self {
            Self::Week => {
                // 0001-01-01 was a Monday.
                let week = |date: NaiveDate| i64::from(date.num_days_from_ce() - 1).div_euclid(7);
                week(last) - week(first)
            }
            _ => (last - first).num_days() - skipped_dates(range, zone),
        }
    }

    fn width_micros(self) -> Option<i64> {
        match self {
            Self::Minute => Some(60 * MICROS_PER_SECOND),
            Self::FiveMinutes => Some(300 * MICROS_PER_SECOND),
            Self::QuarterHour => Some(900 * MICROS_PER_SECOND),
            Self::Hour => Some(3_600 * MICROS_PER_SECOND),
            Self::Day | Self::Week => None,
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minute => "1m",
            Self::FiveMinutes => "5m",
            Self::QuarterHour => "15m",
            Self::Hour => "1h",
            Self::Day => "1d",
            Self::Week => "1w",
        })
    }
}

impl FromStr for Bucket {
    type Err = ParseBucketError;

    fn from_str(text: &str) -> Result<Self, ParseBucketError> {
        let named = Self::ALL.into_iter().find(|bucket| bucket.to_string() == text);
        named.ok_or_else(|| ParseBucketError(text.chars().take(QUOTED_CHARS_MAX).collect()))
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::{America, Asia, Australia, Europe, Pacific};

    use super::*;
    use crate::time::parse_timestamp;

    fn range(start: &str, end: &str) -> TimeRange {
        TimeRange::new(parse_timestamp(start).unwrap(), parse_timestamp(end).unwrap()).unwrap()
    }

    /// Splits a range and returns the length of each bucket in minutes.
    fn minutes(bucket: Bucket, range: TimeRange, zone: Tz) -> Vec<i64> {
        let buckets = bucket.split(range, zone).unwrap();
        assert_eq!(bucket.count(range, zone), buckets.len() as u64, "{bucket} {zone}");
        buckets.iter().map(|bucket| bucket.length().num_minutes()).collect()
    }

    #[test]
    fn a_bucket_is_parsed_from_its_own_name_only() {
        for bucket in Bucket::ALL {
            assert_eq!(bucket.to_string().parse(), Ok(bucket));
        }
        for text in ["", "1M", "2h", "60m", "1 h"] {
            assert!(text.parse::<Bucket>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_and_last_bucket_are_shortened_to_the_range() {
        let lengths = minutes(
            Bucket::Hour,
            range("2025-06-01T00:20:00Z", "2025-06-01T02:10:00Z"),
            Tz::UTC,
        );
        assert_eq!(lengths, [40, 60, 10]);
        let inside = range("2025-06-01T00:20:00Z", "2025-06-01T00:30:00.5Z");
        for bucket in [Bucket::Hour, Bucket::Day, Bucket::Week] {
            assert_eq!(bucket.split(inside, Europe::Berlin), Ok(vec![inside]));
        }
        assert_eq!(
            minutes(
                Bucket::Day,
                range("2025-06-01T00:00:00Z", "2025-06-03T00:00:00Z"),
                Tz::UTC
            ),
            [1440; 2]
        );
    }

    #[test]
    fn days_have_23_or_25_hours_when_clocks_change() {
        let spring = range("2025-03-28T23:00:00Z", "2025-03-31T22:00:00Z");
        assert_eq!(minutes(Bucket::Day, spring, Europe::Berlin), [1440, 1380, 1440]);
        let autumn = range("2025-10-25T22:00:00Z", "2025-10-27T23:00:00Z");
        assert_eq!(minutes(Bucket::Day, autumn, Europe::Berlin), [1500, 1440]);
        // In autumn the hour from 02:00 is repeated; in spring it is skipped.
        assert_eq!(
            minutes(
                Bucket::Hour,
                range("2025-10-25T22:00:00Z", "2025-10-26T23:00:00Z"),
                Europe::Berlin
            ),
            [60; 25]
        );
        assert_eq!(
            minutes(
                Bucket::Hour,
                range("2025-03-29T23:00:00Z", "2025-03-30T22:00:00Z"),
                Europe::Berlin
            ),
            [60; 23]
        );
    }

    #[test]
    fn hours_of_lord_howe_have_90_minutes_when_clocks_change_by_30() {
        // 02:00+11:00 becomes 01:30+10:30, which is no full hour: the hour from 01:00 lasts until the second 02:00.
        let autumn = range("2025-04-05T13:00:00Z", "2025-04-05T17:30:00Z");
        assert_eq!(minutes(Bucket::Hour, autumn, Australia::Lord_Howe), [60, 90, 60, 60]);
        assert_eq!(minutes(Bucket::QuarterHour, autumn, Australia::Lord_Howe), [15; 18]);
        // 02:00+10:30 becomes 02:30+11:00: the hour from 01:00 lasts until 03:00.
        let spring = range("2025-10-04T14:30:00Z", "2025-10-04T18:00:00Z");
        assert_eq!(minutes(Bucket::Hour, spring, Australia::Lord_Howe), [90, 60, 60]);
        assert_eq!(
            minutes(
                Bucket::Day,
                range("2025-04-04T13:00:00Z", "2025-04-06T13:30:00Z"),
                Australia::Lord_Howe
            ),
            [1440, 1470]
        );
    }

    #[test]
    fn hours_of_kathmandu_begin_at_quarter_past_the_hour_of_utc() {
        let day = range("2025-06-01T18:15:00Z", "2025-06-02T18:15:00Z");
        assert_eq!(minutes(Bucket::Day, day, Asia::Kathmandu), [1440]);
        assert_eq!(
            minutes(
                Bucket::Hour,
                range("2025-06-01T18:00:00Z", "2025-06-01T19:30:00Z"),
                Asia::Kathmandu
            ),
            [15, 60, 15]
        );
    }

    #[test]
    fn a_day_begins_at_its_first_instant_when_midnight_is_skipped_or_repeated() {
        // Clocks in Sao Paulo went from 00:00 to 01:00: the day begins at 01:00.
        let spring = range("2018-11-03T03:00:00Z", "2018-11-05T02:00:00Z");
        assert_eq!(minutes(Bucket::Day, spring, America::Sao_Paulo), [1440, 1380]);
        // Clocks in Havana went from 01:00 to 00:00: the day begins at the first midnight.
        let autumn = range("2024-11-02T04:00:00Z", "2024-11-04T05:00:00Z");
        assert_eq!(minutes(Bucket::Day, autumn, America::Havana), [1440, 1500]);
        // Clocks in St. John's went from 00:01 to 23:01: Sunday began at the first midnight.
        let minute_past = range("2010-11-06T02:30:00Z", "2010-11-08T03:30:00Z");
        assert_eq!(minutes(Bucket::Day, minute_past, America::St_Johns), [1440, 1500]);
        let repeated_evening = range("2010-11-07T02:40:00Z", "2010-11-08T03:30:00Z");
        assert_eq!(minutes(Bucket::Day, repeated_evening, America::St_Johns), [1490]);
    }

    #[test]
    fn a_date_that_did_not_exist_has_no_bucket() {
        // In Samoa, 31 December 2011 followed 29 December.
        let apia = range("2011-12-29T10:00:00Z", "2012-01-01T10:00:00Z");
        assert_eq!(minutes(Bucket::Day, apia, Pacific::Apia), [1440; 3]);
    }

    #[test]
    fn weeks_begin_on_monday() {
        let berlin = range("2025-03-18T23:00:00Z", "2025-04-06T22:00:00Z"); // Wednesday to Sunday night
        assert_eq!(
            minutes(Bucket::Week, berlin, Europe::Berlin),
            [5 * 1440, 7 * 1440 - 60, 7 * 1440]
        );
    }

    #[test]
    fn too_many_buckets_are_counted() {
        let count = |bucket: Bucket, start, end, zone| bucket.split(range(start, end), zone).unwrap_err().count;
        let (first, last) = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z");
        assert_eq!(
            count(Bucket::Minute, "2024-01-01T00:00:00Z", "2026-01-01T00:00:00Z", Tz::UTC),
            1_052_640
        );
        assert_eq!(count(Bucket::Day, first, last, Tz::UTC), 3_652_059);
        assert_eq!(count(Bucket::Week, first, last, Tz::UTC), 521_723);
        assert_eq!(count(Bucket::Hour, first, last, Tz::UTC), 3_652_059 * 24);
        // Local dates from 1 January 1900 to 2 January 2100, without 30 December 2011.
        assert_eq!(
            count(
                Bucket::Day,
                "1900-01-01T12:00:00Z",
                "2100-01-01T12:00:00Z",
                Pacific::Apia
            ),
            73_050
        );
    }

    #[test]
    fn at_most_count_max_buckets_are_allowed() {
        let start = parse_timestamp("2025-01-01T00:00:00Z").unwrap();
        let of = |minutes| TimeRange::new(start, start + TimeDelta::minutes(minutes)).unwrap();
        assert_eq!(
            Bucket::Minute.split(of(11_000), Tz::UTC).map(|buckets| buckets.len()),
            Ok(11_000)
        );
        assert_eq!(Bucket::Minute.split(of(11_001), Tz::UTC).unwrap_err().count, 11_001);
    }

    #[test]
    fn counting_agrees_with_splitting_in_every_zone() {
        for zone in chrono_tz::TZ_VARIANTS {
            let year = range("2010-10-15T03:21:10Z", "2011-12-31T12:00:00Z");
            for bucket in [Bucket::Hour, Bucket::Day, Bucket::Week] {
                let buckets = bucket.split(year, zone).unwrap();
                assert_eq!(bucket.count(year, zone), buckets.len() as u64, "{bucket} {zone}");
                assert!(
                    buckets.windows(2).all(|pair| pair[0].end() == pair[1].start()),
                    "{bucket} {zone}"
                );
            }
        }
    }
}
