//! Fuzzes the reader of files of Health Auto Export: every entry is valid or refused, and nothing panics.

#![no_main]

mod entries;

use health_core::formats::read_health_auto_export;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_health_auto_export(bytes, &entries::options(), &mut entries::check);
});
