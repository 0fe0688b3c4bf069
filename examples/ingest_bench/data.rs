//! The rows that are loaded, in each form they are needed in.

use std::fmt::Write;

use chrono::{DateTime, TimeDelta, Utc};
use health_core::format_timestamp;

/// `count` rows of `users` users, one a second each, in the order of time.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) users: usize,
    pub(crate) count: usize,
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
    pub(crate) fn bodies(self, requests: usize, values: Values) -> Vec<Vec<u8>> {
        let mut bodies = vec![Vec::new(); requests];
        for place in 0..self.count {
            bodies[self.user(place) % requests].extend_from_slice(self.line(place, values).as_bytes());
        }
        bodies
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
        let second = i64::try_from(place / self.users).unwrap_or(0);
        format_timestamp(START + TimeDelta::seconds(second))
    }
}

fn heart_rate(place: usize, values: Values) -> usize {
    60 + place * 7 % 60 + usize::from(values == Values::Other)
}
