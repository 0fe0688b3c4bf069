//! The times that Health Auto Export writes.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use crate::time::{TimestampError, parse_timestamp};

/// Reads `2026-02-06 14:30:00 -0800`, or `2026-02-06 2:30:00 PM -0800` as phones with a 12-hour clock write it.
pub(crate) fn parse_time(text: &str) -> Result<DateTime<Utc>, TimestampError> {
    let plain = with_24_hours(text).map_or(Cow::Borrowed(text), Cow::Owned);
    parse_timestamp(&plain)
}

/// Returns the text of a 12-hour clock in the form of a 24-hour clock.
fn with_24_hours(text: &str) -> Option<String> {
    // U+202F, a narrow no-break space, stands before AM and PM since iOS 16.
    let mut words = text.split([' ', '\u{202f}', '\u{a0}']);
    let (date, time, half, offset) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let is_afternoon = if half.eq_ignore_ascii_case("pm") {
        true
    } else if half.eq_ignore_ascii_case("am") {
        false
    } else {
        return None;
    };
    let (hour, rest) = time.split_once(':').filter(|_| words.next().is_none())?;
    let hour: u8 = hour.parse().ok().filter(|hour| (1..=12).contains(hour))?;
    let hour = hour % 12 + if is_afternoon { 12 } else { 0 };
    Some(format!("{date} {hour:02}:{rest} {offset}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::format_timestamp;

    #[test]
    fn times_of_both_clocks_are_read() {
        for (text, expected) in [
            ("2026-02-06 14:30:00 -0800", "2026-02-06T22:30:00Z"),
            ("2026-02-06 2:30:00 PM -0800", "2026-02-06T22:30:00Z"),
            ("2026-02-06 2:30:00\u{202f}PM -0800", "2026-02-06T22:30:00Z"),
            ("2026-02-06 02:30:00\u{202f}pm -0800", "2026-02-06T22:30:00Z"),
            ("2026-02-06 2:30:00 am +0100", "2026-02-06T01:30:00Z"),
            ("2026-02-06 12:00:00 AM +0000", "2026-02-06T00:00:00Z"),
            ("2026-02-06 12:00:00 PM +0000", "2026-02-06T12:00:00Z"),
            ("2026-02-06 11:59:59 PM +0000", "2026-02-06T23:59:59Z"),
        ] {
            assert_eq!(
                parse_time(text).map(format_timestamp).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
        for text in [
            "2026-02-06",
            "2026-02-06 14:30:00",
            "2026-02-06 2:30:00 PM",
            "2026-02-06 13:30:00 PM -0800",
            "2026-02-06 0:30:00 AM -0800",
            "2026-02-06 2:30:00 PM -0800 x",
            "2026-02-06 2:30:00 XM -0800",
            "",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
