//! Draws the figures as small charts with the same axis of time. Written by hand as SVG: a page shows it without a
//! program.

use std::fmt::Write;

use examples::bench::float;

use crate::{
    axis::{Axis, number, time},
    figures::{Figures, Mark, column},
    panels::{PANELS, Panel},
};

const MARKS: [Mark; 3] = [Mark::ServerKilled, Mark::ServerStopped, Mark::PostgresKilled];

const WIDTH: f64 = 1_000.0;
const LEGEND_HEIGHT: f64 = 34.0;
const PANEL_WIDTH: f64 = 500.0;
const PANEL_HEIGHT: f64 = 190.0;
/// The space around the plot in its panel.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 34.0;

/// The largest number of points of a line. More would not be seen.
const POINTS_MAX: usize = 480;

const STYLE: &str = "<style>\
     text{font:12px system-ui,sans-serif;fill:#57606a}.title{font-size:14px;font-weight:600;fill:#1f2328}\
     .back{fill:#fff}.grid{stroke:#d8dee4}.line{fill:none;stroke-width:1.4;stroke-linejoin:round}\
     .s0{stroke:#0969da}.s1{stroke:#bc4c00}.s2{stroke:#1a7f37}.t0{fill:#0969da}.t1{fill:#bc4c00}.t2{fill:#1a7f37}\
     .m0{stroke:#8c959f}.m1{stroke:#8c959f;stroke-dasharray:2 3}.m2{stroke:#cf222e;stroke-opacity:.55}\
     @media(prefers-color-scheme:dark){text{fill:#9198a1}.title{fill:#f0f6fc}.back{fill:#0d1117}.grid{stroke:#2f353d}\
     .s0{stroke:#58a6ff}.s1{stroke:#f0883e}.s2{stroke:#56d364}.t0{fill:#58a6ff}.t1{fill:#f0883e}.t2{fill:#56d364}\
     .m0,.m1{stroke:#6e7681}.m2{stroke:#ff7b72}}</style>";

/// Returns the picture.
pub(crate) fn draw(figures: &Figures) -> String {
    let height = LEGEND_HEIGHT + PANEL_HEIGHT * float(PANELS.len().div_ceil(2));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Figures of the soak over time\">{STYLE}<rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\"/>\n"
    );
    // Writing to a string cannot fail.
    let _ = draw_legend(&mut svg);
    let last = figures.rows.last().map_or(1.0, |row| row.time);
    for (index, panel) in PANELS.iter().enumerate() {
        let (x, y) = (
            PANEL_WIDTH * float(index % 2),
            LEGEND_HEIGHT + PANEL_HEIGHT * float(index / 2),
        );
        let _ = draw_panel(&mut svg, panel, figures, last, (x, y));
    }
    svg + "</svg>\n"
}

fn draw_legend(svg: &mut String) -> std::fmt::Result {
    let mut x = LEFT;
    for (index, mark) in MARKS.iter().enumerate() {
        let (label, text_x) = (mark.label(), x + 8.0);
        writeln!(
            svg,
            "<path class=\"m{index}\" d=\"M{x} 10v16\"/><text x=\"{text_x}\" y=\"22\">{label}</text>"
        )?;
        x += 40.0 + 6.4 * float(label.len());
    }
    Ok(())
}

fn draw_panel(svg: &mut String, panel: &Panel, figures: &Figures, last: f64, (x, y): (f64, f64)) -> std::fmt::Result {
    let (left, right) = (x + LEFT, x + PANEL_WIDTH - RIGHT);
    let (top, bottom) = (y + TOP, y + PANEL_HEIGHT - BOTTOM);
    let columns = || panel.lines.iter().filter_map(|(name, _)| column(name));
    let values = figures
        .rows
        .iter()
        .flat_map(|row| columns().filter_map(|column| row.values[column]));
    let (across, up) = (
        Axis::of_time(last, left, right),
        Axis::of(panel.scale, values, bottom, top),
    );
    draw_head(svg, panel, (left, right, top - 12.0))?;
    for tick in up.ticks() {
        let (place, label) = (up.place(tick), number(tick));
        writeln!(
            svg,
            "<path class=\"grid\" d=\"M{left} {place:.1}H{right}\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            left - 6.0,
            place + 4.0
        )?;
    }
    for tick in across.time_ticks() {
        let (place, label) = (across.place(tick), time(tick, last));
        writeln!(
            svg,
            "<text x=\"{place:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{label}</text>",
            bottom + 18.0
        )?;
    }
    for (index, mark) in MARKS.iter().enumerate() {
        let mut path = String::new();
        for (at, _) in figures.marks.iter().filter(|(_, of)| of == mark) {
            write!(path, "M{:.1} {top:.0}V{bottom:.0}", across.place(*at))?;
        }
        writeln!(svg, "<path class=\"m{index}\" d=\"{path}\"/>")?;
    }
    for (index, column) in columns().enumerate() {
        writeln!(
            svg,
            "<path class=\"line s{index}\" d=\"{}\"/>",
            path(figures, column, across, up)
        )?;
    }
    Ok(())
}

/// Writes the title, the unit, and the names of the lines in their colours.
fn draw_head(svg: &mut String, panel: &Panel, (left, right, y): (f64, f64, f64)) -> std::fmt::Result {
    let unit = if panel.unit.is_empty() {
        String::new()
    } else {
        format!(", {}", panel.unit)
    };
    write!(
        svg,
        "<text class=\"title\" x=\"{left}\" y=\"{y}\">{}<tspan font-weight=\"400\">{unit}</tspan></text>",
        panel.title
    )?;
    let names = panel.lines.iter().enumerate().map(|(index, (_, name))| {
        let gap = if index == 0 { 0 } else { 12 };
        format!("<tspan class=\"t{index}\" dx=\"{gap}\">{name}</tspan>")
    });
    writeln!(
        svg,
        "<text x=\"{right}\" y=\"{y}\" text-anchor=\"end\">{}</text>",
        names.collect::<String>()
    )
}

/// Returns the line of a column. It is interrupted where the figure is absent, and each point is the largest of its
/// rows.
fn path(figures: &Figures, column: usize, across: Axis, up: Axis) -> String {
    let rows_per_point = figures.rows.len().div_ceil(POINTS_MAX).max(1);
    let (mut path, mut is_interrupted) = (String::new(), true);
    for rows in figures.rows.chunks(rows_per_point) {
        let values = rows.iter().filter_map(|row| Some((row.time, row.values[column]?)));
        let largest = values.max_by(|one, other| one.1.total_cmp(&other.1));
        match largest {
            Some((at, value)) => {
                let command = if is_interrupted { 'M' } else { 'L' };
                let _ = write!(path, "{command}{:.1} {:.1}", across.place(at), up.place(value));
                is_interrupted = false;
            }
            None => is_interrupted = true,
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        axis::Scale,
        figures::{COLUMN_COUNT, Row},
    };

    #[test]
    fn every_chart_has_a_title_and_its_lines_and_hours_stay_a_small_file() {
        let row = |second: u32| Row {
            time: f64::from(second) * 10.0,
            values: [Some(1_000.0 + f64::from(second)); COLUMN_COUNT],
        };
        let figures = Figures {
            rows: (1..=2_880).map(row).collect(),
            marks: (1..160).map(|number| (f64::from(number) * 180.0, MARKS[0])).collect(),
        };
        let svg = draw(&figures);
        for Panel { title, lines, .. } in PANELS {
            assert!(
                svg.contains(title) && lines.iter().all(|(name, _)| column(name).is_some()),
                "{title}"
            );
        }
        let lines: usize = PANELS.iter().map(|panel| panel.lines.len()).sum();
        assert_eq!(svg.matches("class=\"line").count(), lines);
        assert!(svg.len() < 150_000, "{} bytes", svg.len());
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn a_line_is_interrupted_while_its_server_is_down() {
        let values = [Some(1.0), None, Some(3.0), Some(4.0)];
        let rows = values.iter().zip(1_u8..).map(|(value, second)| Row {
            time: f64::from(second),
            values: [*value; COLUMN_COUNT],
        });
        let figures = Figures {
            rows: rows.collect(),
            marks: Vec::new(),
        };
        let (across, up) = (
            Axis::of_time(4.0, 0.0, 4.0),
            Axis::of(Scale::Linear, [4.0].into_iter(), 4.0, 0.0),
        );
        assert_eq!(path(&figures, 0, across, up), "M1.0 3.0M3.0 1.0L4.0 0.0");
    }
}
