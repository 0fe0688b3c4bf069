//! The monitoring messages of a FIT file: counters of a day, from which increments are computed.
//!
//! A device counts steps and active energy from local midnight, with one counter for each type of activity. It reports
//! a counter when it has changed, or about once a minute. No public file has resets or heart rates, so those rules are
//! not verified against a real one.

use std::collections::HashMap;

use super::container::{Message, expand};

/// The fields of a `monitoring` message.
const CYCLES: u8 = 3;
const ACTIVITY_TYPE: u8 = 5;
const ACTIVE_CALORIES: u8 = 19;
const ACTIVITY_TYPE_AND_INTENSITY: u8 = 24;
const TIMESTAMP_16: u8 = 26;
pub(super) const HEART_RATE: u8 = 27;

/// The field of a `monitoring_info` message that has the local time.
const LOCAL_TIMESTAMP: u8 = 0;

/// The types of activity whose cycles are steps: running and walking.
const STEP_TYPES: [i64; 2] = [1, 6];

const DAY_SECONDS: i64 = 86_400;

/// What was added in one instant, and the start of the time in which it was.
///
/// Times are seconds since 1989-12-31.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Increment {
    pub(super) count: i64,
    pub(super) start: i64,
}

/// The counters of a device.
#[derive(Default)]
pub(super) struct Monitoring {
    /// The time of the previous monitoring message, or of `monitoring_info`.
    last_time: Option<u32>,
    /// The local time minus UTC in seconds.
    utc_offset: Option<i64>,
    /// Whether a counter that was not reported yet stood at 0 at the last reset.
    starts_at_zero: bool,
    /// The time of the last reset.
    reset_time: i64,
    steps: Counters,
    calories: Counters,
}

/// The counters of one kind, by type of activity.
#[derive(Default)]
struct Counters {
    values: HashMap<Option<i64>, i64>,
    /// The time of the current message of this kind, and of the last one before that instant.
    current_time: Option<i64>,
    previous_time: Option<i64>,
    /// The increments of the current instant.
    sum: i64,
}

impl Monitoring {
    /// Reads a `monitoring_info` message, which resets all counters.
    ///
    /// `zone_offset` gives the local time minus UTC in seconds if the message has no local time.
    pub(super) fn begin(&mut self, info: &Message<'_>, zone_offset: impl Fn(u32) -> Option<i64>) {
        let Some(time) = info.time else { return };
        let local = info.integer(LOCAL_TIMESTAMP);
        self.utc_offset = local.map(|local| local - i64::from(time)).or_else(|| zone_offset(time));
        let is_midnight = self
            .utc_offset
            .is_some_and(|offset| (i64::from(time) + offset) % DAY_SECONDS == 0);
        self.last_time = Some(time);
        self.reset(i64::from(time), is_midnight);
    }

    /// Returns the time of a monitoring message, or `None` if it cannot be known.
    pub(super) fn time_of(&self, message: &Message<'_>) -> Option<u32> {
        let from_low_bits = || {
            let low = u32::try_from(message.integer(TIMESTAMP_16)?).ok()?;
            Some(expand(self.last_time?, 16, low))
        };
        message.time_of_field().or_else(from_low_bits).or(message.time)
    }

    /// Notes the time of a message whose counters are not read, because it is refused.
    pub(super) fn note_time(&mut self, time: u32) {
        self.last_time = Some(time);
    }

    /// Adds a message. Returns whether a counter has grown.
    pub(super) fn add(&mut self, message: &Message<'_>, time: u32) -> bool {
        self.reset_at_midnight(time);
        self.last_time = Some(time);
        let time = i64::from(time);
        let type_and_intensity = message.integer(ACTIVITY_TYPE_AND_INTENSITY);
        let activity = message
            .integer(ACTIVITY_TYPE)
            .filter(|activity| (0..=0xFF).contains(activity))
            .or_else(|| type_and_intensity.map(|value| value & 0x1F));
        let mut has_grown = false;
        if activity.is_some() {
            self.steps.note(time);
            let is_steps = activity.is_some_and(|activity| STEP_TYPES.contains(&activity));
            if let Some(value) = message.integer(CYCLES).filter(|_| is_steps) {
                has_grown |= self.steps.add(activity, value, self.starts_at_zero);
            }
        }
        if let Some(value) = message.integer(ACTIVE_CALORIES) {
            self.calories.note(time);
            has_grown |= self.calories.add(activity, value, self.starts_at_zero);
        }
        has_grown
    }

    /// Returns the steps that were added in this instant, which is the last one.
    pub(super) fn steps_of(&self, time: u32) -> Option<Increment> {
        self.steps.increment(i64::from(time), self.reset_time)
    }

    /// Returns the active kilocalories that were added in this instant, which is the last one.
    pub(super) fn calories_of(&self, time: u32) -> Option<Increment> {
        self.calories.increment(i64::from(time), self.reset_time)
    }

    /// Resets the counters if local midnight has passed. A message of midnight itself still belongs to the day before
    /// it.
    fn reset_at_midnight(&mut self, time: u32) {
        if let (Some(offset), Some(last)) = (self.utc_offset, self.last_time) {
            let day = |time: u32| (i64::from(time) + offset - 1).div_euclid(DAY_SECONDS);
            if day(time) > day(last) {
                self.reset(day(time) * DAY_SECONDS - offset, true);
            }
        }
    }

    fn reset(&mut self, time: i64, starts_at_zero: bool) {
        self.reset_time = time;
        self.starts_at_zero = starts_at_zero;
        self.steps.values.clear();
        self.calories.values.clear();
    }
}

impl Counters {
    /// Notes the time of a message of this kind.
    fn note(&mut self, time: i64) {
        if self.current_time != Some(time) {
            self.previous_time = self.current_time;
            self.current_time = Some(time);
            self.sum = 0;
        }
    }

    /// Adds what a counter has grown by. Returns whether it has.
    fn add(&mut self, activity: Option<i64>, value: i64, starts_at_zero: bool) -> bool {
        let increment = match self.values.insert(activity, value) {
            Some(last) if value >= last => value - last,
            None if !starts_at_zero => 0,
            Some(_) | None => value,
        };
        self.sum += increment;
        increment > 0
    }

    fn increment(&self, time: i64, reset_time: i64) -> Option<Increment> {
        let has_grown = self.current_time == Some(time) && self.sum > 0;
        has_grown.then(|| Increment {
            count: self.sum,
            start: self
                .previous_time
                .map_or(reset_time, |previous| previous.max(reset_time)),
        })
    }
}
