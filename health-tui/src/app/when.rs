//! Times as people write them.

use chrono::{DateTime, Duration, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// A text that is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WhenError {
    #[error("a time is needed, such as -2h, now, 18:00 or 2025-03-02 18:00")]
    Empty,
    #[error("`{text}` is no time; write -2h, now, 18:00 or 2025-03-02 18:00")]
    Unreadable { text: String },
    #[error("`{text}` does not exist in {tz}: the clocks were put forward over it")]
    Skipped { text: String, tz: Tz },
}

/// Reads `now`, `today`, `yesterday`, `-2h`, `-1h30m`, `18:00`, `2025-03-02`, `2025-03-02 18:00[:05]` in `tz`, and RFC 3339.
/// Of an hour that the clocks repeat it is the first.
pub(crate) fn parse(text: &str, now: DateTime<Utc>, tz: Tz) -> Result<DateTime<Utc>, WhenError> {
    let text = text.trim();
    let unreadable = || WhenError::Unreadable { text: text.to_owned() };
    let today = now.with_timezone(&tz).date_naive();
    match text.to_lowercase().as_str() {
        "" => return Err(WhenError::Empty),
        "now" => return Ok(now),
        "today" => return local(midnight(today), text, tz),
        "yesterday" => return local(midnight(today - Duration::days(1)), text, tz),
        _ => {}
    }
    if let Some(back) = text.strip_prefix('-') {
        let span = span(back).ok_or_else(unreadable)?;
        return now.checked_sub_signed(span).ok_or_else(unreadable);
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.with_timezone(&Utc));
    }
    for form in [
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%dT%H:%M",
    ] {
        if let Ok(at) = NaiveDateTime::parse_from_str(text, form) {
            return local(at, text, tz);
        }
    }
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return local(midnight(day), text, tz);
    }
    for form in ["%H:%M:%S", "%H:%M"] {
        if let Ok(time) = NaiveTime::parse_from_str(text, form) {
            return local(today.and_time(time), text, tz);
        }
    }
    Err(unreadable())
}

/// `2h`, `90s`, `1h30m`, `7d`, `2w`.
pub(crate) fn span(text: &str) -> Option<TimeDelta> {
    let mut total = TimeDelta::zero();
    let mut rest = text;
    while !rest.is_empty() {
        let at = rest.find(|c: char| !c.is_ascii_digit())?;
        let n: i64 = rest[..at].parse().ok()?;
        let (unit, tail) = rest[at..].split_at(1);
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return None,
        };
        total = total.checked_add(&TimeDelta::try_seconds(n.checked_mul(seconds)?)?)?;
        rest = tail;
    }
    (total > TimeDelta::zero()).then_some(total)
}

fn midnight(day: NaiveDate) -> NaiveDateTime {
    day.and_time(NaiveTime::MIN)
}

fn local(at: NaiveDateTime, text: &str, tz: Tz) -> Result<DateTime<Utc>, WhenError> {
    match tz.from_local_datetime(&at) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Ok(at.with_timezone(&Utc)),
        LocalResult::None => Err(WhenError::Skipped {
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
    fn what_people_write() {
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
                parse(text, now(), berlin).map(|t| t.to_rfc3339()),
                Ok(utc.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_time() {
        let berlin = chrono_tz::Europe::Berlin;
        for text in ["-", "-2", "-2y", "25:00", "soon", "2025-13-01", "-99999999999999w"] {
            assert!(
                matches!(parse(text, now(), berlin), Err(WhenError::Unreadable { .. })),
                "{text}"
            );
        }
        assert_eq!(parse(" ", now(), berlin), Err(WhenError::Empty));
        assert!(matches!(
            parse("2025-03-30 02:30", now(), berlin),
            Err(WhenError::Skipped { .. })
        ));
    }
}
