//! One day of one person: what they do from midnight to midnight, and the heart rate and steps that follow from it.

use crate::noise::Noise;

/// Minutes in a day.
const DAY_MINUTES: u32 = 24 * 60;

/// Every person is asleep at least this long before midnight, so that no interval of up to an hour has steps of two
/// days.
pub(crate) const ASLEEP_BEFORE_MIDNIGHT_MINUTES: u32 = 60;

/// Time constants of the heart rate after the effort rises or falls.
///
/// The heart rate rises within about a minute and falls more slowly. Åstrand's Textbook of Work Physiology gives
/// half-times of this order.
const RISE_SECONDS: f64 = 35.0;
const FALL_SECONDS: f64 = 75.0;

/// How a person spends their days.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// The minute of the day at which they wake up.
    pub(crate) wakes: f64,
    /// The minute of the day at which they go to sleep.
    pub(crate) sleeps: f64,
    /// The share of days on which they go for a run.
    pub(crate) runs: f64,
    /// Whether they wear the watch in bed.
    pub(crate) wears_at_night: bool,
}

/// The activities of a day, without gaps.
#[derive(Debug, Clone)]
pub(crate) struct Day {
    noise: Noise,
    periods: Vec<Period>,
}

/// A number of minutes with one activity.
#[derive(Debug, Clone)]
struct Period {
    /// A whole minute, so that every minute belongs to one period.
    end_minute: u32,
    begin_minute: u32,
    activity: Activity,
    worn: bool,
    /// The share of the heart-rate reserve that the activity needs.
    effort: f64,
    /// The share that the heart gives at the beginning.
    effort_at_begin: f64,
    /// Steps per minute.
    cadence: f64,
}

/// What a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    Asleep,
    /// Sits.
    Resting,
    /// Stands and takes some steps, for example in the kitchen.
    Pottering,
    Walking,
    Running,
}

/// Plans a day, one period after the other.
struct DayPlanner {
    noise: Noise,
    minute: u32,
    periods: Vec<Period>,
}

impl Day {
    pub(crate) fn new(noise: Noise, habits: &Habits) -> Self {
        let mut planner = DayPlanner {
            noise,
            minute: 0,
            periods: Vec::with_capacity(40),
        };
        let latest = f64::from(DAY_MINUTES - ASLEEP_BEFORE_MIDNIGHT_MINUTES);
        let wakes = habits.wakes + noise.between(1, -30.0, 30.0);
        let sleeps = (habits.sleeps + noise.between(2, -45.0, 45.0)).min(latest);
        planner.until(wakes, Activity::Asleep, habits.wears_at_night);
        planner.morning();
        planner.at_work(noise.between(3, 150.0, 210.0));
        planner.stroll(8.0, 25.0);
        planner.at_work(noise.between(4, 170.0, 240.0));
        planner.stroll(10.0, 30.0);
        if noise.unit(5) < habits.runs {
            planner.run();
        }
        planner.evening(sleeps);
        planner.until(f64::from(DAY_MINUTES), Activity::Asleep, habits.wears_at_night);
        Self {
            noise,
            periods: planner.periods,
        }
    }

    /// Returns whether the watch is worn.
    pub(crate) fn is_worn(&self, day_ms: i64) -> bool {
        self.at(minute_of(day_ms)).is_some_and(|period| period.worn)
    }

    /// Returns whether the arm shakes, because a watch loses the pulse more often then.
    pub(crate) fn is_shaken(&self, day_ms: i64) -> bool {
        self.at(minute_of(day_ms))
            .is_some_and(|period| period.activity == Activity::Running)
    }

    /// Returns the share of the heart-rate reserve that the heart gives, which approaches what the activity needs.
    pub(crate) fn effort(&self, day_ms: i64) -> f64 {
        self.at(minute_of(day_ms)).map_or(0.0, |period| {
            period.effort_after(seconds(day_ms) - 60.0 * f64::from(period.begin_minute))
        })
    }

    /// Returns the whole steps in `(from_ms, to_ms]`. The fraction of a step counts in the range in which it is
    /// completed.
    pub(crate) fn steps(&self, from_ms: i64, to_ms: i64) -> f64 {
        (minute_of(from_ms)..=minute_of(to_ms))
            .map(|minute| self.steps_of_minute_until(minute, to_ms) - self.steps_of_minute_until(minute, from_ms))
            .sum()
    }

    fn steps_of_minute_until(&self, minute: u32, until_ms: i64) -> f64 {
        let share = ((seconds(until_ms) - 60.0 * f64::from(minute)) / 60.0).clamp(0.0, 1.0);
        (self.steps_of_minute(minute) * share).floor()
    }

    fn steps_of_minute(&self, minute: u32) -> f64 {
        let Some(period) = self.at(minute).filter(|period| period.worn) else {
            return 0.0;
        };
        let chance = self.noise.of(6).unit(i64::from(minute));
        let share = match period.activity {
            Activity::Walking | Activity::Running => 0.95 + 0.1 * chance,
            // Many steps in some minutes, none in others.
            Activity::Pottering => (2.0 * chance - 0.7).max(0.0) * 2.0,
            Activity::Asleep | Activity::Resting => 0.0,
        };
        (period.cadence * share).round()
    }

    fn at(&self, minute: u32) -> Option<&Period> {
        let index = self.periods.partition_point(|period| period.end_minute <= minute);
        self.periods.get(index)
    }
}

impl Period {
    fn effort_after(&self, seconds: f64) -> f64 {
        let difference = self.effort_at_begin - self.effort;
        let time_constant = if difference < 0.0 { RISE_SECONDS } else { FALL_SECONDS };
        self.effort + difference * (-seconds / time_constant).exp()
    }
}

impl DayPlanner {
    /// Getting up, a shower without the watch, breakfast, and the way to work.
    fn morning(&mut self) {
        self.some(Activity::Pottering, 8.0, 20.0, true);
        self.some(Activity::Pottering, 8.0, 14.0, false);
        self.some(Activity::Pottering, 20.0, 40.0, true);
        self.stroll(10.0, 30.0);
    }

    /// Sitting, with a short walk after each 30 to 70 minutes.
    fn at_work(&mut self, minutes: f64) {
        let end = f64::from(self.minute) + minutes;
        while f64::from(self.minute) < end {
            self.some(Activity::Resting, 30.0, 70.0, true);
            self.some(Activity::Walking, 2.0, 5.0, true);
        }
    }

    fn stroll(&mut self, shortest: f64, longest: f64) {
        self.some(Activity::Walking, shortest, longest, true);
    }

    fn run(&mut self) {
        self.some(Activity::Walking, 3.0, 6.0, true);
        self.some(Activity::Running, 22.0, 55.0, true);
        self.some(Activity::Walking, 3.0, 8.0, true);
        self.some(Activity::Pottering, 8.0, 14.0, false);
    }

    /// Cooking, the sofa, on every other evening with the watch on its charger, and on most evenings a walk.
    fn evening(&mut self, sleeps: f64) {
        self.some(Activity::Pottering, 40.0, 70.0, true);
        if self.noise.unit(7) < 0.5 {
            self.some(Activity::Resting, 20.0, 45.0, false);
        }
        self.some(Activity::Resting, 30.0, 60.0, true);
        if self.noise.unit(8) < 0.6 {
            self.stroll(15.0, 40.0);
        }
        self.until(sleeps, Activity::Resting, true);
    }

    /// Adds a period of a random length, in minutes.
    fn some(&mut self, activity: Activity, shortest: f64, longest: f64, worn: bool) {
        let minutes = self.noise.of(9).between(i64::from(self.minute), shortest, longest);
        self.until(f64::from(self.minute) + minutes, activity, worn);
    }

    /// Adds a period that ends at `minute`. Adds none if that minute has passed.
    fn until(&mut self, minute: f64, activity: Activity, worn: bool) {
        let (begin_minute, end_minute) = (self.minute, whole_minutes(minute).min(DAY_MINUTES));
        if end_minute <= begin_minute {
            return;
        }
        let chance = |number| self.noise.of(number).unit(i64::from(begin_minute));
        let (effort, cadence) = activity.demands(chance(10), chance(11));
        let effort_at_begin = self.periods.last().map_or(effort, |last| {
            last.effort_after(60.0 * f64::from(last.end_minute - last.begin_minute))
        });
        self.periods.push(Period {
            end_minute,
            begin_minute,
            activity,
            worn,
            effort,
            effort_at_begin,
            cadence,
        });
        self.minute = end_minute;
    }
}

impl Activity {
    /// Returns the share of the heart-rate reserve and the steps per minute. Both arguments are in `[0, 1)`.
    ///
    /// A hundred steps per minute are a brisk walk (CADENCE-Adults, Tudor-Locke et al. 2018). A moderate effort is 0.4
    /// to 0.6 of the reserve, a vigorous one more (ACSM).
    fn demands(self, effort: f64, pace: f64) -> (f64, f64) {
        let (lowest, highest, slowest, fastest) = match self {
            Self::Asleep => (-0.02, 0.01, 0.0, 0.0),
            Self::Resting => (0.06, 0.12, 0.0, 0.0),
            Self::Pottering => (0.15, 0.24, 12.0, 30.0),
            Self::Walking => (0.28, 0.42, 96.0, 122.0),
            Self::Running => (0.66, 0.84, 152.0, 176.0),
        };
        let between = |low: f64, high: f64, share: f64| low + (high - low) * share;
        (between(lowest, highest, effort), between(slowest, fastest, pace))
    }
}

fn seconds(day_ms: i64) -> f64 {
    f64::from(u32::try_from(day_ms).unwrap_or(0)) / 1_000.0
}

fn minute_of(day_ms: i64) -> u32 {
    u32::try_from(day_ms.max(0) / 60_000).unwrap_or(DAY_MINUTES)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from f64 saturates, and the day ends at midnight"
)]
fn whole_minutes(minutes: f64) -> u32 {
    minutes.round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const HABITS: Habits = Habits {
        wakes: 400.0,
        sleeps: 1350.0,
        runs: 0.5,
        wears_at_night: true,
    };

    #[test]
    fn a_day_has_no_gaps_and_ends_asleep() {
        for number in 0..2_000 {
            let day = Day::new(Noise::new(3).of(number), &HABITS);
            let mut minute = 0;
            for period in &day.periods {
                assert_eq!(period.begin_minute, minute, "day {number}");
                assert!(period.end_minute > minute, "day {number}");
                minute = period.end_minute;
            }
            assert_eq!(minute, DAY_MINUTES, "day {number}");
            let in_bed = DAY_MINUTES - ASLEEP_BEFORE_MIDNIGHT_MINUTES;
            assert_eq!(day.at(in_bed).unwrap().activity, Activity::Asleep, "day {number}");
        }
    }

    #[test]
    fn the_steps_of_a_range_are_the_sum_of_its_parts() {
        let day = Day::new(Noise::new(3), &HABITS);
        let (from, to) = (8 * 3_600_000, 20 * 3_600_000);
        let whole = day.steps(from, to);
        for cut_ms in [1_000, 7_919, 8_000, 61_001] {
            let mut sum = 0.0;
            let mut at = from;
            while at < to {
                sum += day.steps(at, (at + cut_ms).min(to));
                at += cut_ms;
            }
            assert!((sum - whole).abs() < 0.5, "{sum} of {whole} in parts of {cut_ms} ms");
        }
        assert!(whole > 2_000.0, "{whole}");
    }

    #[test]
    fn the_effort_of_the_heart_never_jumps() {
        let day = Day::new(Noise::new(3), &HABITS);
        for second in 1..DAY_MINUTES * 60 {
            let at = |second: u32| day.effort(i64::from(second) * 1_000);
            assert!((at(second) - at(second - 1)).abs() < 0.03, "second {second}");
        }
    }
}
