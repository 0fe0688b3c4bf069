//! The axes of the charts: round numbers between the ends, and their places in the picture.

/// An axis from the bottom to the top of a chart, or from its left to its right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
    /// The places of `from` and `to` in the picture.
    start: f64,
    end: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scale {
    /// From 0 to a round number above the largest value.
    Linear,
    /// From a power of ten below the smallest value to one above the largest.
    Logarithmic,
}

impl Axis {
    /// Returns the axis that shows all values.
    pub(crate) fn of(scale: Scale, values: impl Iterator<Item = f64>, start: f64, end: f64) -> Self {
        let (mut lowest, mut highest) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0) {
            (lowest, highest) = (lowest.min(value), highest.max(value));
        }
        let (from, to) = match scale {
            Scale::Linear => (0.0, if highest > 0.0 { round_up(highest) } else { 1.0 }),
            Scale::Logarithmic if lowest <= highest => {
                let (from, to) = (lowest.log10().floor(), highest.log10().ceil());
                (10_f64.powf(from), 10_f64.powf(to.max(from + 1.0)))
            }
            Scale::Logarithmic => (1.0, 10.0),
        };
        Self {
            scale,
            from,
            to,
            start,
            end,
        }
    }

    /// Returns an axis of time, in seconds, which ends at the last moment.
    pub(crate) fn of_time(last: f64, start: f64, end: f64) -> Self {
        Self {
            scale: Scale::Linear,
            from: 0.0,
            to: last.max(1.0),
            start,
            end,
        }
    }

    /// Returns the place of a value.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Logarithmic => (value.max(self.from) / self.from).log10() / (self.to / self.from).log10(),
        };
        self.start + share * (self.end - self.start)
    }

    /// Returns the round numbers to write beside the axis.
    pub(crate) fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => multiples(self.to / 2.0, self.to),
            Scale::Logarithmic => {
                let decades = (self.to / self.from).log10().round();
                // At most five labels.
                let step = (decades / 4.0).ceil().max(1.0);
                let exponents = multiples(step, decades);
                exponents
                    .into_iter()
                    .map(|exponent| self.from * 10_f64.powf(exponent))
                    .collect()
            }
        }
    }

    /// Returns the round times to write below the axis: full minutes or hours.
    pub(crate) fn time_ticks(&self) -> Vec<f64> {
        const STEPS: [f64; 11] = [
            1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 86_400.0,
        ];
        let step = STEPS
            .into_iter()
            .find(|step| self.to / step <= 5.0)
            .unwrap_or(604_800.0);
        multiples(step, self.to)
    }
}

/// Returns 0, the step, twice the step, and so on up to the end.
fn multiples(step: f64, end: f64) -> Vec<f64> {
    let values = (0..100_u8).map(|number| f64::from(number) * step);
    values.take_while(|value| *value <= end * 1.000_001).collect()
}

/// Returns the next number of the form 1, 2, 4, 6 or 8 times a power of ten that is not smaller.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let factors = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0];
    let factor = factors.into_iter().find(|factor| value <= factor * power * 1.000_001);
    factor.unwrap_or(10.0) * power
}

/// Writes a number of an axis: `1.5 k` for 1500.
pub(crate) fn number(value: f64) -> String {
    match value {
        1e6.. => format!("{} M", value / 1e6),
        1e3.. => format!("{} k", value / 1e3),
        _ => format!("{}", (value * 1e3).round() / 1e3),
    }
}

/// Writes a time: `1:30 h`, `5 min` or `15 s`.
pub(crate) fn time(seconds: f64, last: f64) -> String {
    let minutes = (seconds / 60.0).floor();
    if last >= 3_600.0 {
        format!("{}:{:02} h", (minutes / 60.0).floor(), minutes % 60.0)
    } else if last >= 60.0 {
        format!("{minutes} min")
    } else {
        format!("{seconds} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number() {
        for (highest, end) in [
            (0.7, 0.8),
            (1.0, 1.0),
            (103.0, 200.0),
            (4_100.0, 6_000.0),
            (9_000.0, 10_000.0),
        ] {
            let axis = Axis::of(Scale::Linear, [highest].into_iter(), 100.0, 0.0);
            assert!((axis.to - end).abs() < 1e-9, "{highest}: {axis:?}");
            assert!(axis.place(end).abs() < 1e-9 && (axis.place(0.0) - 100.0).abs() < 1e-9);
        }
        let axis = Axis::of(Scale::Logarithmic, [0.5, 30.0].into_iter(), 100.0, 0.0);
        let ticks: Vec<_> = axis.ticks().into_iter().map(number).collect();
        assert_eq!(ticks, ["0.1", "1", "10", "100"]);
    }

    #[test]
    fn times_are_full_minutes_or_hours() {
        let labels = |last: f64| {
            let ticks = Axis::of_time(last, 0.0, 1.0).time_ticks();
            ticks.into_iter().map(|tick| time(tick, last)).collect::<Vec<_>>()
        };
        assert_eq!(labels(20.0), ["0 s", "5 s", "10 s", "15 s", "20 s"]);
        assert_eq!(labels(300.0), ["0 min", "1 min", "2 min", "3 min", "4 min", "5 min"]);
        assert_eq!(labels(7_200.0), ["0:00 h", "0:30 h", "1:00 h", "1:30 h", "2:00 h"]);
    }
}
