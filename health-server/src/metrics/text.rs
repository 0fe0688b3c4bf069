//! The text format of Prometheus, version 0.0.4.

use std::{
    fmt::{Display, Write},
    time::Duration,
};

use health_core::Distributed;

/// Writes metrics in the text format of Prometheus.
#[derive(Default)]
pub(super) struct PrometheusText(pub(super) String);

impl PrometheusText {
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.header(name, "counter", help);
        self.sample(name, value);
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.header(name, "gauge", help);
        self.sample(name, value);
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, values: &Distributed) {
        self.distribution(name, help, values, |value| value.to_string());
    }

    /// Writes a histogram of microseconds in seconds.
    pub(super) fn seconds(&mut self, name: &str, help: &str, micros: &Distributed) {
        let seconds = |micros: u64| Duration::from_micros(micros).as_secs_f64().to_string();
        self.distribution(name, help, micros, seconds);
    }

    fn distribution(&mut self, name: &str, help: &str, values: &Distributed, unit: fn(u64) -> String) {
        self.header(name, "histogram", help);
        for (bound, count) in values.cumulative() {
            self.sample(&format!("{name}_bucket{{le=\"{}\"}}", unit(bound)), count);
        }
        self.sample(&format!("{name}_bucket{{le=\"+Inf\"}}"), values.count);
        self.sample(&format!("{name}_sum"), unit(values.sum));
        self.sample(&format!("{name}_count"), values.count);
    }

    pub(super) fn header(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail; the same holds below.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    pub(super) fn sample(&mut self, series: &str, value: impl Display) {
        let _ = writeln!(self.0, "{series} {value}");
    }
}
