//! All users that the feed or a query has reported.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use health_core::{Alert, AlertThresholds, Calories, Erasure, HeartRate, Sample, Source};

use crate::store::ring::{PackedSample, SampleRing};

/// The number of sources that are remembered for each user. Further sources share the last name.
///
/// Few people wear more than three devices, and the names count against the memory budget of a user.
const SOURCES_MAX: usize = 8;

/// Reads one value of a packed sample.
type ValueOf = fn(PackedSample) -> Option<f64>;

/// A user, with the newest values and the ring of samples.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) ring: SampleRing,
    /// The timestamp of the newest sample.
    pub(crate) newest: DateTime<Utc>,
    /// When the feed last delivered a sample of this user. `None` if only queries did.
    pub(crate) last_received: Option<DateTime<Utc>>,
    /// The newest value of each metric. A sample may lack a metric.
    pub(crate) heart_rate: Option<f64>,
    pub(crate) steps: Option<f64>,
    pub(crate) calories: Option<f64>,
    /// The timestamps of the newest heart rate, steps and calories.
    times: [DateTime<Utc>; 3],
    pub(crate) sources: Vec<Source>,
    pub(crate) pinned: bool,
    /// Whether the older samples were requested from the server.
    pub(crate) history_requested: bool,
}

impl User {
    fn new(id: i64) -> Self {
        Self {
            id,
            ring: SampleRing::default(),
            newest: DateTime::<Utc>::MIN_UTC,
            last_received: None,
            heart_rate: None,
            steps: None,
            calories: None,
            times: [DateTime::<Utc>::MIN_UTC; 3],
            sources: Vec::new(),
            pinned: false,
            history_requested: false,
        }
    }

    pub(crate) fn age(&self, now: DateTime<Utc>) -> TimeDelta {
        now - self.newest
    }

    /// Returns when the user has last given a sign: the timestamp of the newest sample, or its arrival if the clock of
    /// the device is ahead. Otherwise a device that has stopped would seem fresh until its timestamp is past.
    pub(crate) fn last_sign(&self) -> DateTime<Utc> {
        self.not_ahead(self.newest)
    }

    fn not_ahead(&self, timestamp: DateTime<Utc>) -> DateTime<Utc> {
        self.last_received.map_or(timestamp, |received| timestamp.min(received))
    }

    pub(crate) fn is_stale(&self, now: DateTime<Utc>, thresholds: &AlertThresholds) -> bool {
        now - self.last_sign() > thresholds.stale_after()
    }

    /// Returns the age of the newest heart rate, which may be older than the newest sample.
    pub(crate) fn heart_rate_age(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.heart_rate.map(|_| now - self.times[0])
    }

    /// Returns the alert of the newest heart rate. A stale heart rate is no alert: it says nothing about now.
    pub(crate) fn alert(&self, now: DateTime<Utc>, thresholds: &AlertThresholds) -> Option<Alert> {
        let bpm = self.heart_rate?;
        let heart_rate_age = now - self.not_ahead(self.times[0]);
        if heart_rate_age > thresholds.stale_after() {
            return None;
        }
        thresholds.alert(bpm)
    }

    fn add(&mut self, sample: &Sample) {
        let at = sample.timestamp();
        let source = self.source_index(sample.source());
        self.ring.insert(PackedSample::new(sample, source));
        self.newest = self.newest.max(at);
        let values = [
            (&mut self.heart_rate, sample.heart_rate().map(HeartRate::get)),
            (&mut self.steps, sample.steps().map(|v| f64::from(v.get()))),
            (&mut self.calories, sample.calories().map(Calories::get)),
        ];
        for ((newest, value), time) in values.into_iter().zip(&mut self.times) {
            if value.is_some() && at >= *time {
                *newest = value;
                *time = at;
            }
        }
    }

    /// Returns whether nothing is known of the user. Such a user has no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.newest == DateTime::<Utc>::MIN_UTC
    }

    /// Drops what was erased. The newest values become those of the samples that are left. In case of doubt, more is
    /// dropped: the ring keeps times and the names of sources with less precision, and its samples can be requested
    /// again.
    fn forget(&mut self, erasure: &Erasure) {
        let Some(range) = erasure.range() else {
            *self = Self {
                pinned: self.pinned,
                ..Self::new(self.id)
            };
            return;
        };
        let source = erasure.source();
        let index = source.and_then(|source| self.sources.iter().position(|known| known == source));
        let may_share_the_last = self.sources.len() == SOURCES_MAX;
        let is_source = |sample: PackedSample| {
            let at = usize::from(sample.source);
            source.is_none() || index == Some(at) || (may_share_the_last && at == SOURCES_MAX - 1)
        };
        self.ring.forget(|sample| {
            sample.timestamp_end() > range.start() && sample.timestamp() < range.end() && is_source(sample)
        });
        self.history_requested = false;
        let metrics: [(&mut Option<f64>, ValueOf); 3] = [
            (&mut self.heart_rate, PackedSample::heart_rate),
            (&mut self.steps, PackedSample::steps),
            (&mut self.calories, PackedSample::calories),
        ];
        for ((newest, value), time) in metrics.into_iter().zip(&mut self.times) {
            if range.contains(*time) {
                let left = self.ring.samples().rev().find(|sample| value(*sample).is_some());
                *newest = left.and_then(value);
                *time = left.map_or(DateTime::<Utc>::MIN_UTC, PackedSample::timestamp);
            }
        }
        if range.contains(self.newest) {
            let in_ring = self.ring.samples().next_back().map(PackedSample::timestamp);
            let times = self.times.iter().copied().chain(in_ring);
            self.newest = times.max().unwrap_or(DateTime::<Utc>::MIN_UTC);
        }
    }

    fn source_index(&mut self, source: &Source) -> u8 {
        let index = match self.sources.iter().position(|known| known == source) {
            Some(index) => index,
            None if self.sources.len() < SOURCES_MAX => {
                self.sources.reserve_exact(1);
                self.sources.push(source.clone());
                self.sources.len() - 1
            }
            None => SOURCES_MAX - 1,
        };
        u8::try_from(index).unwrap_or(0)
    }
}

/// All users, in the order of arrival, and an index by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Users {
    index: HashMap<i64, u32>,
    all: Vec<User>,
}

impl Users {
    /// Adds a sample from the feed. Returns whether the user is new.
    pub(crate) fn add_from_feed(&mut self, sample: &Sample, now: DateTime<Utc>) -> bool {
        let (user, is_new) = self.entry(sample.user_id().get());
        user.add(sample);
        user.last_received = Some(now);
        is_new
    }

    /// Adds a sample from the response to a query.
    pub(crate) fn add_stored(&mut self, sample: &Sample) {
        let (user, _) = self.entry(sample.user_id().get());
        user.add(sample);
    }

    /// Corrects the times of arrival after the clock was set back: nothing has arrived in the future.
    pub(crate) fn clock_set_back(&mut self, now: DateTime<Utc>) {
        for user in &mut self.all {
            user.last_received = user.last_received.map(|received| received.min(now));
        }
    }

    /// Drops what was erased of a user.
    pub(crate) fn forget(&mut self, erasure: &Erasure) {
        if let Some(user) = self.get_mut(erasure.user_id().get()) {
            user.forget(erasure);
        }
    }

    pub(crate) fn get(&self, id: i64) -> Option<&User> {
        self.index.get(&id).and_then(|i| self.all.get(as_index(*i)))
    }

    pub(crate) fn get_mut(&mut self, id: i64) -> Option<&mut User> {
        self.index.get(&id).and_then(|i| self.all.get_mut(as_index(*i)))
    }

    /// Notes that the older samples of a user are requested. Returns the user's id and newest timestamp.
    pub(crate) fn mark_history_requested(&mut self, index: u32) -> Option<(i64, DateTime<Utc>)> {
        let user = self.all.get_mut(as_index(index))?;
        user.history_requested = true;
        Some((user.id, user.newest))
    }

    /// Allows new requests for older samples. After a gap in the feed, the rings may have gaps too.
    pub(crate) fn reset_history_requested(&mut self) {
        for user in &mut self.all {
            user.history_requested = false;
        }
    }

    /// Returns the position of a user in the order of arrival.
    pub(crate) fn index_of(&self, id: i64) -> Option<u32> {
        self.index.get(&id).copied()
    }

    pub(crate) fn at(&self, index: u32) -> Option<&User> {
        self.all.get(as_index(index))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &User> {
        self.all.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns the user, and whether it is new.
    fn entry(&mut self, id: i64) -> (&mut User, bool) {
        let next = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        let index = *self.index.entry(id).or_insert(next);
        let is_new = index == next;
        if is_new {
            self.all.push(User::new(id));
        }
        (&mut self.all[as_index(index)], is_new)
    }
}

fn as_index(i: u32) -> usize {
    usize::try_from(i).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use health_core::{Readings, Steps, UserId};

    use super::*;

    fn at(s: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_740_938_400 + s, 0).unwrap()
    }

    fn sample(s: i64, bpm: Option<f64>, steps: Option<i64>, source: &str) -> Sample {
        let readings = Readings {
            heart_rate: bpm.and_then(|v| HeartRate::new(v).ok()),
            steps: steps.and_then(|v| Steps::new(v).ok()),
            calories: None,
        };
        let source = Source::new(source).unwrap();
        Sample::new(UserId::new(7).unwrap(), at(s), source, readings).unwrap()
    }

    #[test]
    fn each_metric_keeps_its_newest_value() {
        let mut users = Users::default();
        assert!(users.add_from_feed(&sample(0, Some(70.0), Some(5), "watch"), at(1)));
        assert!(!users.add_from_feed(&sample(8, Some(72.0), None, "watch"), at(9)));
        // A late sample does not change the newest heart rate.
        users.add_from_feed(&sample(4, Some(99.0), Some(9), "phone"), at(10));
        let user = users.get(7).unwrap();
        assert_eq!((user.heart_rate, user.steps), (Some(72.0), Some(9.0)));
        assert_eq!((user.newest, user.last_received), (at(8), Some(at(10))));
        let sources: Vec<&str> = user
            .ring
            .samples()
            .map(|sample| user.sources[usize::from(sample.source)].as_str())
            .collect();
        assert_eq!(sources, ["watch", "phone", "watch"]);
    }

    #[test]
    fn an_alert_ends_when_the_heart_rate_is_stale() {
        let thresholds = AlertThresholds::default();
        let mut users = Users::default();
        users.add_from_feed(&sample(0, Some(160.0), None, ""), at(0));
        let user = users.get(7).unwrap();
        assert_eq!(user.alert(at(1), &thresholds), Some(Alert::High));
        assert!(!user.is_stale(at(120), &thresholds));
        assert_eq!(user.alert(at(121), &thresholds), None);
        assert!(user.is_stale(at(121), &thresholds));
    }

    #[test]
    fn a_device_whose_clock_is_ahead_is_stale_when_it_stops() {
        let (mut users, thresholds) = (Users::default(), AlertThresholds::default());
        users.add_from_feed(&sample(240, Some(170.0), None, "watch"), at(0));
        let user = users.get(7).unwrap();
        assert_eq!(user.age(at(0)), TimeDelta::seconds(-240));
        assert!(!user.is_stale(at(120), &thresholds));
        assert_eq!(user.alert(at(120), &thresholds), Some(Alert::High));
        assert!(user.is_stale(at(121), &thresholds));
        assert_eq!(user.alert(at(121), &thresholds), None);
    }
}
