//! ZIP archives, entry by entry.

use std::io::{self, Read};

use zip::{ZipArchive, result::ZipError};

use super::input::{Reopen, WholeFile};

/// The first bytes of an archive, and of an empty one.
const MAGIC: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

/// Returns whether a file with this beginning is an archive.
pub(super) fn is_archive(start: &[u8]) -> bool {
    MAGIC.iter().any(|magic| start.starts_with(magic))
}

/// An entry of an archive.
pub(super) struct ArchiveEntry<'a> {
    pub(super) archive: &'a mut ZipArchive<WholeFile>,
    pub(super) index: usize,
}

impl Reopen for ArchiveEntry<'_> {
    fn open(&mut self) -> io::Result<Box<dyn Read + '_>> {
        let entry = self.archive.by_index(self.index).map_err(|error| match error {
            ZipError::Io(error) => error,
            // Such as an entry that needs a password.
            ZipError::UnsupportedArchive(reason) => io::Error::new(io::ErrorKind::Unsupported, reason),
            error => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
        })?;
        Ok(Box::new(entry))
    }
}
