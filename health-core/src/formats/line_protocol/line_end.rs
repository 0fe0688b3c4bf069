//! The end of a line of line protocol, which a text in double quotes may contain.

/// Finds the line feed that ends a line, while the line arrives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LineEnd {
    /// How many bytes of the line were scanned.
    scanned: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far.
    #[default]
    Blank,
    Comment,
    /// The measurement and the tags.
    Tags,
    /// The name of a field, or white space before it.
    FieldName,
    /// Right behind the `=` of a field.
    ValueStart,
    Value,
    /// A text in double quotes.
    Text,
    Timestamp,
    /// Behind a backslash, after which a byte has no meaning.
    TagsEscape,
    FieldNameEscape,
    TextEscape,
}

impl LineEnd {
    /// Returns the position of the line feed in a line, of which the bytes so far are given, or `None` if it has not
    /// arrived.
    pub(super) fn find(&mut self, line: &[u8]) -> Option<usize> {
        for byte in line.get(self.scanned..)? {
            let next = self.state.next(*byte);
            if *byte == b'\n' && !matches!(self.state, State::Text | State::TextEscape) {
                return Some(self.scanned);
            }
            self.state = next;
            self.scanned += 1;
        }
        None
    }
}

impl State {
    fn next(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Blank, b' ' | b'\t' | b'\r') => Self::Blank,
            (Self::Blank, b'#') | (Self::Comment, _) => Self::Comment,
            (Self::Blank | Self::Tags, b'\\') => Self::TagsEscape,
            (Self::Tags, b' ') | (Self::ValueStart | Self::Value, b',') | (Self::FieldNameEscape, _) => Self::FieldName,
            (Self::Blank | Self::Tags | Self::TagsEscape, _) => Self::Tags,
            (Self::FieldName, b'\\') => Self::FieldNameEscape,
            (Self::FieldName, b'=') => Self::ValueStart,
            (Self::FieldName, _) => Self::FieldName,
            (Self::ValueStart, b'"') | (Self::TextEscape, _) => Self::Text,
            (Self::ValueStart | Self::Value, b' ') | (Self::Timestamp, _) => Self::Timestamp,
            (Self::Text, b'\\') => Self::TextEscape,
            (Self::ValueStart | Self::Value, _) | (Self::Text, b'"') => Self::Value,
            (Self::Text, _) => Self::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_feed_in_a_text_does_not_end_the_line() {
        for (lines, expected) in [
            ("a b=1\nc", Some(5)),
            ("\na", Some(0)),
            ("# \" x=\"\na", Some(7)),
            ("a b=\"\n\\\"\n\",c=1 5\nd", Some(16)),
            ("a,t=\" b=1\nc", Some(9)),
            ("a,t=x\\ \" b=\\\"\nc", Some(13)),
            ("a \"b\"=1\nc", Some(7)),
            ("a b=1,c=\"\\\\\"\nc", Some(12)),
            ("a b=1 \"\nc", Some(7)),
            ("a b=\"\n\n", None),
            ("a b=1", None),
        ] {
            for portion in 1..=lines.len() {
                let mut line_end = LineEnd::default();
                let ends: Vec<_> = (portion..=lines.len())
                    .step_by(portion)
                    .chain([lines.len()])
                    .find_map(|length| line_end.find(&lines.as_bytes()[..length]))
                    .into_iter()
                    .collect();
                assert_eq!(ends.first().copied(), expected, "{lines:?} by {portion}");
            }
        }
    }
}
