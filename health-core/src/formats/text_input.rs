//! The input of text formats: valid UTF-8, in elements of bounded length.

use std::io::{self, BufRead, Read};

use super::damage::Damage;

/// The size of the buffer. Larger ones are not faster.
const BUFFER_BYTES: usize = 64 << 10;

/// The longest element of a text file: a tag, a row, or an entry of a list. Real ones have less than 20 KiB.
pub(super) const ELEMENT_BYTES_MAX: usize = 1 << 20;

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The longest line of a file with one record a line, as for `/ingest`.
pub(super) const LINE_BYTES_MAX: usize = 64 << 10;

/// U+001A, which stands in [marked](TextInput::marked) text for a byte that is not UTF-8. No record contains it.
pub(super) const NOT_UTF8: u8 = 0x1A;

/// A buffered reader of text, in which other characters stand for bytes that are not UTF-8.
///
/// It skips a byte order mark and white space at the start. It fails if more than [`ELEMENT_BYTES_MAX`] bytes are read
/// since the last call of [`Self::begin_element`], so that no parser collects an unbounded element.
pub(super) struct TextInput<R> {
    input: R,
    buffer: Box<[u8]>,
    /// The bytes that were not consumed: `start..valid` is UTF-8, `valid..filled` the beginning of one character.
    start: usize,
    valid: usize,
    filled: usize,
    element_bytes: usize,
    is_begun: bool,
    /// The lines that were read or skipped, and the byte that ended the last one.
    lines: u64,
    last_end: Option<u8>,
    /// What stands for a byte that is not UTF-8.
    substitute: u8,
}

impl<R: Read> TextInput<R> {
    /// Puts `?` in the place of bytes that are not UTF-8, so that one damaged name does not end a file.
    pub(super) fn new(input: R) -> Self {
        Self::with_substitute(input, b'?')
    }

    /// Puts [`NOT_UTF8`] in the place of bytes that are not UTF-8. Two names that differ in such bytes must not become
    /// one.
    pub(super) fn marked(input: R) -> Self {
        Self::with_substitute(input, NOT_UTF8)
    }

    fn with_substitute(input: R, substitute: u8) -> Self {
        Self {
            input,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            valid: 0,
            filled: 0,
            element_bytes: 0,
            is_begun: false,
            lines: 0,
            last_end: None,
            substitute,
        }
    }

    /// Reads a line, of which `find_end` finds the end. Returns whether it has at most [`LINE_BYTES_MAX`] bytes, or
    /// `None` at the end of the input.
    pub(super) fn read_line(
        &mut self,
        line: &mut Vec<u8>,
        find_end: impl Fn(&[u8]) -> Option<usize>,
    ) -> Result<Option<bool>, Damage> {
        line.clear();
        let mut length = 0;
        loop {
            self.begin_element();
            let bytes = self.fill_buf()?;
            if bytes.is_empty() {
                self.lines += u64::from(length > 0);
                return Ok((length > 0).then_some(length <= LINE_BYTES_MAX));
            }
            let end = find_end(bytes);
            let end_byte = end.map(|end| bytes[end]);
            let part = &bytes[..end.unwrap_or(bytes.len())];
            length += part.len();
            if length <= LINE_BYTES_MAX {
                line.extend_from_slice(part);
            }
            let consumed = part.len() + usize::from(end.is_some());
            self.consume(consumed);
            if end_byte.is_some() {
                // CR and LF are the end of one line.
                let is_same_end = length == 0 && self.last_end == Some(b'\r') && end_byte == Some(b'\n');
                self.lines += u64::from(!is_same_end);
                self.last_end = end_byte;
                return Ok(Some(length <= LINE_BYTES_MAX));
            }
        }
    }

    /// Returns the number of the line that was read last, from 1, as an editor shows it.
    pub(super) fn line_number(&self) -> u64 {
        self.lines
    }

    /// Notes that the parser begins an element.
    pub(super) fn begin_element(&mut self) {
        self.element_bytes = 0;
    }

    /// Fills the buffer until it has a whole character, or the input ends.
    fn refill(&mut self) -> io::Result<()> {
        while self.start == self.valid {
            self.buffer.copy_within(self.valid..self.filled, 0);
            self.filled -= self.valid;
            (self.start, self.valid) = (0, 0);
            let length = match self.input.read(&mut self.buffer[self.filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                length => length?,
            };
            self.filled += length;
            self.valid = replace_invalid(&mut self.buffer[..self.filled], length == 0, self.substitute);
            if length == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    fn skip_to_content(&mut self) -> io::Result<()> {
        self.is_begun = true;
        self.refill()?;
        if self.buffer[self.start..self.valid].starts_with(BYTE_ORDER_MARK) {
            self.start += BYTE_ORDER_MARK.len();
        }
        loop {
            self.refill()?;
            let bytes = &self.buffer[self.start..self.valid];
            match bytes.iter().position(|byte| !byte.is_ascii_whitespace()) {
                Some(blanks) => {
                    self.lines += lines_of(&bytes[..blanks]);
                    self.start += blanks;
                    return Ok(());
                }
                None if bytes.is_empty() => return Ok(()),
                None => {
                    self.lines += lines_of(bytes);
                    self.start = self.valid;
                }
            }
        }
    }
}

impl<R: Read> BufRead for TextInput<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if !self.is_begun {
            self.skip_to_content()?;
        }
        if self.element_bytes > ELEMENT_BYTES_MAX {
            return Err(Damage::ElementTooLong(ELEMENT_BYTES_MAX).into());
        }
        if self.start == self.valid {
            self.refill()?;
        }
        Ok(&self.buffer[self.start..self.valid])
    }

    fn consume(&mut self, length: usize) {
        self.start += length;
        self.element_bytes += length;
    }
}

impl<R: Read> Read for TextInput<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(bytes)?;
        self.consume(length);
        Ok(length)
    }
}

/// Returns how many lines end in white space.
fn lines_of(blanks: &[u8]) -> u64 {
    blanks.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

/// Replaces bytes that are not UTF-8. Returns the length up to a character whose rest may follow.
fn replace_invalid(bytes: &mut [u8], is_end: bool, substitute: u8) -> usize {
    let mut checked = 0;
    while let Err(error) = std::str::from_utf8(&bytes[checked..]) {
        checked += error.valid_up_to();
        let invalid = match error.error_len() {
            Some(length) => length,
            None if is_end => bytes.len() - checked,
            None => return checked,
        };
        bytes[checked..checked + invalid].fill(substitute);
        checked += invalid;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives out a few bytes at a time.
    struct Portions<'a>(&'a [u8], usize);

    impl Read for Portions<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(bytes.len()).min(self.0.len());
            let (now, later) = self.0.split_at(length);
            bytes[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    fn read(bytes: &[u8], portion: usize) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        TextInput::new(Portions(bytes, portion)).read_to_end(&mut read)?;
        Ok(read)
    }

    #[test]
    fn text_of_any_portions_is_valid_and_begins_with_its_content() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b" \r\n\t", ""),
            (b"\xef\xbb\xbf\n <a/>", "<a/>"),
            ("é€😀 é".as_bytes(), "é€😀 é"),
            (b"a\xffb\xe2\x82c\xf0\x9f\x98", "a?b??c???"),
            (b"caf\xe9, 1", "caf?, 1"),
        ] {
            for portion in 1..=bytes.len().max(1) {
                assert_eq!(read(bytes, portion).unwrap(), expected.as_bytes(), "{portion}");
            }
        }
    }

    #[test]
    fn an_element_that_is_too_long_is_an_error() {
        let long = vec![b'x'; ELEMENT_BYTES_MAX + BUFFER_BYTES + 1];
        let damage = Damage::from(read(&long, BUFFER_BYTES).unwrap_err());
        assert!(matches!(damage, Damage::ElementTooLong(_)), "{damage:?}");
        let mut input = TextInput::new(&long[..]);
        let mut length = 0;
        while !input.fill_buf().unwrap().is_empty() {
            input.begin_element();
            length += 1;
            input.consume(1);
        }
        assert_eq!(length, long.len());
    }

    proptest! {
        #[test]
        fn any_bytes_become_valid_text_of_the_same_length(bytes: Vec<u8>, portion in 1..9_usize) {
            let bytes = [b"x", &bytes[..]].concat();
            let text = read(&bytes, portion).unwrap();
            prop_assert_eq!(text.len(), bytes.len());
            prop_assert!(std::str::from_utf8(&text).is_ok());
            if std::str::from_utf8(&bytes).is_ok() {
                prop_assert_eq!(text, bytes);
            }
        }
    }
}
