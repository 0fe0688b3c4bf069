//! The embedded PostgreSQL against the real one: every test has a data directory of its own.

#![cfg(feature = "embedded")]
#![expect(
    clippy::unwrap_used,
    reason = "what fails in a helper fails the test that asked for it"
)]

mod child;
mod crashes;
mod places;
mod runs;
mod scratch;
