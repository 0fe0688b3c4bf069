//! What must be stored, computed from the documented rules alone: this file shares no code with the product.

use std::{collections::BTreeMap, fmt::Write};

/// The identity of a sample: its user, its second of 2025-03-02, and its source.
pub(crate) type Identity = (i64, i64, &'static str);

/// The values of a sample. The tests use numbers that `double precision` stores exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Values {
    pub(crate) heart_rate: Option<f64>,
    pub(crate) steps: Option<i32>,
    pub(crate) calories: Option<f64>,
}

/// The counts of an ingest response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) inserted: u64,
    pub(crate) updated: u64,
    pub(crate) unchanged: u64,
}

/// The samples that must be stored.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) samples: BTreeMap<Identity, Values>,
}

impl Values {
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Merges field by field: the newer value wins, and an absent one keeps the older value.
    fn merged_with(self, newer: Self) -> Self {
        Self {
            heart_rate: newer.heart_rate.or(self.heart_rate),
            steps: newer.steps.or(self.steps),
            calories: newer.calories.or(self.calories),
        }
    }

    /// Returns the JSON record of a sample, without its absent fields.
    pub(crate) fn to_record(self, (user, second, source): Identity) -> String {
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

impl Counts {
    pub(crate) fn accepted(self) -> u64 {
        self.inserted + self.updated + self.unchanged
    }
}

impl Model {
    /// Stores the samples of a request one by one, and returns the counts that its response must have.
    pub(crate) fn ingest(&mut self, samples: &[(Identity, Values)]) -> Counts {
        let mut counts = Counts::default();
        for (identity, values) in samples {
            match self.samples.get_mut(identity) {
                None => {
                    self.samples.insert(*identity, *values);
                    counts.inserted += 1;
                }
                Some(stored) => {
                    let merged = stored.merged_with(*values);
                    if merged == *stored {
                        counts.unchanged += 1;
                    } else {
                        *stored = merged;
                        counts.updated += 1;
                    }
                }
            }
        }
        counts
    }
}
