//! Paths, methods, parameters, and what operators ask.

use crate::support::{Server, record};

const GET_PATHS: [&str; 9] = [
    "/metrics",
    "/metrics/series",
    "/metrics/percentiles",
    "/users",
    "/samples",
    "/-/healthy",
    "/-/ready",
    "/-/metrics",
    "/openapi.json",
];

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let server = Server::start().await;
    for path in [
        "/",
        "/ingests",
        "/INGEST",
        "/metrics/",
        "/-/",
        "/ingest//",
        "/favicon.ico",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.problem().contains(path), "{answer:?}");
    }
    let mut http = server.connect().await;
    for path in GET_PATHS {
        for method in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
            let answer = http.ask(method, path, &[], b"").await;
            assert_eq!(
                (answer.status, answer.header("allow")),
                (405, Some("GET, HEAD, OPTIONS")),
                "{method} {path}"
            );
            answer.problem();
        }
        let answer = http.ask("OPTIONS", path, &[], b"").await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (204, Some("GET, HEAD, OPTIONS")),
            "{path}"
        );
    }
    for path in ["/ingest", "/ingest/"] {
        for method in ["GET", "HEAD", "PUT"] {
            let answer = http.ask(method, path, &[], b"").await;
            assert_eq!(
                (answer.status, answer.header("allow")),
                (405, Some("POST, OPTIONS")),
                "{method} {path}"
            );
        }
        let answer = http.ask("OPTIONS", path, &[], b"").await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (204, Some("POST, OPTIONS")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn head_answers_as_get_without_the_body() {
    let server = Server::start().await;
    let stats = "/metrics?user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";
    let mut http = server.connect().await;
    for path in [stats, "/-/healthy", "/-/ready", "/metrics?user_id=1", "/nowhere"] {
        let (get, head) = (
            http.ask("GET", path, &[], b"").await,
            http.ask("HEAD", path, &[], b"").await,
        );
        assert_eq!(get.status, head.status, "{path}");
        assert_eq!(get.header("content-type"), head.header("content-type"), "{path}");
        assert_eq!(get.header("content-length"), head.header("content-length"), "{path}");
    }
}

#[tokio::test]
async fn statistics_answer_with_every_field_and_name_a_wrong_parameter() {
    let server = Server::start().await;
    server.post("json", record(1, 0)).await;
    let range = "start=2025-03-02T01:00:00%2B01:00&end=2025-03-02T02:00:00+01:00";
    let answer = server.get(&format!("/metrics?user_id=1&{range}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let stats = answer.json();
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
    let nothing = server.get(&format!("/metrics?user_id=2&{range}")).await;
    assert_eq!(nothing.status, 200);
    let nothing = nothing.json();
    assert_eq!(nothing["message"], "No data found");
    for (field, empty) in [
        ("average_heart_rate", serde_json::Value::Null),
        ("samples", 0.into()),
        ("total_steps", 0.into()),
        ("total_calories", 0.0.into()),
    ] {
        assert_eq!(nothing.get(field), Some(&empty), "{field}");
    }
    for (query, named) in [
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
        let answer = server.get(&format!("/metrics{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.problem().contains(named), "{answer:?}");
    }
    let answer = server.get("/-/healthy?now=1").await;
    assert_eq!(answer.status, 400);
    assert!(answer.problem().contains("now"), "{answer:?}");
}

#[tokio::test]
async fn an_answer_includes_what_was_acknowledged_before_it() {
    let server = Server::start().await;
    let (mut writer, mut reader) = (server.connect().await, server.connect().await);
    for second in 0..50 {
        let answer = writer
            .ask(
                "POST",
                "/ingest",
                &[("content-type", "application/json")],
                record(1, second).as_bytes(),
            )
            .await;
        assert_eq!(answer.status, 200);
        let stats = reader
            .ask(
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
async fn counters_say_what_was_done() {
    let server = Server::start().await;
    server.post("x-ndjson", format!("{}\n{{}}\n", record(1, 0))).await;
    let _live = server.subscribed("").await;
    let answer = server.get("/-/metrics").await;
    assert_eq!(
        answer.header("content-type"),
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
            answer.body.lines().any(|found| found == line),
            "{line} is missing from\n{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn requests_may_follow_each_other_without_waiting() {
    let server = Server::start().await;
    let mut http = server.connect().await;
    http.send("GET /-/healthy HTTP/1.1\r\n\r\nGET /nowhere HTTP/1.1\r\n\r\nGET /-/ready HTTP/1.0\r\n\r\n")
        .await;
    assert_eq!(
        [
            http.answer().await.status,
            http.answer().await.status,
            http.answer().await.status
        ],
        [200, 404, 200]
    );
    assert!(http.is_closed().await);
    let mut http = server.connect().await;
    http.send("GET /-/healthy HTTP/1.1\r\n\r\n").await;
    http.finish().await;
    assert_eq!(http.answer().await.status, 200);
}

#[tokio::test]
async fn what_is_no_http_is_told_so_behind_the_answers_before_it() {
    let server = Server::start().await;
    for nonsense in [
        "nonsense\r\n\r\n",
        "GET /a b HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nno header\r\n\r\n",
        "GET / HTTP/7.0\r\n\r\n",
        "POST /ingest HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        "POST /ingest HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "POST /ingest HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
    ] {
        for before in 0..3 {
            let mut http = server.connect().await;
            let good = "GET /-/healthy HTTP/1.1\r\n\r\n".repeat(before);
            http.send(good + nonsense).await;
            for _ in 0..before {
                assert_eq!(http.answer().await.status, 200);
            }
            let answer = http.answer().await;
            assert_eq!(answer.status, 400, "{nonsense:?}");
            assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
            assert!(answer.problem().contains("Nothing was stored"), "{answer:?}");
            http.finish().await;
            assert!(http.is_closed().await, "{nonsense:?}");
        }
    }
}

#[tokio::test]
async fn a_head_full_of_faults_is_answered_briefly() {
    let server = Server::start().await;
    let answer = server.get(&format!("/metrics?{}", "a=1&".repeat(7000))).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["errors"].as_array().unwrap().len(), 100);
    assert!(answer.problem().len() < 1000, "{answer:?}");
}
