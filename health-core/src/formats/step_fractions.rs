//! Whole steps from counts with fractions.

use std::collections::HashMap;

use crate::{
    formats::entry::Fault,
    sample::{Source, Steps},
};

/// The fractions of steps that each source of one file or body has left.
///
/// Apple divides a count over minutes: 1.566, 1.566, 0.195. If S is the running sum of a source, an entry gets
/// floor(S after) − floor(S before), so that the entries sum to the whole. Only entries that are not refused may be
/// added.
///
/// ```
/// use health_core::{Source, formats::StepFractions};
///
/// let (mut fractions, watch) = (StepFractions::default(), Source::default());
/// let whole = [1.566, 1.566, 0.195].map(|count| fractions.add("qty", &watch, count).unwrap().get());
/// assert_eq!(whole, [1, 2, 0]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct StepFractions {
    /// For each source, its sum without the whole steps that entries got. Sources without a fraction are not kept.
    rests: HashMap<Source, f64>,
}

/// A sum this little below an integer counts as that integer: the sums of binary fractions are not exact.
const TOLERANCE: f64 = 1e-6;

/// Sources of one body that may have a fraction at a time. It bounds the memory that a body takes.
const SOURCES_MAX: usize = 10_000;

/// The greatest count of one entry, as in [`Steps`].
const COUNT_MAX: f64 = 100_000.0;

impl StepFractions {
    /// Adds the count of an entry. Returns its whole steps. `name` is the sender's name of the count.
    ///
    /// # Errors
    /// A [`Fault`] if the count is not between 0 and 100 000. It changes nothing.
    pub fn add(&mut self, name: &str, source: &Source, count: f64) -> Result<Steps, Fault> {
        let outside = || {
            Fault::with_kind(
                format!("{name} {count} is not between 0 and 100000 steps"),
                format!("{name} is outside 0 to 100000"),
            )
        };
        if !(0.0..=COUNT_MAX).contains(&count) {
            return Err(outside());
        }
        let sum = self.rests.get(source).copied().unwrap_or_default() + count;
        let floor = (sum + TOLERANCE).floor();
        let steps = whole(floor).ok_or_else(outside)?;
        let rest = sum - floor;
        if rest.abs() < f64::EPSILON {
            self.rests.remove(source);
        } else if self.rests.len() < SOURCES_MAX || self.rests.contains_key(source) {
            self.rests.insert(source.clone(), rest);
        } else {
            let reason = format!("{name} has a fraction, and more than {SOURCES_MAX} sources have one");
            return Err(Fault::new(reason));
        }
        Ok(steps)
    }
}

/// Returns the steps of a float without a fraction.
fn whole(floor: f64) -> Option<Steps> {
    let steps: i64 = format!("{floor:.0}").parse().ok()?;
    // Rounding can make the sum of a fraction and the greatest count one more than that count.
    Steps::new(steps.min(100_000)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(name: &str) -> Source {
        Source::new(name).unwrap()
    }

    #[test]
    fn the_steps_of_each_source_sum_to_its_count() {
        let mut fractions = StepFractions::default();
        let mut add = |name, count| fractions.add("qty", &source(name), count).unwrap().get();
        let minutes = [
            1.566_173_441_650_3,
            1.566_173_441_650_3,
            1.566_173_441_650_300_4,
            1.566_173_441_650_300_4,
            1.535_648_902_358_950_4,
            0.195_390_697_565_870_85,
            0.783_085_532_917_921_2,
            0.783_085_532_917_921,
            0.238_436_598_236_287,
            112.0,
        ];
        let whole = minutes.map(|count| {
            assert_eq!(add("other", 0.4), 0);
            assert_eq!(add("other", 0.6), 1);
            add("watch", count)
        });
        assert_eq!(whole, [1, 2, 1, 2, 1, 0, 1, 1, 0, 112]);
    }

    #[test]
    fn ten_tenths_are_one_step() {
        let mut fractions = StepFractions::default();
        let tenths = [0.1; 10].map(|tenth| fractions.add("qty", &source(""), tenth).unwrap().get());
        assert_eq!(tenths, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!(fractions.rests.values().all(|rest| rest.abs() < 1e-9));
    }

    #[test]
    fn counts_outside_the_limits_are_refused_and_do_not_count() {
        let mut fractions = StepFractions::default();
        for count in [-0.1, 100_000.1, f64::NAN, f64::INFINITY] {
            let refused = fractions.add("qty", &source(""), count).unwrap_err();
            assert_eq!(refused.kind, "qty is outside 0 to 100000", "{count}");
        }
        assert_eq!(fractions.add("qty", &source(""), 0.5).unwrap().get(), 0);
        assert_eq!(fractions.add("qty", &source(""), 100_000.0).unwrap().get(), 100_000);
        assert_eq!(fractions.add("qty", &source(""), 0.5).unwrap().get(), 1);
    }

    #[test]
    fn the_number_of_sources_with_a_fraction_is_bounded() {
        let mut fractions = StepFractions::default();
        for number in 0..SOURCES_MAX {
            fractions.add("qty", &source(&number.to_string()), 0.5).unwrap();
        }
        assert!(fractions.add("qty", &source("one more"), 0.5).is_err());
        assert_eq!(fractions.add("qty", &source("one more"), 3.0).unwrap().get(), 3);
        assert_eq!(fractions.add("qty", &source("0"), 0.5).unwrap().get(), 1);
        assert!(fractions.add("qty", &source("one more"), 0.5).is_ok());
    }

    proptest! {
        #[test]
        fn any_counts_sum_to_the_floor_of_their_sum(counts in prop::collection::vec(0.0..50.0_f64, 0..200)) {
            let mut fractions = StepFractions::default();
            let sum: i32 = counts.iter().map(|count| fractions.add("qty", &source(""), *count).unwrap().get()).sum();
            let exact: f64 = counts.iter().sum();
            prop_assert!((exact - f64::from(sum)) > -2e-6 && exact - f64::from(sum) < 1.0, "{} of {}", sum, exact);
        }
    }
}
