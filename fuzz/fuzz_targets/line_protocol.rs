//! Fuzzes the reader of `LineProtocol`.

#![no_main]

use health_core::formats::{LineProtocol, Precision};
use libfuzzer_sys::fuzz_target;

mod portions;

reader!(LineProtocol);

fuzz_target!(|input: &[u8]| portions::check(input, || LineProtocol::new(Precision::Seconds)));
