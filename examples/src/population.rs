//! All the people of a simulation, and what is due from them in a stretch of time.

use std::{str::FromStr, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use health_core::{Sample, UserId, flags::parse_time_delta};

use crate::person::{Diary, Person};

/// The first people anybody meets, as in the examples of the documentation; the others count from [`FIRST_FURTHER_ID`].
const FIRST_IDS: [i64; 2] = [101, 202];
const FIRST_FURTHER_ID: i64 = 1_001;

/// The time between two samples of one watch: 10 ms to an hour, written like `8s` or `5m`.
///
/// ```
/// let interval: examples::Interval = "8s".parse()?;
/// assert!("0s".parse::<examples::Interval>().is_err());
/// # Ok::<(), examples::UnreadableInterval>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(TimeDelta);

/// Text that is no [`Interval`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an interval is written like 500ms, 8s or 5m and lies between 10ms and 1h")]
pub struct UnreadableInterval;

/// People whose watches all send at the same interval, each at its own moment within it.
///
/// Those moments follow from the seed alone. What a population sends over a stretch of time is therefore the same whenever it is asked,
/// and sending it again changes nothing on the server.
#[derive(Debug, Clone)]
pub struct Population {
    people: Arc<[Person]>,
    interval: TimeDelta,
}

impl Population {
    /// So many people: users 101 and 202, then 1001 and so on.
    pub fn new(seed: u64, users: u32, interval: Interval) -> Self {
        let further = FIRST_FURTHER_ID..;
        let ids = FIRST_IDS.into_iter().chain(further).zip(0..users);
        let people = ids.filter_map(|(id, _)| UserId::new(id).ok());
        Self {
            people: people.map(|user| Person::new(seed, user)).collect(),
            interval: interval.0,
        }
    }

    /// Who they are.
    pub fn users(&self) -> impl ExactSizeIterator<Item = UserId> {
        self.people.iter().map(Person::user)
    }

    /// The time between two samples of one watch.
    pub fn interval(&self) -> TimeDelta {
        self.interval
    }

    /// How many samples are due from `from` up to, but not including, `to`, if every watch is worn.
    pub fn due(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> u64 {
        let slots = self.people.iter().map(|person| self.slots(person, from, to));
        slots.map(|(first, end)| (end - first).max(0).unsigned_abs()).sum()
    }

    /// The first moment from `from` on at which a sample is due.
    pub fn next_due(&self, from: DateTime<Utc>) -> DateTime<Utc> {
        let waits = self.people.iter().map(|person| {
            let (first, _) = self.slots(person, from, from);
            self.time(person, first)
        });
        waits.min().unwrap_or(from + self.interval)
    }

    /// What is sent from `from` up to, but not including, `to`: person by person, each in the order of time.
    pub fn samples(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> impl Iterator<Item = Sample> + Send + Sync + use<> {
        let population = self.clone();
        let mut slots_left = 0..0;
        let mut next_person = 0;
        let mut diary = Diary::default();
        std::iter::from_fn(move || {
            loop {
                let Some(slot) = slots_left.next() else {
                    let person = population.people.get(next_person)?;
                    let (first, end) = population.slots(person, from, to);
                    slots_left = first..end;
                    diary = Diary::default();
                    next_person += 1;
                    continue;
                };
                let person = &population.people[next_person - 1];
                let sample = person.sample_with(&mut diary, population.time(person, slot), population.interval);
                if sample.is_some() {
                    return sample;
                }
            }
        })
    }

    /// The numbers of the intervals, counted from 1970, whose sample falls into a stretch of time: from the first up to the second.
    fn slots(&self, person: &Person, from: DateTime<Utc>, to: DateTime<Utc>) -> (i64, i64) {
        let interval_ms = self.interval.num_milliseconds();
        let phase_ms = person.phase_ms(interval_ms);
        let first_at = |time: DateTime<Utc>| {
            let passed_ms = time.timestamp_millis() - phase_ms;
            // Rounded up: the first that is not before it.
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
    type Err = UnreadableInterval;

    fn from_str(text: &str) -> Result<Self, UnreadableInterval> {
        let interval = parse_time_delta(text).map_err(|_| UnreadableInterval)?;
        // Longer ones would carry steps over midnight, where no day looks for them.
        let possible = TimeDelta::milliseconds(10)..=TimeDelta::hours(1);
        possible
            .contains(&interval)
            .then_some(Self(interval))
            .ok_or(UnreadableInterval)
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
            assert_eq!(text.parse::<Interval>(), Err(UnreadableInterval), "{text}");
        }
    }

    #[test]
    fn the_first_two_are_101_and_202() {
        let users = |count| population(count).users().map(UserId::get).collect::<Vec<_>>();
        assert_eq!(users(1), [101]);
        assert_eq!(users(4), [101, 202, 1_001, 1_002]);
    }

    #[test]
    fn a_stretch_sends_the_same_however_it_is_cut() {
        let population = population(5);
        let mut whole: Vec<_> = population.samples(at(0), at(7_200)).collect();
        let mut pieces: Vec<_> = (0..1_000)
            .flat_map(|piece| population.samples(at(piece * 7_200 / 1_000), at((piece + 1) * 7_200 / 1_000)))
            .collect();
        for samples in [&mut whole, &mut pieces] {
            samples.sort_by(|one, other| one.identity().cmp(other.identity()));
        }
        assert_eq!(whole, pieces);
        assert!(whole.len() > 1_000 && u64::try_from(whole.len()).unwrap() <= population.due(at(0), at(7_200)));
        assert_eq!(population.due(at(0), at(7_200)), 5 * 900);
    }

    #[test]
    fn what_is_due_next_is_what_comes_next() {
        let population = population(50);
        let mut now = at(0);
        for _ in 0..200 {
            let due = population.next_due(now);
            assert!(due >= now && due - now <= population.interval());
            assert_eq!(population.due(now, due), 0);
            now = due + TimeDelta::milliseconds(1);
            assert!(population.due(due, now) > 0);
        }
    }

    #[test]
    fn each_persons_samples_come_in_the_order_of_time() {
        let samples: Vec<_> = population(3).samples(at(0), at(86_400)).collect();
        for pair in samples.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            assert!(before.user_id() != after.user_id() || before.timestamp() < after.timestamp());
        }
    }
}
