//! Drawing: one file a pane. Everything here reads the state and writes cells; nothing here decides.

mod chart;
mod detail;
mod glyphs;
mod help;
mod paint;
mod preview;
mod spark;
mod stats_form;
mod status;
mod toast;
mod users;

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
};

use crate::{
    app::{App, Pane},
    layout::{Frame, LEAST, Level},
    ui::paint::Paint,
};

/// Draws everything into `buf`, which must be as large as `app.size` and blank. Returns where the cursor belongs, if it is
/// to be seen.
pub(crate) fn draw(app: &App, buf: &mut Buffer) -> Option<Position> {
    let area = buf.area;
    if area.is_empty() {
        return None;
    }
    let frame = Frame::of((area.width, area.height));
    let mut p = Paint::new(app, buf);
    p.ground(area);
    if frame.level == Level::TooSmall {
        too_small(&mut p, area);
        return None;
    }
    status::bar(&mut p, frame.bar);
    let cursor = match app.pane {
        Pane::Live => users::draw(&mut p, &frame),
        Pane::User => {
            detail::draw(&mut p, &frame);
            None
        }
        Pane::Stats => stats_form::draw(&mut p, &frame),
    };
    status::footer(&mut p, frame.footer);
    if app.help.is_some() {
        p.ground(frame.body);
        help::draw(&mut p);
        return None;
    }
    toast::draw(&mut p, &frame);
    cursor
}

fn too_small(p: &mut Paint<'_>, area: Rect) {
    let (w, h) = LEAST;
    let lines = [format!("needs {w}x{h}"), format!("has {}x{}", area.width, area.height)];
    let top = area.y + area.height.saturating_sub(2) / 2;
    for (line, y) in lines.iter().zip(top..area.bottom()) {
        let len = u16::try_from(line.len()).unwrap_or(u16::MAX);
        let x = area.x + area.width.saturating_sub(len) / 2;
        p.text(x, y, area.width, line, p.theme.base);
    }
}
