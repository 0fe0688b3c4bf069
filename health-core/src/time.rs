//! Parsing and formatting of timestamps: RFC 3339, to the microsecond.

use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};

/// The reason why a text is not a valid timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimestampError {
    /// The text does not have the form of RFC 3339, or the date or time does not exist.
    #[error("{0:?} is not an RFC 3339 time such as 2025-03-02T18:00:00Z or 2025-03-02T19:00:00.5+01:00")]
    Malformed(String),
    /// The text has neither `Z` nor an offset, so the moment is unknown.
    #[error("{0:?} has no offset: append Z for UTC, or an offset such as +01:00")]
    NoOffset(String),
    /// The second is 60. PostgreSQL and POSIX time have no leap seconds and would store the next minute instead.
    #[error("{0:?} is a leap second, which cannot be stored: send second 59 instead")]
    LeapSecond(String),
    /// The year in UTC has more than four digits or is negative.
    #[error("{0:?} is outside the years 0000 to 9999 in UTC")]
    OutOfRange(String),
}

/// Parses an RFC 3339 timestamp with `Z` or an offset. Digits beyond the microsecond are dropped.
///
/// `T` and `Z` may be lowercase. A space instead of the `T` is refused: the grammar of RFC 3339 (section 5.6) has none.
///
/// # Errors
/// A [`TimestampError`], which quotes the text.
///
/// ```
/// let time = health_core::parse_timestamp("2025-03-02t19:00:00.1234567+01:00")?;
/// assert_eq!(health_core::format_timestamp(time), "2025-03-02T18:00:00.123456Z");
/// # Ok::<(), health_core::TimestampError>(())
/// ```
pub fn parse_timestamp(text: &str) -> Result<DateTime<Utc>, TimestampError> {
    let bytes = text.as_bytes();
    // chrono also accepts a space instead of the `T` and a Unicode minus sign. RFC 3339 allows neither.
    let shaped = text.is_ascii() && matches!(bytes.get(10), Some(b'T' | b't'));
    let parsed = shaped.then(|| DateTime::parse_from_rfc3339(text));
    let Some(Ok(parsed)) = parsed else {
        return Err(diagnose(text));
    };
    if bytes[17] == b'6' {
        return Err(TimestampError::LeapSecond(quote(text)));
    }
    let utc = truncate_to_micros(parsed.with_timezone(&Utc));
    if !(0..=9999).contains(&utc.year()) {
        return Err(TimestampError::OutOfRange(quote(text)));
    }
    Ok(utc)
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

/// Returns the reason why a text is refused. The caller has already found that it is not valid.
fn diagnose(text: &str) -> TimestampError {
    let with_offset = format!("{text}Z");
    let only_offset_missing = text.is_ascii()
        && matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' '))
        && DateTime::parse_from_rfc3339(&with_offset).is_ok();
    if only_offset_missing {
        TimestampError::NoOffset(quote(text))
    } else {
        TimestampError::Malformed(quote(text))
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
    fn refuses_other_texts_with_the_reason() {
        let refused = |text: &str| parse_timestamp(text).unwrap_err();
        for text in [
            "",
            "now",
            "2025-03-02",
            "2025-03-02T18:00Z",
            "2025-03-02 18:00:00Z",
            "2025-02-29T00:00:00Z",
            "2025-03-02T24:00:00Z",
            "2025-03-02T18:60:00Z",
            "2025-03-02T18:00:00.Z",
            "2025-03-02T18:00:00+1:00",
            "2025-03-02T18:00:00+0100",
            "2025-03-02T18:00:00+24:00",
            "2025-03-02T18:00:00\u{2212}01:00",
            " 2025-03-02T18:00:00Z",
            "2025-03-02T18:00:00Z ",
            "25-03-02T18:00:00Z",
            "+2025-03-02T18:00:00Z",
            "2025-03-02T18:00:61Z",
            "2025-03-02T18:00:00,5Z",
            "1740938400",
        ] {
            assert!(
                matches!(refused(text), TimestampError::Malformed(_)),
                "{text}: {:?}",
                refused(text)
            );
        }
        assert!(matches!(refused("2025-03-02T18:00:00"), TimestampError::NoOffset(_)));
        assert!(matches!(refused("2016-12-31T23:59:60Z"), TimestampError::LeapSecond(_)));
        assert!(matches!(
            refused("9999-12-31T23:59:59-01:00"),
            TimestampError::OutOfRange(_)
        ));
        assert!(matches!(
            refused("0000-01-01T00:00:00+01:00"),
            TimestampError::OutOfRange(_)
        ));
    }
}
