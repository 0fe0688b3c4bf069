//! Query parameters: reads each one, and reports every unknown, repeated, missing or unreadable one.

use std::{borrow::Cow, ops::RangeInclusive};

use chrono::{DateTime, Utc};
use health_core::{Rejection, TimeRange, UserId, parse_timestamp};
use hyper::StatusCode;
use percent_encoding::percent_decode_str;

use crate::{
    http::error::HttpError,
    quote::{quote, truncate},
};

/// The query parameters of one request. It collects errors, so that one response can name all of them.
#[derive(Debug, Default)]
pub(crate) struct Query<'a> {
    parameters: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    errors: QueryErrors,
}

/// The parameters that are wrong, and why.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct QueryErrors(Vec<QueryError>);

/// One wrong parameter. The reason continues a sentence that begins with the name.
#[derive(Debug, PartialEq, Eq)]
struct QueryError {
    parameter: String,
    reason: String,
}

/// Errors that a response lists. A query string of 32 KiB could contain thousands.
const MAX_ERRORS: usize = 100;

/// Errors that the detail of a problem repeats, to keep it readable.
const MAX_ERRORS_IN_DETAIL: usize = 10;

/// Checks that a request has no parameters.
pub(crate) fn no_parameters(query: Option<&str>) -> Result<(), QueryErrors> {
    Query::parse(query, &[]).finish(Some(()))
}

impl<'a> Query<'a> {
    /// Parses a query string, in which only the `known` parameters may occur.
    ///
    /// A `+` stays a `+`, because times have it in their offset; [`time`] turns some into spaces. That is why this is
    /// not `form_urlencoded`, which also replaces invalid UTF-8 in silence.
    pub(crate) fn parse(query: Option<&'a str>, known: &[&str]) -> Self {
        Self::parse_with(query, known, true)
    }

    /// Parses a query string of which only the `known` parameters are read.
    pub(crate) fn parse_known(query: Option<&'a str>, known: &[&str]) -> Self {
        Self::parse_with(query, known, false)
    }

    fn parse_with(query: Option<&'a str>, known: &[&str], refuse_others: bool) -> Self {
        let mut parsed = Self::default();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = percent_decode_str(name).decode_utf8_lossy();
            if !known.contains(&name.as_ref()) {
                if !refuse_others {
                    continue;
                }
                let remedy = match known {
                    [] => "this endpoint has no parameters".to_owned(),
                    known => format!("this endpoint has {}", known.join(", ")),
                };
                parsed.errors.add(&name, format!("is not a known parameter: {remedy}"));
            } else if parsed.find(&name).is_some() {
                parsed.errors.add(&name, "is given more than once".to_owned());
            } else {
                match percent_decode_str(value).decode_utf8() {
                    Ok(value) => parsed.parameters.push((name, value)),
                    Err(_) => parsed.errors.add(&name, "is not valid UTF-8".to_owned()),
                }
            }
        }
        parsed
    }

    /// Reads a required parameter. Returns `None` and keeps the error if it is missing or unreadable.
    pub(crate) fn required<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        if self.find(name).is_none() && !self.errors.contains(name) {
            self.errors.add(name, "is required".to_owned());
        }
        self.optional(name, read)
    }

    /// Reads an optional parameter, or returns the default if the request does not have it.
    pub(crate) fn optional_or<T>(
        &mut self,
        name: &str,
        default: T,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.find(name).is_some() {
            self.optional(name, read)
        } else {
            Some(default)
        }
    }

    /// Reads `user_id`, `start` and `end`, which are required.
    pub(crate) fn user_and_range(&mut self) -> Option<(UserId, TimeRange)> {
        let user = self.required("user_id", user_id);
        let (start, end) = (self.required("start", time), self.required("end", time));
        let range = self.range(start?, end?);
        Some((user?, range?))
    }

    /// Returns the values that were read, or every error if there is any.
    pub(crate) fn finish<T>(self, values: Option<T>) -> Result<T, QueryErrors> {
        values.filter(|_| self.errors.0.is_empty()).ok_or(self.errors)
    }

    fn optional<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let value = self.find(name).map(read)?;
        value.map_err(|reason| self.errors.add(name, reason)).ok()
    }

    fn range(&mut self, start: DateTime<Utc>, end: DateTime<Utc>) -> Option<TimeRange> {
        TimeRange::new(start, end)
            .map_err(|_| self.errors.add("start", "is not earlier than end".to_owned()))
            .ok()
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_ref())
    }
}

impl QueryErrors {
    fn add(&mut self, name: &str, reason: String) {
        if self.0.len() >= MAX_ERRORS {
            return;
        }
        let parameter = match name {
            "" => "a parameter without a name".to_owned(),
            name => truncate(name).to_owned(),
        };
        self.0.push(QueryError { parameter, reason });
    }

    fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|error| error.parameter == name)
    }
}

impl std::fmt::Display for QueryErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phrases: Vec<_> = self
            .0
            .iter()
            .take(MAX_ERRORS_IN_DETAIL)
            .map(|QueryError { parameter, reason }| format!("{parameter} {reason}"))
            .collect();
        let more = match self.0.len().saturating_sub(MAX_ERRORS_IN_DETAIL) {
            0 => "",
            _ => "; and more",
        };
        write!(f, "{}{more}", phrases.join("; "))
    }
}

impl From<QueryErrors> for HttpError {
    fn from(errors: QueryErrors) -> Self {
        let error = Self::new(StatusCode::BAD_REQUEST, format!("{errors}."));
        let QueryErrors(errors) = errors;
        if errors.len() < 2 {
            return error;
        }
        let listed = errors.into_iter().map(|QueryError { parameter, reason }| Rejection {
            index: 0,
            field: Some(parameter),
            reason,
        });
        error.with_errors(listed.collect())
    }
}

/// Reads a `user_id`.
pub(crate) fn user_id(text: &str) -> Result<UserId, String> {
    integer(text, 1..=i64::MAX)
        .and_then(|id| UserId::new(id).ok())
        .ok_or_else(|| format!("{} is not an integer between 1 and 9223372036854775807", quote(text)))
}

/// Reads an integer without a sign. Returns `None` if it is not in the range.
pub(crate) fn integer(text: &str, range: RangeInclusive<i64>) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| text.parse().ok())?
        .filter(|number| range.contains(number))
}

/// Reads a time. In a query string `+` also stands for a space, so its place decides what it is.
fn time(text: &str) -> Result<DateTime<Utc>, String> {
    parse_timestamp(&with_spaces(text)).map_err(|error| error.to_string())
}

/// Returns the text with a space for a `+` between date and time, and for a `+` before the offset's sign or `Z`.
fn with_spaces(text: &str) -> Cow<'_, str> {
    if !text.contains('+') {
        return Cow::Borrowed(text);
    }
    let mut spaced = text.to_owned();
    if text.as_bytes().get(10) == Some(&b'+') {
        spaced.replace_range(10..11, " ");
    }
    for offset in ["++", "+-", "+Z", "+z"] {
        spaced = spaced.replacen(offset, &offset.replacen('+', " ", 1), 1);
    }
    Cow::Owned(spaced)
}

#[cfg(test)]
mod tests {
    use health_core::format_timestamp;

    use super::*;

    fn read(query: &str) -> Result<String, String> {
        let mut parsed = Query::parse(Some(query), &["user_id", "start", "end"]);
        let values = parsed.user_and_range();
        let (user, range) = parsed.finish(values).map_err(|errors| {
            let names: Vec<_> = errors.0.into_iter().map(|error| error.parameter).collect();
            names.join(" ")
        })?;
        Ok(format!(
            "{user} {} {}",
            format_timestamp(range.start()),
            format_timestamp(range.end())
        ))
    }

    #[test]
    fn a_plus_in_an_offset_stays_a_plus() {
        let expected = Ok("101 2025-03-02T17:00:00Z 2025-03-02T18:00:00Z".to_owned());
        for query in [
            "user_id=101&start=2025-03-02T18:00:00+01:00&end=2025-03-02T19:00:00%2B01:00",
            "&end=2025-03-02t18%3a00%3A00z&&start=2025-03-02T17:00:00Z&user_id=%3101&",
            "us%65r_id=101&start=2025-03-02T17:00:00.0000009Z&end=2025-03-02T18:00:00-00:00",
            "user_id=101&start=2025-03-02+18:00:00+01:00&end=2025-03-02%2019:00:00%20%2B01:00",
            "user_id=101&start=2025-03-02+18:00:00++0100&end=2025-03-02+19:00:00+%2B01",
            "user_id=101&start=2025-03-02+18:00:00+01&end=2025-03-02+17:00:00+-01:00",
            "user_id=101&start=2025-03-02+17:00:00Z&end=2025-03-02%2018:00:00+Z",
            "user_id=101&start=2025-03-02T18:00:00.000+0100&end=2025-03-02T18:00:00-0000",
        ] {
            assert_eq!(read(query), expected, "{query}");
        }
    }

    #[test]
    fn names_every_parameter_that_is_wrong() {
        let (start, end) = ("start=2025-03-02T18:00:00Z", "end=2025-03-02T19:00:00Z");
        for (query, names) in [
            (String::new(), "user_id start end"),
            (format!("user_id=1&{start}"), "end"),
            (format!("user_id=1&{start}&{end}&tz=UTC"), "tz"),
            (format!("user_id=1&user_id=1&{start}&{end}"), "user_id"),
            (format!("user_id=1&us%65r_id=2&{start}&{end}"), "user_id"),
            (format!("user_id&{start}&{end}"), "user_id"),
            (format!("user_id=0&{start}&{end}"), "user_id"),
            (format!("user_id=+1&{start}&{end}"), "user_id"),
            (format!("user_id=1.0&{start}&{end}"), "user_id"),
            (format!("user_id=9223372036854775808&{start}&{end}"), "user_id"),
            (format!("user_id=%ff&{start}&{end}"), "user_id"),
            (format!("user_id=%zz&{start}&{end}"), "user_id"),
            (format!("User_id=1&{start}&{end}"), "User_id user_id"),
            (format!("user_id=1&{start}&end=2025-03-02T19:00:00"), "end"),
            (format!("user_id=1&{start}&end=2025-03-02T18:00:00Z"), "start"),
            (format!("user_id=1&start=2025-03-03T00:00:00Z&{end}"), "start"),
            (format!("user_id=1&{start}&end=2025-03-02T19:00:00%2001:00"), "end"),
            (format!("user_id=1&{start}&end=2025-03-02++19:00:00Z"), "end"),
            (format!("user_id=1&{start}&end=1740942000"), "end"),
            (format!("=1&user_id=1&{start}&{end}"), "a parameter without a name"),
        ] {
            assert_eq!(read(&query), Err(names.to_owned()), "{query}");
        }
    }

    #[test]
    fn a_query_with_thousands_of_errors_lists_a_hundred() {
        let names = read(&"a=1&".repeat(7000)).unwrap_err();
        assert_eq!(names.split(' ').count(), MAX_ERRORS);
    }
}
