//! The reader of Health Auto Export, an app for iPhones: JSON, export versions 1 and 2.

mod metric;
mod time;

use chrono::TimeDelta;

use crate::{
    formats::{
        entry::{Entry, Place},
        format_error::{ASIDE_BYTES_MAX, FormatError},
        health_auto_export::metric::{Metric, Rows},
        health_connect,
        json::{
            cursor::{Container, Cursor, ScalarKind, Step},
            row::{Row, RowReader},
        },
    },
    record::ReceiveClock,
};

/// Reads a body while it arrives.
///
/// Push bytes, and take entries until there is none. After the last bytes, call [`finish`](Self::finish), and take the
/// rest. The keys of an object may have any order. Rows that come before the name of their metric are kept aside.
///
/// ```
/// use chrono::{TimeDelta, Utc};
/// use health_core::{ReceiveClock, formats::{Entry, Grouping, HealthAutoExport}};
///
/// let clock = ReceiveClock { received_at: Utc::now(), max_future: TimeDelta::minutes(5) };
/// let mut reader = HealthAutoExport::new(Grouping::None);
/// reader.push(br#"{"data":{"metrics":[{"name":"heart_rate","units":"bpm","data":[
///     {"date":"2026-02-06 14:30:00 -0800","Avg":72.4,"source":"watch"}]}]}}"#);
/// reader.finish();
/// assert!(matches!(reader.next(&clock), Ok(Some(Entry::Record(_)))));
/// assert_eq!(reader.next(&clock), Ok(None));
/// ```
pub struct HealthAutoExport {
    cursor: Cursor,
    level: Level,
    /// The last key of the level, if that is an object.
    key: String,
    has_data: bool,
    /// Whether the body has keys as [`HealthConnect`](crate::formats::HealthConnect) reads them.
    is_health_connect: bool,
    row: Option<RowReader>,
    metric: Metric,
    rows: Rows,
    /// How many bytes may be kept aside: [`ASIDE_BYTES_MAX`].
    aside_max: usize,
    /// The rows of the list at [`Level::Others`] or of the heart rate of a workout.
    count: u64,
}

/// What one row stands for: the setting "time grouping" of the app, which it sends in the header
/// `automation-aggregation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping {
    /// A sample at its date. We do not guess a length from the spacing of rows.
    None,
    /// The steps and the energy of this length.
    Every(TimeDelta),
    /// A week, a month or a year, which is too long for an interval.
    TooCoarse,
}

/// Where the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Start,
    Root,
    /// The object `data`.
    Data,
    /// The list `metrics`.
    Metrics,
    Metric,
    /// The list `data` of a metric.
    MetricRows,
    /// The rows of a metric that has ended.
    MetricRowsAside,
    /// The list `workouts`.
    Workouts,
    Workout,
    /// The list `heartRateData` of a workout.
    WorkoutRows,
    /// Another list in `data`.
    Others,
    End,
}

impl Grouping {
    /// Returns the grouping that the app names, in any case, singular or plural.
    pub fn from_name(name: &str) -> Self {
        let name = name.trim().to_ascii_lowercase();
        match name.strip_suffix('s').unwrap_or(&name) {
            "minute" => Self::Every(TimeDelta::minutes(1)),
            "hour" => Self::Every(TimeDelta::hours(1)),
            "day" => Self::Every(TimeDelta::hours(24)),
            "week" | "month" | "year" => Self::TooCoarse,
            _ => Self::None,
        }
    }
}

impl HealthAutoExport {
    /// Creates a reader of one body.
    pub fn new(grouping: Grouping) -> Self {
        Self {
            cursor: Cursor::new(),
            level: Level::Start,
            key: String::new(),
            has_data: false,
            is_health_connect: false,
            row: None,
            metric: Metric::default(),
            rows: Rows::new(grouping),
            aside_max: ASIDE_BYTES_MAX,
            count: 0,
        }
    }

    /// Adds bytes. All entries of the bytes before must have been taken.
    pub fn push(&mut self, bytes: &[u8]) {
        self.cursor.push(bytes);
    }

    /// Says that there are no more bytes.
    pub fn finish(&mut self) {
        self.cursor.finish();
    }

    /// Returns how many bytes of the body are kept aside.
    pub fn bytes_aside(&self) -> usize {
        self.metric.aside.bytes()
    }

    /// Returns the next entry, or `None` if the bytes so far have no more.
    ///
    /// # Errors
    /// A [`FormatError`] if the body cannot be read further.
    pub fn next(&mut self, clock: &ReceiveClock) -> Result<Option<Entry>, FormatError> {
        loop {
            if self.level == Level::MetricRowsAside {
                match self.metric.pop_aside() {
                    Some(row) => return Ok(Some(self.metric_entry(&row, clock))),
                    None => self.level = Level::Metrics,
                }
            }
            let step = self.cursor.next(&self.place())?;
            match step {
                Step::NeedMore => return Ok(None),
                Step::Complete if self.has_data => return Ok(None),
                Step::Complete if self.is_health_connect => return Err(FormatError::OfHealthConnect),
                Step::Complete => return Err(NO_DATA),
                _ => {}
            }
            if let Some(entry) = self.step(step, clock)? {
                return Ok(Some(entry));
            }
        }
    }

    fn step(&mut self, step: Step, clock: &ReceiveClock) -> Result<Option<Entry>, FormatError> {
        if self.row.is_some() {
            return self.row_step(step, clock);
        }
        if step == Step::Key {
            self.cursor.text()?.clone_into(&mut self.key);
            return Ok(None);
        }
        match self.level {
            Level::Start if step == Step::Start(Container::Object) => self.level = Level::Root,
            Level::Start => return Err(NO_DATA),
            Level::Root => self.root_step(step)?,
            Level::Data => return self.data_step(step),
            Level::Metrics => return Ok(self.metrics_step(step)),
            Level::Metric => return self.metric_step(step),
            Level::MetricRows | Level::WorkoutRows => return self.rows_step(step, clock),
            Level::Workouts => return Ok(self.workouts_step(step)),
            Level::Workout => return Ok(self.workout_step(step)),
            Level::Others => return Ok(self.others_step(step)),
            Level::MetricRowsAside | Level::End => {}
        }
        Ok(None)
    }

    fn root_step(&mut self, step: Step) -> Result<(), FormatError> {
        match step {
            Step::End => self.level = Level::End,
            Step::Start(Container::Object) if self.key == "data" => {
                self.has_data = true;
                self.level = Level::Data;
            }
            _ if self.key == "data" => return Err(NO_DATA),
            other => {
                self.is_health_connect |= health_connect::KNOWN_KEYS.contains(&self.key.as_str());
                self.cursor.skip(other);
            }
        }
        Ok(())
    }

    fn data_step(&mut self, step: Step) -> Result<Option<Entry>, FormatError> {
        let is_kept = matches!(self.key.as_str(), "metrics" | "workouts");
        match step {
            Step::End => self.level = Level::Root,
            Step::Start(Container::Array) => {
                self.count = 0;
                self.level = match self.key.as_str() {
                    "metrics" => Level::Metrics,
                    "workouts" => Level::Workouts,
                    _ => Level::Others,
                };
            }
            Step::Scalar(ScalarKind::Null) => {}
            _ if is_kept => return Err(FormatError::WrongForm("has metrics or workouts that are no list")),
            other => {
                self.cursor.skip(other);
                return Ok(Some(Entry::ignored(self.key.clone(), 1)));
            }
        }
        Ok(None)
    }

    fn metrics_step(&mut self, step: Step) -> Option<Entry> {
        match step {
            Step::End => self.level = Level::Data,
            Step::Start(Container::Object) => {
                self.metric = Metric::default();
                self.level = Level::Metric;
            }
            other => {
                self.cursor.skip(other);
                return Some(Entry::ignored("metrics", 1));
            }
        }
        None
    }

    fn metric_step(&mut self, step: Step) -> Result<Option<Entry>, FormatError> {
        match (step, self.key.as_str()) {
            (Step::End, _) => {
                self.level = Level::MetricRowsAside;
                return Ok(self.metric.end());
            }
            (Step::Scalar(ScalarKind::Text), "name") => self.metric.name = Some(self.cursor.text()?.to_owned()),
            (Step::Scalar(ScalarKind::Text), "units") => self.metric.units = Some(self.cursor.text()?.to_owned()),
            (Step::Start(Container::Array), "data") => self.level = Level::MetricRows,
            (other, _) => self.cursor.skip(other),
        }
        Ok(None)
    }

    fn rows_step(&mut self, step: Step, clock: &ReceiveClock) -> Result<Option<Entry>, FormatError> {
        let is_metric = self.level == Level::MetricRows;
        match step {
            Step::End if is_metric => self.level = Level::Metric,
            Step::End => self.level = Level::Workout,
            other if is_metric && self.metric.is_ignored() => {
                self.metric.ignored += 1;
                self.cursor.skip(other);
            }
            other => match RowReader::begin(metric::FIELDS, other, self.cursor.offset()) {
                Ok(row) => return self.row_entry(&row, 1, clock),
                Err(reader) => self.row = Some(reader),
            },
        }
        Ok(None)
    }

    fn row_step(&mut self, step: Step, clock: &ReceiveClock) -> Result<Option<Entry>, FormatError> {
        let place = self.place();
        let Some(reader) = &mut self.row else {
            return Ok(None);
        };
        let Some(row) = reader.step(step, &self.cursor, &place)? else {
            return Ok(None);
        };
        let bytes = reader.bytes(&self.cursor);
        self.row = None;
        self.row_entry(&row, bytes, clock)
    }

    /// Returns the entry of a row of `bytes` bytes, unless the row has to be kept aside.
    fn row_entry(&mut self, row: &Row, bytes: usize, clock: &ReceiveClock) -> Result<Option<Entry>, FormatError> {
        if self.level == Level::WorkoutRows {
            let place = self.place();
            self.count += 1;
            return Ok(Some(self.rows.workout_entry(place, row, clock)));
        }
        if self.metric.must_wait() {
            if self.metric.aside.bytes() + bytes > self.aside_max {
                return Err(FormatError::TooMuchAside);
            }
            self.metric.aside.push(row, bytes)?;
            return Ok(None);
        }
        Ok(Some(self.metric_entry(row, clock)))
    }

    fn metric_entry(&mut self, row: &Row, clock: &ReceiveClock) -> Entry {
        let place = self.metric.next_place();
        self.rows.metric_entry(&self.metric, place, row, clock)
    }

    fn workouts_step(&mut self, step: Step) -> Option<Entry> {
        match step {
            Step::End => self.level = Level::Data,
            Step::Start(Container::Object) => {
                self.count = 0;
                self.level = Level::Workout;
            }
            other => {
                self.cursor.skip(other);
                return Some(Entry::ignored("workouts", 1));
            }
        }
        None
    }

    fn workout_step(&mut self, step: Step) -> Option<Entry> {
        match step {
            Step::End => {
                self.level = Level::Workouts;
                return (self.count == 0).then(|| Entry::ignored("workouts", 1));
            }
            Step::Start(Container::Array) if self.key == "heartRateData" => self.level = Level::WorkoutRows,
            other => self.cursor.skip(other),
        }
        None
    }

    fn others_step(&mut self, step: Step) -> Option<Entry> {
        if step == Step::End {
            self.level = Level::Data;
            return (self.count > 0).then(|| Entry::ignored(self.key.clone(), self.count));
        }
        self.count += 1;
        self.cursor.skip(step);
        None
    }

    /// Returns where the reader is.
    fn place(&self) -> Place {
        match self.level {
            Level::WorkoutRows => Place::new("heartRateData", self.count),
            Level::MetricRows => self.metric.place(),
            _ => Place::new("data", 0),
        }
    }
}

/// The error for a body of another form.
const NO_DATA: FormatError = FormatError::WrongForm("has no object \"data\", as Health Auto Export writes it");

#[cfg(test)]
mod tests;
