//! `POST /ingest`: which records are stored, which are refused, and what the response says.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::support::{Server, counts, listed_errors, record, records};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
const JSON: (&str, &str) = ("content-type", "application/json");
const GZIP: (&str, &str) = ("content-encoding", "gzip");

fn gzip(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_ref()).unwrap();
    encoder.finish().unwrap()
}

/// Returns a body in the chunked transfer coding, with chunks of `size` bytes.
fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut encoded = Vec::new();
    for chunk in body.chunks(size) {
        encoded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        encoded.extend_from_slice(chunk);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(b"0\r\n\r\n");
    encoded
}

#[tokio::test]
async fn an_object_an_array_and_ndjson_are_stored_and_counted() {
    let server = Server::start().await;
    let response = server.post("json", record(1, 0)).await;
    assert_eq!((response.status, counts(&response)), (200, [1, 1, 0, 0]));
    let array = format!(
        "[{},{},{}]",
        record(1, 0),
        record(1, 1),
        r#"{"user_id":1,"timestamp":"2025-03-02T00:00:00Z","heart_rate":99}"#
    );
    assert_eq!(counts(&server.post("json", array).await), [3, 1, 1, 1]);
    let lines = format!("\r\n{}\r\n\n{}", record(1, 1), record(1, 2));
    assert_eq!(counts(&server.post("x-ndjson", lines).await), [2, 1, 0, 1]);
    let response = server
        .connect()
        .await
        .request(
            "POST",
            "/ingest/",
            &[("content-type", "Application/JSON; charset=utf-8")],
            record(1, 3).as_bytes(),
        )
        .await;
    assert_eq!(counts(&response), [1, 1, 0, 0]);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(server.samples(1).await, 4);
}

#[tokio::test]
async fn every_valid_record_is_stored_and_every_invalid_one_is_named() {
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
        let response = server.post(kind, body).await;
        assert_eq!((response.status, counts(&response)), (422, counted));
        assert_eq!(response.json()["rejected"], 5);
        assert_eq!(listed_errors(&response), expected);
        assert!(response.problem().contains("5 of 7"), "{response:?}");
        assert!(
            response.json()["errors"][0]["reason"]
                .as_str()
                .unwrap()
                .contains("leave the field out"),
            "{response:?}"
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
    let response = server.post("x-ndjson", body).await;
    assert_eq!((response.status, counts(&response)), (422, [1, 1, 0, 0]));
    assert_eq!(response.json()["rejected"], 5);
    assert_eq!(
        listed_errors(&response),
        [0, 2, 3, 4, 5].map(|index| (index, Value::Null))
    );
}

#[tokio::test]
async fn a_hundred_errors_are_listed_and_all_are_counted() {
    let server = Server::start().await;
    let body = format!("{}\n{}", "{}\n".repeat(250), record(1, 0));
    let response = server.post("x-ndjson", body).await;
    assert_eq!((response.status, counts(&response)), (422, [1, 1, 0, 0]));
    assert_eq!(response.json()["rejected"], 250);
    assert_eq!(listed_errors(&response).len(), 100);
}

#[tokio::test]
async fn a_body_that_is_not_json_or_has_no_record_stores_nothing() {
    let server = Server::start().await;
    let valid = record(1, 0);
    for body in [
        format!("[{valid},]"),
        format!("[{valid}"),
        format!("{valid}{valid}"),
        format!("{valid}\n{valid}"),
        format!("{valid}\u{feff}"),
        format!("[{valid},NaN]"),
        format!("[{valid},Infinity]"),
        format!("[{valid},'x']"),
        "[]".to_owned(),
        " \r\n".to_owned(),
        String::new(),
        "{".to_owned(),
    ] {
        let response = server.post("json", &body).await;
        assert_eq!(response.status, 400, "{body}: {response:?}");
        assert!(response.problem().contains("Nothing was stored"), "{response:?}");
    }
    let mut not_utf8 = format!("[{valid},\"").into_bytes();
    not_utf8.extend_from_slice(b"\xff\"]");
    assert_eq!(server.post("json", not_utf8).await.status, 400);
    for body in ["", "\n\n", " \t\r\n"] {
        assert_eq!(server.post("x-ndjson", body).await.status, 400, "{body:?}");
    }
    for body in ["5", "null", "\"x\"", "[5]", "[[]]", "true"] {
        let response = server.post("json", body).await;
        assert_eq!((response.status, counts(&response)), (422, [0; 4]), "{body}");
        assert_eq!(listed_errors(&response), [(0, Value::Null)], "{body}");
    }
    assert_eq!(server.samples(1).await, 0);
}

#[tokio::test]
async fn a_byte_order_mark_at_the_start_of_a_body_is_skipped() {
    let server = Server::start().await;
    for (kind, body) in [
        ("json", format!("\u{feff}{}", record(1, 0))),
        ("json", format!("\u{feff}[{}]", record(1, 1))),
        ("x-ndjson", format!("\u{feff}{}\r\n", record(1, 2))),
        ("x-ndjson", format!("\u{feff}\n{}", record(1, 3))),
    ] {
        assert_eq!(counts(&server.post(kind, &body).await), [1, 1, 0, 0], "{body:?}");
        let encoded = chunked(body.as_bytes(), 1);
        let mut http = server.connect().await;
        let head = format!("POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/{kind}\r\n");
        http.send(head + "transfer-encoding: chunked\r\n\r\n").await;
        http.send(encoded).await;
        assert_eq!(counts(&http.response().await), [1, 0, 0, 1], "{body:?}");
    }
    assert_eq!(server.post("x-ndjson", "\u{feff}\n").await.status, 400);
}

#[tokio::test]
async fn lines_labelled_as_json_get_a_hint() {
    let server = Server::start().await;
    let response = server.post("json", records(1, 2)).await;
    assert_eq!(response.status, 400);
    assert!(response.problem().contains("application/x-ndjson"), "{response:?}");
    assert_eq!(server.samples(1).await, 0);
}

#[tokio::test]
async fn the_detail_counts_records_in_proper_sentences() {
    let server = Server::start().await;
    for (stored, refused, expected) in [
        (0, 1, "The record was refused. Nothing was stored."),
        (1, 1, "1 of 2 records was refused. The other one is stored."),
        (7, 2, "2 of 9 records were refused. The other 7 are stored."),
    ] {
        let response = server
            .post("x-ndjson", records(1, stored) + &"{}\n".repeat(refused))
            .await;
        assert_eq!((response.status, response.problem().as_str()), (422, expected));
    }
}

#[tokio::test]
async fn times_with_spaces_and_short_offsets_are_stored_and_found() {
    let server = Server::start().await;
    let records = [
        "2025-03-02 18:00:00Z",
        "2025-03-02 19:00:01 +01:00",
        "2025-03-02T19:00:02+0100",
        "2025-03-02T19:00:03 +01",
    ]
    .map(|time| format!(r#"{{"user_id":1,"timestamp":"{time}","steps":1}}"#));
    let response = server.post("json", format!("[{}]", records.join(","))).await;
    assert_eq!(counts(&response), [4, 4, 0, 0]);
    for range in [
        "start=2025-03-02+18:00:00Z&end=2025-03-02+19:00:04+01:00",
        "start=2025-03-02+19:00:00+0100&end=2025-03-02%2018:00:04%20%2B00",
        "start=2025-03-02T18:00:00%2B0000&end=2025-03-02+17:00:04+-0100",
    ] {
        let response = server.get(&format!("/metrics?user_id=1&{range}")).await;
        assert_eq!(response.json()["samples"], 4, "{range}: {response:?}");
    }
}

#[tokio::test]
async fn records_without_a_timestamp_are_different_samples() {
    let server = Server::start().await;
    let body = r#"[{"user_id":1,"heart_rate":70},{"user_id":1,"heart_rate":80},{"user_id":1,"heart_rate":90}]"#;
    assert_eq!(counts(&server.post("json", body).await), [3, 3, 0, 0]);
}

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
    let server = Server::start().await;
    let mut http = server.connect().await;
    http.send(
        "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: 1000000\r\n\r\n",
    )
    .await;
    assert_eq!(http.response().await.status, 415);
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
