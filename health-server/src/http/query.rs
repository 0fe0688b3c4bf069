//! The parameters of a query string: each known, each given once, each readable.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use health_core::{TimeRange, UserId, parse_timestamp};
use percent_encoding::percent_decode_str;

/// The parameters of one request, read one by one; every fault is kept, so that one answer names them all.
#[derive(Debug, Default)]
pub(crate) struct Query<'a> {
    given: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    faults: Faults,
}

/// Which parameters are wrong, and why.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults(pub(crate) Vec<(String, String)>);

/// Faults that are kept of one query: a head of some kilobytes could hold thousands, and each takes a sentence to name.
const MOST_FAULTS: usize = 100;

/// Refuses any parameter at all.
pub(crate) fn no_parameters(query: Option<&str>) -> Result<(), Faults> {
    Query::parse(query, &[]).finish(Some(()))
}

impl<'a> Query<'a> {
    /// Takes a query string apart. A `+` stays a plus: times carry it in their offset, and nothing here holds spaces.
    pub(crate) fn parse(query: Option<&'a str>, known: &[&str]) -> Self {
        let mut parsed = Self::default();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = percent_decode_str(name).decode_utf8_lossy();
            if !known.contains(&name.as_ref()) {
                let known = if known.is_empty() {
                    "none is".to_owned()
                } else {
                    known.join(", ")
                };
                parsed.faults.add(&name, format!("is not known here: {known}"));
            } else if parsed.given.iter().any(|(other, _)| *other == name) {
                parsed.faults.add(&name, "is given more than once".to_owned());
            } else {
                match percent_decode_str(value).decode_utf8() {
                    Ok(value) => parsed.given.push((name, value)),
                    Err(_) => parsed.faults.add(&name, "is not UTF-8".to_owned()),
                }
            }
        }
        parsed
    }

    /// A parameter that has to be there.
    pub(crate) fn required<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        if self.find(name).is_none() && !self.faults.name(name) {
            self.faults.add(name, "is required".to_owned());
        }
        self.optional(name, read)
    }

    fn optional<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let read = self.find(name).map(read)?;
        read.map_err(|reason| self.faults.add(name, reason)).ok()
    }

    /// A parameter with a value to take where it is left out.
    pub(crate) fn optional_or<T>(
        &mut self,
        name: &str,
        or: T,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.find(name).is_some() {
            self.optional(name, read)
        } else {
            Some(or)
        }
    }

    /// `user_id`, `start` and `end`.
    pub(crate) fn user_and_range(&mut self) -> Option<(UserId, TimeRange)> {
        let user = self.required("user_id", user_id);
        let (start, end) = (self.required("start", time), self.required("end", time));
        let range = self.range(start?, end?);
        Some((user?, range?))
    }

    /// What was read, unless anything was wrong.
    pub(crate) fn finish<T>(self, read: Option<T>) -> Result<T, Faults> {
        read.filter(|_| self.faults.0.is_empty()).ok_or(self.faults)
    }

    fn range(&mut self, start: DateTime<Utc>, end: DateTime<Utc>) -> Option<TimeRange> {
        TimeRange::new(start, end)
            .map_err(|_| self.faults.add("start", "is not before end".to_owned()))
            .ok()
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.given
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_ref())
    }
}

impl Faults {
    fn add(&mut self, name: &str, reason: String) {
        const LONGEST_CHARS: usize = 64;
        if self.0.len() >= MOST_FAULTS {
            return;
        }
        let name = if name.is_empty() {
            "a parameter without a name"
        } else {
            name
        };
        self.0.push((name.chars().take(LONGEST_CHARS).collect(), reason));
    }

    fn name(&self, name: &str) -> bool {
        self.0.iter().any(|(named, _)| named == name)
    }
}

/// Reads a `user_id`.
pub(crate) fn user_id(text: &str) -> Result<UserId, String> {
    integer(text, 1..=i64::MAX)
        .and_then(|id| UserId::new(id).ok())
        .ok_or_else(|| format!("{} is not an integer between 1 and 9223372036854775807", quote(text)))
}

/// Reads decimal digits into a range.
pub(crate) fn integer(text: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| text.parse().ok())?
        .filter(|number| range.contains(number))
}

/// As much of a value as a message has room for, in quotation marks.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST_CHARS: usize = 64;
    let mut head: String = text.chars().take(LONGEST_CHARS).collect();
    if head.len() < text.len() {
        head.push('…');
    }
    format!("{head:?}")
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    parse_timestamp(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use health_core::format_timestamp;

    fn read(query: &str) -> Result<String, String> {
        let mut parsed = Query::parse(Some(query), &["user_id", "start", "end"]);
        let found = parsed.user_and_range();
        let (user, range) = parsed.finish(found).map_err(|faults| {
            let names: Vec<_> = faults.0.into_iter().map(|(name, _)| name).collect();
            names.join(" ")
        })?;
        Ok(format!(
            "{user} {} {}",
            format_timestamp(range.start()),
            format_timestamp(range.end())
        ))
    }

    #[test]
    fn reads_a_range_and_keeps_a_plus_a_plus() {
        let expected = Ok("101 2025-03-02T17:00:00Z 2025-03-02T18:00:00Z".to_owned());
        for query in [
            "user_id=101&start=2025-03-02T18:00:00+01:00&end=2025-03-02T19:00:00%2B01:00",
            "&end=2025-03-02t18%3a00%3A00z&&start=2025-03-02T17:00:00Z&user_id=%3101&",
            "us%65r_id=101&start=2025-03-02T17:00:00.0000009Z&end=2025-03-02T18:00:00-00:00",
        ] {
            assert_eq!(read(query), expected, "{query}");
        }
    }

    #[test]
    fn names_every_parameter_that_is_wrong() {
        let (from, to) = ("start=2025-03-02T18:00:00Z", "end=2025-03-02T19:00:00Z");
        for (query, named) in [
            (String::new(), "user_id start end"),
            (format!("user_id=1&{from}"), "end"),
            (format!("user_id=1&{from}&{to}&tz=UTC"), "tz"),
            (format!("user_id=1&user_id=1&{from}&{to}"), "user_id"),
            (format!("user_id=1&us%65r_id=2&{from}&{to}"), "user_id"),
            (format!("user_id&{from}&{to}"), "user_id"),
            (format!("user_id=0&{from}&{to}"), "user_id"),
            (format!("user_id=+1&{from}&{to}"), "user_id"),
            (format!("user_id=1.0&{from}&{to}"), "user_id"),
            (format!("user_id=9223372036854775808&{from}&{to}"), "user_id"),
            (format!("user_id=%ff&{from}&{to}"), "user_id"),
            (format!("user_id=%zz&{from}&{to}"), "user_id"),
            (format!("User_id=1&{from}&{to}"), "User_id user_id"),
            (format!("user_id=1&{from}&end=2025-03-02T19:00:00"), "end"),
            (format!("user_id=1&{from}&end=2025-03-02T18:00:00Z"), "start"),
            (format!("user_id=1&start=2025-03-03T00:00:00Z&{to}"), "start"),
            (format!("user_id=1&{from}&end=2025-03-02T19:00:00%2001:00"), "end"),
            (format!("=1&user_id=1&{from}&{to}"), "a parameter without a name"),
        ] {
            assert_eq!(read(&query), Err(named.to_owned()), "{query}");
        }
    }

    #[test]
    fn a_query_of_thousands_of_faults_is_answered_with_some() {
        let named = read(&"a=1&".repeat(7000)).unwrap_err();
        assert_eq!(named.split(' ').count(), MOST_FAULTS);
    }
}
