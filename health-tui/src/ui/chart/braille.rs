//! Lines of Braille dots: each cell has two columns of four dots.
//!
//! The lines are drawn into a grid of cells first, so that they can cross, and the grid is drawn once. Ratatui's
//! `Chart` is not used: it cannot leave gaps in a line or draw the range from the lowest to the highest reading
//! behind it.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use ratatui::layout::Rect;

use crate::ui::{
    canvas::Canvas,
    chart::{LinePoint, Series, TimeAxis, whole_cells},
    scale::Scale,
};

/// The line has a gap between two points that are more than this many usual distances apart.
const GAP_STEPS: i32 = 4;

/// The bits of a Unicode Braille pattern by column and row of the dot.
const DOT_BITS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// The dots of a plot.
pub(super) struct BrailleGrid {
    width: u16,
    height: u16,
    cells: Vec<BrailleCell>,
}

/// The dots of one cell, as bits of its Braille pattern.
#[derive(Clone, Copy, Default)]
struct BrailleCell {
    /// The line through the means.
    line: u8,
    /// The range from the lowest to the highest reading.
    range: u8,
    /// The index of the series that drew the line.
    series: usize,
}

/// What a dot belongs to.
#[derive(Clone, Copy)]
enum Layer {
    /// The line of the series with this index.
    Line(usize),
    Range,
}

impl BrailleGrid {
    pub(super) fn new(width: u16, height: u16) -> Self {
        Self {
            width,
            height,
            cells: vec![BrailleCell::default(); usize::from(width) * usize::from(height)],
        }
    }

    /// Columns of dots.
    fn dots_across(&self) -> f64 {
        f64::from(self.width) * 2.0
    }

    /// Adds the line of a series and, if `with_ranges`, the range of each point behind it.
    pub(super) fn add(&mut self, series: &Series<'_>, index: usize, axis: &TimeAxis, scale: Scale, with_ranges: bool) {
        let across = self.dots_across();
        let up = f64::from(self.height) * 4.0 - 1.0;
        // On a long axis one column of dots is longer than the usual distance: points in neighbouring columns belong
        // together.
        let dot_length = (axis.end - axis.start) / (2 * i32::from(self.width.max(1)));
        let gap = (usual_distance(series.points) * GAP_STEPS).max(dot_length * 2);
        let dot_position = |at: DateTime<Utc>, v: f64| (axis.position(at) * across, scale.position(v) * up);
        let mut previous: Option<&LinePoint> = None;
        for point in downsampled(series.points, axis, across).iter() {
            let (x, y) = dot_position(point.at, point.mean);
            if with_ranges && point.high > point.low {
                let (low, high) = (scale.position(point.low) * up, scale.position(point.high) * up);
                self.set_column(x, low, high, Layer::Range);
            }
            match previous.filter(|p| point.at - p.at <= gap) {
                Some(p) => self.set_line(dot_position(p.at, p.mean), (x, y), Layer::Line(index)),
                None => self.set_column(x, y, y, Layer::Line(index)),
            }
            previous = Some(point);
        }
    }

    /// Sets the dots of a straight line: in each column of dots, the part of the line that crosses it.
    fn set_line(&mut self, from: (f64, f64), to: (f64, f64), layer: Layer) {
        let across = self.dots_across();
        if to.0 < 0.0 || from.0 >= across {
            return;
        }
        let length = to.0 - from.0;
        if length < 1e-9 {
            return self.set_column(from.0.max(0.0), from.1.min(to.1), from.1.max(to.1), layer);
        }
        let y_at = |x: f64| from.1 + (x - from.0) * (to.1 - from.1) / length;
        let (mut x, end) = (from.0.max(0.0), to.0.min(across - 1e-6));
        loop {
            let next = (x.floor() + 1.0).min(end);
            let (a, b) = (y_at(x), y_at(next));
            self.set_column(x, a.min(b), a.max(b), layer);
            if next >= end {
                return;
            }
            x = next;
        }
    }

    /// Sets the dots from `low` to `high` in the column of dots at `x`. Positions are in dots from the lower left
    /// corner.
    fn set_column(&mut self, x: f64, low: f64, high: f64, layer: Layer) {
        let dots_down = self.height * 4;
        if x < 0.0 || x >= self.dots_across() || dots_down == 0 {
            return;
        }
        let column = whole_cells(x);
        let row = |y: f64| whole_cells(y + 0.5).min(dots_down - 1);
        for from_bottom in row(low)..=row(high) {
            let from_top = dots_down - 1 - from_bottom;
            let index = usize::from(from_top / 4) * usize::from(self.width) + usize::from(column / 2);
            let bit = DOT_BITS[usize::from(column % 2)][usize::from(from_top % 4)];
            let Some(cell) = self.cells.get_mut(index) else {
                continue;
            };
            match layer {
                Layer::Range => cell.range |= bit,
                Layer::Line(series) => {
                    cell.line |= bit;
                    cell.series = series;
                }
            }
        }
    }

    /// Draws the dots onto the plot.
    pub(super) fn draw(&self, canvas: &mut Canvas<'_>, plot: Rect, series: &[Series<'_>]) {
        for (dots, position) in self.cells.iter().zip(plot.positions()) {
            if dots.line == 0 && dots.range == 0 {
                continue;
            }
            let Some(cell) = canvas.buf.cell_mut(position) else {
                continue;
            };
            // A cell has only one colour. The range is left out where the line passes, or it would get the line's
            // colour.
            let (bits, style) = if dots.line != 0 {
                let style = series.get(dots.series).map_or(canvas.theme.text, |s| s.style.full);
                (dots.line, style)
            } else {
                (
                    dots.range,
                    series.first().map_or(canvas.theme.border, |s| s.style.faint),
                )
            };
            if canvas.app.settings.unicode {
                let symbol = char::from_u32(0x2800 + u32::from(bits)).unwrap_or(' ');
                cell.set_char(symbol).set_style(style);
            } else {
                cell.set_symbol(if dots.line != 0 { "*" } else { ":" }).set_style(style);
            }
        }
    }
}

/// Returns at most one point for each column of dots: the lowest, the mean and the highest of the points in it.
fn downsampled<'a>(points: &'a [LinePoint], axis: &TimeAxis, across: f64) -> Cow<'a, [LinePoint]> {
    let inside = points.iter().filter(|p| axis.contains(p.at)).count();
    if f64::from(u32::try_from(inside).unwrap_or(u32::MAX)) <= across {
        return Cow::Borrowed(points);
    }
    let column = |p: &LinePoint| whole_cells(axis.position(p.at) * across);
    let is_same_column =
        |a: &LinePoint, b: &LinePoint| axis.contains(a.at) == axis.contains(b.at) && column(a) == column(b);
    let merged = points.chunk_by(is_same_column).map(|chunk| {
        let count = f64::from(u32::try_from(chunk.len()).unwrap_or(u32::MAX));
        LinePoint {
            at: chunk[chunk.len() / 2].at,
            low: chunk.iter().map(|p| p.low).fold(f64::INFINITY, f64::min),
            mean: chunk.iter().map(|p| p.mean).sum::<f64>() / count,
            high: chunk.iter().map(|p| p.high).fold(f64::NEG_INFINITY, f64::max),
        }
    });
    Cow::Owned(merged.collect())
}

/// Returns the median distance between neighbours, at least one second.
fn usual_distance(points: &[LinePoint]) -> TimeDelta {
    let mut distances: Vec<TimeDelta> = points
        .windows(2)
        .map(|pair| pair[1].at - pair[0].at)
        .filter(|d| *d > TimeDelta::zero())
        .collect();
    if distances.is_empty() {
        // Without a distance there is no gap.
        return TimeDelta::days(3_650);
    }
    let middle = distances.len() / 2;
    (*distances.select_nth_unstable(middle).1).max(TimeDelta::seconds(1))
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;
    use ratatui::style::Style;

    use super::*;
    use crate::theme::MetricStyle;

    fn time(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_740_938_400 + seconds, 0).unwrap()
    }

    #[test]
    fn a_line_does_not_cross_a_gap() {
        let points = [0, 1, 2, 3, 4, 5, 90, 91, 92, 93].map(|seconds| LinePoint {
            at: time(seconds),
            low: 70.0,
            mean: 70.0,
            high: 70.0,
        });
        let series = Series {
            points: &points,
            style: MetricStyle::uniform(Style::new()),
        };
        let axis = TimeAxis {
            start: time(0),
            end: time(100),
            tz: Tz::UTC,
        };
        let mut grid = BrailleGrid::new(50, 1);
        grid.add(&series, 0, &axis, Scale { low: 60.0, high: 80.0 }, true);
        assert!(grid.cells[0].line != 0 && grid.cells[2].line != 0 && grid.cells[45].line != 0);
        assert!(grid.cells[5..44].iter().all(|c| c.line == 0));
    }
}
