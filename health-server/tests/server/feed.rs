//! The live feed as a client sees it, line by line.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    client::FeedConnection,
    support::{Server, record, records},
};

/// The interval of a paced subscriber: so long that most samples are replaced by newer ones.
const EVERY: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_subscriber_gets_each_committed_sample_as_it_is_stored() {
    let server = Server::start().await;
    let mut live = FeedConnection::connect(server.feed).await;
    let hello = live.event().await;
    assert_eq!(
        (&hello["event"], &hello["protocol"], &hello["auth"]),
        (&json!("hello"), &json!("health-feed/1"), &json!(false))
    );
    assert!(hello["cursor"].as_str().is_some_and(|cursor| !cursor.contains(' ')));
    live.send("SUBSCRIBE\n").await;
    assert_eq!(live.event().await, json!({"event": "subscribed", "resumed": true}));

    server
        .post(
            "json",
            r#"{"user_id":1,"timestamp":"2025-03-02T18:00:00.5+01:00","heart_rate":72}"#,
        )
        .await;
    let mut sample = live.event().await;
    assert!(sample["cursor"].take().is_string());
    assert_eq!(
        sample,
        json!({"event":"sample","cursor":null,"user_id":1,"timestamp":"2025-03-02T17:00:00.500Z","heart_rate":72.0,"source":""})
    );

    // A sample that changes nothing is not sent. A merge sends the whole sample.
    server
        .post(
            "json",
            r#"{"user_id":1,"timestamp":"2025-03-02T17:00:00.5Z","heart_rate":72}"#,
        )
        .await;
    server
        .post(
            "json",
            r#"{"user_id":1,"timestamp":"2025-03-02T17:00:00.5Z","steps":5}"#,
        )
        .await;
    let merged = live.event().await;
    assert_eq!((&merged["heart_rate"], &merged["steps"]), (&json!(72.0), &json!(5)));
}

#[tokio::test]
async fn a_subscriber_of_some_users_gets_only_their_samples() {
    let server = Server::start().await;
    let mut live = server.subscribed("users=2,3").await;
    for user in [1, 2, 4, 3] {
        server.post("json", record(user, 0)).await;
    }
    assert_eq!(live.sample().await["user_id"], 2);
    assert_eq!(live.sample().await["user_id"], 3);
    // A second SUBSCRIBE replaces the first one.
    live.send("subscribe USERS=4\r\n").await;
    assert_eq!(live.event().await["event"], "subscribed");
    server.post("json", record(3, 1)).await;
    server.post("json", record(4, 1)).await;
    assert_eq!(live.sample().await["user_id"], 4);
}

#[tokio::test]
async fn the_samples_of_a_user_arrive_in_commit_order() {
    let server = Server::start().await;
    let mut live = server.subscribed("").await;
    for second in [5, 3, 4, 1] {
        server.post("json", record(1, second)).await;
    }
    for second in [5, 3, 4, 1] {
        assert_eq!(live.event().await["timestamp"], format!("2025-03-02T00:00:0{second}Z"));
    }
}

#[tokio::test]
async fn an_invalid_command_gets_an_error_and_the_connection_stays_open() {
    let server = Server::start().await;
    let mut live = server.feed().await;
    for (line, part) in [
        (&b"HELO\n"[..], "HELO"),
        (b"GET / HTTP/1.1\r\n", "GET"),
        (b"SUBSCRIBE user=1\n", "user"),
        (b"SUBSCRIBE users=x\n", "users"),
        (b"SUBSCRIBE every=0\n", "every"),
        (b"PING PONG\n", "PONG"),
        (b"AUTH secret\n", "token"),
        (b"\x00\xff\xfe\n", "UTF-8"),
        (b"\x00\x01\n", "not a command"),
    ] {
        live.send(line).await;
        let (event, reason) = live.event_and_reason().await;
        assert_eq!(event, "error", "{line:?}");
        assert!(reason.contains(part), "{line:?}: {reason}");
    }
    live.send("\n \r\nping\r\n").await;
    assert_eq!(live.event().await, json!({"event": "pong"}));
    live.send(format!("{}\r\nPing\n", " ".repeat(4096))).await;
    assert_eq!(live.event().await, json!({"event": "pong"}));
    live.send("quit\n").await;
    assert_eq!(live.event_and_reason().await.0, "bye");
    assert!(live.is_closed().await);
}

#[tokio::test]
async fn an_over_long_line_gets_an_error_and_ends_the_connection() {
    let server = Server::start().await;
    for line in [
        "x".repeat(4097),
        format!("{}\nPING\n", "x".repeat(4097)),
        "x".repeat(1 << 20),
    ] {
        let mut live = server.feed().await;
        live.send(line).await;
        let (event, reason) = live.event_and_reason().await;
        assert_eq!(event, "error");
        assert!(reason.contains("4096"), "{reason}");
        assert!(live.is_closed().await);
    }
}

#[tokio::test]
async fn the_stream_goes_on_after_the_end_of_the_input() {
    let server = Server::start().await;
    let mut live = server.feed().await;
    live.send("SUBSCRIBE").await;
    live.finish().await;
    assert_eq!(live.event().await["event"], "subscribed");
    server.post("json", record(1, 0)).await;
    assert_eq!(live.sample().await["user_id"], 1);
    // Without a subscription the connection ends, whether the last line has a line end or not.
    for (line, event) in [("PING\n", "pong"), ("PING", "pong"), ("SUBSCRIBE every=0", "error")] {
        let mut idle = server.feed().await;
        idle.send(line).await;
        idle.finish().await;
        assert_eq!(idle.event().await["event"], event, "{line}");
        assert_eq!(idle.event_and_reason().await.0, "bye", "{line}");
        assert!(idle.is_closed().await);
    }
}

#[tokio::test]
async fn subscribers_get_heartbeats() {
    let server = Server::start().await;
    let mut live = server.subscribed("").await;
    let heartbeat = live.event_or_heartbeat().await;
    assert_eq!(heartbeat["event"], "heartbeat");
    assert!(
        heartbeat["cursor"].is_string() && heartbeat["time"].as_str().unwrap().ends_with('Z'),
        "{heartbeat}"
    );
}

#[tokio::test]
async fn a_slow_subscriber_is_told_how_many_samples_it_missed() {
    let server = Server::with_limits(|_, core| core.subscriber_queue = 10).await;
    let (mut live, mut other) = (server.subscribed("").await, server.subscribed("users=2").await);
    // One commit has more samples than the server keeps for subscribers.
    server.post("x-ndjson", records(1, 100)).await;
    server.post("json", record(2, 0)).await;
    let (mut received, mut missed, mut cursors) = (0, 0, 0);
    loop {
        let event = live.event().await;
        match event["event"].as_str() {
            Some("sample") if event["user_id"] == 2 => break,
            Some("sample") => received += 1,
            _ => {
                assert_eq!(event["event"], "lagged");
                missed += event["missed"].as_i64().unwrap();
                cursors += i32::from(event["cursor"].is_string());
            }
        }
    }
    assert!(missed > 0);
    assert!(cursors > 0);
    assert_eq!(received + missed, 100);
    assert_eq!(other.sample().await["user_id"], 2);
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_does_not_slow_ingestion() {
    let server = Server::with_limits(|_, core| core.subscriber_queue = 1000).await;
    let mut stalled = server.subscribed("").await;
    for user in 1..=10 {
        let response = server.post("x-ndjson", records(user, 20_000)).await;
        assert_eq!(response.status, 200);
    }
    // The samples exceed every socket buffer, so the subscriber missed some. The counts must add up.
    let (mut received, mut missed) = (0, 0);
    while received + missed < 200_000 {
        let event = stalled.event().await;
        match event["event"].as_str() {
            Some("sample") => received += 1,
            Some("lagged") => missed += event["missed"].as_i64().unwrap(),
            _ => {}
        }
    }
    assert_eq!(received + missed, 200_000);
    assert!(missed > 0);
}

#[tokio::test]
async fn subscribers_get_bye_when_the_server_shuts_down() {
    let server = Server::start().await;
    let (mut live, mut idle) = (server.subscribed("").await, server.feed().await);
    let stalled = server.subscribed("").await;
    server.post("x-ndjson", records(1, 50_000)).await;
    let (running, _database) = server.stop();
    assert_eq!(idle.event_and_reason().await.0, "bye");
    assert!(idle.is_closed().await);
    loop {
        match live.event_and_reason().await {
            (event, _) if event == "sample" => {}
            (event, reason) => {
                assert_eq!(event, "bye");
                assert!(reason.contains("shutting down"), "{reason}");
                break;
            }
        }
    }
    drop((live, idle));
    running.await.unwrap().unwrap();
    drop(stalled);
}

#[tokio::test]
async fn a_subscriber_that_resumes_from_its_cursor_gets_what_it_missed() {
    let server = Server::start().await;
    let mut live = server.subscribed("").await;
    server.post("json", record(1, 0)).await;
    let cursor = live.event().await["cursor"].as_str().unwrap().to_owned();
    drop(live);
    // A new sample, a late one, a correction, and a sample of another user.
    server.post("json", record(1, 2)).await;
    server.post("json", record(1, 1)).await;
    server
        .post(
            "json",
            r#"{"user_id":1,"timestamp":"2025-03-02T00:00:02Z","calories":1}"#,
        )
        .await;
    server.post("json", record(2, 3)).await;
    let mut resumed = server.feed().await;
    resumed.send(format!("SUBSCRIBE after={cursor} users=1\n")).await;
    assert_eq!(resumed.event().await, json!({"event": "subscribed", "resumed": true}));
    server.post("json", record(1, 9)).await;
    let (mut received, mut corrected) = (BTreeSet::new(), false);
    while !received.contains("2025-03-02T00:00:09Z") || received.len() < 3 {
        let sample = resumed.event().await;
        assert_eq!((&sample["event"], &sample["user_id"]), (&json!("sample"), &json!(1)));
        corrected |= sample["calories"] == 1.0 && sample["steps"] == 2;
        received.insert(sample["timestamp"].as_str().unwrap().to_owned());
    }
    assert!(received.contains("2025-03-02T00:00:01Z") && corrected, "{received:?}");
}

#[tokio::test]
async fn a_slow_subscriber_gets_what_it_missed_from_the_cursor_of_lagged() {
    let server = Server::with_limits(|_, core| core.subscriber_queue = 10).await;
    let mut live = server.subscribed("").await;
    server.post("x-ndjson", records(1, 500)).await;
    let mut received = BTreeSet::new();
    let mut connections = 1;
    while received.len() < 500 {
        let event = live.event().await;
        match event["event"].as_str() {
            Some("sample") => {
                received.insert(event["timestamp"].as_str().unwrap().to_owned());
            }
            Some("lagged") => {
                connections += 1;
                let cursor = event["cursor"].as_str().unwrap();
                live = server.subscribed(&format!("after={cursor}")).await;
            }
            _ => {}
        }
    }
    assert!(connections > 1);
}

#[tokio::test]
async fn an_unusable_cursor_gives_resumed_false_and_the_stream_goes_on() {
    let server = Server::start().await;
    for cursor in ["nonsense", "0-0", "cd55f807a5584be983aa35053151e7fb-728", "%"] {
        let mut live = server.feed().await;
        live.send(format!("SUBSCRIBE after={cursor}\n")).await;
        let subscribed = live.event().await;
        assert_eq!(
            (&subscribed["event"], &subscribed["resumed"]),
            (&json!("subscribed"), &json!(false)),
            "{cursor}"
        );
        assert!(
            subscribed["reason"].as_str().is_some_and(|reason| !reason.is_empty()),
            "{subscribed}"
        );
    }
    let mut live = server.feed().await;
    live.send("SUBSCRIBE after=nonsense\n").await;
    live.event().await;
    server.post("json", record(1, 0)).await;
    assert_eq!(live.sample().await["user_id"], 1);
}

#[tokio::test]
async fn every_sends_only_the_newest_sample_of_each_user() {
    let server = Server::start().await;
    let began = Instant::now();
    let mut live = server.subscribed(&format!("every={}", EVERY.as_millis())).await;
    let mut http = server.connect().await;
    for second in 0..100 {
        let body = format!("[{},{}]", record(1, second), record(2, second));
        let response = http
            .request(
                "POST",
                "/ingest",
                &[("content-type", "application/json")],
                body.as_bytes(),
            )
            .await;
        assert_eq!(response.status, 200);
    }
    let (mut received, mut last) = (0, BTreeSet::new());
    while last.len() < 2 {
        let event = live.event().await;
        if event["event"] == "sample" {
            received += 1;
        }
        if event["timestamp"] == "2025-03-02T00:01:39Z" {
            last.insert(event["user_id"].as_i64());
        }
    }
    // One of each user in each turn, and no turn sooner.
    let most = 2.0 * (began.elapsed().div_duration_f64(EVERY) + 2.0);
    assert!(f64::from(received) <= most, "{received} of at most {most}");
}

#[tokio::test]
async fn each_of_many_commands_sent_at_once_gets_its_answer_in_order() {
    let server = Server::start().await;
    let mut live = server.subscribed("").await;
    server.post("json", record(9, 0)).await;
    let cursor = live.event().await["cursor"].as_str().unwrap().to_owned();
    for user in [1, 2, 3] {
        server.post("json", record(user, 0)).await;
    }
    let mut client = server.feed().await;
    let resume = format!("SUBSCRIBE after={cursor} users");
    let commands = format!(
        "{resume}=1\nPING\n{resume}=x\nSUBSCRIBE after=nonsense\n{resume}=2\nSUBSCRIBE\n{resume}=3 every=1\nAUTH x\nQUIT\n"
    );
    client.send(commands).await;
    let mut answers = Vec::new();
    while answers.last() != Some(&"bye".to_owned()) {
        let event = client.event().await;
        match event["event"].as_str().unwrap() {
            "subscribed" => answers.push(format!("subscribed {}", event["resumed"])),
            "sample" => {
                // After `subscribed` come the samples of this subscription only.
                let subscriptions = answers.iter().filter(|answer| answer.starts_with("subscribed"));
                let user = [1, 0, 2, 0, 3][subscriptions.count() - 1];
                assert_eq!(event["user_id"], user, "{answers:?}");
            }
            answer => answers.push(answer.to_owned()),
        }
    }
    let expected = [
        "subscribed true",
        "pong",
        "error",
        "subscribed false",
        "subscribed true",
        "subscribed true",
        "subscribed true",
        "error",
        "bye",
    ];
    assert_eq!(answers, expected);
}
