//! The division of an interval into one sample for each slice that it touches.
//!
//! Phones report "340 steps from 09:00 to 10:00". Statistics count the winning source of each 15-minute slice, so each
//! slice needs its own share of the count.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    sample::{Calories, InvalidSample, Readings, Sample, Steps, check_not_ahead},
    stats::SLICE_SECONDS,
};

/// A sample whose steps and kilocalories cover a half-open span of time: from its timestamp to an end.
///
/// It is stored as its [parts](Self::parts). The identity of a part is the start of its slice. So the same interval
/// with a later end and a larger count, as Android sends it for the current day, replaces its own parts.
///
/// ```
/// use health_core::{Interval, Readings, Sample, Source, Steps, UserId, parse_timestamp};
///
/// let readings = Readings { steps: Some(Steps::new(340)?), ..Readings::default() };
/// let start = parse_timestamp("2025-03-02T09:10:00Z")?;
/// let whole = Sample::new(UserId::new(101)?, start, Source::new("phone")?, readings)?;
/// let interval = Interval::new(whole, parse_timestamp("2025-03-02T09:50:00Z")?)?;
/// let steps: Vec<_> = interval.parts().filter_map(|part| part.steps()).map(Steps::get).collect();
/// assert_eq!(steps, [42, 128, 127, 43]); // 09:10, 09:15, 09:30, 09:45
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Interval {
    whole: Sample,
    end: DateTime<Utc>,
}

/// The samples of an [`Interval`], in the order of their timestamps. Made by [`Interval::parts`].
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    interval: &'a Interval,
    /// The start of the next part; `None` after the last one.
    next: Option<DateTime<Utc>>,
}

impl Interval {
    /// The greatest length: 25 hours, the length of a local day when clocks go back.
    pub const LENGTH_MAX: TimeDelta = TimeDelta::hours(25);

    /// Returns the interval from the timestamp of `whole` to `end`.
    ///
    /// # Errors
    /// [`InvalidSample::EndNotLater`] if it is empty, [`InvalidSample::IntervalTooLong`] if it is longer than
    /// [`Self::LENGTH_MAX`].
    pub fn new(whole: Sample, end: DateTime<Utc>) -> Result<Self, InvalidSample> {
        check_end(whole.timestamp(), end)?;
        Ok(Self { whole, end })
    }

    /// Checks that the end is not too far in the future.
    ///
    /// # Errors
    /// [`InvalidSample::TooLate`] if the end is more than `max_future` after `now`.
    pub fn check_not_in_future(&self, now: DateTime<Utc>, max_future: TimeDelta) -> Result<(), InvalidSample> {
        check_not_ahead(self.end, now, max_future)
    }

    /// Returns the sample at the start of the interval, with the readings of the whole.
    pub fn whole(&self) -> &Sample {
        &self.whole
    }

    /// Returns the end of the interval, which is not part of it.
    pub fn end(&self) -> DateTime<Utc> {
        self.end
    }

    /// Returns one sample for each slice that the interval touches, at the later of its start and the slice's start.
    ///
    /// Steps are divided in proportion to time by cumulative rounding: after an elapsed share *e*, the parts so far sum
    /// to floor(steps × *e*). So all parts sum to the whole exactly. Kilocalories are divided in proportion. The heart
    /// rate belongs to the first part. A later part without steps and kilocalories is left out.
    pub fn parts(&self) -> Parts<'_> {
        Parts {
            interval: self,
            next: Some(self.whole.timestamp()),
        }
    }

    /// Returns the readings of the part from `start` to `end`.
    fn readings(&self, start: DateTime<Utc>, end: DateTime<Utc>) -> Readings {
        let whole = self.whole.readings();
        let share = (end - start).as_seconds_f64() / self.length().as_seconds_f64();
        let steps = whole.steps.map(|steps| {
            let steps = i64::from(steps.get());
            self.steps_before(end, steps) - self.steps_before(start, steps)
        });
        // A share of a valid value is valid.
        Readings {
            heart_rate: whole.heart_rate.filter(|_| start == self.whole.timestamp()),
            steps: steps.and_then(|steps| Steps::new(steps).ok()),
            calories: whole.calories.and_then(|kcal| Calories::new(kcal.get() * share).ok()),
        }
    }

    /// Returns how many of the steps belong to the time before `time`.
    fn steps_before(&self, time: DateTime<Utc>, steps: i64) -> i64 {
        // 100 000 steps times the microseconds of 25 hours is 10^16, and i64 holds 9 × 10^18.
        steps * micros(time - self.whole.timestamp()) / micros(self.length())
    }

    fn length(&self) -> TimeDelta {
        self.end - self.whole.timestamp()
    }
}

impl Iterator for Parts<'_> {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        loop {
            let start = self.next?;
            let slice_end = end_of_slice(start)?;
            self.next = Some(slice_end).filter(|next| *next < self.interval.end);
            let whole = &self.interval.whole;
            let readings = self.interval.readings(start, slice_end.min(self.interval.end));
            // Fails only without readings: a heart rate alone has no later parts.
            if let Ok(part) = Sample::new(whole.user_id(), start, whole.source().clone(), readings) {
                return Some(part);
            }
        }
    }
}

/// Checks that an end is later than the start, and not too much later.
pub(crate) fn check_end(start: DateTime<Utc>, end: DateTime<Utc>) -> Result<(), InvalidSample> {
    if end <= start {
        Err(InvalidSample::EndNotLater { start, end })
    } else if end - start > Interval::LENGTH_MAX {
        Err(InvalidSample::IntervalTooLong { start, end })
    } else {
        Ok(())
    }
}

/// Returns the end of the slice that contains a time.
fn end_of_slice(time: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let slice = time.timestamp().div_euclid(SLICE_SECONDS);
    DateTime::from_timestamp((slice + 1) * SLICE_SECONDS, 0)
}

fn micros(length: TimeDelta) -> i64 {
    length.num_microseconds().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        sample::{HeartRate, Source, UserId},
        time::{format_timestamp, parse_timestamp},
    };

    fn interval(start: &str, end: &str, readings: Readings) -> Result<Interval, InvalidSample> {
        let whole = Sample::new(
            UserId::new(1)?,
            parse_timestamp(start)?,
            Source::new("phone")?,
            readings,
        )?;
        Interval::new(whole, parse_timestamp(end)?)
    }

    fn steps(count: i64) -> Readings {
        Readings {
            steps: Steps::new(count).ok(),
            ..Readings::default()
        }
    }

    #[test]
    fn parts_begin_at_the_start_and_at_each_slice_until_the_end() {
        for (start, end, expected) in [
            ("09:00:00", "09:15:00", "09:00:00=100"),
            ("09:00:00", "09:15:00.000001", "09:00:00=99 09:15:00=1"),
            ("09:14:59.999999", "09:15:00", "09:14:59.999999=100"),
            ("09:05:00", "09:06:00", "09:05:00=100"),
            ("09:00:00", "09:40:00", "09:00:00=37 09:15:00=38 09:30:00=25"),
            ("09:10:00", "09:20:00", "09:10:00=50 09:15:00=50"),
        ] {
            let day = |time: &str| format!("2025-03-02T{time}Z");
            let interval = interval(&day(start), &day(end), steps(100)).unwrap();
            let parts = interval.parts().map(|part| {
                let time = format_timestamp(part.timestamp());
                format!("{}={}", &time[11..time.len() - 1], part.steps().unwrap().get())
            });
            assert_eq!(parts.collect::<Vec<_>>().join(" "), expected, "{start} to {end}");
        }
    }

    #[test]
    fn the_heart_rate_is_in_the_first_part_and_calories_are_in_proportion() {
        let readings = Readings {
            heart_rate: HeartRate::new(72.0).ok(),
            steps: None,
            calories: Calories::new(50.5).ok(),
        };
        let whole = interval("2025-03-02T09:00:00Z", "2025-03-02T10:00:00Z", readings).unwrap();
        let parts: Vec<_> = whole.parts().map(|part| part.readings()).collect();
        let rates: Vec<_> = parts.iter().map(|part| part.heart_rate.map(HeartRate::get)).collect();
        assert_eq!(rates, [Some(72.0), None, None, None]);
        let kcal: Vec<_> = parts.iter().map(|part| part.calories.map(Calories::get)).collect();
        assert_eq!(kcal, [Some(12.625); 4]);

        let rate_alone = Readings {
            calories: None,
            ..readings
        };
        let whole = interval("2025-03-02T09:00:00Z", "2025-03-02T10:00:00Z", rate_alone).unwrap();
        assert_eq!(whole.parts().count(), 1);
    }

    #[test]
    fn an_end_that_is_not_later_or_more_than_25_hours_later_is_refused() {
        for (end, expected) in [
            ("2025-03-02T09:00:00Z", "is not later than the timestamp"),
            ("2025-03-02T08:00:00Z", "is not later than the timestamp"),
            (
                "2025-03-03T10:00:00.000001Z",
                "is more than 25 hours after the timestamp",
            ),
        ] {
            let refused = interval("2025-03-02T09:00:00Z", end, steps(1)).unwrap_err().to_string();
            assert!(refused.contains(expected), "{end}: {refused}");
        }
        let longest = interval("2025-03-02T09:00:00.5Z", "2025-03-03T10:00:00.5Z", steps(100_000)).unwrap();
        assert_eq!(longest.parts().count(), 101);
    }

    /// What a store has after parts were written in this order: the newest write of an identity wins.
    fn stored<'a>(intervals: impl IntoIterator<Item = &'a Interval>) -> BTreeMap<DateTime<Utc>, i32> {
        let parts = intervals.into_iter().flat_map(Interval::parts);
        parts
            .map(|part| (part.timestamp(), part.steps().unwrap().get()))
            .collect()
    }

    prop_compose! {
        /// An interval of up to 25 hours that starts and ends at any microsecond.
        fn any_interval()(
            start in 0..86_400_000_000_i64,
            length in 1..=90_000_000_000_i64,
            count in 0..=100_000_i64,
            kcal in 0.0..10_000.0_f64,
        ) -> Interval {
            let start = parse_timestamp("2025-03-02T00:00:00Z").unwrap() + TimeDelta::microseconds(start);
            let readings = Readings { calories: Calories::new(kcal).ok(), ..steps(count) };
            let whole = Sample::new(UserId::new(1).unwrap(), start, Source::default(), readings).unwrap();
            Interval::new(whole, start + TimeDelta::microseconds(length)).unwrap()
        }
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_whole_and_each_is_in_a_slice_of_its_own(interval in any_interval()) {
            let parts: Vec<_> = interval.parts().collect();
            let sum: i32 = parts.iter().map(|part| part.steps().unwrap().get()).sum();
            prop_assert_eq!(sum, interval.whole().steps().unwrap().get());
            let kcal: f64 = parts.iter().map(|part| part.calories().unwrap().get()).sum();
            let whole = interval.whole().calories().unwrap().get();
            prop_assert!((kcal - whole).abs() <= 1e-9 * whole, "{} of {}", kcal, whole);
            prop_assert_eq!(parts[0].timestamp(), interval.whole().timestamp());
            let slices: Vec<_> = parts.iter().map(|part| part.timestamp().timestamp().div_euclid(SLICE_SECONDS)).collect();
            prop_assert!(slices.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{:?}", slices);
            for part in &parts[1..] {
                prop_assert_eq!(part.timestamp().timestamp() % SLICE_SECONDS, 0);
                prop_assert!(part.timestamp() < interval.end());
            }
        }

        #[test]
        fn the_last_record_of_a_growing_interval_replaces_all_before_it(
            last in any_interval(),
            earlier in prop::collection::vec((0.01..1.0_f64, 0..=100_000_i64), 0..5),
        ) {
            let mut records: Vec<_> = earlier.into_iter().map(|(share, count)| {
                let start = last.whole().timestamp();
                let micros = TimeDelta::microseconds(micros(last.length())).as_seconds_f64() * share;
                let length = TimeDelta::from_std(std::time::Duration::from_secs_f64(micros)).unwrap();
                let whole = Sample::new(UserId::new(1).unwrap(), start, Source::default(), steps(count)).unwrap();
                Interval::new(whole, start + length.max(TimeDelta::microseconds(1)))
            }).collect::<Result<_, _>>().unwrap();
            records.sort_by_key(Interval::end);
            records.push(last.clone());
            prop_assert_eq!(stored(&records), stored([&last]));
        }

        /// Intervals that meet inside a slice have parts at different times, so none replaces another.
        #[test]
        fn intervals_that_do_not_overlap_give_the_same_totals_in_any_order(
            lengths in prop::collection::vec((1..7_200_000_000_i64, 0..=3_000_i64), 1..12),
            order in any::<prop::sample::Index>(),
        ) {
            let mut start = parse_timestamp("2025-03-02T00:00:00Z").unwrap();
            let mut intervals = Vec::new();
            for (length, count) in lengths {
                let whole = Sample::new(UserId::new(1).unwrap(), start, Source::default(), steps(count)).unwrap();
                start += TimeDelta::microseconds(length);
                intervals.push(Interval::new(whole, start).unwrap());
            }
            let in_order = stored(&intervals);
            let total: i32 = intervals.iter().map(|interval| interval.whole().steps().unwrap().get()).sum();
            prop_assert_eq!(in_order.values().sum::<i32>(), total);
            let middle = order.index(intervals.len());
            intervals.rotate_left(middle);
            prop_assert_eq!(&stored(&intervals), &in_order);
            intervals.reverse();
            prop_assert_eq!(&stored(&intervals), &in_order);
        }
    }
}
