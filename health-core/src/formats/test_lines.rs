//! Entries as lines, for the tests of readers.

use chrono::TimeDelta;

use super::{Damage, Entry, FileOptions, test_entries::describe_record};
use crate::{record::ReceiveClock, time::parse_timestamp};

/// Returns options without a user, a source or a zone. The present is 2026-01-01.
pub(super) fn options() -> FileOptions {
    FileOptions {
        clock: ReceiveClock {
            received_at: parse_timestamp("2026-01-01T00:00:00Z").unwrap(),
            max_future: TimeDelta::minutes(5),
        },
        user: None,
        source: None,
        zone: None,
    }
}

/// Reads all entries as lines: `place start..end hr= steps= kcal= source`, `refused kind`, or `ignored name`.
pub(super) fn lines(
    read: impl FnOnce(&mut dyn FnMut(Entry)) -> Result<(), Damage>,
) -> (Vec<String>, Result<(), Damage>) {
    let mut lines = Vec::new();
    let end = read(&mut |entry| lines.push(line(entry)));
    (lines, end)
}

fn line(entry: Entry) -> String {
    match entry {
        Entry::Record(record) => format!("{} {}", record.place.index, describe_record(&record)),
        Entry::Refused(refused) => format!("refused {}", refused.fault.kind),
        Entry::Ignored { name, entries: 1 } => format!("ignored {name}"),
        Entry::Ignored { name, entries } => format!("ignored {name} {entries}"),
    }
}
