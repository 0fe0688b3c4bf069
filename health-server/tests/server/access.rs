//! Tokens on every door: each endpoint, the feed, long responses and uploads.

use std::time::Duration;

use futures_util::future::join_all;
use health_core::{Config, access::TokenAdmin};
use test_support::TestDatabase;

use crate::{
    client::{FeedConnection, Response},
    guarded::{Bearer, Guarded, RANGE, bye, in_time, new_token},
    support::{Server, counts, listed_errors, record, records},
};

/// Returns the scope that an endpoint needs according to the contract: `None` for no token, empty for any token.
fn scope_of(method: &str, path: &str) -> Option<&'static str> {
    match (method, path) {
        ("GET" | "HEAD" | "OPTIONS", "/-/healthy" | "/-/ready" | "/" | "/page/{file}") => None,
        (
            "POST",
            "/ingest"
            | "/ingest/"
            | "/ingest/health-auto-export"
            | "/ingest/health-connect"
            | "/api/v2/write"
            | "/write",
        ) => Some("ingest"),
        (
            "GET" | "HEAD",
            "/metrics" | "/metrics/series" | "/metrics/percentiles" | "/users" | "/samples" | "/feed" | "/-/metrics",
        ) => Some("read"),
        ("DELETE", "/users/{user_id}" | "/samples") => Some("erase"),
        ("GET" | "HEAD", "/openapi.json") | ("OPTIONS", _) => Some(""),
        _ => panic!("decide which scope {method} {path} needs, here and in the product"),
    }
}

/// Checks that a response to a client without a valid token is 401 exactly if the endpoint needs one.
fn check_refusal(response: &Response, scope: Option<&str>, endpoint: &str) {
    assert_eq!(response.status == 401, scope.is_some(), "{endpoint}: {response:?}");
    if scope.is_some() {
        assert_eq!(response.header("www-authenticate"), Some("Bearer"), "{endpoint}");
    }
}

/// Returns each described path with each of its methods, and the scope that it needs.
pub(crate) async fn endpoints(server: &Server, token: &Bearer) -> Vec<(String, String, Option<&'static str>)> {
    let description = token.get(server, "/openapi.json").await.json();
    let mut endpoints = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        let described = methods.as_object().unwrap().keys().map(|method| method.to_uppercase());
        let head = methods.get("get").map(|_| "HEAD".to_owned());
        for method in described.chain(head).chain(["OPTIONS".to_owned()]) {
            let scope = scope_of(&method, path);
            endpoints.push((method, path.clone(), scope));
        }
    }
    endpoints
}

#[tokio::test]
async fn each_endpoint_and_method_demands_its_scope() {
    let mut guarded = Guarded::start().await;
    let mut tokens = Vec::new();
    for scope in ["ingest", "read", "erase"] {
        tokens.push((scope, guarded.token(scope, scope, None).await));
    }
    let server = &guarded.server;
    let wrong = Bearer {
        secret: String::new(),
        header: format!("Bearer health_{}", "0".repeat(64)),
    };
    let mut endpoints = endpoints(server, &tokens[1].1).await;
    for (_, path, _) in &mut endpoints {
        *path = match path.as_str() {
            // A stream would not end.
            "/feed" => "/feed?users=none".to_owned(),
            path => path.replace("{user_id}", "999").replace("{file}", "main.js"),
        };
    }
    for (method, path, scope) in &endpoints {
        let response = server.connect().await.request(method, path, &[], b"").await;
        check_refusal(&response, *scope, &format!("{method} {path}"));
        for (has, token) in &tokens {
            let response = token.request(server, method, path, "").await;
            let is_allowed = scope.is_none_or(|scope| scope.is_empty() || scope == *has);
            assert_eq!(
                response.status == 403,
                !is_allowed,
                "{has} {method} {path}: {response:?}"
            );
            assert_ne!(response.status, 401, "{has} {method} {path}");
        }
    }
    // At the same time, because a wrong token is answered late.
    let with_wrong = endpoints.iter().map(async |(method, path, scope)| {
        let response = wrong.request(server, method, path, "").await;
        check_refusal(&response, *scope, &format!("{method} {path} with a wrong token"));
    });
    join_all(with_wrong).await;
    for (method, path) in [
        ("GET", "/nothing"),
        ("PUT", "/ingest"),
        ("OPTIONS", "*"),
        ("GET", "/page/"),
    ] {
        let response = server.connect().await.request(method, path, &[], b"").await;
        assert_eq!(response.status, 401, "{method} {path}");
        let response = tokens[0].1.request(server, method, path, "").await;
        assert_ne!(response.status, 401, "{method} {path}");
    }
}

#[tokio::test]
async fn a_token_limited_to_users_neither_writes_nor_reads_nor_erases_another() {
    let mut guarded = Guarded::start().await;
    let all = guarded.token("all", "ingest,read,erase", None).await;
    let limited = guarded.token("limited", "ingest,read,erase", Some(&[101, 303])).await;
    let server = &guarded.server;
    for user in [101, 202] {
        assert_eq!(all.post(server, &record(user, 0)).await.status, 200);
    }

    let mixed = format!("[{},{},{}]", record(101, 1), record(202, 1), record(303, 1));
    let response = limited.post(server, &mixed).await;
    assert_eq!((response.status, counts(&response)), (422, [2, 2, 0, 0]));
    assert_eq!(listed_errors(&response), [(1, "user_id".into())]);
    assert!(response.body.contains("the token limited may not access user 202"));
    for body in [record(202, 2), format!("[{},{}]", record(202, 2), record(404, 2))] {
        let response = limited.post(server, &body).await;
        assert_eq!(
            (response.status, counts(&response)),
            (403, [0, 0, 0, 0]),
            "{response:?}"
        );
    }
    let users = limited.get(server, "/users").await.json();
    let ids: Vec<_> = users["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["user_id"].as_i64().unwrap())
        .collect();
    assert_eq!(ids, [101, 303]);
    let paged = limited.get(server, "/users?limit=1").await.json();
    assert_eq!(
        (&paged["users"][0]["user_id"], &paged["next"]),
        (&101.into(), &101.into())
    );
    assert_eq!(
        limited.get(server, "/users?after=101").await.json()["users"][0]["user_id"],
        303
    );
    for path in ["metrics", "metrics/series", "metrics/percentiles", "samples"] {
        let bucket = if path == "metrics/series" { "&bucket=1h" } else { "" };
        let own = format!("/{path}?{RANGE}{bucket}");
        assert_eq!(limited.get(server, &own).await.status, 200, "{own}");
        for other in [202, 999] {
            let other = own.replace("101", &other.to_string());
            assert_eq!(limited.get(server, &other).await.status, 403, "{other}");
        }
    }
    for other in [202, 999] {
        let range = RANGE.replace("101", &other.to_string());
        for path in [format!("/users/{other}"), format!("/samples?{range}")] {
            let refused = limited.request(server, "DELETE", &path, "").await;
            assert_eq!(refused.status, 403, "{path}");
        }
    }
    assert_eq!(limited.request(server, "DELETE", "/users/303", "").await.status, 204);
    let seen = all
        .get(server, &format!("/metrics?{RANGE}").replace("101", "202"))
        .await;
    assert_eq!(
        seen.json()["samples"],
        1,
        "the other user has what was stored with the other token"
    );
}

#[tokio::test]
async fn the_feed_needs_auth_and_sends_only_the_users_of_the_token() {
    let mut guarded = Guarded::start().await;
    let writer = guarded.token("writer", "ingest", None).await;
    let limited = guarded.token("limited", "read", Some(&[101, 202])).await;
    let server = &guarded.server;

    let mut feed = FeedConnection::connect(server.feed).await;
    let hello = feed.event().await;
    assert_eq!(hello["auth"], true);
    let start = hello["cursor"].as_str().unwrap().to_owned();
    feed.send("SUBSCRIBE\nPING\n").await;
    let (event, reason) = feed.event_and_reason().await;
    assert!(event == "error" && reason.contains("AUTH"), "{event} {reason}");
    assert_eq!(feed.event().await["event"], "pong");
    feed.send(format!("AUTH health_{}\n", "0".repeat(64))).await;
    assert_eq!(feed.event().await["event"], "error");
    assert!(feed.is_closed().await);

    let mut feed = writer.feed(server).await;
    feed.send("SUBSCRIBE\n").await;
    let (event, reason) = feed.event_and_reason().await;
    assert!(event == "error" && reason.contains("needs read"), "{event} {reason}");

    let mut live = limited.feed(server).await;
    live.send("SUBSCRIBE users=101,303\n").await;
    let (event, reason) = live.event_and_reason().await;
    assert!(event == "error" && reason.contains("303"), "{event} {reason}");
    live.send("SUBSCRIBE\n").await;
    assert_eq!(live.event().await["event"], "subscribed");
    for user in [303, 101, 404, 202] {
        assert_eq!(writer.post(server, &record(user, 0)).await.status, 200);
    }
    assert_eq!(live.sample().await["user_id"], 101);
    assert_eq!(live.sample().await["user_id"], 202);

    let mut replayed = limited.feed(server).await;
    replayed.send(format!("SUBSCRIBE after={start}\n")).await;
    assert_eq!(replayed.event().await["resumed"], true);
    assert_eq!(replayed.sample().await["user_id"], 101);
    assert_eq!(replayed.sample().await["user_id"], 202);
}

#[tokio::test]
async fn a_revocation_ends_feeds_exports_and_uploads_in_time() {
    let mut guarded = Guarded::with_limits(|server, _| {
        // So that no other limit ends what is open.
        (server.body_timeout, server.write_timeout) = (Duration::from_hours(1), Duration::from_hours(1));
    })
    .await;
    let token = guarded.token("doomed", "ingest,read", None).await;
    let server = &guarded.server;
    server.fill(101).await;
    let mut subscribed = token.subscribed(server).await;
    let mut silent = token.feed(server).await;
    let mut export = server.connect().await;
    let head = format!(
        "GET /samples?{RANGE} HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\n\r\n",
        token.header
    );
    export.send(head).await;
    assert_eq!(export.response_head().await.status, 200);
    let mut upload = server.connect().await;
    upload
        .send(format!(
            "POST /ingest HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\ncontent-type: application/x-ndjson\r\n\
             transfer-encoding: chunked\r\n\r\n",
            token.header
        ))
        .await;
    upload.send_chunk(&records(7, 1)).await;
    // The first line is stored while the upload goes on.
    assert_eq!(subscribed.sample().await["user_id"], 7);

    guarded.revoke("doomed").await;
    let server = &guarded.server;
    for feed in [&mut subscribed, &mut silent] {
        assert!(in_time(bye(feed)).await.contains("revoked"));
    }
    in_time(async { while token.get(server, "/openapi.json").await.status != 401 {} }).await;
    let mut rest = Vec::new();
    // The system may report the cut as a reset.
    let _ = export.read_rest(&mut rest).await;
    assert!(
        !rest.ends_with(b"0\r\n\r\n"),
        "an export that is cut off must not look complete"
    );
    let response = upload.response().await;
    assert_eq!(
        (response.status, counts(&response)),
        (401, [1, 1, 0, 0]),
        "{response:?}"
    );
}

#[tokio::test]
async fn a_feed_client_that_reads_nothing_is_cut_off_when_its_token_is_revoked() {
    let mut guarded = Guarded::start().await;
    let writer = guarded.token("writer", "ingest,read", None).await;
    let token = guarded.token("doomed", "read", None).await;
    let server = &guarded.server;
    let _stalled = token.subscribed(server).await;
    // More than the buffers of both sides hold, so the server waits for the client.
    for user in 1..=6 {
        let body = (0..5000)
            .map(|second| record(user, second))
            .collect::<Vec<_>>()
            .join(",");
        assert_eq!(writer.post(server, &format!("[{body}]")).await.status, 200);
    }
    guarded.revoke("doomed").await;
    let server = &guarded.server;
    let is_open = async || {
        let metrics = writer.get(server, "/-/metrics").await.body;
        !metrics.contains("\nhealth_feed_connections 0\n")
    };
    in_time(async { while is_open().await {} }).await;
}

#[tokio::test]
async fn no_response_may_be_cached_or_embedded_by_a_page_of_another_server() {
    let mut guarded = Guarded::start().await;
    let token = guarded.token("reader", "read", None).await;
    let server = &guarded.server;
    for (path, expected) in [("/users", 200), ("/nothing", 404), ("/ingest", 405), ("/metrics", 400)] {
        let response = token.get(server, path).await;
        assert_eq!(response.status, expected, "{path}");
        for (header, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(response.header(header), Some(value), "{path}");
        }
    }
}

#[tokio::test]
async fn the_first_token_closes_every_server_to_clients_without_one() {
    let one = Server::start().await;
    let url = one.database.url().to_owned();
    let other = Server::with_database(TestDatabase::empty().await, Some(&url), |_, _| {}).await;
    let mut feeds = [one.subscribed("").await, other.subscribed("").await];
    let mut admin = TokenAdmin::connect(&Config::from_url(&url).unwrap()).await.unwrap();
    let token = Bearer::new(&admin.create(&new_token("first", "read", None)).await.unwrap());
    for (server, feed) in [&one, &other].into_iter().zip(&mut feeds) {
        assert!(in_time(bye(feed)).await.contains("token"));
        in_time(async { while server.get("/users").await.status != 401 {} }).await;
        assert_eq!(token.get(server, "/users").await.status, 200);
        assert_eq!(server.get("/-/healthy").await.status, 200);
        assert_eq!(server.get("/-/ready").await.status, 200);
    }
}

#[tokio::test]
async fn wrong_tokens_are_slowed_down_and_right_ones_are_not() {
    let mut guarded = Guarded::start().await;
    let right = guarded.token("right", "read", None).await;
    let server = &guarded.server;
    let wrong = Bearer {
        secret: String::new(),
        header: "Bearer guess".to_owned(),
    };
    for _ in 0..6 {
        assert_eq!(wrong.get(server, "/users").await.status, 401);
    }
    // A busy machine may hold up the right one for longer than the wrong one has to wait, but not each time.
    let mut attempts = 1..=10;
    let right_was_first = async || {
        tokio::select! {
            biased; // If both are ready, the wrong one was not slower.
            _ = wrong.get(server, "/users") => false,
            response = right.get(server, "/users") => {
                assert_eq!(response.status, 200);
                true
            }
        }
    };
    while !right_was_first().await {
        assert!(attempts.next().is_some(), "wrong tokens are answered before right ones");
    }
}

#[tokio::test]
async fn while_no_token_exists_only_local_hosts_and_origins_are_served() {
    let server = Server::start().await;
    let get = async |head: &str| {
        let mut http = server.connect().await;
        http.send(format!("{head}\r\n\r\n")).await;
        http.response().await.status
    };
    for (head, expected) in [
        ("GET /users HTTP/1.1\r\nhost: localhost:8000", 200),
        ("GET /users HTTP/1.1\r\nhost: [::1]", 200),
        ("GET /users HTTP/1.0", 200),
        ("GET /users HTTP/1.1", 400),
        ("GET /users HTTP/1.1\r\nhost: localhost\r\nhost: localhost", 400),
        ("GET /users HTTP/1.1\r\nhost: evil.example", 421),
        ("GET /-/healthy HTTP/1.1\r\nhost: evil.example", 421),
        ("GET /nothing HTTP/1.1\r\nhost: evil.example", 421),
        ("GET http://evil.example/users HTTP/1.1\r\nhost: localhost", 421),
        (
            "GET /users HTTP/1.1\r\nhost: localhost\r\norigin: http://localhost",
            200,
        ),
        (
            "GET /users HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.example",
            403,
        ),
        ("GET /users HTTP/1.1\r\nhost: localhost\r\norigin: null", 403),
        (
            "DELETE /users/1 HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.example",
            403,
        ),
    ] {
        assert_eq!(get(head).await, expected, "{head}");
    }
}
