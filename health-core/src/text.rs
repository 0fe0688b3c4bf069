//! Numbers in sentences.

use std::fmt::Display;

/// Returns a number with its noun: `1 sample`, `2 samples`, `0 samples`. The plural is formed with `s`.
///
/// ```
/// assert_eq!(health_core::counted(1_u64, "sample"), "1 sample");
/// assert_eq!(health_core::counted(0_u64, "sample"), "0 samples");
/// ```
pub fn counted<N: Copy + Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let ending = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{ending}")
}
