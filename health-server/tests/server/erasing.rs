//! `DELETE /samples` and `DELETE /users/{user_id}`: what is gone, and what the feed tells of it.

use serde_json::{Value, json};

use crate::{
    client::{FeedConnection, Response},
    support::{Server, record, records},
};

/// The hour of [`records`].
const HOUR: &str = "start=2025-03-02T18:00:00Z&end=2025-03-02T19:00:00Z";

async fn delete(server: &Server, path: &str) -> Response {
    server.connect().await.request("DELETE", path, &[], b"").await
}

fn sample(user: i64, minute: i64, source: &str) -> String {
    format!(
        r#"{{"user_id":{user},"timestamp":"2025-03-02T18:{minute:02}:00Z","heart_rate":70,"steps":10,"source":"{source}"}}"#
    )
}

#[tokio::test]
async fn samples_of_a_range_or_of_one_source_are_erased_and_the_others_stay() {
    let server = Server::start().await;
    let minutes = |source| (0..30).map(move |minute| sample(1, minute, source) + "\n");
    let body: String = minutes("").chain(minutes("watch")).collect();
    server.post("x-ndjson", body).await;
    server.post("json", sample(2, 5, "")).await;
    let range = "start=2025-03-02T18:10:00Z&end=2025-03-02T18:20:00Z";
    for (query, erased) in [
        (format!("user_id=1&{range}&source=watch"), 10),
        (format!("user_id=1&{range}&source=watch"), 0),
        (format!("user_id=1&{range}&source=phone"), 0),
        (format!("user_id=1&{range}&source="), 10),
        (format!("user_id=1&{range}"), 0),
        (
            "user_id=1&start=2025-03-02T18:00:00Z&end=2025-03-02T18:05:00Z".to_owned(),
            10,
        ),
        (format!("user_id=3&{HOUR}"), 0),
    ] {
        let response = delete(&server, &format!("/samples?{query}")).await;
        assert_eq!(
            (response.status, response.json()),
            (200, json!({"erased": erased})),
            "{query}"
        );
    }
    let stats = server.get(&format!("/metrics?user_id=1&{HOUR}")).await.json();
    assert_eq!((&stats["samples"], &stats["total_steps"]), (&json!(30), &json!(150)));
    let exported = server.get(&format!("/samples?user_id=1&{HOUR}")).await.body;
    assert_eq!(exported.lines().count(), 30);
    assert!(!exported.contains("18:10:00") && exported.contains("18:20:00") && exported.contains("18:09:00"));
    let percentiles = server
        .get(&format!("/metrics/percentiles?user_id=1&{HOUR}"))
        .await
        .json();
    assert_eq!(percentiles["samples"], 30);
    let users = server.get("/users").await.json();
    assert_eq!(users["users"][0]["samples"], 30);
    assert_eq!(users["users"][0]["first"], "2025-03-02T18:05:00Z");
    // A sample that is sent after the answer stays, and is a new one.
    let response = server.post("json", sample(1, 12, "watch")).await;
    assert_eq!(response.json()["inserted"], 1);
    assert_eq!(server.samples(2).await, 1);
}

#[tokio::test]
async fn a_wrong_parameter_of_an_erasure_is_named_and_nothing_is_erased() {
    let server = Server::start().await;
    server.post("json", sample(1, 0, "")).await;
    for (query, named) in [
        (String::new(), "user_id"),
        ("?user_id=1".to_owned(), "start"),
        (format!("?user_id=1&{HOUR}&sources=watch"), "sources"),
        (format!("?user_id=1&{HOUR}&source=a&source=b"), "source"),
        (format!("?user_id=1&{HOUR}&source={}", "x".repeat(65)), "source"),
        (format!("?user_id=1&{HOUR}&source=%00"), "source"),
        (format!("?user_id=0&{HOUR}"), "user_id"),
        (
            "?user_id=1&start=2025-03-02T19:00:00Z&end=2025-03-02T18:00:00Z".to_owned(),
            "start",
        ),
        (
            "?user_id=1&start=2025-03-02&end=2025-03-02T18:00:00Z".to_owned(),
            "start",
        ),
    ] {
        let response = delete(&server, &format!("/samples{query}")).await;
        assert_eq!(response.status, 400, "{query}");
        assert!(response.problem().contains(named), "{query}: {}", response.body);
    }
    assert_eq!(server.samples(1).await, 1);
    let mut http = server.connect().await;
    for (method, status) in [("OPTIONS", 204), ("PUT", 405)] {
        let response = http.request(method, "/samples", &[], b"").await;
        let allow = response.header("allow").map(str::to_owned);
        assert_eq!(
            (response.status, allow.as_deref()),
            (status, Some("GET, HEAD, DELETE, OPTIONS")),
            "{method}"
        );
    }
}

/// Returns the event without its cursor, which is text.
fn without_cursor(mut event: Value) -> Value {
    let cursor = event.as_object_mut().unwrap().remove("cursor");
    assert!(cursor.is_some_and(|cursor| cursor.is_string()));
    event
}

/// Returns the next events.
async fn events(live: &mut FeedConnection, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    while events.len() < count {
        events.push(live.event().await);
    }
    events
}

#[tokio::test]
async fn an_erasure_is_on_the_feed_in_the_order_of_its_user_and_is_replayed() {
    let server = Server::start().await;
    let mut all = server.subscribed("").await;
    let mut second = server.subscribed("users=2").await;
    let mut stream = server.stream("").await;
    assert_eq!(stream.event().await.name, "subscribed");
    let erased_hour = json!({
        "event": "erased", "user_id": 1, "start": "2025-03-02T18:00:00Z", "end": "2025-03-02T19:00:00Z", "source": ""
    });
    server.post("json", sample(1, 0, "")).await;
    delete(&server, &format!("/samples?user_id=1&{HOUR}&source=")).await;
    server.post("json", sample(1, 0, "")).await;
    server.post("json", sample(2, 0, "watch")).await;
    // Nothing of another source, and nothing of a user who has none: no event.
    delete(&server, &format!("/samples?user_id=2&{HOUR}&source=")).await;
    assert_eq!(delete(&server, "/users/3").await.status, 404);
    let in_another_zone = "start=2025-03-02T19:00:00%2B01:00&end=2025-03-02T20:00:00%2B01:00";
    delete(&server, &format!("/samples?user_id=2&{in_another_zone}")).await;
    assert_eq!(delete(&server, "/users/1").await.status, 204);

    let received = events(&mut all, 6).await;
    let names: Vec<_> = received.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["sample", "erased", "sample", "sample", "erased", "erased"]);
    assert_eq!(without_cursor(received[1].clone()), erased_hour);
    let erased_second = json!({
        "event": "erased", "user_id": 2, "start": "2025-03-02T18:00:00Z", "end": "2025-03-02T19:00:00Z"
    });
    assert_eq!(without_cursor(received[4].clone()), erased_second);
    assert_eq!(
        without_cursor(received[5].clone()),
        json!({"event": "erased", "user_id": 1})
    );
    let of_second = events(&mut second, 2).await;
    assert_eq!(of_second[0]["event"], "sample");
    assert_eq!(without_cursor(of_second[1].clone()), erased_second);

    // The same as server-sent events.
    for expected in &received {
        let event = stream.event().await;
        assert_eq!(
            (event.name.as_str(), &event.data),
            (expected["event"].as_str().unwrap(), expected)
        );
        assert_eq!(event.id.as_deref(), expected["cursor"].as_str());
    }

    // The same from each cursor. Erased samples are not replayed.
    for (cursor, expected) in [
        (0, vec![1, 4, 5]),
        (1, vec![4, 5]),
        (3, vec![4, 5]),
        (4, vec![5]),
        (5, vec![]),
    ] {
        for options in ["", " every=10", " users=1,2", " users=1,2 every=10"] {
            let mut live = server.feed().await;
            let after = received[cursor]["cursor"].as_str().unwrap();
            live.send(&format!("SUBSCRIBE after={after}{options}\n")).await;
            assert_eq!(live.event().await, json!({"event": "subscribed", "resumed": true}));
            let mut replayed: Vec<_> = events(&mut live, expected.len())
                .await
                .into_iter()
                .map(without_cursor)
                .collect();
            let mut expected: Vec<_> = expected
                .iter()
                .map(|index| without_cursor(received[*index].clone()))
                .collect();
            // With an interval, users come in their own order.
            replayed.sort_by_key(Value::to_string);
            expected.sort_by_key(Value::to_string);
            assert_eq!(replayed, expected, "{cursor}{options}");
            live.send("PING\n").await;
            assert_eq!(events(&mut live, 1).await[0]["event"], "pong");
        }
    }
    let metrics = server.get("/-/metrics").await.body;
    assert!(metrics.contains("\nhealth_store_erasures_total 3\n"), "{metrics}");
    assert!(metrics.contains("\nhealth_store_erased_samples_total 3\n"), "{metrics}");
}

/// Many samples take several transactions. The events are those of the parts, then that of the whole user.
#[tokio::test]
async fn a_large_erasure_comes_in_parts_that_cover_it() {
    let server = Server::start().await;
    server.post("x-ndjson", records(1, 25_000)).await;
    server.post("json", record(2, 0)).await;
    let mut live = server.subscribed("users=1").await;
    assert_eq!(delete(&server, "/users/1").await.status, 204);
    let mut end = Value::Null;
    let mut parts = 0;
    loop {
        let event = events(&mut live, 1).await.remove(0);
        assert_eq!((&event["event"], &event["user_id"]), (&json!("erased"), &json!(1)));
        let (Some(start), next) = (event.get("start"), event.get("end")) else {
            break;
        };
        assert!(end.is_null() || end == *start, "{end} {event}");
        end = next.cloned().unwrap_or_default();
        parts += 1;
    }
    assert!(parts >= 2, "{parts}");
    assert_eq!((server.samples(1).await, server.samples(2).await), (0, 1));
}
