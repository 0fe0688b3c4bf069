//! One line of the page: what was found, and what to do about it.

use std::{fmt, time::Duration};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Ok,
    /// Nothing is wrong yet. The exit status stays 0.
    Risk,
    /// A promise cannot be kept, or the server would not start.
    Wrong,
}

/// One line of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) subject: &'static str,
    pub(super) fact: String,
    remedy: String,
}

impl Finding {
    pub(super) fn ok(subject: &'static str, fact: impl Into<String>) -> Self {
        Self::new(Level::Ok, subject, fact.into(), String::new())
    }

    pub(super) fn risk(subject: &'static str, fact: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Level::Risk, subject, fact.into(), remedy.into())
    }

    pub(super) fn wrong(subject: &'static str, fact: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Level::Wrong, subject, fact.into(), remedy.into())
    }

    /// Makes a finding whose level depends on what was found. The remedy belongs to every level but the best.
    pub(super) fn at(level: Level, subject: &'static str, fact: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = if level == Level::Ok {
            String::new()
        } else {
            remedy.into()
        };
        Self::new(level, subject, fact.into(), remedy)
    }

    fn new(level: Level, subject: &'static str, fact: String, remedy: String) -> Self {
        Self {
            level,
            subject,
            fact,
            remedy,
        }
    }
}

/// `risk   backup          none was made. Run …`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Risk => "risk",
            Level::Wrong => "wrong",
        };
        // A text of the database may have several lines.
        let fact = self.fact.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(f, "{level:6} {:18} {}", self.subject, fact.trim_end_matches('.'))?;
        if self.remedy.is_empty() {
            write!(f, ".")
        } else {
            write!(f, ". {}.", self.remedy)
        }
    }
}

/// Returns a length of time in words, by its largest unit.
pub(super) fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let (number, unit) = match seconds {
        0..=119 => (seconds, "second"),
        120..=7_199 => (seconds / 60, "minute"),
        7_200..=172_799 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    health_core::counted(number, unit)
}

/// Returns a number of bytes in the largest binary unit.
pub(super) fn in_bytes(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return format!("{value:.0} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_with_its_remedy() {
        let line = Finding::wrong("fsync", "off", "Set it to on").to_string();
        assert_eq!(line, "wrong  fsync              off. Set it to on.");
        assert_eq!(
            Finding::ok("fsync", "on\nas it should be").to_string(),
            "ok     fsync              on as it should be."
        );
    }

    #[test]
    fn times_and_sizes_are_in_readable_units() {
        assert_eq!(in_words(Duration::from_secs(1)), "1 second");
        assert_eq!(in_words(Duration::from_mins(5)), "5 minutes");
        assert_eq!(in_words(Duration::from_hours(47)), "47 hours");
        assert_eq!(in_words(Duration::from_hours(24 * 30)), "30 days");
        assert_eq!(in_bytes(1023.0), "1023 bytes");
        assert_eq!(in_bytes(5.0 * 1024.0 * 1024.0), "5 MiB");
    }
}
