//! `GET /feed` as a client sees it: server-sent events.

mod limits;
mod tokens;

use serde_json::json;

use crate::{
    client::{EventStream, HttpConnection},
    proxy::PausableProxy,
    support::{Server, record, records},
};
use test_support::TestDatabase;

/// Returns the seconds of a day at which the next samples of a stream were measured, up to the given one.
async fn seconds_until(stream: &mut EventStream, last: i64) -> Vec<i64> {
    let mut seconds = Vec::new();
    while seconds.last() != Some(&last) {
        let event = stream.event().await;
        assert_eq!(event.name, "sample");
        let time = event.data["timestamp"].as_str().unwrap().to_owned();
        let [hour, minute, second] = [11..13, 14..16, 17..19].map(|part| time[part].parse::<i64>().unwrap());
        seconds.push(hour * 3600 + minute * 60 + second);
    }
    seconds
}

#[tokio::test]
async fn a_stream_has_the_events_of_the_tcp_feed_as_server_sent_events() {
    let server = Server::start().await;
    let mut over_tcp = server.subscribed("").await;
    let mut stream = EventStream::open(server.http, "/feed", &[("accept", "text/event-stream")]).await;
    assert_eq!(stream.head.status, 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(stream.head.header(name), Some(value), "{:?}", stream.head);
    }
    assert!(stream.head.header("x-request-id").is_some());
    assert_eq!(stream.block().await.as_deref(), Some("retry: 2000"));
    let subscribed = stream.event().await;
    assert_eq!(subscribed.data, json!({"event": "subscribed", "resumed": true}));
    assert!(subscribed.id.is_some_and(|id| !id.is_empty()));

    for body in [
        r#"{"user_id":1,"timestamp":"2025-03-02T18:00:00.5+01:00","heart_rate":72,"source":"a\nb ü"}"#
            .replace("\\n", " "),
        r#"{"user_id":1,"timestamp":"2025-03-02T18:00:00.5+01:00","steps":3,"source":"data: id: \u2028"}"#.to_owned(),
        record(2, 0),
    ] {
        assert_eq!(server.post("json", body).await.status, 200);
        let (line, event) = (over_tcp.event().await, stream.event().await);
        assert_eq!((event.name.as_str(), &event.data), ("sample", &line));
        assert_eq!(event.id.as_deref(), line["cursor"].as_str());
    }
    let heartbeat = stream.event_or_heartbeat().await;
    assert_eq!(heartbeat.name, "heartbeat");
    assert_eq!(heartbeat.id.as_deref(), heartbeat.data["cursor"].as_str());
    assert!(heartbeat.data["time"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn a_stream_sends_the_users_and_the_pace_that_its_parameters_name() {
    let server = Server::start().await;
    let mut stream = server.stream("users=2%2C3&every=1").await;
    assert_eq!(stream.event().await.name, "subscribed");
    for user in [1, 2, 4, 3] {
        server.post("json", record(user, 0)).await;
    }
    assert_eq!(stream.event().await.data["user_id"], 2);
    assert_eq!(stream.event().await.data["user_id"], 3);

    let mut paced = server.stream("every=500").await;
    assert_eq!(paced.event().await.name, "subscribed");
    let mut all = server.stream("").await;
    assert_eq!(all.event().await.name, "subscribed");
    server.post("x-ndjson", records(5, 100)).await;
    assert_eq!(seconds_until(&mut all, 99).await.len(), 100);
    assert!(seconds_until(&mut paced, 99).await.len() < 100);
}

#[tokio::test]
async fn a_wrong_parameter_is_named_and_the_connection_serves_the_next_request() {
    let server = Server::start().await;
    let mut http = server.connect().await;
    let long = format!("users={}1", "1,".repeat(2048));
    for (query, part) in [
        ("users=x", "users \"x\" is not a list"),
        ("users=", "users \"\" is not"),
        ("users=1,,2", "users"),
        ("users=0", "users"),
        (&long, "users is longer than 4096 bytes"),
        ("every=0", "every \"0\" is not a number of milliseconds"),
        ("every=3600001", "every"),
        ("every=-1", "every"),
        (
            "user=1",
            "user is not a known parameter: this endpoint has users, every, after",
        ),
        ("USERS=1", "USERS is not a known"),
        ("users=1&users=2", "users is given more than once"),
        ("after=a&after=b", "after is given more than once"),
        ("users=x&every=y&z=1", "every"),
    ] {
        let response = http.request("GET", &format!("/feed?{query}"), &[], b"").await;
        assert_eq!(response.status, 400, "{query}");
        assert!(response.problem().contains(part), "{query}: {response:?}");
    }
}

#[tokio::test]
async fn an_unusable_cursor_gives_200_and_resumed_false_with_a_new_resume_point() {
    let server = Server::start().await;
    let other_database = "7.0000000a";
    for (query, header) in [
        ("after=nonsense", None),
        ("after=", None),
        ("after=0-0", None),
        ("after=%00%0A", None),
        (&format!("after={other_database}"), None),
        ("", Some("nonsense")),
        ("", Some(other_database)),
        ("", Some("\u{e4}")),
    ] {
        let headers: Vec<_> = header.iter().map(|id| ("last-event-id", *id)).collect();
        let mut stream = server.resumed_stream(query, &headers).await;
        let subscribed = stream.event().await;
        assert_eq!(
            (subscribed.name.as_str(), &subscribed.data["resumed"]),
            ("subscribed", &json!(false)),
            "{query} {header:?}"
        );
        assert!(
            subscribed.data["reason"]
                .as_str()
                .is_some_and(|reason| !reason.is_empty())
        );
        // What is committed from now on reaches this stream, and a client that resumes from here.
        assert_eq!(
            server
                .post("json", record(1, 0).replace("70", &fresh_rate()))
                .await
                .status,
            200
        );
        assert_eq!(stream.event().await.data["user_id"], 1);
        let id = subscribed.id.unwrap();
        let mut resumed = server.resumed_stream("", &[("last-event-id", &id)]).await;
        assert_eq!(resumed.event().await.data["resumed"], true);
        assert_eq!(resumed.event().await.data["user_id"], 1);
    }
}

/// Returns a heart rate that no call before has returned.
fn fresh_rate() -> String {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    static LAST: AtomicU32 = AtomicU32::new(30);
    LAST.fetch_add(1, Relaxed).to_string()
}

#[tokio::test]
async fn a_client_resumes_from_the_id_of_any_event_and_the_header_wins_over_the_parameter() {
    let server = Server::start().await;
    let mut stream = server.stream("").await;
    let start = stream.event().await.id.unwrap();
    server.post("json", record(1, 1)).await;
    let first = stream.event().await.id.unwrap();
    drop(stream);
    // A new sample, a late one, and one of another user.
    server.post("json", record(1, 3)).await;
    server.post("json", record(1, 2)).await;
    server.post("json", record(2, 5)).await;

    let expect_resumed = async |query: &str, headers: &[(&str, &str)], expected: &[i64]| {
        let mut stream = server.resumed_stream(query, headers).await;
        let subscribed = stream.event().await;
        assert_eq!(subscribed.data, json!({"event": "subscribed", "resumed": true}));
        assert!(subscribed.id.is_some());
        assert_eq!(seconds_until(&mut stream, *expected.last().unwrap()).await, expected);
    };
    expect_resumed("", &[("last-event-id", &start)], &[1, 3, 2, 5]).await;
    expect_resumed(&format!("after={start}"), &[], &[1, 3, 2, 5]).await;
    expect_resumed("", &[("Last-Event-ID", &first)], &[3, 2, 5]).await;
    expect_resumed(&format!("after={start}&users=2"), &[("last-event-id", &first)], &[5]).await;
    expect_resumed(&format!("after={start}"), &[("last-event-id", &first)], &[3, 2, 5]).await;
    expect_resumed("after=nonsense", &[("last-event-id", &first)], &[3, 2, 5]).await;
    // A client that has no id yet.
    expect_resumed(&format!("after={first}"), &[("last-event-id", "")], &[3, 2, 5]).await;
}

#[tokio::test]
async fn a_stream_that_is_read_too_slowly_says_how_much_was_missed_and_from_where_to_resume() {
    let server = Server::with_limits(|_, core| core.subscriber_queue = 10).await;
    let mut stream = server.stream("").await;
    stream.event().await;
    server.post("x-ndjson", records(1, 500)).await;
    let lagged = loop {
        let event = stream.event().await;
        if event.name == "lagged" {
            break event;
        }
    };
    assert!(lagged.data["missed"].as_i64().unwrap() > 0);
    assert_eq!(lagged.id.as_deref(), lagged.data["cursor"].as_str());
    let mut resumed = server
        .resumed_stream("", &[("last-event-id", &lagged.id.unwrap())])
        .await;
    assert_eq!(resumed.event().await.data["resumed"], true);
    assert_eq!(resumed.event().await.name, "sample");
}

#[tokio::test]
async fn other_methods_are_answered_as_everywhere() {
    let server = Server::start().await;
    let mut http = server.connect().await;
    let options = http.request("OPTIONS", "/feed", &[], b"").await;
    assert_eq!(
        (options.status, options.header("allow")),
        (204, Some("GET, HEAD, OPTIONS"))
    );
    let post = http.request("POST", "/feed", &[], b"").await;
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
    let wrong = http.request("HEAD", "/feed?users=x", &[], b"").await;
    assert_eq!(wrong.status, 400);
    let head = server.connect().await.request("HEAD", "/feed", &[], b"").await;
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, Some("text/event-stream"))
    );
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
}

#[tokio::test]
async fn a_stream_goes_on_after_the_end_of_the_input_also_for_old_clients() {
    let server = Server::start().await;
    let mut stream = server.stream("").await;
    stream.event().await;
    stream.finish().await;
    server.post("json", record(1, 0)).await;
    assert_eq!(stream.event().await.data["user_id"], 1);

    // HTTP/1.0 has no chunks: the body ends with the connection.
    let mut old = HttpConnection::connect(server.http).await;
    old.send("GET /feed HTTP/1.0\r\nhost: localhost\r\n\r\n").await;
    let head = old.response_head().await;
    assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
    let (running, _database) = server.stop();
    let mut rest = Vec::new();
    old.read_rest(&mut rest).await.unwrap();
    let rest = String::from_utf8(rest).unwrap();
    assert!(rest.starts_with("retry: 2000\n\nevent: subscribed\n"), "{rest}");
    assert!(rest.ends_with("\"the server is shutting down\"}\n\n"), "{rest}");
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_comment_shows_every_15_seconds_that_a_stream_without_events_is_alive() {
    let database = TestDatabase::new().await;
    let proxy = PausableProxy::start(database.url()).await;
    let server = Server::with_database(database, Some(&proxy.url), |_, _| {}).await;
    let id = server.stream("").await.event().await.id.unwrap();
    proxy.pause();
    let began = tokio::time::Instant::now();
    // The server cannot ask its database whether the cursor is usable.
    let mut stream = server.resumed_stream("", &[("last-event-id", &id)]).await;
    assert_eq!(stream.block().await.as_deref(), Some(": alive"));
    let silence = began.elapsed().as_secs_f64();
    // Not after 30 seconds, and perhaps late on a busy machine.
    assert!((14.0..29.0).contains(&silence), "{silence}");
    proxy.resume();
    assert_eq!(
        stream.event().await.data,
        json!({"event": "subscribed", "resumed": true})
    );
}

#[tokio::test]
async fn a_page_of_another_server_cannot_open_a_stream() {
    let server = Server::start().await;
    for (headers, status) in [
        ("host: evil.example", 421),
        ("host: localhost\r\norigin: http://evil.example", 403),
        ("host: localhost\r\norigin: null", 403),
        ("host: localhost\r\nhost: localhost", 400),
        ("accept: */*", 400),
    ] {
        let mut http = server.connect().await;
        http.send(format!("GET /feed HTTP/1.1\r\n{headers}\r\n\r\n")).await;
        assert_eq!(http.response().await.status, status, "{headers}");
    }
}
