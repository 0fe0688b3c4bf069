//! One line of text that the user edits.

use tui_input::{Input, InputRequest};

/// The longest text of an input, in bytes. A filter with six names is below 200 bytes.
const LENGTH_MAX_BYTES: usize = 512;

/// A line of text and its cursor. It adds a length limit and pasting to [`tui_input::Input`].
#[derive(Clone, Debug, Default)]
pub(crate) struct TextInput(Input);

impl TextInput {
    /// Creates an input with the cursor after the text.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(Input::new(text.into()))
    }

    pub(crate) fn text(&self) -> &str {
        self.0.value()
    }

    /// Returns the characters before the cursor.
    pub(crate) fn before_cursor(&self) -> &str {
        let text = self.text();
        let end = text
            .char_indices()
            .nth(self.0.cursor())
            .map_or(text.len(), |(at, _)| at);
        &text[..end]
    }

    /// Inserts typed or pasted text up to the length limit. Control characters, such as a pasted line end, are left
    /// out.
    pub(crate) fn insert(&mut self, text: &str) {
        for c in text.chars().filter(|c| !c.is_control()) {
            if self.text().len() + c.len_utf8() > LENGTH_MAX_BYTES {
                return;
            }
            self.edit(InputRequest::InsertChar(c));
        }
    }

    /// Moves the cursor or deletes text.
    pub(crate) fn edit(&mut self, request: InputRequest) {
        self.0.handle(request);
    }

    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editing_keeps_characters_whole() {
        let mut input = TextInput::new("zoë 101");
        input.edit(InputRequest::DeletePrevWord);
        assert_eq!(input.text(), "zoë ");
        input.edit(InputRequest::DeletePrevChar);
        input.edit(InputRequest::DeletePrevChar);
        assert_eq!(input.text(), "zo");
        input.edit(InputRequest::GoToPrevChar);
        input.insert("ü\n");
        assert_eq!((input.text(), input.before_cursor()), ("züo", "zü"));
        input.edit(InputRequest::DeleteNextChar);
        input.edit(InputRequest::GoToStart);
        input.edit(InputRequest::GoToPrevChar);
        input.edit(InputRequest::DeleteNextChar);
        assert_eq!(input.text(), "ü");
    }

    #[test]
    fn the_text_never_exceeds_its_limit() {
        let mut input = TextInput::default();
        input.insert(&"x".repeat(10_000));
        assert_eq!(input.text().len(), LENGTH_MAX_BYTES);
    }
}
