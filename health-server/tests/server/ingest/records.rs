//! Which records of a body are stored, and what the response says of the others.

use serde_json::{Value, json};

use super::support::chunked;
use crate::support::{Server, counts, listed_errors, record, records};

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
