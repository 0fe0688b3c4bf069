//! The text form of a position in the commit log.

use crate::{store::commit_log::LogPosition, wire::Cursor};

/// Why a cursor cannot be one of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CursorError {
    /// Older versions wrote a dash.
    #[error("the cursor is of an older version of the server, which numbered commits in another way")]
    OldForm,
    /// Anything else.
    #[error("the cursor is not one that this server has given")]
    Unreadable,
}

/// Returns the cursor of a position: `number.fingerprint`, for example `1734.09af31c2`.
pub(crate) fn to_cursor(position: LogPosition) -> Cursor {
    Cursor::new(format!("{}.{:08x}", position.number, position.fingerprint))
}

/// Reads a cursor. Only the exact text that [`to_cursor`] writes is one.
pub(crate) fn from_cursor(cursor: &Cursor) -> Result<LogPosition, CursorError> {
    let text = cursor.as_str();
    let parts = text.split_once('.');
    let position = parts.and_then(|(number, fingerprint)| {
        Some(LogPosition {
            number: number.parse().ok()?,
            fingerprint: u32::from_str_radix(fingerprint, 16).ok()?,
        })
    });
    match position.filter(|position| position.number >= 0 && to_cursor(*position) == *cursor) {
        Some(position) => Ok(position),
        None if text.contains('-') => Err(CursorError::OldForm),
        None => Err(CursorError::Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_position_is_read_back_from_its_cursor(number in 0..=i64::MAX, fingerprint: u32) {
            let position = LogPosition { number, fingerprint };
            prop_assert_eq!(from_cursor(&to_cursor(position)), Ok(position));
        }

        #[test]
        fn any_other_text_is_refused(text in "[0-9a-fA-F.:+-]{0,24}") {
            let cursor = Cursor::new(text.as_str());
            if let Ok(position) = from_cursor(&cursor) {
                prop_assert_eq!(to_cursor(position), cursor);
            }
        }
    }

    #[test]
    fn text_that_no_server_has_given_is_refused() {
        for text in [
            "",
            ".",
            "7",
            "7.",
            ".0000000a",
            "07.0000000a",
            "7.a",
            "7.0000000A",
            "+7.0000000a",
            "7.0000000a0",
            "99999999999999999999.0000000a",
        ] {
            assert_eq!(from_cursor(&Cursor::new(text)), Err(CursorError::Unreadable), "{text}");
        }
        for text in ["1f00ba-745", "1f00ba-7:9:7,8", "-7.0000000a"] {
            assert_eq!(from_cursor(&Cursor::new(text)), Err(CursorError::OldForm), "{text}");
        }
    }
}
