//! Typing and pasting into the filter and into the fields of the form.

use crossterm::event::KeyCode;
use tui_input::InputRequest;

use crate::{
    app::{
        state::{App, Pane},
        text_input::TextInput,
    },
    keys::Key,
    store::RowFilter,
};

impl App {
    /// Applies the filter text. While the text cannot be parsed (`hr>` is being typed), the previous filter stays in
    /// force.
    pub(super) fn set_filter(&mut self, text: String) {
        match RowFilter::parse(&text) {
            Ok(filter) => {
                self.live.filter = filter;
                self.live.filter_error = None;
                self.live.rebuild_soon();
            }
            Err(error) => self.live.filter_error = Some(error.to_string()),
        }
        self.live.filter_text = text;
    }

    /// Ends the editing of the filter, unless the filter has an error.
    pub(super) fn accept_filter(&mut self) {
        if self.live.filter_error.is_none() {
            self.live.editing = None;
        }
    }

    /// Handles a key that is not bound to an action while the user types.
    pub(super) fn edit(&mut self, key: Key) {
        let Some(request) = edit_request(key) else {
            if let Some(c) = key.typed_char() {
                self.insert(c.encode_utf8(&mut [0; 4]));
            }
            return;
        };
        if let Some(input) = self.focused_input() {
            input.edit(request);
            self.text_changed();
        }
    }

    pub(super) fn paste(&mut self, text: &str) {
        if self.is_typing() {
            self.insert(text);
        }
    }

    fn insert(&mut self, text: &str) {
        if let Some(input) = self.focused_input() {
            input.insert(text);
            self.text_changed();
        }
    }

    fn focused_input(&mut self) -> Option<&mut TextInput> {
        match self.pane {
            Pane::Live => self.live.editing.as_mut(),
            Pane::Stats => self.form.focused_input(),
            Pane::User => None,
        }
    }

    fn text_changed(&mut self) {
        match self.pane {
            Pane::Live => {
                if let Some(text) = self.live.editing.as_ref().map(|input| input.text().to_owned())
                    && text != self.live.filter_text
                {
                    self.set_filter(text);
                }
            }
            Pane::Stats => self.form.text_changed(),
            Pane::User => {}
        }
    }
}

/// Returns what a key does to a text. The keys with Alt and control are those of most shells.
pub(super) fn edit_request(key: Key) -> Option<InputRequest> {
    let is_control = key.typed_char().is_none() && !key.has_alt();
    Some(match key.code() {
        KeyCode::Char('w') if is_control => InputRequest::DeletePrevWord,
        KeyCode::Char('a') if is_control => InputRequest::GoToStart,
        KeyCode::Char('b') | KeyCode::Left if key.has_alt() => InputRequest::GoToPrevWord,
        KeyCode::Char('f') | KeyCode::Right if key.has_alt() => InputRequest::GoToNextWord,
        KeyCode::Backspace if key.has_alt() => InputRequest::DeletePrevWord,
        KeyCode::Backspace => InputRequest::DeletePrevChar,
        KeyCode::Delete => InputRequest::DeleteNextChar,
        KeyCode::Left => InputRequest::GoToPrevChar,
        KeyCode::Right => InputRequest::GoToNextChar,
        KeyCode::Home => InputRequest::GoToStart,
        KeyCode::End => InputRequest::GoToEnd,
        _ => return None,
    })
}
