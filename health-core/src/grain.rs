//! The widths of stored summaries. All times are in microseconds since 1970.

/// The width of a stored summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Grain {
    /// One minute. Stored only for dense slices: reading the samples of a part of such a slice would take too long.
    Minute,
    /// 15 minutes, aligned to UTC.
    ///
    /// The offset of every time zone in use today is a multiple of 15 minutes, so slices divide local days evenly.
    Slice,
    /// One hour. Most zones have offsets of whole hours, so most local days consist of whole hours.
    Hour,
    /// One day in UTC.
    Day,
}

impl Grain {
    /// The grains that are stored for every sample, from the finest to the coarsest.
    pub(crate) const ALWAYS_STORED: [Self; 3] = [Self::Slice, Self::Hour, Self::Day];

    /// Returns the width in minutes. It is the value of the column `health_rollups.minutes`.
    pub(crate) const fn minutes(self) -> i16 {
        match self {
            Self::Minute => 1,
            Self::Slice => 15,
            Self::Hour => 60,
            Self::Day => 1_440,
        }
    }

    /// Returns the width in microseconds.
    pub(crate) const fn micros(self) -> i64 {
        self.minutes() as i64 * 60_000_000
    }

    /// Returns the start of the interval of this width that contains `at`.
    pub(crate) const fn floor(self, at: i64) -> i64 {
        at - at.rem_euclid(self.micros())
    }

    /// Returns the first multiple of this width that is not earlier than `at`.
    pub(crate) const fn ceil(self, at: i64) -> i64 {
        let floor = self.floor(at);
        if floor < at { floor + self.micros() } else { at }
    }

    /// Returns the end of the interval of this width that contains `at`.
    pub(crate) const fn end(self, at: i64) -> i64 {
        self.floor(at) + self.micros()
    }
}
