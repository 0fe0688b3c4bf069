//! FIT files of watches: activities and the monitoring of days.

mod container;
mod device;
mod monitoring;

use std::io::Read;

use chrono::{DateTime, TimeDelta, Utc};

use self::{
    container::{Container, Message, Part},
    device::device_name,
    monitoring::{Increment, Monitoring},
};
use super::{
    Damage, Entry, EntryRecord, Fault, FileOptions, Place,
    no_record::NoRecord,
    rules::{NOT_WORN, end_of_interval, heart_rate},
    source_name,
};
use crate::sample::{Calories, HeartRate, Readings, Source, Steps};

/// Global numbers of messages in the FIT profile.
const FILE_ID: u16 = 0;
const SESSION: u16 = 18;
const RECORD: u16 = 20;
const MONITORING: u16 = 55;
const MONITORING_INFO: u16 = 103;
const HR: u16 = 132;

/// The field of a `record` message.
const RECORD_HEART_RATE: u8 = 3;

/// The fields of a `session` message.
const START_TIME: u8 = 2;
const SPORT: u8 = 5;
const TOTAL_ELAPSED_TIME: u8 = 7;
const TOTAL_CYCLES: u8 = 10;
const TOTAL_CALORIES: u8 = 11;

/// The sports whose cycles are strides, of two steps each: running, walking and hiking.
const STRIDE_SPORTS: [i64; 3] = [1, 11, 17];

/// The start of FIT time, 1989-12-31T00:00:00Z.
const EPOCH: i64 = 631_065_600;

/// The protocol: a smaller time counts the seconds since the device was switched on.
const TIME_MIN: i64 = 0x1000_0000;

/// The name of the source if a file names no device.
const NO_DEVICE: &str = "fit";

/// Reads one FIT file, or several that follow each other, in constant memory.
///
/// `record` messages become heart rates, `session` messages intervals of steps and energy, and the counters of
/// `monitoring` messages become increments.
///
/// # Errors
/// [`Damage`]. With a wrong checksum, all messages were read.
pub fn read_fit(input: impl Read, options: &FileOptions, found: &mut dyn FnMut(FitEntry)) -> Result<(), Damage> {
    let mut container = Container::new(input);
    let mut reader = Reader::new(options);
    loop {
        match container.next() {
            Ok(Some(Part::Message(message))) => reader.read(&message, found),
            Ok(Some(Part::File)) => {
                reader.finish_instant(found);
                reader = Reader::new(options);
            }
            end => {
                reader.finish_instant(found);
                return end.map(|_| ());
            }
        }
    }
}

/// What a reader of FIT files found.
#[derive(Debug, Clone, PartialEq)]
pub enum FitEntry {
    /// An entry. Several records may stand at one place: a monitoring message has steps, energy and a heart rate.
    Entry(Entry),
    /// A monitoring message whose values are part of the record of another one of the same instant.
    PartOfAnother,
}

impl From<Entry> for FitEntry {
    fn from(entry: Entry) -> Self {
        Self::Entry(entry)
    }
}

/// The state of one file.
struct Reader<'a> {
    options: &'a FileOptions,
    source: Source,
    monitoring_source: Source,
    monitoring: Monitoring,
    instant: Option<Instant>,
    /// The numbers of messages so far.
    records: u64,
    sessions: u64,
    monitorings: u64,
}

/// The monitoring messages of one instant, whose increments are added.
struct Instant {
    time: u32,
    /// Where the first of them stands.
    place: Place,
    heart_rates: Vec<HeartRate>,
}

impl<'a> Reader<'a> {
    fn new(options: &'a FileOptions) -> Self {
        let mut reader = Self {
            options,
            source: Source::default(),
            monitoring_source: Source::default(),
            monitoring: Monitoring::default(),
            instant: None,
            records: 0,
            sessions: 0,
            monitorings: 0,
        };
        reader.name_device(NO_DEVICE);
        reader
    }

    fn name_device(&mut self, device: &str) {
        let name = match &self.options.source {
            Some(source) => source.as_str(),
            None => device,
        };
        self.source = source_name(name);
        // Without a name of its own, the counter of the day would add to what a workout counted.
        self.monitoring_source = source_name(&with_suffix(name, " monitoring"));
    }

    fn read(&mut self, message: &Message<'_>, found: &mut dyn FnMut(FitEntry)) {
        match message.kind() {
            FILE_ID => {
                if let Some(name) = device_name(message) {
                    self.name_device(&name);
                }
            }
            RECORD => {
                let place = Place::new("record", next(&mut self.records));
                found(Entry::of(place, self.record(message)).into());
            }
            SESSION => {
                let place = Place::new("session", next(&mut self.sessions));
                found(Entry::of(place, self.session(message)).into());
            }
            HR => found(Entry::ignored("hr", 1).into()),
            MONITORING_INFO => {
                self.finish_instant(found);
                let options = self.options;
                let zone_offset = |time| options.utc_offset(date_time(i64::from(time)).ok()?);
                self.monitoring.begin(message, zone_offset);
            }
            MONITORING => self.monitoring(message, found),
            _ => {}
        }
    }

    fn record(&self, message: &Message<'_>) -> Result<EntryRecord, NoRecord> {
        let bpm = message.integer(RECORD_HEART_RATE);
        let bpm = bpm.ok_or_else(|| NoRecord::ignored("record without heart rate"))?;
        let time = required_time(message.time.map(i64::from), "timestamp")?;
        let heart_rate = read_heart_rate(bpm)?.ok_or_else(|| NoRecord::ignored(NOT_WORN))?;
        let readings = Readings {
            heart_rate: Some(heart_rate),
            ..Readings::default()
        };
        Ok(self.checked(&self.source, "timestamp", time, None, readings)?)
    }

    fn session(&self, message: &Message<'_>) -> Result<EntryRecord, NoRecord> {
        let is_strides = message
            .integer(SPORT)
            .is_some_and(|sport| STRIDE_SPORTS.contains(&sport));
        let strides = message.integer(TOTAL_CYCLES).filter(|_| is_strides);
        let kcal = message.integer(TOTAL_CALORIES);
        if strides.is_none() && kcal.is_none() {
            return Err(NoRecord::ignored("session without totals"));
        }
        let start = required_time(message.integer(START_TIME), "start_time")?;
        let end = match message.integer(TOTAL_ELAPSED_TIME) {
            Some(milliseconds) => start + TimeDelta::milliseconds(milliseconds),
            None => required_time(message.time.map(i64::from), "timestamp")?,
        };
        let readings = Readings {
            heart_rate: None,
            steps: strides.map(|strides| steps("total_cycles", 2 * strides)).transpose()?,
            calories: kcal.map(|kcal| calories("total_calories", kcal)).transpose()?,
        };
        Ok(self.checked(&self.source, "start_time", start, Some(end), readings)?)
    }

    fn monitoring(&mut self, message: &Message<'_>, found: &mut dyn FnMut(FitEntry)) {
        let place = Place::new("monitoring", next(&mut self.monitorings));
        let time = self.monitoring.time_of(message);
        let time = match required_time(time.map(i64::from), "timestamp") {
            Ok(_) => time.unwrap_or_default(),
            Err(fault) => return found(Entry::refused(place, fault).into()),
        };
        if self.instant.as_ref().is_some_and(|instant| instant.time != time) {
            self.finish_instant(found);
        }
        let bpm = match message.integer(monitoring::HEART_RATE).map(read_heart_rate).transpose() {
            Ok(bpm) => bpm,
            Err(fault) => {
                // Its counters are in the next increment.
                self.monitoring.note_time(time);
                return found(Entry::refused(place, fault).into());
            }
        };
        let has_grown = self.monitoring.add(message, time);
        let heart_rate = bpm.flatten();
        if !has_grown && heart_rate.is_none() {
            let name = if bpm.is_some() {
                NOT_WORN
            } else {
                "monitoring without change"
            };
            return found(Entry::ignored(name, 1).into());
        }
        if let Some(instant) = &mut self.instant {
            instant.heart_rates.extend(heart_rate);
            found(FitEntry::PartOfAnother);
        } else {
            self.instant = Some(Instant {
                time,
                place,
                heart_rates: Vec::from_iter(heart_rate),
            });
        }
    }

    /// Passes on the records of the last instant.
    fn finish_instant(&mut self, found: &mut dyn FnMut(FitEntry)) {
        let Some(instant) = self.instant.take() else { return };
        match self.records_of(&instant) {
            Ok(records) => records.into_iter().for_each(|record| {
                let place = instant.place.clone();
                found(Entry::Record(EntryRecord { place, ..record }).into());
            }),
            Err(fault) => found(Entry::refused(instant.place, fault).into()),
        }
    }

    fn records_of(&self, instant: &Instant) -> Result<Vec<EntryRecord>, Fault> {
        let end = date_time(i64::from(instant.time))?;
        let mut readings: Vec<(DateTime<Utc>, Readings)> = Vec::new();
        if let Some(Increment { count, start }) = self.monitoring.steps_of(instant.time) {
            let steps = Some(steps("cycles", count)?);
            readings.push((
                date_time(start)?,
                Readings {
                    steps,
                    ..Readings::default()
                },
            ));
        }
        if let Some(Increment { count, start }) = self.monitoring.calories_of(instant.time) {
            let (start, calories) = (date_time(start)?, Some(calories("active_calories", count)?));
            let kcal = Readings {
                calories,
                ..Readings::default()
            };
            match readings.last_mut() {
                Some((same, steps)) if *same == start => *steps = steps.merged_with(kcal),
                _ => readings.push((start, kcal)),
            }
        }
        for rate in &instant.heart_rates {
            let heart_rate = Some(*rate);
            readings.push((
                end,
                Readings {
                    heart_rate,
                    ..Readings::default()
                },
            ));
        }
        let record = |(start, readings)| self.checked(&self.monitoring_source, "timestamp", start, Some(end), readings);
        readings.into_iter().map(record).collect()
    }

    /// Returns a record at this time, or from `start` to `end`.
    fn checked(
        &self,
        source: &Source,
        name: &str,
        start: DateTime<Utc>,
        end: Option<DateTime<Utc>>,
        readings: Readings,
    ) -> Result<EntryRecord, Fault> {
        self.options.check_time(name, start)?;
        let end = match end {
            Some(end) => end_of_interval(start, end, None).map_err(|fault| Fault::of_value("the end", &fault))?,
            None => None,
        };
        if let Some(end) = end {
            self.options.check_time("the end", end)?;
        }
        Ok(EntryRecord {
            place: Place::default(),
            user: None,
            timestamp: start,
            end,
            source: source.clone(),
            readings,
        })
    }
}

/// Returns the number and counts on.
fn next(count: &mut u64) -> u64 {
    let number = *count;
    *count += 1;
    number
}

/// Returns the time of a field, given in seconds since 1989-12-31.
fn required_time(seconds: Option<i64>, field: &'static str) -> Result<DateTime<Utc>, Fault> {
    match seconds {
        None => Err(Fault::new(format!("{field} is missing"))),
        Some(seconds) if seconds < TIME_MIN => Err(Fault::with_kind(
            format!("{field} is {seconds} s after the device was switched on: its clock was not set"),
            format!("{field} is of a device whose clock was not set"),
        )),
        Some(seconds) => date_time(seconds),
    }
}

fn date_time(seconds: i64) -> Result<DateTime<Utc>, Fault> {
    DateTime::from_timestamp(EPOCH + seconds, 0).ok_or_else(|| Fault::new("timestamp is out of range"))
}

fn read_heart_rate(bpm: i64) -> Result<Option<HeartRate>, Fault> {
    let bpm = i32::try_from(bpm).map_or(f64::INFINITY, f64::from);
    heart_rate(bpm).map_err(|fault| Fault::of_value("heart_rate", &fault))
}

fn steps(field: &str, count: i64) -> Result<Steps, Fault> {
    Steps::new(count).map_err(|fault| Fault::of_value(field, &fault))
}

fn calories(field: &str, kcal: i64) -> Result<Calories, Fault> {
    let kcal = i32::try_from(kcal).map_or(f64::INFINITY, f64::from);
    Calories::new(kcal).map_err(|fault| Fault::of_value(field, &fault))
}

/// Returns a name with a suffix that is not cut off.
fn with_suffix(name: &str, suffix: &str) -> String {
    let name = source_name(name);
    let cut = name.as_str().floor_char_boundary(Source::BYTES_MAX - suffix.len());
    format!("{}{suffix}", &name.as_str()[..cut])
}

#[cfg(test)]
mod tests;
