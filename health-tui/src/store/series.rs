//! The newest readings of one user, packed: sixteen bytes a sample.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use health_core::Sample;

/// Samples remembered for each user: what a sparkline of the widest table can show. 48 of 16 bytes are 768 bytes a user,
/// which leaves a quarter of the kilobyte a user may cost for everything else.
pub(crate) const RING_SAMPLES_MAX: usize = 48;

/// Where the packed seconds begin: the contract refuses samples before 2000-01-01.
const EPOCH_SECONDS: i64 = 946_684_800;

/// Two samples further apart than this many usual steps have a gap between them.
const GAP_STEPS: f64 = 4.0;

/// One sample, packed. Absent readings are the values no sample can have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Seconds since 2000-01-01.
    seconds: u32,
    /// 1/256 of a second: two samples of one second stay apart.
    fraction: u8,
    /// Which of the user's sources.
    pub(crate) source: u8,
    /// Hundredths of a beat per minute; 0 is absent.
    centibeats: u16,
    /// `u32::MAX` is absent.
    steps: u32,
    /// NaN is absent.
    calories: f32,
}

impl Entry {
    pub(crate) fn new(sample: &Sample, source: u8) -> Self {
        let at = sample.timestamp();
        let seconds = (at.timestamp() - EPOCH_SECONDS).clamp(0, i64::from(u32::MAX));
        Self {
            seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
            fraction: u8::try_from(at.timestamp_subsec_micros() / 3_907).unwrap_or(u8::MAX),
            source,
            centibeats: sample.heart_rate().map_or(0, |bpm| centi(bpm.get())),
            steps: sample
                .steps()
                .and_then(|n| u32::try_from(n.get()).ok())
                .unwrap_or(u32::MAX),
            calories: sample.calories().map_or(f32::NAN, |kcal| narrow(kcal.get())),
        }
    }

    pub(crate) fn at(self) -> DateTime<Utc> {
        let seconds = i64::from(self.seconds) + EPOCH_SECONDS;
        DateTime::from_timestamp(seconds, u32::from(self.fraction) * 3_906_250).unwrap_or_default()
    }

    /// Beats per minute.
    pub(crate) fn heart_rate(self) -> Option<f64> {
        (self.centibeats > 0).then(|| f64::from(self.centibeats) / 100.0)
    }

    pub(crate) fn steps(self) -> Option<f64> {
        (self.steps != u32::MAX).then(|| f64::from(self.steps))
    }

    /// Kilocalories.
    pub(crate) fn calories(self) -> Option<f64> {
        (!self.calories.is_nan()).then(|| f64::from(self.calories))
    }

    fn key(self) -> (u32, u8, u8) {
        (self.seconds, self.fraction, self.source)
    }
}

/// The newest [`RING_SAMPLES_MAX`] samples in the order of their own time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ring {
    entries: VecDeque<Entry>,
}

impl Ring {
    /// Puts a sample in its place. One of the same instant and source takes the place of the older write.
    pub(crate) fn push(&mut self, entry: Entry) {
        let behind = self.entries.iter().rev().take_while(|e| e.key() > entry.key()).count();
        let at = self.entries.len() - behind;
        if let Some(same) = at
            .checked_sub(1)
            .and_then(|i| self.entries.get_mut(i))
            .filter(|e| e.key() == entry.key())
        {
            *same = entry;
            return;
        }
        if self.entries.len() == RING_SAMPLES_MAX {
            if at == 0 {
                return; // Older than all that is remembered.
            }
            self.entries.pop_front();
            self.entries.insert(at - 1, entry);
            return;
        }
        if self.entries.len() == self.entries.capacity() {
            // Grown by hand: doubling would overshoot the kilobyte, and most users of a large table are never full.
            self.entries.reserve_exact(8);
        }
        self.entries.insert(at, entry);
    }

    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = Entry> + ExactSizeIterator {
        self.entries.iter().copied()
    }

    /// What the ring takes of the memory.
    #[cfg(test)]
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The newest values of one metric, one a column, oldest first; an empty column where a sample lacks the metric, and
    /// one where samples are missing.
    pub(crate) fn columns(&self, width: usize, metric: impl Fn(Entry) -> Option<f64>, out: &mut Vec<Option<f64>>) {
        out.clear();
        let gap = self.gap();
        let mut newer: Option<Entry> = None;
        for entry in self.entries().rev() {
            if let Some(newer) = newer
                && newer.at() - entry.at() > gap
            {
                out.push(None);
            }
            out.push(metric(entry));
            newer = Some(entry);
            if out.len() >= width {
                break;
            }
        }
        out.truncate(width);
        out.reverse();
    }

    /// The distance from which on two neighbours have a gap between them.
    fn gap(&self) -> TimeDelta {
        let (Some(first), Some(last)) = (self.entries.front(), self.entries.back()) else {
            return TimeDelta::MAX;
        };
        let mut steps = [0i64; RING_SAMPLES_MAX];
        let mut n = 0;
        for (a, b) in self.entries.iter().zip(self.entries.iter().skip(1)) {
            steps[n] = i64::from(b.seconds - a.seconds);
            n += 1;
        }
        if n < 2 || first.seconds == last.seconds {
            return TimeDelta::MAX;
        }
        let middle = *steps[..n].select_nth_unstable(n / 2).1;
        TimeDelta::milliseconds(whole(
            f64::from(i32::try_from(middle.max(1)).unwrap_or(i32::MAX)) * GAP_STEPS * 1_000.0,
        ))
    }
}

/// Hundredths, for 20 to 250 beats per minute.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a heart rate is 20 to 250 by construction: 2 000 to 25 000 hundredths"
)]
fn centi(bpm: f64) -> u16 {
    (bpm * 100.0).round() as u16
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a sparkline of at most 10 000 kcal needs no more than the 24 bits of an f32"
)]
fn narrow(kcal: f64) -> f32 {
    kcal as f32
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "at most 2^31 s times a small factor: far inside an i64 of milliseconds"
)]
fn whole(ms: f64) -> i64 {
    ms as i64
}

#[cfg(test)]
mod tests {
    use health_core::{HeartRate, Readings, Source, UserId};

    use super::*;

    fn entry(seconds: i64, bpm: f64) -> Entry {
        let readings = Readings {
            heart_rate: HeartRate::new(bpm).ok(),
            ..Readings::default()
        };
        let at = DateTime::from_timestamp(1_740_938_400 + seconds, 0).unwrap();
        let sample = Sample::new(UserId::new(1).unwrap(), at, Source::default(), readings).unwrap();
        Entry::new(&sample, 0)
    }

    fn values(ring: &Ring, width: usize) -> Vec<Option<f64>> {
        let mut out = Vec::new();
        ring.columns(width, Entry::heart_rate, &mut out);
        out
    }

    #[test]
    fn a_sample_is_sixteen_bytes() {
        assert_eq!(size_of::<Entry>(), 16);
    }

    #[test]
    fn late_samples_find_their_place_and_merges_take_the_old_one() {
        let mut ring = Ring::default();
        for (s, bpm) in [(0, 60.0), (16, 64.0), (8, 62.0), (16, 65.5)] {
            ring.push(entry(s, bpm));
        }
        assert_eq!(values(&ring, 9), [Some(60.0), Some(62.0), Some(65.5)]);
        assert_eq!(values(&ring, 2), [Some(62.0), Some(65.5)]);
    }

    #[test]
    fn the_oldest_goes_when_it_is_full() {
        let mut ring = Ring::default();
        for s in 0..60 {
            ring.push(entry(s, 60.0 + f64::from(i32::try_from(s).unwrap())));
        }
        ring.push(entry(-5, 50.0));
        assert_eq!(ring.len(), RING_SAMPLES_MAX);
        assert_eq!(values(&ring, 1), [Some(119.0)]);
        assert_eq!(ring.entries().next().unwrap().heart_rate(), Some(72.0));
    }

    #[test]
    fn gaps_are_gaps() {
        let mut ring = Ring::default();
        for s in [0, 8, 16, 24, 300, 308] {
            ring.push(entry(s, 70.0));
        }
        let v = values(&ring, 10);
        assert_eq!(v.len(), 7);
        assert_eq!(v[4], None);
    }
}
