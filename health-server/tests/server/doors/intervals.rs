//! Records with `end`: they are stored as one sample for each slice.

use serde_json::Value;

use super::support::{steps, totals};
use crate::support::{Server, counts, listed_errors, record};

#[tokio::test]
async fn an_interval_is_stored_as_its_parts_and_counts_once_for_each() {
    let server = Server::start().await;
    let interval = |end: &str, steps: i64| {
        format!(
            r#"{{"user_id":1,"timestamp":"2025-03-02T09:10:00Z","end":"2025-03-02T{end}Z","steps":{steps},"heart_rate":70}}"#
        )
    };
    let first = interval("09:40:00", 300);
    assert_eq!(counts(&server.post("json", &first).await), [3, 3, 0, 0]);
    assert_eq!(counts(&server.post("x-ndjson", &first).await), [3, 0, 0, 3]);
    // The newest record of the day has a later end and a larger count. It replaces the parts of the earlier one.
    assert_eq!(
        counts(&server.post("json", interval("10:10:00", 340)).await),
        [5, 2, 3, 0]
    );
    let expected = [
        ("09:10:00", 28),
        ("09:15:00", 85),
        ("09:30:00", 85),
        ("09:45:00", 85),
        ("10:00:00", 57),
    ];
    let expected = expected.map(|(time, steps)| (format!("2025-03-02T{time}Z"), steps));
    assert_eq!(steps(&server, 1).await, expected);
    assert_eq!(totals(&server, 1).await, (5, 340, 0.0));
}

#[tokio::test]
async fn a_refused_interval_stores_no_part_and_is_named_once() {
    let server = Server::start().await;
    let ndjson = [
        r#"{"user_id":1,"timestamp":"2025-03-02T09:00:00Z","end":"2025-03-02T10:00:00Z","steps":100001}"#,
        r#"{"user_id":1,"timestamp":"2025-03-02T09:00:00Z","end":"2025-03-03T10:00:01Z","steps":5}"#,
        r#"{"user_id":1,"end":"2025-03-02T10:00:00Z","steps":5}"#,
        r#"{"user_id":1,"timestamp":"2025-03-02T09:00:00Z","end":"2025-03-02T09:00:00Z","steps":5}"#,
        r#"{"user_id":1,"timestamp":"2025-03-02T11:00:00Z","end":"2025-03-02T11:30:00Z","steps":7}"#,
    ];
    for (kind, body) in [
        ("x-ndjson", ndjson.join("\n")),
        ("json", format!("[{}]", ndjson.join(","))),
    ] {
        let response = server.post(kind, body).await;
        assert_eq!(response.status, 422, "{response:?}");
        assert_eq!(counts(&response)[0], 2, "{kind}");
        assert_eq!(response.json()["rejected"], 4);
        let expected = [(0, "steps"), (1, "end"), (2, "end"), (3, "end")];
        assert_eq!(
            listed_errors(&response),
            expected.map(|(index, field)| (index, Value::from(field)))
        );
    }
    assert_eq!(totals(&server, 1).await, (2, 7, 0.0));

    // A constraint of an operator refuses two parts of one record.
    let constraint = "ALTER TABLE health_metrics ADD CHECK (steps IS DISTINCT FROM 13)";
    server.sql().await.batch_execute(constraint).await.unwrap();
    let record = r#"{"user_id":2,"timestamp":"2025-03-02T09:00:00Z","end":"2025-03-02T09:30:00Z","steps":26}"#;
    let response = server.post("json", record).await;
    assert_eq!((response.status, &response.json()["rejected"]), (422, &Value::from(1)));
    assert_eq!(listed_errors(&response), [(0, Value::Null)]);
}

#[tokio::test]
async fn a_body_of_many_long_intervals_is_stored_whole_and_in_order() {
    let server = Server::start().await;
    let day = |source: i64, steps: i64| {
        format!(
            r#"{{"user_id":1,"timestamp":"2025-03-02T00:00:00Z","end":"2025-03-03T01:00:00Z","steps":{steps},"source":"{source}"}}"#
        )
    };
    // Each source comes twice, with samples between: the later one wins, whatever the size of the portions is.
    let mut lines: Vec<_> = (0..60).map(|source| day(source, 100)).collect();
    lines.push(record(2, 0));
    lines.extend((0..60).map(|source| day(source, 200 + source)));
    for kind in ["x-ndjson", "json"] {
        let body = match kind {
            "json" => format!("[{}]", lines.join(",")),
            _ => lines.join("\n"),
        };
        let response = server.post(kind, body).await;
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(counts(&response)[0], 2 * 60 * 100 + 1);
    }
    let path = "/metrics?user_id=1&start=2000-01-01T00:00:00Z&end=2100-01-01T00:00:00Z";
    let stats = server.get(path).await.json();
    for source in stats["sources"].as_array().unwrap() {
        let number: i64 = source["source"].as_str().unwrap().parse().unwrap();
        assert_eq!(source["steps"], 200 + number);
    }
    assert_eq!(stats["samples"], 60 * 100);
}
