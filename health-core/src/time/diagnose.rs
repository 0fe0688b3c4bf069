//! Why a text is refused as a timestamp.

use super::{TimestampError, parse_rfc_3339, quote, split_offset, with_plain_offset};

/// Returns the reason why a text is refused. The caller has already found that it is not valid.
pub(super) fn diagnose(text: &str) -> TimestampError {
    if text.is_empty() {
        return TimestampError::Empty;
    }
    let reason = match shape(text).as_str() {
        _ if is_number(text) => TimestampError::UnixTime,
        "0000-00-00" => TimestampError::DateOnly,
        shape if is_without_seconds(shape) => TimestampError::NoSeconds,
        shape if shape.starts_with("0000-00-00T00:00:00") => reason_for_offset(text),
        _ => TimestampError::Malformed,
    };
    reason(quote(text))
}

/// Returns the reason why a text is refused that begins with the form of a date and a time.
fn reason_for_offset(text: &str) -> fn(String) -> TimestampError {
    let Some((time, offset)) = split_offset(text) else {
        return TimestampError::Malformed;
    };
    let name = offset.strip_prefix(' ').unwrap_or(offset);
    if parse_rfc_3339(&format!("{time}Z")).is_none() {
        // A fraction without digits has the form of no time at all.
        if time.ends_with('.') {
            TimestampError::Malformed
        } else {
            TimestampError::NoSuchTime
        }
    } else if offset.is_empty() {
        TimestampError::NoOffset
    } else if with_plain_offset(text).is_some() {
        TimestampError::NoSuchTime
    } else if name.starts_with(|first: char| first.is_ascii_alphabetic()) && !name.trim_end().eq_ignore_ascii_case("z")
    {
        TimestampError::ZoneName
    } else {
        TimestampError::Malformed
    }
}

/// Returns whether a text has hours and minutes, and then ends or goes on with an offset.
fn is_without_seconds(shape: &str) -> bool {
    let rest = shape.strip_prefix("0000-00-00T00:00");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['Z', 'z', '+', '-', ' ']))
}

/// Returns the text with each digit as `0`, and with `T` between date and time.
fn shape(text: &str) -> String {
    let digit = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let mut shape: String = text.chars().map(digit).collect();
    if matches!(shape.as_bytes().get(10), Some(b' ' | b't')) {
        shape.replace_range(10..11, "T");
    }
    shape
}

fn is_number(text: &str) -> bool {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    plain && text.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use crate::time::parse_timestamp;

    #[test]
    fn each_refusal_says_what_was_read_and_how_to_write_it() {
        for (texts, remedy) in [
            (&[""][..], "is empty: write"),
            (
                &[
                    "1740938400",
                    "1740938400000",
                    "1740938400.25",
                    "-1",
                    "20250302",
                    "1.7e9",
                ],
                "Unix time is not accepted; write 2025-03-02T18:00:00Z",
            ),
            (&["2025-03-02", "2025-02-29"], "without a time of day: write"),
            (
                &["2025-03-02T18:00Z", "2025-03-02 18:00", "2025-03-02 18:00 +01:00"],
                "has no seconds: write",
            ),
            (
                &["2025-03-02T18:00:00", "2025-03-02 18:00:00", "2025-03-02t18:00:00.5"],
                "has no offset: append Z",
            ),
            (
                &[
                    "2025-03-02 18:00:00 UTC",
                    "2025-03-02T18:00:00GMT",
                    "2025-03-02T18:00:00 Europe/Berlin",
                ],
                "names a time zone: write Z",
            ),
            (
                &[
                    "2025-02-29T00:00:00Z",
                    "2025-02-29 00:00:00",
                    "2025-03-02T24:00:00Z",
                    "2025-03-02T18:60:00Z",
                    "2025-03-02T18:00:61Z",
                    "2025-13-02T18:00:00Z",
                    "2025-03-02T18:00:00+24:00",
                    "2025-03-02T18:00:00+2400",
                    "2025-03-02T18:00:00 +01:60",
                ],
                "does not exist: ",
            ),
            (
                &[
                    "now",
                    "2025-03-02T18:00:00.Z",
                    "2025-03-02T18:00:00+1:00",
                    "2025- 3-02T18:00:00Z",
                    "2025-03-02T18:\t0:00Z",
                    "2025-03-02T18:00:00+1",
                    "2025-03-02T18:00:00+010",
                    "2025-03-02T18:00:00+01:0",
                    "2025-03-02T18:00:00+-1",
                    "2025-03-02T18:00:00 01:00",
                    "2025-03-02T18:00:00  +01:00",
                    "2025-03-02  18:00:00Z",
                    "2025-03-02_18:00:00Z",
                    "2025-03-02T18:00:00\u{2212}01:00",
                    " 2025-03-02T18:00:00Z",
                    "2025-03-02T18:00:00Z ",
                    "2025-03-02T18:00:00+01:00 ",
                    "25-03-02T18:00:00Z",
                    "+2025-03-02T18:00:00Z",
                    "2025-03-02T18:00:00,5Z",
                    "02.03.2025 18:00:00",
                    "03/02/2025 06:00 PM",
                    "Sun, 02 Mar 2025 18:00:00 GMT",
                    "20250302T180000Z",
                    "2025-03-02T1é:00:00Z",
                    "2025-03-0é 18:00:00Z",
                ],
                "is not a time of RFC 3339: write it like 2025-03-02T18:00:00Z",
            ),
        ] {
            for text in texts {
                let message = parse_timestamp(text).expect_err(text).to_string();
                assert!(message.contains(remedy), "{text:?}: {message}");
                assert!(
                    message.contains(&text.escape_debug().to_string()),
                    "{text:?}: {message}"
                );
            }
        }
    }
}
