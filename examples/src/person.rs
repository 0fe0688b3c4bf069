//! A simulated person with a watch. The sample of any moment is a pure function of the seed, the user and the time.

use std::f64::consts::TAU;

use chrono::{DateTime, TimeDelta, Utc};
use health_core::{Calories, HeartRate, Readings, Sample, Source, Steps, UserId};

use crate::{
    day::{Day, Habits},
    noise::Noise,
};

/// Milliseconds in a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// A person, who depends only on a seed and a user id.
///
/// ```
/// use chrono::{TimeDelta, Utc};
/// use examples::Person;
/// use health_core::UserId;
///
/// let (seed, user, now) = (1, UserId::new(101)?, Utc::now());
/// let measured = Person::new(seed, user).sample(now, TimeDelta::seconds(8));
/// assert_eq!(measured, Person::new(seed, user).sample(now, TimeDelta::seconds(8)));
/// # Ok::<(), health_core::InvalidSample>(())
/// ```
#[derive(Debug, Clone)]
pub struct Person {
    user: UserId,
    noise: Noise,
    /// Beats per minute, awake and at rest.
    resting_rate: f64,
    /// Beats per minute at the greatest effort.
    highest_rate: f64,
    kilograms: f64,
    /// The greatest energy expenditure, in multiples of the expenditure at rest (MET).
    highest_met: f64,
    /// Local time minus UTC.
    offset_ms: i64,
    habits: Habits,
}

/// The last planned day of one [`Person`], so that the samples of a day plan it only once.
#[derive(Debug, Clone, Default)]
pub(crate) struct DayCache(Option<(i64, Day)>);

impl Person {
    /// Creates the person of a seed with this id.
    pub fn new(seed: u64, user: UserId) -> Self {
        let noise = Noise::new(seed).of(user.get());
        let age = noise.between(1, 20.0, 70.0);
        let fitness = noise.unit(2);
        Self {
            user,
            noise,
            resting_rate: 72.0 - 22.0 * fitness + noise.between(3, -4.0, 4.0),
            // Tanaka, Monahan and Seals 2001.
            highest_rate: 208.0 - 0.7 * age,
            kilograms: noise.between(4, 52.0, 92.0),
            highest_met: 8.0 + 6.0 * fitness,
            offset_ms: offset_ms(seed, user),
            habits: Habits {
                wakes: noise.between(5, 330.0, 470.0),
                sleeps: noise.between(6, 1_310.0, 1_380.0),
                runs: 0.1 + 0.5 * fitness,
                wears_at_night: noise.unit(7) < 0.8,
            },
        }
    }

    /// Returns the user id.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// Returns the sample that the watch sends at `time`, after one at `time - interval`. The interval is at most an
    /// hour.
    ///
    /// Returns `None` if the watch is not worn. The sample has no heart rate if the watch has lost the pulse.
    pub fn sample(&self, time: DateTime<Utc>, interval: TimeDelta) -> Option<Sample> {
        self.sample_with(&mut DayCache::default(), time, interval)
    }

    pub(crate) fn sample_with(
        &self,
        day_cache: &mut DayCache,
        time: DateTime<Utc>,
        interval: TimeDelta,
    ) -> Option<Sample> {
        let local_ms = time.timestamp_millis() + self.offset_ms;
        let (date, day_ms) = (local_ms.div_euclid(DAY_MS), local_ms.rem_euclid(DAY_MS));
        let day = day_cache.day(date, || Day::new(self.noise.of(8).of(date), &self.habits));
        if !day.is_worn(day_ms) {
            return None;
        }
        let rate = self.heart_rate(day, local_ms, day_ms);
        let readings = Readings {
            heart_rate: HeartRate::new(rate)
                .ok()
                .filter(|_| self.has_pulse(day, local_ms, day_ms)),
            // The person sleeps before midnight, so the day before has no steps in this interval.
            steps: Steps::new(whole(day.steps((day_ms - interval.num_milliseconds()).max(0), day_ms))).ok(),
            calories: Calories::new(tenthousandths(self.kcal_per_second(rate) * interval.as_seconds_f64())).ok(),
        };
        let source = Source::new("watch").unwrap_or_default();
        Sample::new(self.user, time, source, readings).ok()
    }

    /// Returns the milliseconds from the start of an interval to the sample of this watch, so that watches send at
    /// different times.
    pub(crate) fn phase_ms(&self, interval_ms: i64) -> i64 {
        let phase = self.noise.of(9).below(interval_ms.unsigned_abs());
        i64::try_from(phase).unwrap_or(0)
    }

    /// Returns whole beats per minute, as watches send them.
    fn heart_rate(&self, day: &Day, local_ms: i64, day_ms: i64) -> f64 {
        let reserve = self.highest_rate - self.resting_rate;
        let effort = day.effort(day_ms);
        // The circadian rhythm is highest in the afternoon and lowest before dawn (Degaute et al. 1991).
        let hours = f64::from(u32::try_from(day_ms).unwrap_or(0)) / 3_600_000.0;
        let circadian = 3.0 * (TAU * (hours - 16.0) / 24.0).cos();
        // The heart rate varies more at rest than during effort.
        let variability = 1.0 - 0.7 * effort.clamp(0.0, 1.0);
        let variation = 3.0 * self.noise.of(10).curve(local_ms, 240_000)
            + 2.0 * self.noise.of(11).curve(local_ms, 31_000)
            + 1.2 * self.noise.of(12).curve(local_ms, 4_000);
        let rate = self.resting_rate + reserve * effort + circadian + variability * variation;
        rate.round().clamp(35.0, self.highest_rate.floor())
    }

    /// Returns the energy expenditure at a heart rate, by the flex method (Spurr et al. 1988).
    ///
    /// Below a threshold the heart rate says little about it. Above, a share of the heart-rate reserve is the same
    /// share of the oxygen reserve (Swain and Leutholtz 1997). One MET is 3.5 ml of oxygen per minute and kilogram, and
    /// a litre of oxygen is 5 kcal (ACSM).
    fn kcal_per_second(&self, rate: f64) -> f64 {
        const FLEX: f64 = 0.15;
        const FLEX_MET: f64 = 1.35;
        let effort = ((rate - self.resting_rate) / (self.highest_rate - self.resting_rate)).clamp(0.0, 1.0);
        let met = if effort < FLEX {
            1.0 + (FLEX_MET - 1.0) * effort / FLEX
        } else {
            FLEX_MET + (self.highest_met - FLEX_MET) * (effort - FLEX) / (1.0 - FLEX)
        };
        met * 3.5 * self.kilograms / 200.0 / 60.0
    }

    /// Returns whether the watch sees the pulse. A loose watch loses it for half a minute at times, more often on a
    /// shaking arm.
    fn has_pulse(&self, day: &Day, local_ms: i64, day_ms: i64) -> bool {
        let lost = if day.is_shaken(day_ms) { 0.03 } else { 0.008 };
        self.noise.of(13).unit(local_ms.div_euclid(30_000)) >= lost
    }
}

impl DayCache {
    fn day(&mut self, date: i64, plan: impl FnOnce() -> Day) -> &Day {
        let known = self.0.take().filter(|(known, _)| *known == date);
        &self.0.insert(known.unwrap_or_else(|| (date, plan()))).1
    }
}

/// Returns a time zone offset in multiples of 15 minutes.
///
/// Multiples of the golden ratio, modulo one, lie far apart. Of any few people, one is therefore awake.
fn offset_ms(seed: u64, user: UserId) -> i64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let turn = user.get().cast_unsigned().wrapping_add(seed).wrapping_mul(GOLDEN);
    let quarters = i64::from(u8::try_from((u128::from(turn) * 96) >> 64).unwrap_or(0));
    (quarters - 48) * 15 * 60 * 1_000
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the number is whole, and a cast from f64 saturates"
)]
fn whole(number: f64) -> i64 {
    number as i64
}

fn tenthousandths(number: f64) -> f64 {
    (number * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: TimeDelta = TimeDelta::seconds(8);

    fn user(id: i64) -> UserId {
        UserId::new(id).unwrap()
    }

    /// Returns a sample for every interval of a day in UTC. Day 0 is 2025-03-01.
    fn day_of(person: &Person, day: i64) -> Vec<Option<Sample>> {
        let start = DateTime::from_timestamp(1_740_787_200 + day * 86_400, 0).unwrap();
        let mut day_cache = DayCache::default();
        (0..86_400 / 8)
            .map(|slot| person.sample_with(&mut day_cache, start + INTERVAL * slot, INTERVAL))
            .collect()
    }

    fn rates(samples: &[Option<Sample>]) -> Vec<f64> {
        let rates = samples.iter().flatten().filter_map(Sample::heart_rate);
        rates.map(HeartRate::get).collect()
    }

    #[test]
    fn samples_depend_only_on_the_seed_and_the_user() {
        let person = Person::new(1, user(101));
        let day = day_of(&person, 0);
        assert_eq!(day, day_of(&Person::new(1, user(101)), 0));
        for (slot, sample) in day.iter().enumerate().step_by(997) {
            let time = DateTime::from_timestamp(1_740_787_200 + 8 * i64::try_from(slot).unwrap(), 0).unwrap();
            assert_eq!(*sample, person.sample(time, INTERVAL), "without the cache");
        }
        assert_ne!(day, day_of(&Person::new(2, user(101)), 0));
        assert_ne!(rates(&day), rates(&day_of(&Person::new(1, user(202)), 0)));
    }

    #[test]
    fn every_day_is_plausible() {
        for id in (1..40).chain([101, 202, i64::MAX]) {
            let person = Person::new(1, user(id));
            let samples = day_of(&person, id % 5);
            let rates = rates(&samples);
            let (lowest, highest) = rates.iter().fold((f64::MAX, f64::MIN), |(low, high), rate| {
                (low.min(*rate), high.max(*rate))
            });
            assert!(
                lowest >= 35.0 && lowest <= person.resting_rate + 12.0,
                "user {id}: lowest {lowest}"
            );
            assert!(
                highest <= person.highest_rate && highest > person.resting_rate + 25.0,
                "user {id}: highest {highest}"
            );
            let steps: i64 = samples
                .iter()
                .flatten()
                .filter_map(Sample::steps)
                .map(|steps| i64::from(steps.get()))
                .sum();
            assert!((3_000..25_000).contains(&steps), "user {id}: {steps} steps");
            let kcal: f64 = samples
                .iter()
                .flatten()
                .filter_map(Sample::calories)
                .map(Calories::get)
                .sum();
            // A third of the day is missing if the watch is not worn at night.
            assert!((700.0..4_500.0).contains(&kcal), "user {id}: {kcal} kcal");
        }
    }

    #[test]
    fn every_sample_has_valid_steps_and_calories() {
        for id in 1..40 {
            for sample in day_of(&Person::new(1, user(id)), 3).iter().flatten() {
                assert!(sample.steps().is_some() && sample.calories().is_some(), "{sample:?}");
            }
        }
    }

    #[test]
    fn every_watch_is_taken_off_and_loses_the_pulse_at_times() {
        for id in [101, 202, 1_001] {
            let samples = day_of(&Person::new(1, user(id)), 0);
            let off = samples.iter().filter(|sample| sample.is_none()).count();
            assert!(off > 60, "user {id}: off for {off} samples");
            let lost = samples
                .iter()
                .flatten()
                .filter(|sample| sample.heart_rate().is_none())
                .count();
            assert!(
                lost > 0 && lost < samples.len() / 20,
                "user {id}: {lost} without a pulse"
            );
        }
    }

    #[test]
    fn walking_means_a_higher_heart_rate_and_more_energy_than_sitting() {
        let samples = day_of(&Person::new(1, user(101)), 0);
        let mean_where = |walking: bool| {
            let chosen = samples.iter().flatten().filter(|sample| {
                let steps = sample.steps().map_or(0, Steps::get);
                if walking { steps >= 12 } else { steps == 0 }
            });
            let (mut count, mut rate, mut kcal) = (0.0, 0.0, 0.0);
            for sample in chosen.filter(|sample| sample.heart_rate().is_some()) {
                count += 1.0;
                rate += sample.heart_rate().unwrap().get();
                kcal += sample.calories().unwrap().get();
            }
            (rate / count, kcal / count)
        };
        let ((walking_rate, walking_kcal), (sitting_rate, sitting_kcal)) = (mean_where(true), mean_where(false));
        assert!(
            walking_rate > sitting_rate + 15.0,
            "{walking_rate} against {sitting_rate}"
        );
        assert!(
            walking_kcal > sitting_kcal * 1.5,
            "{walking_kcal} against {sitting_kcal}"
        );
    }

    #[test]
    fn the_first_two_people_wear_their_watch_at_night() {
        for id in [101, 202] {
            assert!(Person::new(1, user(id)).habits.wears_at_night, "user {id}");
        }
    }

    #[test]
    fn the_first_two_people_live_in_distant_time_zones() {
        let hours = |id| Person::new(1, user(id)).offset_ms / 3_600_000;
        assert!(
            (hours(101) - hours(202)).abs() >= 8,
            "{} and {}",
            hours(101),
            hours(202)
        );
    }
}
