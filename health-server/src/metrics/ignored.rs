//! Counts of the entries that the doors for devices ignored. The response to line protocol cannot report them, so an
//! operator finds a misspelt field here.

use std::collections::{BTreeMap, BTreeSet};

use health_core::formats::{IgnoredCounts, MisspeltNames, rules::NOT_WORN};
use parking_lot::Mutex;

use super::PrometheusText;
use crate::{quote::quote, refusals::Attempt};

/// The ignored entries and the misspelt names of one server.
#[derive(Debug, Default)]
pub(super) struct Ignored(Mutex<Counters>);

#[derive(Debug, Default)]
struct Counters {
    /// By route and reason.
    entries: BTreeMap<(&'static str, &'static str), u64>,
    /// By the name that was meant.
    misspelt: BTreeMap<&'static str, u64>,
    /// The names that have a line in the log.
    logged: BTreeSet<String>,
}

/// The doors, whose counters exist from the start.
const ROUTES: [&str; 4] = [
    "/api/v2/write",
    "/ingest/health-auto-export",
    "/ingest/health-connect",
    "/write",
];

/// The kind of the entry is not one of those that are stored.
const NOT_STORED: &str = "kind_not_stored";

/// Misspelt names with a line in the log: a sender that invents names must not fill it.
const LOGGED_MAX: usize = 100;

impl Ignored {
    /// Counts the ignored entries of one body.
    pub(super) fn add(&self, route: &'static str, ignored: &IgnoredCounts) {
        if ignored.total() == 0 {
            return;
        }
        let mut counters = self.0.lock();
        for (name, entries) in ignored.iter() {
            let reason = if name == NOT_WORN { NOT_WORN } else { NOT_STORED };
            *counters.entries.entry((route, reason)).or_default() += entries;
        }
    }

    /// Counts the misspelt names of one body. Writes a log line for each new one.
    pub(super) fn add_misspelt(&self, attempt: Attempt, token: &str, names: &MisspeltNames) {
        for (meant, name, count) in names.iter() {
            let mut counters = self.0.lock();
            *counters.misspelt.entry(meant).or_default() += count;
            let is_new = counters.logged.len() < LOGGED_MAX && counters.logged.insert(name.to_owned());
            drop(counters);
            if is_new {
                let (route, peer, name) = (attempt.route, attempt.peer, quote(name));
                tracing::warn!(
                    name, meant, route, token, %peer,
                    "ignored a name in line protocol that looks like one of ours; further ones of this name are only counted"
                );
            }
        }
    }

    pub(super) fn render(&self, text: &mut PrometheusText) {
        let counters = self.0.lock();
        let name = "health_ingest_ignored_total";
        text.header(
            name,
            "counter",
            "Entries that the doors for devices ignored, by reason.",
        );
        for route in ROUTES {
            for reason in [NOT_STORED, NOT_WORN] {
                let count = counters.entries.get(&(route, reason)).unwrap_or(&0);
                text.sample(&format!("{name}{{route=\"{route}\",reason=\"{reason}\"}}"), count);
            }
        }
        let name = "health_ingest_misspelt_names_total";
        text.header(
            name,
            "counter",
            "Ignored fields and tags of line protocol that look like one of our names; the log has the name that was written.",
        );
        for meant in MisspeltNames::known() {
            let count = counters.misspelt.get(meant).unwrap_or(&0);
            text.sample(&format!("{name}{{meant=\"{meant}\"}}"), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, Utc};
    use health_core::{
        ReceiveClock,
        formats::{LineProtocol, Precision},
    };

    use super::*;

    #[test]
    fn the_log_is_bounded_and_the_counters_go_on() {
        let attempt = Attempt {
            verb: "POST",
            route: "/write",
            peer: "192.0.2.1".parse().unwrap(),
        };
        let clock = ReceiveClock {
            received_at: Utc::now(),
            max_future: TimeDelta::minutes(5),
        };
        let ignored = Ignored::default();
        for body in 0..3 * LOGGED_MAX {
            let mut reader = LineProtocol::new(Precision::Seconds);
            // Blanks and hyphens do not count, so each of these is another name.
            let (zeros, ones) = (body / 20, body % 20);
            reader.push(format!("m h{}r{}=1\n", "-".repeat(zeros), "_".repeat(ones)).as_bytes());
            while reader.next(&clock).unwrap().is_some() {}
            ignored.add_misspelt(attempt, "watch", reader.misspelt());
        }
        assert_eq!(ignored.0.lock().logged.len(), LOGGED_MAX);
        let mut text = PrometheusText::default();
        ignored.render(&mut text);
        assert!(
            text.0
                .contains("health_ingest_misspelt_names_total{meant=\"heart_rate\"} 300\n"),
            "{}",
            text.0
        );
    }
}
