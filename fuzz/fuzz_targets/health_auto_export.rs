//! Fuzzes the reader of `HealthAutoExport`.

#![no_main]

use health_core::formats::{Grouping, HealthAutoExport};
use libfuzzer_sys::fuzz_target;

mod portions;

reader!(HealthAutoExport);

fuzz_target!(|input: &[u8]| portions::check(input, || HealthAutoExport::new(Grouping::Every(chrono::TimeDelta::hours(1)))));
