//! Fuzzes the reader of FIT files: every entry is valid or refused, and nothing panics.

#![no_main]

mod entries;

use health_core::formats::{FitEntry, read_fit};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_fit(bytes, &entries::options(), &mut |entry| {
        if let FitEntry::Entry(entry) = entry {
            entries::check(entry);
        }
    });
});
