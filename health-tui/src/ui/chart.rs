//! Charts over time: a line in Braille dots, bars in eighths of a cell.

mod axis;
mod grid;
mod ladder;

use chrono::{DateTime, Offset, TimeDelta, Utc};
use ratatui::layout::Rect;

use crate::{
    fmt,
    layout::{self, SCALE_WIDTH},
    theme::Ink,
    ui::{
        chart::{axis::cell, grid::Grid, ladder::Ladder},
        paint::{Paint, columns},
        spark::Scale,
    },
};

pub(crate) use self::axis::{Axis, Mark, Series};

/// What was counted from one instant to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
    pub(crate) value: f64,
}

/// A line chart with title, scale and wall-clock axis.
pub(crate) fn lines(p: &mut Paint<'_>, area: Rect, axis: &Axis, series: &[Series<'_>], cursor: Option<DateTime<Utc>>) {
    let plot = layout::plot(area);
    if plot.width < 4 || plot.height < 2 {
        return;
    }
    let inside = |m: &&Mark| axis.start <= m.at && m.at < axis.end;
    let values = series
        .iter()
        .flat_map(|s| s.marks.iter().filter(inside))
        .flat_map(|m| [m.low, m.high]);
    let ladder = Ladder::of(values, plot.height);
    let scale = ladder.scale;
    if series.iter().any(|s| s.marks.iter().any(|m| inside(&m))) {
        scale_left(p, plot, &ladder);
    }
    axis_below(p, plot, axis);
    let mut grid = Grid::new(plot.width, plot.height);
    for (i, s) in series.iter().enumerate() {
        grid.draw(s, i, axis, scale, series.len() == 1);
    }
    grid.paint(p, plot, series);
    read_out_line(p, plot, axis, cursor);
}

/// Bars of what was counted a minute, with a scale from zero; the time axis is that of the chart above.
pub(crate) fn bars(
    p: &mut Paint<'_>,
    area: Rect,
    axis: &Axis,
    counts: &[Count],
    ink: Ink,
    cursor: Option<DateTime<Utc>>,
) {
    let plot = Rect {
        height: area.height.saturating_sub(1),
        ..layout::plot(area)
    };
    if plot.width < 4 || plot.height == 0 {
        return;
    }
    let rates = rates(axis, counts, plot.width);
    let scale = Scale::from_zero_closely(rates.iter().flatten().copied());
    let top = fmt::round(scale.high);
    p.text_right(plot.x.saturating_sub(1), plot.y, SCALE_WIDTH, &top, p.theme.dim);
    if plot.height > 2 {
        p.text_right(
            plot.x.saturating_sub(1),
            plot.bottom() - 1,
            SCALE_WIDTH,
            "0",
            p.theme.dim,
        );
    }
    // The bar under the read-out stands out in its own colour.
    let under = cursor
        .and_then(|c| axis.column(c, plot.width))
        .map(|column| plot.x + column);
    for (x, rate) in (plot.x..).zip(&rates) {
        let Some(rate) = rate else { continue };
        let eighths = cell(scale.share(*rate) * f64::from(plot.height) * 8.0);
        let eighths = if *rate > 0.0 { eighths.max(1) } else { 0 };
        if eighths == 0 {
            p.text(x, plot.bottom() - 1, 1, p.glyphs.levels[0], p.theme.line);
            continue;
        }
        for row in 0..plot.height {
            let left = eighths.saturating_sub(row * 8).min(8);
            if left > 0 {
                p.text(
                    x,
                    plot.bottom() - 1 - row,
                    1,
                    p.glyphs.levels[usize::from(left) - 1],
                    if Some(x) == under { ink.full } else { ink.soft },
                );
            }
        }
    }
    read_out_line(p, plot, axis, cursor);
}

/// What was counted a minute in each column; none where nothing was measured.
fn rates(axis: &Axis, counts: &[Count], width: u16) -> Vec<Option<f64>> {
    let column_minutes = (axis.end - axis.start).as_seconds_f64() / f64::from(width) / 60.0;
    let mut out = vec![None; usize::from(width)];
    for count in counts {
        let (from, to) = (
            axis.share(count.from) * f64::from(width),
            axis.share(count.to) * f64::from(width),
        );
        if to <= 0.0 || from >= f64::from(width) {
            continue;
        }
        let long = (to - from).max(1e-9);
        let (first, last) = (cell(from), cell(to).min(width - 1));
        for column in first..=last {
            let overlap = to.min(f64::from(column) + 1.0) - from.max(f64::from(column));
            if overlap > 0.0 {
                let slot: &mut Option<f64> = &mut out[usize::from(column)];
                *slot = Some(slot.unwrap_or(0.0) + count.value * overlap / long / column_minutes);
            }
        }
    }
    out
}

fn scale_left(p: &mut Paint<'_>, plot: Rect, ladder: &Ladder) {
    let mut v = ladder.scale.low;
    for up in (0..plot.height).step_by(ladder.rows_apart.into()) {
        let y = plot.bottom() - 1 - up;
        p.text_right(plot.x.saturating_sub(1), y, SCALE_WIDTH, &fmt::short(v), p.theme.dim);
        for x in plot.left()..plot.right() {
            p.text(x, y, 1, p.glyphs.grid, p.theme.line);
        }
        v += ladder.step;
    }
}

/// Labels of the wall clock at round times, as many as fit.
fn axis_below(p: &mut Paint<'_>, plot: Rect, axis: &Axis) {
    const STEPS_SECONDS: [i64; 20] = [
        10, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
        1_209_600, 2_592_000, 7_776_000, 31_536_000,
    ];
    let span = (axis.end - axis.start).num_seconds().max(1);
    let room = i64::from(plot.width / 8).max(1);
    let step = STEPS_SECONDS
        .into_iter()
        .find(|s| span / s <= room)
        .unwrap_or(31_536_000);
    let offset = i64::from(axis.start.with_timezone(&axis.tz).offset().fix().local_minus_utc());
    let first = axis.start.timestamp() + offset;
    let mut at = first.div_euclid(step) * step - offset;
    let mut free = plot.x.saturating_sub(2);
    let y = plot.bottom();
    while at < axis.end.timestamp() {
        let Some(time) = DateTime::from_timestamp(at, 0) else {
            return;
        };
        let text = fmt::axis(time, axis.tz, TimeDelta::seconds(step));
        if let Some(column) = axis.column(time, plot.width) {
            let half = columns(&text) / 2;
            let x = (plot.x + column).saturating_sub(half);
            // A label that cannot stand under its instant would lie.
            if x >= free && x + columns(&text) <= plot.right() + 1 {
                p.text(x, y, columns(&text), &text, p.theme.dim);
                free = x + columns(&text) + 2;
            }
        }
        at += step;
    }
}

fn read_out_line(p: &mut Paint<'_>, plot: Rect, axis: &Axis, cursor: Option<DateTime<Utc>>) {
    let Some(column) = cursor.and_then(|c| axis.column(c, plot.width)) else {
        return;
    };
    let x = plot.x + column;
    for y in plot.top()..plot.bottom() {
        let Some(cell) = p.buf.cell_mut((x, y)) else { continue };
        if cell.symbol() == " " || cell.symbol() == p.glyphs.grid {
            cell.set_symbol(p.glyphs.vertical).set_style(p.theme.accent);
        } else if !p.glyphs.levels.contains(&cell.symbol()) {
            // Dots are seen through the line, in its colour.
            cell.set_style(p.theme.accent);
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;

    fn t(s: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_740_938_400 + s, 0).unwrap()
    }

    fn axis(seconds: i64) -> Axis {
        Axis {
            start: t(0),
            end: t(seconds),
            tz: Tz::UTC,
        }
    }

    #[test]
    fn counts_are_spread_over_the_time_they_were_counted_in() {
        let counts = [
            Count {
                from: t(0),
                to: t(90),
                value: 90.0,
            },
            Count {
                from: t(180),
                to: t(240),
                value: 0.0,
            },
        ];
        // Four columns of a minute each: 60 a minute, 30 in the half-filled one, nothing known, zero.
        assert_eq!(rates(&axis(240), &counts, 4), [Some(60.0), Some(30.0), None, Some(0.0)]);
    }
}
