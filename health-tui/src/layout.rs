//! The areas of the screen, computed from the size of the terminal.
//!
//! Drawing and the mouse use the same areas, so a click always hits what is drawn. All arithmetic saturates because a
//! terminal can report a size of 0x0.

use ratatui::layout::Rect;

use crate::store::{Column, RING_SAMPLES_MAX};

/// The smallest size that shows everything: the default window of most terminals.
pub(crate) const FULL_SIZE: (u16, u16) = (80, 24);
/// The smallest size that shows the panes. A smaller terminal shows only a message with this size.
pub(crate) const MIN_SIZE: (u16, u16) = (60, 12);

/// Columns at the left edge that hold the table's cursor and pins. The other panes leave the same margin.
pub(crate) const MARGIN: u16 = 2;

/// The widest sparkline: one column for each sample that the dashboard keeps of a user.
#[expect(clippy::cast_possible_truncation, reason = "the ring holds 48 samples")]
pub(crate) const SPARKLINE_WIDTH_MAX: u16 = RING_SAMPLES_MAX as u16;

/// Columns left of a chart for the numbers of its value axis: five digits and a space.
pub(crate) const VALUE_AXIS_WIDTH: u16 = 6;

/// Columns for the labels of the form's fields.
pub(crate) const LABEL_WIDTH: u16 = 9;

/// How much of the dashboard fits on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SizeClass {
    /// Everything fits.
    Full,
    /// The panes fit, without the parts that can be left out.
    Compact,
    /// Only a message fits.
    TooSmall,
}

impl SizeClass {
    pub(crate) fn of(size: (u16, u16)) -> Self {
        let at_least = |(width, height): (u16, u16)| size.0 >= width && size.1 >= height;
        if at_least(FULL_SIZE) {
            Self::Full
        } else if at_least(MIN_SIZE) {
            Self::Compact
        } else {
            Self::TooSmall
        }
    }
}

/// The areas that all panes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScreenAreas {
    pub(crate) size_class: SizeClass,
    /// The bar at the top with the tabs and the connection.
    pub(crate) header: Rect,
    /// The line below the header: what the pane shows, or the filter.
    pub(crate) subheader: Rect,
    pub(crate) body: Rect,
    pub(crate) footer: Rect,
}

impl ScreenAreas {
    pub(crate) fn new(size: (u16, u16)) -> Self {
        let (width, height) = size;
        let line = |y: u16| Rect::new(0, y, width, u16::from(y < height));
        Self {
            size_class: SizeClass::of(size),
            header: line(0),
            subheader: line(1),
            body: Rect::new(0, 2.min(height), width, height.saturating_sub(3)),
            footer: line(height.saturating_sub(1)),
        }
    }
}

/// The areas of the live table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveAreas {
    pub(crate) header: Rect,
    pub(crate) rows: Rect,
    /// The details pane of the row under the cursor.
    pub(crate) preview: Option<Rect>,
}

impl LiveAreas {
    pub(crate) fn new(screen: &ScreenAreas, preview: bool, row_count: usize) -> Self {
        let body = screen.body;
        let preview_height = if preview && row_count > 0 && screen.size_class == SizeClass::Full {
            preview_height(body.height, row_count)
        } else {
            0
        };
        let (table, below) = split_bottom(body, preview_height);
        let (header, rows) = split_top(table, 1);
        Self {
            header,
            rows,
            preview: (preview_height > 0).then_some(below),
        }
    }
}

/// Returns the lines of the details pane, 0 if the body is too low for one.
fn preview_height(body_height: u16, row_count: usize) -> u16 {
    let height = match body_height {
        0..=20 => return 0,
        21..=28 => 8,
        29..=40 => 12,
        _ => 16,
    };
    // The details pane takes lines that no row needs, up to four fifths of the body.
    let unused = usize::from(body_height).saturating_sub(row_count + 2);
    let unused = u16::try_from(unused).unwrap_or(0).min(body_height / 5 * 4);
    height.max(unused)
}

/// One column of the live table: a value and, if there is room, its sparkline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableColumn {
    pub(crate) column: Column,
    pub(crate) x: u16,
    /// Columns of the right-aligned value.
    pub(crate) value_width: u16,
    /// Columns of the sparkline, which starts one column after the value; 0 without a sparkline.
    pub(crate) sparkline_width: u16,
}

impl TableColumn {
    pub(crate) fn width(self) -> u16 {
        if self.sparkline_width == 0 {
            self.value_width
        } else {
            self.value_width + 1 + self.sparkline_width
        }
    }
}

/// Returns the columns of the live table from left to right, in the order of the settings.
pub(crate) fn table_columns(width: u16, columns: &[Column], has_names: bool, age_width: u16) -> Vec<TableColumn> {
    const GAP: u16 = 2;
    let value_width = |column: Column| match column {
        Column::User if has_names || width >= 120 => (width / 6).clamp(12, 22),
        Column::User => 10,
        Column::HeartRate => 6,
        Column::Steps | Column::Calories => 5,
        Column::Age => age_width,
    };
    let has_sparkline = |column: Column| match column {
        Column::HeartRate => true,
        Column::Steps | Column::Calories => width >= FULL_SIZE.0,
        Column::User | Column::Age => false,
    };
    let values: u16 = columns
        .iter()
        .map(|c| value_width(*c) + u16::from(has_sparkline(*c)) + GAP)
        .sum();
    // The last column needs no gap; the scrollbar takes one column at the right edge, after a blank one.
    let fixed = values.saturating_sub(GAP) + MARGIN + 2;
    let room = width.saturating_sub(fixed);
    let sparklines = u16::try_from(columns.iter().filter(|c| has_sparkline(**c)).count()).unwrap_or(0);

    let mut table = Vec::with_capacity(columns.len());
    let mut x = MARGIN;
    for column in columns {
        let sparkline_width = if has_sparkline(*column) {
            // The heart rate also gets the remainder of the division.
            let extra = if *column == Column::HeartRate {
                room % sparklines
            } else {
                0
            };
            (room / sparklines + extra).min(SPARKLINE_WIDTH_MAX)
        } else {
            0
        };
        let placed = TableColumn {
            column: *column,
            x,
            value_width: value_width(*column),
            sparkline_width,
        };
        if x + placed.width() > width {
            break;
        }
        x += placed.width() + GAP;
        table.push(placed);
    }
    table
}

/// The areas of the view of one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserAreas {
    /// The large chart with its title and axes.
    pub(crate) heart_rate: Rect,
    pub(crate) steps: Option<Rect>,
    pub(crate) calories: Option<Rect>,
    /// The statistics of the window, the zones and the sources.
    pub(crate) stats: Rect,
}

impl UserAreas {
    pub(crate) fn new(screen: &ScreenAreas) -> Self {
        let body = screen.body;
        let (charts, stats) = if body.width >= 104 {
            let (left, right) = split_left(body, body.width.saturating_sub(34));
            (left, inset_left(right, 2))
        } else {
            split_bottom(body, if body.height >= 20 { 4 } else { 2 })
        };
        if charts.height < 15 {
            return Self {
                heart_rate: charts,
                steps: None,
                calories: None,
                stats,
            };
        }
        let small = (charts.height / 4).clamp(4, 8);
        let (rest, calories) = split_bottom(charts, small);
        let (heart_rate, steps) = split_bottom(rest, small);
        Self {
            heart_rate,
            steps: Some(steps),
            calories: Some(calories),
            stats,
        }
    }

    /// The plot of the large chart.
    pub(crate) fn plot(&self) -> Rect {
        plot(self.heart_rate)
    }
}

/// Returns the part of a chart that holds its lines: the title is above, the time axis below, the value axis at the
/// left.
pub(crate) fn plot(chart: Rect) -> Rect {
    Rect {
        x: chart.x + VALUE_AXIS_WIDTH.min(chart.width),
        y: chart.y + 1.min(chart.height),
        width: chart.width.saturating_sub(VALUE_AXIS_WIDTH + 1),
        height: chart.height.saturating_sub(2),
    }
}

/// The areas of the range statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FormAreas {
    pub(crate) fields: Rect,
    pub(crate) answer: Rect,
}

impl FormAreas {
    /// A narrow terminal has no room for both: `answer_first` chooses which area gets the whole body.
    pub(crate) fn new(screen: &ScreenAreas, answer_first: bool) -> Self {
        let body = screen.body;
        if body.width < FULL_SIZE.0 {
            let whole = inset_left(body, MARGIN);
            let none = Rect { width: 0, ..whole };
            let (fields, answer) = if answer_first { (none, whole) } else { (whole, none) };
            return Self { fields, answer };
        }
        let (fields, answer) = split_left(body, (body.width / 3).clamp(30, 42).min(body.width));
        let blank_lines = u16::from(body.height > 12);
        Self {
            fields: split_top(inset_left(fields, MARGIN), blank_lines).1,
            answer: split_top(inset_left(answer, 2), blank_lines).1,
        }
    }
}

/// Returns the areas of the two tabs in the header.
pub(crate) fn tabs(header: Rect) -> [Rect; 2] {
    // After "  ♥ Health ".
    let x = header.x + 11;
    [
        Rect::new(x, header.y, 8, header.height),
        Rect::new(x + 8, header.y, 15, header.height),
    ]
}

/// Returns the area of the help screen, which covers everything else.
pub(crate) fn help(size: (u16, u16)) -> Rect {
    let (width, height) = (size.0.saturating_sub(4).min(84), size.1.saturating_sub(2));
    Rect::new((size.0 - width) / 2, (size.1 - height) / 2, width, height)
}

/// Splits `height` lines off the top.
pub(crate) fn split_top(area: Rect, height: u16) -> (Rect, Rect) {
    let height = height.min(area.height);
    let below = Rect {
        y: area.y + height,
        height: area.height - height,
        ..area
    };
    (Rect { height, ..area }, below)
}

/// Splits `height` lines off the bottom. The lower part is the second.
pub(crate) fn split_bottom(area: Rect, height: u16) -> (Rect, Rect) {
    split_top(area, area.height.saturating_sub(height))
}

/// Splits `width` columns off the left side.
pub(crate) fn split_left(area: Rect, width: u16) -> (Rect, Rect) {
    let width = width.min(area.width);
    let rest = Rect {
        x: area.x + width,
        width: area.width - width,
        ..area
    };
    (Rect { width, ..area }, rest)
}

pub(crate) fn inset_left(area: Rect, columns: u16) -> Rect {
    split_left(area, columns).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_areas_lie_inside_the_screen_at_every_size() {
        for width in 0..220 {
            for height in 0..70 {
                let screen = ScreenAreas::new((width, height));
                let whole = Rect::new(0, 0, width, height);
                let live = LiveAreas::new(&screen, true, usize::from(width % 40));
                let user = UserAreas::new(&screen);
                let form = FormAreas::new(&screen, width % 2 == 0);
                let mut areas = vec![screen.header, screen.subheader, screen.body, screen.footer];
                areas.extend([live.header, live.rows]);
                areas.extend(live.preview);
                areas.extend([user.heart_rate, user.stats, user.plot(), form.fields, form.answer]);
                areas.extend(user.steps);
                areas.extend(user.calories);
                for area in areas {
                    assert!(
                        area.is_empty() || whole.union(area) == whole,
                        "{area:?} at {width}x{height}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_table_fills_80_columns_up_to_a_blank_one_and_the_scrollbar() {
        let columns = table_columns(80, &Column::ALL, false, 5);
        let last = columns.last().unwrap();
        assert_eq!(columns.len(), 5);
        assert_eq!(last.x + last.width(), 78);
        assert!(columns[1].sparkline_width >= 10);
    }
}
