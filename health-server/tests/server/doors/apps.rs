//! The doors for the apps Health Auto Export and HC Webhook.

use serde_json::{Value, json};

use super::support::{EXPORT, JSON, post, steps, totals};
use crate::support::{Server, counts};

#[tokio::test]
async fn health_auto_export_is_answered_with_a_200_that_names_everything() {
    let server = Server::start().await;
    let path = "/ingest/health-auto-export?user_id=7";
    let first = post(&server, path, &[JSON], EXPORT).await;
    assert_eq!(first.status, 200, "{first:?}");
    let reason = "date \"2026-02-06\" is a date without a time of day: write it like 2025-03-02T18:00:00Z";
    let expected = json!({
        "accepted": 4, "inserted": 4, "updated": 0, "unchanged": 0, "rejected": 1,
        "ignored": {"not_worn": 1, "sleep_analysis": 2, "workouts": 1},
        "errors": [{"index": 2, "field": "heart_rate", "reason": reason}],
    });
    assert_eq!(first.json(), expected);
    let again = post(&server, path, &[JSON], EXPORT).await;
    assert_eq!(counts(&again), [4, 0, 0, 4]);
    assert_eq!(totals(&server, 7).await, (4, 400, 2.0));

    // The same export, grouped by hours.
    let grouped = [JSON, ("automation-aggregation", "Hours")];
    let response = post(&server, "/ingest/health-auto-export/?user_id=8", &grouped, EXPORT).await;
    assert_eq!(counts(&response)[0], 1 + 4 + 4 + 4, "{response:?}");
    let expected = [
        ("22:00", 85),
        ("22:15", 85),
        ("22:30", 85),
        ("22:45", 85),
        ("23:00", 15),
        ("23:15", 15),
        ("23:30", 15),
        ("23:45", 15),
    ];
    let expected = expected.map(|(time, steps)| (format!("2026-02-06T{time}:00Z"), steps));
    assert_eq!(steps(&server, 8).await, expected);
    let weeks = [JSON, ("automation-aggregation", "weeks")];
    let response = post(&server, path, &weeks, EXPORT).await.json();
    assert_eq!((&response["accepted"], &response["rejected"]), (&json!(0), &json!(6)));
    let empty = post(&server, path, &[JSON], r#"{"data":{}}"#).await;
    assert_eq!((empty.status, counts(&empty)), (200, [0; 4]));
}

#[tokio::test]
async fn the_growing_day_of_health_connect_is_counted_once_in_any_order_of_sources() {
    let server = Server::start().await;
    let body = |count: i64, end: &str, bpm: i64| {
        format!(
            r#"{{"timestamp":"2026-03-03T10:00:00Z","app_version":"1.9.0",
                "steps":[{{"count":{count},"start_time":"2026-03-02T23:00:00Z","end_time":"2026-03-03T{end}Z"}}],
                "heart_rate":[{{"bpm":{bpm},"time":"2026-03-03T09:00:00Z","metadata":{{"device":{{"model":"SM-R960"}}}}}}],
                "total_calories":[{{}},{{}}],"sleep":[{{}}]}}"#
        )
    };
    let path = "/ingest/health-connect?user_id=9";
    for (count, end, bpm) in [(100, "05:00:00", 60), (900, "08:20:00", 0), (1203, "10:00:03.12", 60)] {
        let response = post(&server, path, &[JSON], body(count, end, bpm)).await;
        assert_eq!(response.status, 200, "{response:?}");
        let not_worn = u64::from(bpm == 0);
        assert_eq!(
            response.json()["ignored"]["not_worn"].as_u64().unwrap_or_default(),
            not_worn
        );
        assert_eq!(response.json()["ignored"]["total_calories"], 2);
    }
    assert_eq!(totals(&server, 9).await, (46, 1203, 0.0));
    let again = post(&server, path, &[JSON], body(1203, "10:00:03.12", 60)).await;
    assert_eq!(counts(&again), [46, 0, 0, 46]);
}

/// Sends each body of `docs/phones.md` as its curl does, and compares the answer with the one on the page.
#[tokio::test]
async fn the_answers_on_the_page_for_phones_are_those_of_the_server() {
    let server = Server::start().await;
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/phones.md")).unwrap();
    let mut blocks = page.split("```").skip(1).step_by(2);
    let mut compared = 0;
    while let Some(block) = blocks.next() {
        let Some((command, body)) = block.split_once("<<'BODY'\n") else {
            continue;
        };
        let path = command.split("$HEALTH").nth(1).unwrap().split('"').next().unwrap();
        let path = format!("{path}{}user_id=101", if path.contains('?') { '&' } else { '?' });
        let path = path.replace("/ingest?user_id=101", "/ingest");
        let quoted = command.split('\'').skip(1).step_by(2);
        let headers: Vec<_> = quoted.filter_map(|header| header.split_once(": ")).collect();
        let response = post(&server, &path, &headers, body.strip_suffix("BODY\n").unwrap()).await;
        if response.status != 204 {
            let expected = blocks.next().unwrap().strip_prefix("json\n").unwrap();
            assert_eq!(
                response.json(),
                serde_json::from_str::<Value>(expected).unwrap(),
                "{path}"
            );
        }
        compared += 1;
    }
    assert_eq!(compared, 6);
}
