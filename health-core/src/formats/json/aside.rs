//! Rows that are kept until the name of their list is known.

use std::collections::VecDeque;

use crate::formats::{
    format_error::FormatError,
    json::row::{Row, Value},
};

/// A queue of rows in memory that the bytes of the body bound: a row takes no more than it took in the body.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    /// The rows in their order, each in one chunk.
    chunks: VecDeque<Vec<u8>>,
    /// How much of the first chunk was read.
    read: usize,
    /// How many bytes of the body the rows took.
    body_bytes: usize,
    rows: u64,
}

/// The length at which a chunk is full.
const CHUNK_BYTES: usize = 1 << 20;

// A row is a mark for each field with its value, and a mark for the end. A text has its length before it, in two bytes.
const TEXT: u8 = 0;
const NUMBER: u8 = 1;
const BOOLEAN: u8 = 2;
const CONTAINER: u8 = 3;
const END: u8 = 0xff;
const END_OF_NO_OBJECT: u8 = 0xfe;

impl Aside {
    /// Adds a row that took a number of bytes in the body. The caller bounds their sum.
    ///
    /// # Errors
    /// [`FormatError::TooMuchAside`] for a text that is longer than an entry may be.
    pub(crate) fn push(&mut self, row: &Row, body_bytes: usize) -> Result<(), FormatError> {
        self.body_bytes += body_bytes;
        if self.chunks.back().is_none_or(|chunk| chunk.len() > CHUNK_BYTES) {
            self.chunks.push_back(Vec::new());
        }
        if let Some(chunk) = self.chunks.back_mut() {
            write(row, chunk).ok_or(FormatError::TooMuchAside)?;
            self.rows += 1;
        }
        Ok(())
    }

    /// Removes the first row.
    pub(crate) fn pop(&mut self, fields: usize) -> Option<Row> {
        let chunk = self.chunks.front()?;
        let mut bytes = chunk.get(self.read..)?;
        let row = read(&mut bytes, fields)?;
        self.read = chunk.len() - bytes.len();
        self.rows -= 1;
        if bytes.is_empty() {
            self.chunks.pop_front();
            self.read = 0;
        }
        if self.chunks.is_empty() {
            *self = Self::default();
        }
        Some(row)
    }

    /// Removes all rows. Returns how many there were.
    pub(crate) fn clear(&mut self) -> u64 {
        std::mem::take(self).rows
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Returns how many bytes of memory the rows may take.
    pub(crate) fn bytes(&self) -> usize {
        self.body_bytes
    }
}

/// Returns `None` for a text that is longer than an entry may be.
fn write(row: &Row, chunk: &mut Vec<u8>) -> Option<()> {
    for (field, value) in (0_u8..).zip(&row.values) {
        let (kind, text) = match value {
            None => continue,
            Some(Value::Text(text)) => (TEXT, text.as_str()),
            Some(Value::Number(text)) => (NUMBER, text.as_str()),
            Some(Value::Boolean) => (BOOLEAN, ""),
            Some(Value::Container) => (CONTAINER, ""),
        };
        let length = u16::try_from(text.len()).ok()?;
        chunk.extend_from_slice(&[field, kind]);
        if matches!(kind, TEXT | NUMBER) {
            chunk.extend_from_slice(&length.to_le_bytes());
            chunk.extend_from_slice(text.as_bytes());
        }
    }
    chunk.push(if row.is_no_object { END_OF_NO_OBJECT } else { END });
    Some(())
}

fn read(bytes: &mut &[u8], fields: usize) -> Option<Row> {
    let mut row = Row {
        values: vec![None; fields],
        is_no_object: false,
    };
    loop {
        let (field, rest) = bytes.split_first()?;
        *bytes = rest;
        if matches!(*field, END | END_OF_NO_OBJECT) {
            row.is_no_object = *field == END_OF_NO_OBJECT;
            return Some(row);
        }
        let (kind, rest) = bytes.split_first()?;
        *bytes = rest;
        let value = match *kind {
            BOOLEAN => Value::Boolean,
            CONTAINER => Value::Container,
            kind => {
                let (length, rest) = bytes.split_first_chunk()?;
                let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
                *bytes = rest;
                let text = String::from_utf8(text.to_vec()).ok()?;
                if kind == TEXT {
                    Value::Text(text)
                } else {
                    Value::Number(text)
                }
            }
        };
        *row.values.get_mut(usize::from(*field))? = Some(value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Option<Value>> {
        prop_oneof![
            Just(None),
            any::<String>().prop_map(|text| Some(Value::Text(text))),
            "[0-9.]{1,9}".prop_map(|text| Some(Value::Number(text))),
            Just(Some(Value::Boolean)),
            Just(Some(Value::Container)),
        ]
    }

    proptest! {
        #[test]
        fn rows_come_back_in_their_order(
            rows in prop::collection::vec((prop::collection::vec(value(), 3), any::<bool>()), 0..20),
            popped in 0..20_usize,
        ) {
            let rows: Vec<_> = rows.into_iter().map(|(values, is_no_object)| Row { values, is_no_object }).collect();
            let (mut aside, mut found) = (Aside::default(), Vec::new());
            for (index, row) in rows.iter().enumerate() {
                aside.push(row, 1).unwrap();
                if index == popped {
                    found.extend(aside.pop(3));
                }
            }
            while let Some(row) = aside.pop(3) {
                found.push(row);
            }
            prop_assert_eq!(found, rows);
            prop_assert!(aside.is_empty() && aside.bytes() == 0);
        }
    }

    #[test]
    fn rows_of_more_than_a_chunk_come_back_in_their_order() {
        let row = Row {
            values: vec![Some(Value::Text("x".repeat(60_000)))],
            is_no_object: false,
        };
        let mut aside = Aside::default();
        for _ in 0..100 {
            aside.push(&row, 60_010).unwrap();
        }
        assert!(aside.chunks.len() > 4);
        for _ in 0..100 {
            assert_eq!(aside.pop(1).as_ref(), Some(&row));
        }
        assert!(aside.is_empty());
    }
}
