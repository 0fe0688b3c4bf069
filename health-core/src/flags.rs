//! How a command line writes lengths of time, numbers of bytes and counts, and how it names a variable with a wrong
//! value (feature `clap`).
//!
//! The parsers are value parsers for clap; the formatters write default values that the parsers read back.
//!
//! `humantime` and `bytesize` would refuse or reinterpret values that the flags accept: humantime refuses a number
//! without a unit (`30`), and bytesize reads `64k` as 64 000 bytes.

mod variables;

use std::{borrow::Cow, num::IntErrorKind, ops::RangeInclusive, str::FromStr, time::Duration};

use chrono::TimeDelta;

pub use self::variables::{name_variable, parse_command_line, refusal_reason, without_variable};

/// The reason why the value of a flag cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(Cow<'static, str>);

const NOT_A_DURATION: InvalidValue =
    InvalidValue(Cow::Borrowed("write a length of time like 250ms, 30s, 5m, 24h or 1d"));
const NOT_A_PERIOD: InvalidValue = InvalidValue(Cow::Borrowed(
    "write a length of time like 36h, 90d, 26w or 2y (a year is 365 days)",
));
const NOT_A_BYTE_SIZE: InvalidValue = InvalidValue(Cow::Borrowed(
    "write a number of bytes, at least 1, like 65536, 64KiB or 16MiB",
));
const NOT_A_COUNT: InvalidValue = InvalidValue(Cow::Borrowed("write a whole number, at least 1"));
const TOO_LARGE: InvalidValue = InvalidValue(Cow::Borrowed("the number is too large"));

/// The longest accepted length of time: a hundred years. Deadlines computed from it cannot overflow.
const SECONDS_MAX: u64 = 100 * 366 * 24 * 60 * 60;

/// Reads a length of time: `250ms`, `30s`, `5m`, `24h` or `1d`. A number without a unit is in seconds.
///
/// ```
/// # use std::time::Duration;
/// assert_eq!(health_core::flags::parse_duration("5m"), Ok(Duration::from_secs(300)));
/// ```
///
/// # Errors
/// [`InvalidValue`] if the text has another form or is longer than a hundred years.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidValue> {
    let (number, unit) = split_unit(text, &NOT_A_DURATION)?;
    let seconds_per_unit = match unit {
        "ms" => {
            let duration = Duration::from_millis(number);
            return if duration.as_secs() <= SECONDS_MAX {
                Ok(duration)
            } else {
                Err(TOO_LARGE)
            };
        }
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(NOT_A_DURATION),
    };
    let seconds = number
        .checked_mul(seconds_per_unit)
        .filter(|seconds| *seconds <= SECONDS_MAX);
    seconds.map(Duration::from_secs).ok_or(TOO_LARGE)
}

/// Reads a length of time like [`parse_duration`], also in weeks and years: `26w`, `2y`. A year is 365 days.
///
/// ```
/// # use std::time::Duration;
/// assert_eq!(health_core::flags::parse_period("2y"), Ok(Duration::from_hours(2 * 365 * 24)));
/// ```
///
/// # Errors
/// [`InvalidValue`] if the text has another form or is longer than a hundred years.
pub fn parse_period(text: &str) -> Result<Duration, InvalidValue> {
    let (number, unit) = split_unit(text, &NOT_A_PERIOD)?;
    let days = match unit {
        "w" => number.checked_mul(7),
        "y" => number.checked_mul(365),
        _ => return parse_duration(text).map_err(|error| if error == TOO_LARGE { error } else { NOT_A_PERIOD }),
    };
    parse_duration(&format!("{}d", days.ok_or(TOO_LARGE)?))
}

/// Reads a length of time like [`parse_duration`], for comparisons with timestamps.
///
/// # Errors
/// [`InvalidValue`], like [`parse_duration`].
pub fn parse_time_delta(text: &str) -> Result<TimeDelta, InvalidValue> {
    TimeDelta::from_std(parse_duration(text)?).map_err(|_| TOO_LARGE)
}

/// Reads a number of bytes: `65536`, `64k`, `64KiB`, `16MiB` or `1GiB`. Every unit is a power of 1024.
///
/// ```
/// assert_eq!(health_core::flags::parse_byte_size("64k"), Ok(65_536));
/// ```
///
/// # Errors
/// [`InvalidValue`] if the text has another form, or the number is 0 or too large.
pub fn parse_byte_size(text: &str) -> Result<usize, InvalidValue> {
    let (number, unit) = split_unit(text, &NOT_A_BYTE_SIZE)?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err(NOT_A_BYTE_SIZE),
    };
    let bytes = number
        .checked_mul(1 << shift)
        .and_then(|bytes| usize::try_from(bytes).ok());
    bytes.filter(|bytes| *bytes > 0).ok_or(NOT_A_BYTE_SIZE)
}

/// Reads a number of things of which there must be at least one.
///
/// # Errors
/// [`InvalidValue`] if the text is not a whole number, or the number is 0 or too large.
pub fn parse_count<N: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<N, InvalidValue> {
    let number = text.parse().ok().filter(|number| *number >= N::from(1));
    number.ok_or(NOT_A_COUNT)
}

/// Returns a parser that accepts only values of a range, and names the range if it refuses one.
///
/// ```
/// use health_core::flags::{parse_count, within};
///
/// let parse = within(parse_count, 1..=32, |number: usize| number.to_string());
/// assert_eq!(parse("2"), Ok(2));
/// assert_eq!(parse("33").unwrap_err().to_string(), "write a value from 1 to 32");
/// ```
pub fn within<T: PartialOrd + Copy>(
    parse: fn(&str) -> Result<T, InvalidValue>,
    range: RangeInclusive<T>,
    format: fn(T) -> String,
) -> impl Fn(&str) -> Result<T, InvalidValue> + Clone {
    move |text| {
        let outside = || {
            let (min, max) = (format(*range.start()), format(*range.end()));
            InvalidValue(format!("write a value from {min} to {max}").into())
        };
        match parse(text) {
            Ok(value) if range.contains(&value) => Ok(value),
            Ok(_) => Err(outside()),
            Err(error) if error == TOO_LARGE || text.bytes().all(|byte| byte.is_ascii_digit()) => Err(outside()),
            Err(error) => Err(error),
        }
    }
}

/// Writes a length of time in the largest unit that leaves a whole number.
///
/// ```
/// # use std::time::Duration;
/// assert_eq!(health_core::flags::format_duration(Duration::from_secs(300)), "5m");
/// ```
pub fn format_duration(duration: Duration) -> String {
    if duration.subsec_millis() > 0 {
        return format!("{}ms", duration.as_millis());
    }
    match duration.as_secs() {
        seconds if seconds > 0 && seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds > 0 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// Writes a length of time like [`format_duration`], whole days in days.
///
/// ```
/// # use std::time::Duration;
/// assert_eq!(health_core::flags::format_period(Duration::from_hours(48)), "2d");
/// ```
pub fn format_period(period: Duration) -> String {
    const DAY_SECONDS: u64 = 24 * 60 * 60;
    match period.as_secs() {
        seconds if seconds > 0 && seconds % DAY_SECONDS == 0 && period.subsec_millis() == 0 => {
            format!("{}d", seconds / DAY_SECONDS)
        }
        _ => format_duration(period),
    }
}

/// Writes a length of time like [`format_duration`]; a negative one as `0s`.
pub fn format_time_delta(delta: TimeDelta) -> String {
    format_duration(delta.to_std().unwrap_or_default())
}

/// Writes a number of bytes in the largest of MiB, KiB and bytes that leaves a whole number.
///
/// ```
/// assert_eq!(health_core::flags::format_byte_size(64 << 20), "64MiB");
/// ```
pub fn format_byte_size(bytes: usize) -> String {
    match bytes {
        bytes if bytes % (1 << 20) == 0 => format!("{}MiB", bytes >> 20),
        bytes if bytes % (1 << 10) == 0 => format!("{}KiB", bytes >> 10),
        bytes => bytes.to_string(),
    }
}

/// Splits a number from the unit that follows it.
fn split_unit<'a>(text: &'a str, malformed: &InvalidValue) -> Result<(u64, &'a str), InvalidValue> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    match text[..end].parse() {
        Ok(number) => Ok((number, &text[end..])),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Err(TOO_LARGE),
        Err(_) => Err(malformed.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_sizes_are_parsed_and_their_text_parses_to_the_same_size() {
        for (text, bytes) in [
            ("1", 1),
            ("64KiB", 65_536),
            ("64k", 65_536),
            ("16MiB", 16 << 20),
            ("1000000", 1_000_000),
        ] {
            assert_eq!(parse_byte_size(text), Ok(bytes), "{text}");
            assert_eq!(parse_byte_size(&format_byte_size(bytes)), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn durations_are_parsed_and_their_text_parses_to_the_same_duration() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("30", 30_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
            ("1d", 86_400_000),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(text), Ok(duration), "{text}");
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration), "{text}");
        }
    }

    #[test]
    fn periods_have_weeks_and_years_too() {
        const DAY: Duration = Duration::from_hours(24);
        for (text, period) in [
            ("36h", DAY * 3 / 2),
            ("90d", DAY * 90),
            ("26w", DAY * 182),
            ("2y", DAY * 730),
            ("250ms", Duration::from_millis(250)),
        ] {
            assert_eq!(parse_period(text), Ok(period), "{text}");
            assert_eq!(parse_period(&format_period(period)), Ok(period), "{text}");
        }
        for text in [
            "",
            "y",
            "1.5y",
            "2 y",
            "-1y",
            "2Y",
            "101y",
            "18446744073709551615y",
            "2years",
        ] {
            assert!(parse_period(text).is_err(), "{text}");
        }
    }

    #[test]
    fn malformed_and_too_large_values_are_refused() {
        for text in [
            "",
            "0",
            "-1",
            "1.5m",
            "MiB",
            "99999999999999999999",
            "18446744073709551615k",
            "1TiB",
        ] {
            assert!(parse_byte_size(text).is_err(), "{text}");
        }
        for text in [
            "",
            "-1",
            "1w",
            "s",
            "99999999999999999999s",
            "18446744073709551615d",
            "18446744073709551615ms",
            "3162240001s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["", "0", "-1", "1.5", "many"] {
            assert!(parse_count::<u32>(text).is_err(), "{text}");
        }
    }
}
