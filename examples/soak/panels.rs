//! What the picture shows.

use crate::axis::Scale;

/// One chart: its title, its unit, its scale, and its lines with their names.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) scale: Scale,
    pub(crate) lines: &'static [(&'static str, &'static str)],
}

pub(crate) const PANELS: [Panel; 8] = [
    panel(
        "Samples acknowledged",
        "per second",
        Scale::Linear,
        &[("samples_per_second", "")],
    ),
    panel(
        "Time to acknowledge a post",
        "ms",
        Scale::Logarithmic,
        &[("post_p50_ms", "p50"), ("post_p99_ms", "p99")],
    ),
    panel(
        "Statistics of 24 hours",
        "ms",
        Scale::Logarithmic,
        &[("query_p50_ms", "p50"), ("query_p99_ms", "p99")],
    ),
    panel(
        "Size in PostgreSQL",
        "MiB",
        Scale::Linear,
        &[
            ("tables_mib", "tables"),
            ("indexes_mib", "indexes"),
            ("wal_mib", "log (WAL)"),
        ],
    ),
    panel(
        "Memory of a server",
        "MiB",
        Scale::Linear,
        &[("server1_rss_mib", "server 1"), ("server2_rss_mib", "server 2")],
    ),
    panel(
        "Open descriptors of a server",
        "",
        Scale::Linear,
        &[("server1_descriptors", "server 1"), ("server2_descriptors", "server 2")],
    ),
    panel("Sealing lag", "s", Scale::Linear, &[("sealing_lag_s", "")]),
    panel("Dirty slices", "", Scale::Linear, &[("dirty_slices", "")]),
];

const fn panel(
    title: &'static str,
    unit: &'static str,
    scale: Scale,
    lines: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel {
        title,
        unit,
        scale,
        lines,
    }
}
