//! Database outages, and shutdowns in the middle of requests.

use std::time::Duration;

use futures_util::future::join_all;
use health_core::Error;
use serde_json::Value;
use test_support::{TestDatabase, commit_limit};
use tokio::time::timeout;
use tokio_postgres::Transaction;

use crate::{
    client::HttpConnection,
    proxy::PausableProxy,
    support::{Server, counts, listed_errors, record, records, until_ok},
};

/// Long enough for a database that answers, short enough that a test can wait until it has passed.
fn short() -> Duration {
    commit_limit(Duration::from_millis(500))
}

/// A query for all samples of these tests that user 1 has.
const RANGE_OF_1: &str = "/metrics?user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";

/// Ends the connections of the server, but not the one that executes this.
const TERMINATE_OTHERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
     WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// Counts the sessions of this database that wait for a lock.
const LOCK_WAITS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// Opens a transaction that keeps every writer and reader of the samples waiting.
async fn lock_samples(sql: &mut tokio_postgres::Client) -> Transaction<'_> {
    let transaction = sql.transaction().await.unwrap();
    transaction.batch_execute("LOCK TABLE health_metrics").await.unwrap();
    transaction
}

/// Sends a whole ingest request without waiting for its response.
async fn send_request(http: &mut HttpConnection, kind: &str, body: &str) {
    let length = body.len();
    http.send(format!(
        "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/{kind}\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
    .await;
}

/// Sends one request after another while the writer waits for a lock. The writer takes all but the first into its next
/// batch.
async fn enqueue(server: &Server, bodies: &[String]) -> Vec<HttpConnection> {
    let mut clients = Vec::new();
    for (index, body) in bodies.iter().enumerate() {
        let mut http = server.connect().await;
        send_request(&mut http, "json", body).await;
        clients.push(http);
        let queued = format!("health_store_queued_rows {}", index + 1);
        while !server.get("/-/metrics").await.body.lines().any(|line| line == queued) {}
    }
    clients
}

/// Checks that `/-/ready` answers 503, and returns the reason.
async fn reason_not_ready(server: &Server) -> String {
    let response = server.get("/-/ready").await;
    assert_eq!(response.status, 503, "{response:?}");
    assert!(response.header("retry-after").is_some(), "{response:?}");
    response.problem()
}

#[tokio::test]
async fn a_database_out_of_reach_gives_503_until_it_is_back() {
    let server = Server::with_limits(|_, core| {
        core.ingest_deadline = short();
        core.connection_wait = short();
    })
    .await;
    until_ok(|| server.post("json", record(1, 0))).await;
    let sql = server.sql_in("postgres").await;
    let name = server.database.name();
    sql.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        .await
        .unwrap();
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    sql.execute(others, &[&name]).await.unwrap();

    let response = server.post("x-ndjson", records(1, 10)).await;
    assert_eq!(response.status, 503, "{response:?}");
    assert!(response.header("retry-after").unwrap().parse::<u32>().is_ok());
    assert_eq!(counts(&response), [0; 4]);
    let ready = server.get("/-/ready").await;
    assert_eq!(ready.status, 503, "{ready:?}");
    assert!(ready.problem().contains("cannot store samples"), "{ready:?}");
    let range = server.get(RANGE_OF_1).await;
    assert_eq!(range.status, 503, "{range:?}");
    for response in [response, ready, range] {
        assert!(
            !response.body.contains(name) && !response.body.contains("SELECT"),
            "{response:?}"
        );
    }
    every_door_answers_503(&server).await;
    assert_eq!(server.get("/-/healthy").await.status, 200);
    let metrics = server.get("/-/metrics").await.body;
    let failures = metrics
        .lines()
        .find_map(|line| line.strip_prefix("health_database_errors_total{class=\"unavailable\"} "));
    assert!(failures.is_some_and(|count| count != "0"), "{failures:?}");

    sql.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
        .await
        .unwrap();
    until_ok(|| server.post("x-ndjson", records(1, 10))).await;
    until_ok(|| server.get("/-/ready")).await;
    let stats = until_ok(|| server.get(RANGE_OF_1)).await.json();
    assert_eq!(stats["samples"], 10);
}

/// Checks that nothing but a 503 is answered, because senders drop what gets a 4xx and keep what gets a 5xx.
async fn every_door_answers_503(server: &Server) {
    const RANGE: &str = "user_id=9&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";
    let export = r#"{"data":{"metrics":[{"name":"step_count","units":"count","data":[{"date":"2025-03-02 18:00:00 +0000","qty":3}]}]}}"#;
    let connect = r#"{"heart_rate":[{"bpm":60,"time":"2025-03-02T18:00:00Z"}]}"#;
    let line = "h,user_id=9 steps=1i 1740938401000000000\nh,user_id=9 steps=-1i 1740938401000000000";
    let requests = [
        ("POST", "/ingest".to_owned(), "application/json", record(9, 0)),
        (
            "POST",
            "/ingest/health-auto-export?user_id=9".to_owned(),
            "application/json",
            export.to_owned(),
        ),
        (
            "POST",
            "/ingest/health-connect?user_id=9".to_owned(),
            "application/json",
            connect.to_owned(),
        ),
        ("POST", "/api/v2/write".to_owned(), "text/plain", line.to_owned()),
        ("POST", "/write".to_owned(), "text/plain", line.to_owned()),
        ("GET", "/users".to_owned(), "", String::new()),
        ("GET", format!("/samples?{RANGE}"), "", String::new()),
        ("GET", format!("/metrics/series?{RANGE}&bucket=1h"), "", String::new()),
        ("GET", format!("/metrics/percentiles?{RANGE}"), "", String::new()),
        ("DELETE", format!("/samples?{RANGE}"), "", String::new()),
        ("DELETE", "/users/9".to_owned(), "", String::new()),
    ];
    let responses = requests.iter().map(async |(method, target, media_type, body)| {
        let headers = [("content-type", *media_type)];
        let headers = if body.is_empty() { &[][..] } else { &headers };
        let mut http = server.connect().await;
        let response = http.request(method, target, headers, body.as_bytes()).await;
        assert_eq!(response.status, 503, "{method} {target}: {response:?}");
        assert!(
            response.header("retry-after").is_some(),
            "{method} {target}: {response:?}"
        );
        assert!(!response.body.contains(server.database.name()), "{response:?}");
        if *method == "POST" {
            assert_eq!(counts(&response), [0; 4], "{target}");
        }
    });
    join_all(responses).await;
}

#[tokio::test]
async fn a_full_queue_gives_429_and_stores_what_it_accepted() {
    let server = Server::with_limits(|_, core| {
        core.queue_rows = 100;
        core.ingest_deadline = commit_limit(Duration::from_millis(300));
    })
    .await;
    let mut sql = server.sql().await;
    let lock = lock_samples(&mut sql).await;
    let mut stuck = server.connect().await;
    send_request(&mut stuck, "x-ndjson", &records(1, 90)).await;
    // Either request may enter the queue first. That one gets 503 after its deadline, the other one gets 429.
    let refused = loop {
        let response = server.post("x-ndjson", records(2, 90)).await;
        assert!([429, 503].contains(&response.status), "{response:?}");
        if response.status == 429 {
            break response;
        }
    };
    assert!(refused.header("retry-after").is_some());
    assert_eq!(counts(&refused), [0; 4]);
    assert!([429, 503].contains(&stuck.response().await.status));
    lock.rollback().await.unwrap();
    until_ok(|| server.post("x-ndjson", records(2, 90))).await;
    assert_eq!(server.samples(2).await, 90);
}

#[tokio::test]
async fn an_upload_that_a_shutdown_interrupts_gets_the_counts_of_what_was_stored() {
    let server = Server::with_limits(|_, core| core.drain_timeout = Duration::from_secs(6)).await;
    let mut live = server.subscribed("").await;
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ncontent-length: 100000\r\n\r\n")
        .await;
    http.send(records(1, 3)).await;
    assert_eq!(live.event().await["event"], "sample");
    let (running, _database) = server.stop();
    let response = http.response().await;
    assert_eq!((response.status, counts(&response)), (503, [3, 3, 0, 0]));
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_stores_and_acknowledges_what_is_being_written() {
    let server = Server::start().await;
    let mut sql = server.sql().await;
    let lock = lock_samples(&mut sql).await;
    let mut http = server.connect().await;
    send_request(&mut http, "json", &record(1, 0)).await;
    // When the writer waits for the lock, the sample is being written. The check needs a connection of its own, because
    // PostgreSQL shows an open transaction the same activity until its end.
    let watcher = server.sql().await;
    while watcher.query_one(LOCK_WAITS, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
    let (running, _database) = server.stop();
    lock.rollback().await.unwrap();
    assert_eq!(counts(&http.response().await), [1, 1, 0, 0]);
    assert!(http.is_closed().await);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_disconnects_does_not_cancel_the_batch_of_other_clients() {
    let server = Server::start().await;
    let mut sql = server.sql().await;
    let lock = lock_samples(&mut sql).await;
    // All samples of a user go through one writer, so that the last three share a batch.
    let mut clients = enqueue(&server, &[record(1, 0), record(1, 1), record(1, 2), record(1, 3)]).await;
    // One client whose request waits, and the one whose request is being written.
    drop(clients.remove(2));
    drop(clients.remove(0));
    lock.rollback().await.unwrap();
    for client in &mut clients {
        assert_eq!(counts(&client.response().await), [1, 1, 0, 0]);
    }
    assert_eq!(server.samples(1).await, 4);
}

#[tokio::test]
async fn a_request_that_the_database_refuses_does_not_fail_the_rest_of_its_batch() {
    let server = Server::start().await;
    let mut sql = server.sql().await;
    let rule = "ALTER TABLE health_metrics ADD CHECK (steps <> 7)";
    sql.batch_execute(rule).await.unwrap();
    let lock = lock_samples(&mut sql).await;
    // The third record has 7 steps.
    let mut clients = enqueue(&server, &[record(1, 0), record(1, 6), record(1, 7), record(1, 8)]).await;
    lock.rollback().await.unwrap();
    for (index, client) in clients.iter_mut().enumerate() {
        let response = client.response().await;
        if index == 2 {
            assert_eq!((response.status, counts(&response)), (422, [0; 4]), "{response:?}");
            assert_eq!(listed_errors(&response), [(0, Value::Null)]);
            assert!(!response.body.contains("check"), "{response:?}");
        } else {
            assert_eq!(
                (response.status, counts(&response)),
                (200, [1, 1, 0, 0]),
                "{response:?}"
            );
        }
    }
    assert_eq!(server.samples(1).await, 3);
    assert_eq!(server.get("/-/ready").await.status, 200);
}

#[tokio::test]
async fn a_shutdown_ends_with_an_error_after_the_drain_timeout() {
    let drain_timeout = Duration::from_secs(3);
    let server = Server::with_limits(|_, core| core.drain_timeout = drain_timeout).await;
    let mut sql = server.sql().await;
    let _lock = lock_samples(&mut sql).await;
    let _clients = enqueue(&server, &[record(1, 0)]).await;
    let (running, _database) = server.stop();
    // The lock is held for longer than the test waits.
    let outcome = timeout(drain_timeout * 20, running)
        .await
        .expect("an end in time")
        .unwrap();
    assert!(
        matches!(outcome, Err(Error::TimedOut(limit)) if limit == drain_timeout),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_server_that_cannot_store_is_not_ready_and_tells_the_reason() {
    let server = Server::start().await;
    let mut sql = server.sql().await;
    let lock = sql.transaction().await.unwrap();
    // CREATE INDEX takes the same lock: readers pass, writers wait.
    lock.batch_execute("LOCK TABLE health_metrics IN SHARE MODE")
        .await
        .unwrap();
    let reason = reason_not_ready(&server).await;
    assert!(reason.contains("locked"), "{reason}");
    lock.rollback().await.unwrap();
    assert_eq!(server.get("/-/ready").await.status, 200);

    // The table can be locked by others, but a writer waits for one row.
    server.post("json", record(1, 0)).await;
    let row = sql.transaction().await.unwrap();
    row.batch_execute("SELECT 1 FROM health_metrics WHERE user_id = 1 FOR UPDATE")
        .await
        .unwrap();
    let changed = record(1, 0).replace("70", "71");
    let mut clients = enqueue(&server, &[changed]).await;
    let reason = reason_not_ready(&server).await;
    assert!(reason.contains("2s") || reason.contains("locked"), "{reason}");
    row.rollback().await.unwrap();
    assert_eq!(counts(&clients[0].response().await), [1, 0, 1, 0]);
    assert_eq!(server.get("/-/ready").await.status, 200);

    let name = server.database.name();
    let read_only = |value| format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}");
    sql.batch_execute(&read_only("on")).await.unwrap();
    sql.batch_execute(TERMINATE_OTHERS).await.unwrap();
    let reason = loop {
        // The pool may notice one ended connection at a time.
        let reason = reason_not_ready(&server).await;
        if !reason.contains("out of reach") {
            break reason;
        }
    };
    assert!(reason.contains("read-only"), "{reason}");
}

#[tokio::test]
async fn a_database_that_stops_answering_gives_503_after_the_limits() {
    let database = TestDatabase::new().await;
    let proxy = PausableProxy::start(database.url()).await;
    let server = Server::with_database(database, Some(&proxy.url), |_, core| {
        core.ingest_deadline = short();
        core.statement_timeout = short();
        core.connection_wait = short();
    })
    .await;
    until_ok(|| server.post("json", record(1, 0))).await;
    until_ok(|| server.get("/-/ready")).await;
    proxy.pause();
    reason_not_ready(&server).await;
    let range = "user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";
    for path in [
        format!("/metrics?{range}"),
        format!("/metrics/series?bucket=1h&{range}"),
        format!("/metrics/percentiles?{range}"),
        format!("/samples?{range}"),
        "/users".to_owned(),
    ] {
        let response = server.get(&path).await;
        assert_eq!(response.status, 503, "{path}: {response:?}");
        assert!(response.header("retry-after").is_some(), "{response:?}");
    }
    let response = server.post("json", record(1, 1)).await;
    assert_eq!((response.status, counts(&response)), (503, [0; 4]));
    // The server cannot know why it took so long, nor whether the sample is stored.
    let limit = short();
    let reason = format!("the samples were not all stored within {limit:?}; a part of them may be stored");
    assert!(response.problem().contains(&reason), "{response:?}");
    proxy.resume();
    until_ok(|| server.get("/-/ready")).await;
    until_ok(|| server.post("json", record(1, 1))).await;
    let stats = until_ok(|| server.get(RANGE_OF_1)).await.json();
    assert_eq!(stats["samples"], 2);
}
