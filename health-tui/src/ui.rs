//! Drawing, one file for each pane. The code here reads the state and writes cells of the buffer; it decides nothing.

mod canvas;
mod chart;
mod detail;
mod help;
mod preview;
mod scale;
mod sparkline;
mod stats_form;
mod status;
mod symbols;
mod toast;
mod users;

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
};

use crate::{
    app::{App, Pane},
    layout::{MIN_SIZE, ScreenAreas, SizeClass},
    ui::canvas::{Canvas, columns},
};

/// Draws everything into `buf`, which must be blank and as large as `app.size`. Returns the position of the terminal's
/// cursor, `None` if it is hidden.
pub(crate) fn draw(app: &App, buf: &mut Buffer) -> Option<Position> {
    let area = buf.area;
    if area.is_empty() {
        return None;
    }
    let screen = ScreenAreas::new((area.width, area.height));
    let mut canvas = Canvas::new(app, buf);
    canvas.clear(area);
    if screen.size_class == SizeClass::TooSmall {
        too_small(&mut canvas, area);
        return None;
    }
    status::header(&mut canvas, screen.header);
    let cursor = match app.pane {
        Pane::Live => users::draw(&mut canvas, &screen),
        Pane::User => {
            detail::draw(&mut canvas, &screen);
            None
        }
        Pane::Stats => stats_form::draw(&mut canvas, &screen),
    };
    let has_reason =
        app.pane == Pane::Live && (app.users.len() == 0 || users::reason_in_summary(&canvas, area.width).is_some());
    if !has_reason {
        status::lost_connection(&mut canvas, &screen);
    }
    status::footer(&mut canvas, screen.footer);
    if app.help.is_some() {
        canvas.clear(screen.subheader);
        canvas.clear(screen.body);
        help::draw(&mut canvas);
        return None;
    }
    toast::draw(&mut canvas, &screen);
    cursor
}

fn too_small(canvas: &mut Canvas<'_>, area: Rect) {
    let (width, height) = MIN_SIZE;
    let lines = [
        format!("needs {width}x{height}"),
        format!("has {}x{}", area.width, area.height),
    ];
    let top = area.y + area.height.saturating_sub(2) / 2;
    for (line, y) in lines.iter().zip(top..area.bottom()) {
        let x = area.x + area.width.saturating_sub(columns(line)) / 2;
        canvas.text(x, y, area.width, line, canvas.theme.text);
    }
}

/// Returns the name of a source for the screen. A sample without a source has an empty one.
fn source_name(source: &str) -> &str {
    if source.is_empty() { "(unnamed)" } else { source }
}
