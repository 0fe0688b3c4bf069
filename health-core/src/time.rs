//! Parsing and formatting of timestamps: RFC 3339, to the microsecond.

mod diagnose;

use chrono::{DateTime, Datelike, FixedOffset, SecondsFormat, Timelike, Utc};

use self::diagnose::diagnose;

/// The reason why a text is not a valid timestamp. The message quotes the text and says how to write it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimestampError {
    /// The text does not have the form of RFC 3339.
    #[error("{0:?} is not a time of RFC 3339: write it like 2025-03-02T18:00:00Z or 2025-03-02T19:00:00.5+01:00")]
    Malformed(String),
    /// The text is empty.
    #[error("is empty: write a time such as 2025-03-02T18:00:00Z")]
    Empty,
    /// The text is a number, so its unit is unknown.
    #[error("{0} is a number: Unix time is not accepted; write 2025-03-02T18:00:00Z")]
    UnixTime(String),
    /// The text is a date alone.
    #[error("{0:?} is a date without a time of day: write it like 2025-03-02T18:00:00Z")]
    DateOnly(String),
    /// The text has hours and minutes, but no seconds.
    #[error("{0:?} has no seconds: write them too, as in 2025-03-02T18:00:00Z")]
    NoSeconds(String),
    /// The text has neither `Z` nor an offset, so the moment is unknown.
    #[error("{0:?} has no offset: append Z for UTC, or an offset such as +01:00")]
    NoOffset(String),
    /// The text ends with the name of a time zone.
    #[error("{0:?} names a time zone: write Z for UTC, or an offset such as +01:00")]
    ZoneName(String),
    /// The text has the right form, but the calendar has no such date, or a day no such time.
    #[error("{0:?} does not exist: the month, the day, the time of day or the offset is out of range")]
    NoSuchTime(String),
    /// The second is 60. PostgreSQL and POSIX time have no leap seconds and would store the next minute instead.
    #[error("{0:?} is a leap second, which cannot be stored: send second 59 instead")]
    LeapSecond(String),
    /// The year in UTC has more than four digits or is negative.
    #[error("{0:?} is outside the years 0000 to 9999 in UTC")]
    OutOfRange(String),
}

/// The start of the first year that four digits can write, 0000-01-01T00:00:00Z.
pub(crate) const FIRST: DateTime<Utc> = match DateTime::from_timestamp(-62_167_219_200, 0) {
    Some(first) => first,
    None => DateTime::<Utc>::MIN_UTC,
};

/// The last microsecond of the last year that four digits can write, 9999-12-31T23:59:59.999999Z.
pub(crate) const LAST: DateTime<Utc> = match DateTime::from_timestamp(253_402_300_799, 999_999_000) {
    Some(last) => last,
    None => DateTime::<Utc>::MAX_UTC,
};

/// Parses an RFC 3339 timestamp with `Z` or an offset. Digits beyond the microsecond are dropped.
///
/// `T` and `Z` may be lowercase. Four forms beyond RFC 3339 (section 5.6) are accepted, because common libraries write
/// them: a space instead of the `T`, one space before the offset, and offsets such as `+0100` and `+01`.
///
/// # Errors
/// A [`TimestampError`], which quotes the text.
///
/// ```
/// let time = health_core::parse_timestamp("2025-03-02t19:00:00.1234567+01:00")?;
/// assert_eq!(health_core::format_timestamp(time), "2025-03-02T18:00:00.123456Z");
/// assert_eq!(health_core::parse_timestamp("2025-03-02 19:00:00.1234567 +0100")?, time);
/// # Ok::<(), health_core::TimestampError>(())
/// ```
pub fn parse_timestamp(text: &str) -> Result<DateTime<Utc>, TimestampError> {
    let parsed = match parse_rfc_3339(text) {
        Some(parsed) => parsed,
        None => with_plain_offset(text)
            .and_then(|plain| parse_rfc_3339(&plain))
            .ok_or_else(|| diagnose(text))?,
    };
    if text.as_bytes()[17] == b'6' {
        return Err(TimestampError::LeapSecond(quote(text)));
    }
    let utc = truncate_to_micros(parsed.with_timezone(&Utc));
    if !(0..=9999).contains(&utc.year()) {
        return Err(TimestampError::OutOfRange(quote(text)));
    }
    Ok(utc)
}

/// Parses a time whose offset is `Z` or of the form `+01:00`.
fn parse_rfc_3339(text: &str) -> Option<DateTime<FixedOffset>> {
    // chrono also accepts white space before each number, and a Unicode minus sign.
    let (time, rest) = text.as_bytes().split_at_checked(SECONDS_END)?;
    let is_shaped = matches!(time[10], b'T' | b't' | b' ')
        && time[..10].iter().chain(&time[11..]).all(u8::is_ascii_graphic)
        && rest.iter().all(u8::is_ascii_graphic);
    is_shaped.then(|| DateTime::parse_from_rfc3339(text).ok())?
}

/// The length of a time up to its seconds.
const SECONDS_END: usize = "2025-03-02T18:00:00".len();

/// Returns the text with its offset in the form `+01:00`, without a space before it.
fn with_plain_offset(text: &str) -> Option<String> {
    let (time, offset) = split_offset(text)?;
    let offset = offset.strip_prefix(' ').unwrap_or(offset);
    let is_number = |digits: &[u8]| digits.iter().all(u8::is_ascii_digit);
    match offset.as_bytes() {
        [b'Z' | b'z'] => Some(format!("{time}{offset}")),
        [b'+' | b'-', hours @ ..] if hours.len() == 2 && is_number(hours) => Some(format!("{time}{offset}:00")),
        [b'+' | b'-', digits @ ..] if digits.len() == 4 && is_number(digits) => {
            Some(format!("{time}{}:{}", &offset[..3], &offset[3..]))
        }
        [b'+' | b'-', hours @ .., b':', tens, ones] if hours.len() == 2 && is_number(hours) => {
            is_number(&[*tens, *ones]).then(|| format!("{time}{offset}"))
        }
        _ => None,
    }
}

/// Splits a text after its seconds or their fraction: `2025-03-02T18:00:00.5` from what follows.
fn split_offset(text: &str) -> Option<(&str, &str)> {
    let after_seconds = text.get(SECONDS_END..).filter(|_| text.is_ascii())?;
    let fraction = after_seconds.strip_prefix('.').map_or(0, |digits| {
        let end = digits.find(|digit: char| !digit.is_ascii_digit());
        1 + end.unwrap_or(digits.len())
    });
    text.split_at_checked(SECONDS_END + fraction)
}

/// Formats a time in UTC with `Z`, truncated to the microsecond. A fraction of zero is left out.
pub fn format_timestamp(time: DateTime<Utc>) -> String {
    truncate_to_micros(time).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Truncates a time to the microsecond, the precision of `timestamptz`. Rounds towards the past, also before 1970.
pub(crate) fn truncate_to_micros(time: DateTime<Utc>) -> DateTime<Utc> {
    let nanos = time.nanosecond();
    time.with_nanosecond(nanos - nanos % 1_000).unwrap_or(time)
}

/// Serialisation with [`format_timestamp`] and [`parse_timestamp`], for `#[serde(with = "crate::time::rfc3339")]`.
pub(crate) mod rfc3339 {
    use chrono::{DateTime, Utc};
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
    use std::borrow::Cow;

    pub(crate) fn serialize<S: Serializer>(time: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::format_timestamp(*time))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DateTime<Utc>, D::Error> {
        let text = Cow::<'de, str>::deserialize(from)?;
        super::parse_timestamp(&text).map_err(D::Error::custom)
    }
}

/// Shortens a text for an error message.
fn quote(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    if text.chars().count() <= CHARS_MAX {
        return text.to_owned();
    }
    let head: String = text.chars().take(CHARS_MAX).collect();
    format!("{head}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reformatted(text: &str) -> String {
        parse_timestamp(text).map_or_else(|error| format!("refused: {error}"), format_timestamp)
    }

    #[test]
    fn accepts_every_form_of_rfc_3339() {
        for (text, expected) in [
            ("2025-03-02T18:00:00Z", "2025-03-02T18:00:00Z"),
            ("2025-03-02t18:00:00z", "2025-03-02T18:00:00Z"),
            ("2025-03-02T18:00:00-00:00", "2025-03-02T18:00:00Z"),
            ("2025-03-02T18:00:00.9999999Z", "2025-03-02T18:00:00.999999Z"),
            ("2025-03-02T18:00:00.123456789012Z", "2025-03-02T18:00:00.123456Z"),
            ("2025-03-02T23:45:00+05:45", "2025-03-02T18:00:00Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
            ("1969-12-31T23:59:59.1234567Z", "1969-12-31T23:59:59.123456Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
        ] {
            assert_eq!(reformatted(text), expected, "{text}");
        }
    }

    #[test]
    fn accepts_spaces_and_short_offsets_as_common_libraries_write_them() {
        for (text, expected) in [
            ("2025-03-02 18:00:00Z", "2025-03-02T18:00:00Z"),
            ("2025-03-02 18:00:00 Z", "2025-03-02T18:00:00Z"),
            ("2025-03-02T18:00:00 z", "2025-03-02T18:00:00Z"),
            ("2025-03-02 19:00:00+01:00", "2025-03-02T18:00:00Z"),
            ("2025-03-02 19:00:00 +01:00", "2025-03-02T18:00:00Z"),
            ("2025-03-02T19:00:00 +0100", "2025-03-02T18:00:00Z"),
            ("2025-03-02T19:00:00+0100", "2025-03-02T18:00:00Z"),
            ("2025-03-02T19:00:00+01", "2025-03-02T18:00:00Z"),
            ("2025-03-02 14:30:00.25 -0330", "2025-03-02T18:00:00.250Z"),
            ("2025-03-02T18:00:00.1234567-00", "2025-03-02T18:00:00.123456Z"),
        ] {
            assert_eq!(reformatted(text), expected, "{text}");
        }
    }

    #[test]
    fn leap_seconds_and_years_of_five_digits_are_refused() {
        let refused = |text: &str| parse_timestamp(text).unwrap_err();
        for text in [
            "2016-12-31T23:59:60Z",
            "2016-12-31 23:59:60 +0000",
            "2016-12-31T23:59:60.5Z",
        ] {
            assert!(matches!(refused(text), TimestampError::LeapSecond(_)), "{text}");
        }
        for text in [
            "9999-12-31T23:59:59-01:00",
            "0000-01-01T00:00:00+01:00",
            "0000-01-01 00:00:00 +01",
        ] {
            assert!(matches!(refused(text), TimestampError::OutOfRange(_)), "{text}");
        }
    }
}
