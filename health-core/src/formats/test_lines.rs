//! Entries as lines, for the tests of readers.

use chrono::TimeDelta;

use super::{Damage, Entry, FileOptions};
use crate::{
    record::ReceiveClock,
    time::{format_timestamp, parse_timestamp},
};

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
        Entry::Record(record) => {
            let readings = record.readings;
            let end = record.end.map(|end| format!("..{}", format_timestamp(end)));
            let parts = [
                Some(format!(
                    "{} {}{}",
                    record.place.index,
                    format_timestamp(record.timestamp),
                    end.unwrap_or_default()
                )),
                readings.heart_rate.map(|rate| format!("hr={}", rate.get())),
                readings.steps.map(|steps| format!("steps={}", steps.get())),
                readings.calories.map(|kcal| format!("kcal={}", kcal.get())),
                record.user.map(|user| format!("user={user}")),
                Some(record.source.to_string()).filter(|source| !source.is_empty()),
            ];
            parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
        }
        Entry::Refused(refused) => format!("refused {}", refused.fault.kind),
        Entry::Ignored { name, entries: 1 } => format!("ignored {name}"),
        Entry::Ignored { name, entries } => format!("ignored {name} {entries}"),
    }
}
