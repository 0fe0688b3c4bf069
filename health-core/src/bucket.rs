//! Cutting a range by a local clock.
//!
//! Buckets below a day begin wherever the clock on the wall shows a multiple of their width; days begin at the first instant
//! of their local date, and weeks with a Monday's. A change of the clock is no border by itself.

use std::{fmt, str::FromStr};

use chrono::{
    DateTime, Datelike, Days, MappedLocalTime, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc, Weekday,
};
use chrono_tz::Tz;

use crate::range::TimeRange;

/// How wide the buckets of a series are.
///
/// ```
/// use health_core::Bucket;
///
/// assert_eq!("15m".parse(), Ok(Bucket::QuarterHour));
/// assert_eq!(Bucket::Week.to_string(), "1w");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// `1m`
    Minute,
    /// `5m`
    FiveMinutes,
    /// `15m`
    QuarterHour,
    /// `1h`
    Hour,
    /// `1d`: a local date, 23 to 25 hours in most zones.
    Day,
    /// `1w`: seven local dates from Monday on.
    Week,
}

/// A text that names no [`Bucket`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a bucket: 1m, 5m, 15m, 1h, 1d and 1w are")]
pub struct ParseBucketError(String);

/// More buckets than one answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the range has {count} buckets of {bucket}, at most {} are answered: take a wider bucket or a shorter range",
    Bucket::COUNT_MAX
)]
pub struct TooManyBuckets {
    /// What was asked for.
    pub bucket: Bucket,
    /// How many touch the range.
    pub count: u64,
}

/// The years within which zones change their clocks, as far as the zone database knows: local mean times began to end in
/// the 1840s, and its tables of rules reach to 2100.
const FIRST_CHANGE_SECONDS: i64 = -4_102_444_800; // 1840-01-01
const LAST_CHANGE_SECONDS: i64 = 4_733_510_400; // 2120-01-01

const DAY_SECONDS: i64 = 86_400;
const MICROS: i64 = 1_000_000;

impl Bucket {
    /// Every width, from the narrowest.
    pub const ALL: [Self; 6] = [
        Self::Minute,
        Self::FiveMinutes,
        Self::QuarterHour,
        Self::Hour,
        Self::Day,
        Self::Week,
    ];

    /// Buckets in one answer, at most: a week of minutes, a year of hours or thirty years of days.
    pub const COUNT_MAX: usize = 11_000;

    /// Every bucket that touches the range, the outer two cut at it.
    ///
    /// # Errors
    /// [`TooManyBuckets`] above [`Bucket::COUNT_MAX`].
    ///
    /// ```
    /// use health_core::{Bucket, TimeRange, parse_timestamp};
    ///
    /// let range = TimeRange::new(parse_timestamp("2025-03-29T23:00:00Z")?, parse_timestamp("2025-03-31T22:00:00Z")?)?;
    /// let days = Bucket::Day.split(range, chrono_tz::Europe::Berlin)?;
    /// let hours: Vec<_> = days.iter().map(|day| day.length().num_hours()).collect();
    /// assert_eq!(hours, [23, 24]); // the night the clocks went forward
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn split(self, range: TimeRange, zone: Tz) -> Result<Vec<TimeRange>, TooManyBuckets> {
        let mut buckets = Vec::new();
        let mut start = range.start();
        for border in self.borders(range, zone) {
            buckets.extend(TimeRange::new(start, border));
            start = border;
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

    /// The borders inside a range, ascending: neither its start nor its end.
    fn borders(self, range: TimeRange, zone: Tz) -> Box<dyn Iterator<Item = DateTime<Utc>>> {
        let end = range.end();
        if let Some(width) = self.width_micros() {
            let after =
                move |at: &i64| Some(next_multiple(*at, width, zone)).filter(|next| *next < end.timestamp_micros());
            let first = after(&range.start().timestamp_micros());
            return Box::new(std::iter::successors(first, after).filter_map(DateTime::from_timestamp_micros));
        }
        let dates = self.first_dates(local_date(range.start(), zone));
        let borders = dates
            .map(move |date| first_instant(date, zone))
            .take_while(move |border| *border < end);
        let mut last = range.start();
        Box::new(borders.filter(move |border| {
            let is_new = last < *border;
            last = last.max(*border);
            is_new
        }))
    }

    /// The dates that buckets of a day or a week begin with, from the first behind `date` on.
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

    /// How many buckets touch the range, however many they are.
    fn count(self, range: TimeRange, zone: Tz) -> u64 {
        let inner = match self.width_micros() {
            Some(width) => count_multiples(range, width, zone),
            None => self.count_dates(range, zone),
        };
        inner.unsigned_abs() + 1
    }

    fn count_dates(self, range: TimeRange, zone: Tz) -> i64 {
        // Where midnight is passed twice, a date has begun before the instant whose local date is still the one before.
        let begun = |at: DateTime<Utc>| {
            let date = local_date(at, zone);
            let next = date + Days::new(1);
            if first_instant(next, zone) <= at { next } else { date }
        };
        let (first, last) = (begun(range.start()), begun(range.end() - TimeDelta::microseconds(1)));
        match self {
            Self::Week => {
                let week = |date: NaiveDate| i64::from(date.num_days_from_ce() - 1).div_euclid(7); // 0001-01-01 was a Monday
                week(last) - week(first)
            }
            _ => (last - first).num_days() - skipped_dates(range, zone),
        }
    }

    fn width_micros(self) -> Option<i64> {
        match self {
            Self::Minute => Some(60 * MICROS),
            Self::FiveMinutes => Some(300 * MICROS),
            Self::QuarterHour => Some(900 * MICROS),
            Self::Hour => Some(3_600 * MICROS),
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
        named.ok_or_else(|| ParseBucketError(text.chars().take(64).collect()))
    }
}

/// The next instant behind `at` at which the local clock shows a multiple of `width`; all in microseconds.
fn next_multiple(mut at: i64, width: i64, zone: Tz) -> i64 {
    loop {
        let offset = offset_micros(at, zone);
        let next = at + width - (at + offset).rem_euclid(width);
        if offset_micros(next, zone) == offset {
            return next;
        }
        let change = first_change(at, next, zone);
        if (change + offset_micros(change, zone)).rem_euclid(width) == 0 {
            return change;
        }
        at = change;
    }
}

/// How many instants strictly inside a range show a multiple of `width` on the local clock.
fn count_multiples(range: TimeRange, width: i64, zone: Tz) -> i64 {
    let (mut start, end) = (range.start().timestamp_micros() + 1, range.end().timestamp_micros());
    let mut count = 0;
    for stop in changes(range, zone).into_iter().chain([end]) {
        let offset = offset_micros(start, zone);
        count += (stop - 1 + offset).div_euclid(width) - (start - 1 + offset).div_euclid(width);
        start = stop;
    }
    count
}

/// How many dates between those of a range's start and end never were: where a zone changed sides of the date line.
fn skipped_dates(range: TimeRange, zone: Tz) -> i64 {
    let never_was = |date: &NaiveDate| first_instant(*date, zone) == first_instant(*date + Days::new(1), zone);
    let skipped = changes(range, zone).into_iter().map(|change| {
        let date_at = |micros: i64| DateTime::from_timestamp_micros(micros).map(|at| local_date(at, zone));
        let (Some(before), Some(after)) = (date_at(change - 1), date_at(change)) else {
            return 0;
        };
        before
            .iter_days()
            .skip(1)
            .take_while(|date| *date < after)
            .filter(never_was)
            .count()
    });
    skipped.map(|dates| i64::try_from(dates).unwrap_or(0)).sum()
}

/// The clock changes strictly inside a range, in microseconds. No zone ever changed twice within a day.
fn changes(range: TimeRange, zone: Tz) -> Vec<i64> {
    let start = range.start().timestamp_micros().max(FIRST_CHANGE_SECONDS * MICROS) + 1;
    let end = range.end().timestamp_micros().min(LAST_CHANGE_SECONDS * MICROS);
    let mut changes = Vec::new();
    let mut at = start;
    while at < end {
        let next = (at + DAY_SECONDS * MICROS).min(end - 1).max(at + 1);
        if offset_micros(at, zone) != offset_micros(next, zone) {
            changes.push(first_change(at, next, zone));
        }
        at = next;
    }
    changes
}

/// The instant in `(from, to]` from which on the zone has another offset than at `from`.
fn first_change(from: i64, to: i64, zone: Tz) -> i64 {
    let offset = offset_micros(from, zone);
    let (mut same, mut other) = (from, to);
    while other - same > 1 {
        let middle = same + (other - same) / 2;
        if offset_micros(middle, zone) == offset {
            same = middle;
        } else {
            other = middle;
        }
    }
    other
}

/// The first instant of a local date; where the date never was, of the one that came in its place.
fn first_instant(date: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let midnight = date.and_time(chrono::NaiveTime::MIN);
    match zone.from_local_datetime(&midnight) {
        MappedLocalTime::Single(instant) => instant.to_utc(),
        MappedLocalTime::Ambiguous(one, other) => one.to_utc().min(other.to_utc()),
        MappedLocalTime::None => {
            // The clock jumped over midnight: the day begins where it landed.
            let (mut before, mut after) = (
                midnight.and_utc() - TimeDelta::hours(48),
                midnight.and_utc() + TimeDelta::hours(48),
            );
            while after - before > TimeDelta::seconds(1) {
                let middle = before + (after - before) / 2;
                if local(middle, zone) < midnight {
                    before = middle;
                } else {
                    after = middle;
                }
            }
            DateTime::from_timestamp(after.timestamp(), 0).unwrap_or(after)
        }
    }
}

fn local_date(at: DateTime<Utc>, zone: Tz) -> NaiveDate {
    local(at, zone).date()
}

fn local(at: DateTime<Utc>, zone: Tz) -> NaiveDateTime {
    at.with_timezone(&zone).naive_local()
}

fn offset_micros(at: i64, zone: Tz) -> i64 {
    DateTime::from_timestamp_micros(at).map_or(0, |at| {
        let offset = zone.offset_from_utc_datetime(&at.naive_utc());
        i64::from(offset.fix().local_minus_utc()) * MICROS
    })
}

#[cfg(test)]
mod tests {
    use chrono_tz::{America, Asia, Australia, Europe, Pacific};

    use super::*;
    use crate::time::parse_timestamp;

    fn range(start: &str, end: &str) -> TimeRange {
        TimeRange::new(parse_timestamp(start).unwrap(), parse_timestamp(end).unwrap()).unwrap()
    }

    /// The buckets' lengths in minutes.
    fn minutes(bucket: Bucket, range: TimeRange, zone: Tz) -> Vec<i64> {
        let buckets = bucket.split(range, zone).unwrap();
        assert_eq!(bucket.count(range, zone), buckets.len() as u64, "{bucket} {zone}");
        buckets.iter().map(|bucket| bucket.length().num_minutes()).collect()
    }

    #[test]
    fn names_and_widths() {
        for bucket in Bucket::ALL {
            assert_eq!(bucket.to_string().parse(), Ok(bucket));
        }
        for text in ["", "1M", "2h", "60m", "1 h"] {
            assert!(text.parse::<Bucket>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_outer_two_are_cut_at_the_range() {
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
    fn days_of_23_and_25_hours() {
        let spring = range("2025-03-28T23:00:00Z", "2025-03-31T22:00:00Z");
        assert_eq!(minutes(Bucket::Day, spring, Europe::Berlin), [1440, 1380, 1440]);
        let autumn = range("2025-10-25T22:00:00Z", "2025-10-27T23:00:00Z");
        assert_eq!(minutes(Bucket::Day, autumn, Europe::Berlin), [1500, 1440]);
        // 02:00 and 02:00 again; in spring there is none.
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
    fn lord_howe_changes_by_half_an_hour() {
        // 02:00+11:00 becomes 01:30+10:30: no border there, so the hour from 01:00 lasts until 02:00 shows again.
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
    fn kathmandu_is_a_quarter_off() {
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
    fn midnights_that_never_were_or_were_twice() {
        // Sao Paulo went from 00:00 to 01:00: the day begins at 01:00.
        let spring = range("2018-11-03T03:00:00Z", "2018-11-05T02:00:00Z");
        assert_eq!(minutes(Bucket::Day, spring, America::Sao_Paulo), [1440, 1380]);
        // Havana went from 01:00 to 00:00: the day begins at the first.
        let autumn = range("2024-11-02T04:00:00Z", "2024-11-04T05:00:00Z");
        assert_eq!(minutes(Bucket::Day, autumn, America::Havana), [1440, 1500]);
        // St. John's went from 00:01 back to 23:01: Sunday has begun by then.
        let minute_past = range("2010-11-06T02:30:00Z", "2010-11-08T03:30:00Z");
        assert_eq!(minutes(Bucket::Day, minute_past, America::St_Johns), [1440, 1500]);
        let repeated_evening = range("2010-11-07T02:40:00Z", "2010-11-08T03:30:00Z");
        assert_eq!(minutes(Bucket::Day, repeated_evening, America::St_Johns), [1490]);
    }

    #[test]
    fn a_date_that_never_was_has_no_bucket() {
        // Samoa went from 29 to 31 December 2011.
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
    fn counts_what_is_too_many() {
        let count = |bucket: Bucket, start, end, zone| bucket.split(range(start, end), zone).unwrap_err().count;
        let (first, last) = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z");
        assert_eq!(
            count(Bucket::Minute, "2024-01-01T00:00:00Z", "2026-01-01T00:00:00Z", Tz::UTC),
            1_052_640
        );
        assert_eq!(count(Bucket::Day, first, last, Tz::UTC), 3_652_059);
        assert_eq!(count(Bucket::Week, first, last, Tz::UTC), 521_723);
        assert_eq!(count(Bucket::Hour, first, last, Tz::UTC), 3_652_059 * 24);
        // From 1 January 1900 to 2 January 2100 by its own calendar, less the one that never was.
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
    fn as_many_as_are_answered_are_answered() {
        let start = parse_timestamp("2025-01-01T00:00:00Z").unwrap();
        let of = |minutes| TimeRange::new(start, start + TimeDelta::minutes(minutes)).unwrap();
        assert_eq!(
            Bucket::Minute.split(of(11_000), Tz::UTC).map(|buckets| buckets.len()),
            Ok(11_000)
        );
        assert_eq!(Bucket::Minute.split(of(11_001), Tz::UTC).unwrap_err().count, 11_001);
    }

    #[test]
    fn counting_agrees_with_cutting_in_every_zone() {
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

    #[test]
    fn no_zone_changes_outside_the_years_searched() {
        let probe = |seconds: i64, zone| offset_micros(seconds * MICROS, zone);
        for zone in chrono_tz::TZ_VARIANTS {
            for half_years in 1..20 {
                let apart = half_years * 182 * DAY_SECONDS;
                assert_eq!(
                    probe(FIRST_CHANGE_SECONDS, zone),
                    probe(FIRST_CHANGE_SECONDS - apart, zone),
                    "{zone}"
                );
                assert_eq!(
                    probe(LAST_CHANGE_SECONDS, zone),
                    probe(LAST_CHANGE_SECONDS + apart, zone),
                    "{zone}"
                );
            }
        }
    }
}
