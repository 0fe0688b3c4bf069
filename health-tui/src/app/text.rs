//! Text being typed: the filter, and the fields of the form.

use crossterm::event::KeyCode;

use crate::{
    app::state::{App, Pane},
    keys::Key,
    store::Filter,
};

impl App {
    /// Takes the filter as far as it can be understood: while `hr>` is being typed, the rows stay as they were.
    pub(super) fn set_filter(&mut self, text: String) {
        match Filter::parse(&text) {
            Ok(filter) => {
                self.live.filter = filter;
                self.live.filter_error = None;
                self.live.rebuild_now();
            }
            Err(error) => self.live.filter_error = Some(error.to_string()),
        }
        self.live.filter_text = text;
    }

    pub(super) fn keep_filter(&mut self) {
        if self.live.filter_error.is_none() {
            self.live.editing = None;
        }
    }

    pub(super) fn edit(&mut self, key: Key) {
        let Some(line) = (match self.pane {
            Pane::Live => self.live.editing.as_mut(),
            Pane::Stats => self.form.line_mut(),
            Pane::User => None,
        }) else {
            return;
        };
        match key.code() {
            KeyCode::Char('w') if key.typed_char().is_none() => line.delete_word(),
            KeyCode::Char('a') if key.typed_char().is_none() => line.home(),
            KeyCode::Backspace => line.backspace(),
            KeyCode::Delete => line.delete(),
            KeyCode::Left => line.left(),
            KeyCode::Right => line.right(),
            KeyCode::Home => line.home(),
            KeyCode::End => line.end(),
            _ => match key.typed_char() {
                Some(c) => line.insert(c.encode_utf8(&mut [0; 4])),
                None => return,
            },
        }
        self.text_changed();
    }

    pub(super) fn paste(&mut self, text: &str) {
        if !self.is_typing() {
            return;
        }
        let line = match self.pane {
            Pane::Live => self.live.editing.as_mut(),
            Pane::Stats => self.form.line_mut(),
            Pane::User => None,
        };
        if let Some(line) = line {
            line.insert(text);
            self.text_changed();
        }
    }

    fn text_changed(&mut self) {
        match self.pane {
            Pane::Live => {
                if let Some(text) = self.live.editing.as_ref().map(|l| l.text().to_owned())
                    && text != self.live.filter_text
                {
                    self.set_filter(text);
                }
            }
            Pane::Stats => self.form.edited(),
            Pane::User => {}
        }
    }
}
