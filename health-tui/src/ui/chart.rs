//! Charts over time: a line in Braille dots, bars in eighths of a cell.
//!
//! A cell holds two dots side by side and four on top of each other. Lines are drawn into a grid of such cells first, so
//! that several of them can cross, and then painted once.

use std::borrow::Cow;

use chrono::{DateTime, Offset, TimeDelta, Utc};
use chrono_tz::Tz;
use ratatui::layout::Rect;

use crate::{
    fmt,
    layout::{self, SCALE_WIDTH},
    theme::Ink,
    ui::{
        paint::{Paint, columns},
        spark::Scale,
    },
};

/// Readings further apart than this many usual steps have a gap between them.
const GAP_STEPS: i32 = 4;

/// A stretch of time from the left edge to the right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    pub(crate) tz: Tz,
}

/// One reading, or a bucket of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) at: DateTime<Utc>,
    pub(crate) low: f64,
    pub(crate) mean: f64,
    pub(crate) high: f64,
}

/// Marks in the order of time, and the colours of their line.
pub(crate) struct Series {
    pub(crate) marks: Vec<Mark>,
    pub(crate) ink: Ink,
}

/// What was counted from one instant to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
    pub(crate) value: f64,
}

impl Axis {
    /// 0 at the left edge, 1 at the right.
    pub(crate) fn share(&self, at: DateTime<Utc>) -> f64 {
        let span = (self.end - self.start).as_seconds_f64();
        if span <= 0.0 {
            0.0
        } else {
            (at - self.start).as_seconds_f64() / span
        }
    }

    /// The column of a plot `width` wide, where it is on it.
    pub(crate) fn column(&self, at: DateTime<Utc>, width: u16) -> Option<u16> {
        let share = self.share(at);
        (0.0..1.0)
            .contains(&share)
            .then(|| cell(share * f64::from(width)).min(width.saturating_sub(1)))
    }
}

/// A line chart with title, scale and wall-clock axis; `bands` are thin lines at values worth seeing.
pub(crate) fn lines(p: &mut Paint<'_>, area: Rect, axis: &Axis, series: &[Series], cursor: Option<DateTime<Utc>>) {
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

/// A scale whose labels are round numbers and stand the same number of rows apart.
#[derive(Clone, Copy, Debug)]
struct Ladder {
    scale: Scale,
    step: f64,
    rows_apart: u16,
}

impl Ladder {
    /// At least ten from the bottom to the top: a quiet heart must not look like a mountain range.
    fn of(values: impl IntoIterator<Item = f64>, rows: u16) -> Self {
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

/// Dots by cell: which are set, and by which series; a spread (lowest to highest) is kept apart from the line of means.
struct Grid {
    width: u16,
    height: u16,
    cells: Vec<Dots>,
}

#[derive(Clone, Copy, Default)]
struct Dots {
    line: u8,
    spread: u8,
    series: usize,
}

/// The bits of Unicode's Braille patterns, by column and row of the dot.
const BRAILLE: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

impl Grid {
    fn new(width: u16, height: u16) -> Self {
        Self {
            width,
            height,
            cells: vec![Dots::default(); usize::from(width) * usize::from(height)],
        }
    }

    fn draw(&mut self, series: &Series, index: usize, axis: &Axis, scale: Scale, spreads: bool) {
        // A column of dots can be wider than the usual step; neighbours in it are no gap.
        let dot = (axis.end - axis.start) / (2 * i32::from(self.width.max(1)));
        let gap = (usual_step(&series.marks) * GAP_STEPS).max(dot * 2);
        let across = f64::from(self.width) * 2.0;
        let marks = thinned(&series.marks, axis, across);
        let up = f64::from(self.height) * 4.0 - 1.0;
        let place = |at: DateTime<Utc>, v: f64| (axis.share(at) * across, scale.share(v) * up);
        let mut before: Option<&Mark> = None;
        for mark in marks.iter() {
            let (x, y) = place(mark.at, mark.mean);
            if spreads && mark.high > mark.low {
                let (low, high) = (scale.share(mark.low) * up, scale.share(mark.high) * up);
                self.column(x, low, high, index, true);
            }
            match before.filter(|b| mark.at - b.at <= gap) {
                Some(b) => {
                    let from = place(b.at, b.mean);
                    self.stroke(from, (x, y), index);
                }
                None => self.column(x, y, y, index, false),
            }
            before = Some(mark);
        }
    }

    /// A line from one dot to another: in each column of dots the part that lies in it.
    fn stroke(&mut self, from: (f64, f64), to: (f64, f64), index: usize) {
        let across = f64::from(self.width) * 2.0;
        if to.0 < 0.0 || from.0 >= across {
            return;
        }
        let slope = if to.0 - from.0 < 1e-9 {
            0.0
        } else {
            (to.1 - from.1) / (to.0 - from.0)
        };
        let y_at = |x: f64| from.1 + (x - from.0) * slope;
        let (mut x, end) = (from.0.max(0.0), to.0.min(across - 1e-6));
        loop {
            let next = (x.floor() + 1.0).min(end);
            let (a, b) = if slope == 0.0 && (to.0 - from.0 < 1e-9) {
                (from.1, to.1)
            } else {
                (y_at(x), y_at(next))
            };
            self.column(x, a.min(b), a.max(b), index, false);
            if next >= end {
                return;
            }
            x = next;
        }
    }

    /// Dots from `low` to `high` in the column at `x`.
    fn column(&mut self, x: f64, low: f64, high: f64, index: usize, spread: bool) {
        let most = self.height * 4;
        if x < 0.0 || x >= f64::from(self.width) * 2.0 || most == 0 {
            return;
        }
        let dot_x = cell(x);
        for dot in cell(low + 0.5).min(most - 1)..=cell(high + 0.5).min(most - 1) {
            let down = most - 1 - dot;
            let at = usize::from(down / 4) * usize::from(self.width) + usize::from(dot_x / 2);
            let bit = BRAILLE[usize::from(dot_x % 2)][usize::from(down % 4)];
            let Some(dots) = self.cells.get_mut(at) else { continue };
            if spread {
                dots.spread |= bit;
            } else {
                dots.line |= bit;
                dots.series = index;
            }
        }
    }

    fn paint(&self, p: &mut Paint<'_>, plot: Rect, series: &[Series]) {
        for (i, dots) in self.cells.iter().enumerate() {
            if dots.line == 0 && dots.spread == 0 {
                continue;
            }
            let row = u16::try_from(i / usize::from(self.width)).unwrap_or(0);
            let column = u16::try_from(i % usize::from(self.width)).unwrap_or(0);
            let Some(cell) = p.buf.cell_mut((plot.x + column, plot.y + row)) else {
                continue;
            };
            // A cell has one colour: where the line passes, its spread would take the line's.
            let (bits, style) = if dots.line != 0 {
                (dots.line, series.get(dots.series).map_or(p.theme.base, |s| s.ink.full))
            } else {
                (dots.spread, series.first().map_or(p.theme.line, |s| s.ink.faint))
            };
            if p.app.settings.unicode {
                let symbol = char::from_u32(0x2800 + u32::from(bits)).unwrap_or(' ');
                cell.set_char(symbol).set_style(style);
            } else {
                cell.set_symbol(if dots.line != 0 { "*" } else { ":" }).set_style(style);
            }
        }
    }
}

/// Where there are more marks than columns of dots, one a column: the lowest, the mean and the highest of those in it.
fn thinned<'a>(marks: &'a [Mark], axis: &Axis, across: f64) -> Cow<'a, [Mark]> {
    let inside = marks.iter().filter(|m| axis.start <= m.at && m.at < axis.end).count();
    if f64::from(u32::try_from(inside).unwrap_or(u32::MAX)) <= across {
        return Cow::Borrowed(marks);
    }
    let column = |m: &Mark| cell(axis.share(m.at) * across);
    let before_or_behind = |m: &Mark| m.at < axis.start || axis.end <= m.at;
    let thin = marks
        .chunk_by(|a, b| before_or_behind(a) == before_or_behind(b) && column(a) == column(b))
        .map(|chunk| {
            let n = f64::from(u32::try_from(chunk.len()).unwrap_or(u32::MAX));
            Mark {
                at: chunk[chunk.len() / 2].at,
                low: chunk.iter().map(|m| m.low).fold(f64::INFINITY, f64::min),
                mean: chunk.iter().map(|m| m.mean).sum::<f64>() / n,
                high: chunk.iter().map(|m| m.high).fold(f64::NEG_INFINITY, f64::max),
            }
        });
    Cow::Owned(thin.collect())
}

/// The middle of the distances between neighbours, at least a second.
fn usual_step(marks: &[Mark]) -> TimeDelta {
    let mut steps: Vec<TimeDelta> = marks
        .windows(2)
        .map(|w| w[1].at - w[0].at)
        .filter(|d| *d > TimeDelta::zero())
        .collect();
    if steps.is_empty() {
        return TimeDelta::days(3_650);
    }
    let middle = steps.len() / 2;
    (*steps.select_nth_unstable(middle).1).max(TimeDelta::seconds(1))
}

/// The whole cells in a length; negative ones are none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what a place beyond the edge needs"
)]
fn cell(v: f64) -> u16 {
    v as u16
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

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

    #[test]
    fn a_gap_is_not_bridged() {
        let mark = |s| Mark {
            at: t(s),
            low: 70.0,
            mean: 70.0,
            high: 70.0,
        };
        let series = Series {
            marks: [0, 1, 2, 3, 4, 5, 90, 91, 92, 93].map(mark).to_vec(),
            ink: Ink::all(Style::new()),
        };
        let mut grid = Grid::new(50, 1);
        grid.draw(&series, 0, &axis(100), Scale { low: 60.0, high: 80.0 }, true);
        assert!(grid.cells[0].line != 0 && grid.cells[2].line != 0 && grid.cells[45].line != 0);
        assert!(grid.cells[5..44].iter().all(|c| c.line == 0));
    }

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
