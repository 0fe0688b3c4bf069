//! The bytes of a pack: many records of the commit log, without loss.
//!
//! ```text
//! version  1 byte: WITHOUT_ERASURES or WITH_ERASURES
//! writers  varint count, then 8 bytes each
//! records  varint count, then for each: varint of the zigzag difference to the batch before,
//!          varint index of the writer, varint rows; in a pack with erasures: varint of twice the rows, plus 1 if the
//!          record is an erasure
//! ```
//!
//! The numbers follow each other, so only the first is kept, in a column. A record takes 3 to 5 bytes.

use crate::store::commit_log::{
    CommitRecord,
    varint::{put, put_signed, take, take_signed},
};

/// The version of a pack without an erasure.
const WITHOUT_ERASURES: u8 = 1;

/// The version of a pack with an erasure. Servers of a version that does not know erasures refuse it.
const WITH_ERASURES: u8 = 2;

/// Encodes records whose numbers follow each other.
pub(crate) fn encode(records: &[CommitRecord]) -> Vec<u8> {
    let mut writers: Vec<i64> = records.iter().map(|record| record.writer_id).collect();
    writers.sort_unstable();
    writers.dedup();
    let has_erasures = records.iter().any(|record| record.is_erasure);
    let mut bytes = vec![if has_erasures { WITH_ERASURES } else { WITHOUT_ERASURES }];
    put(&mut bytes, writers.len() as u64);
    for writer in &writers {
        bytes.extend(writer.to_be_bytes());
    }
    put(&mut bytes, records.len() as u64);
    let mut batch = 0;
    for record in records {
        let difference = record.batch_number.wrapping_sub(batch);
        batch = record.batch_number;
        put_signed(&mut bytes, difference);
        put(
            &mut bytes,
            writers.binary_search(&record.writer_id).unwrap_or_default() as u64,
        );
        let rows = u64::from(record.rows.cast_unsigned());
        put(
            &mut bytes,
            if has_erasures {
                (rows << 1) | u64::from(record.is_erasure)
            } else {
                rows
            },
        );
    }
    bytes
}

/// Appends the records of a pack to `records`. Returns `None` if the bytes are no pack of this version.
pub(crate) fn decode(first_number: i64, mut bytes: &[u8], records: &mut Vec<CommitRecord>) -> Option<()> {
    let (version, rest) = bytes.split_first()?;
    let has_erasures = match *version {
        WITHOUT_ERASURES => false,
        WITH_ERASURES => true,
        _ => return None,
    };
    bytes = rest;
    let mut writers = Vec::new();
    for _ in 0..take(&mut bytes)? {
        let (writer, rest) = bytes.split_first_chunk()?;
        writers.push(i64::from_be_bytes(*writer));
        bytes = rest;
    }
    let (mut batch, mut number) = (0_i64, first_number);
    for _ in 0..take(&mut bytes)? {
        batch = batch.wrapping_add(take_signed(&mut bytes)?);
        let writer = *writers.get(usize::try_from(take(&mut bytes)?).ok()?)?;
        let rows = take(&mut bytes)?;
        let (rows, is_erasure) = if has_erasures {
            (rows >> 1, rows & 1 == 1)
        } else {
            (rows, false)
        };
        records.push(CommitRecord {
            number,
            batch_number: batch,
            writer_id: writer,
            rows: u32::try_from(rows).ok()?.cast_signed(),
            is_erasure,
        });
        number = number.checked_add(1)?;
    }
    bytes.is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pack_decodes_to_the_records_that_were_encoded(
            first in 0..i64::MAX - 100,
            rows in proptest::collection::vec((any::<i64>(), 0..3_usize, any::<i32>(), any::<bool>()), 0..50),
            may_have_erasures: bool,
            writers in proptest::array::uniform3(any::<i64>()),
        ) {
            let records: Vec<_> = rows
                .into_iter()
                .zip(first..)
                .map(|((batch_number, writer, rows, is_erasure), number)| CommitRecord {
                    number,
                    batch_number,
                    writer_id: writers[writer],
                    rows,
                    is_erasure: is_erasure && may_have_erasures,
                })
                .collect();
            let mut decoded = Vec::new();
            prop_assert_eq!(decode(first, &encode(&records), &mut decoded), Some(()));
            prop_assert_eq!(decoded, records);
        }

        #[test]
        fn damaged_bytes_are_refused_or_decode_to_something_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(1, &bytes, &mut Vec::new());
        }
    }
}
