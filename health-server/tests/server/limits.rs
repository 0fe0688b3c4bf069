//! What happens at each limit, and which response the client gets.

use std::time::Duration;

use health_server::ServerLimits;

use crate::{
    client::{FeedConnection, HttpConnection},
    support::{Server, record, records},
};

/// Short enough that a test can wait until it has passed.
const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_connection_is_closed_if_the_request_head_does_not_arrive_in_time() {
    let server = Server::with_limits(|server, _| server.header_timeout = SHORT).await;
    for beginning in ["", "GET /-/healthy HT"] {
        let mut http = server.connect().await;
        http.send(beginning).await;
        assert!(http.is_closed().await, "{beginning:?}");
    }
}

#[tokio::test]
async fn a_client_that_pauses_within_its_body_gets_408() {
    let server = Server::with_limits(|server, _| server.body_timeout = SHORT).await;
    for kind in ["json", "x-ndjson"] {
        let mut http = server.connect().await;
        http.send(format!(
            "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/{kind}\r\ncontent-length: 100\r\n\r\n{{"
        ))
        .await;
        let response = http.response().await;
        assert_eq!(response.status, 408);
        assert!(response.problem().contains("200ms"), "{response:?}");
    }
}

#[tokio::test]
async fn a_request_head_within_a_large_limit_is_accepted() {
    let server = Server::with_limits(|server, _| server.max_header = 1 << 20).await;
    let mut http = server.connect().await;
    let response = http
        .request("GET", "/-/healthy", &[("x", &"x".repeat(1_000_000))], b"")
        .await;
    assert_eq!(response.status, 200);
}

#[tokio::test]
async fn a_request_head_over_the_limit_gets_431() {
    let server = Server::with_limits(|server, _| server.max_header = 1000).await;
    for head in [
        format!(
            "GET /-/healthy HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
            "x".repeat(2_000_000)
        ),
        format!(
            "GET /-/healthy?{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
            "x".repeat(2000)
        ),
    ] {
        let mut http = server.connect().await;
        // A client that sends everything before it reads must still receive the reason.
        http.try_send(head).await.unwrap();
        let response = http.response().await;
        assert_eq!(response.status, 431);
        assert!(response.problem().contains("too large"), "{response:?}");
        http.finish().await;
        assert!(http.is_closed().await);
    }
}

#[tokio::test]
async fn a_connection_over_the_limit_is_told_the_reason_and_closed() {
    let server = Server::with_limits(|server, _| {
        server.max_connections = 1;
        server.max_feed_connections = 1;
    })
    .await;
    let mut first = server.connect().await;
    assert_eq!(first.request("GET", "/-/healthy", &[], b"").await.status, 200);
    let mut second = HttpConnection::connect(server.http).await;
    let response = second.response().await;
    assert_eq!(response.status, 503);
    let retry_after = response.header("retry-after");
    assert!(retry_after.is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
    assert!(response.problem().contains("connections"), "{response:?}");
    assert!(second.is_closed().await);
    assert_eq!(first.request("GET", "/-/healthy", &[], b"").await.status, 200);

    let _first = server.feed().await;
    let mut second = FeedConnection::connect(server.feed).await;
    assert_eq!(second.event_and_reason().await.0, "error");
    assert_eq!(second.event_and_reason().await.0, "bye");
    assert!(second.is_closed().await);
}

#[tokio::test]
async fn a_new_connection_over_the_limit_replaces_an_idle_one() {
    let server = Server::with_limits(|server, _| {
        server.max_connections = 3;
        server.idle_grace = Duration::ZERO;
    })
    .await;
    // Half a request head was sent: idle.
    let mut slow = server.connect().await;
    slow.send("GET /-/heal").await;
    // The last request was answered: idle.
    let mut idle = server.connect().await;
    assert_eq!(idle.request("GET", "/-/healthy", &[], b"").await.status, 200);
    // An upload is under way: not idle.
    let mut busy = server.connect().await;
    let body = record(1, 0);
    busy.send(format!(
        "POST /ingest HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ))
    .await;
    assert_eq!(busy.response_head().await.status, 100);

    let mut first = server.connect().await;
    assert_eq!(first.request("GET", "/-/healthy", &[], b"").await.status, 200);
    assert!(slow.is_closed().await);
    let mut second = server.connect().await;
    assert_eq!(second.request("GET", "/-/healthy", &[], b"").await.status, 200);
    assert!(idle.is_closed().await);
    busy.send(body).await;
    assert_eq!(busy.response().await.status, 200);
}

#[tokio::test]
async fn a_timestamp_further_ahead_than_the_limit_is_refused() {
    let server = Server::with_limits(|_, core| core.max_future = chrono::TimeDelta::hours(1)).await;
    let record_ahead_by = |minutes| {
        let time = health_core::format_timestamp(chrono::Utc::now() + chrono::TimeDelta::minutes(minutes));
        format!(r#"{{"user_id":1,"timestamp":"{time}","steps":1}}"#)
    };
    assert_eq!(server.post("json", record_ahead_by(59)).await.status, 200);
    assert_eq!(server.post("json", record_ahead_by(61)).await.status, 422);
}

#[tokio::test]
async fn large_bodies_wait_for_the_body_memory_and_small_ones_do_not() {
    let server = Server::with_limits(|server, core| {
        server.max_body = 200_000;
        server.body_memory = 200_000;
        // Also the time in which the samples have to be stored, which takes long on a busy machine.
        core.ingest_deadline = Duration::from_secs(2);
    })
    .await;
    let padding = " ".repeat(150_000);
    let head =
        "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 180000\r\n\r\n";
    let mut first = server.connect().await;
    first.send(format!("{head}{padding}")).await;
    // The server reserves the memory when it has read the bytes. Until then, a second large body still gets some.
    let second = loop {
        let response = server.post("json", format!("{padding}{}", record(1, 0))).await;
        if response.status == 503 {
            break response;
        }
    };
    assert!(second.header("retry-after").is_some());
    assert_eq!(server.post("json", record(1, 1)).await.status, 200);
    let rest = record(1, 2);
    first.send(format!("{rest}{}", " ".repeat(30_000 - rest.len()))).await;
    assert_eq!(first.response().await.status, 200);
}

#[tokio::test]
async fn a_connection_is_cut_off_if_its_client_does_not_read_the_response() {
    let server = Server::with_limits(|server, _| server.write_timeout = SHORT).await;
    assert_eq!(server.post("x-ndjson", records(1, 60_000)).await.status, 200);
    let mut stalled = server.connect().await;
    let export = "GET /samples?user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stalled.send(export.repeat(5)).await;
    loop {
        let metrics = server.get("/-/metrics").await.body;
        let open = metrics
            .lines()
            .find_map(|line| line.strip_prefix("health_http_connections "));
        // The connection that asks for the metrics counts, and for a moment its predecessor may count, too.
        if open == Some("1") {
            break;
        }
    }
    // The bytes that were sent before the cut can still be read, but the end of the last response is missing.
    let mut rest = Vec::new();
    let _ = stalled.read_rest(&mut rest).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"));
}

#[test]
fn the_defaults_are_those_that_the_documentation_promises() {
    let limits = ServerLimits::default();
    assert_eq!((limits.max_body, limits.max_line), (16 << 20, 64 << 10));
    let core = health_core::Limits::default();
    assert_eq!(core.max_future, chrono::TimeDelta::minutes(5));
    assert_eq!(core.replay_window, Duration::from_hours(24));
}
