//! Why an entry of a kind that is kept becomes no record, and the fate that follows.

use std::borrow::Cow;

use super::{
    entry::{Entry, EntryRecord, Fault, Place},
    rules::{NOT_WORN, heart_rate},
};
use crate::sample::HeartRate;

/// Why an entry becomes no record.
pub(super) enum NoRecord {
    /// It is ignored under this name.
    Ignored(Cow<'static, str>),
    Refused(Fault),
}

impl NoRecord {
    pub(super) fn ignored(name: impl Into<Cow<'static, str>>) -> Self {
        Self::Ignored(name.into())
    }
}

impl From<Fault> for NoRecord {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault)
    }
}

impl Entry {
    /// Returns the entry at `place` that a reader read.
    pub(super) fn of(place: Place, read: Result<EntryRecord, impl Into<NoRecord>>) -> Self {
        match read.map_err(Into::into) {
            Ok(record) => Self::Record(EntryRecord { place, ..record }),
            Err(NoRecord::Ignored(name)) => Self::ignored(name, 1),
            Err(NoRecord::Refused(fault)) => Self::refused(place, fault),
        }
    }
}

/// Returns the heart rate in the field `name`. An entry of a device that was not worn becomes no record.
pub(super) fn worn_heart_rate(name: &str, bpm: f64) -> Result<HeartRate, NoRecord> {
    let rate = heart_rate(bpm).map_err(|fault| Fault::of_value(name, &fault))?;
    rate.ok_or_else(|| NoRecord::ignored(NOT_WORN))
}
