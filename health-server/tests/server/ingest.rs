//! `POST /ingest`: what is stored, what is refused, and what is said of it.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::support::{Server, counts, faults, record, records};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
const JSON: (&str, &str) = ("content-type", "application/json");
const GZIP: (&str, &str) = ("content-encoding", "gzip");

fn gzip(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_ref()).unwrap();
    encoder.finish().unwrap()
}

/// A body in chunks of a size.
fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut framed = Vec::new();
    for chunk in body.chunks(size) {
        framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b"0\r\n\r\n");
    framed
}

#[tokio::test]
async fn an_object_an_array_and_lines_are_stored_and_counted() {
    let server = Server::start().await;
    let answer = server.post("json", record(1, 0)).await;
    assert_eq!((answer.status, counts(&answer)), (200, [1, 1, 0, 0]));
    let array = format!(
        "[{},{},{}]",
        record(1, 0),
        record(1, 1),
        r#"{"user_id":1,"timestamp":"2025-03-02T00:00:00Z","heart_rate":99}"#
    );
    assert_eq!(counts(&server.post("json", array).await), [3, 1, 1, 1]);
    let lines = format!("\r\n{}\r\n\n{}", record(1, 1), record(1, 2));
    assert_eq!(counts(&server.post("x-ndjson", lines).await), [2, 1, 0, 1]);
    let answer = server
        .connect()
        .await
        .ask(
            "POST",
            "/ingest/",
            &[("content-type", "Application/JSON; charset=utf-8")],
            record(1, 3).as_bytes(),
        )
        .await;
    assert_eq!(counts(&answer), [1, 1, 0, 0]);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(server.samples(1).await, 4);
}

#[tokio::test]
async fn every_valid_record_is_stored_and_every_other_is_named() {
    let server = Server::start().await;
    let body = [
        record(1, 0),
        r#"{"user_id":1,"timestamp":"2025-03-02T00:01:00Z","heart_rate":0}"#.to_owned(),
        r#"{"user_id":1,"heart_rate":1e400}"#.to_owned(),
        r#"{"user_id":1,"steps":1,"source":"\ud800"}"#.to_owned(),
        r#"{"user_id":0,"steps":-1,"stepz":1}"#.to_owned(),
        "5".to_owned(),
        record(1, 1),
    ];
    let expected = [
        (1, json!("heart_rate")),
        (2, json!("heart_rate")),
        (3, json!("source")),
        (4, json!("user_id")),
        (4, json!("steps")),
        (4, json!("stepz")),
        (5, Value::Null),
    ];
    for (kind, body, counted) in [
        ("json", format!("[{}]", body.join(",")), [2, 2, 0, 0]),
        ("x-ndjson", body.join("\n\n"), [2, 0, 0, 2]),
    ] {
        let answer = server.post(kind, body).await;
        assert_eq!((answer.status, counts(&answer)), (422, counted));
        assert_eq!(answer.json()["rejected"], 5);
        assert_eq!(faults(&answer), expected);
        assert!(answer.problem().contains("5 of 7"), "{answer:?}");
        assert!(
            answer.json()["errors"][0]["reason"]
                .as_str()
                .unwrap()
                .contains("leave the field out"),
            "{answer:?}"
        );
    }
    assert_eq!(server.samples(1).await, 2);
}

#[tokio::test]
async fn a_malformed_line_is_one_refused_record() {
    let server = Server::start().await;
    let body = format!(
        "{{\n{}\nNaN\n{{\"user_id\":1,\"steps\":NaN}}\n\u{feff}{{}}\n",
        record(1, 0)
    );
    let mut body = body.into_bytes();
    body.extend_from_slice(b"\"\xff\"\n");
    let answer = server.post("x-ndjson", body).await;
    assert_eq!((answer.status, counts(&answer)), (422, [1, 1, 0, 0]));
    assert_eq!(answer.json()["rejected"], 5);
    assert_eq!(faults(&answer), [0, 2, 3, 4, 5].map(|index| (index, Value::Null)));
}

#[tokio::test]
async fn a_hundred_faults_are_listed_and_all_are_counted() {
    let server = Server::start().await;
    let body = format!("{}\n{}", "{}\n".repeat(250), record(1, 0));
    let answer = server.post("x-ndjson", body).await;
    assert_eq!((answer.status, counts(&answer)), (422, [1, 1, 0, 0]));
    assert_eq!(answer.json()["rejected"], 250);
    assert_eq!(faults(&answer).len(), 100);
}

#[tokio::test]
async fn what_is_not_json_or_holds_no_record_stores_nothing() {
    let server = Server::start().await;
    let good = record(1, 0);
    for body in [
        format!("[{good},]"),
        format!("[{good}"),
        format!("{good}{good}"),
        format!("{good}\n{good}"),
        format!("\u{feff}{good}"),
        format!("[{good},NaN]"),
        format!("[{good},Infinity]"),
        format!("[{good},'x']"),
        "[]".to_owned(),
        " \r\n".to_owned(),
        String::new(),
        "{".to_owned(),
    ] {
        let answer = server.post("json", &body).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert!(answer.problem().contains("Nothing was stored"), "{answer:?}");
    }
    let mut invalid = format!("[{good},\"").into_bytes();
    invalid.extend_from_slice(b"\xff\"]");
    assert_eq!(server.post("json", invalid).await.status, 400);
    for body in ["", "\n\n", " \t\r\n"] {
        assert_eq!(server.post("x-ndjson", body).await.status, 400, "{body:?}");
    }
    for body in ["5", "null", "\"x\"", "[5]", "[[]]", "true"] {
        let answer = server.post("json", body).await;
        assert_eq!((answer.status, counts(&answer)), (422, [0; 4]), "{body}");
        assert_eq!(faults(&answer), [(0, Value::Null)], "{body}");
    }
    assert_eq!(server.samples(1).await, 0);
}

#[tokio::test]
async fn records_without_a_time_are_as_many_readings() {
    let server = Server::start().await;
    let body = r#"[{"user_id":1,"heart_rate":70},{"user_id":1,"heart_rate":80},{"user_id":1,"heart_rate":90}]"#;
    assert_eq!(counts(&server.post("json", body).await), [3, 3, 0, 0]);
}

#[tokio::test]
async fn bodies_come_gzipped_in_one_member_or_several() {
    let server = Server::start().await;
    let lines = records(1, 20_000);
    let answer = server.post_with(&[NDJSON, GZIP], gzip(&lines)).await;
    assert_eq!(counts(&answer), [20_000, 20_000, 0, 0]);
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
    let framed = chunked(&members, 7);
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\ncontent-type: application/x-ndjson\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n").await;
    http.send(framed).await;
    assert_eq!(counts(&http.answer().await), [20_000, 0, 0, 20_000]);
}

#[tokio::test]
async fn damaged_gzip_is_a_400_that_says_what_was_stored() {
    let server = Server::start().await;
    // Two members, the second of them damaged: what came whole before is stored and counted.
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
        let answer = server.post_with(&[NDJSON, GZIP], [&first, damaged].concat()).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.problem().contains("gzip"), "{answer:?}");
        let [accepted, ..] = counts(&answer);
        assert!((10..=20).contains(&accepted), "{answer:?}");
        assert_eq!(server.samples(1).await, 10);
    }
    let answer = server.post_with(&[JSON, GZIP], &gzip(record(3, 0))[..30]).await;
    assert_eq!(answer.status, 400);
    assert_eq!(server.post_with(&[JSON, GZIP], record(3, 0)).await.status, 400);
    assert_eq!(server.samples(3).await, 0);
}

#[tokio::test]
async fn chunks_may_cut_anywhere() {
    let server = Server::start().await;
    for (kind, size) in [("json", 1), ("x-ndjson", 1), ("x-ndjson", 3), ("x-ndjson", 1000)] {
        let body = if kind == "json" {
            format!("[{}]", record(1, 0))
        } else {
            records(1, 5)
        };
        let mut http = server.connect().await;
        http.send(format!(
            "POST /ingest HTTP/1.1\r\ncontent-type: application/{kind}\r\ntransfer-encoding: chunked\r\n\r\n"
        ))
        .await;
        http.send(chunked(body.as_bytes(), size)).await;
        let answer = http.answer().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        // The connection goes on behind it.
        assert_eq!(http.ask("GET", "/-/healthy", &[], b"").await.status, 200);
    }
    assert_eq!(server.samples(1).await, 5);
}

#[tokio::test]
async fn what_was_compressed_for_the_way_is_not_read_as_it_stands() {
    let server = Server::start().await;
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: gzip, chunked\r\n\r\n")
        .await;
    http.send(chunked(record(1, 0).as_bytes(), 100)).await;
    let answer = http.answer().await;
    assert_eq!(answer.status, 501);
    assert!(answer.problem().contains("gzip, chunked"), "{answer:?}");
    assert_eq!(server.samples(1).await, 0);
}

#[tokio::test]
async fn broken_framing_is_a_400_that_says_what_was_stored() {
    let server = Server::start().await;
    let (first, half) = (records(1, 3), &record(1, 3)[..20]);
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    http.send(format!("{:x}\r\n{first}{half}\r\nxyz\r\n", first.len() + half.len()))
        .await;
    let answer = http.answer().await;
    assert_eq!((answer.status, counts(&answer)), (400, [3, 3, 0, 0]));
    assert!(http.is_closed().await);
    // A body that ends before its declared length, from a client that still listens.
    let mut http = server.connect().await;
    http.send(format!(
        "POST /ingest HTTP/1.1\r\ncontent-type: application/x-ndjson\r\ncontent-length: 1000\r\n\r\n{first}{half}"
    ))
    .await;
    http.finish().await;
    let answer = http.answer().await;
    assert_eq!((answer.status, counts(&answer)), (400, [3, 0, 0, 3]));
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
        let answer = server.post_with(headers, record(1, 0)).await;
        assert_eq!(answer.status, 415, "{headers:?}");
        assert!(answer.problem().contains("send"), "{answer:?}");
    }
    assert_eq!(server.samples(1).await, 0);
}

#[tokio::test]
async fn a_json_body_over_the_limit_is_refused_whole() {
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
    // Refused by its declared length alone, before any of it was sent.
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 100001\r\n\r\n")
        .await;
    assert_eq!(http.answer().await.status, 413);
    // In chunks, and unfolded.
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    http.send(chunked(array(100_001).as_bytes(), 4096)).await;
    assert_eq!(http.answer().await.status, 413);
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
async fn a_client_that_sends_before_it_reads_still_hears_why() {
    let server = Server::start().await;
    let mut http = server.connect().await;
    let body = vec![b' '; 17 << 20];
    http.send(format!(
        "POST /ingest HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ))
    .await;
    http.try_send(&body).await.unwrap();
    assert_eq!(http.answer().await.status, 413);
    assert_eq!(http.ask("GET", "/-/healthy", &[], b"").await.status, 200);
}

#[tokio::test]
async fn a_client_that_sends_on_behind_its_answer_does_not_hold_up_the_end() {
    let server = Server::start().await;
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\ncontent-type: text/plain\r\ncontent-length: 1000000\r\n\r\n")
        .await;
    assert_eq!(http.answer().await.status, 415);
    http.send("and so on").await;
    let began = std::time::Instant::now();
    let (running, _database) = server.stop();
    running.await.unwrap().unwrap();
    assert!(
        began.elapsed() < std::time::Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_line_over_the_limit_ends_the_request_with_the_counts_before_it() {
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
        let answer = if encoded {
            server.post_with(&[NDJSON, GZIP], gzip(body)).await
        } else {
            server.post("x-ndjson", body).await
        };
        assert_eq!((answer.status, counts(&answer)), (413, [2, 0, 0, 2]));
        assert!(answer.problem().contains("record 2"), "{answer:?}");
    }
    // A bomb of one line, and one of blank lines.
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
async fn lines_that_came_are_stored_while_the_upload_pauses_and_stay_when_it_breaks_off() {
    let server = Server::start().await;
    let mut live = server.subscribed("").await;
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\ncontent-type: application/x-ndjson\r\ncontent-length: 1000000\r\n\r\n")
        .await;
    http.send(record(1, 0) + "\n" + &record(1, 1)[..10]).await;
    assert_eq!(live.event().await["timestamp"], "2025-03-02T00:00:00Z");
    drop(http);
    assert_eq!(server.samples(1).await, 1);
}

#[tokio::test]
async fn a_request_with_two_lengths_is_the_last_of_its_connection() {
    let server = Server::start().await;
    for heads in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
    ] {
        let mut http = server.connect().await;
        let body = String::from_utf8(chunked(record(1, 0).as_bytes(), 1000)).unwrap();
        http.send(format!("POST /ingest HTTP/1.1\r\ncontent-type: application/json\r\n{heads}\r\n\r\n{body}GET /-/healthy HTTP/1.1\r\n\r\n")).await;
        let answer = http.answer().await;
        assert!([200, 400].contains(&answer.status), "{answer:?}");
        assert!(http.is_closed().await, "{heads}");
    }
}

#[tokio::test]
async fn a_client_that_waits_for_leave_to_send_gets_it() {
    let server = Server::start().await;
    let body = record(1, 0);
    let mut http = server.connect().await;
    http.send(format!(
        "POST /ingest HTTP/1.1\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ))
    .await;
    assert_eq!(http.head().await.status, 100);
    http.send(body).await;
    assert_eq!(counts(&http.answer().await), [1, 1, 0, 0]);
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\ncontent-type: text/plain\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        .await;
    assert_eq!(http.answer().await.status, 415);
}
