//! Why a file cannot be read to its end.

use std::io;

/// Why a file cannot be read to its end. The entries before that place are valid. A message is the rest of a sentence
/// that begins with the name of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The operating system reports an error.
    #[error("{}", unreadable(.0))]
    Unreadable(io::Error),
    /// The file ends too early.
    #[error("breaks off: its end is missing. Copy it again from its device or app")]
    BreaksOff,
    /// The checksum of a FIT file is wrong.
    #[error("has a wrong checksum, so some of its values may be wrong. Copy it again from its device or app")]
    Checksum,
    /// A FIT file is followed by something else.
    #[error("has bytes at its end that do not belong to a FIT file. Copy it again from its device or app")]
    AfterFit,
    /// The structure of the file is not that of its format.
    #[error("is damaged: {0}. Copy it again from its device or app")]
    Malformed(String),
    /// One element is longer than any that a device or an app writes.
    #[error("has an element that is longer than {0} bytes, so it may be damaged. Copy it again from its device or app")]
    ElementTooLong(usize),
    /// The header row of a CSV file cannot be divided into columns.
    #[error("has a header row that cannot be read: {0}")]
    HeaderRow(String),
    /// The header row of a CSV file has a column that is no field of a record.
    #[error(
        "has the column {0:?}, which is no field of a record. Remove it or rename it: the columns are user_id, timestamp, \
         end, heart_rate, steps, calories and source"
    )]
    UnknownColumn(String),
    /// The header row of a CSV file has a column twice.
    #[error("has the column {0:?} more than once. Remove or rename one of them")]
    RepeatedColumn(String),
}

/// Returns what an error of the operating system means, with a remedy if there is one.
fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist. Check the name and the folder".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "cannot be read: permission denied. Give your account the right to read it".to_owned()
        }
        // What an archive reports of an entry that is encrypted, or compressed in a rare way.
        io::ErrorKind::Unsupported => format!("cannot be read: {error}. Unpack the archive with another program first"),
        _ => {
            let text = error.to_string();
            let reason = text.split(" (os error").next().unwrap_or(&text);
            format!("cannot be read: {reason}")
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_reports_becomes_the_rest_of_a_sentence_with_a_remedy() {
        for (kind, expected) in [
            (io::ErrorKind::NotFound, "does not exist. Check the name and the folder"),
            (
                io::ErrorKind::PermissionDenied,
                "cannot be read: permission denied. Give your account the right to read it",
            ),
        ] {
            assert_eq!(Damage::from(io::Error::from(kind)).to_string(), expected);
        }
        let error = io::Error::from_raw_os_error(5);
        let text = Damage::from(error).to_string();
        assert!(
            text.starts_with("cannot be read: ") && !text.contains("os error"),
            "{text}"
        );
    }
}
