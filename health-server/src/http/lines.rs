//! Cutting a stream of pieces into lines, in memory that one line bounds.

/// Lines end with LF or CR LF; the last one may go without. Lines of nothing but white space are left out.
#[derive(Debug)]
pub(crate) struct Lines {
    longest: usize,
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
}

/// A line is longer than the limit, its line end not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineTooLong;

impl Lines {
    pub(crate) fn new(longest: usize) -> Self {
        Self {
            longest,
            begun: Vec::new(),
        }
    }

    /// Gives out the lines that end in this piece.
    pub(crate) fn push(&mut self, mut piece: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), LineTooLong> {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (line, rest) = (&piece[..end], &piece[end + 1..]);
            piece = rest;
            if self.begun.is_empty() {
                give(line, self.longest, &mut each)?;
            } else {
                self.begin(line)?;
                let whole = std::mem::take(&mut self.begun);
                give(&whole, self.longest, &mut each)?;
                self.begun = whole;
                self.begun.clear();
            }
        }
        self.begin(piece)
    }

    /// Gives out the last line, where it came without its end.
    pub(crate) fn finish(self, mut each: impl FnMut(&[u8])) -> Result<(), LineTooLong> {
        give(&self.begun, self.longest, &mut each)
    }

    fn begin(&mut self, part: &[u8]) -> Result<(), LineTooLong> {
        // The last byte may be the CR of a line end that is not whole yet.
        let line_end = usize::from(part.last().or(self.begun.last()) == Some(&b'\r'));
        if self.begun.len() + part.len() > self.longest + line_end {
            return Err(LineTooLong);
        }
        self.begun.extend_from_slice(part);
        Ok(())
    }
}

fn give(line: &[u8], longest: usize, each: &mut impl FnMut(&[u8])) -> Result<(), LineTooLong> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > longest {
        return Err(LineTooLong);
    }
    if !line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
        each(line);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The lines of a text that arrives in pieces of a size, up to the first that is too long.
    fn cut(text: &str, piece: usize, longest: usize) -> (Vec<String>, Result<(), LineTooLong>) {
        let (mut lines, mut found) = (Lines::new(longest), Vec::new());
        let mut keep = |line: &[u8]| found.push(String::from_utf8(line.to_vec()).unwrap());
        for piece in text.as_bytes().chunks(piece) {
            if lines.push(piece, &mut keep).is_err() {
                return (found, Err(LineTooLong));
            }
        }
        let end = lines.finish(&mut keep);
        (found, end)
    }

    #[test]
    fn pieces_of_any_size_give_the_same_lines() {
        for (text, expected) in [
            ("", &[][..]),
            ("\n\r\n \t\n", &[]),
            ("a", &["a"]),
            ("a\n", &["a"]),
            ("a\r\n\nbcd\r\n", &["a", "bcd"]),
            ("a\rb\n\r\r\nc\r", &["a\rb", "c"]),
            ("12345\r\n67890\n", &["12345", "67890"]),
        ] {
            for piece in 1..=text.len().max(1) {
                let (lines, end) = cut(text, piece, 5);
                assert_eq!(
                    (lines, end),
                    (expected.iter().map(|line| (*line).to_owned()).collect(), Ok(())),
                    "{text:?} by {piece}"
                );
            }
        }
    }

    #[test]
    fn a_line_over_the_limit_ends_it_and_what_came_before_was_given() {
        for text in [
            "ok\n123456\nlater\n",
            "ok\n123456",
            "ok\n123456\r\n",
            "ok\n      \n",
            "ok\n12345\r6\n",
        ] {
            for piece in 1..=text.len() {
                assert_eq!(
                    cut(text, piece, 5),
                    (vec!["ok".to_owned()], Err(LineTooLong)),
                    "{text:?} by {piece}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_in_pieces_of_any_size_is_cut_as_if_it_were_whole(
            text in "([a-z]{0,9}[ \\r\\t]{0,2}\\n?){0,12}",
            piece in 1_usize..20,
            longest in 1_usize..12,
        ) {
            let mut expected = (Vec::new(), Ok(()));
            for line in text.split('\n') {
                let line = line.strip_suffix('\r').unwrap_or(line);
                if line.len() > longest {
                    expected.1 = Err(LineTooLong);
                    break;
                }
                if !line.trim().is_empty() {
                    expected.0.push(line.to_owned());
                }
            }
            prop_assert_eq!(cut(&text, piece, longest), expected);
        }
    }
}
