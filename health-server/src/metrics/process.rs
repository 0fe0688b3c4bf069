//! What the system says of this process, under the names that Prometheus gives it for every program.

use std::fs;

use super::text::PrometheusText;

/// The time unit of `/proc`: every Linux reports a hundredth of a second to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes the metrics of the process. On a system without `/proc` there are none.
pub(super) fn render(text: &mut PrometheusText) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in brackets, may have spaces.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    let field = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
    if let (Some(user), Some(system)) = (field(11), field(12)) {
        let name = "process_cpu_seconds_total";
        text.header(name, "counter", "Time that the process has spent on the processor.");
        text.sample(name, (user + system) / TICKS_PER_SECOND);
    }
    let gauge = |text: &mut PrometheusText, name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            text.header(name, "gauge", help);
            text.sample(name, value);
        }
    };
    gauge(
        text,
        "process_virtual_memory_bytes",
        "Virtual memory of the process.",
        field(20),
    );
    gauge(
        text,
        "process_resident_memory_bytes",
        "Memory of the process.",
        resident_bytes(),
    );
    gauge(
        text,
        "process_start_time_seconds",
        "When the process was started, in seconds since 1970.",
        started(field(19)),
    );
    gauge(text, "process_open_fds", "Open files of the process.", open_files());
    gauge(
        text,
        "process_max_fds",
        "Files that the process may have open.",
        files_max(),
    );
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0)
}

fn started(ticks_after_boot: Option<f64>) -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = stat
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    Some(boot + ticks_after_boot? / TICKS_PER_SECOND)
}

fn open_files() -> Option<f64> {
    // The directory itself is open while it is read.
    let entries = u32::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?;
    Some(f64::from(entries.saturating_sub(1)))
}

fn files_max() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
