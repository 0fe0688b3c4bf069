//! The faults of records of our own form, by kind.

use super::entry::Fault;
use crate::record::RecordFault;

impl From<RecordFault> for Fault {
    /// Returns the fault with its kind, which has no value of the record.
    fn from(fault: RecordFault) -> Self {
        let kind = without_value(&fault.reason);
        match fault.field {
            Some(field) => Self::with_kind(format!("{field} {}", fault.reason), format!("{field} {kind}")),
            None => Self::with_kind(fault.reason, kind),
        }
    }
}

/// Removes the value at the start of a reason, and the remedy at its end.
fn without_value(reason: &str) -> String {
    let rest = match reason.as_bytes().first() {
        Some(b'"') => after_quotes(reason),
        Some(b'-' | b'0'..=b'9') => reason.split_once(' ').map(|(_, rest)| rest),
        _ => None,
    };
    let rest = rest.unwrap_or(reason);
    let end = rest.find([':', ';']).unwrap_or(rest.len());
    let kind = rest[..end].trim();
    let bounds = kind.strip_prefix("is not between ").and_then(|bounds| {
        let (min, max) = bounds.split_once(" and ")?;
        Some((min, max.split(' ').next()?))
    });
    match bounds {
        Some((min, max)) => format!("is outside {min} to {max}"),
        None => kind.to_owned(),
    }
}

/// Returns what follows a quoted text with escapes.
fn after_quotes(text: &str) -> Option<&str> {
    let mut is_escaped = false;
    let end = text.char_indices().skip(1).find(|(_, character)| {
        let is_end = *character == '"' && !is_escaped;
        is_escaped = *character == '\\' && !is_escaped;
        is_end
    });
    Some(&text[end?.0 + 1..])
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::{
        record::{ReceiveClock, read_record},
        time::parse_timestamp,
    };

    #[test]
    fn a_kind_has_no_value_of_the_record() {
        let clock = ReceiveClock {
            received_at: parse_timestamp("2025-03-02T18:00:00Z").unwrap(),
            max_future: TimeDelta::minutes(5),
        };
        for (json, expected) in [
            ("not json", "the record is not JSON"),
            ("[]", "the record is an array, not an object"),
            (r#"{"user_id":1,"heart_rate":300}"#, "heart_rate is outside 20 to 250"),
            (
                r#"{"user_id":1,"heart_rate":0}"#,
                "heart_rate means that the device was not worn",
            ),
            (r#"{"user_id":1,"heart_rate":-300}"#, "heart_rate is outside 20 to 250"),
            (
                r#"{"user_id":0,"steps":1}"#,
                "user_id is outside 1 to 9223372036854775807",
            ),
            (r#"{"user_id":1,"steps":1.5}"#, "steps is not an integer"),
            (r#"{"user_id":1,"steps":"1"}"#, "steps is a string"),
            (
                r#"{"user_id":1,"stpes":1,"steps":1}"#,
                "stpes is not a field of a record",
            ),
            (
                r#"{"user_id":1,"steps":1,"timestamp":"a\"b c"}"#,
                "timestamp is not a time of RFC 3339",
            ),
            (r#"{"user_id":1,"steps":1,"timestamp":5}"#, "timestamp is a number"),
            (
                r#"{"user_id":1,"steps":1,"timestamp":"2026-01-01T00:00:00Z"}"#,
                "timestamp is more than 300 s ahead of the server's clock",
            ),
            (
                r#"{"user_id":1,"steps":1,"timestamp":"1999-01-01T00:00:00Z"}"#,
                "timestamp is before 2000-01-01T00",
            ),
        ] {
            let fault = read_record(json.as_bytes(), &clock).unwrap_err().remove(0);
            assert_eq!(Fault::from(fault).kind, expected, "{json}");
        }
    }
}
