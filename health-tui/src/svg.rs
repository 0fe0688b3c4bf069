//! A frame as an SVG picture. Blocks and Braille symbols become shapes, so that no font has to contain them.

use std::{collections::BTreeMap, fmt::Write as _};

use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};
use unicode_width::UnicodeWidthStr;

/// The size of a cell, in user units of SVG.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 18.0;
/// The space around the frame.
const MARGIN: f64 = 10.0;
/// The distance from the top of a cell to the baseline of its letters.
const BASELINE: f64 = 13.2;

const DEFAULT_TEXT: &str = "#c8ced8";
const DEFAULT_BACKGROUND: &str = "#101218";

/// Returns the picture of `buf`. `text` and `background` stand for the colours of the terminal.
pub(crate) fn picture(buf: &Buffer, text: Color, background: Color) -> String {
    let (w, h) = (f64::from(buf.area.width), f64::from(buf.area.height));
    let (width, height) = (w * WIDTH + 2.0 * MARGIN, h * HEIGHT + 2.0 * MARGIN);
    let mut out = String::new();
    let background = css(background, DEFAULT_BACKGROUND);
    let text = css(text, DEFAULT_TEXT);
    // Writing to a String cannot fail.
    _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" width=\"{width:.0}\" height=\"{height:.0}\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"13.95\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{background}\"/>"
    );
    for y in 0..buf.area.height {
        backgrounds(&mut out, buf, y, &background);
    }
    for y in 0..buf.area.height {
        symbols(&mut out, buf, y, &text);
    }
    out.push_str("</svg>\n");
    out
}

/// Draws one rectangle for each run of cells with the same background.
fn backgrounds(out: &mut String, buf: &Buffer, y: u16, background: &str) {
    let colour = |x: u16| {
        buf.cell((x, y)).map(|c| {
            if is_reversed(c) {
                css(c.fg, DEFAULT_TEXT)
            } else {
                css(c.bg, background)
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
        if let Some(fill) = this.filter(|c| c != background) {
            rect(out, (left(from), top(y)), (f64::from(x - from) * WIDTH, HEIGHT), &fill);
        }
    }
}

/// Draws the symbols of one row.
fn symbols(out: &mut String, buf: &Buffer, y: u16, text_colour: &str) {
    let mut dots: BTreeMap<String, Vec<(u16, u32)>> = BTreeMap::new();
    let mut x = 0;
    while let Some(cell) = buf.cell((x, y)) {
        let fill = if is_reversed(cell) {
            css(cell.bg, DEFAULT_BACKGROUND)
        } else {
            css(cell.fg, text_colour)
        };
        let mut chars = cell.symbol().chars();
        let symbol = match (chars.next(), chars.next()) {
            (Some(c), None) => c,
            _ => ' ',
        };
        x += match symbol {
            '\u{2800}'..='\u{28ff}' => {
                dots.entry(fill).or_default().push((x, u32::from(symbol) - 0x2800));
                1
            }
            '\u{2581}'..='\u{2588}' => bars(out, buf, (x, y), symbol, &fill),
            _ if line_or_mark(out, symbol, (x, y), &fill) || cell.symbol() == " " => 1,
            _ => text_run(out, buf, (x, y), cell, &fill),
        };
    }
    for (fill, cells) in &dots {
        braille(out, y, cells, fill);
    }
}

/// Draws neighbouring bars of one height as one rectangle, which has no seams and needs less space. Returns its
/// columns.
fn bars(out: &mut String, buf: &Buffer, (x, y): (u16, u16), symbol: char, fill: &str) -> u16 {
    let Some(first) = buf.cell((x, y)) else { return 1 };
    let same =
        |cell: &Cell| cell.symbol() == first.symbol() && cell.fg == first.fg && is_reversed(cell) == is_reversed(first);
    let count = (x..buf.area.width)
        .take_while(|x| buf.cell((*x, y)).is_some_and(same))
        .count();
    let count = u16::try_from(count).unwrap_or(1);
    let height = HEIGHT * f64::from(u32::from(symbol) - 0x2580) / 8.0;
    let position = (left(x), top(y) + HEIGHT - height);
    rect(out, position, (f64::from(count) * WIDTH, height), fill);
    count
}

/// Draws neighbouring letters of one style as one element, with a fixed length so that columns line up in any font.
/// Returns its columns.
fn text_run(out: &mut String, buf: &Buffer, (x, y): (u16, u16), first: &Cell, fill: &str) -> u16 {
    let mut end = x;
    let mut run = String::new();
    while let Some(next) = buf.cell((end, y)) {
        let c = next.symbol().chars().next().unwrap_or(' ');
        if next.fg != first.fg || next.modifier != first.modifier || next.bg != first.bg || is_geometry(c) {
            break;
        }
        // A run ends at two blanks, so that columns also line up in a viewer that ignores the length.
        if c == ' ' && run.ends_with(' ') {
            break;
        }
        run.push_str(next.symbol());
        end += u16::try_from(next.symbol().width().max(1)).unwrap_or(1);
    }
    let text = run.trim_end();
    let length = f64::from(u16::try_from(text.width()).unwrap_or(0)) * WIDTH;
    let mut style = String::new();
    for (modifier, attribute) in [
        (Modifier::BOLD, " font-weight=\"bold\""),
        (Modifier::DIM, " opacity=\"0.6\""),
        (Modifier::UNDERLINED, " text-decoration=\"underline\""),
    ] {
        if first.modifier.contains(modifier) {
            style.push_str(attribute);
        }
    }
    _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" textLength=\"{length:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
         fill=\"{fill}\"{style} xml:space=\"preserve\">{}</text>",
        left(x),
        top(y) + BASELINE,
        escaped(text)
    );
    end - x
}

/// Returns whether a symbol is drawn as a shape and not as a letter.
fn is_geometry(c: char) -> bool {
    matches!(c, '\u{2581}'..='\u{2588}' | '\u{258c}' | '\u{2800}'..='\u{28ff}' | '─' | '│' | '┃' | '┈' | '╭' | '╮' | '╰' | '╯' | '▲' | '▼' | '●' | '○')
}

/// Draws a line or a mark as a shape. Returns false if the symbol is a letter.
fn line_or_mark(out: &mut String, c: char, cell: (u16, u16), fill: &str) -> bool {
    let (x, y) = (left(cell.0), top(cell.1));
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
        '┃' => rect(out, (mid_x - 1.5, y), (3.0, HEIGHT), fill),
        '╭' => line(
            out,
            &format!("M{mid_x:.1} {:.1}V{mid_y:.1}H{:.1}", y + HEIGHT, x + WIDTH),
            "",
        ),
        '╮' => line(out, &format!("M{mid_x:.1} {:.1}V{mid_y:.1}H{x:.1}", y + HEIGHT), ""),
        '╰' => line(out, &format!("M{mid_x:.1} {y:.1}V{mid_y:.1}H{:.1}", x + WIDTH), ""),
        '╯' => line(out, &format!("M{mid_x:.1} {y:.1}V{mid_y:.1}H{x:.1}"), ""),
        '▲' | '▼' => {
            let (tip, base) = if c == '▲' {
                (mid_y - 3.4, mid_y + 3.4)
            } else {
                (mid_y + 3.4, mid_y - 3.4)
            };
            _ = writeln!(
                out,
                "<path d=\"M{mid_x:.1} {tip:.1}L{:.1} {base:.1}H{:.1}z\" fill=\"{fill}\"/>",
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

/// Draws the dots of one colour in one row. A dot is the round end of a line without length, the shortest form in SVG.
fn braille(out: &mut String, y: u16, cells: &[(u16, u32)], fill: &str) {
    /// Column and row of the dot of each bit.
    const DOTS: [(f64, f64); 8] = [
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
        for (bit, (column, row)) in DOTS.iter().enumerate() {
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

fn is_reversed(cell: &Cell) -> bool {
    cell.modifier.contains(Modifier::REVERSED)
}

fn css(colour: Color, default: &str) -> String {
    match colour {
        Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
        _ => default.to_owned(),
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
    fn letters_are_text_and_blocks_are_shapes() {
        let mut buf = Buffer::empty(Rect::new(0, 0, 8, 1));
        buf.set_string(0, 0, "a<b ▃⠁", Style::new());
        let svg = picture(&buf, Color::Rgb(1, 2, 3), Color::Rgb(4, 5, 6));
        assert!(svg.contains(">a&lt;b</text>"), "{svg}");
        assert!(svg.contains("height=\"6.75\"") && svg.contains("h0"), "{svg}");
        assert!(!svg.contains('▃'));
    }
}
