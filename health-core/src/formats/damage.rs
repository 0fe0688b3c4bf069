//! Why a file cannot be read to its end.

use std::io;

/// Why a file cannot be read to its end. The entries before that place are valid. A message is the rest of a sentence that
/// begins with the name of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The operating system reports an error.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The file ends too early.
    #[error("breaks off: its end is missing. Copy it again from its device or app")]
    BreaksOff,
    /// The checksum of a FIT file is wrong.
    #[error("has a wrong checksum, so some of its values may be wrong. Copy it again from its device or app")]
    Checksum,
    /// A FIT file is followed by something else.
    #[error("has bytes at its end that do not belong to a FIT file")]
    AfterFit,
    /// The structure of the file is not that of its format.
    #[error("is damaged: {0}")]
    Malformed(String),
    /// One element is longer than any that a device or an app writes.
    #[error("has an element that is longer than {0} bytes")]
    ElementTooLong(usize),
    /// The header row of a CSV file has a column that is no field of a record.
    #[error("has the column {0:?}; the columns are user_id, timestamp, end, heart_rate, steps, calories and source")]
    UnknownColumn(String),
    /// The header row of a CSV file has a column twice.
    #[error("has the column {0:?} more than once")]
    RepeatedColumn(String),
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::BreaksOff,
            // What decompressors report.
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Self::Malformed(error.to_string()),
            _ => match error.downcast::<Self>() {
                Ok(damage) => damage,
                Err(error) => Self::Unreadable(error),
            },
        }
    }
}

impl From<Damage> for io::Error {
    fn from(damage: Damage) -> Self {
        Self::other(damage)
    }
}
