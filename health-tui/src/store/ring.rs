//! A ring of the newest samples of one user, packed into sixteen bytes each.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use health_core::Sample;

/// The number of samples that the ring of a user holds: as many as the widest sparkline shows.
///
/// 48 samples of 16 bytes are 768 bytes. The memory budget is 1 kB a user, so a quarter is left for everything else.
pub(crate) const RING_SAMPLES_MAX: usize = 48;

/// The Unix time of 2000-01-01, the origin of the packed seconds. The contract refuses samples before it.
const ORIGIN_UNIX_SECONDS: i64 = 946_684_800;

/// Two samples have a gap between them if they are further apart than this many median intervals.
const GAP_INTERVALS: f64 = 4.0;

/// A packed sample. An absent reading has a value that no sample can have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PackedSample {
    /// Seconds since 2000-01-01.
    seconds: u32,
    /// 1/256 of a second: keeps two samples of the same second apart.
    fraction: u8,
    /// An index into the user's sources.
    pub(crate) source: u8,
    /// Hundredths of a beat per minute. 0 means absent.
    centi_bpm: u16,
    /// `u32::MAX` means absent.
    steps: u32,
    /// Kilocalories. NaN means absent.
    calories: f32,
}

impl PackedSample {
    pub(crate) fn new(sample: &Sample, source: u8) -> Self {
        let at = sample.timestamp();
        let seconds = (at.timestamp() - ORIGIN_UNIX_SECONDS).clamp(0, i64::from(u32::MAX));
        Self {
            seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
            // 1/256 of a second is 3906.25 microseconds.
            fraction: u8::try_from(at.timestamp_subsec_micros() / 3_907).unwrap_or(u8::MAX),
            source,
            centi_bpm: sample.heart_rate().map_or(0, |bpm| to_centi_bpm(bpm.get())),
            steps: sample
                .steps()
                .and_then(|n| u32::try_from(n.get()).ok())
                .unwrap_or(u32::MAX),
            calories: sample.calories().map_or(f32::NAN, |kcal| to_f32(kcal.get())),
        }
    }

    pub(crate) fn timestamp(self) -> DateTime<Utc> {
        let seconds = i64::from(self.seconds) + ORIGIN_UNIX_SECONDS;
        DateTime::from_timestamp(seconds, u32::from(self.fraction) * 3_906_250).unwrap_or_default()
    }

    /// Returns the end of the time that has the same packed form as the timestamp.
    pub(crate) fn timestamp_end(self) -> DateTime<Utc> {
        self.timestamp() + TimeDelta::nanoseconds(3_907_000)
    }

    /// Returns beats per minute.
    pub(crate) fn heart_rate(self) -> Option<f64> {
        (self.centi_bpm > 0).then(|| f64::from(self.centi_bpm) / 100.0)
    }

    pub(crate) fn steps(self) -> Option<f64> {
        (self.steps != u32::MAX).then(|| f64::from(self.steps))
    }

    /// Returns kilocalories.
    pub(crate) fn calories(self) -> Option<f64> {
        (!self.calories.is_nan()).then(|| f64::from(self.calories))
    }

    fn key(self) -> (u32, u8, u8) {
        (self.seconds, self.fraction, self.source)
    }
}

/// The newest [`RING_SAMPLES_MAX`] samples of a user, by timestamp.
#[derive(Clone, Debug, Default)]
pub(crate) struct SampleRing {
    samples: VecDeque<PackedSample>,
}

impl SampleRing {
    /// Inserts a sample by timestamp. A sample with the same timestamp and source is replaced.
    pub(crate) fn insert(&mut self, sample: PackedSample) {
        let newer = self
            .samples
            .iter()
            .rev()
            .take_while(|other| other.key() > sample.key())
            .count();
        let index = self.samples.len() - newer;
        if let Some(same) = index
            .checked_sub(1)
            .and_then(|i| self.samples.get_mut(i))
            .filter(|other| other.key() == sample.key())
        {
            *same = sample;
            return;
        }
        if self.samples.len() == RING_SAMPLES_MAX {
            if index == 0 {
                return; // It is older than every sample in the full ring.
            }
            self.samples.pop_front();
            self.samples.insert(index - 1, sample);
            return;
        }
        if self.samples.len() == self.samples.capacity() {
            // The default growth doubles the capacity, which would exceed the memory budget of a user.
            self.samples.reserve_exact(8);
        }
        self.samples.insert(index, sample);
    }

    pub(crate) fn samples(&self) -> impl DoubleEndedIterator<Item = PackedSample> + ExactSizeIterator {
        self.samples.iter().copied()
    }

    /// Drops the samples for which `is_erased` is true.
    pub(crate) fn forget(&mut self, is_erased: impl Fn(PackedSample) -> bool) {
        self.samples.retain(|sample| !is_erased(*sample));
    }

    /// Returns the memory that the ring has allocated.
    #[cfg(test)]
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.samples.capacity() * size_of::<PackedSample>()
    }

    /// Writes the newest values of one metric to `out`, one per column, oldest first.
    ///
    /// A column is empty if the sample lacks the metric, or if samples are missing at this point.
    pub(crate) fn columns(
        &self,
        width: usize,
        metric: impl Fn(PackedSample) -> Option<f64>,
        out: &mut Vec<Option<f64>>,
    ) {
        out.clear();
        let gap = self.gap();
        let mut newer: Option<PackedSample> = None;
        for sample in self.samples().rev() {
            if let Some(newer) = newer
                && newer.timestamp() - sample.timestamp() > gap
            {
                out.push(None);
            }
            out.push(metric(sample));
            newer = Some(sample);
            if out.len() >= width {
                break;
            }
        }
        out.truncate(width);
        out.reverse();
    }

    /// Returns the interval above which two neighbours have a gap between them.
    fn gap(&self) -> TimeDelta {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return TimeDelta::MAX;
        };
        let mut intervals = [0i64; RING_SAMPLES_MAX];
        let mut count = 0;
        for (a, b) in self.samples.iter().zip(self.samples.iter().skip(1)) {
            intervals[count] = i64::from(b.seconds - a.seconds);
            count += 1;
        }
        if count < 2 || first.seconds == last.seconds {
            return TimeDelta::MAX;
        }
        let median = *intervals[..count].select_nth_unstable(count / 2).1;
        TimeDelta::milliseconds(to_i64(
            f64::from(i32::try_from(median.max(1)).unwrap_or(i32::MAX)) * GAP_INTERVALS * 1_000.0,
        ))
    }
}

/// Converts beats per minute to hundredths.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a heart rate is 20 to 250 by construction: 2 000 to 25 000 hundredths"
)]
fn to_centi_bpm(bpm: f64) -> u16 {
    (bpm * 100.0).round() as u16
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a sparkline of at most 10 000 kcal needs fewer than the 24 bits of an f32"
)]
fn to_f32(kcal: f64) -> f32 {
    kcal as f32
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "at most 2^31 s times a small factor: far inside an i64 of milliseconds"
)]
fn to_i64(ms: f64) -> i64 {
    ms as i64
}

#[cfg(test)]
mod tests {
    use health_core::{HeartRate, Readings, Source, UserId};

    use super::*;

    fn packed(seconds: i64, bpm: f64) -> PackedSample {
        let readings = Readings {
            heart_rate: HeartRate::new(bpm).ok(),
            ..Readings::default()
        };
        let at = DateTime::from_timestamp(1_740_938_400 + seconds, 0).unwrap();
        let sample = Sample::new(UserId::new(1).unwrap(), at, Source::default(), readings).unwrap();
        PackedSample::new(&sample, 0)
    }

    fn values(ring: &SampleRing, width: usize) -> Vec<Option<f64>> {
        let mut out = Vec::new();
        ring.columns(width, PackedSample::heart_rate, &mut out);
        out
    }

    #[test]
    fn a_sample_is_sixteen_bytes() {
        assert_eq!(size_of::<PackedSample>(), 16);
    }

    #[test]
    fn late_samples_are_sorted_in_and_merged_samples_replace_the_old_one() {
        let mut ring = SampleRing::default();
        for (s, bpm) in [(0, 60.0), (16, 64.0), (8, 62.0), (16, 65.5)] {
            ring.insert(packed(s, bpm));
        }
        assert_eq!(values(&ring, 9), [Some(60.0), Some(62.0), Some(65.5)]);
        assert_eq!(values(&ring, 2), [Some(62.0), Some(65.5)]);
    }

    #[test]
    fn a_full_ring_drops_its_oldest_sample() {
        let mut ring = SampleRing::default();
        for s in 0..60 {
            ring.insert(packed(s, 60.0 + f64::from(i32::try_from(s).unwrap())));
        }
        ring.insert(packed(-5, 50.0));
        assert_eq!(ring.samples().len(), RING_SAMPLES_MAX);
        assert_eq!(values(&ring, 1), [Some(119.0)]);
        assert_eq!(ring.samples().next().unwrap().heart_rate(), Some(72.0));
    }

    #[test]
    fn a_gap_is_an_empty_column() {
        let mut ring = SampleRing::default();
        for s in [0, 8, 16, 24, 300, 308] {
            ring.insert(packed(s, 70.0));
        }
        let values = values(&ring, 10);
        assert_eq!(values.len(), 7);
        assert_eq!(values[4], None);
    }
}
