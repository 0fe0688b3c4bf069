//! Lines as Braille dots: a cell holds two of them side by side and four on top of each other. Lines are drawn into a grid of
//! such cells first, so that several of them can cross, and then painted once.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use ratatui::layout::Rect;

use crate::ui::{
    chart::axis::{Axis, Mark, Series, cell},
    paint::Paint,
    spark::Scale,
};

/// Readings further apart than this many usual steps have a gap between them.
const GAP_STEPS: i32 = 4;

/// Dots by cell: which are set, and by which series; a spread (lowest to highest) is kept apart from the line of means.
pub(super) struct Grid {
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
    pub(super) fn new(width: u16, height: u16) -> Self {
        Self {
            width,
            height,
            cells: vec![Dots::default(); usize::from(width) * usize::from(height)],
        }
    }

    pub(super) fn draw(&mut self, series: &Series<'_>, index: usize, axis: &Axis, scale: Scale, spreads: bool) {
        // A column of dots can be wider than the usual step; neighbours in it are no gap.
        let dot = (axis.end - axis.start) / (2 * i32::from(self.width.max(1)));
        let gap = (usual_step(series.marks) * GAP_STEPS).max(dot * 2);
        let across = f64::from(self.width) * 2.0;
        let marks = thinned(series.marks, axis, across);
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

    pub(super) fn paint(&self, p: &mut Paint<'_>, plot: Rect, series: &[Series<'_>]) {
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

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;
    use ratatui::style::Style;

    use super::*;
    use crate::theme::Ink;

    fn t(s: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_740_938_400 + s, 0).unwrap()
    }

    #[test]
    fn a_gap_is_not_bridged() {
        let mark = |s| Mark {
            at: t(s),
            low: 70.0,
            mean: 70.0,
            high: 70.0,
        };
        let marks = [0, 1, 2, 3, 4, 5, 90, 91, 92, 93].map(mark);
        let series = Series {
            marks: &marks,
            ink: Ink::all(Style::new()),
        };
        let mut grid = Grid::new(50, 1);
        grid.draw(
            &series,
            0,
            &Axis {
                start: t(0),
                end: t(100),
                tz: Tz::UTC,
            },
            Scale { low: 60.0, high: 80.0 },
            true,
        );
        assert!(grid.cells[0].line != 0 && grid.cells[2].line != 0 && grid.cells[45].line != 0);
        assert!(grid.cells[5..44].iter().all(|c| c.line == 0));
    }
}
