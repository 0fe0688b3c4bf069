//! Fuzzes the reader of Fitbit files, of any kind and as steps: every entry is valid or refused, and nothing panics.

#![no_main]

mod entries;

use health_core::formats::read_fitbit;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let options = entries::options();
    for kind in ["steps", "heart_rate", "calories"] {
        let _ = read_fitbit(bytes, kind, &options, &mut entries::check);
    }
});
