//! Fuzzes the reader of CSV files: every entry is valid or refused, and nothing panics.

#![no_main]

mod entries;

use health_core::formats::read_csv;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_csv(bytes, &entries::options(), &mut entries::check);
});
