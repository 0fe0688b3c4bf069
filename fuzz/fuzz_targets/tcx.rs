//! Fuzzes the reader of TCX files: every entry is valid or refused, and nothing panics.

#![no_main]

mod entries;

use health_core::formats::{read_tcx, read_tcx_devices};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_tcx(bytes, &read_tcx_devices(bytes), &entries::options(), &mut entries::check);
});
