//! Files with one record a line (NDJSON).

use std::io::Read;

use serde::{Deserialize, de::IgnoredAny};

use super::{
    Damage, Entry, EntryRecord, Fault, FileOptions, Place,
    text_input::{LINE_BYTES_MAX, NOT_UTF8, TextInput},
};
use crate::record::{REQUIRED, Record, read_record_of};

/// The fault of a record without a user, if no option names one.
pub(super) const USER_MISSING: &str = "user_id is missing: name the user with --user";

/// Reads records of our own form, one a line, in constant memory. Empty lines are no entries.
///
/// The rules are those of [`read_record`](crate::read_record), but a record without a timestamp is refused: it would be
/// stored again each time that its file is read. A record without `user_id` is one of `options.user`.
///
/// # Errors
/// [`Damage`]
pub fn read_ndjson(input: impl Read, options: &FileOptions, found: &mut dyn FnMut(Entry)) -> Result<(), Damage> {
    let mut input = TextInput::marked(input);
    let mut line = Vec::new();
    while let Some(is_whole) = input.read_line(&mut line, |bytes| memchr::memchr(b'\n', bytes))? {
        if is_whole && line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let place = Place::line(input.line_number());
        let record = check_line(is_whole, &line).and_then(|()| read_record(&line, options));
        found(Entry::of(place, record));
    }
    Ok(())
}

/// Checks that a line has the length and the encoding of a record.
pub(super) fn check_line(is_whole: bool, line: &[u8]) -> Result<(), Fault> {
    if !is_whole {
        return Err(Fault::new(format!("the line is longer than {LINE_BYTES_MAX} bytes")));
    }
    if line.contains(&NOT_UTF8) {
        return Err(Fault::new("the line is not UTF-8"));
    }
    Ok(())
}

fn read_record(line: &[u8], options: &FileOptions) -> Result<EntryRecord, Fault> {
    let record = read_record_of(line, &options.clock, options.user);
    let record = record.map_err(|faults| {
        let first = faults.into_iter().next();
        match first {
            Some(fault) if fault.reason == REQUIRED => Fault::new(USER_MISSING),
            Some(fault) => Fault::from(fault),
            None => Fault::new("the record cannot be read"),
        }
    })?;
    let (sample, end) = match record {
        Record::Sample(sample) => (sample, None),
        Record::Interval(interval) => (interval.whole().clone(), Some(interval.end())),
    };
    if sample.timestamp() == options.clock.received_at && !has_timestamp(line) {
        return Err(Fault::new("timestamp is missing: a file cannot leave it out"));
    }
    Ok(EntryRecord {
        place: Place::default(),
        user: Some(sample.user_id()),
        timestamp: sample.timestamp(),
        end,
        source: options.source_or_default(sample.source()),
        readings: sample.readings(),
    })
}

fn has_timestamp(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Times {
        timestamp: Option<IgnoredAny>,
    }
    serde_json::from_slice(line).is_ok_and(|Times { timestamp }| timestamp.is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        formats::test_lines,
        sample::{Source, UserId},
    };

    fn read(text: &[u8], options: &FileOptions) -> Vec<String> {
        let (lines, end) = test_lines::lines(|found| read_ndjson(text, options, found));
        end.unwrap();
        lines
    }

    #[test]
    fn records_are_read_by_the_rules_of_ingest_and_options_fill_what_they_leave_out() {
        let text = "\u{feff}{\"user_id\":5,\"timestamp\":\"2025-03-04T08:00:00Z\",\"heart_rate\":61,\"source\":\"watch\"}\r\n\
            \n  \t\n{\"timestamp\":\"2025-03-04T08:00:10Z\",\"end\":\"2025-03-04T09:00:00Z\",\"steps\":7,\"user_id\":null}\n\
            {\"user_id\":5,\"timestamp\":\"2025-03-04T09:00:00Z\",\"heart_rate\":255}\n\
            {\"user_id\":5,\"heart_rate\":70}\nnot json\n\
            {\"user_id\":5,\"timestamp\":\"2025-03-04T09:00:05Z\",\"hart_rate\":70}";
        let mut options = test_lines::options();
        let refused = [
            "refused heart_rate means that the device was not worn",
            "refused timestamp is missing",
            "refused the record is not JSON",
        ];
        let lines = read(text.as_bytes(), &options);
        assert_eq!(
            lines[..2],
            [
                "1 2025-03-04T08:00:00Z hr=61 user=5 watch",
                "refused user_id is missing: name the user with --user"
            ]
        );
        assert!(
            lines[2..5]
                .iter()
                .zip(refused)
                .all(|(line, expected)| line.starts_with(expected)),
            "{lines:?}"
        );
        assert_eq!(lines[5..], ["refused hart_rate is not a field of a record"]);

        options.user = UserId::new(9).ok();
        options.source = Source::new("mine").ok();
        let lines = read(text.as_bytes(), &options);
        assert_eq!(
            lines[..2],
            [
                "1 2025-03-04T08:00:00Z hr=61 user=5 watch",
                "4 2025-03-04T08:00:10Z..2025-03-04T09:00:00Z steps=7 user=9 mine",
            ]
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_and_the_next_ones_are_read() {
        let record = "{\"user_id\":5,\"timestamp\":\"2025-03-04T08:00:00Z\",\"steps\":1}";
        let padded = |length: usize| format!("{record}{}\n", " ".repeat(length - record.len()));
        let text = [
            padded(LINE_BYTES_MAX),
            padded(LINE_BYTES_MAX + 1),
            "x".repeat(3 << 20),
            "\n".to_owned(),
            record.to_owned(),
        ];
        let lines = read(text.concat().as_bytes(), &test_lines::options());
        assert_eq!(
            lines,
            [
                "1 2025-03-04T08:00:00Z steps=1 user=5",
                "refused the line is longer than 65536 bytes",
                "refused the line is longer than 65536 bytes",
                "4 2025-03-04T08:00:00Z steps=1 user=5",
            ]
        );
    }

    #[test]
    fn a_line_that_is_not_utf_8_is_refused_and_the_next_ones_are_read() {
        let text = b"{\"user_id\":5,\"timestamp\":\"2025-03-04T08:00:00Z\",\"steps\":1,\"source\":\"Jos\xe9\"}\n\
            {\"user_id\":5,\"timestamp\":\"2025-03-04T08:00:00Z\",\"steps\":1}\n";
        assert_eq!(
            read(text, &test_lines::options()),
            ["refused the line is not UTF-8", "2 2025-03-04T08:00:00Z steps=1 user=5"]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = read(&bytes, &test_lines::options());
        }
    }
}
