//! What has to be in the table, by the words of the contract.

use std::{collections::BTreeMap, fmt::Write};

/// Who, when (a second of a day) and by which device.
pub(crate) type Key = (i64, i64, &'static str);

/// What was measured. Values that a `double precision` gives back as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) heart_rate: Option<f64>,
    pub(crate) steps: Option<i32>,
    pub(crate) calories: Option<f64>,
}

/// What the contract lets an answer count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) inserted: u64,
    pub(crate) updated: u64,
    pub(crate) unchanged: u64,
}

/// The samples of one client's users.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) rows: BTreeMap<Key, Row>,
}

impl Row {
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn merged_with(self, newer: Self) -> Self {
        Self {
            heart_rate: newer.heart_rate.or(self.heart_rate),
            steps: newer.steps.or(self.steps),
            calories: newer.calories.or(self.calories),
        }
    }

    /// As JSON, absent fields left out.
    pub(crate) fn record(self, (user, second, source): Key) -> String {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let mut json = format!(
            r#"{{"user_id":{user},"timestamp":"2025-03-02T{hour:02}:{minute:02}:{second:02}Z","source":"{source}""#
        );
        let numbers = [
            ("heart_rate", self.heart_rate.map(|rate| rate.to_string())),
            ("steps", self.steps.map(|steps| steps.to_string())),
            ("calories", self.calories.map(|kcal| kcal.to_string())),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                write!(json, r#","{name}":{number}"#).unwrap();
            }
        }
        json + "}"
    }
}

impl Verdict {
    pub(crate) fn accepted(self) -> u64 {
        self.inserted + self.updated + self.unchanged
    }
}

impl Model {
    /// Takes a request's records one by one, and counts what becomes of each.
    pub(crate) fn take(&mut self, records: &[(Key, Row)]) -> Verdict {
        let mut verdict = Verdict::default();
        for (key, row) in records {
            match self.rows.get_mut(key) {
                None => {
                    self.rows.insert(*key, *row);
                    verdict.inserted += 1;
                }
                Some(held) => {
                    let after = held.merged_with(*row);
                    if after == *held {
                        verdict.unchanged += 1;
                    } else {
                        *held = after;
                        verdict.updated += 1;
                    }
                }
            }
        }
        verdict
    }
}
