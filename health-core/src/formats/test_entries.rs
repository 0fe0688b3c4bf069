//! Helpers of the readers' tests: entries as lines of text.

use chrono::TimeDelta;

use crate::{
    formats::entry::{Entry, EntryRecord},
    record::ReceiveClock,
    time::{format_timestamp, parse_timestamp},
};

/// A clock that shows 2026-03-03T10:00:03Z.
pub(crate) fn clock() -> ReceiveClock {
    ReceiveClock {
        received_at: parse_timestamp("2026-03-03T10:00:03Z").unwrap(),
        max_future: TimeDelta::minutes(5),
    }
}

/// Describes an entry: `heart_rate 0: 2026-…Z hr=72.4 watch`, `steps 3! reason`, or `sleep=12`.
pub(crate) fn describe(entry: &Entry) -> String {
    match entry {
        Entry::Ignored { name, entries } => format!("{name}={entries}"),
        Entry::Refused(refused) => format!("{} {}! {}", refused.place.list, refused.place.index, refused.fault),
        Entry::Record(record) => {
            let (list, index) = (&record.place.list, record.place.index);
            format!("{list} {index}: {}", describe_record(record))
        }
    }
}

/// Describes what a record has: `start..end hr= steps= kcal= user= source`.
pub(crate) fn describe_record(record: &EntryRecord) -> String {
    let readings = record.readings;
    let end = record.end.map(|end| format!("..{}", format_timestamp(end)));
    let parts = [
        Some(format_timestamp(record.timestamp) + &end.unwrap_or_default()),
        readings.heart_rate.map(|rate| format!("hr={}", rate.get())),
        readings.steps.map(|steps| format!("steps={}", steps.get())),
        readings.calories.map(|kcal| format!("kcal={}", kcal.get())),
        record.user.map(|user| format!("user={user}")),
        Some(record.source.to_string()).filter(|source| !source.is_empty()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Reads a body in portions of a size, with the calls of a reader. Returns the entries, and the error if there is one.
macro_rules! read_in_portions {
    ($reader:expr, $body:expr, $portion:expr) => {{
        let (mut reader, mut found, body) = ($reader, Vec::new(), $body);
        let bytes: &[u8] = body.as_ref();
        let mut portions = bytes.chunks($portion);
        let error = loop {
            match reader.next(&$crate::formats::test_entries::clock()) {
                Ok(Some(entry)) => found.push($crate::formats::test_entries::describe(&entry)),
                Err(error) => break Some(error),
                Ok(None) => match portions.next() {
                    Some(portion) => reader.push(portion),
                    None => {
                        reader.finish();
                        loop {
                            match reader.next(&$crate::formats::test_entries::clock()) {
                                Ok(Some(entry)) => found.push($crate::formats::test_entries::describe(&entry)),
                                Ok(None) => break,
                                Err(error) => {
                                    found.push(format!("error: {error}"));
                                    break;
                                }
                            }
                        }
                        break None;
                    }
                },
            }
        };
        if let Some(error) = error {
            found.push(format!("error: {error}"));
        }
        found
    }};
}
pub(crate) use read_in_portions;
