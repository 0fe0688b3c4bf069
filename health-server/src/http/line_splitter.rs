//! Splits a stream of byte chunks into lines, in memory that the length of one line bounds.

/// Splits bytes that arrive in any portions into lines.
///
/// A line ends with LF or CR LF; the last line may have no end. Lines of nothing but white space are skipped, and so is
/// a byte order mark (BOM) at the start, which programs on Windows write.
///
/// `tokio_util`'s `LinesCodec` does not fit: it copies every line. This splitter copies only lines that two portions
/// share.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    max_bytes: usize,
    /// The beginning of a line whose end has not arrived yet.
    partial: Vec<u8>,
    /// Whether no line has ended yet: only the first one may begin with a BOM.
    is_first: bool,
}

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A line is longer than the limit. The line end does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineTooLong;

impl LineSplitter {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            partial: Vec::new(),
            is_first: true,
        }
    }

    /// Calls `on_line` with each line that ends in `bytes`.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut on_line: impl FnMut(&[u8])) -> Result<(), LineTooLong> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if self.partial.is_empty() {
                emit(line, self.is_first, self.max_bytes, &mut on_line)?;
            } else {
                self.extend_partial(line)?;
                emit(&self.partial, self.is_first, self.max_bytes, &mut on_line)?;
                self.partial.clear();
            }
            self.is_first = false;
        }
        self.extend_partial(bytes)
    }

    /// Calls `on_line` with the last line, if it came without a line end.
    pub(crate) fn finish(self, mut on_line: impl FnMut(&[u8])) -> Result<(), LineTooLong> {
        emit(&self.partial, self.is_first, self.max_bytes, &mut on_line)
    }

    fn extend_partial(&mut self, bytes: &[u8]) -> Result<(), LineTooLong> {
        // A CR at the end may belong to a line end whose LF has not arrived yet.
        let line_end = usize::from(bytes.last().or(self.partial.last()) == Some(&b'\r'));
        let mark = if self.is_first { BYTE_ORDER_MARK.len() } else { 0 };
        if self.partial.len() + bytes.len() > self.max_bytes.saturating_add(line_end + mark) {
            return Err(LineTooLong);
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

fn emit(line: &[u8], is_first: bool, max_bytes: usize, on_line: &mut impl FnMut(&[u8])) -> Result<(), LineTooLong> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = match line.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) if is_first => rest,
        _ => line,
    };
    if line.len() > max_bytes {
        return Err(LineTooLong);
    }
    if !line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
        on_line(line);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Splits a text that arrives in portions of a size. Returns the lines before the first one that is too long.
    fn split(text: &str, portion_bytes: usize, max_bytes: usize) -> (Vec<String>, Result<(), LineTooLong>) {
        let (mut splitter, mut lines) = (LineSplitter::new(max_bytes), Vec::new());
        let mut on_line = |line: &[u8]| lines.push(String::from_utf8(line.to_vec()).unwrap());
        for portion in text.as_bytes().chunks(portion_bytes) {
            if splitter.push(portion, &mut on_line).is_err() {
                return (lines, Err(LineTooLong));
            }
        }
        let result = splitter.finish(&mut on_line);
        (lines, result)
    }

    #[test]
    fn portions_of_any_size_give_the_same_lines() {
        for (text, expected) in [
            ("", &[][..]),
            ("\n\r\n \t\n", &[]),
            ("a", &["a"]),
            ("a\n", &["a"]),
            ("a\r\n\nbcd\r\n", &["a", "bcd"]),
            ("a\rb\n\r\r\nc\r", &["a\rb", "c"]),
            ("12345\r\n67890\n", &["12345", "67890"]),
            ("\u{feff}12345\r\n67890\n", &["12345", "67890"]),
            ("\u{feff}12345", &["12345"]),
            ("\u{feff}\r\n\u{feff}a", &["\u{feff}a"]),
            ("\u{feff}", &[]),
        ] {
            for portion_bytes in 1..=text.len().max(1) {
                let (lines, result) = split(text, portion_bytes, 5);
                assert_eq!(
                    (lines, result),
                    (expected.iter().map(|line| (*line).to_owned()).collect(), Ok(())),
                    "{text:?} by {portion_bytes}"
                );
            }
        }
    }

    #[test]
    fn a_line_over_the_limit_is_an_error_after_the_lines_before_it() {
        for text in [
            "ok\n123456\nlater\n",
            "ok\n123456",
            "ok\n123456\r\n",
            "ok\n      \n",
            "ok\n12345\r6\n",
            "\u{feff}ok\n123\u{feff}\n",
        ] {
            for portion_bytes in 1..=text.len() {
                assert_eq!(
                    split(text, portion_bytes, 5),
                    (vec!["ok".to_owned()], Err(LineTooLong)),
                    "{text:?} by {portion_bytes}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_in_portions_of_any_size_is_split_as_if_it_were_whole(
            text in "\u{feff}?([a-z]{0,9}[ \\r\\t]{0,2}\\n?){0,12}",
            portion_bytes in 1_usize..20,
            max_bytes in 1_usize..12,
        ) {
            let mut expected = (Vec::new(), Ok(()));
            for line in text.strip_prefix('\u{feff}').unwrap_or(&text).split('\n') {
                let line = line.strip_suffix('\r').unwrap_or(line);
                if line.len() > max_bytes {
                    expected.1 = Err(LineTooLong);
                    break;
                }
                if !line.trim().is_empty() {
                    expected.0.push(line.to_owned());
                }
            }
            prop_assert_eq!(split(&text, portion_bytes, max_bytes), expected);
        }
    }
}
