//! Where things are, from the size of the terminal alone. Drawing and the mouse both ask here.
//!
//! All arithmetic saturates: a terminal can be 0x0.

use ratatui::layout::Rect;

use crate::store::{Column, RING_SAMPLES_MAX};

/// The size from which on everything is shown.
pub(crate) const FULL: (u16, u16) = (80, 24);
/// The size from which on lists are shown; below it only a message is.
pub(crate) const LEAST: (u16, u16) = (60, 12);

/// Columns that stay free at the left, where the table has its cursor and its pins: everything else begins behind them
/// too.
pub(crate) const MARGIN: u16 = 2;

/// Columns of a sparkline at most: what is remembered of a user.
#[expect(clippy::cast_possible_truncation, reason = "48")]
pub(crate) const SPARK_MAX: u16 = RING_SAMPLES_MAX as u16;

/// Columns that the numbers left of a chart take.
pub(crate) const SCALE_WIDTH: u16 = 6;

/// How much fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Full,
    List,
    TooSmall,
}

impl Level {
    pub(crate) fn of(size: (u16, u16)) -> Self {
        if size.0 >= FULL.0 && size.1 >= FULL.1 {
            Self::Full
        } else if size.0 >= LEAST.0 && size.1 >= LEAST.1 {
            Self::List
        } else {
            Self::TooSmall
        }
    }
}

/// The frame every pane shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) level: Level,
    pub(crate) bar: Rect,
    /// The line under the bar: what is shown, or the filter.
    pub(crate) sub: Rect,
    pub(crate) body: Rect,
    pub(crate) footer: Rect,
}

impl Frame {
    pub(crate) fn of(size: (u16, u16)) -> Self {
        let (w, h) = size;
        let line = |y: u16| Rect::new(0, y, w, u16::from(y < h));
        let body = Rect::new(0, 2.min(h), w, h.saturating_sub(3));
        Self {
            level: Level::of(size),
            bar: line(0),
            sub: line(1),
            body,
            footer: line(h.saturating_sub(1)),
        }
    }
}

/// The live pane's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveAreas {
    pub(crate) head: Rect,
    pub(crate) rows: Rect,
    /// The details of the row under the cursor.
    pub(crate) preview: Option<Rect>,
}

impl LiveAreas {
    pub(crate) fn of(frame: &Frame, preview: bool, rows: usize) -> Self {
        let body = frame.body;
        let tall = match body.height {
            0..=20 => 0,
            21..=28 => 8,
            29..=40 => 12,
            _ => 16,
        };
        // Room that no row needs goes to the details, up to three fifths of the whole.
        let spare = usize::from(body.height).saturating_sub(rows + 2);
        let spare = u16::try_from(spare).unwrap_or(0).min(body.height / 5 * 3);
        let tall = if preview && rows > 0 && frame.level == Level::Full && tall > 0 {
            tall.max(spare)
        } else {
            0
        };
        let (top, below) = split_below(body, tall);
        let (head, rows) = split_above(top, 1);
        Self {
            head,
            rows,
            preview: (tall > 0).then_some(below),
        }
    }
}

/// One group of the live table: a value and, where there is room, its sparkline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) column: Column,
    pub(crate) x: u16,
    /// Columns of the value, right-aligned.
    pub(crate) value: u16,
    /// Columns of the sparkline behind it, one column apart; 0 where there is none.
    pub(crate) spark: u16,
}

impl Group {
    pub(crate) fn width(self) -> u16 {
        if self.spark == 0 {
            self.value
        } else {
            self.value + 1 + self.spark
        }
    }
}

/// The groups of the live table from left to right, for `columns` in the order of the configuration.
pub(crate) fn groups(width: u16, columns: &[Column], names: bool, spark_max: u16) -> Vec<Group> {
    const BETWEEN: u16 = 2;
    let value = |c: Column| match c {
        Column::User => {
            if names || width >= 120 {
                (width / 6).clamp(12, 22)
            } else {
                10
            }
        }
        Column::HeartRate => 6,
        Column::Steps | Column::Calories | Column::Age => 5,
    };
    let has_spark = |c: Column| {
        matches!(c, Column::HeartRate) || (width >= FULL.0 && matches!(c, Column::Steps | Column::Calories))
    };
    let sparks = u16::try_from(columns.iter().filter(|c| has_spark(**c)).count()).unwrap_or(0);
    let fixed = columns
        .iter()
        .map(|c| value(*c) + u16::from(has_spark(*c)) + BETWEEN)
        .sum::<u16>()
        .saturating_sub(BETWEEN)
        + MARGIN
        + 1;
    let room = width.saturating_sub(fixed);
    let mut groups = Vec::with_capacity(columns.len());
    let mut x = MARGIN;
    for column in columns {
        let spark = if has_spark(*column) && sparks > 0 {
            // Heart rate gets what does not divide.
            let extra = if *column == Column::HeartRate { room % sparks } else { 0 };
            (room / sparks + extra).min(spark_max)
        } else {
            0
        };
        let group = Group {
            column: *column,
            x,
            value: value(*column),
            spark,
        };
        x += group.width() + BETWEEN;
        if x.saturating_sub(BETWEEN) > width {
            break;
        }
        groups.push(group);
    }
    groups
}

/// The view of one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserAreas {
    /// The large chart, scale and axis included.
    pub(crate) heart: Rect,
    pub(crate) steps: Option<Rect>,
    pub(crate) calories: Option<Rect>,
    /// Window statistics, zones and sources.
    pub(crate) stats: Rect,
}

impl UserAreas {
    pub(crate) fn of(frame: &Frame) -> Self {
        let body = frame.body;
        let (charts, stats) = if body.width >= 104 {
            let (left, right) = split_left(body, body.width.saturating_sub(34));
            (left, inset_left(right, 2))
        } else {
            let lines = if body.height >= 20 { 4 } else { 2 };
            split_below(body, lines)
        };
        if charts.height < 15 {
            return Self {
                heart: charts,
                steps: None,
                calories: None,
                stats,
            };
        }
        let small = (charts.height / 4).clamp(4, 8);
        let (rest, calories) = split_below(charts, small);
        let (heart, steps) = split_below(rest, small);
        Self {
            heart,
            steps: Some(steps),
            calories: Some(calories),
            stats,
        }
    }

    /// Where the lines of the large chart are, without scale, title and axis.
    pub(crate) fn plot(&self) -> Rect {
        plot(self.heart)
    }
}

/// The part of a chart's area that holds its marks: title above, axis below, scale left.
pub(crate) fn plot(chart: Rect) -> Rect {
    Rect {
        x: chart.x + SCALE_WIDTH.min(chart.width),
        y: chart.y + 1.min(chart.height),
        width: chart.width.saturating_sub(SCALE_WIDTH + 1),
        height: chart.height.saturating_sub(2),
    }
}

/// The range-stats pane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FormAreas {
    pub(crate) fields: Rect,
    pub(crate) answer: Rect,
}

/// Columns of the labels of the form's fields.
pub(crate) const LABEL_WIDTH: u16 = 9;

impl FormAreas {
    /// In a narrow terminal there is no room for both: `answer_first` chooses.
    pub(crate) fn of(frame: &Frame, answer_first: bool) -> Self {
        let body = frame.body;
        if body.width < FULL.0 {
            let whole = inset_left(body, MARGIN);
            let none = Rect { width: 0, ..whole };
            return if answer_first {
                Self {
                    fields: none,
                    answer: whole,
                }
            } else {
                Self {
                    fields: whole,
                    answer: none,
                }
            };
        }
        let left = (body.width / 3).clamp(30, 42).min(body.width);
        let (fields, rest) = split_left(body, left);
        // A blank line under the head of the pane, where there is room for one.
        let below = |area: Rect| split_above(area, u16::from(body.height > 12)).1;
        Self {
            fields: below(inset_left(fields, MARGIN)),
            answer: below(inset_left(rest, 2)),
        }
    }
}

/// The two tabs in the bar: where a click on their names lands.
pub(crate) fn tabs(bar: Rect) -> [Rect; 2] {
    let x = bar.x + 11;
    [
        Rect::new(x, bar.y, 8, bar.height),
        Rect::new(x + 8, bar.y, 15, bar.height),
    ]
}

/// The list of keys, over everything else.
pub(crate) fn help(size: (u16, u16)) -> Rect {
    let (w, h) = (size.0.saturating_sub(4).min(84), size.1.saturating_sub(2));
    Rect::new((size.0 - w) / 2, (size.1 - h) / 2, w, h)
}

pub(crate) fn split_above(area: Rect, height: u16) -> (Rect, Rect) {
    let h = height.min(area.height);
    (
        Rect { height: h, ..area },
        Rect {
            y: area.y + h,
            height: area.height - h,
            ..area
        },
    )
}

pub(crate) fn split_below(area: Rect, height: u16) -> (Rect, Rect) {
    split_above(area, area.height.saturating_sub(height))
}

pub(crate) fn split_left(area: Rect, width: u16) -> (Rect, Rect) {
    let w = width.min(area.width);
    (
        Rect { width: w, ..area },
        Rect {
            x: area.x + w,
            width: area.width - w,
            ..area
        },
    )
}

pub(crate) fn inset_left(area: Rect, by: u16) -> Rect {
    split_left(area, by).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_lies_inside_at_every_size() {
        for w in 0..220 {
            for h in 0..70 {
                let frame = Frame::of((w, h));
                let screen = Rect::new(0, 0, w, h);
                let live = LiveAreas::of(&frame, true, usize::from(w % 40));
                let user = UserAreas::of(&frame);
                let form = FormAreas::of(&frame, w % 2 == 0);
                let mut areas = vec![frame.bar, frame.sub, frame.body, frame.footer, live.head, live.rows];
                areas.extend(live.preview);
                areas.extend([user.heart, user.stats, user.plot(), form.fields, form.answer]);
                areas.extend(user.steps);
                areas.extend(user.calories);
                for area in areas {
                    assert!(area.is_empty() || screen.union(area) == screen, "{area:?} at {w}x{h}");
                }
            }
        }
    }

    #[test]
    fn the_table_fills_80_columns() {
        let groups = groups(80, &Column::ALL, false, 48);
        let last = groups.last().unwrap();
        assert_eq!(groups.len(), 5);
        assert_eq!(last.x + last.width(), 79);
        assert!(groups[1].spark >= 10);
    }
}
