//! What phones and devices send, read into records: pure functions from bytes to entries, without a database or a runtime.
//!
//! Every entry of a file or body has one of three fates, see [`Entry`]. The readers of all formats share the rules of
//! [`rules`]: names of sources, fractions of steps, units of energy, devices that are not worn, and lengths of intervals.

mod entry;
mod ignored;
mod sources;
mod step_fractions;

pub mod rules;

pub use crate::formats::{
    entry::{Entry, EntryRecord, Fault, Place, Refused},
    ignored::IgnoredCounts,
    sources::source_name,
    step_fractions::StepFractions,
};
