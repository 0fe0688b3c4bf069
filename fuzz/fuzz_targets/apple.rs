//! Fuzzes the reader of exports of Apple Health: every entry is valid or refused, and nothing panics.

#![no_main]

mod entries;

use health_core::formats::read_apple;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_apple(bytes, &entries::options(), &mut entries::check);
});
