//! Fuzzes the reader of `HealthConnect`.

#![no_main]

use health_core::formats::HealthConnect;
use libfuzzer_sys::fuzz_target;

mod portions;

reader!(HealthConnect);

fuzz_target!(|input: &[u8]| portions::check(input, HealthConnect::new));
