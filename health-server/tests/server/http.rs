//! Paths, methods, query parameters, the endpoints for operators, and requests that are not HTTP.

use std::time::{Duration, Instant};

use crate::support::{Server, record};

const GET_PATHS: [&str; 11] = [
    "/metrics",
    "/metrics/series",
    "/metrics/percentiles",
    "/users",
    "/samples",
    "/-/healthy",
    "/-/ready",
    "/-/metrics",
    "/openapi.json",
    "/",
    "/page/main.js",
];

#[tokio::test]
async fn an_unknown_path_is_a_404_and_an_unsupported_method_a_405() {
    let server = Server::start().await;
    for path in [
        "/index.html",
        "/page",
        "/page/",
        "/page/nothing.js",
        "/page/../openapi.json",
        "/ingests",
        "/INGEST",
        "/metrics/",
        "/-/",
        "/ingest//",
        "/favicon.ico",
    ] {
        let response = server.get(path).await;
        assert_eq!(response.status, 404, "{path}");
        assert!(response.problem().contains(path), "{response:?}");
    }
    let mut http = server.connect().await;
    // `DELETE /samples` exists, see `erasing.rs`.
    for path in GET_PATHS.into_iter().filter(|path| *path != "/samples") {
        for method in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
            let response = http.request(method, path, &[], b"").await;
            assert_eq!(
                (response.status, response.header("allow")),
                (405, Some("GET, HEAD, OPTIONS")),
                "{method} {path}"
            );
            response.problem();
        }
        let response = http.request("OPTIONS", path, &[], b"").await;
        assert_eq!(
            (response.status, response.header("allow")),
            (204, Some("GET, HEAD, OPTIONS")),
            "{path}"
        );
    }
    for path in ["/ingest", "/ingest/"] {
        for method in ["GET", "HEAD", "PUT"] {
            let response = http.request(method, path, &[], b"").await;
            assert_eq!(
                (response.status, response.header("allow")),
                (405, Some("POST, OPTIONS")),
                "{method} {path}"
            );
        }
        let response = http.request("OPTIONS", path, &[], b"").await;
        assert_eq!(
            (response.status, response.header("allow")),
            (204, Some("POST, OPTIONS")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn head_responds_like_get_without_the_body() {
    let server = Server::start().await;
    let stats = "/metrics?user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";
    let mut http = server.connect().await;
    for path in [stats, "/-/healthy", "/-/ready", "/metrics?user_id=1", "/nowhere"] {
        let (get, head) = (
            http.request("GET", path, &[], b"").await,
            http.request("HEAD", path, &[], b"").await,
        );
        assert_eq!(get.status, head.status, "{path}");
        assert_eq!(get.header("content-type"), head.header("content-type"), "{path}");
        assert_eq!(get.header("content-length"), head.header("content-length"), "{path}");
    }
}

#[tokio::test]
async fn statistics_have_every_field() {
    let server = Server::start().await;
    server.post("json", record(1, 0)).await;
    let range = "start=2025-03-02T01:00:00%2B01:00&end=2025-03-02T02:00:00+01:00";
    let response = server.get(&format!("/metrics?user_id=1&{range}")).await;
    assert_eq!(response.status, 200, "{response:?}");
    let stats = response.json();
    assert_eq!(
        (&stats["user_id"], &stats["start"], &stats["end"]),
        (
            &1.into(),
            &"2025-03-02T00:00:00Z".into(),
            &"2025-03-02T01:00:00Z".into()
        )
    );
    assert_eq!(
        (&stats["samples"], &stats["average_heart_rate"]),
        (&1.into(), &70.0.into())
    );
    assert!(stats.get("message").is_none(), "{stats}");
    let response = server.get(&format!("/metrics?user_id=2&{range}")).await;
    assert_eq!(response.status, 200);
    let empty = response.json();
    assert_eq!(empty["message"], "No data found");
    for (field, value) in [
        ("average_heart_rate", serde_json::Value::Null),
        ("samples", 0.into()),
        ("total_steps", 0.into()),
        ("total_calories", 0.0.into()),
    ] {
        assert_eq!(empty.get(field), Some(&value), "{field}");
    }
}

#[tokio::test]
async fn a_wrong_parameter_is_a_400_that_names_it() {
    let server = Server::start().await;
    for (query, parameter) in [
        ("", "user_id"),
        ("?user_id=1&start=2025-03-02T00:00:00Z", "end"),
        (
            "?user_id=x&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z",
            "user_id",
        ),
        ("?user_id=1&start=2025-03-02T00:00:00&end=2025-03-03T00:00:00Z", "start"),
        (
            "?user_id=1&start=2025-03-03T00:00:00Z&end=2025-03-03T00:00:00Z",
            "start",
        ),
        (
            "?user_id=1&user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z",
            "user_id",
        ),
        (
            "?user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z&zone=UTC",
            "zone",
        ),
    ] {
        let response = server.get(&format!("/metrics{query}")).await;
        assert_eq!(response.status, 400, "{query}");
        assert!(response.problem().contains(parameter), "{response:?}");
    }
    let response = server.get("/-/healthy?now=1").await;
    assert_eq!(response.status, 400);
    assert!(response.problem().contains("now"), "{response:?}");
}

#[tokio::test]
async fn metrics_without_parameters_also_name_the_metrics_for_prometheus() {
    let server = Server::start().await;
    for (query, named) in [("", true), ("?", true), ("?user_id=1", false)] {
        let response = server.get(&format!("/metrics{query}")).await;
        assert_eq!(response.status, 400);
        assert_eq!(response.problem().contains("/-/metrics"), named, "{response:?}");
    }
}

#[tokio::test]
async fn responses_say_how_long_an_idle_connection_stays_open() {
    let server = Server::with_limits(|server, _| server.header_timeout = Duration::from_secs(1)).await;
    let mut http = server.connect().await;
    let mut last_request = Instant::now();
    for path in ["/-/healthy", "/nowhere", "/-/healthy"] {
        last_request = Instant::now();
        let response = http.request("GET", path, &[], b"").await;
        assert_eq!(response.header("connection"), Some("keep-alive"));
        assert_eq!(response.header("keep-alive"), Some("timeout=1"));
    }
    assert!(http.is_closed().await);
    let open = last_request.elapsed();
    assert!(open > Duration::from_millis(900), "{open:?}");
    let mut http = server.connect().await;
    let response = http.request("GET", "/-/healthy", &[("connection", "close")], b"").await;
    assert_eq!(
        (response.header("connection"), response.header("keep-alive")),
        (Some("close"), None)
    );
    assert!(http.is_closed().await);
}

#[tokio::test]
async fn a_response_includes_every_sample_acknowledged_before() {
    let server = Server::start().await;
    let (mut writer, mut reader) = (server.connect().await, server.connect().await);
    for second in 0..50 {
        let response = writer
            .request(
                "POST",
                "/ingest",
                &[("content-type", "application/json")],
                record(1, second).as_bytes(),
            )
            .await;
        assert_eq!(response.status, 200);
        let stats = reader
            .request(
                "GET",
                "/metrics?user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z",
                &[],
                b"",
            )
            .await;
        assert_eq!(stats.json()["samples"], second + 1);
    }
}

#[tokio::test]
async fn the_metrics_count_samples_subscribers_and_requests() {
    let server = Server::start().await;
    server.post("x-ndjson", format!("{}\n{{}}\n", record(1, 0))).await;
    let _subscription = server.subscribed("").await;
    let response = server.get("/-/metrics").await;
    assert_eq!(
        response.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    for line in [
        "health_ingest_accepted_total 1",
        "health_ingest_rejected_total 1",
        "health_store_samples_total{outcome=\"inserted\"} 1",
        "health_feed_subscribers 1",
        "health_http_request_duration_seconds_count{route=\"/ingest\",method=\"POST\",status=\"422\"} 1",
    ] {
        assert!(
            response.body.lines().any(|found| found == line),
            "{line} is missing from\n{}",
            response.body
        );
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start().await;
    let mut http = server.connect().await;
    http.send("GET /-/healthy HTTP/1.1\r\nhost: localhost\r\n\r\nGET /nowhere HTTP/1.1\r\nhost: localhost\r\n\r\nGET /-/ready HTTP/1.0\r\n\r\n")
        .await;
    assert_eq!(
        [
            http.response().await.status,
            http.response().await.status,
            http.response().await.status
        ],
        [200, 404, 200]
    );
    assert!(http.is_closed().await);
    let mut http = server.connect().await;
    http.send("GET /-/healthy HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    http.finish().await;
    assert_eq!(http.response().await.status, 200);
}

#[tokio::test]
async fn a_request_that_is_not_http_gets_a_problem_after_the_earlier_responses() {
    let server = Server::start().await;
    for invalid in [
        "nonsense\r\n\r\n",
        "GET /a b HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nno header\r\n\r\n",
        "GET / HTTP/7.0\r\n\r\n",
        "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "POST /ingest HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip\r\n\r\n",
    ] {
        for earlier in 0..3 {
            let mut http = server.connect().await;
            let valid = "GET /-/healthy HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(earlier);
            http.send(valid + invalid).await;
            for _ in 0..earlier {
                assert_eq!(http.response().await.status, 200);
            }
            let response = http.response().await;
            assert_eq!(response.status, 400, "{invalid:?}");
            assert_eq!(response.header("connection"), Some("close"), "{response:?}");
            assert!(response.problem().contains("Nothing was stored"), "{response:?}");
            http.finish().await;
            assert!(http.is_closed().await, "{invalid:?}");
        }
    }
}

#[tokio::test]
async fn a_query_with_thousands_of_errors_gets_a_short_response() {
    let server = Server::start().await;
    let response = server.get(&format!("/metrics?{}", "a=1&".repeat(7000))).await;
    assert_eq!(response.status, 400);
    assert_eq!(response.json()["errors"].as_array().unwrap().len(), 100);
    assert!(response.problem().len() < 1000, "{response:?}");
}
