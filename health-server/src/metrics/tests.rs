//! Tests of the metrics, and of what the alerts and dashboards name.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::*;

fn render(metrics: &Metrics, refused: &[(&'static str, u64)]) -> String {
    metrics.render(&State {
        core: &Counts::default(),
        refused,
        tls: None,
        failed_reloads: 0,
        tokens: (0, None),
    })
}

#[test]
fn histograms_are_cumulative() {
    let metrics = Metrics::default();
    metrics.record_response("/ingest", "POST", StatusCode::OK, Duration::from_millis(3));
    metrics.record_response("/ingest", "POST", StatusCode::OK, Duration::from_mins(1));
    let _connection = metrics.http_connections.increment();
    let text = render(&metrics, &[]);
    let labels = r#"route="/ingest",method="POST",status="200""#;
    for line in [
        format!("health_http_request_duration_seconds_bucket{{{labels},le=\"0.0025\"}} 0"),
        format!("health_http_request_duration_seconds_bucket{{{labels},le=\"0.005\"}} 1"),
        format!("health_http_request_duration_seconds_bucket{{{labels},le=\"30\"}} 1"),
        format!("health_http_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 2"),
        format!("health_http_request_duration_seconds_sum{{{labels}}} 60.003"),
        format!("health_http_request_duration_seconds_count{{{labels}}} 2"),
        "health_http_connections 1".to_owned(),
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is missing from\n{text}"
        );
    }
}

#[test]
fn every_metric_keeps_its_name_and_type() {
    let metrics = Metrics::default();
    metrics.record_response("/ingest", "POST", StatusCode::OK, Duration::from_millis(3));
    let text = render(&metrics, &[("wrong_token", 1)]);
    let types: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert_eq!(
        types,
        [
            "health_build_info gauge",
            "health_http_request_duration_seconds histogram",
            "health_http_connections gauge",
            "health_connections_refused_total counter",
            "health_refused_total counter",
            "health_ingest_accepted_total counter",
            "health_ingest_rejected_total counter",
            "health_ingest_ignored_total counter",
            "health_ingest_misspelt_names_total counter",
            "health_store_samples_total counter",
            "health_store_batches_total counter",
            "health_store_raced_batches_total counter",
            "health_store_failed_writes_total counter",
            "health_store_erasures_total counter",
            "health_store_erased_samples_total counter",
            "health_database_errors_total counter",
            "health_store_commit_duration_seconds histogram",
            "health_store_batch_rows histogram",
            "health_store_queued_rows gauge",
            "health_store_queued_rows_limit gauge",
            "health_store_read_only gauge",
            "health_store_writers gauge",
            "health_store_writers_connected gauge",
            "health_store_writers_blocked gauge",
            "health_store_readers_limit gauge",
            "health_store_readers_open gauge",
            "health_store_readers_idle gauge",
            "health_sealing_lag_seconds gauge",
            "health_dirty_slices gauge",
            "health_feed_connections gauge",
            "health_feed_streams gauge",
            "health_feed_subscribers gauge",
            "health_feed_samples_total counter",
            "health_feed_missed_total counter",
            "health_feed_replays_total counter",
            "health_feed_delay_seconds histogram",
            "health_config_failed_reloads_total counter",
            "health_tokens gauge",
            "process_cpu_seconds_total counter",
            "process_virtual_memory_bytes gauge",
            "process_resident_memory_bytes gauge",
            "process_start_time_seconds gauge",
            "process_open_fds gauge",
            "process_max_fds gauge",
        ]
    );
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        assert!(text.contains(&format!("# TYPE {family} ")), "{name}");
        assert!(text.contains(&format!("# HELP {family} ")), "{name}");
    }
}

/// Returns metrics in which every family occurs.
fn everything() -> String {
    let metrics = Metrics::default();
    metrics.record_response("/ingest", "POST", StatusCode::OK, Duration::from_millis(3));
    let mut core = Counts::default();
    core.retention = Some(RetentionCounts {
        erased_samples: 1,
        last_run: Utc::now(),
    });
    metrics.render(&State {
        core: &core,
        refused: &[("wrong_token", 1)],
        tls: Some(TlsStatus {
            expires_at: Utc::now(),
            failed_reloads: 0,
        }),
        failed_reloads: 0,
        tokens: (1, Some(Utc::now())),
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the names of metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
    words
        .filter(|word| word.starts_with("health_") || word.starts_with("process_"))
        .collect()
}

#[test]
fn every_metric_that_an_alert_or_a_dashboard_names_exists() {
    let text = everything();
    for file in [
        "ops/prometheus/alerts.yml",
        "ops/prometheus/alerts_test.yml",
        "ops/grafana/server.json",
    ] {
        let content = fs::read_to_string(root().join(file)).unwrap();
        let names = metrics_in(&content);
        assert!(names.len() > 20, "{file}: {names:?}");
        for name in names {
            let exists = text.lines().any(|line| {
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
                    || line.starts_with(&format!("# TYPE {name} "))
            });
            assert!(exists, "{file} names {name}, which is no metric");
        }
    }
}

#[test]
fn every_alert_has_a_section_that_says_what_to_do() {
    let alerts = fs::read_to_string(root().join("ops/prometheus/alerts.yml")).unwrap();
    let page = fs::read_to_string(root().join("docs/operate.md")).unwrap();
    let names: Vec<_> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let link = format!("runbook: docs/operate.md#{}\n", name.to_lowercase());
        assert!(alerts.contains(&link), "{name} has no link");
        assert!(
            page.contains(&format!("\n### {name}\n")),
            "docs/operate.md has no section {name}"
        );
    }
    assert_eq!(
        alerts.matches(" summary: ").count(),
        alerts.matches("- alert: ").count()
    );
    assert_eq!(alerts.matches(" action: ").count(), alerts.matches("- alert: ").count());
}

#[test]
fn promtool_accepts_the_metrics_and_the_alerts_fire_for_their_faults() {
    let folder = root().join("ops/prometheus");
    let promtool = |arguments: &[&str]| {
        let mut command = Command::new("promtool");
        command.args(arguments).current_dir(&folder);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn()
    };
    let Ok(mut check) = promtool(&["check", "metrics"]) else {
        println!("skipped: promtool is not installed");
        return;
    };
    check.stdin.take().unwrap().write_all(everything().as_bytes()).unwrap();
    let mut outputs = vec![check.wait_with_output().unwrap()];
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        outputs.push(promtool(&arguments).unwrap().wait_with_output().unwrap());
    }
    for output in outputs {
        assert!(output.status.success(), "{output:?}");
    }
}
