//! What phones and devices send, read into records: pure functions from bytes to entries, without a database or a
//! runtime.
//!
//! Every entry of a file or body has one of three fates, see [`Entry`]. The readers of all formats share the rules of
//! [`rules`]: units of energy, devices that are not worn, and lengths of intervals. [`source_name`] and
//! [`StepFractions`] are rules too.
//!
//! The readers of [`HealthAutoExport`], [`HealthConnect`] and [`LineProtocol`] read a body while it arrives, in memory
//! that the length of one entry bounds.

mod apple;
mod csv;
mod csv_line;
mod damage;
mod entry;
mod fit;
mod fitbit;
mod format_error;
mod health_auto_export;
mod health_auto_export_file;
mod health_connect;
mod ignored;
mod json;
mod json_list;
mod line_protocol;
mod ndjson;
mod no_record;
mod numbers;
mod options;
mod record_fault;
mod sources;
mod step_fractions;
mod tcx;
#[cfg(test)]
mod test_lines;
mod text_input;
mod xml;

pub mod rules;
#[cfg(test)]
pub(crate) mod test_entries;

pub use crate::formats::{
    apple::read_apple,
    csv::{csv_columns, read_csv},
    damage::Damage,
    entry::{Entry, EntryRecord, Fault, Place, Refused},
    fit::{FitEntry, read_fit},
    fitbit::{fitbit_kind, read_fitbit},
    format_error::{ASIDE_BYTES_MAX, ENTRY_BYTES_MAX, FormatError},
    health_auto_export::{Grouping, HealthAutoExport},
    health_auto_export_file::read_health_auto_export,
    health_connect::HealthConnect,
    ignored::IgnoredCounts,
    line_protocol::{LineProtocol, MisspeltNames, Precision},
    ndjson::read_ndjson,
    options::FileOptions,
    sources::source_name,
    step_fractions::StepFractions,
    tcx::{TcxDevices, read_tcx, read_tcx_devices},
};
