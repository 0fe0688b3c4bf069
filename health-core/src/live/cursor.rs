//! Places in the stream of committed changes.

use crate::wire::Cursor;

/// A place in the stream of one database: every transaction with a lower id has ended, and what it changed was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// Which database's stream it is, without a dash.
    pub(crate) stream: String,
    /// The lowest transaction id that may still be missing.
    pub(crate) xid: u64,
}

impl Position {
    /// What a client gets to see.
    pub(crate) fn to_cursor(&self) -> Cursor {
        Cursor::new(format!("{}-{}", self.stream, self.xid))
    }
}
