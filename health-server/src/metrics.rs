//! The counters of one server, in the text format of Prometheus.
//!
//! The format is written here and not by a library: `prometheus-client` and `metrics-exporter-prometheus` would change
//! the output (`OpenMetrics` names, the order of labels) or count for the whole process, and the code that feeds them
//! is as long as this writer.

mod ignored;
mod process;
mod text;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use health_core::{
    Counts, Distribution, IngestCounts, RetentionCounts,
    formats::{IgnoredCounts, MisspeltNames},
};
use hyper::{Method, StatusCode};
use parking_lot::Mutex;

use self::{ignored::Ignored, text::PrometheusText};
use crate::{refusals::Attempt, tls::TlsStatus};

/// Upper bounds of the histogram's buckets, in seconds: from a cached read to the statement timeout of 30 s.
const BUCKET_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Bounds of the feed's delay, in microseconds: from the same machine to the pause of a slow client.
const FEED_DELAY_MICROS: [u64; 11] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000,
];

/// The counters of one server. Two servers in one process have separate counters.
#[derive(Debug)]
pub(crate) struct Metrics {
    responses: Mutex<BTreeMap<ResponseLabels, DurationHistogram>>,
    accepted: AtomicU64,
    rejected: AtomicU64,
    ignored: Ignored,
    pub(crate) http_connections: Gauge,
    pub(crate) feed_connections: Gauge,
    pub(crate) feed_subscribers: Gauge,
    pub(crate) feed_streams: Gauge,
    connections_refused: AtomicU64,
    feed_samples: AtomicU64,
    feed_delay_micros: Distribution,
    feed_replays: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            responses: Mutex::default(),
            accepted: AtomicU64::default(),
            rejected: AtomicU64::default(),
            ignored: Ignored::default(),
            http_connections: Gauge::default(),
            feed_connections: Gauge::default(),
            feed_subscribers: Gauge::default(),
            feed_streams: Gauge::default(),
            connections_refused: AtomicU64::default(),
            feed_samples: AtomicU64::default(),
            feed_delay_micros: Distribution::new(&FEED_DELAY_MICROS),
            feed_replays: AtomicU64::default(),
        }
    }
}

/// What the metrics show of other parts of the server.
pub(crate) struct State<'a> {
    pub(crate) core: &'a Counts,
    pub(crate) refused: &'a [(&'static str, u64)],
    pub(crate) tls: Option<TlsStatus>,
    /// How often the configuration file could not be used when it was read again.
    pub(crate) failed_reloads: u64,
    /// The number of tokens, and when the next of them expires.
    pub(crate) tokens: (usize, Option<DateTime<Utc>>),
}

/// A number that can rise and fall.
#[derive(Debug, Default, Clone)]
pub(crate) struct Gauge(Arc<AtomicU64>);

/// Keeps a [`Gauge`] raised by one until it is dropped.
#[derive(Debug)]
pub(crate) struct GaugeGuard(Gauge);

/// The labels by which responses are counted.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ResponseLabels {
    route: &'static str,
    method: &'static str,
    status: u16,
}

/// How long responses took. Each bucket counts every response within its bound, as Prometheus expects.
#[derive(Debug, Default)]
struct DurationHistogram {
    count: u64,
    sum_seconds: f64,
    buckets: [u64; BUCKET_SECONDS.len()],
}

impl Metrics {
    /// Counts the response to an HTTP request.
    pub(crate) fn record_response(
        &self,
        route: &'static str,
        method: &'static str,
        status: StatusCode,
        took: Duration,
    ) {
        let labels = ResponseLabels {
            route,
            method,
            status: status.as_u16(),
        };
        let seconds = took.as_secs_f64();
        let mut responses = self.responses.lock();
        let histogram = responses.entry(labels).or_default();
        histogram.count += 1;
        histogram.sum_seconds += seconds;
        for (bucket, bound) in histogram.buckets.iter_mut().zip(BUCKET_SECONDS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// Counts a connection that was refused because the limit was reached.
    pub(crate) fn add_refused_connection(&self) {
        self.connections_refused.fetch_add(1, Relaxed);
    }

    /// Counts samples that were sent to a feed subscriber.
    pub(crate) fn add_feed_samples(&self, samples: u64) {
        self.feed_samples.fetch_add(samples, Relaxed);
    }

    /// Notes how long after its delivery an event was written for a subscriber.
    pub(crate) fn record_feed_delay(&self, delay: Duration) {
        self.feed_delay_micros
            .count(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts a subscription that continues after a cursor.
    pub(crate) fn add_replay(&self) {
        self.feed_replays.fetch_add(1, Relaxed);
    }

    /// Counts the accepted samples and the rejected records of an ingest request.
    pub(crate) fn record_ingest(&self, counts: &IngestCounts, rejected: u64) {
        self.accepted.fetch_add(counts.accepted, Relaxed);
        self.rejected.fetch_add(rejected, Relaxed);
    }

    /// Counts the entries of a body that a door for devices ignored.
    pub(crate) fn record_ignored(&self, route: &'static str, ignored: &IgnoredCounts) {
        self.ignored.add(route, ignored);
    }

    /// Counts names in a body that look like ours, and logs each new one.
    pub(crate) fn record_misspelt(&self, attempt: Attempt, token: &str, names: &MisspeltNames) {
        self.ignored.add_misspelt(attempt, token, names);
    }

    /// Returns all counters in the text format of Prometheus, version 0.0.4.
    pub(crate) fn render(&self, state: &State<'_>) -> String {
        let mut text = PrometheusText::default();
        let name = "health_build_info";
        text.header(name, "gauge", "The version of the program; the value is 1.");
        text.sample(&format!("{name}{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1);
        self.render_http(&mut text);
        render_refused(&mut text, state.refused);
        self.render_ingest(&mut text);
        render_core(&mut text, state.core);
        render_retention(&mut text, state.core.retention);
        self.render_feed(&mut text, state.core.missed);
        text.counter(
            "health_config_failed_reloads_total",
            "Attempts to read the configuration file again that failed; the settings stayed as they were.",
            state.failed_reloads,
        );
        render_tokens(&mut text, state.tokens);
        if let Some(tls) = state.tls {
            render_tls(&mut text, tls);
        }
        process::render(&mut text);
        text.0
    }

    fn render_http(&self, text: &mut PrometheusText) {
        let name = "health_http_request_duration_seconds";
        text.header(name, "histogram", "Time from the head of a request to its response.");
        for (labels, histogram) in &*self.responses.lock() {
            let ResponseLabels { route, method, status } = labels;
            let labels = format!("route=\"{route}\",method=\"{method}\",status=\"{status}\"");
            for (bucket, bound) in histogram.buckets.iter().zip(BUCKET_SECONDS) {
                text.sample(&format!("{name}_bucket{{{labels},le=\"{bound}\"}}"), bucket);
            }
            text.sample(&format!("{name}_bucket{{{labels},le=\"+Inf\"}}"), histogram.count);
            text.sample(&format!("{name}_sum{{{labels}}}"), histogram.sum_seconds);
            text.sample(&format!("{name}_count{{{labels}}}"), histogram.count);
        }
        text.gauge(
            "health_http_connections",
            "Open HTTP connections.",
            self.http_connections.get(),
        );
        text.counter(
            "health_connections_refused_total",
            "Connections refused because the limit was reached.",
            self.connections_refused.load(Relaxed),
        );
    }

    fn render_ingest(&self, text: &mut PrometheusText) {
        text.counter(
            "health_ingest_accepted_total",
            "Samples acknowledged to HTTP clients.",
            self.accepted.load(Relaxed),
        );
        text.counter(
            "health_ingest_rejected_total",
            "Records refused because they break a rule.",
            self.rejected.load(Relaxed),
        );
        self.ignored.render(text);
    }

    fn render_feed(&self, text: &mut PrometheusText, missed: u64) {
        text.gauge(
            "health_feed_connections",
            "Open feed connections, over TCP and over HTTP.",
            self.feed_connections.get(),
        );
        text.gauge(
            "health_feed_streams",
            "Feed connections over HTTP: server-sent events.",
            self.feed_streams.get(),
        );
        text.gauge(
            "health_feed_subscribers",
            "Feed connections with a subscription.",
            self.feed_subscribers.get(),
        );
        text.counter(
            "health_feed_samples_total",
            "Samples sent to feed subscribers.",
            self.feed_samples.load(Relaxed),
        );
        text.counter(
            "health_feed_missed_total",
            "Samples that slow feed subscribers missed.",
            missed,
        );
        text.counter(
            "health_feed_replays_total",
            "Subscriptions that continued after a cursor.",
            self.feed_replays.load(Relaxed),
        );
        text.seconds(
            "health_feed_delay_seconds",
            "Time from the delivery of a commit to the line for a subscriber.",
            &self.feed_delay_micros.read(),
        );
    }
}

fn render_tokens(text: &mut PrometheusText, (count, next_expiry): (usize, Option<DateTime<Utc>>)) {
    text.gauge(
        "health_tokens",
        "Tokens that are not revoked.",
        u64::try_from(count).unwrap_or(u64::MAX),
    );
    if let Some(at) = next_expiry {
        text.gauge(
            "health_token_expiry_timestamp_seconds",
            "When the next token expires, in seconds since 1970; absent if none expires.",
            u64::try_from(at.timestamp()).unwrap_or(0),
        );
    }
}

fn render_tls(text: &mut PrometheusText, tls: TlsStatus) {
    text.gauge(
        "health_tls_certificate_expiry_timestamp_seconds",
        "When the certificate expires, in seconds since 1970.",
        u64::try_from(tls.expires_at.timestamp()).unwrap_or(0),
    );
    text.counter(
        "health_tls_failed_reloads_total",
        "Attempts to read the certificate again that failed; the old one stayed in use.",
        tls.failed_reloads,
    );
}

fn render_refused(text: &mut PrometheusText, refused: &[(&'static str, u64)]) {
    let name = "health_refused_total";
    text.header(
        name,
        "counter",
        "Refused HTTP requests, feed commands and uploads with refused users, by reason.",
    );
    for (reason, count) in refused {
        text.sample(&format!("{name}{{reason=\"{reason}\"}}"), count);
    }
}

fn render_core(text: &mut PrometheusText, core: &Counts) {
    let name = "health_store_samples_total";
    text.header(name, "counter", "Committed samples, by what they changed.");
    for (outcome, count) in [
        ("inserted", core.inserted),
        ("updated", core.updated),
        ("unchanged", core.unchanged),
    ] {
        text.sample(&format!("{name}{{outcome=\"{outcome}\"}}"), count);
    }
    text.counter("health_store_batches_total", "Committed transactions.", core.batches);
    text.counter(
        "health_store_raced_batches_total",
        "Batches planned again because another server wrote the same samples first.",
        core.conflicts,
    );
    text.counter(
        "health_store_failed_writes_total",
        "Failed attempts to write a batch.",
        core.failed_writes,
    );
    text.counter(
        "health_store_erasures_total",
        "Transactions that erased samples; many samples take several.",
        core.erasures,
    );
    text.counter(
        "health_store_erased_samples_total",
        "Samples that were erased.",
        core.erased_samples,
    );
    let name = "health_database_errors_total";
    text.header(
        name,
        "counter",
        "Failed attempts to write a batch, or to connect a writer, by the class of the failure.",
    );
    for (class, count) in core.failures.iter().filter(|(class, _)| !class.is_empty()) {
        text.sample(&format!("{name}{{class=\"{class}\"}}"), count);
    }
    text.seconds(
        "health_store_commit_duration_seconds",
        "Time of a transaction with samples, until the database has confirmed it.",
        &core.commit_micros,
    );
    text.histogram("health_store_batch_rows", "Samples in a transaction.", &core.batch_rows);
    for (name, help, value) in [
        (
            "health_store_queued_rows",
            "Samples that wait or are being written.",
            core.queued_rows,
        ),
        (
            "health_store_queued_rows_limit",
            "Samples that may wait (--queue-rows).",
            core.queue_rows_max,
        ),
        (
            "health_store_read_only",
            "1 if the database is a standby or set to read-only.",
            u64::from(core.is_read_only),
        ),
        ("health_store_writers", "Writers (--writers).", core.writers),
        (
            "health_store_writers_connected",
            "Writers that have a connection.",
            core.writers_connected,
        ),
        (
            "health_store_writers_blocked",
            "Writers that wait for a lock of another session.",
            core.writers_blocked,
        ),
        (
            "health_store_readers_limit",
            "Connections that queries may open (--readers).",
            core.readers_max,
        ),
        (
            "health_store_readers_open",
            "Connections that queries have opened.",
            core.readers_open,
        ),
        (
            "health_store_readers_idle",
            "Open connections that no query uses.",
            core.readers_idle,
        ),
    ] {
        text.gauge(name, help, value);
    }
    text.gauge(
        "health_sealing_lag_seconds",
        "Seconds since the end of the newest summarised slice of 15 minutes.",
        core.summary_lag_seconds,
    );
    text.gauge(
        "health_dirty_slices",
        "Slices of 15 minutes whose stored summary may be out of date.",
        core.dirty_slices,
    );
}

fn render_retention(text: &mut PrometheusText, retention: Option<RetentionCounts>) {
    let Some(retention) = retention else { return };
    text.counter(
        "health_retention_erased_samples_total",
        "Samples erased because they were older than --retain.",
        retention.erased_samples,
    );
    text.gauge(
        "health_retention_last_run_timestamp_seconds",
        "When the last complete run of --retain ended, or the server started, in seconds since 1970.",
        u64::try_from(retention.last_run.timestamp()).unwrap_or(0),
    );
}

/// Returns the name of a method, as labels and audit lines have it. Bounds their number: clients can invent methods.
pub(crate) fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

impl Gauge {
    /// Raises the gauge by one until the guard is dropped.
    pub(crate) fn increment(&self) -> GaugeGuard {
        self.0.fetch_add(1, Relaxed);
        GaugeGuard(self.clone())
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
