//! The end of a log, for messages.

use std::fmt;

/// The last lines of a log, indented for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTail(Vec<String>);

/// What PostgreSQL logs when we try to connect to it before it is ready.
const OWN_ATTEMPTS: [&str; 4] = [
    "the database system is starting up",
    "the database system is in recovery mode",
    "the database system is not yet accepting connections",
    "the database system is shutting down",
];

impl LogTail {
    /// The number of lines: enough to show the cause, short enough for an error message.
    const LINES_MAX: usize = 15;

    /// Returns the last lines of `text`, without those about our own connection attempts during the start.
    pub(crate) fn of(text: &str) -> LogTail {
        let mut lines: Vec<String> = text
            .lines()
            .rev()
            .filter(|line| !line.trim().is_empty() && !OWN_ATTEMPTS.iter().any(|text| line.contains(text)))
            .take(Self::LINES_MAX)
            .map(|line| format!("  {line}"))
            .collect();
        lines.reverse();
        LogTail(lines)
    }

    /// Returns whether a line contains one of these texts.
    pub(crate) fn contains_any(&self, texts: &[&str]) -> bool {
        self.0.iter().any(|line| texts.iter().any(|text| line.contains(text)))
    }
}

impl fmt::Display for LogTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("  (it is empty)");
        }
        f.write_str(&self.0.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_tail_keeps_the_last_lines_without_our_connection_attempts() {
        let lines: Vec<_> = (0..40)
            .map(|n| format!("line {n}\nFATAL:  the database system is starting up\n"))
            .collect();
        let text = lines.join("\n");
        let tail = LogTail::of(&text).to_string();
        assert_eq!(tail.lines().count(), LogTail::LINES_MAX);
        assert!(tail.starts_with("  line 25\n") && tail.ends_with("  line 39"), "{tail}");
    }
}
