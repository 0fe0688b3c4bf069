//! One day of one person: what they do from midnight to midnight, and how that moves heart and feet.

use crate::noise::Noise;

/// Minutes of a day.
const DAY_MINUTES: u32 = 24 * 60;

/// Everybody is in bed this long before midnight at the latest, so that no interval of up to an hour carries steps over it.
pub(crate) const ASLEEP_BEFORE_MIDNIGHT_MINUTES: u32 = 60;

/// How fast a heart answers: to a heavier effort within a minute, to a lighter one slower (heart-rate kinetics; Åstrand's
/// Textbook of Work Physiology gives half-times of this order).
const RISE_SECONDS: f64 = 35.0;
const FALL_SECONDS: f64 = 75.0;

/// How somebody spends their days.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// Minute of the day.
    pub(crate) wakes: f64,
    /// Minute of the day.
    pub(crate) sleeps: f64,
    /// On what share of the days they go for a run.
    pub(crate) runs: f64,
    /// Whether the watch stays on in bed.
    pub(crate) wears_at_night: bool,
}

/// A day, planned.
#[derive(Debug, Clone)]
pub(crate) struct Day {
    noise: Noise,
    stretches: Vec<Stretch>,
}

/// Some minutes of doing one thing.
#[derive(Debug, Clone)]
struct Stretch {
    /// Whole minutes, so that a minute belongs to one stretch.
    end_minute: u32,
    begin_minute: u32,
    activity: Activity,
    worn: bool,
    /// Share of the heart-rate reserve that this asks for.
    effort: f64,
    /// Where the heart stands when it begins.
    effort_at_begin: f64,
    /// Steps a minute.
    cadence: f64,
}

/// What a person can be doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    Asleep,
    /// Sitting.
    Resting,
    /// On their feet, here and there.
    Pottering,
    Walking,
    Running,
}

struct Plan {
    noise: Noise,
    minute: u32,
    stretches: Vec<Stretch>,
}

impl Day {
    pub(crate) fn new(noise: Noise, habits: &Habits) -> Self {
        let mut plan = Plan {
            noise,
            minute: 0,
            stretches: Vec::with_capacity(40),
        };
        let latest = f64::from(DAY_MINUTES - ASLEEP_BEFORE_MIDNIGHT_MINUTES);
        let wakes = habits.wakes + noise.between(1, -30.0, 30.0);
        let sleeps = (habits.sleeps + noise.between(2, -45.0, 45.0)).min(latest);
        plan.until(wakes, Activity::Asleep, habits.wears_at_night);
        plan.morning();
        plan.at_work(noise.between(3, 150.0, 210.0));
        plan.stroll(8.0, 25.0);
        plan.at_work(noise.between(4, 170.0, 240.0));
        plan.stroll(10.0, 30.0);
        if noise.unit(5) < habits.runs {
            plan.run();
        }
        plan.evening(sleeps);
        plan.until(f64::from(DAY_MINUTES), Activity::Asleep, habits.wears_at_night);
        Self {
            noise,
            stretches: plan.stretches,
        }
    }

    /// Whether the watch is on.
    pub(crate) fn is_worn(&self, day_ms: i64) -> bool {
        self.at(minute_of(day_ms)).is_some_and(|stretch| stretch.worn)
    }

    /// Whether this is a run, in which a watch loses the pulse more often.
    pub(crate) fn is_shaken(&self, day_ms: i64) -> bool {
        self.at(minute_of(day_ms))
            .is_some_and(|stretch| stretch.activity == Activity::Running)
    }

    /// The share of the heart-rate reserve that the heart gives, on its way to what is asked of it.
    pub(crate) fn effort(&self, day_ms: i64) -> f64 {
        self.at(minute_of(day_ms)).map_or(0.0, |stretch| {
            stretch.effort_after(seconds(day_ms) - 60.0 * f64::from(stretch.begin_minute))
        })
    }

    /// Steps taken behind `from_ms` and up to `to_ms`, as whole ones: what is cut off comes with the next.
    pub(crate) fn steps(&self, from_ms: i64, to_ms: i64) -> f64 {
        (minute_of(from_ms)..=minute_of(to_ms))
            .map(|minute| self.steps_of_minute_until(minute, to_ms) - self.steps_of_minute_until(minute, from_ms))
            .sum()
    }

    fn steps_of_minute_until(&self, minute: u32, until_ms: i64) -> f64 {
        let part = ((seconds(until_ms) - 60.0 * f64::from(minute)) / 60.0).clamp(0.0, 1.0);
        (self.steps_of_minute(minute) * part).floor()
    }

    fn steps_of_minute(&self, minute: u32) -> f64 {
        let Some(stretch) = self.at(minute).filter(|stretch| stretch.worn) else {
            return 0.0;
        };
        let chance = self.noise.of(6).unit(i64::from(minute));
        let share = match stretch.activity {
            Activity::Walking | Activity::Running => 0.95 + 0.1 * chance,
            // Some minutes all over the room, others at the sink.
            Activity::Pottering => (2.0 * chance - 0.7).max(0.0) * 2.0,
            Activity::Asleep | Activity::Resting => 0.0,
        };
        (stretch.cadence * share).round()
    }

    fn at(&self, minute: u32) -> Option<&Stretch> {
        let place = self.stretches.partition_point(|stretch| stretch.end_minute <= minute);
        self.stretches.get(place)
    }
}

impl Stretch {
    fn effort_after(&self, seconds: f64) -> f64 {
        let way = self.effort_at_begin - self.effort;
        let pace = if way < 0.0 { RISE_SECONDS } else { FALL_SECONDS };
        self.effort + way * (-seconds / pace).exp()
    }
}

impl Plan {
    /// Up, a shower without the watch, breakfast, out of the house.
    fn morning(&mut self) {
        self.some(Activity::Pottering, 8.0, 20.0, true);
        self.some(Activity::Pottering, 8.0, 14.0, false);
        self.some(Activity::Pottering, 20.0, 40.0, true);
        self.stroll(10.0, 30.0);
    }

    /// Sitting, with a few minutes on foot every now and then.
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

    /// Cooking, a sofa beside which the watch is charged every other evening, perhaps a round with the dog.
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

    fn some(&mut self, activity: Activity, shortest: f64, longest: f64, worn: bool) {
        let minutes = self.noise.of(9).between(i64::from(self.minute), shortest, longest);
        self.until(f64::from(self.minute) + minutes, activity, worn);
    }

    /// Nothing where that moment has passed already.
    fn until(&mut self, minute: f64, activity: Activity, worn: bool) {
        let (begin_minute, end_minute) = (self.minute, whole_minutes(minute).min(DAY_MINUTES));
        if end_minute <= begin_minute {
            return;
        }
        let chance = |number| self.noise.of(number).unit(i64::from(begin_minute));
        let (effort, cadence) = activity.demands(chance(10), chance(11));
        let effort_at_begin = self.stretches.last().map_or(effort, |last| {
            last.effort_after(60.0 * f64::from(last.end_minute - last.begin_minute))
        });
        self.stretches.push(Stretch {
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
    /// Share of the heart-rate reserve, and steps a minute. A hundred steps a minute is a brisk walk (CADENCE-Adults,
    /// Tudor-Locke et al. 2018); a moderate effort is 0.4 to 0.6 of the reserve, a vigorous one more (ACSM).
    fn demands(self, effort: f64, pace: f64) -> (f64, f64) {
        let (lowest, highest, slowest, fastest) = match self {
            Self::Asleep => (-0.02, 0.01, 0.0, 0.0),
            Self::Resting => (0.06, 0.12, 0.0, 0.0),
            Self::Pottering => (0.15, 0.24, 12.0, 30.0),
            Self::Walking => (0.28, 0.42, 96.0, 122.0),
            Self::Running => (0.66, 0.84, 152.0, 176.0),
        };
        let between = |low: f64, high: f64, part: f64| low + (high - low) * part;
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
    reason = "a cast from f64 saturates, and the plan ends at midnight"
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
    fn a_day_has_no_holes_and_ends_asleep() {
        for number in 0..2_000 {
            let day = Day::new(Noise::new(3).of(number), &HABITS);
            let mut minute = 0;
            for stretch in &day.stretches {
                assert_eq!(stretch.begin_minute, minute, "day {number}");
                assert!(stretch.end_minute > minute, "day {number}");
                minute = stretch.end_minute;
            }
            assert_eq!(minute, DAY_MINUTES, "day {number}");
            let in_bed = DAY_MINUTES - ASLEEP_BEFORE_MIDNIGHT_MINUTES;
            assert_eq!(day.at(in_bed).unwrap().activity, Activity::Asleep, "day {number}");
        }
    }

    #[test]
    fn steps_add_up_however_the_time_is_cut() {
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
            assert!((sum - whole).abs() < 0.5, "{sum} of {whole} in pieces of {cut_ms} ms");
        }
        assert!(whole > 2_000.0, "{whole}");
    }

    #[test]
    fn the_heart_takes_its_time() {
        let day = Day::new(Noise::new(3), &HABITS);
        for second in 1..DAY_MINUTES * 60 {
            let at = |second: u32| day.effort(i64::from(second) * 1_000);
            assert!((at(second) - at(second - 1)).abs() < 0.03, "second {second}");
        }
    }
}
