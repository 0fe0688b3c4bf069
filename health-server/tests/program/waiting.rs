//! What a start waits for: the database, the tokens in it, and the locks of others.

use std::process::Stdio;

use test_support::{TestDatabase, TestProcess};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::TcpListener,
    process::ChildStderr,
    time::timeout,
};
use tokio_postgres::NoTls;

use super::{FREE_PORTS, TIMEOUT, health_server};

/// The table of the migration library.
const HISTORY: &str = "CREATE TABLE refinery_schema_history \
     (version int4 PRIMARY KEY, name varchar(255), applied_on varchar(255), checksum varchar(255))";

/// Reads the log of a server to the end of the first line that has `part`, and appends it to `text`.
async fn read_until(log: &mut BufReader<ChildStderr>, text: &mut String, part: &str) {
    while !text.contains(part) {
        let line = timeout(TIMEOUT, log.read_line(text)).await;
        assert_ne!(line.expect("a log line in time").unwrap(), 0, "{text}");
    }
}

#[tokio::test]
async fn the_server_waits_for_its_database_and_does_not_log_the_password() {
    // Accepts connections and closes them at once, like a PostgreSQL that is not ready.
    let no_database = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "postgres://someone:hunter2@{}/health_db",
        no_database.local_addr().unwrap()
    );
    tokio::spawn(async move { while no_database.accept().await.is_ok() {} });
    let mut command = health_server(&FREE_PORTS);
    command.args(["--database-url", &url]).stderr(Stdio::piped());
    let mut server = TestProcess::start(command);
    let mut log = BufReader::new(server.child().stderr.take().unwrap());
    let mut text = String::new();
    read_until(&mut log, &mut text, "waiting up to 60s").await;
    assert_eq!(server.stop().await.code(), Some(0));
    log.read_to_string(&mut text).await.unwrap();
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn the_server_waits_for_its_tokens_as_it_does_for_its_database() {
    let database = TestDatabase::new().await;
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN; LOCK TABLE health_tokens").await.unwrap();
    let mut command = health_server(&FREE_PORTS);
    command.args(["--database-url", database.url()]).stderr(Stdio::piped());
    let mut server = TestProcess::start(command);
    let mut log = BufReader::new(server.child().stderr.take().unwrap());
    let mut text = String::new();
    read_until(&mut log, &mut text, "waiting up to 60s").await;
    client.batch_execute("ROLLBACK").await.unwrap();
    server.listening().await;
    assert_eq!(server.stop().await.code(), Some(0));
}

async fn checksum_of_the_first_migration() -> String {
    let migrated = TestDatabase::new().await;
    let (client, connection) = tokio_postgres::connect(migrated.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let checksum = "SELECT checksum FROM refinery_schema_history WHERE version = 1";
    client.query_one(checksum, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_start_that_waits_for_a_lock_says_who_holds_it() {
    for lock in [
        "SELECT pg_advisory_lock(hashtext('health migrations'))",
        "BEGIN; LOCK TABLE health_metrics",
    ] {
        let is_table = lock.contains("TABLE");
        let database = TestDatabase::empty().await;
        let mut blocker: tokio_postgres::Config = database.url().parse().unwrap();
        blocker.application_name("the blocker");
        let (client, connection) = blocker.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        if is_table {
            // The first migration was applied, and the others have to change its table.
            client
                .batch_execute(include_str!("../../../migrations/V1__health_metrics.sql"))
                .await
                .unwrap();
            client.batch_execute(HISTORY).await.unwrap();
            let insert = "INSERT INTO refinery_schema_history VALUES (1, 'health_metrics', '2026-01-01T00:00:00Z', $1)";
            client
                .execute(insert, &[&checksum_of_the_first_migration().await])
                .await
                .unwrap();
        }
        client.batch_execute(lock).await.unwrap();
        let row = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap();
        let pid: i32 = row.get(0);
        let mut command = health_server(&FREE_PORTS);
        command.args(["--database-url", database.url()]).stderr(Stdio::piped());
        let mut server = TestProcess::start(command);
        let mut log = BufReader::new(server.child().stderr.take().unwrap());
        let mut text = String::new();
        read_until(&mut log, &mut text, "the blocker").await;
        for part in [&format!("process {pid} "), "since 20", "postgres"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        assert_eq!(text.contains("the table health_metrics"), is_table, "{text}");
        drop(client);
        server.listening().await;
        assert_eq!(server.stop().await.code(), Some(0));
    }
}
