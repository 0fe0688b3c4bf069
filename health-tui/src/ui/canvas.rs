//! The surface that every pane draws on: the buffer, with the state, the theme and the symbols.

use std::borrow::Cow;

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
    style::Style,
    text::{Line, Span},
    widgets::{Block, Clear, Padding, Widget},
};
use unicode_width::UnicodeWidthStr;

use crate::{
    app::{App, TextInput},
    fmt::wrap,
    keys::{Action, Scope},
    theme::Theme,
    ui::symbols::{ASCII, Symbols, UNICODE},
};

/// A buffer to draw on. All text is clipped to its width and to the screen.
pub(crate) struct Canvas<'a> {
    pub(crate) app: &'a App,
    pub(crate) theme: &'a Theme,
    pub(crate) symbols: &'static Symbols,
    pub(crate) buf: &'a mut Buffer,
}

impl<'a> Canvas<'a> {
    pub(crate) fn new(app: &'a App, buf: &'a mut Buffer) -> Self {
        Self {
            app,
            theme: &app.theme,
            symbols: if app.settings.unicode { &UNICODE } else { &ASCII },
            buf,
        }
    }

    /// Returns the first key of an action, for sentences that name it.
    pub(crate) fn key(&self, scope: Scope, action: Action) -> String {
        let key = self.app.settings.keymap.first_key(scope, action);
        key.map_or_else(|| "(no key)".to_owned(), |key| key.to_string())
    }

    /// Erases an area and fills it with the background of the theme.
    pub(crate) fn clear(&mut self, area: Rect) {
        Clear.render(area, self.buf);
        self.buf.set_style(area, self.theme.background);
    }

    /// Draws text from column `x` in at most `width` columns; a longer text ends with an ellipsis. Returns the columns
    /// that it used.
    pub(crate) fn text(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
        let room = usize::from(width.min(self.buf.area.right().saturating_sub(x)));
        if room == 0 || y >= self.buf.area.bottom() {
            return 0;
        }
        let text = self.drawable(text);
        let (end, _) = if text.width() <= room {
            self.buf.set_stringn(x, y, text, room, style)
        } else {
            let (end, _) = self.buf.set_stringn(x, y, text, room - 1, style);
            self.buf.set_stringn(end, y, self.symbols.ellipsis, 1, style)
        };
        end - x
    }

    /// Draws an input in at most `width` columns: of a longer text, the part around the cursor. Returns the columns
    /// that it used, and the position of the cursor.
    pub(crate) fn input(&mut self, x: u16, y: u16, width: u16, input: &TextInput, style: Style) -> (u16, Position) {
        let text = self.drawable(input.text());
        let cursor = columns(&self.drawable(input.before_cursor()));
        // The cursor is at the middle, or near an end of the text. Two columns are for the ellipsis at the left and for
        // the cursor after the text.
        let beyond = columns(&text).saturating_sub(width.saturating_sub(2));
        let hidden = cursor.saturating_sub(width / 2).min(beyond);
        if hidden == 0 || width < 3 {
            let used = self.text(x, y, width, &text, style);
            return (used, Position::new(x + cursor.min(width.saturating_sub(1)), y));
        }
        // The ellipsis at the left takes the column of a character.
        let mut skipped = 0;
        let visible = text.trim_start_matches(|c: char| {
            let is_hidden = skipped <= hidden;
            skipped += if is_hidden {
                columns(c.encode_utf8(&mut [0; 4]))
            } else {
                0
            };
            is_hidden
        });
        let used = self.text(x, y, 1, self.symbols.ellipsis, style);
        let used = used + self.text(x + used, y, width - used, visible, style);
        (used, Position::new(x + 1 + cursor.saturating_sub(skipped), y))
    }

    /// Returns a text as the terminal can show it.
    fn drawable<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.app.settings.unicode || text.is_ascii() {
            Cow::Borrowed(text)
        } else {
            let ascii = text.chars().map(|c| if c.is_ascii() { c } else { '?' });
            Cow::Owned(ascii.collect())
        }
    }

    /// Draws text that ends left of column `right`.
    pub(crate) fn text_right(&mut self, right: u16, y: u16, width: u16, text: &str, style: Style) {
        let width = columns(text).min(width);
        self.text(right.saturating_sub(width), y, width, text, style);
    }

    /// Draws texts one after the other in at most `width` columns. Returns the columns that they used.
    pub(crate) fn spans(&mut self, x: u16, y: u16, width: u16, spans: &[(&str, Style)]) -> u16 {
        spans.iter().fold(0, |used, (text, style)| {
            used + self.text(x + used, y, width.saturating_sub(used), text, *style)
        })
    }

    /// Draws a horizontal line with a title in it.
    pub(crate) fn rule(&mut self, area: Rect, title: &str) {
        for x in area.left()..area.right() {
            self.text(x, area.y, 1, self.symbols.horizontal_line, self.theme.border);
        }
        if area.width > 6 {
            let title = format!(" {title} ");
            self.text(area.x + 2, area.y, area.width - 4, &title, self.theme.strong);
        }
    }

    /// Draws an empty box with a title in its upper border. Returns the area inside.
    pub(crate) fn panel(&mut self, area: Rect, title: &str) -> Rect {
        self.clear(area);
        let title = Line::from_iter([
            Span::styled(self.symbols.horizontal_line, self.theme.border),
            Span::styled(format!(" {title} "), self.theme.strong),
        ]);
        let block = Block::bordered()
            .border_set(self.symbols.border)
            .border_style(self.theme.border)
            .title(title)
            .padding(Padding::horizontal(1));
        let inside = block.inner(area);
        block.render(area, self.buf);
        inside
    }

    /// Draws text over several lines. Returns the lines that it used.
    pub(crate) fn wrapped(&mut self, area: Rect, text: &str, style: Style) -> u16 {
        let lines = wrap(text, usize::from(area.width));
        let rows = area.top()..area.bottom();
        lines.iter().zip(rows).fold(0, |used, (line, y)| {
            self.text(area.x, y, area.width, line, style);
            used + 1
        })
    }
}

/// Returns the columns that a text takes.
pub(crate) fn columns(text: &str) -> u16 {
    u16::try_from(text.width()).unwrap_or(u16::MAX)
}
