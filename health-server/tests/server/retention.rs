//! `--retain`: old samples are erased, and the log, the metrics and the feed tell it.

use chrono::{TimeDelta, Utc};
use health_core::format_timestamp;
use serde_json::json;
use test_support::TestDatabase;

use crate::{
    client::FeedConnection,
    program::{Program, health_server},
};

fn aged(user: i64, days: i64) -> String {
    let time = format_timestamp(Utc::now() - TimeDelta::days(days));
    json!({"user_id": user, "timestamp": time, "steps": days}).to_string()
}

#[tokio::test]
async fn old_samples_are_erased_audited_counted_and_told_on_the_feed() {
    let database = TestDatabase::new().await;
    let without = Program::on(&database).await;
    let hello = without.feed("", "hello").await;
    let cursor = hello[0]["cursor"].as_str().unwrap().to_owned();
    let records = [aged(1, 31), aged(1, 45), aged(1, 29), aged(2, 400), aged(3, 1)].join("\n");
    let ndjson = [("content-type", "application/x-ndjson")];
    assert_eq!(without.request("POST", "/ingest", &ndjson, &records).await.status, 200);
    let metrics = without.request("GET", "/-/metrics", &[], "").await.body;
    assert!(!metrics.contains("health_retention_"), "{metrics}");
    without.stop().await;

    let mut server = Program::start(database.url(), "info", &["--retain", "30d"]).await;
    let line = server
        .line(&[("who", "retention".into()), ("target", "audit".into())])
        .await;
    assert_eq!(
        (&line["action"], &line["users"], &line["samples"]),
        (&json!("erase"), &json!(2), &json!(3)),
        "{line}"
    );
    let metrics = server.request("GET", "/-/metrics", &[], "").await.body;
    assert!(
        metrics.contains("\nhealth_retention_erased_samples_total 3\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("\nhealth_retention_last_run_timestamp_seconds "),
        "{metrics}"
    );
    let users = server.request("GET", "/users", &[], "").await.json();
    let left = users["users"].as_array().unwrap().iter();
    let left: Vec<_> = left
        .map(|user| (user["user_id"].clone(), user["samples"].clone()))
        .collect();
    assert_eq!(left, [(json!(1), json!(1)), (json!(3), json!(1))]);

    let mut feed = FeedConnection::connect(server.feed).await;
    feed.send(format!("SUBSCRIBE after={cursor} users=1,2\n")).await;
    let mut erased = Vec::new();
    while erased.len() < 2 {
        let event = feed.event().await;
        if event["event"] == "erased" {
            assert_eq!(event["start"], "2000-01-01T00:00:00Z", "{event}");
            erased.push(event["user_id"].clone());
        }
    }
    assert_eq!(erased, [json!(1), json!(2)]);
    assert_eq!(feed.event_or_heartbeat().await["event"], "heartbeat", "nothing else");
    server.stop().await;
}

#[tokio::test]
async fn a_retention_that_would_erase_too_much_is_refused_with_the_reason() {
    let database = TestDatabase::new().await;
    for (arguments, reason) in [
        (&["--retain", "1h"][..], "write a value from 1d to"),
        (&["--retain", "30"], "write a value from 1d to"),
        (
            &["--retain", "forever"],
            "write a length of time like 36h, 90d, 26w or 2y",
        ),
        (&["--retain", "2d", "--replay-window", "1w"], "write a length of time"),
        (&["--retain", "2d", "--replay-window", "3d"], "replay window"),
    ] {
        let mut command = health_server(&[&["--http", "127.0.0.1:0", "--feed", "127.0.0.1:0"], arguments].concat());
        let output = command.env("DATABASE_URL", database.url()).output().await.unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && message.contains(reason),
            "{arguments:?}: {message}"
        );
    }
}
