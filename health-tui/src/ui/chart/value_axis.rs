//! The value axis of a line chart: its scale, and the ticks left of the plot.

use ratatui::layout::Rect;

use crate::{
    fmt,
    layout::VALUE_AXIS_WIDTH,
    ui::{
        canvas::Canvas,
        chart::whole_cells,
        scale::{Scale, min_max},
    },
};

/// The smallest range of the scale. Without it, a steady heart rate would look like a mountain range.
const RANGE_MIN: f64 = 10.0;

/// The distances between ticks, in beats per minute.
const TICK_STEPS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 100.0, 200.0, 300.0];

/// A value axis whose ticks are round numbers, the same number of rows apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct ValueAxis {
    pub(super) scale: Scale,
    tick_step: f64,
    rows_per_tick: u16,
}

impl ValueAxis {
    /// Covers `values` in a plot of this height.
    pub(super) fn new(values: impl IntoIterator<Item = f64>, height: u16) -> Self {
        let (low, high) = min_max(values).unwrap_or((0.0, RANGE_MIN));
        let row_gaps = f64::from(height.saturating_sub(1).max(1));
        // A low plot needs its ticks closer together, or it would have only one.
        let rows_per_tick_min = match height {
            0..=4 => 1,
            5..=9 => 2,
            _ => 3,
        };
        let with_step = |tick_step: f64| {
            let multiple = f64::min(tick_step, 10.0);
            let low = (low / multiple).floor() * multiple;
            let rows_per_tick = whole_cells(tick_step * row_gaps / (high - low).max(RANGE_MIN));
            (tick_step, low, rows_per_tick)
        };
        let widest = TICK_STEPS[TICK_STEPS.len() - 1];
        let (tick_step, low, rows_per_tick) = TICK_STEPS
            .into_iter()
            .map(with_step)
            .find(|(.., rows)| *rows >= rows_per_tick_min)
            .unwrap_or_else(|| with_step(widest));
        let rows_per_tick = rows_per_tick.max(1);
        Self {
            scale: Scale {
                low,
                high: low + tick_step * row_gaps / f64::from(rows_per_tick),
            },
            tick_step,
            rows_per_tick,
        }
    }

    /// Draws a number left of the plot and a gridline through it for each tick.
    pub(super) fn draw(&self, canvas: &mut Canvas<'_>, plot: Rect) {
        let mut value = self.scale.low;
        for row in (0..plot.height).step_by(self.rows_per_tick.into()) {
            let y = plot.bottom() - 1 - row;
            let right = plot.x.saturating_sub(1);
            canvas.text_right(right, y, VALUE_AXIS_WIDTH, &fmt::short(value), canvas.theme.dim);
            for x in plot.left()..plot.right() {
                canvas.text(x, y, 1, canvas.symbols.gridline, canvas.theme.border);
            }
            value += self.tick_step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_covers_the_readings_and_its_ticks_are_inside() {
        for (low, high) in [
            (72.0, 72.0),
            (83.0, 140.0),
            (41.0, 199.0),
            (20.0, 250.0),
            (119.5, 154.0),
        ] {
            for height in 2..60 {
                let axis = ValueAxis::new([low, high], height);
                assert!(
                    axis.scale.low <= low && high <= axis.scale.high + 1e-9,
                    "{low} to {high} in {height}: {axis:?}"
                );
                let ticks = f64::from((height - 1) / axis.rows_per_tick);
                assert!(
                    axis.scale.low + axis.tick_step * ticks <= axis.scale.high + 1e-9,
                    "{axis:?}"
                );
                assert!(height < 4 || ticks >= 1.0, "{low} to {high} in {height}: {axis:?}");
            }
        }
    }
}
