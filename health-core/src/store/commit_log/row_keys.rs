//! The keys of the rows that a commit wrote: user and time of each, in the order of their ids.
//!
//! The feed finds the rows of a commit by their keys, through the primary key of the table. So it reads these rows
//! only, wherever in the table PostgreSQL has put them. A row key has no source, so it may find rows of other sources
//! too: they belong to other batches, or have a row key of their own.
//!
//! ```text
//! unit  1 byte: times are in units of 10 to this power microseconds; 0, 3 or 6
//! rows  for each: zigzag varint of the difference to the user before, then of that to the time before, in units
//! ```
//!
//! A commit without rows has no byte. A writer sorts its rows, so a row of a live stream takes 2 to 4 bytes. In a pack,
//! the keys of each record follow their length, which is a varint.

use tokio_postgres::types::ToSql;

use crate::{
    batch::WritePlan,
    store::{
        commit_log::{
            self, CommitRecord, PACK_RECORDS, codec,
            varint::{put, put_signed, take, take_signed},
        },
        connection::Session,
        error::StoreError,
    },
};

/// The key of a row, without its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowKey {
    pub(crate) user_id: i64,
    /// Microseconds since 1970.
    pub(crate) timestamp: i64,
}

/// Reads the row keys of some records, and of the packs that may hold such records. It reads both in one snapshot, so
/// that it finds a record that is being packed in one of the two. `$1` are the numbers of the records, `$2` is the
/// lowest and `$3` the highest of them. A pack that holds one of them ends at `$4` or before.
const KEYS: &str = "SELECT number, batch, writer, rows, keys, NULL::bytea FROM health_commits WHERE number = ANY($1::bigint[]) \
     UNION ALL SELECT first_number, 0, 0, 0, keys, records FROM health_commit_packs \
     WHERE last_number >= $2 AND last_number <= $4 AND first_number <= $3";

/// The units of time, as powers of ten microseconds.
const UNITS: [u8; 3] = [6, 3, 0];

/// Encodes the keys of the rows that a plan writes: those of its inserts, then those of its updates.
pub(crate) fn of_plan(plan: &WritePlan) -> Vec<u8> {
    let updated = plan.updates.iter().map(|update| &update.after);
    let samples = plan.inserts.iter().chain(updated);
    encode(samples.map(|sample| RowKey {
        user_id: sample.user_id().get(),
        timestamp: sample.timestamp().timestamp_micros(),
    }))
}

/// Encodes the keys of rows, in the order of their ids.
pub(crate) fn encode(keys: impl IntoIterator<Item = RowKey, IntoIter: Clone>) -> Vec<u8> {
    let keys = keys.into_iter();
    let is_whole = |power: &u8| keys.clone().all(|key| key.timestamp % unit(*power) == 0);
    let power = UNITS.into_iter().find(is_whole).unwrap_or_default();
    let (mut user, mut time) = (0, 0);
    let mut bytes = Vec::new();
    for key in keys {
        if bytes.is_empty() {
            bytes.push(power);
        }
        let units = key.timestamp / unit(power);
        put_signed(&mut bytes, key.user_id.wrapping_sub(user));
        put_signed(&mut bytes, units.wrapping_sub(time));
        (user, time) = (key.user_id, units);
    }
    bytes
}

fn unit(power: u8) -> i64 {
    10_i64.pow(u32::from(power))
}

/// Decodes the keys of a commit. Returns `None` if the bytes are not those of this many rows.
fn decode(mut bytes: &[u8], rows: i32) -> Option<Vec<RowKey>> {
    let rows = usize::try_from(rows).ok()?;
    let Some((power, rest)) = bytes.split_first() else {
        return (rows == 0).then(Vec::new);
    };
    let unit = UNITS.contains(power).then(|| unit(*power))?;
    bytes = rest;
    // Each row takes two bytes or more, so damaged bytes do not ask for much memory.
    let mut keys = Vec::with_capacity(rows.min(bytes.len()));
    let (mut user, mut time) = (0_i64, 0_i64);
    while !bytes.is_empty() {
        user = user.wrapping_add(take_signed(&mut bytes)?);
        time = time.wrapping_add(take_signed(&mut bytes)?);
        keys.push(RowKey {
            user_id: user,
            timestamp: time.checked_mul(unit)?,
        });
    }
    (keys.len() == rows).then_some(keys)
}

/// Appends the keys of one record to those of a pack.
pub(crate) fn pack(packed: &mut Vec<u8>, keys: &[u8]) {
    put(packed, keys.len() as u64);
    packed.extend_from_slice(keys);
}

/// Takes the keys of the next record from those of a pack.
fn unpack<'a>(packed: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take(packed)?).ok()?;
    let (keys, rest) = packed.split_at_checked(len)?;
    *packed = rest;
    Some(keys)
}

/// Reads the keys of some records, in their order, which is that of their numbers.
///
/// Returns `None` if the log does not hold all of them any more: they were pruned, or the database was put back to an
/// earlier state and the numbers belong to other commits. If keys cannot be read, logs a warning and returns `None`
/// too.
pub(crate) async fn of_records(
    session: &mut Session,
    records: &[CommitRecord],
) -> Result<Option<Vec<Vec<RowKey>>>, tokio_postgres::Error> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        return Ok(Some(Vec::new()));
    };
    let numbers: Vec<i64> = records.iter().map(|record| record.number).collect();
    let statement = session.prepare(KEYS).await?;
    let end_of_pack = last.number.saturating_add(PACK_RECORDS);
    let params: [&(dyn ToSql + Sync); 4] = [&numbers, &first.number, &last.number, &end_of_pack];
    let rows = session.client().query(&statement, &params).await?;
    let found = rows.iter().flat_map(|row| match row.get(5) {
        Some(pack) => keys_of_pack(row.get(0), pack, row.get(4)),
        None => vec![(commit_log::record(row), row.get(4))],
    });
    let mut keys: Vec<Option<Vec<RowKey>>> = vec![None; records.len()];
    for (record, bytes) in found {
        let at = numbers.binary_search(&record.number).ok();
        let Some(at) = at.filter(|at| records[*at] == record) else {
            continue;
        };
        keys[at] = decode(bytes, record.rows);
        if keys[at].is_none() {
            let error = StoreError::UnreadableRowKeys(record.number);
            tracing::warn!(%error, "the feed leaves out a commit");
        }
    }
    Ok(keys.into_iter().collect())
}

/// Each record of a pack, and its keys. Damaged ones are left out.
fn keys_of_pack<'a>(first_number: i64, pack: &[u8], mut keys: &'a [u8]) -> Vec<(CommitRecord, &'a [u8])> {
    let mut records = Vec::new();
    // `page` tells of a pack that cannot be read.
    let _ = codec::decode(first_number, pack, &mut records);
    let with_keys = |record| Some((record, unpack(&mut keys)?));
    records.into_iter().map_while(with_keys).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = RowKey> {
        let time = prop_oneof![
            any::<i32>().prop_map(|second| i64::from(second) * 1_000_000),
            any::<i32>().prop_map(|milli| i64::from(milli) * 1_000),
            any::<i64>(),
        ];
        (any::<i64>(), time).prop_map(|(user_id, timestamp)| RowKey { user_id, timestamp })
    }

    proptest! {
        #[test]
        fn keys_decode_to_what_was_encoded_and_nothing_else(keys in proptest::collection::vec(key(), 0..50)) {
            let rows = i32::try_from(keys.len()).unwrap();
            let bytes = encode(keys.iter().copied());
            prop_assert_eq!(decode(&bytes, rows), Some(keys));
            prop_assert_eq!(decode(&bytes, rows + 1), None);
        }

        #[test]
        fn a_pack_keeps_the_keys_of_each_record(records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20)) {
            let mut packed = Vec::new();
            for keys in &records {
                pack(&mut packed, keys);
            }
            let mut rest = packed.as_slice();
            for keys in &records {
                prop_assert_eq!(unpack(&mut rest), Some(keys.as_slice()));
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn damaged_bytes_are_refused_or_decode_to_something_but_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..80), rows in any::<i32>(),
        ) {
            let _ = decode(&bytes, rows);
            let _ = unpack(&mut bytes.as_slice());
        }
    }

    /// What the comment of the module promises, because it decides how large the log gets.
    #[test]
    fn a_row_of_a_live_stream_takes_two_to_four_bytes() {
        let now = 1_800_000_000_000_000;
        let same_second = (1..=1_000).map(|user_id| RowKey {
            user_id,
            timestamp: now,
        });
        assert!(encode(same_second).len() < 2_100);
        let millis = (1..=1_000).map(|user_id| RowKey {
            user_id: user_id * 60,
            timestamp: now + user_id % 7 * 1_000,
        });
        assert!(encode(millis).len() < 4_100);
    }
}
