//! What the server has done, counted, and written as Prometheus reads it.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use health_core::{Counts, IngestCounts};
use hyper::{Method, StatusCode};

/// Upper bounds of the buckets that answer times are sorted into, in seconds.
const ANSWER_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Counters of one server. Not process-wide, so that two servers in one process keep theirs apart.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    answers: Mutex<BTreeMap<Answer, Times>>,
    accepted: AtomicU64,
    rejected: AtomicU64,
    pub(crate) http_connections: Gauge,
    pub(crate) feed_connections: Gauge,
    pub(crate) feed_subscribers: Gauge,
    connections_refused: AtomicU64,
    feed_samples: AtomicU64,
    feed_missed: AtomicU64,
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

/// Holds a [`Gauge`] one higher as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted<'a>(&'a Gauge);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Answer {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Default)]
struct Times {
    count: u64,
    seconds: f64,
    buckets: [u64; ANSWER_SECONDS.len()],
}

impl Metrics {
    /// An HTTP request was answered.
    pub(crate) fn answered(&self, route: &'static str, method: &Method, status: StatusCode, took: Duration) {
        let method = match method.as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "POST" => "POST",
            "DELETE" => "DELETE",
            "OPTIONS" => "OPTIONS",
            _ => "other", // What clients make up must not grow the table.
        };
        let answer = Answer {
            route,
            method,
            status: status.as_u16(),
        };
        let seconds = took.as_secs_f64();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let times = answers.entry(answer).or_default();
        times.count += 1;
        times.seconds += seconds;
        for (bucket, bound) in times.buckets.iter_mut().zip(ANSWER_SECONDS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// A connection was one too many.
    pub(crate) fn connection_refused(&self) {
        self.connections_refused.fetch_add(1, Relaxed);
    }

    /// Samples were sent to a reader of the feed.
    pub(crate) fn fed(&self, samples: u64) {
        self.feed_samples.fetch_add(samples, Relaxed);
    }

    /// Samples were skipped for a reader of the feed.
    pub(crate) fn missed(&self, samples: u64) {
        self.feed_missed.fetch_add(samples, Relaxed);
    }

    /// An ingest request came to its verdict.
    pub(crate) fn ingested(&self, counts: &IngestCounts, rejected: u64) {
        self.accepted.fetch_add(counts.accepted, Relaxed);
        self.rejected.fetch_add(rejected, Relaxed);
    }

    /// The Prometheus text format, version 0.0.4.
    pub(crate) fn render(&self, core: &Counts) -> String {
        let mut text = Text::default();
        self.render_http(&mut text);
        let accepted = self.accepted.load(Relaxed);
        text.family(
            "health_ingest_accepted_total",
            "counter",
            "Samples acknowledged to HTTP clients.",
            accepted,
        );
        let rejected = self.rejected.load(Relaxed);
        text.family(
            "health_ingest_rejected_total",
            "counter",
            "Records refused for breaking a rule.",
            rejected,
        );
        text.head(
            "health_store_samples_total",
            "counter",
            "Samples committed, by what they were.",
        );
        for (outcome, count) in [
            ("inserted", core.inserted),
            ("updated", core.updated),
            ("unchanged", core.unchanged),
        ] {
            text.line(&format!("health_store_samples_total{{outcome=\"{outcome}\"}}"), count);
        }
        text.family(
            "health_store_batches_total",
            "counter",
            "Transactions committed.",
            core.batches,
        );
        text.family(
            "health_store_raced_batches_total",
            "counter",
            "Batches planned again after another server was faster.",
            core.conflicts,
        );
        text.family(
            "health_store_failed_writes_total",
            "counter",
            "Tries to write that failed.",
            core.failed_writes,
        );
        text.family(
            "health_store_queued_rows",
            "gauge",
            "Samples that wait or are being written.",
            core.queued_rows,
        );
        let lag = core.summary_lag_seconds;
        text.family(
            "health_summary_lag_seconds",
            "gauge",
            "Age of the newest quarter of an hour that is summarised.",
            lag,
        );
        let dirty = core.dirty_slices;
        text.family(
            "health_summary_dirty_slices",
            "gauge",
            "Quarters of an hour to be summarised again.",
            dirty,
        );
        self.render_feed(&mut text);
        text.0
    }

    fn render_http(&self, text: &mut Text) {
        let name = "health_http_request_duration_seconds";
        text.head(name, "histogram", "Time from the head of a request to its answer.");
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        for (Answer { route, method, status }, times) in &*answers {
            let labels = format!("route=\"{route}\",method=\"{method}\",status=\"{status}\"");
            for (bucket, bound) in times.buckets.iter().zip(ANSWER_SECONDS) {
                text.line(&format!("{name}_bucket{{{labels},le=\"{bound}\"}}"), bucket);
            }
            text.line(&format!("{name}_bucket{{{labels},le=\"+Inf\"}}"), times.count);
            text.line(&format!("{name}_sum{{{labels}}}"), times.seconds);
            text.line(&format!("{name}_count{{{labels}}}"), times.count);
        }
        drop(answers);
        text.family(
            "health_http_connections",
            "gauge",
            "HTTP connections open.",
            self.http_connections.get(),
        );
        let refused = self.connections_refused.load(Relaxed);
        text.family(
            "health_connections_refused_total",
            "counter",
            "Connections turned away for their number.",
            refused,
        );
    }

    fn render_feed(&self, text: &mut Text) {
        text.family(
            "health_feed_connections",
            "gauge",
            "Feed connections open.",
            self.feed_connections.get(),
        );
        text.family(
            "health_feed_subscribers",
            "gauge",
            "Feed connections with a subscription.",
            self.feed_subscribers.get(),
        );
        text.family(
            "health_feed_samples_total",
            "counter",
            "Samples sent to readers.",
            self.feed_samples.load(Relaxed),
        );
        let missed = self.feed_missed.load(Relaxed);
        text.family(
            "health_feed_missed_total",
            "counter",
            "Samples skipped for readers that were too slow.",
            missed,
        );
    }
}

impl Gauge {
    /// One more, until what is returned is dropped.
    pub(crate) fn count(&self) -> Counted<'_> {
        self.0.fetch_add(1, Relaxed);
        Counted(self)
    }

    /// How many there are.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        self.line(name, value);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, series: &str, value: impl std::fmt::Display) {
        self.write(format_args!("{series} {value}\n"));
    }

    fn write(&mut self, what: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.0.write_fmt(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_cumulative_and_every_family_is_described() {
        let metrics = Metrics::default();
        metrics.answered("/ingest", &Method::POST, StatusCode::OK, Duration::from_millis(3));
        metrics.answered("/ingest", &Method::POST, StatusCode::OK, Duration::from_mins(1));
        let _open = metrics.http_connections.count();
        let text = metrics.render(&Counts::default());
        let labels = r#"route="/ingest",method="POST",status="200""#;
        for line in [
            format!("health_http_request_duration_seconds_bucket{{{labels},le=\"0.0025\"}} 0"),
            format!("health_http_request_duration_seconds_bucket{{{labels},le=\"0.005\"}} 1"),
            format!("health_http_request_duration_seconds_bucket{{{labels},le=\"30\"}} 1"),
            format!("health_http_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 2"),
            format!("health_http_request_duration_seconds_count{{{labels}}} 2"),
            "health_http_connections 1".to_owned(),
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is missing from\n{text}"
            );
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name);
            assert!(text.contains(&format!("# TYPE {family} ")), "{name}");
        }
    }
}
