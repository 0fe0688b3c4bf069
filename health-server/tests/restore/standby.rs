//! A server on a standby: it answers and streams, says that it cannot store, and stores after the promotion.

use test_support::test_directory;
use tokio::time::{Duration, timeout};

use crate::{
    client::{Feed, get, post, post_once},
    postgres::Postgres,
    server::Server,
};

/// Longer than a promotion takes on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(2);

/// The answer to an ingest on a standby comes at once, and not at the ingest deadline, which is far longer than the
/// test waits.
const AT_ONCE: Duration = Duration::from_mins(1);
const DEADLINE: &str = "1h";

#[tokio::test]
async fn a_server_on_a_standby_answers_and_streams_and_stores_after_the_promotion() {
    let directory = test_directory();
    let primary = Postgres::start(directory.path(), "primary", &[]).await;
    let writing = Server::start(primary.url(), directory.path()).await;
    post(writing.http(), 1..=3).await;
    primary.base_backup_for_standby("standby/pgdata").await;
    let standby = Postgres::start(directory.path(), "standby", &[]).await;
    let arguments = ["--database-url", standby.url(), "--ingest-deadline", DEADLINE];
    let server = Server::start_with(&arguments, directory.path()).await;

    let mut feed = Feed::from_now(server.feed()).await;
    post(writing.http(), 11..=13).await;
    feed.expect(&[11, 12, 13]).await;
    let range = "/metrics?user_id=7&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";
    let (status, response) = get(server.http(), range).await.unwrap();
    assert_eq!(status, "200", "{response}");
    assert!(response.contains("\"samples\":6"), "{response}");
    let (status, response) = get(server.http(), "/-/ready").await.unwrap();
    assert_eq!(status, "503", "{response}");
    assert!(response.contains("read-only"), "{response}");
    let answer = timeout(AT_ONCE, post_once(server.http(), 21)).await;
    let (status, response) = answer.expect("an answer at once").unwrap();
    assert_eq!(status, "503", "{response}");
    assert!(response.contains("read-only"), "{response}");

    writing.stop().await;
    standby
        .connect()
        .await
        .batch_execute("SELECT pg_promote()")
        .await
        .unwrap();
    post(server.http(), 21..=23).await;
    feed.expect(&[21, 22, 23]).await;
    let ready = async { while get(server.http(), "/-/ready").await.unwrap().0 != "200" {} };
    timeout(TIMEOUT, ready).await.expect("the server is ready in time");
    let log = std::fs::read_to_string(directory.path().join("server.log")).unwrap();
    for part in ["the database is read-only", "the database can be written again"] {
        assert_eq!(log.matches(part).count(), 1, "{part}: {log}");
    }
    server.stop().await;
}
