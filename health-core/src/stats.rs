//! What can be said of one person over one range of time.

use serde::{Deserialize, Serialize};

/// Statistics of one user over one half-open range: exact over the stored samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Stored samples in the range.
    pub samples: i64,
    /// Plain mean of all heart-rate readings, beats per minute; none where there is no reading.
    pub average_heart_rate: Option<f64>,
    /// Lowest reading, beats per minute.
    pub min_heart_rate: Option<f64>,
    /// Highest reading, beats per minute.
    pub max_heart_rate: Option<f64>,
    /// Mean weighted by the time each reading stands for, of the source that covers most: until the same source's next
    /// reading or the end of the range (or now), at most [`HOLD_SECONDS`].
    pub time_weighted_heart_rate: Option<f64>,
    /// The sum of those weights over the length of the range up to now: 0 to 1.
    pub heart_rate_coverage: f64,
    /// Steps, with overlapping devices counted once: in each UTC quarter of an hour the source with the most counts.
    pub total_steps: i64,
    /// Kilocalories, chosen likewise.
    pub total_calories: f64,
    /// Each source's own plain sums, by name.
    pub sources: Vec<SourceTotals>,
}

/// The plain sums of one source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceTotals {
    /// The device that measured.
    pub source: String,
    /// Its samples in the range.
    pub samples: i64,
    /// Its steps.
    pub steps: i64,
    /// Its kilocalories.
    pub calories: f64,
}

/// Percentiles of the heart-rate readings of one user over one range.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Percentiles {
    /// How many readings there are.
    pub readings: i64,
    /// Beats per minute, one for each percentile asked for; none where there is no reading.
    pub values: Vec<Option<f64>>,
}

/// How long a heart-rate reading stands for the time behind it, at most: 300 s.
///
/// Watches that save power measure at rest about every five minutes; a longer gap means that it was not worn.
pub const HOLD_SECONDS: i64 = 300;
