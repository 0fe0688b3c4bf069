//! Why a file or body cannot be read to its end.

use crate::formats::entry::Place;

/// Why a reader stops. Entries before the fault were passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes are not JSON, or end too early.
    #[error("it is not valid JSON: {reason} near byte {offset}")]
    NotJson {
        /// What is wrong.
        reason: &'static str,
        /// The number of bytes before it, roughly.
        offset: usize,
    },
    /// The JSON does not have the form of this format. The text continues a sentence that begins with "it".
    #[error("it {0}")]
    WrongForm(&'static str),
    /// The app Health Auto Export has written the body.
    #[error("it has \"data\", as the app Health Auto Export writes it")]
    OfHealthAutoExport,
    /// The app HC Webhook has written the body.
    #[error(
        "it has \"heart_rate\", \"steps\" or others at the top, as the app HC Webhook for Health Connect writes them"
    )]
    OfHealthConnect,
    /// One entry is longer than [`ENTRY_BYTES_MAX`].
    #[error("the entry {index} of {list} is longer than 64 KiB")]
    EntryTooLong {
        /// The sender's name of the list.
        list: String,
        /// The position in that list, from 0.
        index: u64,
    },
    /// The name of a list follows after more than [`ASIDE_BYTES_MAX`] of its entries.
    #[error("more than 32 MiB of entries come before the name and the unit of their list")]
    TooMuchAside,
}

/// The greatest length of one entry in bytes, as of a line of NDJSON.
pub const ENTRY_BYTES_MAX: usize = 64 << 10;

/// How many bytes of a body may be kept aside until the name of their list is known.
///
/// Health Auto Export writes the keys of an object in any order. An export of a month has a few megabytes.
pub const ASIDE_BYTES_MAX: usize = 32 << 20;

impl FormatError {
    pub(crate) fn too_long(place: &Place) -> Self {
        Self::EntryTooLong {
            list: place.list.clone().into_owned(),
            index: place.index,
        }
    }

    /// Returns whether the input is too large, not wrong.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::EntryTooLong { .. } | Self::TooMuchAside)
    }
}
