//! The lists of Health Connect, and the meaning of their rows.

use chrono::{DateTime, Utc};

use crate::{
    formats::{
        entry::{Entry, EntryRecord, Fault, Place},
        json::row::{Fields, Row},
        no_record::{NoRecord, worn_heart_rate},
        rules,
        sources::source_name,
        step_fractions::StepFractions,
    },
    record::ReceiveClock,
    sample::{HeartRate, InvalidSample, Readings},
    time::parse_timestamp,
};

/// The fields of a row that we read, by index below.
pub(super) const FIELDS: Fields = &[
    &["time"],
    &["start_time"],
    &["end_time"],
    &["bpm"],
    &["avg"],
    &["count"],
    &["calories"],
    &["metadata", "device", "model"],
    &["metadata", "data_origin"],
];

const TIME: usize = 0;
const START_TIME: usize = 1;
const END_TIME: usize = 2;
const BPM: usize = 3;
const AVG: usize = 4;
const COUNT: usize = 5;
const CALORIES: usize = 6;
const MODEL: usize = 7;
const DATA_ORIGIN: usize = 8;

/// The lists that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    HeartRate,
    Steps,
    ActiveCalories,
}

/// The state that the rows of one body share.
#[derive(Debug, Default)]
pub(super) struct Rows {
    fractions: StepFractions,
}

impl Kind {
    /// Returns the kind of a list that is kept.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::HeartRate, Self::Steps, Self::ActiveCalories]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::HeartRate => "heart_rate",
            Self::Steps => "steps",
            Self::ActiveCalories => "active_calories",
        }
    }
}

impl Rows {
    /// Returns the entry of a row.
    pub(super) fn entry(&mut self, kind: Kind, place: Place, row: &Row, clock: &ReceiveClock) -> Entry {
        Entry::of(place, self.read(kind, row, clock))
    }

    fn read(&mut self, kind: Kind, row: &Row, clock: &ReceiveClock) -> Result<EntryRecord, NoRecord> {
        if row.is_no_object {
            return Err(Fault::new("is no object").into());
        }
        let source = match row.text(MODEL, "metadata.device.model")? {
            Some(model) if !model.is_empty() => Some(model),
            _ => row.text(DATA_ORIGIN, "metadata.data_origin")?,
        };
        let source = source_name(source.unwrap_or_default());
        let mut readings = Readings::default();
        let (timestamp, end) = if kind == Kind::HeartRate {
            let time = time(TIME, "time", row)?;
            rules::check_time(time, clock).map_err(|fault| Fault::of_value("time", &fault))?;
            (time, None)
        } else {
            let (start, end) = (time(START_TIME, "start_time", row)?, time(END_TIME, "end_time", row)?);
            rules::check_time(start, clock).map_err(|fault| Fault::of_value("start_time", &fault))?;
            let end = rules::end_of_interval(start, end, Some(clock.received_at))
                .map_err(|fault| Fault::of_value("end_time", &fault))?;
            (start, end)
        };
        match kind {
            Kind::HeartRate => readings.heart_rate = Some(heart_rate(row)?),
            Kind::Steps => {
                let count = number(COUNT, "count", row)?;
                readings.steps = Some(self.fractions.add("count", &source, count)?);
            }
            Kind::ActiveCalories => {
                let kcal = number(CALORIES, "calories", row)?;
                readings.calories = Some(rules::energy("calories", kcal, "kcal")?);
            }
        }
        Ok(EntryRecord {
            place: Place::default(),
            user: None,
            timestamp,
            end,
            source,
            readings,
        })
    }
}

fn heart_rate(row: &Row) -> Result<HeartRate, NoRecord> {
    let (name, bpm) = match row.number(BPM, "bpm")? {
        Some(bpm) => ("bpm", bpm),
        None => match row.number(AVG, "avg")? {
            Some(average) => ("avg", average),
            None => return Err(Fault::new("has neither bpm nor avg").into()),
        },
    };
    worn_heart_rate(name, bpm)
}

fn time(field: usize, name: &str, row: &Row) -> Result<DateTime<Utc>, Fault> {
    let text = row
        .text(field, name)?
        .ok_or_else(|| Fault::new(format!("has no {name}")))?;
    parse_timestamp(text).map_err(|fault| Fault::of_value(name, &InvalidSample::from(fault)))
}

fn number(field: usize, name: &str, row: &Row) -> Result<f64, Fault> {
    row.number(field, name)?
        .ok_or_else(|| Fault::new(format!("has no {name}")))
}
