//! The time zone of this machine: what `TZ` or /etc/localtime means, as a zone of the IANA database.
//!
//! The meaning is that of POSIX and glibc. What cannot be represented is never replaced silently.

mod posix;

use std::{fs, path::Path};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use self::posix::PosixRule;

/// Where the zone files are on almost every system.
const ZONE_FILES: &str = "/usr/share/zoneinfo";

/// The largest zone file that is read. Those of the IANA database have up to 4 kB.
const ZONE_FILE_BYTES_MAX: u64 = 64 * 1024;

/// The time zone to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalZone {
    pub(crate) tz: Tz,
    /// A sentence for the user, if the zone is not exactly what this machine asks for.
    pub(crate) note: Option<String>,
}

impl LocalZone {
    fn exact(tz: Tz) -> Self {
        Self { tz, note: None }
    }

    /// Uses UTC, because `what` cannot be used.
    fn utc_because(what: &str) -> Self {
        Self {
            tz: Tz::UTC,
            note: Some(format!("Times are in UTC: {what}. --tz names another zone.")),
        }
    }

    /// Returns the zone of a `TZ` variable, or of the machine if it is not set.
    pub(crate) fn detect(variable: Option<&str>, now: DateTime<Utc>) -> Self {
        match variable {
            None => of_machine(Path::new("/etc/localtime"), now),
            Some(value) => of_variable(value, now),
        }
    }
}

/// Reads `TZ`: the name of a zone, the path of a zone file, or a rule of POSIX. A colon before it means nothing.
fn of_variable(value: &str, now: DateTime<Utc>) -> LocalZone {
    let text = value.strip_prefix(':').unwrap_or(value);
    // glibc and POSIX: a variable that is set and empty is UTC.
    if text.is_empty() {
        return LocalZone::exact(Tz::UTC);
    }
    by_name(text)
        .map(LocalZone::exact)
        .or_else(|| of_file(&Path::new(ZONE_FILES).join(text), now))
        .or_else(|| PosixRule::parse(text).map(|rule| of_rule(text, &rule, now)))
        .unwrap_or_else(|| LocalZone::utc_because(&format!("TZ={value} is not a time zone")))
}

fn of_machine(localtime: &Path, now: DateTime<Utc>) -> LocalZone {
    let system = iana_time_zone::get_timezone().ok().and_then(|name| by_name(&name));
    match system.map(LocalZone::exact).or_else(|| of_file(localtime, now)) {
        Some(zone) => zone,
        // Without the file, the zone of every program is UTC.
        None if !localtime.exists() => LocalZone::exact(Tz::UTC),
        None => LocalZone::utc_because(&format!("the zone of {} is not known", localtime.display())),
    }
}

/// Finds a zone by its name. The directories `posix` and `right` have the same names again.
fn by_name(name: &str) -> Option<Tz> {
    let name = ["posix/", "right/"]
        .iter()
        .find_map(|directory| name.strip_prefix(directory))
        .unwrap_or(name);
    name.parse().ok()
}

/// Finds the zone of a zone file: by its path, by the file that it links to, or by the rule at its end.
fn of_file(path: &Path, now: DateTime<Utc>) -> Option<LocalZone> {
    let by_path = |path: &Path| by_name(path.to_str()?.split_once("zoneinfo/")?.1);
    if !path.is_file() {
        return None;
    }
    let target = fs::canonicalize(path).ok();
    if let Some(tz) = by_path(path).or_else(|| by_path(&target?)) {
        return Some(LocalZone::exact(tz));
    }
    if fs::metadata(path).ok()?.len() > ZONE_FILE_BYTES_MAX {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    // RFC 9636: the last line is a rule of POSIX for the time after the last change.
    let lines = bytes.strip_prefix(b"TZif")?.strip_suffix(b"\n")?;
    let footer = lines.rsplit(|byte| *byte == b'\n').next()?;
    let text = std::str::from_utf8(footer).ok()?;
    Some(of_rule(text, &PosixRule::parse(text)?, now))
}

/// Finds a zone that has the same local time as the rule in the years around `now`.
fn of_rule(text: &str, rule: &PosixRule, now: DateTime<Utc>) -> LocalZone {
    if let Some(tz) = rule.fixed_zone().or_else(|| rule.zone(text, now)) {
        return LocalZone::exact(tz);
    }
    // POSIX does not say when summer time begins if the rule does not, and glibc takes the dates of the United States.
    // A text such as CET-1CEST means the dates of Europe.
    match rule.zone_by_abbreviations(text, now) {
        Some(tz) if !rule.has_dates() => LocalZone {
            tz,
            note: Some(format!(
                "TZ={text} has no dates of summer time: those of {} are used.",
                tz.name()
            )),
        },
        _ => LocalZone::utc_because(&format!("no known zone has the rule TZ={text}")),
    }
}

#[cfg(test)]
mod tests;
