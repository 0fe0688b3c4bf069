//! What a reader of files must be told, because a file does not say it.

use chrono::{DateTime, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;

use super::{entry::Fault, rules::check_time};
use crate::{
    record::ReceiveClock,
    sample::{InvalidSample, Source, UserId},
    time::{TimestampError, parse_timestamp},
};

/// What a reader of files must be told.
#[derive(Debug, Clone)]
pub struct FileOptions {
    /// The present. Entries that are too far ahead of it are refused.
    pub clock: ReceiveClock,
    /// The user of records that name none. The records of most formats never do.
    pub user: Option<UserId>,
    /// The name of the device: in place of the one in the file if a file is of one device (FIT, TCX, Fitbit), elsewhere
    /// for entries that name none.
    pub source: Option<Source>,
    /// The zone of times without an offset. Without it they are read as UTC (Fitbit), or refused (TCX).
    pub zone: Option<Tz>,
}

impl FileOptions {
    /// Returns the local time minus UTC in seconds, if the zone is known.
    pub(super) fn utc_offset(&self, time: DateTime<Utc>) -> Option<i64> {
        let local = self.zone?.offset_from_utc_datetime(&time.naive_utc());
        Some(i64::from(local.fix().local_minus_utc()))
    }

    /// Returns the source of an entry, or the one of the options if the entry names none.
    pub(super) fn source_or_default(&self, source: &Source) -> Source {
        match &self.source {
            Some(default) if source.as_str().is_empty() => default.clone(),
            _ => source.clone(),
        }
    }

    /// Reads a time and checks it. `name` is the sender's name of the value.
    pub(super) fn time(&self, name: &str, text: &str) -> Result<DateTime<Utc>, Fault> {
        if text.is_empty() {
            return Err(Fault::new(format!("{name} is missing")));
        }
        let time = match (parse_timestamp(text), self.zone) {
            (Err(TimestampError::NoOffset(_)), Some(zone)) => {
                let local = text.replace('T', " ");
                let local = NaiveDateTime::parse_from_str(&local, "%Y-%m-%d %H:%M:%S%.f");
                to_utc(name, local.map_err(|_| unreadable_time(name, text))?, zone)?
            }
            (Err(TimestampError::NoOffset(text)), None) => {
                let reason =
                    format!("{name} {text:?} has no offset: name its zone with --tz, such as --tz Europe/Berlin");
                return Err(Fault::with_kind(
                    reason,
                    format!("{name} has no offset: name its zone with --tz"),
                ));
            }
            (time, _) => time.map_err(|error| Fault::of_value(name, &error.into()))?,
        };
        self.check_time(name, time)
    }

    /// Checks that a time is neither before 2000 nor in the future.
    pub(super) fn check_time(&self, name: &str, time: DateTime<Utc>) -> Result<DateTime<Utc>, Fault> {
        let fault = |fault: InvalidSample| Fault::of_value(name, &fault);
        check_time(time, &self.clock).map_err(fault)?;
        Ok(time)
    }
}

/// Returns the time that clocks of a zone show as `local`. If clocks show it twice, that is the first time.
pub(super) fn to_utc(name: &str, local: NaiveDateTime, zone: Tz) -> Result<DateTime<Utc>, Fault> {
    let time = zone.from_local_datetime(&local).earliest();
    let time = time.ok_or_else(|| {
        let reason = format!("{name} {local} does not exist in {zone}: clocks are put forward");
        Fault::with_kind(reason, format!("{name} does not exist in the zone"))
    })?;
    Ok(time.with_timezone(&Utc))
}

/// Returns the fault of a time that cannot be read.
pub(super) fn unreadable_time(name: &str, text: &str) -> Fault {
    let cut = text.floor_char_boundary(64);
    Fault::with_kind(
        format!("{name} {:?} is not a time", &text[..cut]),
        format!("{name} is not a time"),
    )
}
