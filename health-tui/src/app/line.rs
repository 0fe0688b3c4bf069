//! One line of text being edited.

use unicode_width::UnicodeWidthStr;

/// The longest text a field takes, in bytes: a pasted novel is a mistake.
const LENGTH_MAX: usize = 512;

/// Text and the place of the cursor in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    text: String,
    /// A byte offset on a character's border.
    cursor: usize,
}

impl Line {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let cursor = text.len();
        Self { text, cursor }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Columns before the cursor.
    pub(crate) fn cursor_column(&self) -> u16 {
        u16::try_from(self.text[..self.cursor].width()).unwrap_or(u16::MAX)
    }

    /// Typed or pasted; control characters (a pasted line end) become nothing.
    pub(crate) fn insert(&mut self, text: &str) {
        for c in text.chars().filter(|c| !c.is_control()) {
            if self.text.len() + c.len_utf8() > LENGTH_MAX {
                return;
            }
            self.text.insert(self.cursor, c);
            self.cursor += c.len_utf8();
        }
    }

    pub(crate) fn backspace(&mut self) {
        if let Some(c) = self.text[..self.cursor].chars().next_back() {
            self.cursor -= c.len_utf8();
            self.text.remove(self.cursor);
        }
    }

    pub(crate) fn delete(&mut self) {
        if self.cursor < self.text.len() {
            self.text.remove(self.cursor);
        }
    }

    /// Removes the word before the cursor.
    pub(crate) fn delete_word(&mut self) {
        let head = self.text[..self.cursor].trim_end();
        let start = head.rfind(' ').map_or(0, |at| at + 1);
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.cursor = 0;
    }

    pub(crate) fn left(&mut self) {
        if let Some(c) = self.text[..self.cursor].chars().next_back() {
            self.cursor -= c.len_utf8();
        }
    }

    pub(crate) fn right(&mut self) {
        if let Some(c) = self.text[self.cursor..].chars().next() {
            self.cursor += c.len_utf8();
        }
    }

    pub(crate) fn home(&mut self) {
        self.cursor = 0;
    }

    pub(crate) fn end(&mut self) {
        self.cursor = self.text.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_whole_characters() {
        let mut line = Line::new("zoë 101");
        line.delete_word();
        assert_eq!(line.text(), "zoë ");
        line.backspace();
        line.backspace();
        assert_eq!(line.text(), "zo");
        line.left();
        line.insert("ü\n");
        assert_eq!((line.text(), line.cursor_column()), ("züo", 2));
        line.delete();
        line.home();
        line.left();
        line.delete();
        assert_eq!(line.text(), "ü");
    }

    #[test]
    fn a_novel_does_not_fit() {
        let mut line = Line::default();
        line.insert(&"x".repeat(10_000));
        assert_eq!(line.text().len(), LENGTH_MAX);
    }
}
