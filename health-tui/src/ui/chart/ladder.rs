//! The numbers left of a chart.

use crate::ui::{chart::axis::cell, spark::Scale};

/// A scale whose labels are round numbers and stand the same number of rows apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ladder {
    pub(super) scale: Scale,
    pub(super) step: f64,
    pub(super) rows_apart: u16,
}

impl Ladder {
    /// At least ten from the bottom to the top: a quiet heart must not look like a mountain range.
    pub(super) fn of(values: impl IntoIterator<Item = f64>, rows: u16) -> Self {
        const SPAN_LEAST: f64 = 10.0;
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in values {
            low = low.min(v);
            high = high.max(v);
        }
        if low > high {
            (low, high) = (0.0, SPAN_LEAST);
        }
        let gaps = f64::from(rows.saturating_sub(1).max(1));
        let least = match rows {
            0..=4 => 1,
            5..=9 => 2,
            _ => 3,
        };
        let mut ladder = None;
        for step in [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 100.0, 200.0, 300.0] {
            let round: f64 = f64::min(step, 10.0);
            let bottom = (low / round).floor() * round;
            let rows_apart = cell(step * gaps / (high - bottom).max(SPAN_LEAST));
            ladder = Some(Self {
                scale: Scale {
                    low: bottom,
                    high: bottom + step * gaps / f64::from(rows_apart.max(1)),
                },
                step,
                rows_apart: rows_apart.max(1),
            });
            if rows_apart >= least {
                break;
            }
        }
        ladder.unwrap_or(Self {
            scale: Scale { low, high },
            step: SPAN_LEAST,
            rows_apart: 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_evenly_and_the_readings_fit() {
        for (low, high) in [
            (72.0, 72.0),
            (83.0, 140.0),
            (41.0, 199.0),
            (20.0, 250.0),
            (119.5, 154.0),
        ] {
            for rows in 2..60 {
                let l = Ladder::of([low, high], rows);
                assert!(
                    l.scale.low <= low && high <= l.scale.high + 1e-9,
                    "{low} to {high} in {rows}: {l:?}"
                );
                let labels = f64::from((rows - 1) / l.rows_apart);
                assert!(l.scale.low + l.step * labels <= l.scale.high + 1e-9, "{l:?}");
                assert!(rows < 4 || labels >= 1.0, "{low} to {high} in {rows}: {l:?}");
            }
        }
    }
}
