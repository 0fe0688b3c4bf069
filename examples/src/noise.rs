//! Random numbers that depend only on a key: the same key always gives the same number.

/// A source of pseudo-random numbers without state.
///
/// One source is derived from another by a number: the source of a person from the seed, the source of a day from the
/// person's. Samples can therefore be computed in any order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(scramble(seed))
    }

    /// Returns the source that belongs to a number.
    pub(crate) fn of(self, number: i64) -> Self {
        Self(scramble(self.0 ^ scramble(number.cast_unsigned())))
    }

    /// Returns a number in `[0, 1)`.
    pub(crate) fn unit(self, number: i64) -> f64 {
        // 52 random bits as the fraction of a number between 1 and 2.
        f64::from_bits((self.of(number).0 >> 12) | 1.0_f64.to_bits()) - 1.0
    }

    /// Returns a number in `[low, high)`.
    pub(crate) fn between(self, number: i64, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit(number)
    }

    /// Returns the value at a time of a smooth curve between -1 and 1 (value noise, with a knot every `period_ms`).
    pub(crate) fn curve(self, time_ms: i64, period_ms: u32) -> f64 {
        let step = i64::from(period_ms);
        let knot = time_ms.div_euclid(step);
        let passed_ms = u32::try_from(time_ms.rem_euclid(step)).unwrap_or(0);
        let share = f64::from(passed_ms) / f64::from(period_ms);
        // The slope is zero at the knots, so the curve has no corners.
        let blend = share * share * (3.0 - 2.0 * share);
        let (before, after) = (self.unit(knot), self.unit(knot + 1));
        2.0 * (before + (after - before) * blend) - 1.0
    }

    /// Returns an integer in `[0, limit)`.
    pub(crate) fn below(self, limit: u64) -> u64 {
        self.0 % limit.max(1)
    }
}

/// The finalizer of splitmix64 (Steele, Lea and Flood 2014): every bit of the result depends on every bit of the input.
fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_uniform_between_0_and_1() {
        let noise = Noise::new(7);
        let drawn: Vec<f64> = (0..10_000).map(|number| noise.unit(number)).collect();
        assert!(drawn.iter().all(|number| (0.0..1.0).contains(number)));
        let mean = drawn.iter().sum::<f64>() / 10_000.0;
        assert!((0.49..0.51).contains(&mean), "{mean}");
    }

    #[test]
    fn a_curve_has_no_jumps_and_no_corners() {
        let noise = Noise::new(7);
        for second in -100..100 {
            let at = |shift: i64| noise.curve(second * 1_000 + shift, 5_000);
            assert!((-1.0..=1.0).contains(&at(0)));
            assert!((at(1) - at(0)).abs() < 0.001, "at {second} s");
        }
    }
}
