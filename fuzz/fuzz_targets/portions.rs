//! What the fuzz targets of the formats share: a body that arrives in two divisions must give the same entries, and
//! each record must be one that `/ingest` accepts.

use chrono::TimeDelta;
use health_core::{
    ReceiveClock, UserId,
    formats::{Entry, FormatError},
    parse_timestamp, read_record,
};

/// The calls of a reader.
pub trait Reader {
    fn push(&mut self, bytes: &[u8]);
    fn finish(&mut self);
    fn next(&mut self, clock: &ReceiveClock) -> Result<Option<Entry>, FormatError>;
}

/// Implements [`Reader`] by the methods of a type.
#[macro_export]
macro_rules! reader {
    ($reader:ty) => {
        impl portions::Reader for $reader {
            fn push(&mut self, bytes: &[u8]) {
                self.push(bytes);
            }

            fn finish(&mut self) {
                self.finish();
            }

            fn next(&mut self, clock: &health_core::ReceiveClock) -> portions::Next {
                self.next(clock)
            }
        }
    };
}

/// What [`Reader::next`] returns.
pub type Next = Result<Option<Entry>, FormatError>;

/// Checks the entries of a body. The first byte is the length of the portions.
pub fn check<R: Reader>(input: &[u8], reader: impl Fn() -> R) {
    let Some((length, body)) = input.split_first() else {
        return;
    };
    let clock = ReceiveClock {
        received_at: parse_timestamp("2026-03-03T10:00:00Z").expect("a time"),
        max_future: TimeDelta::minutes(5),
    };
    let whole = read(reader(), body, body.len().max(1), &clock);
    let divided = read(reader(), body, usize::from(*length).max(1), &clock);
    assert_eq!(whole, divided);
    for entry in whole.0 {
        if let Entry::Record(mut record) = entry {
            let user = *record.user.get_or_insert(UserId::new(7).expect("a user"));
            let json = serde_json::to_vec(&record).expect("a record can be written");
            assert_eq!(read_record(&json, &clock), record.into_record(user).map_err(|_| Vec::new()));
        }
    }
}

fn read(mut reader: impl Reader, body: &[u8], length: usize, clock: &ReceiveClock) -> (Vec<Entry>, Option<FormatError>) {
    let mut entries = Vec::new();
    for portion in body.chunks(length) {
        reader.push(portion);
        if let Err(error) = take(&mut reader, clock, &mut entries) {
            return (entries, Some(error));
        }
    }
    reader.finish();
    let end = take(&mut reader, clock, &mut entries);
    (entries, end.err())
}

fn take(reader: &mut impl Reader, clock: &ReceiveClock, entries: &mut Vec<Entry>) -> Result<(), FormatError> {
    while let Some(entry) = reader.next(clock)? {
        entries.push(entry);
    }
    Ok(())
}
