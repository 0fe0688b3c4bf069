//! Parsing of one record (the JSON form of a sample) into a [`Record`], or into the list of all its faults.
//!
//! There are two parsers with the same rules. The fast one reads a valid record in one pass and borrows its strings. If
//! it refuses the record, the thorough one reads it again, field by field, and names every fault.

use std::{borrow::Cow, str::from_utf8};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    interval::{Interval, check_end},
    sample::{Calories, HeartRate, InvalidSample, Readings, Sample, Source, Steps, UserId, check_not_ahead},
    time::{TimestampError, parse_timestamp},
};

/// The receive time of records and the limit for timestamps in the future.
#[derive(Debug, Clone, Copy)]
pub struct ReceiveClock {
    /// When the records arrived. A record without a timestamp gets this one.
    pub received_at: DateTime<Utc>,
    /// How far ahead of `received_at` a timestamp may be.
    pub max_future: TimeDelta,
}

/// What a valid record describes.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// One sample: the record has no `end`.
    Sample(Sample),
    /// A span of time, which is stored as its [parts](Interval::parts).
    Interval(Interval),
}

impl Record {
    /// Returns the user who was measured.
    pub fn user_id(&self) -> UserId {
        match self {
            Self::Sample(sample) => sample.user_id(),
            Self::Interval(interval) => interval.whole().user_id(),
        }
    }

    /// Returns the samples to store, in the order of their timestamps.
    pub fn into_samples(self) -> Vec<Sample> {
        match self {
            Self::Sample(sample) => vec![sample],
            Self::Interval(interval) => interval.parts().collect(),
        }
    }
}

/// The names of all fields of a record.
pub const RECORD_FIELDS: [&str; 7] = [
    "user_id",
    "timestamp",
    "end",
    "heart_rate",
    "steps",
    "calories",
    "source",
];

/// A reason why a record is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFault {
    /// The name of the faulty field; `None` if the record as a whole cannot be read.
    pub field: Option<String>,
    /// What is wrong with it: the rest of a sentence that begins with the name of the field.
    pub reason: String,
}

/// The reason why a record without a user is refused.
pub(crate) const REQUIRED: &str = "is required";

/// Parses one record.
///
/// The record is a JSON object with the fields `user_id` (required), `timestamp`, `end`, `heart_rate`, `steps`, `calories`
/// and `source`. A field that is `null` counts as absent. Unknown and repeated fields are faults. A record with `end`
/// covers the time from its timestamp to that end, see [`Interval`].
///
/// # Errors
/// All faults of the record: at least one, at most 100.
///
/// ```
/// use chrono::{TimeDelta, Utc};
/// use health_core::{ReceiveClock, Record, read_record};
///
/// let clock = ReceiveClock { received_at: Utc::now(), max_future: TimeDelta::minutes(5) };
/// let record = read_record(br#"{"user_id":101,"heart_rate":72}"#, &clock).unwrap();
/// let Record::Sample(sample) = record else { panic!("a record without end is one sample") };
/// assert_eq!(sample.timestamp().timestamp_micros(), clock.received_at.timestamp_micros());
///
/// let faults = read_record(br#"{"user_id":101,"heart_rate":255,"stpes":3}"#, &clock).unwrap_err();
/// assert_eq!(faults.len(), 2);
/// ```
pub fn read_record(json: &[u8], clock: &ReceiveClock) -> Result<Record, Vec<RecordFault>> {
    // One look at all bytes takes less time than one at each string.
    let fields = from_utf8(json).ok().map(serde_json::from_str::<RecordFields<'_>>);
    match fields {
        Some(Ok(fields)) => fields
            .into_record(clock)
            .or_else(|_| read_field_by_field(json, clock, None)),
        _ => read_field_by_field(json, clock, None),
    }
}

/// Parses one record, of which `user_id` may be absent: then it is the record of `user`.
///
/// # Errors
/// As for [`read_record`].
pub fn read_record_of(json: &[u8], clock: &ReceiveClock, user: Option<UserId>) -> Result<Record, Vec<RecordFault>> {
    read_field_by_field(json, clock, user)
}

/// A record before validation. A string is borrowed unless it contains an escape.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordFields<'a> {
    user_id: i64,
    #[serde(borrow)]
    timestamp: Option<BorrowedText<'a>>,
    #[serde(borrow)]
    end: Option<BorrowedText<'a>>,
    heart_rate: Option<f64>,
    steps: Option<i64>,
    calories: Option<f64>,
    #[serde(borrow)]
    source: Option<BorrowedText<'a>>,
}

/// A string that serde borrows if possible. Without this wrapper, serde copies a `Cow` that is inside an `Option`.
#[derive(Deserialize)]
#[serde(transparent)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

impl RecordFields<'_> {
    fn into_record(self, clock: &ReceiveClock) -> Result<Record, InvalidSample> {
        let has_timestamp = self.timestamp.is_some();
        let timestamp = match self.timestamp {
            Some(BorrowedText(text)) => parse_timestamp(&text)?,
            None => clock.received_at,
        };
        let source = self
            .source
            .map_or(Ok(Source::default()), |BorrowedText(name)| Source::new(name))?;
        let readings = Readings {
            heart_rate: self.heart_rate.map(HeartRate::new).transpose()?,
            steps: self.steps.map(Steps::new).transpose()?,
            calories: self.calories.map(Calories::new).transpose()?,
        };
        let sample = Sample::new(UserId::new(self.user_id)?, timestamp, source, readings)?;
        sample.check_not_in_future(clock.received_at, clock.max_future)?;
        match self.end {
            None => Ok(Record::Sample(sample)),
            Some(_) if !has_timestamp => Err(InvalidSample::EndWithoutTimestamp),
            Some(BorrowedText(end)) => read_interval(sample, &end, clock),
        }
    }
}

#[cold] // Sensors send samples. Phones send intervals, and fewer of them.
fn read_interval(whole: Sample, end: &str, clock: &ReceiveClock) -> Result<Record, InvalidSample> {
    let interval = Interval::new(whole, parse_timestamp(end)?)?;
    interval.check_not_in_future(clock.received_at, clock.max_future)?;
    Ok(Record::Interval(interval))
}

/// Passes the members of an object to a [`RecordBuilder`] one by one.
///
/// It keeps no list of the members, because an object may have a million of them. Repeated members are passed as well.
struct FieldVisitor<'a>(&'a mut RecordBuilder);

impl<'de> DeserializeSeed<'de> for FieldVisitor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<BorrowedText<'de>, &RawValue>()? {
            self.0.add(&name.0, value);
        }
        Ok(())
    }
}

fn read_field_by_field(
    json: &[u8],
    clock: &ReceiveClock,
    default_user: Option<UserId>,
) -> Result<Record, Vec<RecordFault>> {
    let record_fault = |reason: String| vec![RecordFault { field: None, reason }];
    let text = from_utf8(json).map_err(|error| {
        record_fault(format!(
            "the record is not JSON: not UTF-8 from byte {}",
            error.valid_up_to()
        ))
    })?;
    let value: &RawValue =
        serde_json::from_str(text).map_err(|error| record_fault(format!("the record is not JSON: {error}")))?;
    if !value.get().starts_with('{') {
        return Err(record_fault(format!("the record is {}, not an object", kind_of(value))));
    }
    let mut builder = RecordBuilder::default();
    FieldVisitor(&mut builder)
        .deserialize(&mut serde_json::Deserializer::from_str(value.get()))
        .map_err(|error| record_fault(format!("the record has a field name that cannot be read: {error}")))?;
    builder.into_record(clock, default_user)
}

/// The maximum number of faults that are reported for one record. It bounds the size of the response.
const FAULTS_MAX: usize = 100;

/// The fields of one record that were read so far, and their faults.
#[derive(Default)]
struct RecordBuilder {
    /// For each of [`RECORD_FIELDS`], whether it was present already.
    seen: [bool; RECORD_FIELDS.len()],
    user_id: Option<UserId>,
    timestamp: Option<DateTime<Utc>>,
    end: Option<DateTime<Utc>>,
    source: Option<Source>,
    readings: Readings,
    faults: Vec<RecordFault>,
}

impl RecordBuilder {
    fn add(&mut self, name: &str, value: &RawValue) {
        if let Some(index) = RECORD_FIELDS.iter().position(|known| *known == name)
            && std::mem::replace(&mut self.seen[index], true)
        {
            self.add_fault(name, "is given more than once");
            return;
        }
        let read = match name {
            "user_id" => read_into(&mut self.user_id, value, |value| {
                Ok(UserId::new(integer(value, "a user id")?)?)
            }),
            "timestamp" => read_into(&mut self.timestamp, value, timestamp),
            "end" => read_into(&mut self.end, value, timestamp),
            "source" => read_into(&mut self.source, value, |value| Ok(Source::new(string(value)?)?)),
            "heart_rate" => read_into(&mut self.readings.heart_rate, value, |value| {
                Ok(HeartRate::new(number(value)?)?)
            }),
            "steps" => read_into(&mut self.readings.steps, value, |value| {
                Ok(Steps::new(integer(value, "steps")?)?)
            }),
            "calories" => read_into(&mut self.readings.calories, value, |value| {
                Ok(Calories::new(number(value)?)?)
            }),
            _ => Err(FieldError(
                "is not a field of a record; the fields are user_id, timestamp, end, heart_rate, steps, calories and source"
                    .to_owned(),
            )),
        };
        if let Err(FieldError(reason)) = read {
            self.add_fault(name, reason);
        }
    }

    fn into_record(mut self, clock: &ReceiveClock, default_user: Option<UserId>) -> Result<Record, Vec<RecordFault>> {
        if !self.is_faulty("user_id") {
            self.user_id = self.user_id.or(default_user);
            if self.user_id.is_none() {
                self.add_fault("user_id", REQUIRED);
            }
        }
        let reading_names = ["heart_rate", "steps", "calories"];
        if self.readings.is_empty() && !reading_names.iter().any(|field| self.is_faulty(field)) {
            self.add_fault("heart_rate", InvalidSample::Empty.to_string());
        }
        let timestamp = self.timestamp.unwrap_or(clock.received_at);
        if timestamp < Sample::EARLIEST {
            self.add_fault("timestamp", InvalidSample::TooEarly(timestamp).to_string());
        } else if let Err(fault) = check_not_ahead(timestamp, clock.received_at, clock.max_future) {
            self.add_fault("timestamp", fault.to_string());
        }
        if let Some(Err(fault)) = self.end.map(|end| self.check_end(end, clock)) {
            self.add_fault("end", fault.to_string());
        }
        match self.user_id {
            Some(user_id) if self.faults.is_empty() => {
                let sample = Sample::new(user_id, timestamp, self.source.unwrap_or_default(), self.readings);
                let record = sample.and_then(|whole| match self.end {
                    Some(end) => Interval::new(whole, end).map(Record::Interval),
                    None => Ok(Record::Sample(whole)),
                });
                record.map_err(|fault| {
                    vec![RecordFault {
                        field: None,
                        reason: fault.to_string(),
                    }]
                })
            }
            _ => Err(self.faults),
        }
    }

    fn check_end(&self, end: DateTime<Utc>, clock: &ReceiveClock) -> Result<(), InvalidSample> {
        match self.timestamp {
            Some(start) => check_end(start, end)?,
            // The fault of the timestamp is named, and the end has none that is known.
            None if self.is_faulty("timestamp") => {}
            None => return Err(InvalidSample::EndWithoutTimestamp),
        }
        check_not_ahead(end, clock.received_at, clock.max_future)
    }

    fn is_faulty(&self, field: &str) -> bool {
        self.faults.iter().any(|fault| fault.field.as_deref() == Some(field))
    }

    fn add_fault(&mut self, field: impl AsRef<str>, reason: impl Into<String>) {
        if self.faults.len() >= FAULTS_MAX {
            return;
        }
        self.faults.push(RecordFault {
            field: Some(shorten(field.as_ref()).into_owned()),
            reason: reason.into(),
        });
    }
}

/// The reason why a value is refused: the rest of a sentence that begins with the name of the field.
struct FieldError(String);

impl From<InvalidSample> for FieldError {
    fn from(fault: InvalidSample) -> Self {
        Self(fault.to_string())
    }
}

/// Reads a value into a field. A value of `null` leaves the field absent.
fn read_into<T>(
    field: &mut Option<T>,
    value: &RawValue,
    read: impl FnOnce(&RawValue) -> Result<T, FieldError>,
) -> Result<(), FieldError> {
    if value.get() != "null" {
        *field = Some(read(value)?);
    }
    Ok(())
}

fn string(value: &RawValue) -> Result<String, FieldError> {
    if !value.get().starts_with('"') {
        return Err(FieldError(format!("is {}; a string is required", kind_of(value))));
    }
    serde_json::from_str(value.get()).map_err(|error| FieldError(format!("is not valid Unicode text: {error}")))
}

fn timestamp(value: &RawValue) -> Result<DateTime<Utc>, FieldError> {
    Ok(parse_timestamp(&timestamp_text(value)?).map_err(InvalidSample::from)?)
}

fn timestamp_text(value: &RawValue) -> Result<String, FieldError> {
    if is_number(value) {
        let unix_time = TimestampError::UnixTime(shorten(value.get()).into_owned());
        return Err(InvalidSample::from(unix_time).into());
    }
    string(value).map_err(|FieldError(reason)| FieldError(format!("{reason}: write \"2025-03-02T18:00:00Z\"")))
}

fn number(value: &RawValue) -> Result<f64, FieldError> {
    if !is_number(value) {
        return Err(FieldError(format!("is {}; a number is required", kind_of(value))));
    }
    match value.get().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(FieldError(format!("{} is out of range", shorten(value.get())))),
    }
}

fn integer(value: &RawValue, what: &str) -> Result<i64, FieldError> {
    let text = value.get();
    if !is_number(value) {
        return Err(FieldError(format!("is {}; an integer is required", kind_of(value))));
    }
    if text.contains(['.', 'e', 'E']) {
        return Err(FieldError(format!(
            "{} is not an integer: write it without a fraction or an exponent",
            shorten(text)
        )));
    }
    text.parse()
        .map_err(|_| FieldError(format!("{} is out of range for {what}", shorten(text))))
}

fn is_number(value: &RawValue) -> bool {
    value
        .get()
        .starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

fn kind_of(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Shortens a number or a name for an error message.
fn shorten(text: &str) -> Cow<'_, str> {
    const CHARS_MAX: usize = 64;
    match text.char_indices().nth(CHARS_MAX) {
        Some((cut, _)) => Cow::Owned(format!("{}…", &text[..cut])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod agreement_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::format_timestamp;

    fn read(json: &str) -> Result<Record, Vec<RecordFault>> {
        let received_at = parse_timestamp("2025-03-02T18:00:00Z").unwrap();
        read_record(
            json.as_bytes(),
            &ReceiveClock {
                received_at,
                max_future: TimeDelta::minutes(5),
            },
        )
    }

    #[test]
    fn accepts_every_valid_record() {
        for json in [
            r#"{"user_id":1,"heart_rate":20}"#,
            r#"{"user_id":9223372036854775807,"heart_rate":250.0}"#,
            r#" {"heart_rate":7.2e1,"user_id":1} "#,
            r#"{"user_id":1,"steps":-0}"#,
            r#"{"user_id":1,"steps":100000,"heart_rate":null,"source":null,"timestamp":null}"#,
            r#"{"user_id":1,"calories":-0.0}"#,
            r#"{"user_id":1,"calories":1e-400}"#,
            r#"{"user_id":1,"steps":0,"source":"p\u00f6lar \ud83d\ude00"}"#,
            r#"{"user_id":1,"steps":0,"timestamp":"2025-03-02T18:05:00Z"}"#,
            r#"{"user_id":1,"steps":0,"timestamp":"2000-01-01T00:00:00+00:00"}"#,
            r#"{"us\u0065r_id":1,"steps":0}"#,
            r#"{"user_id":1,"steps":0,"timestamp":"2025-03-02 19:00:00 +0100"}"#,
            r#"{"user_id":1,"steps":0,"timestamp":"2025-03-02\u002019:00:00+01"}"#,
        ] {
            assert!(read(json).is_ok(), "{json}: {:?}", read(json));
        }
        let Ok(Record::Sample(sample)) = read(r#"{"user_id":1,"steps":0}"#) else {
            panic!("a record without end is one sample");
        };
        assert_eq!(format_timestamp(sample.timestamp()), "2025-03-02T18:00:00Z");
        assert_eq!(sample.source().as_str(), "");
    }

    #[test]
    fn a_record_with_an_end_is_an_interval_within_the_limits_of_both_times() {
        let record = |times: &str| read(&format!(r#"{{"user_id":1,"steps":100,{times}}}"#));
        for (times, parts) in [
            (r#""timestamp":"2025-03-02T17:00:00Z","end":null"#, 1),
            (r#""timestamp":"2025-03-02T17:00:00Z","end":"2025-03-02T17:10:00Z""#, 1),
            (
                r#""end":"2025-03-02 18:40:00 +0100","timestamp":"2025-03-02T17:00:00Z""#,
                3,
            ),
            (
                r#""timestamp":"2025-03-01T17:00:00Z","end":"2025-03-02T18:00:00Z""#,
                100,
            ),
            (r#""timestamp":"2025-03-02T18:00:00Z","end":"2025-03-02T18:05:00Z""#, 1),
        ] {
            assert_eq!(record(times).unwrap().into_samples().len(), parts, "{times}");
        }
        for (times, reason) in [
            (
                r#""end":"2025-03-02T17:10:00Z""#,
                "needs the field timestamp, where the interval begins",
            ),
            (
                r#""timestamp":null,"end":"2025-03-02T17:10:00Z""#,
                "needs the field timestamp, where the interval begins",
            ),
            (
                r#""timestamp":"2025-03-02T17:00:00Z","end":"2025-03-02T17:00:00.0000001Z""#,
                "2025-03-02T17:00:00Z is not later than the timestamp 2025-03-02T17:00:00Z",
            ),
            (
                r#""timestamp":"2025-03-01T16:59:59Z","end":"2025-03-02T18:00:00Z""#,
                "2025-03-02T18:00:00Z is more than 25 hours after the timestamp 2025-03-01T16:59:59Z: divide the interval",
            ),
            (
                r#""timestamp":"2025-03-02T17:00:00Z","end":"2025-03-02T18:05:01Z""#,
                "2025-03-02T18:05:01Z is more than 300 s ahead of the server's clock: check the device's clock",
            ),
            (
                r#""timestamp":"2025-03-02T17:00:00Z","end":1740938400"#,
                "1740938400 is a number: Unix time is not accepted; write 2025-03-02T18:00:00Z",
            ),
        ] {
            let faults = record(times).unwrap_err();
            let found: Vec<_> = faults
                .iter()
                .map(|fault| (fault.field.as_deref(), fault.reason.as_str()))
                .collect();
            assert_eq!(found, [(Some("end"), reason)], "{times}");
        }
        let faults = record(r#""timestamp":"x","end":"y""#).unwrap_err();
        let fields: Vec<_> = faults.iter().filter_map(|fault| fault.field.as_deref()).collect();
        assert_eq!(fields, ["timestamp", "end"]);
    }

    #[test]
    fn a_given_user_is_that_of_records_without_one_and_replaces_none() {
        let clock = ReceiveClock {
            received_at: Utc::now(),
            max_future: TimeDelta::minutes(5),
        };
        let read = |json: &str, user| {
            let user = UserId::new(user).ok();
            read_record_of(json.as_bytes(), &clock, user).map(|record| record.user_id().get())
        };
        assert_eq!(read(r#"{"steps":1}"#, 7), Ok(7));
        assert_eq!(read(r#"{"user_id":8,"steps":1}"#, 7), Ok(8));
        assert!(read(r#"{"user_id":0,"steps":1}"#, 7).is_err());
        assert!(read(r#"{"steps":1}"#, 0).is_err());
    }

    #[test]
    fn at_most_a_hundred_faults_of_a_record_are_reported() {
        let members: Vec<_> = (0..1_000_000).map(|number| format!("\"a{number}\":1")).collect();
        let faults = read(&format!("{{{}}}", members.join(","))).unwrap_err();
        assert_eq!(faults.len(), FAULTS_MAX);
    }

    #[test]
    fn reports_every_fault_by_field() {
        for (json, expected) in [
            ("", "-"),
            ("{", "-"),
            ("5", "-"),
            ("null", "-"),
            ("[]", "-"),
            ("NaN", "-"),
            (r#"{"user_id":1,"steps":1} {}"#, "-"),
            (r#"{"user_id":1,"steps":NaN}"#, "-"),
            (r#"{"\ud800":1}"#, "-"),
            ("{}", "user_id heart_rate"),
            (r#"{"user_id":1}"#, "heart_rate"),
            (r#"{"user_id":0,"steps":1}"#, "user_id"),
            (r#"{"user_id":9223372036854775808,"steps":1}"#, "user_id"),
            (r#"{"user_id":1.0,"steps":1}"#, "user_id"),
            (r#"{"user_id":"1","steps":1}"#, "user_id"),
            (r#"{"user_id":1,"steps":1e3}"#, "steps"),
            (r#"{"user_id":1,"steps":100001}"#, "steps"),
            (r#"{"user_id":1,"steps":-1}"#, "steps"),
            (r#"{"user_id":1,"heart_rate":0}"#, "heart_rate"),
            (r#"{"user_id":1,"heart_rate":19.999}"#, "heart_rate"),
            (r#"{"user_id":1,"heart_rate":250.001}"#, "heart_rate"),
            (r#"{"user_id":1,"heart_rate":1e400,"steps":1}"#, "heart_rate"),
            (r#"{"user_id":1,"heart_rate":true}"#, "heart_rate"),
            (r#"{"user_id":1,"calories":10000.1}"#, "calories"),
            (r#"{"user_id":1,"steps":1,"source":"\u0007"}"#, "source"),
            (r#"{"user_id":1,"steps":1,"source":"\u0085"}"#, "source"),
            (r#"{"user_id":1,"steps":1,"source":"\ud800"}"#, "source"),
            (r#"{"user_id":1,"steps":1,"source":5}"#, "source"),
            (r#"{"user_id":1,"steps":1,"steps":1}"#, "steps"),
            (r#"{"user_id":1,"steps":1,"st\u0065ps":null}"#, "steps"),
            (r#"{"user_id":1,"steps":1,"hart_rate":1}"#, "hart_rate"),
            (r#"{"user_id":1,"steps":1,"a":1,"a":1}"#, "a a"),
            (
                r#"{"user_id":1,"steps":1,"timestamp":"2025-03-02T18:05:00.000001Z"}"#,
                "timestamp",
            ),
            (
                r#"{"user_id":1,"steps":1,"timestamp":"1999-12-31T23:59:59.999999Z"}"#,
                "timestamp",
            ),
            (
                r#"{"user_id":1,"steps":1,"timestamp":"2025-03-02T18:00:00"}"#,
                "timestamp",
            ),
            (r#"{"user_id":1,"steps":1,"timestamp":1740938400}"#, "timestamp"),
            (r#"{"user_id":1,"steps":1,"timestamp":{}}"#, "timestamp"),
            (
                r#"{"user_id":-1,"steps":-1,"calories":-1,"heart_rate":-1,"x":1,"timestamp":""}"#,
                "user_id steps calories heart_rate x timestamp",
            ),
        ] {
            let faults = read(json).expect_err(json);
            let fields: Vec<_> = faults
                .iter()
                .map(|fault| fault.field.as_deref().unwrap_or("-"))
                .collect();
            assert_eq!(fields.join(" "), expected, "{json}: {faults:?}");
        }
        let longest = "é".repeat(32);
        assert!(read(&format!(r#"{{"user_id":1,"steps":1,"source":"{longest}"}}"#)).is_ok());
        assert!(read(&format!(r#"{{"user_id":1,"steps":1,"source":"{longest}x"}}"#)).is_err());
    }

    #[test]
    fn a_refused_timestamp_is_named_with_the_way_to_write_it() {
        for (timestamp, reason) in [
            (
                "1740938400",
                "1740938400 is a number: Unix time is not accepted; write 2025-03-02T18:00:00Z",
            ),
            (
                "\"1740938400.5\"",
                "1740938400.5 is a number: Unix time is not accepted; write 2025-03-02T18:00:00Z",
            ),
            (
                "-1e3",
                "-1e3 is a number: Unix time is not accepted; write 2025-03-02T18:00:00Z",
            ),
            (
                "true",
                "is a boolean; a string is required: write \"2025-03-02T18:00:00Z\"",
            ),
            (
                "[]",
                "is an array; a string is required: write \"2025-03-02T18:00:00Z\"",
            ),
            ("\"\"", "is empty: write a time such as 2025-03-02T18:00:00Z"),
            (
                "\"1999-12-31T23:59:59Z\"",
                "1999-12-31T23:59:59Z is before 2000-01-01T00:00:00Z: check the device's clock",
            ),
            (
                "\"2025-03-02 19:06:00+01\"",
                "2025-03-02T18:06:00Z is more than 300 s ahead of the server's clock: check the device's clock",
            ),
            (
                "\"2016-12-31T23:59:60Z\"",
                "\"2016-12-31T23:59:60Z\" is a leap second, which cannot be stored: send second 59 instead",
            ),
        ] {
            let faults = read(&format!(r#"{{"user_id":1,"steps":1,"timestamp":{timestamp}}}"#)).unwrap_err();
            let found: Vec<_> = faults
                .iter()
                .map(|fault| (fault.field.as_deref(), fault.reason.as_str()))
                .collect();
            assert_eq!(found, [(Some("timestamp"), reason)]);
        }
    }

    #[test]
    fn tells_the_sender_to_leave_out_the_heart_rate_of_a_device_that_is_not_worn() {
        for value in ["0", "-1", "255", "0.0", "-0"] {
            let faults = read(&format!(r#"{{"user_id":1,"heart_rate":{value}}}"#)).unwrap_err();
            assert!(faults[0].reason.ends_with("leave the field out"), "{value}: {faults:?}");
        }
    }
}
