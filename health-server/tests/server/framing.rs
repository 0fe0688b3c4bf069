//! Where a request ends (RFC 9112, 6 and 7): after a response that leaves it in doubt, nothing else is executed.

use crate::{
    client::{HttpConnection, Response},
    support::Server,
};

/// Returns the elements of a header, of all its lines.
fn values<'a>(response: &'a Response, name: &str) -> Vec<&'a str> {
    let lines = response.headers.iter().filter(|(found, _)| found == name);
    lines.flat_map(|(_, value)| value.split(',').map(str::trim)).collect()
}

/// The request that follows each request of these tests. It has a route and a method that no other request has.
const HIDDEN: &str = "OPTIONS /users HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// The line of the metrics that counts hidden requests that were executed.
const HIDDEN_COUNT: &str =
    "health_http_request_duration_seconds_count{route=\"/users\",method=\"OPTIONS\",status=\"204\"} ";

/// Requests that get every kind of response: 2xx, 400, 404, 405, 415, and one whose handler reads the body.
const TARGETS: [&str; 10] = [
    "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n",
    "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n",
    "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\n",
    "POST /ingest HTTP/1.1\r\nhost: localhost\r\n",
    "GET /-/healthy HTTP/1.1\r\nhost: localhost\r\n",
    "GET /metrics HTTP/1.1\r\nhost: localhost\r\n",
    "POST /nowhere HTTP/1.1\r\nhost: localhost\r\n",
    "PUT /samples HTTP/1.1\r\nhost: localhost\r\n",
    "OPTIONS /ingest HTTP/1.1\r\nhost: localhost\r\n",
    "DELETE /users/1 HTTP/1.1\r\nhost: localhost\r\n",
];

/// Values of `Transfer-Encoding` that are not a single `chunked`, as lines of a head.
const TRANSFER_CODINGS: [&str; 21] = [
    "transfer-encoding: chunked, chunked",
    "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
    "transfer-encoding: gzip, chunked",
    "transfer-encoding: gzip\r\nTransfer-Encoding: chunked",
    "transfer-encoding: chunked\r\ntransfer-encoding: gzip",
    "transfer-encoding: chunked, gzip",
    "transfer-encoding: identity",
    "transfer-encoding: identity, chunked",
    "transfer-encoding: chunked, identity",
    "transfer-encoding: identity\r\ntransfer-encoding: chunked",
    "transfer-encoding: ,chunked",
    "transfer-encoding: chunked,",
    "transfer-encoding:",
    "transfer-encoding: \"chunked\"",
    "transfer-encoding: chunked;q=1",
    "transfer-encoding: xchunked",
    "transfer-encoding: chunked\u{b}",
    "transfer-encoding : chunked",
    " transfer-encoding: chunked",
    "transfer-encoding: gzip,\r\n chunked",
    "transfer-encoding:\r\n\tchunked",
];

/// Values of `Content-Length` that are no single number, and the header beside `Transfer-Encoding`.
const CONTENT_LENGTHS: [&str; 14] = [
    "content-length: 5\r\ncontent-length: 6",
    "content-length: 0\r\ncontent-length: 5",
    "content-length: 5, 5",
    "content-length: 5, 6",
    "content-length: +5",
    "content-length: -5",
    "content-length: 0x5",
    "content-length: 5 5",
    "content-length: 5.0",
    "content-length: 1e1",
    "content-length:",
    "content-length: 99999999999999999999",
    "content-length: 5\r\ntransfer-encoding: chunked",
    "transfer-encoding: chunked\r\ncontent-length: 5",
];

/// Bodies of `Transfer-Encoding: chunked` whose framing is broken.
const BROKEN_CHUNKS: [&str; 16] = [
    "0x5\r\n     \r\n0\r\n\r\n",
    "+5\r\n     \r\n0\r\n\r\n",
    "-5\r\n     \r\n0\r\n\r\n",
    " 5\r\n     \r\n0\r\n\r\n",
    "5 5\r\n     \r\n0\r\n\r\n",
    "g\r\n     \r\n0\r\n\r\n",
    "\r\n     \r\n0\r\n\r\n",
    "10000000000000005\r\n     \r\n0\r\n\r\n",
    "5\n     \r\n0\r\n\r\n",
    "5\r     \r\n0\r\n\r\n",
    "5;a\n     \r\n0\r\n\r\n",
    "5\r\n      0\r\n\r\n",
    "5\r\n     \n0\r\n\r\n",
    "4\r\n     \r\n0\r\n\r\n",
    "5\r\n     \r\n",
    "5\r\n     \r\n0\r\nno trailer\n\r\n",
];

/// Requests that end in the same place for everyone.
const CERTAIN: [(&str, &str); 12] = [
    ("content-length: 5", "     "),
    ("content-length: 5\r\ncontent-length: 5", "     "),
    ("content-length: 005", "     "),
    ("content-length: 0", ""),
    ("transfer-encoding: chunked", "5\r\n     \r\n0\r\n\r\n"),
    ("Transfer-Encoding: CHUNKED", "5\r\n     \r\n0\r\n\r\n"),
    ("transfer-encoding: \t chunked \t ", "5\r\n     \r\n0\r\n\r\n"),
    ("transfer-encoding: chunked", "00005\r\n     \r\n000\r\n\r\n"),
    ("transfer-encoding: chunked", "5;a=b;c=\"d\"\r\n     \r\n0;e\r\n\r\n"),
    ("transfer-encoding: chunked", "5 \r\n     \r\n0\t\r\n\r\n"),
    ("transfer-encoding: chunked", "2\r\n  \r\n3\r\n   \r\n0\r\n\r\n"),
    ("transfer-encoding: chunked", "5\r\n     \r\n0\r\na: b\r\nc: d\r\n\r\n"),
];

/// Sends a request and the hidden one, and returns the statuses of all responses until the connection ends.
async fn statuses(server: &Server, request: String) -> Vec<u16> {
    let mut http = HttpConnection::connect(server.http).await;
    http.send(request + HIDDEN).await;
    http.finish().await;
    let mut text = Vec::new();
    http.read_rest(&mut text).await.unwrap();
    let text = String::from_utf8(text).unwrap();
    // The detail of a problem may name the version, but without a status.
    let begins = text.match_indices("HTTP/1.").map(|(begin, _)| &text[begin..]);
    begins
        .filter_map(|response| response.get(9..12)?.parse().ok())
        .collect()
}

/// Returns how many hidden requests the server has executed.
async fn executed(server: &Server) -> u32 {
    let metrics = server.get("/-/metrics").await.body;
    let count = metrics.lines().find_map(|line| line.strip_prefix(HIDDEN_COUNT));
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn nothing_is_executed_after_a_request_whose_end_is_in_doubt() {
    let server = Server::start().await;
    let chunked = "5\r\n     \r\n0\r\n\r\n";
    let heads = TRANSFER_CODINGS.into_iter().chain(CONTENT_LENGTHS);
    let shapes = heads.flat_map(|head| [(head, chunked), (head, "     ")]);
    let shapes = shapes.chain(BROKEN_CHUNKS.map(|body| ("transfer-encoding: chunked", body)));
    for (head, body) in shapes {
        for target in TARGETS {
            let statuses = statuses(&server, format!("{target}{head}\r\n\r\n{body}")).await;
            assert!(statuses.len() <= 1, "{target:?} {head:?} {body:?}: {statuses:?}");
        }
    }
    assert_eq!(executed(&server).await, 0);
}

#[tokio::test]
async fn the_next_request_is_executed_after_one_whose_end_is_certain() {
    let server = Server::start().await;
    for (head, body) in CERTAIN {
        for target in TARGETS {
            let statuses = statuses(&server, format!("{target}{head}\r\n\r\n{body}")).await;
            assert_eq!(
                statuses.get(1),
                Some(&204),
                "{target:?} {head:?} {body:?}: {statuses:?}"
            );
        }
    }
    let expected = CERTAIN.len() * TARGETS.len();
    assert_eq!(usize::try_from(executed(&server).await), Ok(expected));
}

#[tokio::test]
async fn other_transfer_codings_than_one_chunked_are_named_in_the_response() {
    let server = Server::start().await;
    for (codings, quoted) in [
        ("chunked, chunked", "\"chunked, chunked\""),
        ("gzip\r\ntransfer-encoding: chunked", "\"gzip, chunked\""),
    ] {
        for target in TARGETS {
            let mut http = server.connect().await;
            http.send(format!("{target}transfer-encoding: {codings}\r\n\r\n0\r\n\r\n"))
                .await;
            let response = http.response().await;
            assert_eq!((response.status, response.header("connection")), (501, Some("close")));
            assert!(response.problem().contains(quoted), "{response:?}");
            assert!(http.is_closed().await);
        }
    }
}

#[tokio::test]
async fn chunks_over_http_1_0_and_the_tunnel_of_a_connect_end_the_connection() {
    let server = Server::start().await;
    let chunked = "POST /ingest HTTP/1.0\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(statuses(&server, chunked.to_owned()).await, [400]);
    for (host, status) in [("localhost", 404), ("example.org", 421)] {
        let tunnel = format!("CONNECT {host}:80 HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(statuses(&server, tunnel).await, [status]);
    }
    assert_eq!(executed(&server).await, 0);
}

#[tokio::test]
async fn a_body_that_is_not_declared_gets_411_and_is_not_executed() {
    let server = Server::start().await;
    for version in ["1.0\r\nconnection: keep-alive", "1.1\r\nhost: localhost"] {
        for body in ["", HIDDEN, "{\"user_id\":1,\"steps\":1}", &" ".repeat(1_000_000)] {
            let mut http = server.connect().await;
            let head = format!("POST /ingest HTTP/{version}\r\ncontent-type: application/json\r\n\r\n");
            // A client that sends everything before it reads must still receive the response.
            http.send(head + body).await;
            let response = http.response().await;
            assert_eq!(response.status, 411);
            assert_eq!(values(&response, "connection"), ["close"]);
            assert!(response.problem().contains("Content-Length"), "{response:?}");
            assert!(http.is_closed().await);
        }
    }
    assert_eq!(executed(&server).await, 0);
    let mut http = server.connect().await;
    let headers = [("content-type", "application/json"), ("content-length", "0")];
    assert_eq!(http.request("POST", "/ingest", &headers, b"").await.status, 400);
}

#[tokio::test]
async fn a_response_says_either_that_the_connection_stays_open_or_that_it_closes() {
    let server = Server::start().await;
    for (request, status, connection) in [
        ("GET /-/healthy HTTP/1.0\r\n\r\n", 200, &[][..]),
        (
            "GET /-/healthy HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
            200,
            &["keep-alive"],
        ),
        (
            "GET /-/healthy HTTP/1.0\r\nconnection: keep-alive, close\r\n\r\n",
            200,
            &[],
        ),
        (
            "POST /ingest HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
            411,
            &["close"],
        ),
        ("GET /feed HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", 200, &["close"]),
        (
            "CONNECT localhost:80 HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
            404,
            &["close"],
        ),
        (
            "GET /-/healthy HTTP/1.1\r\nhost: localhost\r\n\r\n",
            200,
            &["keep-alive"],
        ),
        (
            "GET /-/healthy HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
            200,
            &["close"],
        ),
        ("GET /feed HTTP/1.1\r\nhost: localhost\r\n\r\n", 200, &["close"]),
        (
            "CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\n",
            404,
            &["close"],
        ),
    ] {
        let mut http = server.connect().await;
        http.send(request).await;
        let response = http.response_head().await;
        assert_eq!(response.status, status, "{request:?}");
        assert_eq!(values(&response, "connection"), connection, "{request:?}");
    }
}

#[tokio::test]
async fn a_body_that_was_not_invited_is_not_executed() {
    let server = Server::start().await;
    for target in TARGETS {
        let body = HIDDEN.repeat(3_000);
        let head = format!("{target}expect: 100-continue\r\ncontent-length: {}\r\n\r\n", body.len());
        let mut statuses = statuses(&server, head + &body).await;
        statuses.retain(|status| *status != 100);
        // The request after the body is executed if the server has read the whole body.
        assert!(matches!(statuses.len(), 1 | 2), "{target:?}: {statuses:?}");
    }
    assert!(usize::try_from(executed(&server).await).unwrap() <= TARGETS.len());
}
