//! The reader of InfluxDB's line protocol, which Telegraf and many small devices write.

mod line_end;
mod misspelt;
mod point;

pub use self::misspelt::MisspeltNames;

use chrono::{DateTime, Utc};

use crate::{
    formats::{
        entry::{Entry, EntryRecord, Fault, Place},
        format_error::{ENTRY_BYTES_MAX, FormatError},
        line_protocol::{
            line_end::LineEnd,
            misspelt::is_reading,
            point::{FieldValue, Point},
        },
        rules,
        sources::source_name,
        step_fractions::StepFractions,
    },
    record::ReceiveClock,
    sample::{Readings, UserId},
};

/// Reads a body while it arrives. Each point is one line, and its place is the number of that line, from 0.
///
/// Push bytes, and take entries until there is none. After the last bytes, call [`finish`](Self::finish), and take the
/// rest.
///
/// ```
/// use chrono::{TimeDelta, Utc};
/// use health_core::{ReceiveClock, formats::{Entry, LineProtocol, Precision}};
///
/// let clock = ReceiveClock { received_at: Utc::now(), max_future: TimeDelta::minutes(5) };
/// let mut reader = LineProtocol::new(Precision::Seconds);
/// reader.push(b"health,user_id=101,source=watch heart_rate=72 1740938400\n");
/// reader.finish();
/// assert!(matches!(reader.next(&clock), Ok(Some(Entry::Record(_)))));
/// assert_eq!(reader.next(&clock), Ok(None));
/// ```
pub struct LineProtocol {
    precision: Precision,
    bytes: Vec<u8>,
    /// Where the current line begins.
    start: usize,
    line_end: LineEnd,
    /// The number of the current line.
    line: u64,
    is_done: bool,
    fractions: StepFractions,
    misspelt: MisspeltNames,
}

/// The unit of timestamps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// `ns`, in version 1 also `n`.
    #[default]
    Nanoseconds,
    /// `us`, in version 1 also `u`.
    Microseconds,
    /// `ms`.
    Milliseconds,
    /// `s`.
    Seconds,
    /// `m`, in version 1 only.
    Minutes,
    /// `h`, in version 1 only.
    Hours,
}

/// The name under which points are ignored that have none of our fields.
const WITHOUT_OUR_FIELDS: &str = "points without our fields";

impl Precision {
    /// Returns the precision with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "ns" | "n" => Self::Nanoseconds,
            "us" | "u" => Self::Microseconds,
            "ms" => Self::Milliseconds,
            "s" => Self::Seconds,
            "m" => Self::Minutes,
            "h" => Self::Hours,
            _ => return None,
        })
    }

    fn time(self, timestamp: i64) -> Option<DateTime<Utc>> {
        let micros = match self {
            Self::Nanoseconds => timestamp.div_euclid(1_000),
            Self::Microseconds => timestamp,
            Self::Milliseconds => timestamp.checked_mul(1_000)?,
            Self::Seconds => timestamp.checked_mul(1_000_000)?,
            Self::Minutes => timestamp.checked_mul(60_000_000)?,
            Self::Hours => timestamp.checked_mul(3_600_000_000)?,
        };
        DateTime::from_timestamp_micros(micros)
    }
}

impl LineProtocol {
    /// Creates a reader of one body.
    pub fn new(precision: Precision) -> Self {
        Self {
            precision,
            bytes: Vec::new(),
            start: 0,
            line_end: LineEnd::default(),
            line: 0,
            is_done: false,
            fractions: StepFractions::default(),
            misspelt: MisspeltNames::default(),
        }
    }

    /// Adds bytes. All entries of the bytes before must have been taken.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Says that there are no more bytes.
    pub fn finish(&mut self) {
        self.is_done = true;
    }

    /// Returns the next entry, or `None` if the bytes so far have no more. A point without a timestamp gets the receive
    /// time.
    ///
    /// # Errors
    /// [`FormatError::EntryTooLong`] for a line of more than 64 KiB.
    pub fn next(&mut self, clock: &ReceiveClock) -> Result<Option<Entry>, FormatError> {
        while let Some(line) = self.next_line()? {
            let place = Place::new("lines", self.line);
            let bytes = &self.bytes[line.clone()];
            self.line +=
                u64::try_from(memchr::memchr_iter(b'\n', &self.bytes[line.start..self.start]).count()).unwrap_or(1);
            let Some(text) = std::str::from_utf8(bytes).ok().map(str::trim_ascii) else {
                return Ok(Some(Entry::refused(place, Fault::new("is not UTF-8"))));
            };
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let entry = match Point::parse(text) {
                Err(fault) => Entry::refused(place, fault),
                Ok(point) => {
                    count_misspelt(&point, &mut self.misspelt);
                    entry(&point, place, self.precision, &mut self.fractions, clock)
                }
            };
            return Ok(Some(entry));
        }
        Ok(None)
    }

    /// Returns the names of fields and tags so far that look like ours and were ignored.
    pub fn misspelt(&self) -> &MisspeltNames {
        &self.misspelt
    }

    /// Finds the next line, and moves the start behind its end.
    fn next_line(&mut self) -> Result<Option<std::ops::Range<usize>>, FormatError> {
        let rest = &self.bytes[self.start..];
        let end = self.line_end.find(rest);
        let too_long = end.unwrap_or(rest.len()) > ENTRY_BYTES_MAX;
        let (length, line_feed) = match end {
            Some(end) if !too_long => (end, 1),
            None if !too_long && !self.is_done => return Ok(None),
            None if rest.is_empty() => return Ok(None),
            // A text in double quotes that does not end: only the line is wrong in which it begins.
            _ => match memchr::memchr(b'\n', rest) {
                Some(end) if end <= ENTRY_BYTES_MAX => (end, 1),
                None if !too_long => (rest.len(), 0),
                _ => return Err(FormatError::too_long(&Place::new("lines", self.line))),
            },
        };
        self.line_end = LineEnd::default();
        let line = self.start..self.start + length;
        self.start = line.end + line_feed;
        Ok(Some(line))
    }
}

fn count_misspelt(point: &Point<'_>, names: &mut MisspeltNames) {
    let has_reading = !point.is_without_our_fields();
    for (meant, written) in &point.misspelt {
        if has_reading || is_reading(meant) {
            names.add(meant, written);
        }
    }
}

fn entry(
    point: &Point<'_>,
    place: Place,
    precision: Precision,
    fractions: &mut StepFractions,
    clock: &ReceiveClock,
) -> Entry {
    if point.is_without_our_fields() {
        return Entry::ignored(WITHOUT_OUR_FIELDS, 1);
    }
    match read(point, place.clone(), precision, fractions, clock) {
        Err(fault) => Entry::refused(place, fault),
        Ok(record) if record.readings.is_empty() => Entry::ignored(rules::NOT_WORN, 1),
        Ok(record) => Entry::Record(record),
    }
}

/// The readings are empty if the device was not worn.
fn read(
    point: &Point<'_>,
    place: Place,
    precision: Precision,
    fractions: &mut StepFractions,
    clock: &ReceiveClock,
) -> Result<EntryRecord, Fault> {
    let timestamp = match point.timestamp {
        None => clock.received_at,
        Some(timestamp) => precision.time(timestamp).ok_or_else(|| {
            Fault::with_kind(
                format!("timestamp {timestamp} is out of range"),
                "timestamp is out of range",
            )
        })?,
    };
    rules::check_time(timestamp, clock).map_err(|fault| {
        let mut fault = Fault::of_value("timestamp", &fault);
        fault
            .reason
            .push_str(", and name the unit of timestamps with ?precision=");
        fault
    })?;
    let source = source_name(point.source.as_deref().or(point.host.as_deref()).unwrap_or_default());
    let mut readings = Readings::default();
    if let Some(value) = &point.heart_rate {
        let bpm = number("heart_rate", value)?;
        readings.heart_rate = rules::heart_rate(bpm).map_err(|fault| Fault::of_value("heart_rate", &fault))?;
    }
    if let Some(value) = &point.calories {
        readings.calories = Some(rules::energy("calories", number("calories", value)?, "kcal")?);
    }
    let user = point.user_id.as_deref().map(user).transpose()?;
    if let Some(value) = &point.steps {
        // Last, because the fractions of a point that is refused do not count.
        readings.steps = Some(fractions.add("steps", &source, number("steps", value)?)?);
    }
    Ok(EntryRecord {
        place,
        user,
        timestamp,
        end: None,
        source,
        readings,
    })
}

fn user(text: &str) -> Result<UserId, Fault> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_digits.then(|| text.parse().ok()).flatten();
    number.and_then(|number| UserId::new(number).ok()).ok_or_else(|| {
        let kind = "user_id is not an integer between 1 and 9223372036854775807";
        let cut = text.floor_char_boundary(32);
        let reason = kind.replacen("user_id", &format!("user_id {:?}", &text[..cut]), 1);
        Fault::with_kind(reason, kind)
    })
}

fn number(name: &str, value: &FieldValue) -> Result<f64, Fault> {
    match value {
        FieldValue::Number(number) => Ok(*number),
        FieldValue::Text => Err(Fault::new(format!("{name} is a text; a number is required"))),
        FieldValue::Boolean => Err(Fault::new(format!("{name} is a boolean; a number is required"))),
    }
}

#[cfg(test)]
mod tests;
