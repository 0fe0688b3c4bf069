//! The brush every pane draws with: clipped text, rules, boxes.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};
use unicode_width::UnicodeWidthStr;

use crate::{
    app::App,
    fmt::wrap,
    keys::{Action, Scope},
    theme::Theme,
    ui::glyphs::{ASCII, Glyphs, UNICODE},
};

pub(crate) struct Paint<'a> {
    pub(crate) app: &'a App,
    pub(crate) theme: &'a Theme,
    pub(crate) glyphs: &'static Glyphs,
    pub(crate) buf: &'a mut Buffer,
}

impl<'a> Paint<'a> {
    pub(crate) fn new(app: &'a App, buf: &'a mut Buffer) -> Self {
        Self {
            app,
            theme: &app.theme,
            glyphs: if app.settings.unicode { &UNICODE } else { &ASCII },
            buf,
        }
    }

    /// The first key of an action, for sentences that name it.
    pub(crate) fn key(&self, scope: Scope, action: Action) -> String {
        let key = self.app.settings.keymap.first(scope, action);
        key.map_or_else(|| "(no key)".to_owned(), |key| key.to_string())
    }

    /// The ground of the theme over an area, whatever was there before.
    pub(crate) fn ground(&mut self, area: Rect) {
        for y in area.top()..area.bottom() {
            for x in area.left()..area.right() {
                if let Some(cell) = self.buf.cell_mut((x, y)) {
                    cell.reset();
                }
            }
        }
        self.buf.set_style(area, self.theme.ground);
    }

    /// Text from `x`, in at most `width` columns, cut with an ellipsis. Returns the columns it took.
    pub(crate) fn text(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
        let room = usize::from(width.min(self.buf.area.right().saturating_sub(x)));
        if room == 0 || y >= self.buf.area.bottom() {
            return 0;
        }
        let ascii_only = !self.app.settings.unicode && !text.is_ascii();
        let clean: String;
        let text = if ascii_only {
            clean = text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
            &clean
        } else {
            text
        };
        if text.width() <= room {
            let (end, _) = self.buf.set_stringn(x, y, text, room, style);
            return end - x;
        }
        let (end, _) = self.buf.set_stringn(x, y, text, room - 1, style);
        let (end, _) = self.buf.set_stringn(end, y, self.glyphs.ellipsis, 1, style);
        end - x
    }

    /// Text that ends before `right`.
    pub(crate) fn text_right(&mut self, right: u16, y: u16, width: u16, text: &str, style: Style) {
        let len = columns(text).min(width);
        self.text(right.saturating_sub(len), y, len, text, style);
    }

    /// Runs of text one behind the other, in at most `width` columns. Returns the columns they took.
    pub(crate) fn spans(&mut self, x: u16, y: u16, width: u16, spans: &[(&str, Style)]) -> u16 {
        let mut used = 0;
        for (text, style) in spans {
            if used >= width {
                break;
            }
            used += self.text(x + used, y, width - used, text, *style);
        }
        used
    }

    /// A thin line with a title in it.
    pub(crate) fn rule(&mut self, area: Rect, title: &str) {
        let (line, strong) = (self.theme.line, self.theme.strong);
        for x in area.left()..area.right() {
            self.text(x, area.y, 1, self.glyphs.horizontal, line);
        }
        if !title.is_empty() && area.width > 6 {
            let text = format!(" {title} ");
            self.text(area.x + 2, area.y, area.width - 4, &text, strong);
        }
    }

    /// An empty box with a title on its upper edge. Returns what is inside.
    pub(crate) fn panel(&mut self, area: Rect, title: &str) -> Rect {
        self.ground(area);
        if area.width < 2 || area.height < 2 {
            return Rect {
                width: 0,
                height: 0,
                ..area
            };
        }
        let line = self.theme.line;
        let [a, b, c, d] = self.glyphs.corners;
        let (right, bottom) = (area.right() - 1, area.bottom() - 1);
        for x in area.left() + 1..right {
            self.text(x, area.y, 1, self.glyphs.horizontal, line);
            self.text(x, bottom, 1, self.glyphs.horizontal, line);
        }
        for y in area.top() + 1..bottom {
            self.text(area.x, y, 1, self.glyphs.vertical, line);
            self.text(right, y, 1, self.glyphs.vertical, line);
        }
        for (x, y, corner) in [
            (area.x, area.y, a),
            (right, area.y, b),
            (area.x, bottom, c),
            (right, bottom, d),
        ] {
            self.text(x, y, 1, corner, line);
        }
        self.text(
            area.x + 2,
            area.y,
            area.width.saturating_sub(4),
            &format!(" {title} "),
            self.theme.strong,
        );
        Rect::new(area.x + 2, area.y + 1, area.width.saturating_sub(4), area.height - 2)
    }

    /// A sentence broken into lines of `width`. Returns the lines it took.
    pub(crate) fn wrapped(&mut self, area: Rect, text: &str, style: Style) -> u16 {
        let mut y = area.y;
        for line in wrap(text, usize::from(area.width)) {
            if y >= area.bottom() {
                break;
            }
            self.text(area.x, y, area.width, &line, style);
            y += 1;
        }
        y - area.y
    }
}

/// Columns a text takes.
pub(crate) fn columns(text: &str) -> u16 {
    u16::try_from(text.width()).unwrap_or(u16::MAX)
}
