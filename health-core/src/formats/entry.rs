//! The entries of a file or body, and the fate of each.

use std::{borrow::Cow, fmt};

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};

use crate::{
    interval::Interval,
    record::Record,
    sample::{Calories, HeartRate, InvalidSample, Readings, Sample, Source, Steps, UserId},
    time::rfc3339,
};

/// The list of the places in a file with one record a line.
const LINE: &str = "line";

/// What a reader found: one entry, or several in succession that are ignored.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// An entry that becomes samples.
    Record(EntryRecord),
    /// An entry of a kind that we keep, but one of its values is unreadable or outside its limits.
    Refused(Refused),
    /// Entries of a kind that we do not keep.
    Ignored {
        /// The sender's own name of the kind, or [`NOT_WORN`](crate::formats::rules::NOT_WORN).
        name: Cow<'static, str>,
        /// How many entries.
        entries: u64,
    },
}

/// Where an entry stands in a file or body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The sender's name of the list.
    pub list: Cow<'static, str>,
    /// The position in that list, from 0. In a file with one record a line: the number of the line, from 1.
    pub index: u64,
}

/// A valid entry. Its JSON is that of a record for `/ingest`; a user that is not known is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryRecord {
    /// Where it stands.
    pub place: Place,
    /// The user whom the entry names. `None`: the user of the body, or of the option of a command.
    pub user: Option<UserId>,
    /// The time of the measurement, or the start of the interval.
    pub timestamp: DateTime<Utc>,
    /// The end of the interval: later than the timestamp, by at most [`Interval::LENGTH_MAX`]. `None` for a sample.
    pub end: Option<DateTime<Utc>>,
    /// The device that measured.
    pub source: Source,
    /// What it measured: at least one value.
    pub readings: Readings,
}

/// An entry that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Where it stands.
    pub place: Place,
    /// Why it is refused.
    pub fault: Fault,
}

/// Why an entry is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong, with the value and the remedy: `Avg 301 is not between 20 and 250 beats per minute`.
    pub reason: String,
    /// The same without the value, so that faults can be counted by kind: `Avg is outside 20 to 250`.
    pub kind: Cow<'static, str>,
}

impl Entry {
    /// Returns a number of entries that are ignored.
    pub fn ignored(name: impl Into<Cow<'static, str>>, entries: u64) -> Self {
        Self::Ignored {
            name: name.into(),
            entries,
        }
    }

    /// Returns a refused entry.
    pub fn refused(place: Place, fault: Fault) -> Self {
        Self::Refused(Refused { place, fault })
    }
}

impl Place {
    /// Returns the place at `index` of a list.
    pub fn new(list: impl Into<Cow<'static, str>>, index: u64) -> Self {
        Self {
            list: list.into(),
            index,
        }
    }

    /// Returns the place of a record in a file with one record a line. `number` is the number of the line, from 1.
    pub(super) fn line(number: u64) -> Self {
        Self::new(LINE, number)
    }
}

impl fmt::Display for Place {
    /// Writes `line 4` or `Trackpoint number 4`, for people, who count from 1.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list.as_ref() {
            LINE => write!(f, "line {}", self.index),
            list => write!(f, "{list} number {}", self.index + 1),
        }
    }
}

impl EntryRecord {
    /// Returns what to store, for the user of the entry, or `default_user` if it names none.
    ///
    /// # Errors
    /// An [`InvalidSample`] if the rules of samples and intervals do not hold.
    pub fn into_record(self, default_user: UserId) -> Result<Record, InvalidSample> {
        let user = self.user.unwrap_or(default_user);
        let whole = Sample::new(user, self.timestamp, self.source, self.readings)?;
        match self.end {
            None => Ok(Record::Sample(whole)),
            Some(end) => Interval::new(whole, end).map(Record::Interval),
        }
    }
}

impl Fault {
    /// Returns a fault that shows no value, or one with few different values.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        let kind = reason.into();
        Self {
            reason: kind.clone().into_owned(),
            kind,
        }
    }

    /// Returns a fault with its value, and its kind without the value.
    pub fn with_kind(reason: impl Into<String>, kind: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason: reason.into(),
            kind: kind.into(),
        }
    }

    /// Returns the fault of a value. `name` is the sender's name of the value.
    pub fn of_value(name: &str, fault: &InvalidSample) -> Self {
        let kind = match fault {
            InvalidSample::UserId(_) => "is outside 1 to 9223372036854775807",
            InvalidSample::TooEarly(_) => "is before 2000-01-01",
            InvalidSample::TooLate { .. } => "is too far in the future",
            InvalidSample::EndNotLater { .. } => "is before the start",
            InvalidSample::IntervalTooLong { .. } => "is more than 25 hours after the start",
            InvalidSample::HeartRate(_) => "is outside 20 to 250",
            InvalidSample::Steps(_) => "is outside 0 to 100000",
            InvalidSample::Calories(_) => "is outside 0 to 10000",
            InvalidSample::SourceTooLong(_) => "is longer than 64 bytes",
            InvalidSample::SourceControl(_) => "contains a control character",
            InvalidSample::Timestamp(_) => "is not a time with an offset",
            InvalidSample::EndWithoutTimestamp | InvalidSample::Empty | InvalidSample::NotWorn(_) => {
                return Self::new(format!("{name} {fault}"));
            }
        };
        Self::with_kind(format!("{name} {fault}"), format!("{name} {kind}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// The JSON form of a record for `/ingest`.
#[derive(Serialize)]
struct RecordJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<UserId>,
    #[serde(with = "rfc3339")]
    timestamp: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<End>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heart_rate: Option<HeartRate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Steps>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calories: Option<Calories>,
    #[serde(skip_serializing_if = "str::is_empty")]
    source: &'a str,
}

#[derive(Serialize)]
#[serde(transparent)]
struct End(#[serde(with = "rfc3339")] DateTime<Utc>);

impl Serialize for EntryRecord {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        RecordJson {
            user_id: self.user,
            timestamp: self.timestamp,
            end: self.end.map(End),
            heart_rate: self.readings.heart_rate,
            steps: self.readings.steps,
            calories: self.readings.calories,
            source: self.source.as_str(),
        }
        .serialize(to)
    }
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
    fn the_json_of_an_entry_is_the_record_that_ingest_reads() {
        let clock = ReceiveClock {
            received_at: parse_timestamp("2025-03-02T18:00:00Z").unwrap(),
            max_future: TimeDelta::minutes(5),
        };
        let mut entry = EntryRecord {
            place: Place::new("steps", 3),
            user: None,
            timestamp: parse_timestamp("2025-03-02T09:10:00Z").unwrap(),
            end: None,
            source: Source::new("Ada’s \"watch\"").unwrap(),
            readings: Readings {
                steps: Steps::new(340).ok(),
                calories: Calories::new(12.75).ok(),
                ..Readings::default()
            },
        };
        let user = UserId::new(7).unwrap();
        assert!(read_record(&serde_json::to_vec(&entry).unwrap(), &clock).is_err());
        entry.user = Some(user);
        for end in [None, parse_timestamp("2025-03-02T10:10:00Z").ok()] {
            entry.end = end;
            let json = serde_json::to_vec(&entry).unwrap();
            let expected = entry.clone().into_record(user).unwrap();
            assert_eq!(read_record(&json, &clock).unwrap(), expected);
        }
    }

    #[test]
    fn a_place_is_shown_as_people_count() {
        assert_eq!(Place::line(4).to_string(), "line 4");
        assert_eq!(Place::new("Trackpoint", 0).to_string(), "Trackpoint number 1");
    }

    #[test]
    fn a_fault_has_its_value_and_its_kind_has_not() {
        let fault = HeartRate::new(301.0).unwrap_err();
        let fault = Fault::of_value("Avg", &fault);
        assert_eq!(fault.to_string(), "Avg 301 is not between 20 and 250 beats per minute");
        assert_eq!(fault.kind, "Avg is outside 20 to 250");
    }
}
