//! A frame as a picture: every cell at its place, blocks and Braille as geometry, so that no font has to contain them.

use std::{collections::BTreeMap, fmt::Write as _};

use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};
use unicode_width::UnicodeWidthStr;

/// The size of a cell, in the units of the picture.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 18.0;
/// Free space around the frame.
const MARGIN: f64 = 10.0;
/// Where letters stand, from the top of their cell.
const BASELINE: f64 = 13.2;

/// The picture of `buf`. `text` and `ground` are what the terminal's own colours are.
pub(crate) fn picture(buf: &Buffer, text: Color, ground: Color) -> String {
    let (w, h) = (f64::from(buf.area.width), f64::from(buf.area.height));
    let (wide, tall) = (w * WIDTH + 2.0 * MARGIN, h * HEIGHT + 2.0 * MARGIN);
    let mut out = String::new();
    let ground = css(ground, "#101218");
    let text = css(text, "#c8ced8");
    // Writing to a String cannot fail.
    _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide:.1} {tall:.1}\" width=\"{wide:.0}\" height=\"{tall:.0}\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"13.95\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{ground}\"/>"
    );
    for y in 0..buf.area.height {
        grounds(&mut out, buf, y, &ground);
    }
    for y in 0..buf.area.height {
        marks(&mut out, buf, y, &text);
    }
    out.push_str("</svg>\n");
    out
}

/// One rectangle for each run of cells on the same ground.
fn grounds(out: &mut String, buf: &Buffer, y: u16, ground: &str) {
    let colour = |x: u16| {
        buf.cell((x, y)).map(|c| {
            if reversed(c) {
                css(c.fg, "#c8ced8")
            } else {
                css(c.bg, ground)
            }
        })
    };
    let mut x = 0;
    while x < buf.area.width {
        let from = x;
        let this = colour(x);
        while x < buf.area.width && colour(x) == this {
            x += 1;
        }
        if let Some(fill) = this.filter(|c| c != ground) {
            rect(out, (left(from), top(y)), (f64::from(x - from) * WIDTH, HEIGHT), &fill);
        }
    }
}

fn marks(out: &mut String, buf: &Buffer, y: u16, text: &str) {
    let mut dots: BTreeMap<String, Vec<(u16, u32)>> = BTreeMap::new();
    let mut x = 0;
    while x < buf.area.width {
        let Some(cell) = buf.cell((x, y)) else { break };
        let fill = if reversed(cell) {
            css(cell.bg, "#101218")
        } else {
            css(cell.fg, text)
        };
        let mut chars = cell.symbol().chars();
        let symbol = match (chars.next(), chars.next()) {
            (Some(c), None) => c,
            _ => ' ',
        };
        if ('\u{2800}'..='\u{28ff}').contains(&symbol) {
            dots.entry(fill).or_default().push((x, u32::from(symbol) - 0x2800));
            x += 1;
            continue;
        }
        if ('\u{2581}'..='\u{2588}').contains(&symbol) {
            // Neighbours of one height are one rectangle: no seams, and a smaller file.
            let from = x;
            while buf
                .cell((x, y))
                .is_some_and(|c| c.symbol() == cell.symbol() && c.fg == cell.fg && reversed(c) == reversed(cell))
            {
                x += 1;
            }
            let tall = HEIGHT * f64::from(u32::from(symbol) - 0x2580) / 8.0;
            rect(
                out,
                (left(from), top(y) + HEIGHT - tall),
                (f64::from(x - from) * WIDTH, tall),
                &fill,
            );
            continue;
        }
        if geometry(out, symbol, (x, y), &fill) || cell.symbol() == " " {
            x += 1;
            continue;
        }
        // A run of letters in one style is one element, held to the grid by its length.
        let from = x;
        let mut run = String::new();
        while let Some(next) = buf.cell((x, y)) {
            let c = next.symbol().chars().next().unwrap_or(' ');
            if next.fg != cell.fg || next.modifier != cell.modifier || next.bg != cell.bg || is_geometry(c) {
                break;
            }
            // Two blanks in a row end a run: where a viewer knows nothing of its length, columns must not drift.
            if c == ' ' && run.ends_with(' ') {
                break;
            }
            run.push_str(next.symbol());
            x += u16::try_from(next.symbol().width().max(1)).unwrap_or(1);
        }
        let shown = run.trim_end();
        let long = f64::from(u16::try_from(shown.width()).unwrap_or(0)) * WIDTH;
        let mut style = String::new();
        if cell.modifier.contains(Modifier::BOLD) {
            style.push_str(" font-weight=\"bold\"");
        }
        if cell.modifier.contains(Modifier::DIM) {
            style.push_str(" opacity=\"0.6\"");
        }
        if cell.modifier.contains(Modifier::UNDERLINED) {
            style.push_str(" text-decoration=\"underline\"");
        }
        _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" textLength=\"{long:.1}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{fill}\"{style} xml:space=\"preserve\">{}</text>",
            left(from),
            top(y) + BASELINE,
            escaped(shown)
        );
    }
    for (fill, cells) in &dots {
        braille(out, y, cells, fill);
    }
}

fn is_geometry(c: char) -> bool {
    matches!(c, '\u{2581}'..='\u{2588}' | '\u{258c}' | '\u{2800}'..='\u{28ff}' | '─' | '│' | '┈' | '╭' | '╮' | '╰' | '╯' | '▲' | '▼' | '●' | '○')
}

/// Draws a mark that is geometry. False where it is a letter.
fn geometry(out: &mut String, c: char, at: (u16, u16), fill: &str) -> bool {
    let (x, y) = (left(at.0), top(at.1));
    let (mid_x, mid_y) = (x + WIDTH / 2.0, y + HEIGHT / 2.0);
    let line = |out: &mut String, path: &str, dash: &str| {
        _ = writeln!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{fill}\" stroke-width=\"1\"{dash}/>"
        );
    };
    match c {
        '\u{258c}' => rect(out, (x, y), (WIDTH / 2.0, HEIGHT), fill),
        '─' => line(out, &format!("M{x:.1} {mid_y:.1}h{WIDTH:.1}"), ""),
        '┈' => line(
            out,
            &format!("M{x:.1} {mid_y:.1}h{WIDTH:.1}"),
            " stroke-dasharray=\"1.4 2.8\"",
        ),
        '│' => line(out, &format!("M{mid_x:.1} {y:.1}v{HEIGHT:.1}"), ""),
        '╭' => line(
            out,
            &format!("M{mid_x:.1} {:.1}V{mid_y:.1}H{:.1}", y + HEIGHT, x + WIDTH),
            "",
        ),
        '╮' => line(out, &format!("M{mid_x:.1} {:.1}V{mid_y:.1}H{x:.1}", y + HEIGHT), ""),
        '╰' => line(out, &format!("M{mid_x:.1} {y:.1}V{mid_y:.1}H{:.1}", x + WIDTH), ""),
        '╯' => line(out, &format!("M{mid_x:.1} {y:.1}V{mid_y:.1}H{x:.1}"), ""),
        '▲' | '▼' => {
            let (tip, foot) = if c == '▲' {
                (mid_y - 3.4, mid_y + 3.4)
            } else {
                (mid_y + 3.4, mid_y - 3.4)
            };
            _ = writeln!(
                out,
                "<path d=\"M{mid_x:.1} {tip:.1}L{:.1} {foot:.1}H{:.1}z\" fill=\"{fill}\"/>",
                mid_x + 3.8,
                mid_x - 3.8
            );
        }
        '●' => {
            _ = writeln!(
                out,
                "<circle cx=\"{mid_x:.1}\" cy=\"{mid_y:.1}\" r=\"3.4\" fill=\"{fill}\"/>"
            );
        }
        '○' => line(
            out,
            &format!("M{:.1} {mid_y:.1}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0", mid_x - 3.0),
            "",
        ),
        _ => return false,
    }
    true
}

/// The dots of one colour in a row of cells: two columns of four dots each, as round ends of lines without length.
fn braille(out: &mut String, y: u16, cells: &[(u16, u32)], fill: &str) {
    const PLACES: [(f64, f64); 8] = [
        (0.0, 0.0),
        (0.0, 1.0),
        (0.0, 2.0),
        (1.0, 0.0),
        (1.0, 1.0),
        (1.0, 2.0),
        (0.0, 3.0),
        (1.0, 3.0),
    ];
    _ = write!(
        out,
        "<path stroke=\"{fill}\" stroke-width=\"2.8\" stroke-linecap=\"round\" d=\""
    );
    for (x, bits) in cells {
        for (bit, (column, row)) in PLACES.iter().enumerate() {
            if bits >> bit & 1 == 1 {
                let (cx, cy) = (
                    left(*x) + WIDTH * (0.25 + 0.5 * column),
                    top(y) + HEIGHT * (0.125 + 0.25 * row),
                );
                _ = write!(out, "M{cx:.1} {cy:.1}h0");
            }
        }
    }
    out.push_str("\"/>\n");
}

fn rect(out: &mut String, (x, y): (f64, f64), (w, h): (f64, f64), fill: &str) {
    _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.2}\" height=\"{h:.2}\" shape-rendering=\"crispEdges\" fill=\"{fill}\"/>"
    );
}

fn left(column: u16) -> f64 {
    MARGIN + f64::from(column) * WIDTH
}

fn top(row: u16) -> f64 {
    MARGIN + f64::from(row) * HEIGHT
}

fn reversed(cell: &Cell) -> bool {
    cell.modifier.contains(Modifier::REVERSED)
}

fn css(colour: Color, or: &str) -> String {
    match colour {
        Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
        _ => or.to_owned(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use ratatui::{layout::Rect, style::Style};

    use super::*;

    #[test]
    fn letters_run_together_and_blocks_are_drawn() {
        let mut buf = Buffer::empty(Rect::new(0, 0, 8, 1));
        buf.set_string(0, 0, "a<b ▃⠁", Style::new());
        let svg = picture(&buf, Color::Rgb(1, 2, 3), Color::Rgb(4, 5, 6));
        assert!(svg.contains(">a&lt;b</text>"), "{svg}");
        assert!(svg.contains("height=\"6.75\"") && svg.contains("h0"), "{svg}");
        assert!(!svg.contains('▃'));
    }
}
