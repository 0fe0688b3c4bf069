//! How a body arrives: compressed, in chunks, too large, interrupted.

use std::time::Duration;

use tokio::{spawn, task::yield_now, time::timeout};

use super::support::{GZIP, JSON, NDJSON, chunked, gzip};
use crate::support::{Server, counts, record, records};

/// Longer than a shutdown takes that waits for nobody.
const END_TIMEOUT: Duration = Duration::from_mins(2);

#[tokio::test]
async fn several_gzip_members_are_one_body() {
    let server = Server::start().await;
    let lines = records(1, 20_000);
    let response = server.post_with(&[NDJSON, GZIP], gzip(&lines)).await;
    assert_eq!(counts(&response), [20_000, 20_000, 0, 0]);
    let (first, second) = lines.split_at(lines.len() / 3);
    let members = [gzip(first), gzip(""), gzip(second)].concat();
    assert_eq!(
        counts(&server.post_with(&[NDJSON, GZIP], &members).await),
        [20_000, 0, 0, 20_000]
    );
    let array = format!("[{},{}]", record(1, 0), record(2, 0));
    assert_eq!(
        counts(
            &server
                .post_with(&[JSON, ("content-encoding", "X-GZIP")], gzip(array))
                .await
        ),
        [2, 1, 0, 1]
    );
    let encoded = chunked(&members, 7);
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n").await;
    http.send(encoded).await;
    assert_eq!(counts(&http.response().await), [20_000, 0, 0, 20_000]);
}

#[tokio::test]
async fn damaged_gzip_is_a_400_with_the_counts_of_what_was_stored() {
    let server = Server::start().await;
    // The second of two members is damaged. The records of the first are stored and counted.
    let (first, second) = (gzip(records(1, 10)), gzip(records(2, 10)));
    let mut flipped = second.clone();
    let crc = flipped.len() - 8;
    flipped[crc] ^= 1;
    for damaged in [
        &second[..second.len() - 1],
        &second[..second.len() / 2],
        &second[..5],
        b"no gzip at all",
        &flipped,
    ] {
        let response = server.post_with(&[NDJSON, GZIP], [&first, damaged].concat()).await;
        assert_eq!(response.status, 400, "{response:?}");
        assert!(response.problem().contains("gzip"), "{response:?}");
        let [accepted, ..] = counts(&response);
        assert!((10..=20).contains(&accepted), "{response:?}");
        assert_eq!(server.samples(1).await, 10);
    }
    let response = server.post_with(&[JSON, GZIP], &gzip(record(3, 0))[..30]).await;
    assert_eq!(response.status, 400);
    assert_eq!(server.post_with(&[JSON, GZIP], record(3, 0)).await.status, 400);
    assert_eq!(server.samples(3).await, 0);
}

#[tokio::test]
async fn chunks_may_split_a_record_anywhere() {
    let server = Server::start().await;
    for (kind, size) in [("json", 1), ("x-ndjson", 1), ("x-ndjson", 3), ("x-ndjson", 1000)] {
        let body = if kind == "json" {
            format!("[{}]", record(1, 0))
        } else {
            records(1, 5)
        };
        let mut http = server.connect().await;
        http.send(format!(
            "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/{kind}\r\ntransfer-encoding: chunked\r\n\r\n"
        ))
        .await;
        http.send(chunked(body.as_bytes(), size)).await;
        let response = http.response().await;
        assert_eq!(response.status, 200, "{response:?}");
        // The connection can be used again.
        assert_eq!(http.request("GET", "/-/healthy", &[], b"").await.status, 200);
    }
    assert_eq!(server.samples(1).await, 5);
}

#[tokio::test]
async fn a_compressed_transfer_coding_is_refused() {
    let server = Server::start().await;
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: gzip, chunked\r\n\r\n")
        .await;
    http.send(chunked(record(1, 0).as_bytes(), 100)).await;
    let response = http.response().await;
    assert_eq!(response.status, 501);
    assert!(response.problem().contains("gzip, chunked"), "{response:?}");
    assert_eq!(server.samples(1).await, 0);
}

#[tokio::test]
async fn broken_framing_is_a_400_with_the_counts_of_what_was_stored() {
    let server = Server::start().await;
    let (first, half) = (records(1, 3), &record(1, 3)[..20]);
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    http.send(format!("{:x}\r\n{first}{half}\r\nxyz\r\n", first.len() + half.len()))
        .await;
    let response = http.response().await;
    assert_eq!((response.status, counts(&response)), (400, [3, 3, 0, 0]));
    assert!(http.is_closed().await);
    // A body that ends before its declared length. The client still reads.
    let mut http = server.connect().await;
    http.send(format!(
        "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ncontent-length: 1000\r\n\r\n{first}{half}"
    ))
    .await;
    http.finish().await;
    let response = http.response().await;
    assert_eq!((response.status, counts(&response)), (400, [3, 0, 0, 3]));
}

#[tokio::test]
async fn records_that_arrived_before_a_gzip_body_breaks_off_are_stored() {
    let server = Server::start().await;
    let compressed = gzip(records(1, 10));
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let chunk_size = format!("{:x}\r\n", compressed.len());
    http.send([chunk_size.as_bytes(), &compressed, b"\r\nnot a chunk\r\n"].concat())
        .await;
    let response = http.response().await;
    assert_eq!((response.status, counts(&response)), (400, [10, 10, 0, 0]));
}

#[tokio::test]
async fn other_media_types_and_encodings_are_a_415() {
    let server = Server::start().await;
    for headers in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "application/json-seq")],
        &[JSON, ("content-encoding", "br")],
        &[JSON, ("content-encoding", "gzip, gzip")],
        &[JSON, ("content-encoding", "deflate")],
    ] {
        let response = server.post_with(headers, record(1, 0)).await;
        assert_eq!(response.status, 415, "{headers:?}");
        assert!(response.problem().contains("send"), "{response:?}");
    }
    assert_eq!(server.samples(1).await, 0);
}

#[tokio::test]
async fn a_json_body_over_the_limit_stores_nothing() {
    let server = Server::with_limits(|server, _| server.max_body = 100_000).await;
    let array = |bytes: usize| {
        let mut body = format!("[{}", record(1, 0));
        body.push_str(&" ".repeat(bytes - body.len() - 1));
        body + "]"
    };
    assert_eq!(server.post("json", array(100_000)).await.status, 200);
    let refused = server.post("json", array(100_001).replace(":1,", ":2,")).await;
    assert_eq!(refused.status, 413);
    assert!(refused.problem().contains("100000"), "{refused:?}");
    // The declared length is enough: no byte of the body was sent.
    let mut http = server.connect().await;
    http.send(
        "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100001\r\n\r\n",
    )
    .await;
    assert_eq!(http.response().await.status, 413);
    // The limit holds for chunked and for decoded bytes.
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    http.send(chunked(array(100_001).as_bytes(), 4096)).await;
    assert_eq!(http.response().await.status, 413);
    assert_eq!(server.post_with(&[JSON, GZIP], gzip(array(100_000))).await.status, 200);
    assert_eq!(server.post_with(&[JSON, GZIP], gzip(array(100_001))).await.status, 413);
    assert_eq!(
        server
            .post_with(&[JSON, GZIP], gzip(vec![b' '; 100_000_000]))
            .await
            .status,
        413
    );
    assert_eq!(server.samples(2).await, 0);
}

#[tokio::test]
async fn a_client_that_sends_its_whole_body_first_still_receives_the_response() {
    let server = Server::start().await;
    let mut http = server.connect().await;
    let body = vec![b' '; 17 << 20];
    http.send(format!(
        "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ))
    .await;
    http.try_send(&body).await.unwrap();
    assert_eq!(http.response().await.status, 413);
    assert_eq!(http.request("GET", "/-/healthy", &[], b"").await.status, 200);
}

#[tokio::test]
async fn a_client_that_goes_on_sending_after_its_response_does_not_delay_the_shutdown() {
    // If the shutdown waited for the client, the test would fail.
    let server = Server::with_limits(|_, core| core.drain_timeout = Duration::from_hours(1)).await;
    let mut http = server.connect().await;
    http.send(
        "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n",
    )
    .await;
    assert_eq!(http.response().await.status, 415);
    let sending = spawn(async move {
        while http.try_send("9\r\nand so on\r\n").await.is_ok() {
            yield_now().await;
        }
    });
    let (running, _database) = server.stop();
    let ended = timeout(END_TIMEOUT, running).await;
    ended.expect("an end in time").unwrap().unwrap();
    sending.await.unwrap();
}

#[tokio::test]
async fn a_line_over_the_limit_is_a_413_with_the_counts_of_the_lines_before() {
    let server = Server::start().await;
    let padded = |second: i64, bytes: usize| {
        let record = record(1, second);
        let (head, tail) = record.split_at(1);
        format!("{head}{}{tail}", " ".repeat(bytes - record.len()))
    };
    let body = format!("{}\n{}\r\n", record(1, 0), padded(1, 64 << 10));
    assert_eq!(counts(&server.post("x-ndjson", body).await), [2, 2, 0, 0]);
    for (end, encoded) in [("\n", false), ("\r\n", false), ("", false), ("\n", true)] {
        let body = format!(
            "{}\n{}\n{}{end}{}\n",
            record(1, 0),
            record(1, 1),
            padded(2, (64 << 10) + 1),
            record(1, 3)
        );
        let response = if encoded {
            server.post_with(&[NDJSON, GZIP], gzip(body)).await
        } else {
            server.post("x-ndjson", body).await
        };
        assert_eq!((response.status, counts(&response)), (413, [2, 0, 0, 2]));
        assert!(response.problem().contains("record 2"), "{response:?}");
    }
    // A zip bomb of one line, and one of blank lines.
    assert_eq!(
        server
            .post_with(&[NDJSON, GZIP], gzip(vec![b'x'; 100_000_000]))
            .await
            .status,
        413
    );
    assert_eq!(
        server
            .post_with(&[NDJSON, GZIP], gzip(vec![b'\n'; 100_000_000]))
            .await
            .status,
        413
    );
    assert_eq!(server.samples(1).await, 2);
}

#[tokio::test]
async fn lines_are_stored_while_the_upload_pauses_and_stay_stored_if_it_breaks_off() {
    let server = Server::start().await;
    let mut feed = server.subscribed("").await;
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ncontent-length: 1000000\r\n\r\n")
        .await;
    http.send(record(1, 0) + "\n" + &record(1, 1)[..10]).await;
    assert_eq!(feed.event().await["timestamp"], "2025-03-02T00:00:00Z");
    drop(http);
    assert_eq!(server.samples(1).await, 1);
}

#[tokio::test]
async fn a_request_with_two_lengths_closes_its_connection() {
    let server = Server::start().await;
    for heads in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
    ] {
        let mut http = server.connect().await;
        let body = String::from_utf8(chunked(record(1, 0).as_bytes(), 1000)).unwrap();
        http.send(format!("POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{heads}\r\n\r\n{body}GET /-/healthy HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        let response = http.response().await;
        assert!([200, 400].contains(&response.status), "{response:?}");
        assert!(http.is_closed().await, "{heads}");
    }
}

#[tokio::test]
async fn a_client_that_expects_100_continue_receives_it() {
    let server = Server::start().await;
    let body = record(1, 0);
    let mut http = server.connect().await;
    http.send(format!(
        "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ))
    .await;
    assert_eq!(http.response_head().await.status, 100);
    http.send(body).await;
    assert_eq!(counts(&http.response().await), [1, 1, 0, 0]);
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        .await;
    assert_eq!(http.response().await.status, 415);
}
