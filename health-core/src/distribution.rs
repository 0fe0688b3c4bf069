//! How often measured values lay within fixed bounds, for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The most bounds of one distribution.
const BOUNDS_MAX: usize = 14;

/// Counts values by fixed upper bounds. Counting takes three additions and no lock.
#[derive(Debug)]
pub struct Distribution {
    bounds: &'static [u64],
    buckets: [AtomicU64; BOUNDS_MAX],
    count: AtomicU64,
    sum: AtomicU64,
}

/// What a [`Distribution`] has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Distributed {
    /// The upper bounds, ascending.
    pub bounds: &'static [u64],
    /// The number of values of each bound that were above the bound before it.
    buckets: [u64; BOUNDS_MAX],
    /// The number of all values.
    pub count: u64,
    /// The sum of all values.
    pub sum: u64,
}

impl Distribution {
    /// Makes an empty distribution. Of more than 14 bounds, the last ones are left out.
    ///
    /// ```
    /// let rows = health_core::Distribution::new(&[10, 100]);
    /// rows.count(10);
    /// rows.count(500);
    /// let counted = rows.read();
    /// assert_eq!(counted.cumulative().collect::<Vec<_>>(), [(10, 1), (100, 1)]);
    /// assert_eq!((counted.count, counted.sum), (2, 510));
    /// ```
    pub const fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            buckets: [const { AtomicU64::new(0) }; BOUNDS_MAX],
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a value.
    pub fn count(&self, value: u64) {
        let bound = self.bounds.iter().position(|bound| value <= *bound);
        if let Some(bucket) = bound.and_then(|index| self.buckets.get(index)) {
            bucket.fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// Returns what was counted so far.
    pub fn read(&self) -> Distributed {
        Distributed {
            bounds: self.bounds,
            buckets: std::array::from_fn(|index| self.buckets[index].load(Relaxed)),
            count: self.count.load(Relaxed),
            sum: self.sum.load(Relaxed),
        }
    }
}

impl Distributed {
    /// Returns each bound with the number of values up to it, as Prometheus expects.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        self.bounds.iter().copied().zip(counts)
    }
}
