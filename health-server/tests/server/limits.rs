//! What there is a limit for, and what is said behind it.

use health_server::{ByteSize, Limits, Span};

use crate::{
    client::{Http, Lines},
    support::{Server, record, records},
};

#[tokio::test]
async fn a_client_that_is_slow_to_ask_is_let_go() {
    let server = Server::with(Limits {
        header_timeout: Span::millis(200),
        ..Limits::default()
    })
    .await;
    for beginning in ["", "GET /-/healthy HT"] {
        let mut http = server.connect().await;
        http.send(beginning).await;
        assert!(http.is_closed().await, "{beginning:?}");
    }
}

#[tokio::test]
async fn a_client_that_stops_within_its_body_is_told_so() {
    let server = Server::with(Limits {
        body_timeout: Span::millis(200),
        ..Limits::default()
    })
    .await;
    for kind in ["json", "x-ndjson"] {
        let mut http = server.connect().await;
        http.send(format!(
            "POST /ingest HTTP/1.1\r\ncontent-type: application/{kind}\r\ncontent-length: 100\r\n\r\n{{"
        ))
        .await;
        let answer = http.answer().await;
        assert_eq!(answer.status, 408);
        assert!(answer.problem().contains("200ms"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_head_up_to_the_limit_is_taken_however_long() {
    let server = Server::with(Limits {
        max_header: ByteSize::mib(1),
        ..Limits::default()
    })
    .await;
    let mut http = server.connect().await;
    let answer = http
        .ask("GET", "/-/healthy", &[("x", &"x".repeat(1_000_000))], b"")
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let server = Server::with(Limits {
        max_header: ByteSize::bytes(1000),
        ..Limits::default()
    })
    .await;
    for head in [
        format!("GET /-/healthy HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(2_000_000)),
        format!("GET /-/healthy?{} HTTP/1.1\r\n\r\n", "x".repeat(2000)),
    ] {
        let mut http = server.connect().await;
        // A client that sends before it reads hears why all the same.
        http.try_send(head).await.unwrap();
        let answer = http.answer().await;
        assert_eq!(answer.status, 431);
        assert!(answer.problem().contains("too large"), "{answer:?}");
        http.finish().await;
        assert!(http.is_closed().await);
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let limits = Limits {
        max_connections: 1,
        max_feed_connections: 1,
        ..Limits::default()
    };
    let server = Server::with(limits).await;
    let mut first = server.connect().await;
    assert_eq!(first.ask("GET", "/-/healthy", &[], b"").await.status, 200);
    let mut second = Http::connect(server.http).await;
    let answer = second.answer().await;
    assert_eq!(answer.status, 503);
    assert!(
        answer
            .header("retry-after")
            .is_some_and(|seconds| seconds.parse::<u32>().is_ok())
    );
    assert!(answer.problem().contains("connections"), "{answer:?}");
    assert!(second.is_closed().await);
    assert_eq!(first.ask("GET", "/-/healthy", &[], b"").await.status, 200);

    let _first = server.feed().await;
    let mut second = Lines::connect(server.feed).await;
    assert_eq!(second.told().await.0, "error");
    assert_eq!(second.told().await.0, "bye");
    assert!(second.is_closed().await);
}

#[tokio::test]
async fn whoever_does_not_ask_makes_way_for_whoever_does() {
    let limits = Limits {
        max_connections: 3,
        idle_grace: Span::millis(0),
        ..Limits::default()
    };
    let server = Server::with(limits).await;
    // One that has sent half a head, one that has had its answer, and one whose upload is under way.
    let mut slow = server.connect().await;
    slow.send("GET /-/heal").await;
    let mut idle = server.connect().await;
    assert_eq!(idle.ask("GET", "/-/healthy", &[], b"").await.status, 200);
    let mut busy = server.connect().await;
    let body = record(1, 0);
    busy.send(format!(
        "POST /ingest HTTP/1.1\r\nexpect: 100-continue\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ))
    .await;
    assert_eq!(busy.head().await.status, 100);

    let mut first = server.connect().await;
    assert_eq!(first.ask("GET", "/-/healthy", &[], b"").await.status, 200);
    assert!(slow.is_closed().await);
    let mut second = server.connect().await;
    assert_eq!(second.ask("GET", "/-/healthy", &[], b"").await.status, 200);
    assert!(idle.is_closed().await);
    busy.send(body).await;
    assert_eq!(busy.answer().await.status, 200);
}

#[tokio::test]
async fn a_timestamp_ahead_of_the_clock_is_refused_beyond_the_limit() {
    let server = Server::with(Limits {
        max_future: Span::seconds(3600),
        ..Limits::default()
    })
    .await;
    let ahead = |minutes| {
        let time = health_core::format_timestamp(chrono::Utc::now() + chrono::TimeDelta::minutes(minutes));
        format!(r#"{{"user_id":1,"timestamp":"{time}","steps":1}}"#)
    };
    assert_eq!(server.post("json", ahead(59)).await.status, 200);
    assert_eq!(server.post("json", ahead(61)).await.status, 422);
}

#[tokio::test]
async fn large_bodies_share_their_memory() {
    let limits = Limits {
        max_body: ByteSize::bytes(200_000),
        body_memory: ByteSize::bytes(200_000),
        ingest_deadline: Span::millis(300),
        ..Limits::default()
    };
    let server = Server::with(limits).await;
    let padding = " ".repeat(150_000);
    let head = "POST /ingest HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 180000\r\n\r\n";
    let mut first = server.connect().await;
    first.send(format!("{head}{padding}")).await;
    // The first one's share is taken once its bytes were read: ask until it shows.
    let mut second = loop {
        let answer = server.post("json", format!("{padding}{}", record(1, 0))).await;
        if answer.status == 503 {
            break answer;
        }
    };
    assert!(second.header("retry-after").is_some());
    second.body.clear();
    // Small ones are not concerned, and the first goes on.
    assert_eq!(server.post("json", record(1, 1)).await.status, 200);
    let rest = record(1, 2);
    first.send(format!("{rest}{}", " ".repeat(30_000 - rest.len()))).await;
    assert_eq!(first.answer().await.status, 200);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    let server = Server::with(Limits {
        write_timeout: Span::millis(200),
        ..Limits::default()
    })
    .await;
    assert_eq!(server.post("x-ndjson", records(1, 60_000)).await.status, 200);
    let mut deaf = server.connect().await;
    let export = "GET /samples?user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z HTTP/1.1\r\n\r\n";
    deaf.send(export.repeat(5)).await;
    loop {
        let counters = server.get("/-/metrics").await.body;
        let open = counters
            .lines()
            .find_map(|line| line.strip_prefix("health_http_connections "));
        // The one that asks, and at times the one that asked before.
        if open == Some("1") {
            break;
        }
    }
    // What was sent is still there to be read; the end is not.
    let mut rest = Vec::new();
    let _ = deaf.read_rest(&mut rest).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"));
}
