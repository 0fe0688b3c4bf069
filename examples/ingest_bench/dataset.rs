//! The samples that are loaded, in each form that a measurement needs.

use std::{fmt::Write, ops::Range};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use health_core::format_timestamp;

/// `count` samples of `users` users, ordered by time.
#[derive(Clone, Copy)]
pub(crate) struct Dataset {
    pub(crate) users: usize,
    pub(crate) count: usize,
    pub(crate) start: DateTime<Utc>,
    /// The time between two samples of a user.
    pub(crate) interval: TimeDelta,
}

/// The heart rates of a dataset: those of the first upload, or others that replace them.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum HeartRates {
    Original,
    Corrected,
}

/// 2025-03-02T12:00:00Z: long enough ago that every slice is sealed soon.
const START: DateTime<Utc> = match DateTime::from_timestamp(1_740_916_800, 0) {
    Some(start) => start,
    None => DateTime::UNIX_EPOCH,
};

impl Dataset {
    /// Creates a dataset of the past, with a sample of each user every second.
    pub(crate) fn new(users: usize, count: usize) -> Self {
        Self {
            users,
            count,
            start: START,
            interval: TimeDelta::seconds(1),
        }
    }

    /// Moves the dataset in time, so that it ends now.
    pub(crate) fn until_now(mut self) -> Self {
        self.start = Utc::now() - self.interval * i32::try_from(self.count / self.users).unwrap_or(i32::MAX);
        self
    }

    /// Returns all samples as CSV in the order of the table's columns.
    pub(crate) fn csv(self) -> String {
        let mut csv = String::with_capacity(self.count * 48);
        for index in 0..self.count {
            let (user, time) = (self.user(index), self.time(index));
            let rate = heart_rate(index, HeartRates::Original);
            // Writing to a string cannot fail.
            let _ = writeln!(csv, "{user},{time},{rate},{},0.25,", steps(index));
        }
        csv
    }

    /// Returns all samples as NDJSON, divided into this many bodies by user.
    pub(crate) fn bodies(self, bodies: usize, heart_rates: HeartRates) -> Vec<Bytes> {
        let mut texts = vec![String::new(); bodies];
        for index in 0..self.count {
            texts[self.user(index) % bodies].push_str(&self.record(index, heart_rates));
        }
        texts.into_iter().map(Bytes::from).collect()
    }

    /// Returns some samples of one user as NDJSON. `range` counts the samples of that user.
    pub(crate) fn body_of_user(self, user: usize, range: Range<usize>) -> Bytes {
        let records = range.map(|number| self.record(number * self.users + user, HeartRates::Original));
        records.collect::<String>().into()
    }

    /// Returns one sample as a line of NDJSON.
    pub(crate) fn record(self, index: usize, heart_rates: HeartRates) -> String {
        let (user, time, rate) = (self.user(index), self.time(index), heart_rate(index, heart_rates));
        let steps = steps(index);
        format!(
            "{{\"user_id\":{user},\"timestamp\":\"{time}\",\"heart_rate\":{rate},\"steps\":{steps},\"calories\":0.25}}\n"
        )
    }

    fn user(self, index: usize) -> usize {
        index % self.users + 1
    }

    fn time(self, index: usize) -> String {
        let number = i32::try_from(index / self.users).unwrap_or(0);
        format_timestamp(self.start + self.interval * number)
    }
}

fn heart_rate(index: usize, heart_rates: HeartRates) -> usize {
    60 + index * 7 % 60 + usize::from(heart_rates == HeartRates::Corrected)
}

fn steps(index: usize) -> usize {
    index % 5
}
