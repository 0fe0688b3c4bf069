//! The rows that are loaded, in each form they are needed in.

use std::{fmt::Write, ops::Range};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use health_core::format_timestamp;

/// `count` rows of `users` users, in the order of time.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) users: usize,
    pub(crate) count: usize,
    pub(crate) start: DateTime<Utc>,
    /// What lies between two rows of a user.
    pub(crate) every: TimeDelta,
}

/// Which values the rows carry.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Values {
    First,
    Other,
}

const START: DateTime<Utc> = match DateTime::from_timestamp(1_740_916_800, 0) {
    Some(start) => start,
    None => DateTime::UNIX_EPOCH,
};

impl Rows {
    /// One a second for each user, long ago.
    pub(crate) fn new(users: usize, count: usize) -> Self {
        Self {
            users,
            count,
            start: START,
            every: TimeDelta::seconds(1),
        }
    }

    /// The same, such that the last are of this moment.
    pub(crate) fn until_now(mut self) -> Self {
        self.start = Utc::now() - self.every * i32::try_from(self.count / self.users).unwrap_or(i32::MAX);
        self
    }

    pub(crate) fn csv(self) -> String {
        let mut csv = String::with_capacity(self.count * 48);
        for place in 0..self.count {
            let (user, time, rate) = (self.user(place), self.time(place), heart_rate(place, Values::First));
            // Writing to a string cannot fail.
            let _ = writeln!(csv, "{user},{time},{rate},{},0.25,", place % 5);
        }
        csv
    }

    /// The rows as NDJSON, split between so many requests by user.
    pub(crate) fn bodies(self, requests: usize, values: Values) -> Vec<Bytes> {
        let mut bodies = vec![Vec::new(); requests];
        for place in 0..self.count {
            bodies[self.user(place) % requests].extend_from_slice(self.line(place, values).as_bytes());
        }
        bodies.into_iter().map(Bytes::from).collect()
    }

    /// Some rows of one user as NDJSON.
    pub(crate) fn of_user(self, user: usize, moments: Range<usize>) -> Bytes {
        let lines = moments.map(|moment| self.line(moment * self.users + user, Values::First));
        lines.collect::<String>().into()
    }

    pub(crate) fn line(self, place: usize, values: Values) -> String {
        let (user, time, rate) = (self.user(place), self.time(place), heart_rate(place, values));
        format!(
            "{{\"user_id\":{user},\"timestamp\":\"{time}\",\"heart_rate\":{rate},\"steps\":{},\"calories\":0.25}}\n",
            place % 5
        )
    }

    fn user(self, place: usize) -> usize {
        place % self.users + 1
    }

    fn time(self, place: usize) -> String {
        let moment = i32::try_from(place / self.users).unwrap_or(0);
        format_timestamp(self.start + self.every * moment)
    }
}

fn heart_rate(place: usize, values: Values) -> usize {
    60 + place * 7 % 60 + usize::from(values == Values::Other)
}
