//! Charts over time: lines of Braille dots, and bars in eighths of a cell.

mod braille;
mod time_axis;
mod value_axis;

use chrono::{DateTime, Utc};
use ratatui::layout::Rect;

pub(crate) use self::time_axis::TimeAxis;
use crate::{
    fmt,
    layout::{self, VALUE_AXIS_WIDTH},
    theme::MetricStyle,
    ui::{
        canvas::Canvas,
        chart::{braille::BrailleGrid, value_axis::ValueAxis},
        scale::Scale,
    },
};

/// A point of a line: one reading, or the lowest, the mean and the highest of several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinePoint {
    pub(crate) at: DateTime<Utc>,
    pub(crate) low: f64,
    pub(crate) mean: f64,
    pub(crate) high: f64,
}

/// One line of a chart: its points in the order of time, and its colours.
pub(crate) struct Series<'a> {
    pub(crate) points: &'a [LinePoint],
    pub(crate) style: MetricStyle,
}

/// A value that was counted from one instant to another, such as steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar {
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
    pub(crate) value: f64,
}

/// Draws a line chart with both axes. The first line of `area` stays free for a title.
pub(crate) fn lines(
    canvas: &mut Canvas<'_>,
    area: Rect,
    axis: &TimeAxis,
    series: &[Series<'_>],
    cursor: Option<DateTime<Utc>>,
) {
    let plot = layout::plot(area);
    if plot.width < 4 || plot.height < 2 {
        return;
    }
    let mut values = series
        .iter()
        .flat_map(|s| s.points)
        .filter(|point| axis.contains(point.at))
        .flat_map(|point| [point.low, point.high])
        .peekable();
    let is_empty = values.peek().is_none();
    let value_axis = ValueAxis::new(values, plot.height);
    if !is_empty {
        value_axis.draw(canvas, plot);
    }
    axis.draw(canvas, plot);
    let mut grid = BrailleGrid::new(plot.width, plot.height);
    for (i, s) in series.iter().enumerate() {
        grid.add(s, i, axis, value_axis.scale, series.len() == 1);
    }
    grid.draw(canvas, plot, series);
    cursor_line(canvas, plot, axis, cursor);
}

/// Draws bars of the counts a minute on a scale from 0. It draws no time axis: a chart with the same axis is above.
pub(crate) fn bars(
    canvas: &mut Canvas<'_>,
    area: Rect,
    axis: &TimeAxis,
    bars: &[Bar],
    style: MetricStyle,
    cursor: Option<DateTime<Utc>>,
) {
    let plot = Rect {
        height: area.height.saturating_sub(1),
        ..layout::plot(area)
    };
    if plot.width < 4 || plot.height == 0 {
        return;
    }
    let rates = rates_per_minute(axis, bars, plot.width);
    let scale = Scale::from_zero_fine(rates.iter().flatten().copied());
    let labels_right = plot.x.saturating_sub(1);
    let dim = canvas.theme.dim;
    canvas.text_right(labels_right, plot.y, VALUE_AXIS_WIDTH, &fmt::tick(scale.high), dim);
    if plot.height > 2 {
        canvas.text_right(labels_right, plot.bottom() - 1, VALUE_AXIS_WIDTH, "0", dim);
    }
    let cursor_column = cursor.and_then(|at| axis.column(at, plot.width));
    for (column, rate) in (0..plot.width).zip(&rates) {
        let Some(rate) = rate else { continue };
        // The bar under the cursor has the full colour.
        let bar_style = if Some(column) == cursor_column {
            style.full
        } else {
            style.soft
        };
        let x = plot.x + column;
        let eighths = whole_cells(scale.position(*rate) * f64::from(plot.height) * 8.0);
        if *rate <= 0.0 {
            canvas.text(x, plot.bottom() - 1, 1, canvas.symbols.bars[0], canvas.theme.border);
            continue;
        }
        // A small rate is at least visible.
        let eighths = eighths.max(1);
        for row in 0..plot.height.min(eighths.div_ceil(8)) {
            let in_row = usize::from((eighths - row * 8).min(8));
            let symbol = canvas.symbols.bars[in_row - 1];
            canvas.text(x, plot.bottom() - 1 - row, 1, symbol, bar_style);
        }
    }
    cursor_line(canvas, plot, axis, cursor);
}

/// Returns the rate a minute in each column, `None` if nothing was measured there. A count that covers several
/// columns is divided among them in proportion to time.
fn rates_per_minute(axis: &TimeAxis, bars: &[Bar], width: u16) -> Vec<Option<f64>> {
    let column_minutes = (axis.end - axis.start).as_seconds_f64() / f64::from(width) / 60.0;
    let mut rates: Vec<Option<f64>> = vec![None; usize::from(width)];
    for bar in bars {
        let from = axis.position(bar.from) * f64::from(width);
        let to = axis.position(bar.to) * f64::from(width);
        if to <= 0.0 || from >= f64::from(width) {
            continue;
        }
        let length = (to - from).max(1e-9);
        for column in whole_cells(from)..=whole_cells(to).min(width - 1) {
            let overlap = to.min(f64::from(column) + 1.0) - from.max(f64::from(column));
            if overlap > 0.0 {
                let rate = rates[usize::from(column)].get_or_insert(0.0);
                *rate += bar.value * overlap / length / column_minutes;
            }
        }
    }
    rates
}

/// Draws a vertical line at the cursor, behind the chart.
fn cursor_line(canvas: &mut Canvas<'_>, plot: Rect, axis: &TimeAxis, cursor: Option<DateTime<Utc>>) {
    let Some(column) = cursor.and_then(|at| axis.column(at, plot.width)) else {
        return;
    };
    for y in plot.top()..plot.bottom() {
        let Some(cell) = canvas.buf.cell_mut((plot.x + column, y)) else {
            continue;
        };
        if cell.symbol() == " " || cell.symbol() == canvas.symbols.gridline {
            cell.set_symbol(canvas.symbols.vertical_line)
                .set_style(canvas.theme.accent);
        } else if !canvas.symbols.bars.contains(&cell.symbol()) {
            // The dots of a line stay and take the colour of the cursor.
            cell.set_style(canvas.theme.accent);
        }
    }
}

/// Returns the whole cells of a length, 0 for a negative one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which clips a position outside the plot"
)]
fn whole_cells(length: f64) -> u16 {
    length as u16
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;

    fn time(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_740_938_400 + seconds, 0).unwrap()
    }

    #[test]
    fn counts_are_divided_over_the_columns_that_they_cover() {
        let bar = |from, to, value| Bar {
            from: time(from),
            to: time(to),
            value,
        };
        let axis = TimeAxis {
            start: time(0),
            end: time(240),
            tz: Tz::UTC,
        };
        // Four columns of one minute: 60 a minute, 30 in the half-covered column, not measured, 0.
        assert_eq!(
            rates_per_minute(&axis, &[bar(0, 90, 90.0), bar(180, 240, 0.0)], 4),
            [Some(60.0), Some(30.0), None, Some(0.0)]
        );
    }
}
