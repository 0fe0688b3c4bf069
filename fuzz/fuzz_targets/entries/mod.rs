//! What the targets of all formats check: an entry that is not refused becomes a record that `/ingest` accepts.

use chrono::TimeDelta;
use health_core::{
    ReceiveClock, UserId,
    formats::{Entry, FileOptions},
    parse_timestamp, read_record,
};

/// Returns options with a user and a zone. The present is 2026-01-01.
pub fn options() -> FileOptions {
    FileOptions {
        clock: clock(),
        user: Some(user()),
        source: None,
        zone: Some("Europe/Berlin".parse().expect("a zone")),
    }
}

/// Checks an entry.
pub fn check(entry: Entry) {
    match entry {
        Entry::Record(mut record) => {
            record.user = Some(record.user.unwrap_or(user()));
            let json = serde_json::to_vec(&record).expect("a record can be written");
            let read = read_record(&json, &clock()).expect("ingest accepts the record");
            assert_eq!(read, record.into_record(user()).expect("the record is valid"));
        }
        Entry::Refused(refused) => assert!(!refused.fault.kind.is_empty()),
        Entry::Ignored { entries, .. } => assert!(entries > 0),
    }
}

fn clock() -> ReceiveClock {
    ReceiveClock {
        received_at: parse_timestamp("2026-01-01T00:00:00Z").expect("a time"),
        max_future: TimeDelta::minutes(5),
    }
}

fn user() -> UserId {
    UserId::new(7).expect("a user")
}
