//! The clock of a time zone: its changes, midnights and multiples of a width. Integers are microseconds since 1970.

use chrono::{DateTime, Days, MappedLocalTime, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use crate::range::TimeRange;

pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;

/// 1840-01-01, before the first clock change of any zone.
///
/// According to the IANA time zone database, the first places gave up local mean time in the 1840s. A test checks both
/// constants against all zones.
pub(super) const FIRST_CHANGE_SECONDS: i64 = -4_102_444_800;

/// 2120-01-01, after the last clock change that `chrono-tz` knows: its tables of future rules end in 2100.
pub(super) const LAST_CHANGE_SECONDS: i64 = 4_733_510_400;

pub(super) const DAY_SECONDS: i64 = 86_400;

/// Returns the first moment after `at` at which the local clock shows a multiple of `width`.
pub(super) fn next_multiple(mut at: i64, width: i64, zone: Tz) -> i64 {
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

/// Counts the moments within a range, except its start, at which the local clock shows a multiple of `width`.
pub(super) fn count_multiples(range: TimeRange, width: i64, zone: Tz) -> i64 {
    let (mut start, end) = (range.start().timestamp_micros() + 1, range.end().timestamp_micros());
    let mut count = 0;
    for stop in changes(range, zone).into_iter().chain([end]) {
        let offset = offset_micros(start, zone);
        count += (stop - 1 + offset).div_euclid(width) - (start - 1 + offset).div_euclid(width);
        start = stop;
    }
    count
}

/// Counts the local dates in a range that did not exist, because the zone moved across the date line.
pub(super) fn skipped_dates(range: TimeRange, zone: Tz) -> i64 {
    let did_not_exist = |date: &NaiveDate| first_instant(*date, zone) == first_instant(*date + Days::new(1), zone);
    let skipped = changes(range, zone).into_iter().map(|change| {
        let date_at = |micros: i64| DateTime::from_timestamp_micros(micros).map(|at| local_date(at, zone));
        let (Some(before), Some(after)) = (date_at(change - 1), date_at(change)) else {
            return 0;
        };
        before
            .iter_days()
            .skip(1)
            .take_while(|date| *date < after)
            .filter(did_not_exist)
            .count()
    });
    skipped.map(|dates| i64::try_from(dates).unwrap_or(0)).sum()
}

/// Returns the clock changes within a range.
///
/// The search steps by days, because no zone has ever changed its clock twice within a day.
fn changes(range: TimeRange, zone: Tz) -> Vec<i64> {
    let first = FIRST_CHANGE_SECONDS * MICROS_PER_SECOND;
    let last = LAST_CHANGE_SECONDS * MICROS_PER_SECOND;
    let start = range.start().timestamp_micros().max(first) + 1;
    let end = range.end().timestamp_micros().min(last);
    let mut changes = Vec::new();
    let mut at = start;
    while at < end {
        let next = (at + DAY_SECONDS * MICROS_PER_SECOND).min(end - 1).max(at + 1);
        if offset_micros(at, zone) != offset_micros(next, zone) {
            changes.push(first_change(at, next, zone));
        }
        at = next;
    }
    changes
}

/// Returns the first moment in `(from, to]` at which the offset of the zone differs from that at `from`.
///
/// The offset must change exactly once in between.
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

/// Returns the first moment of a local date. If the date did not exist, returns that of the next existing date.
pub(super) fn first_instant(date: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let midnight = date.and_time(chrono::NaiveTime::MIN);
    match zone.from_local_datetime(&midnight) {
        MappedLocalTime::Single(instant) => instant.to_utc(),
        MappedLocalTime::Ambiguous(one, other) => one.to_utc().min(other.to_utc()),
        MappedLocalTime::None => clock_jump_over(midnight, zone),
    }
}

/// Returns the moment at which the local clock jumped over a time that it never showed.
fn clock_jump_over(skipped: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    // No local clock differs from UTC by 48 hours, so the jump is in between.
    let (mut before, mut after) = (
        skipped.and_utc() - TimeDelta::hours(48),
        skipped.and_utc() + TimeDelta::hours(48),
    );
    while after - before > TimeDelta::seconds(1) {
        let middle = before + (after - before) / 2;
        if local(middle, zone) < skipped {
            before = middle;
        } else {
            after = middle;
        }
    }
    DateTime::from_timestamp(after.timestamp(), 0).unwrap_or(after)
}

pub(super) fn local_date(at: DateTime<Utc>, zone: Tz) -> NaiveDate {
    local(at, zone).date()
}

fn local(at: DateTime<Utc>, zone: Tz) -> NaiveDateTime {
    at.with_timezone(&zone).naive_local()
}

/// Returns how far the local clock is ahead of UTC.
fn offset_micros(at: i64, zone: Tz) -> i64 {
    DateTime::from_timestamp_micros(at).map_or(0, |at| {
        let offset = zone.offset_from_utc_datetime(&at.naive_utc());
        i64::from(offset.fix().local_minus_utc()) * MICROS_PER_SECOND
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_zone_changes_its_clock_outside_the_searched_years() {
        let probe = |seconds: i64, zone| offset_micros(seconds * MICROS_PER_SECOND, zone);
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
