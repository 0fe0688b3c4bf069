//! Positions in the stream of committed changes.

use crate::{live::transaction_snapshot::TransactionSnapshot, wire::Cursor};

/// A position in the stream of one database: everything that its snapshot sees was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// The id of the database's stream.
    pub(crate) stream: String,
    pub(crate) seen: TransactionSnapshot,
}

/// The largest number of unfinished transactions in a cursor. With more, the cursor points before the first of
/// them.
const NAMED_MAX: usize = 16;

impl Position {
    /// Returns the text that a client receives.
    pub(crate) fn to_cursor(&self) -> Cursor {
        let Self { stream, seen } = self;
        Cursor::new(if seen.in_progress().is_empty() {
            format!("{stream}-{}", seen.xmax())
        } else if seen.in_progress().len() <= NAMED_MAX {
            format!("{stream}-{seen}")
        } else {
            format!("{stream}-{}", seen.xmin())
        })
    }

    /// Parses a cursor that a client sent back. Returns `None` if no server can have sent it.
    pub(crate) fn from_cursor(cursor: &Cursor) -> Option<Self> {
        let (stream, snapshot) = cursor.as_str().split_once('-')?;
        let legal = |byte: u8| byte.is_ascii_digit() || byte == b':' || byte == b',';
        let seen = if !snapshot.bytes().all(legal) {
            None
        } else if snapshot.contains(':') {
            snapshot.parse().ok()
        } else {
            snapshot.parse().ok().map(TransactionSnapshot::below)
        };
        let position = Self {
            stream: stream.to_owned(),
            seen: seen?,
        };
        // A text that parses but was never sent would claim that nothing was missed.
        (position.to_cursor() == *cursor).then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_parses_to_its_position_and_other_texts_are_refused() {
        for (seen, text) in [
            ("745:745:", "1f00ba-745"),
            ("7:9:7,8", "1f00ba-7:9:7,8"),
            ("6:9:7,8", "1f00ba-6:9:7,8"),
        ] {
            let position = Position {
                stream: "1f00ba".to_owned(),
                seen: seen.parse().unwrap(),
            };
            assert_eq!(position.to_cursor().as_str(), text);
            assert_eq!(Position::from_cursor(&position.to_cursor()), Some(position));
        }
        for text in [
            "",
            "-",
            "7",
            "a-",
            "a-+7",
            "a--7",
            "a-7x",
            "a-99999999999999999999",
            "a-7:8",
            "a-7:x:",
            "a-07",
            "a-9:7:",
            "a-7:7:",
            "a-7:9:8,7",
            "a-7:9:7:8",
        ] {
            assert_eq!(Position::from_cursor(&Cursor::new(text)), None, "{text}");
        }
    }

    #[test]
    fn with_many_unfinished_transactions_a_cursor_points_before_the_first() {
        let position = Position {
            stream: "a".to_owned(),
            seen: TransactionSnapshot::below(100).without(50..80),
        };
        assert_eq!(position.to_cursor().as_str(), "a-50");
    }
}
