//! The rules that all formats share.

use chrono::{DateTime, Utc};

use crate::{
    formats::entry::Fault,
    interval::check_end,
    record::ReceiveClock,
    sample::{Calories, HeartRate, InvalidSample, Sample, check_not_ahead},
};

/// The name under which an entry is ignored that has only the heart rate of a device that is not worn.
pub const NOT_WORN: &str = "not_worn";

/// Kilojoules of one kilocalorie, the thermochemical calorie (ISO/TR 29922).
const KILOJOULES_OF_KCAL: f64 = 4.184;

/// Reads a heart rate. Returns `None` for 0, -1 and 255, which devices send when they are not worn.
///
/// # Errors
/// [`InvalidSample::HeartRate`] for other values outside the limits.
pub fn heart_rate(bpm: f64) -> Result<Option<HeartRate>, InvalidSample> {
    match HeartRate::new(bpm) {
        Ok(rate) => Ok(Some(rate)),
        Err(InvalidSample::NotWorn(_)) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Reads an energy in `kcal`, in `Cal`, which is the same, or in `kJ`. `name` is the sender's name of the value.
///
/// # Errors
/// A [`Fault`] for another unit, and for a value outside the limits.
pub fn energy(name: &str, value: f64, unit: &str) -> Result<Calories, Fault> {
    let kcal = match unit {
        "kcal" | "Cal" => value,
        "kJ" => value / KILOJOULES_OF_KCAL,
        "" => return Err(Fault::new("the unit of energy is missing: kcal, Cal and kJ are known")),
        other => {
            let cut = other.floor_char_boundary(32);
            let reason = format!("the unit {:?} is unknown: kcal, Cal and kJ are known", &other[..cut]);
            return Err(Fault::with_kind(reason, "the unit of energy is unknown"));
        }
    };
    Calories::new(kcal).map_err(|fault| Fault::of_value(name, &fault))
}

/// Checks the time of an entry: from 2000 on, and not too far ahead of the clock.
///
/// # Errors
/// [`InvalidSample::TooEarly`] and [`InvalidSample::TooLate`].
pub fn check_time(time: DateTime<Utc>, clock: &ReceiveClock) -> Result<(), InvalidSample> {
    if time < Sample::EARLIEST {
        return Err(InvalidSample::TooEarly(time));
    }
    check_not_ahead(time, clock.received_at, clock.max_future)
}

/// Returns the end of an interval as it is stored. `None`: the entry is a sample at its start.
///
/// An end ahead of `now` is cut to `now`: Health Connect reports buckets that are still open, and days that the device
/// projects. Give no `now` to keep the end as it is.
///
/// # Errors
/// [`InvalidSample::EndNotLater`] if the end is before the start, [`InvalidSample::IntervalTooLong`] if the interval is
/// longer than 25 hours.
pub fn end_of_interval(
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    now: Option<DateTime<Utc>>,
) -> Result<Option<DateTime<Utc>>, InvalidSample> {
    if end == start {
        return Ok(None);
    }
    check_end(start, end)?;
    let end = now.map_or(end, |now| end.min(now));
    Ok(Some(end).filter(|end| *end > start))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::time::parse_timestamp;

    #[test]
    fn a_heart_rate_of_a_device_that_is_not_worn_is_none() {
        for (bpm, expected) in [(0.0, None), (-1.0, None), (255.0, None), (72.4, Some(72.4))] {
            assert_eq!(heart_rate(bpm).unwrap().map(HeartRate::get), expected);
        }
        assert!(heart_rate(301.0).is_err());
        assert!(heart_rate(f64::NAN).is_err());
    }

    #[test]
    fn energy_is_read_in_its_unit() {
        for (value, unit, kcal) in [
            (3.5, "kcal", 3.5),
            (3.5, "Cal", 3.5),
            (4.184, "kJ", 1.0),
            (0.0, "kJ", 0.0),
        ] {
            let read = energy("qty", value, unit).unwrap().get();
            assert!((read - kcal).abs() < 1e-12, "{value} {unit}: {read}");
        }
        for (value, unit, kind) in [
            (1.0, "J", "the unit of energy is unknown"),
            (1.0, "cal", "the unit of energy is unknown"),
            (1.0, "", "the unit of energy is missing: kcal, Cal and kJ are known"),
            (-1.0, "kcal", "qty is outside 0 to 10000"),
            (10_000.1, "kcal", "qty is outside 0 to 10000"),
            (f64::NAN, "kJ", "qty is outside 0 to 10000"),
        ] {
            assert_eq!(energy("qty", value, unit).unwrap_err().kind, kind, "{value} {unit}");
        }
    }

    #[test]
    fn the_end_of_an_interval_is_within_25_hours_and_not_ahead_of_the_clock() {
        let start = parse_timestamp("2025-03-02T09:00:00Z").unwrap();
        let at = |minutes| start + TimeDelta::minutes(minutes);
        for (end, now, expected) in [
            (0, None, Ok(None)),
            (60, None, Ok(Some(60))),
            (60, Some(100), Ok(Some(60))),
            (60, Some(30), Ok(Some(30))),
            (60, Some(0), Ok(None)),
            (60, Some(-2), Ok(None)),
            (25 * 60, Some(30), Ok(Some(30))),
            (25 * 60 + 1, Some(30), Err(())),
            (-1, Some(30), Err(())),
        ] {
            let found = end_of_interval(start, at(end), now.map(at));
            let expected = expected.map(|minutes: Option<i64>| minutes.map(at));
            assert_eq!(found.map_err(|_| ()), expected, "{end} {now:?}");
        }
    }

    #[test]
    fn times_before_2000_and_far_in_the_future_are_refused() {
        let clock = ReceiveClock {
            received_at: parse_timestamp("2025-03-02T18:00:00Z").unwrap(),
            max_future: TimeDelta::minutes(5),
        };
        for (time, expected) in [
            ("1999-12-31T23:59:59Z", false),
            ("2000-01-01T00:00:00Z", true),
            ("2025-03-02T18:05:00Z", true),
            ("2025-03-02T18:05:01Z", false),
        ] {
            assert_eq!(
                check_time(parse_timestamp(time).unwrap(), &clock).is_ok(),
                expected,
                "{time}"
            );
        }
    }
}
