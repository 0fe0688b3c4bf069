//! The values of one line of a CSV file.

use csv_core::{ReadFieldResult, Reader};

/// A line that was divided into its values.
///
/// No value that this program reads has a line break, so each line is read by itself: a quotation mark without its
/// partner damages one line, and not everything up to the next mark.
pub(super) struct CsvLine {
    parser: Reader,
    /// The values, one after the other.
    text: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// One value.
    value: Vec<u8>,
}

/// A quotation mark is not closed on its line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnclosedQuote;

impl CsvLine {
    pub(super) fn new() -> Self {
        Self {
            parser: Reader::new(),
            text: Vec::new(),
            ends: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Takes the values of another line, which has no line end and is valid UTF-8.
    pub(super) fn split(&mut self, line: &[u8]) -> Result<(), UnclosedQuote> {
        self.parser.reset();
        self.text.clear();
        self.ends.clear();
        self.value.resize(line.len(), 0);
        let (mut rest, mut is_ended) = (line, false);
        while !is_ended {
            // The end of the line is given apart, because the line is borrowed.
            let bytes = if rest.is_empty() { b"\n" } else { rest };
            let (result, read, written) = self.parser.read_field(bytes, &mut self.value);
            if !rest.is_empty() {
                rest = &rest[read..];
            } else if result == ReadFieldResult::InputEmpty {
                return Err(UnclosedQuote);
            }
            self.text.extend_from_slice(&self.value[..written]);
            if let ReadFieldResult::Field { record_end } = result {
                self.ends.push(self.text.len());
                is_ended = record_end;
            }
        }
        Ok(())
    }

    /// Returns the number of values.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the values.
    pub(super) fn values(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Returns one of the values.
    pub(super) fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        std::str::from_utf8(&self.text[start..end]).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(line: &str) -> Result<Vec<String>, UnclosedQuote> {
        let mut values = CsvLine::new();
        values.split(line.as_bytes())?;
        Ok(values.values().map(str::to_owned).collect())
    }

    #[test]
    fn values_may_be_quoted_and_each_quotation_mark_has_to_be_closed() {
        for (line, expected) in [
            ("a", &["a"][..]),
            ("a,b", &["a", "b"]),
            (",", &["", ""]),
            ("\"\"", &[""]),
            ("\"a, \"\"b\"\"\",é", &["a, \"b\"", "é"]),
            ("a \"b\" c,d", &["a \"b\" c", "d"]),
        ] {
            assert_eq!(split(line).unwrap(), expected, "{line}");
        }
        for line in ["\"", "a,\"b", "\"a\"\"", "a,\"b,c\"\",d"] {
            assert_eq!(split(line), Err(UnclosedQuote), "{line}");
        }
    }

    proptest! {
        #[test]
        fn quoted_values_are_read_as_they_were_written(values in prop::collection::vec("[^\r\n]{0,9}", 1..5)) {
            let quoted: Vec<_> = values.iter().map(|value| format!("\"{}\"", value.replace('"', "\"\""))).collect();
            prop_assert_eq!(split(&quoted.join(",")).unwrap(), values);
        }
    }
}
