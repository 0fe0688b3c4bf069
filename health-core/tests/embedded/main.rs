//! Tests of the embedded PostgreSQL with real server programs. Every test has a data directory of its own.

#![cfg(feature = "embedded")]
#![expect(
    clippy::unwrap_used,
    reason = "a failure in a helper function is a failure of the test"
)]

mod child;
mod crashes;
mod directories;
mod runs;
mod support;
