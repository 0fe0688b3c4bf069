//! Everyone the feed or the server has told of.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use health_core::{Calories, HeartRate, Sample, Source};
use serde::Deserialize;

use crate::store::series::{Entry, Ring};

/// Sources remembered by name for each user; a ninth shares the last place.
const SOURCES_MAX: usize = 8;

/// When a value deserves attention.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Beats per minute from which on a heart rate is high.
    pub(crate) high: f64,
    /// Beats per minute below which it is low.
    pub(crate) low: f64,
    /// Seconds after which a user without a newer sample is stale.
    pub(crate) stale_s: u32,
}

impl Default for Limits {
    /// 150 is above what walking does to most adults, 40 below a resting rate outside endurance sport; both are for
    /// drawing the eye, not for diagnosis.
    fn default() -> Self {
        Self {
            high: 150.0,
            low: 40.0,
            stale_s: 120,
        }
    }
}

impl Limits {
    pub(crate) fn stale(&self) -> TimeDelta {
        TimeDelta::seconds(i64::from(self.stale_s))
    }
}

/// Why a user's row asks for attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alert {
    Low,
    High,
}

/// One user.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) ring: Ring,
    /// The time of the newest sample.
    pub(crate) newest: DateTime<Utc>,
    /// When the feed last told of this user; none where only a list did.
    pub(crate) heard: Option<DateTime<Utc>>,
    /// The newest value of each metric, and the times that make them the newest.
    pub(crate) heart_rate: Option<f64>,
    pub(crate) steps: Option<f64>,
    pub(crate) calories: Option<f64>,
    times: [DateTime<Utc>; 3],
    pub(crate) sources: Vec<Source>,
    /// Samples the feed brought.
    pub(crate) seen: u64,
    pub(crate) pinned: bool,
    /// The server was asked what came before.
    pub(crate) past: bool,
}

impl User {
    fn new(id: i64) -> Self {
        Self {
            id,
            ring: Ring::default(),
            newest: DateTime::<Utc>::MIN_UTC,
            heard: None,
            heart_rate: None,
            steps: None,
            calories: None,
            times: [DateTime::<Utc>::MIN_UTC; 3],
            sources: Vec::new(),
            seen: 0,
            pinned: false,
            past: false,
        }
    }

    pub(crate) fn age(&self, now: DateTime<Utc>) -> TimeDelta {
        now - self.newest
    }

    pub(crate) fn is_stale(&self, now: DateTime<Utc>, limits: &Limits) -> bool {
        self.age(now) > limits.stale()
    }

    /// What the newest heart rate asks for. A stale one asks for nothing: it says nothing about now.
    pub(crate) fn alert(&self, now: DateTime<Utc>, limits: &Limits) -> Option<Alert> {
        let bpm = self.heart_rate?;
        if now - self.times[0] > limits.stale() {
            return None;
        }
        if bpm >= limits.high {
            Some(Alert::High)
        } else if bpm < limits.low {
            Some(Alert::Low)
        } else {
            None
        }
    }

    fn take(&mut self, sample: &Sample) {
        let at = sample.timestamp();
        let source = self.source_index(sample.source());
        self.ring.push(Entry::new(sample, source));
        self.newest = self.newest.max(at);
        let values = [
            (&mut self.heart_rate, sample.heart_rate().map(HeartRate::get)),
            (&mut self.steps, sample.steps().map(|v| f64::from(v.get()))),
            (&mut self.calories, sample.calories().map(Calories::get)),
        ];
        for ((slot, value), time) in values.into_iter().zip(&mut self.times) {
            if value.is_some() && at >= *time {
                *slot = value;
                *time = at;
            }
        }
    }

    fn source_index(&mut self, source: &Source) -> u8 {
        let at = match self.sources.iter().position(|s| s == source) {
            Some(at) => at,
            None if self.sources.len() < SOURCES_MAX => {
                self.sources.reserve_exact(1);
                self.sources.push(source.clone());
                self.sources.len() - 1
            }
            None => SOURCES_MAX - 1,
        };
        u8::try_from(at).unwrap_or(0)
    }
}

/// All users, found by id, kept in the order they were first heard of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Users {
    index: HashMap<i64, u32>,
    all: Vec<User>,
}

impl Users {
    /// A sample from the feed. True where the user is new.
    pub(crate) fn hear(&mut self, sample: &Sample, now: DateTime<Utc>) -> bool {
        let (user, new) = self.entry(sample.user_id().get());
        user.take(sample);
        user.heard = Some(now);
        user.seen += 1;
        new
    }

    /// A sample the server had already. True where the user is new.
    pub(crate) fn learn(&mut self, sample: &Sample) -> bool {
        let (user, new) = self.entry(sample.user_id().get());
        user.take(sample);
        new
    }

    pub(crate) fn get(&self, id: i64) -> Option<&User> {
        self.index.get(&id).and_then(|i| self.all.get(as_index(*i)))
    }

    pub(crate) fn get_mut(&mut self, id: i64) -> Option<&mut User> {
        self.index.get(&id).and_then(|i| self.all.get_mut(as_index(*i)))
    }

    /// Notes that the server is asked for the past of the user at `index`. Gives the id and the time of the newest sample.
    pub(crate) fn ask_past(&mut self, index: u32) -> Option<(i64, DateTime<Utc>)> {
        let user = self.all.get_mut(as_index(index))?;
        user.past = true;
        Some((user.id, user.newest))
    }

    /// The feed has a hole: what is remembered may have one too.
    pub(crate) fn forget_past(&mut self) {
        for user in &mut self.all {
            user.past = false;
        }
    }

    /// How many were heard of before this one.
    pub(crate) fn place_of(&self, id: i64) -> Option<u32> {
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

    fn entry(&mut self, id: i64) -> (&mut User, bool) {
        let next = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        let at = *self.index.entry(id).or_insert(next);
        let new = at == next;
        if new {
            self.all.push(User::new(id));
        }
        (&mut self.all[as_index(at)], new)
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
    fn the_newest_value_of_each_metric_stays() {
        let mut users = Users::default();
        assert!(users.hear(&sample(0, Some(70.0), Some(5), "watch"), at(1)));
        assert!(!users.hear(&sample(8, Some(72.0), None, "watch"), at(9)));
        // A late one changes no newest value.
        users.hear(&sample(4, Some(99.0), Some(9), "phone"), at(10));
        let user = users.get(7).unwrap();
        assert_eq!((user.heart_rate, user.steps), (Some(72.0), Some(9.0)));
        assert_eq!((user.newest, user.heard, user.seen), (at(8), Some(at(10)), 3));
        let sources: Vec<&str> = user
            .ring
            .entries()
            .map(|e| user.sources[usize::from(e.source)].as_str())
            .collect();
        assert_eq!(sources, ["watch", "phone", "watch"]);
    }

    #[test]
    fn alerts_end_when_the_value_is_stale() {
        let limits = Limits::default();
        let mut users = Users::default();
        users.hear(&sample(0, Some(160.0), None, ""), at(0));
        let user = users.get(7).unwrap();
        assert_eq!(user.alert(at(1), &limits), Some(Alert::High));
        assert!(!user.is_stale(at(120), &limits));
        assert_eq!(user.alert(at(121), &limits), None);
        assert!(user.is_stale(at(121), &limits));
    }
}
