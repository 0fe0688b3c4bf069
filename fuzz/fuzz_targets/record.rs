//! Fuzzes the parser of records.
//!
//! A record is either refused with at least one reason, or it is a JSON object and its samples survive a round trip.

#![no_main]

use chrono::TimeDelta;
use health_core::{ReceiveClock, Record, parse_timestamp, read_record};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let Ok(received_at) = parse_timestamp("2025-03-02T18:00:00Z") else {
        return;
    };
    let clock = ReceiveClock {
        received_at,
        max_future: TimeDelta::minutes(5),
    };
    match read_record(json, &clock) {
        Err(faults) => assert!(!faults.is_empty()),
        Ok(record) => {
            let whole: serde_json::Value = serde_json::from_slice(json).expect("a record is JSON");
            assert!(whole.is_object());
            let samples = record.into_samples();
            assert!(!samples.is_empty());
            for sample in samples {
                let written = serde_json::to_vec(&sample).expect("a sample can be written");
                assert_eq!(read_record(&written, &clock), Ok(Record::Sample(sample)));
            }
        }
    }
});
