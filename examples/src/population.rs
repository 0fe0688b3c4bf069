//! The people of a simulation, and the samples of all of them in a range of time.

use std::{str::FromStr, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use health_core::{Sample, UserId, flags::parse_time_delta};

use crate::person::{DayCache, Person};

/// The ids of the first two people, as in the examples of the documentation.
const FIRST_IDS: [i64; 2] = [101, 202];

/// The id of the third person. Later people have the following ids.
const THIRD_ID: i64 = 1_001;

/// The time between two samples of one watch, from 10 ms to an hour. It is written like `8s` or `5m`.
///
/// ```
/// let interval: examples::Interval = "8s".parse()?;
/// assert!("0s".parse::<examples::Interval>().is_err());
/// # Ok::<(), examples::InvalidInterval>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(TimeDelta);

/// The reason why a text is not an [`Interval`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write an interval between 10ms and 1h, like 500ms, 8s or 5m")]
pub struct InvalidInterval;

/// People whose watches send samples at the same interval, each watch at its own phase.
///
/// The phases and the samples depend only on the seed. The samples of a range are therefore always the same, and
/// posting them again changes nothing on the server.
#[derive(Debug, Clone)]
pub struct Population {
    people: Arc<[Person]>,
    interval: TimeDelta,
}

impl Population {
    /// Creates `people` people: 101 and 202, then 1001 and so on.
    pub fn new(seed: u64, people: u32, interval: Interval) -> Self {
        let ids = FIRST_IDS.into_iter().chain(THIRD_ID..).zip(0..people);
        let users = ids.filter_map(|(id, _)| UserId::new(id).ok());
        Self {
            people: users.map(|user| Person::new(seed, user)).collect(),
            interval: interval.0,
        }
    }

    /// Returns the ids of the people.
    pub fn users(&self) -> impl ExactSizeIterator<Item = UserId> {
        self.people.iter().map(Person::user)
    }

    /// Returns the time between two samples of one watch.
    pub fn interval(&self) -> TimeDelta {
        self.interval
    }

    /// Returns how many samples the range `[from, to)` has if every watch is worn all the time.
    pub fn samples_max(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> u64 {
        let slots = self.people.iter().map(|person| self.slots(person, from, to));
        slots.map(|(first, end)| (end - first).max(0).unsigned_abs()).sum()
    }

    /// Returns the time of the first slot at or after `from`. There is no sample if the watch is not worn then.
    pub fn next_slot_at(&self, from: DateTime<Utc>) -> DateTime<Utc> {
        let times = self.people.iter().map(|person| {
            let (first, _) = self.slots(person, from, from);
            self.time(person, first)
        });
        times.min().unwrap_or(from + self.interval)
    }

    /// Returns the samples of the range `[from, to)`, ordered by person, then by time.
    pub fn samples(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> impl Iterator<Item = Sample> + Send + Sync + use<> {
        let population = self.clone();
        let mut slots_left = 0..0;
        let mut next_person = 0;
        let mut day_cache = DayCache::default();
        std::iter::from_fn(move || {
            loop {
                let Some(slot) = slots_left.next() else {
                    let person = population.people.get(next_person)?;
                    let (first, end) = population.slots(person, from, to);
                    slots_left = first..end;
                    day_cache = DayCache::default();
                    next_person += 1;
                    continue;
                };
                let person = &population.people[next_person - 1];
                let sample = person.sample_with(&mut day_cache, population.time(person, slot), population.interval);
                if sample.is_some() {
                    return sample;
                }
            }
        })
    }

    /// Returns the slots in `[from, to)`: the first, and the one after the last. Slot *n* is the *n*-th interval since
    /// 1970.
    fn slots(&self, person: &Person, from: DateTime<Utc>, to: DateTime<Utc>) -> (i64, i64) {
        let interval_ms = self.interval.num_milliseconds();
        let phase_ms = person.phase_ms(interval_ms);
        let first_at = |time: DateTime<Utc>| {
            let passed_ms = time.timestamp_millis() - phase_ms;
            // Division that rounds up, also for times before 1970.
            -(-passed_ms).div_euclid(interval_ms)
        };
        (first_at(from), first_at(to))
    }

    fn time(&self, person: &Person, slot: i64) -> DateTime<Utc> {
        let interval_ms = self.interval.num_milliseconds();
        let time = DateTime::from_timestamp_millis(slot * interval_ms + person.phase_ms(interval_ms));
        time.unwrap_or(DateTime::UNIX_EPOCH)
    }
}

impl FromStr for Interval {
    type Err = InvalidInterval;

    fn from_str(text: &str) -> Result<Self, InvalidInterval> {
        let interval = parse_time_delta(text).map_err(|_| InvalidInterval)?;
        // The steps of a longer interval could cross midnight, but a sample counts only the steps of its own day.
        let allowed = TimeDelta::milliseconds(10)..=TimeDelta::hours(1);
        allowed
            .contains(&interval)
            .then_some(Self(interval))
            .ok_or(InvalidInterval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn population(users: u32) -> Population {
        Population::new(1, users, "8s".parse().unwrap())
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_740_787_200 + seconds, 0).unwrap()
    }

    #[test]
    fn intervals_have_bounds() {
        for (text, seconds) in [("8s", 8), ("8", 8), ("5m", 300), ("1h", 3_600)] {
            assert_eq!(text.parse(), Ok(Interval(TimeDelta::seconds(seconds))), "{text}");
        }
        for text in ["", "0", "9ms", "61m", "2h", "1d", "-8s", "8.5s", "s"] {
            assert_eq!(text.parse::<Interval>(), Err(InvalidInterval), "{text}");
        }
    }

    #[test]
    fn the_first_two_people_are_101_and_202() {
        let users = |count| population(count).users().map(UserId::get).collect::<Vec<_>>();
        assert_eq!(users(1), [101]);
        assert_eq!(users(4), [101, 202, 1_001, 1_002]);
    }

    #[test]
    fn the_samples_of_a_range_are_those_of_its_parts() {
        let population = population(5);
        let mut whole: Vec<_> = population.samples(at(0), at(7_200)).collect();
        let mut parts: Vec<_> = (0..1_000)
            .flat_map(|part| population.samples(at(part * 7_200 / 1_000), at((part + 1) * 7_200 / 1_000)))
            .collect();
        for samples in [&mut whole, &mut parts] {
            samples.sort_by(|one, other| one.identity().cmp(other.identity()));
        }
        assert_eq!(whole, parts);
        assert!(whole.len() > 1_000 && u64::try_from(whole.len()).unwrap() <= population.samples_max(at(0), at(7_200)));
        assert_eq!(population.samples_max(at(0), at(7_200)), 5 * 900);
    }

    #[test]
    fn the_next_slot_is_at_most_one_interval_away_and_none_lies_before_it() {
        let population = population(50);
        let mut now = at(0);
        for _ in 0..200 {
            let next = population.next_slot_at(now);
            assert!(next >= now && next - now <= population.interval());
            assert_eq!(population.samples_max(now, next), 0);
            now = next + TimeDelta::milliseconds(1);
            assert!(population.samples_max(next, now) > 0);
        }
    }

    #[test]
    fn the_samples_of_each_person_are_in_the_order_of_time() {
        let samples: Vec<_> = population(3).samples(at(0), at(86_400)).collect();
        for pair in samples.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            assert!(before.user_id() != after.user_id() || before.timestamp() < after.timestamp());
        }
    }
}
