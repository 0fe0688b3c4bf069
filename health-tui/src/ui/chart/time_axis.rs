//! The time axis of a chart: which instant is in which column, and the ticks below the plot.

use chrono::{DateTime, Offset, TimeDelta, Utc};
use chrono_tz::Tz;
use ratatui::layout::Rect;

use crate::{
    fmt,
    ui::{
        canvas::{Canvas, columns},
        chart::whole_cells,
    },
};

/// The columns that a label and the gap after it take.
const LABEL_WIDTH: u16 = 8;

/// The distances between ticks, in seconds. Each is round on a clock or a calendar.
const TICK_STEPS_SECONDS: [i64; 20] = [
    10, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600,
    2_592_000, 7_776_000, 31_536_000,
];

/// The time from the left edge of a chart to its right edge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeAxis {
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    /// The time zone of the labels.
    pub(crate) tz: Tz,
}

impl TimeAxis {
    /// Returns the position of an instant: 0 at the left edge, 1 at the right edge. It can lie outside.
    pub(crate) fn position(&self, at: DateTime<Utc>) -> f64 {
        let length = (self.end - self.start).as_seconds_f64();
        if length <= 0.0 {
            0.0
        } else {
            (at - self.start).as_seconds_f64() / length
        }
    }

    /// Returns the column of an instant in a plot of this width, `None` if it lies outside.
    pub(crate) fn column(&self, at: DateTime<Utc>, width: u16) -> Option<u16> {
        let position = self.position(at);
        (0.0..1.0)
            .contains(&position)
            .then(|| whole_cells(position * f64::from(width)).min(width.saturating_sub(1)))
    }

    pub(crate) fn contains(&self, at: DateTime<Utc>) -> bool {
        self.start <= at && at < self.end
    }

    /// Draws the labels of round times below the plot, as many as fit.
    pub(super) fn draw(&self, canvas: &mut Canvas<'_>, plot: Rect) {
        let step = self.tick_step_seconds(plot.width);
        let utc_offset = i64::from(self.start.with_timezone(&self.tz).offset().fix().local_minus_utc());
        // Ticks are round in local time: midnight, not 00:00 UTC.
        let first = (self.start.timestamp() + utc_offset).div_euclid(step) * step - utc_offset;
        let mut next_free = plot.x.saturating_sub(2);
        let ticks = (0..)
            .map(|i| first + i * step)
            .take_while(|at| *at < self.end.timestamp());
        for at in ticks.map_while(|seconds| DateTime::from_timestamp(seconds, 0)) {
            let Some(column) = self.column(at, plot.width) else {
                continue;
            };
            let label = fmt::axis_label(at, self.tz, TimeDelta::seconds(step));
            let width = columns(&label);
            let x = (plot.x + column).saturating_sub(width / 2);
            // A label that cannot be centred below its tick is left out: it would mark another time.
            if x >= next_free && x + width <= plot.right() + 1 {
                canvas.text(x, plot.bottom(), width, &label, canvas.theme.dim);
                next_free = x + width + 2;
            }
        }
    }

    fn tick_step_seconds(&self, width: u16) -> i64 {
        let length = (self.end - self.start).num_seconds().max(1);
        let labels_max = i64::from(width / LABEL_WIDTH).max(1);
        TICK_STEPS_SECONDS
            .into_iter()
            .find(|step| length / step <= labels_max)
            .unwrap_or(TICK_STEPS_SECONDS[TICK_STEPS_SECONDS.len() - 1])
    }
}
