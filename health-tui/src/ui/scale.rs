//! The scale of a chart: which value is at its bottom and which at its top.

/// The values at the bottom and at the top of a chart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Scale {
    /// Covers `values` between two multiples of `step`, so that the scale does not change with every reading.
    pub(crate) fn around(values: impl IntoIterator<Item = f64>, step: f64) -> Self {
        let (low, high) = min_max(values).unwrap_or((0.0, step));
        let low = (low / step).floor() * step;
        let high = ((high / step).ceil() * step).max(low + step);
        Self { low, high }
    }

    /// Covers 0 to the largest value, rounded up to 1, 2, 3 or 5 times a power of ten.
    pub(crate) fn from_zero(values: impl IntoIterator<Item = f64>) -> Self {
        Self::up_to(values, -1, &[1.0, 2.0, 3.0, 5.0])
    }

    /// Covers 0 to the largest value, rounded up in smaller steps: a chart with several lines shows the difference.
    pub(crate) fn from_zero_fine(values: impl IntoIterator<Item = f64>) -> Self {
        Self::up_to(values, 0, &[1.0, 1.2, 1.6, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0])
    }

    fn up_to(values: impl IntoIterator<Item = f64>, first_exponent: i32, steps: &[f64]) -> Self {
        let max = values.into_iter().fold(0.0, f64::max);
        let powers_of_ten = (first_exponent..=7).map(|n| 10f64.powi(n));
        let high = powers_of_ten
            .flat_map(|power| steps.iter().map(move |step| step * power))
            .find(|high| *high >= max)
            .unwrap_or(max);
        Self { low: 0.0, high }
    }

    /// Returns the position of a value: 0 at the bottom, 1 at the top.
    pub(crate) fn position(self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

/// Returns the smallest and the largest value, `None` without values.
pub(crate) fn min_max(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        min = min.min(value);
        max = max.max(value);
    }
    (min <= max).then_some((min, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        assert_eq!(Scale::around([63.0, 118.0], 10.0), Scale { low: 60.0, high: 120.0 });
        assert_eq!(Scale::around([], 10.0), Scale { low: 0.0, high: 10.0 });
        assert_eq!(Scale::around([70.0], 10.0), Scale { low: 70.0, high: 80.0 });
        for (max, high) in [
            (0.0, 0.1),
            (0.13, 0.2),
            (0.4, 0.5),
            (7.0, 10.0),
            (23.0, 30.0),
            (110.0, 200.0),
        ] {
            assert!((Scale::from_zero([max]).high - high).abs() < 1e-9, "{max}");
        }
    }
}
