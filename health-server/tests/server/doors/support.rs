//! Requests to the doors, and what is stored afterwards.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

use crate::{client::Response, support::Server};

pub(super) const JSON: (&str, &str) = ("content-type", "application/json");

pub(super) async fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Response {
    server
        .connect()
        .await
        .request("POST", path, headers, body.as_ref())
        .await
}

/// Returns the steps of the samples of a user, by time and source.
pub(super) async fn steps(server: &Server, user: i64) -> Vec<(String, i64)> {
    let path = format!("/samples?user_id={user}&start=2000-01-01T00:00:00Z&end=2100-01-01T00:00:00Z");
    let samples = server.get(&path).await;
    let samples = samples
        .body
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    samples
        .filter_map(|sample| {
            let time = sample["timestamp"].as_str()?.to_owned();
            Some((time, sample["steps"].as_i64()?))
        })
        .collect()
}

pub(super) async fn totals(server: &Server, user: i64) -> (i64, i64, f64) {
    let path = format!("/metrics?user_id={user}&start=2000-01-01T00:00:00Z&end=2100-01-01T00:00:00Z");
    let stats = server.get(&path).await.json();
    (
        stats["samples"].as_i64().unwrap(),
        stats["total_steps"].as_i64().unwrap(),
        stats["total_calories"].as_f64().unwrap(),
    )
}

pub(super) const EXPORT: &str = r#"{"data":{"metrics":[
    {"data":[{"date":"2026-02-06 14:30:00 -0800","Min":65,"Avg":72.4,"Max":85,"source":"Ada’s Apple Watch"},
             {"date":"2026-02-06 14:31:00 -0800","Avg":0},{"date":"2026-02-06","Avg":70}],"units":"bpm","name":"heart_rate"},
    {"name":"step_count","units":"count","data":[{"date":"2026-02-06 2:00:00 PM -0800","qty":340.5,"source":"iPhone"},
             {"date":"2026-02-06 3:00:00 PM -0800","qty":59.5,"source":"iPhone"}]},
    {"name":"active_energy","units":"kJ","data":[{"date":"2026-02-06 14:30:00 -0800","qty":8.368}]},
    {"name":"sleep_analysis","units":"hr","data":[{"date":"2026-02-06","asleep":7.0},{}]}],
    "workouts":[{"name":"Yoga"}]}}"#;

pub(super) fn gzip(body: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body.as_bytes()).unwrap();
    encoder.finish().unwrap()
}
