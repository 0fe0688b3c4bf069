//! A database that is gone or stuck, and a server that is told to end in the middle of it.

use std::time::Instant;

use health_core::Error;
use health_server::{Limits, Span};

use test_support::TestDatabase;

use crate::{
    client::Http,
    line::Line,
    support::{Server, counts, record, records},
};

#[tokio::test]
async fn a_database_that_is_gone_is_a_503_until_it_returns() {
    let limits = Limits {
        ingest_deadline: Span::millis(500),
        connection_wait: Span::millis(500),
        ..Limits::default()
    };
    let server = Server::with(limits).await;
    assert_eq!(server.post("json", record(1, 0)).await.status, 200);
    let sql = server.sql_in("postgres").await;
    let name = server.database.name();
    sql.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        .await
        .unwrap();
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    sql.execute(others, &[&name]).await.unwrap();

    let answer = server.post("x-ndjson", records(1, 10)).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").unwrap().parse::<u32>().is_ok());
    assert_eq!(counts(&answer), [0; 4]);
    let ready = server.get("/-/ready").await;
    assert_eq!(ready.status, 503, "{ready:?}");
    assert!(ready.problem().contains("Samples cannot be stored"), "{ready:?}");
    let range = server
        .get("/metrics?user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z")
        .await;
    assert_eq!(range.status, 503, "{range:?}");
    for answer in [answer, ready, range] {
        assert!(
            !answer.body.contains(name) && !answer.body.contains("SELECT"),
            "{answer:?}"
        );
    }
    assert_eq!(server.get("/-/healthy").await.status, 200);

    sql.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
        .await
        .unwrap();
    loop {
        match server.post("x-ndjson", records(1, 10)).await.status {
            200 => break,
            status => assert_eq!(status, 503),
        }
    }
    loop {
        match server.get("/-/ready").await.status {
            200 => break,
            status => assert_eq!(status, 503),
        }
    }
    assert_eq!(server.samples(1).await, 10);
}

#[tokio::test]
async fn a_full_queue_puts_requests_off_and_loses_none_it_took() {
    let limits = Limits {
        queue_rows: 100,
        ingest_deadline: Span::millis(300),
        ..Limits::default()
    };
    let server = Server::with(limits).await;
    let mut sql = server.sql().await;
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE health_metrics").await.unwrap();
    let mut stuck = server.connect().await;
    let body = records(1, 90);
    stuck
        .send(format!(
            "POST /ingest HTTP/1.1\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    // The other takes the room first or finds none; what is stuck is told so after its deadline.
    let refused = loop {
        let answer = server.post("x-ndjson", records(2, 90)).await;
        assert!([429, 503].contains(&answer.status), "{answer:?}");
        if answer.status == 429 {
            break answer;
        }
    };
    assert!(refused.header("retry-after").is_some());
    assert_eq!(counts(&refused), [0; 4]);
    assert!([429, 503].contains(&stuck.answer().await.status));
    lock.rollback().await.unwrap();
    assert_eq!(server.post("x-ndjson", records(2, 90)).await.status, 200);
    assert_eq!(server.samples(2).await, 90);
}

#[tokio::test]
async fn an_upload_under_way_when_the_server_ends_hears_what_was_stored() {
    let server = Server::with(Limits {
        drain_timeout: Span::millis(900),
        ..Limits::default()
    })
    .await;
    let mut live = server.subscribed("").await;
    let mut http = server.connect().await;
    http.send("POST /ingest HTTP/1.1\r\ncontent-type: application/x-ndjson\r\ncontent-length: 100000\r\n\r\n")
        .await;
    http.send(records(1, 3)).await;
    assert_eq!(live.event().await["event"], "sample");
    let (running, _database) = server.stop();
    let answer = http.answer().await;
    assert_eq!((answer.status, counts(&answer)), (503, [3, 3, 0, 0]));
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_was_being_written_when_the_server_ends_is_stored_and_acknowledged() {
    let server = Server::start().await;
    let mut sql = server.sql().await;
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE health_metrics").await.unwrap();
    let mut http = server.connect().await;
    let body = record(1, 0);
    http.send(format!(
        "POST /ingest HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    // Only once the writer waits for the lock is the sample surely on its way.
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    // Its own connection, because a transaction sees one and the same activity to its end.
    let watcher = server.sql().await;
    while watcher.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
    let (running, _database) = server.stop();
    lock.rollback().await.unwrap();
    assert_eq!(counts(&http.answer().await), [1, 1, 0, 0]);
    assert!(http.is_closed().await);
    running.await.unwrap().unwrap();
}

/// One request after another behind a writer that waits for a lock, so that they share the next transaction.
async fn queued(server: &Server, bodies: &[String]) -> Vec<Http> {
    let mut clients = Vec::new();
    for (place, body) in bodies.iter().enumerate() {
        let mut http = server.connect().await;
        http.send(format!(
            "POST /ingest HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        clients.push(http);
        let taken = format!("health_store_queued_rows {}", place + 1);
        while !server.get("/-/metrics").await.body.lines().any(|line| line == taken) {}
    }
    clients
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_nothing_that_others_share() {
    let server = Server::start().await;
    let mut sql = server.sql().await;
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE health_metrics").await.unwrap();
    // One user has one writer.
    let mut clients = queued(&server, &[record(1, 0), record(1, 1), record(1, 2), record(1, 3)]).await;
    // One whose transaction is under way, and one whose samples wait.
    drop(clients.remove(2));
    drop(clients.remove(0));
    lock.rollback().await.unwrap();
    for client in &mut clients {
        assert_eq!(counts(&client.answer().await), [1, 1, 0, 0]);
    }
    assert_eq!(server.samples(1).await, 4);
}

#[tokio::test]
async fn a_request_that_the_database_refuses_is_refused_alone() {
    let server = Server::start().await;
    let mut sql = server.sql().await;
    let rule = "ALTER TABLE health_metrics ADD CHECK (steps <> 7)";
    sql.batch_execute(rule).await.unwrap();
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE health_metrics").await.unwrap();
    // A record's steps are its second's last digit.
    let mut clients = queued(&server, &[record(1, 0), record(1, 6), record(1, 7), record(1, 8)]).await;
    lock.rollback().await.unwrap();
    for (place, client) in clients.iter_mut().enumerate() {
        let answer = client.answer().await;
        if place == 2 {
            assert_eq!((answer.status, counts(&answer)), (500, [0; 4]), "{answer:?}");
            assert!(!answer.problem().contains("check"), "{answer:?}");
        } else {
            assert_eq!((answer.status, counts(&answer)), (200, [1, 1, 0, 0]), "{answer:?}");
        }
    }
    assert_eq!(server.samples(1).await, 3);
    assert_eq!(server.get("/-/ready").await.status, 200);
}

#[tokio::test]
async fn the_drain_time_is_all_there_is() {
    let drain = Span::seconds(3);
    let server = Server::with(Limits {
        drain_timeout: drain,
        ..Limits::default()
    })
    .await;
    let mut sql = server.sql().await;
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE health_metrics").await.unwrap();
    let _clients = queued(&server, &[record(1, 0)]).await;
    let began = Instant::now();
    let (running, _database) = server.stop();
    assert!(matches!(running.await.unwrap(), Err(Error::TimedOut(_))));
    assert!(began.elapsed() < drain.get() * 2, "{:?}", began.elapsed());
}

/// What `/-/ready` says against it.
async fn not_ready(server: &Server) -> String {
    let answer = server.get("/-/ready").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    answer.problem()
}

#[tokio::test]
async fn a_server_that_cannot_store_is_not_ready_and_says_why() {
    let server = Server::start().await;
    let mut sql = server.sql().await;
    let lock = sql.transaction().await.unwrap();
    // As an index that is being built holds it: readers are let in, writers are not.
    lock.batch_execute("LOCK TABLE health_metrics IN SHARE MODE")
        .await
        .unwrap();
    let reason = not_ready(&server).await;
    assert!(reason.contains("locked"), "{reason}");
    lock.rollback().await.unwrap();
    assert_eq!(server.get("/-/ready").await.status, 200);

    // Nothing is locked that could be asked for, and yet a writer waits.
    server.post("json", record(1, 0)).await;
    let row = sql.transaction().await.unwrap();
    row.batch_execute("SELECT FROM health_metrics FOR UPDATE")
        .await
        .unwrap();
    let changed = record(1, 0).replace("70", "71");
    let mut clients = queued(&server, &[changed]).await;
    let reason = not_ready(&server).await;
    assert!(reason.contains("2s"), "{reason}");
    row.rollback().await.unwrap();
    assert_eq!(counts(&clients[0].answer().await), [1, 0, 1, 0]);
    assert_eq!(server.get("/-/ready").await.status, 200);

    let name = server.database.name();
    let read_only = |value| format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}");
    sql.batch_execute(&read_only("on")).await.unwrap();
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                  WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sql.batch_execute(others).await.unwrap();
    let reason = loop {
        // The connections that ended may be found out about one by one.
        let reason = not_ready(&server).await;
        if !reason.contains("out of reach") {
            break reason;
        }
    };
    assert!(reason.contains("read-only"), "{reason}");
}

#[tokio::test]
async fn a_database_that_falls_silent_keeps_nobody_waiting_for_ever() {
    let limits = Limits {
        ingest_deadline: Span::millis(500),
        statement_timeout: Span::millis(500),
        connection_wait: Span::millis(500),
        ..Limits::default()
    };
    let database = TestDatabase::new().await;
    let line = Line::to(database.url()).await;
    let server = Server::over(database, Some(&line.url), limits).await;
    assert_eq!(server.post("json", record(1, 0)).await.status, 200);
    assert_eq!(server.get("/-/ready").await.status, 200);
    line.falls_silent(true);
    not_ready(&server).await;
    let range = "user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";
    for path in [
        format!("/metrics?{range}"),
        format!("/metrics/series?bucket=1h&{range}"),
        format!("/metrics/percentiles?{range}"),
        format!("/samples?{range}"),
        "/users".to_owned(),
    ] {
        let answer = server.get(&path).await;
        assert_eq!(answer.status, 503, "{path}: {answer:?}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    let answer = server.post("json", record(1, 1)).await;
    assert_eq!((answer.status, counts(&answer)), (503, [0; 4]));
    line.falls_silent(false);
    loop {
        let answer = server.get("/-/ready").await;
        if answer.status == 200 {
            break;
        }
        assert_eq!(answer.status, 503, "{answer:?}");
    }
    assert_eq!(server.post("json", record(1, 1)).await.status, 200);
    assert_eq!(server.samples(1).await, 2);
}
