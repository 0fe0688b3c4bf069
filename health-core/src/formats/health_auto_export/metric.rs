//! The metrics of Health Auto Export, and the meaning of their rows.

use chrono::{DateTime, Utc};

use crate::{
    formats::{
        entry::{Entry, EntryRecord, Fault, Place},
        health_auto_export::{Grouping, time::parse_time},
        json::{
            aside::Aside,
            row::{Fields, Row},
        },
        no_record::{NoRecord, worn_heart_rate},
        rules,
        sources::source_name,
        step_fractions::StepFractions,
    },
    record::ReceiveClock,
    sample::{HeartRate, InvalidSample, Readings},
};

/// The fields of a row that we read, by index below.
pub(super) const FIELDS: Fields = &[&["date"], &["qty"], &["Avg"], &["source"], &["units"]];

const DATE: usize = 0;
const QTY: usize = 1;
const AVG: usize = 2;
const SOURCE: usize = 3;
const UNITS: usize = 4;

/// The kinds of metrics that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    HeartRate,
    Steps,
    Energy,
}

/// A metric, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Metric {
    pub(super) name: Option<String>,
    pub(super) units: Option<String>,
    /// Rows of a metric that we do not keep.
    pub(super) ignored: u64,
    /// Rows that came before the name or the unit.
    pub(super) aside: Aside,
    /// The number of rows that became entries.
    rows: u64,
}

/// The state that the rows of one body share.
pub(super) struct Rows {
    grouping: Grouping,
    fractions: StepFractions,
}

impl Kind {
    /// Returns the kind of a metric that is kept.
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "heart_rate" => Some(Self::HeartRate),
            "step_count" => Some(Self::Steps),
            "active_energy" => Some(Self::Energy),
            _ => None,
        }
    }
}

impl Metric {
    /// Returns whether the metric is known to be one that we do not keep.
    pub(super) fn is_ignored(&self) -> bool {
        self.name.is_some() && self.kind().is_none()
    }

    /// Returns whether rows have to be kept aside.
    pub(super) fn must_wait(&self) -> bool {
        self.name.is_none() || self.units.is_none() || !self.aside.is_empty()
    }

    /// Ends the metric. Returns its rows as ignored ones if it is not kept.
    pub(super) fn end(&mut self) -> Option<Entry> {
        if self.kind().is_some() {
            return None;
        }
        let entries = self.ignored + self.aside.clear();
        let name = self.name.take().unwrap_or_else(|| "metrics".to_owned());
        (entries > 0).then(|| Entry::ignored(name, entries))
    }

    /// Removes the first row that was kept aside.
    pub(super) fn pop_aside(&mut self) -> Option<Row> {
        self.aside.pop(FIELDS.len())
    }

    /// Returns the place of the next row.
    pub(super) fn place(&self) -> Place {
        let list = match self.kind() {
            Some(Kind::HeartRate) => "heart_rate",
            Some(Kind::Steps) => "step_count",
            Some(Kind::Energy) => "active_energy",
            None => "metrics",
        };
        Place::new(list, self.rows)
    }

    pub(super) fn next_place(&mut self) -> Place {
        let place = self.place();
        self.rows += 1;
        place
    }

    fn kind(&self) -> Option<Kind> {
        Kind::from_name(self.name.as_ref()?)
    }
}

impl Rows {
    pub(super) fn new(grouping: Grouping) -> Self {
        Self {
            grouping,
            fractions: StepFractions::default(),
        }
    }

    /// Returns the entry of a row of a metric.
    pub(super) fn metric_entry(&mut self, metric: &Metric, place: Place, row: &Row, clock: &ReceiveClock) -> Entry {
        let Some(kind) = metric.kind() else {
            return Entry::ignored("metrics", 1);
        };
        self.entry(kind, metric.units.as_deref(), place, row, clock)
    }

    /// Returns the entry of a row of the heart rate of a workout.
    pub(super) fn workout_entry(&mut self, place: Place, row: &Row, clock: &ReceiveClock) -> Entry {
        match row.text(UNITS, "units") {
            Ok(units) => self.entry(Kind::HeartRate, units, place, row, clock),
            Err(fault) => Entry::refused(place, fault),
        }
    }

    fn entry(&mut self, kind: Kind, units: Option<&str>, place: Place, row: &Row, clock: &ReceiveClock) -> Entry {
        Entry::of(place, self.read(kind, units, row, clock))
    }

    fn read(
        &mut self,
        kind: Kind,
        units: Option<&str>,
        row: &Row,
        clock: &ReceiveClock,
    ) -> Result<EntryRecord, NoRecord> {
        if row.is_no_object {
            return Err(Fault::new("is no object").into());
        }
        if self.grouping == Grouping::TooCoarse {
            let reason = "the export is grouped by weeks, months or years: choose hours or finer";
            return Err(Fault::new(reason).into());
        }
        let date = row.text(DATE, "date")?.ok_or_else(|| Fault::new("has no date"))?;
        let date = parse_time(date).map_err(|fault| Fault::of_value("date", &InvalidSample::from(fault)))?;
        rules::check_time(date, clock).map_err(|fault| Fault::of_value("date", &fault))?;
        let source = source_name(row.text(SOURCE, "source")?.unwrap_or_default());
        let mut readings = Readings::default();
        match kind {
            Kind::HeartRate => readings.heart_rate = Some(heart_rate(units, row)?),
            Kind::Steps => {
                known_unit(units, &["count", "steps"])?;
                readings.steps = Some(self.fractions.add("qty", &source, qty(row)?)?);
            }
            Kind::Energy => readings.calories = Some(rules::energy("qty", qty(row)?, units.unwrap_or_default())?),
        }
        let end = match kind {
            Kind::HeartRate => None,
            Kind::Steps | Kind::Energy => self.end(date, clock)?,
        };
        Ok(EntryRecord {
            place: Place::default(),
            user: None,
            timestamp: date,
            end,
            source,
            readings,
        })
    }

    /// Returns the end of the interval that a row stands for.
    fn end(&self, date: DateTime<Utc>, clock: &ReceiveClock) -> Result<Option<DateTime<Utc>>, Fault> {
        let Grouping::Every(length) = self.grouping else {
            return Ok(None);
        };
        let end = date.checked_add_signed(length).unwrap_or(date);
        rules::end_of_interval(date, end, Some(clock.received_at)).map_err(|fault| Fault::of_value("date", &fault))
    }
}

fn heart_rate(units: Option<&str>, row: &Row) -> Result<HeartRate, NoRecord> {
    known_unit(units, &["bpm", "count/min"])?;
    let (name, bpm) = match row.number(AVG, "Avg")? {
        Some(average) => ("Avg", average),
        // Export version 1 has no Avg.
        None => (
            "qty",
            row.number(QTY, "qty")?
                .ok_or_else(|| Fault::new("has neither Avg nor qty"))?,
        ),
    };
    worn_heart_rate(name, bpm)
}

fn qty(row: &Row) -> Result<f64, Fault> {
    row.number(QTY, "qty")?.ok_or_else(|| Fault::new("has no qty"))
}

/// Checks a unit of which there is only one. It may be absent.
fn known_unit(units: Option<&str>, known: &[&str]) -> Result<(), Fault> {
    match units {
        Some(unit) if !known.contains(&unit) => {
            let cut = unit.floor_char_boundary(32);
            let reason = format!(
                "the unit {:?} is unknown: {} is known",
                &unit[..cut],
                known.join(" or ")
            );
            Err(Fault::with_kind(reason, "the unit is unknown"))
        }
        _ => Ok(()),
    }
}
