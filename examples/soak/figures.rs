//! The recorded figures: one row for each interval, and what failed when.

use std::fmt::Write;

/// The columns of the CSV file behind the first, which is the time.
pub(crate) const COLUMNS: [&str; COLUMN_COUNT] = [
    "samples_per_second",
    "post_p50_ms",
    "post_p99_ms",
    "query_p50_ms",
    "query_p99_ms",
    "server1_rss_mib",
    "server2_rss_mib",
    "server1_descriptors",
    "server2_descriptors",
    "tables_mib",
    "indexes_mib",
    "wal_mib",
    "sealing_lag_s",
    "dirty_slices",
    "pending_lines1",
    "pending_lines2",
    "pending_stream1",
    "pending_stream2",
    "soak_rss_mib",
];
pub(crate) const COLUMN_COUNT: usize = 19;

/// What failed, as the picture shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    ServerKilled,
    ServerStopped,
    PostgresKilled,
}

/// The figures of one interval. A figure is absent if its server was down.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Seconds since the start.
    pub(crate) time: f64,
    pub(crate) values: [Option<f64>; COLUMN_COUNT],
}

/// Everything that was recorded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) rows: Vec<Row>,
    pub(crate) marks: Vec<(f64, Mark)>,
}

impl Mark {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::ServerKilled => "server killed (SIGKILL)",
            Self::ServerStopped => "server restarted (SIGTERM)",
            Self::PostgresKilled => "PostgreSQL killed (SIGKILL), alone or with both servers",
        }
    }
}

impl Row {
    pub(crate) fn header() -> String {
        format!("time_s,{},fault\n", COLUMNS.join(","))
    }

    /// Returns the line of the CSV file, with the faults of the interval.
    pub(crate) fn to_csv(&self, faults: &[Mark]) -> String {
        let mut line = format!("{:.0}", self.time);
        for value in self.values {
            let text = value.map_or(String::new(), |value| format!("{value:.3}"));
            // Writing to a string cannot fail.
            let _ = write!(line, ",{text}");
        }
        let faults: Vec<_> = faults.iter().map(|mark| mark.label()).collect();
        format!("{line},\"{}\"\n", faults.join("; "))
    }
}

/// Returns the index of a column.
pub(crate) fn column(name: &str) -> Option<usize> {
    COLUMNS.iter().position(|column| *column == name)
}
