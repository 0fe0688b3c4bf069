//! The statistics of one user over one range of time.

use serde::{Deserialize, Serialize};

/// Statistics of one user over one half-open range of time, exact over the stored samples.
///
/// `Health::stats` returns them for a whole range, `Health::series`
/// for each bucket. Without samples all counts and totals are 0 and all heart rates are `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Number of stored samples in the range.
    pub samples: i64,
    /// Arithmetic mean of all heart-rate readings, in beats per minute.
    pub average_heart_rate: Option<f64>,
    /// Lowest heart-rate reading, in beats per minute.
    pub min_heart_rate: Option<f64>,
    /// Highest heart-rate reading, in beats per minute.
    pub max_heart_rate: Option<f64>,
    /// Time-weighted mean heart rate, in beats per minute, of the source that covers the most time.
    ///
    /// The weight of a reading is the time until the same source's next reading or the end of the range, at most
    /// [`READING_WEIGHT_SECONDS_MAX`]. Time after the present moment has no weight. If several sources cover the same
    /// time, the first by name counts. These rules are this product's convention; no standard defines them.
    pub time_weighted_heart_rate: Option<f64>,
    /// Sum of those weights divided by the elapsed length of the range, from 0 to 1.
    pub heart_rate_coverage: f64,
    /// Total of steps. Devices that count the same steps are counted once.
    ///
    /// In each slice (15 minutes, aligned to UTC) only the source with the most steps counts, and of equal sources the
    /// first by name. This rule is this product's convention.
    ///
    /// In a bucket of a series, the winning source of a slice is that of the whole range. So the buckets add up to the
    /// total of the range.
    pub total_steps: i64,
    /// Total of kilocalories, by the same rule: in each slice only the source with the most kilocalories counts.
    pub total_calories: f64,
}

/// Statistics of a range, together with the totals of each source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RangeStats {
    /// The statistics of all sources together.
    pub overall: Stats,
    /// The totals of each source, ordered by its name (UTF-8 byte order).
    pub sources: Vec<SourceTotals>,
}

/// The plain sums of one source, without regard to other sources.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceTotals {
    /// Name of the device; empty if the samples named none.
    pub source: String,
    /// Number of its samples in the range.
    pub samples: i64,
    /// Sum of its steps.
    pub steps: i64,
    /// Sum of its kilocalories.
    pub calories: f64,
}

/// Percentiles of the heart-rate readings of one user over one range.
///
/// Each value is the nearest-rank percentile (Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996,
/// definition 1) of the readings, rounded to whole beats per minute.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Percentiles {
    /// Number of heart-rate readings.
    pub readings: i64,
    /// Beats per minute, one value for each requested percentile; `None` if there are no readings.
    pub values: Vec<Option<f64>>,
}

/// The longest time that one heart-rate reading is weighted, in seconds: 5 minutes.
///
/// The value is this product's convention. Watches that save power measure a resting wearer about every five minutes.
/// After a longer gap the device was probably not worn.
pub const READING_WEIGHT_SECONDS_MAX: i64 = 300;

/// The length of a slice in seconds: 15 minutes.
///
/// Slices are aligned to UTC: a slice begins at every Unix time that is a multiple of this length. The offset of every
/// time zone in use today is a multiple of 15 minutes, so slices divide local days evenly.
pub const SLICE_SECONDS: i64 = 900;

/// Returns the source with the largest total; of sources with equal totals the first by name.
///
/// This is the rule for the winning source of a slice: of several devices that count the same steps (or the same
/// kilocalories), only the one with the most is counted. The rule is this product's convention. Returns `None` if there
/// are no sources.
///
/// ```
/// use health_core::winning_source;
///
/// assert_eq!(winning_source([("phone", 100), ("watch", 110)]), Some("watch"));
/// assert_eq!(winning_source([("watch", 100), ("phone", 100)]), Some("phone"));
/// assert_eq!(winning_source::<&str, f64>([]), None);
/// ```
pub fn winning_source<S: Ord, T: PartialOrd>(totals: impl IntoIterator<Item = (S, T)>) -> Option<S> {
    totals
        .into_iter()
        .reduce(|best, next| {
            let wins = next.1 > best.1 || (next.1 == best.1 && next.0 < best.0);
            if wins { next } else { best }
        })
        .map(|(source, _)| source)
}
