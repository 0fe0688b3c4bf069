//! The thorough parser of a record: it reads field by field, and names every fault.

use std::{borrow::Cow, str::from_utf8};

use chrono::{DateTime, Utc};
use serde::{
    Deserializer,
    de::{DeserializeSeed, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    interval::{Interval, check_end},
    record::{BorrowedText, RECORD_FIELDS, REQUIRED, ReceiveClock, Record, RecordFault},
    sample::{Calories, HeartRate, InvalidSample, Readings, Sample, Source, Steps, UserId, check_not_ahead},
    time::{TimestampError, parse_timestamp},
};

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

/// Parses one record. A record without `user_id` is one of `default_user`.
pub(super) fn read_field_by_field(
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
pub(super) const FAULTS_MAX: usize = 100;

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
