//! Reads times and durations in the forms that people type.

use chrono::{DateTime, Duration, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// Why a text is not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimeInputError {
    #[error("Enter a time, such as -2h, now, 18:00 or 2025-03-02 18:00.")]
    Empty,
    #[error("`{text}` is not a time. Write for example -2h, now, 18:00 or 2025-03-02 18:00.")]
    Unreadable { text: String },
    #[error("{text} does not exist in {tz}: the clocks were set forward past it. Choose another time.")]
    Skipped { text: String, tz: Tz },
}

/// Reads a time: `now`, `today`, `yesterday`, `-2h`, `-1h30m`, `18:00`, `2025-03-02`, `2025-03-02 18:00[:05]` or RFC
/// 3339.
///
/// A time without an offset is a local time in `tz`. If the clocks repeat it, the first of the two times is meant.
pub(crate) fn parse_time(text: &str, now: DateTime<Utc>, tz: Tz) -> Result<DateTime<Utc>, TimeInputError> {
    let text = text.trim();
    let unreadable = || TimeInputError::Unreadable { text: text.to_owned() };
    let today = now.with_timezone(&tz).date_naive();
    match text.to_lowercase().as_str() {
        "" => return Err(TimeInputError::Empty),
        "now" => return Ok(now),
        "today" => return local_time(midnight(today), text, tz),
        "yesterday" => return local_time(midnight(today - Duration::days(1)), text, tz),
        _ => {}
    }
    if let Some(duration) = text.strip_prefix('-') {
        let duration = parse_duration(duration).ok_or_else(unreadable)?;
        return now.checked_sub_signed(duration).ok_or_else(unreadable);
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.with_timezone(&Utc));
    }
    for format in [
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%dT%H:%M",
    ] {
        if let Ok(at) = NaiveDateTime::parse_from_str(text, format) {
            return local_time(at, text, tz);
        }
    }
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return local_time(midnight(day), text, tz);
    }
    for format in ["%H:%M:%S", "%H:%M"] {
        if let Ok(time) = NaiveTime::parse_from_str(text, format) {
            return local_time(today.and_time(time), text, tz);
        }
    }
    Err(unreadable())
}

/// Reads a duration such as `2h`, `90s`, `1h30m`, `7d` or `2w`. Zero is not a duration.
fn parse_duration(text: &str) -> Option<TimeDelta> {
    let mut total = TimeDelta::zero();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        let (unit, tail) = rest[digits..].split_at_checked(1)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return None,
        };
        total = total.checked_add(&TimeDelta::try_seconds(number.checked_mul(seconds)?)?)?;
        rest = tail;
    }
    (total > TimeDelta::zero()).then_some(total)
}

fn midnight(day: NaiveDate) -> NaiveDateTime {
    day.and_time(NaiveTime::MIN)
}

fn local_time(at: NaiveDateTime, text: &str, tz: Tz) -> Result<DateTime<Utc>, TimeInputError> {
    match tz.from_local_datetime(&at) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Ok(at.with_timezone(&Utc)),
        LocalResult::None => Err(TimeInputError::Skipped {
            text: text.to_owned(),
            tz,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2025, 3, 2, 18, 0, 0).unwrap()
    }

    #[test]
    fn reads_the_forms_that_people_write() {
        let berlin = chrono_tz::Europe::Berlin;
        for (text, utc) in [
            ("now", "2025-03-02T18:00:00+00:00"),
            (" -2h ", "2025-03-02T16:00:00+00:00"),
            ("-1h30m", "2025-03-02T16:30:00+00:00"),
            ("-7d", "2025-02-23T18:00:00+00:00"),
            ("today", "2025-03-01T23:00:00+00:00"),
            ("Yesterday", "2025-02-28T23:00:00+00:00"),
            ("08:15", "2025-03-02T07:15:00+00:00"),
            ("2025-03-02", "2025-03-01T23:00:00+00:00"),
            ("2025-07-01 12:00", "2025-07-01T10:00:00+00:00"),
            ("2025-03-02T18:00:00+02:00", "2025-03-02T16:00:00+00:00"),
            ("2025-10-26 02:30", "2025-10-26T00:30:00+00:00"),
        ] {
            assert_eq!(
                parse_time(text, now(), berlin).map(|t| t.to_rfc3339()),
                Ok(utc.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_is_not_a_time() {
        let berlin = chrono_tz::Europe::Berlin;
        for text in [
            "-",
            "-2",
            "-2y",
            "25:00",
            "soon",
            "-2é",
            "2025-13-01",
            "-99999999999999w",
        ] {
            assert!(
                matches!(parse_time(text, now(), berlin), Err(TimeInputError::Unreadable { .. })),
                "{text}"
            );
        }
        assert_eq!(parse_time(" ", now(), berlin), Err(TimeInputError::Empty));
        assert!(matches!(
            parse_time("2025-03-30 02:30", now(), berlin),
            Err(TimeInputError::Skipped { .. })
        ));
    }
}
