//! Limits against clients that take too much: connections of an address, requests of a token, exports, feeds without
//! AUTH.

use std::time::Duration;

use crate::{
    client::{FeedConnection, HttpConnection},
    guarded::Guarded,
    support::{Server, record, until_ok},
};

/// Short enough that a test can wait until it has passed. A client sends AUTH sooner, also on a busy machine.
const AUTH_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an export waits for its turn: so short that a test can wait until it has passed.
const EXPORT_WAIT: Duration = Duration::from_secs(2);

/// So few requests a second that a client exceeds it, also on a busy machine.
const LOW_RATE: usize = 5;

#[tokio::test]
async fn a_connection_over_the_limit_of_its_address_is_told_the_reason_and_closed() {
    let server = Server::with_limits(|server, _| server.max_connections_per_address = 2).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut http = server.connect().await;
        assert_eq!(http.request("GET", "/-/healthy", &[], b"").await.status, 200);
        open.push(http);
    }
    let mut third = HttpConnection::connect(server.http).await;
    let response = third.response().await;
    assert_eq!(response.status, 503);
    assert!(response.problem().contains("from your network"), "{response:?}");
    assert!(response.header("retry-after").is_some() && response.header("x-request-id").is_some());
    assert!(third.is_closed().await);
    // The end of a connection makes room.
    open.pop();
    loop {
        let mut http = server.connect().await;
        if http
            .try_send("GET /-/healthy HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await
            .is_ok()
            && http.response().await.status == 200
        {
            break;
        }
    }

    // The feed counts its own connections.
    let _feeds = [server.feed().await, server.feed().await];
    let mut third = FeedConnection::connect(server.feed).await;
    let (event, reason) = third.event_and_reason().await;
    assert!(
        event == "error" && reason.contains("from your network"),
        "{event} {reason}"
    );
    assert_eq!(third.event_and_reason().await.0, "bye");
    assert!(third.is_closed().await);
}

#[tokio::test]
async fn a_token_over_its_rate_gets_429_and_others_are_served() {
    let mut guarded = Guarded::with_limits(|server, _| server.max_token_rate = LOW_RATE).await;
    let (busy, other) = (
        guarded.token("busy", "read", None).await,
        guarded.token("other", "read", None).await,
    );
    let server = &guarded.server;
    let refused = loop {
        let response = busy.get(server, "/openapi.json").await;
        if response.status != 200 {
            break response;
        }
    };
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    let problem = refused.problem();
    assert!(problem.contains("busy") && problem.contains("5 requests"), "{problem}");
    let mut feed = busy.feed(server).await;
    loop {
        feed.send("SUBSCRIBE\n").await;
        let (event, reason) = feed.event_and_reason().await;
        if event == "error" {
            assert!(reason.contains("5 requests"), "{reason}");
            break;
        }
    }
    assert_eq!(other.get(server, "/openapi.json").await.status, 200);
    // The bucket fills again.
    while busy.get(server, "/openapi.json").await.status != 200 {}
    let healthy = busy.get(server, "/-/healthy").await;
    assert_eq!(healthy.status, 200, "what needs no token costs none of its rate");
}

#[tokio::test]
async fn exports_over_the_limit_wait_for_a_moment_and_are_refused_and_queries_go_on() {
    let server = Server::with_limits(|server, core| {
        server.max_exports = 1;
        // Only the test ends the export that is not read.
        server.write_timeout = Duration::from_hours(1);
        core.connection_wait = EXPORT_WAIT;
        // One connection: an export whose client does not read must not hold it.
        core.readers = 1;
    })
    .await;
    server.fill(1).await;
    let export = "/samples?user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";
    // On a busy machine, the first connection to the database may come too late.
    let stalled = loop {
        let mut stalled = server.connect().await;
        stalled
            .send(format!("GET {export} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
            .await;
        let head = stalled.response_head().await;
        if head.status == 200 {
            break stalled;
        }
        assert_eq!(head.status, 503, "{head:?}");
    };
    let refused = server.get(export).await;
    assert_eq!(refused.status, 503);
    assert!(refused.problem().contains("exports"), "{refused:?}");
    until_ok(|| server.post("json", record(2, 0))).await;
    let query = "/metrics?user_id=2&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";
    assert_eq!(until_ok(|| server.get(query)).await.json()["samples"], 1);
    drop(stalled);
    let short = "/samples?user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-02T00:01:00Z";
    until_ok(|| server.get(short)).await;
}

#[tokio::test]
async fn a_feed_client_without_auth_is_closed_after_the_timeout_and_one_with_auth_stays() {
    let mut guarded = Guarded::with_limits(|server, _| server.auth_timeout = AUTH_TIMEOUT).await;
    let token = guarded.token("reader", "read", None).await;
    let server = &guarded.server;
    let mut with_auth = token.subscribed(server).await;
    let mut without = server.feed().await;
    without.send("PING\n").await;
    assert_eq!(without.event().await["event"], "pong");
    let (event, reason) = without.event_and_reason().await;
    assert!(event == "bye" && reason.contains("3s"), "{event} {reason}");
    assert!(without.is_closed().await);
    with_auth.send("PING\n").await;
    assert_eq!(with_auth.event().await["event"], "pong");
}
