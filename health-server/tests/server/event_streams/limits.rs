//! What streams count against, what does not end them, and what a shutdown does.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    client::{EventStream, HttpConnection},
    support::{Server, record, records, until_ok},
};

/// Shorter than a test keeps a stream open, and longer than a busy machine takes to read a request that was sent as a
/// whole.
const SHORT: Duration = Duration::from_secs(2);

/// Longer than a shutdown takes that waits for nobody.
const END_TIMEOUT: Duration = Duration::from_mins(2);

/// Returns the value of a metric without labels, as soon as a connection that has just ended makes room for the one
/// that asks.
async fn metric(server: &Server, name: &str) -> u64 {
    let metrics = until_ok(|| server.get("/-/metrics")).await.body;
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

#[tokio::test]
async fn a_stream_takes_the_place_of_a_feed_connection_and_none_of_http() {
    let server = Server::with_limits(|server, _| {
        server.max_connections = 1;
        server.max_feed_connections = 2;
    })
    .await;
    let mut stream = server.stream("").await;
    stream.event().await;
    let over_tcp = server.feed().await;
    // The only HTTP connection became a stream, and this one has its place.
    let mut http = server.connect().await;
    let refused = http.request("GET", "/feed", &[], b"").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    let retry_after = refused.header("retry-after");
    assert!(
        retry_after.is_some_and(|seconds| seconds.parse::<u32>().is_ok()),
        "{refused:?}"
    );
    assert!(refused.problem().contains("feed connections"), "{refused:?}");
    let metrics = http.request("GET", "/-/metrics", &[], b"").await.body;
    for line in [
        "health_http_connections 1",
        "health_feed_connections 2",
        "health_feed_streams 1",
        "health_feed_subscribers 1",
        "health_connections_refused_total 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is missing from\n{metrics}"
        );
    }
    drop(over_tcp);
    loop {
        let again = http.request("HEAD", "/feed?users=1", &[], b"").await;
        if again.status == 200 {
            break;
        }
        assert_eq!(again.status, 503);
    }
    server.post("json", record(1, 0)).await;
    assert_eq!(stream.event().await.data["user_id"], 1);
    drop((stream, http));
    while metric(&server, "health_feed_connections").await > 0 {}
}

#[tokio::test]
async fn the_streams_and_connections_of_one_address_have_one_limit() {
    let server = Server::with_limits(|server, _| server.max_connections_per_address = 2).await;
    let (stream, _over_tcp) = (server.stream("").await, server.feed().await);
    let refused = server.get("/feed").await;
    assert_eq!(refused.status, 503);
    assert!(refused.problem().contains("from your network"), "{refused:?}");
    drop(stream);
    while server.get("/-/healthy").await.status != 200 || metric(&server, "health_feed_streams").await > 0 {}
    server.stream("").await;
}

#[tokio::test]
async fn no_timeout_of_http_ends_a_stream_that_is_quiet_or_not_read() {
    let server = Server::with_limits(|server, _| {
        server.max_connections = 2;
        server.header_timeout = SHORT;
        server.write_timeout = SHORT;
        server.body_timeout = SHORT;
        server.idle_grace = Duration::ZERO;
    })
    .await;
    let (mut quiet, mut stalled) = (server.stream("users=9").await, server.stream("").await);
    for stream in [&mut quiet, &mut stalled] {
        assert_eq!(stream.event().await.name, "subscribed");
    }
    // More than the buffers of both sides hold, so the server waits for the client.
    for user in 1..=6 {
        assert_eq!(server.post("x-ndjson", records(user, 20_000)).await.status, 200);
    }
    // Both are open for much longer than every timeout.
    for _ in 0..2 {
        assert_eq!(quiet.event_or_heartbeat().await.name, "heartbeat");
    }
    let mut total = 0;
    while total < 120_000 {
        let event = stalled.event().await;
        total += match event.name.as_str() {
            "sample" => 1,
            "lagged" => event.data["missed"].as_i64().unwrap(),
            _ => 0,
        };
    }
    assert_eq!(total, 120_000);
    server.post("json", record(9, 0)).await;
    assert_eq!(quiet.event().await.data["user_id"], 9);
}

#[tokio::test]
async fn a_shutdown_says_bye_and_does_not_wait_for_a_stream_that_is_not_read() {
    // If it waited, the test would fail.
    let server = Server::with_limits(|_, core| core.drain_timeout = Duration::from_hours(1)).await;
    let mut live = server.stream("").await;
    let stalled = server.stream("").await;
    live.event().await;
    for user in 1..=6 {
        server.post("x-ndjson", records(user, 20_000)).await;
    }
    let (running, _database) = server.stop();
    loop {
        let event = live.event().await;
        if event.name == "bye" {
            assert_eq!(
                (event.id, &event.data["reason"]),
                (None, &"the server is shutting down".into())
            );
            break;
        }
        assert_eq!(event.name, "sample");
    }
    assert!(live.is_closed().await);
    timeout(END_TIMEOUT, running)
        .await
        .expect("an end in time")
        .unwrap()
        .unwrap();
    drop(stalled);
}

#[tokio::test]
async fn a_stream_may_follow_other_requests_and_is_the_last_response_of_its_connection() {
    let server = Server::start().await;
    let mut http = HttpConnection::connect(server.http).await;
    assert_eq!(http.request("GET", "/-/healthy", &[], b"").await.status, 200);
    http.send("GET /feed HTTP/1.1\r\nhost: localhost\r\n\r\nGET /-/healthy HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    let head = http.response_head().await;
    assert_eq!((head.status, head.header("connection")), (200, Some("close")));
    let mut stream = EventStream::after(http, head);
    assert_eq!(stream.block().await.as_deref(), Some("retry: 2000"));
    assert_eq!(stream.event().await.name, "subscribed");
    let (running, _database) = server.stop();
    assert_eq!(stream.event().await.name, "bye");
    assert!(stream.is_closed().await);
    running.await.unwrap().unwrap();
}
