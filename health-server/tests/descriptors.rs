//! A process with few file descriptors: HTTP, the feed and the database each keep their share.

#![cfg(test)]

use std::{io, net::SocketAddr, process::Stdio, time::Duration};

use test_support::{Addresses, TestDatabase, TestProcess};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Command,
    time::timeout,
};

/// Longer than any response takes on a busy machine, so that a newcomer who waits in vain fails the test.
const TIMEOUT: Duration = Duration::from_mins(2);

/// Connections of one kind, far more than the server may have open files.
const CROWD: usize = 400;

/// Starts a server that may have 256 open files. The shell sets the limit, because Rust has no safe way to set that of
/// a child process.
async fn serve(database: &TestDatabase) -> (TestProcess, Addresses) {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -n 256; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_health-server"),
        ])
        .args([
            "--http",
            "127.0.0.1:0",
            "--feed",
            "127.0.0.1:0",
            "--database-url",
            database.url(),
        ])
        .stderr(Stdio::null());
    let mut server = TestProcess::start(command);
    let addresses = server.listening().await;
    (server, addresses)
}

async fn crowd(address: SocketAddr) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..CROWD {
        connections.push(TcpStream::connect(address).await.unwrap());
    }
    connections
}

/// Sends a request over a connection of its own, and returns the response.
async fn exchange(address: SocketAddr, request: &str) -> io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        Ok(response)
    };
    timeout(TIMEOUT, exchange).await.expect("a response in time")
}

/// Checks that newcomers are answered over HTTP, and that the database is within reach.
async fn assert_http_serves(address: SocketAddr) {
    let record = r#"{"user_id":1,"steps":1}"#;
    let length = record.len();
    let post =
        format!("POST /ingest HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{record}");
    let range = "user_id=1&start=2025-01-01T00:00:00Z&end=2100-01-01T00:00:00Z";
    let get = format!("GET /metrics?{range} HTTP/1.0\r\n\r\n");
    for request in [&post, &get].repeat(10) {
        let response = exchange(address, request).await.unwrap();
        assert!(response.starts_with("HTTP/1.0 200"), "{response}");
    }
}

/// Returns the first line that a new feed connection receives.
async fn first_event(address: SocketAddr) -> String {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let mut line = String::new();
    let read = timeout(TIMEOUT, stream.read_line(&mut line)).await;
    read.expect("a line in time").unwrap();
    line
}

#[tokio::test]
async fn a_crowd_of_silent_http_connections_locks_nobody_out() {
    let database = TestDatabase::new().await;
    let (_server, addresses) = serve(&database).await;
    let _crowd = crowd(addresses.http).await;
    assert_http_serves(addresses.http).await;
    assert!(first_event(addresses.feed).await.contains("hello"));
}

#[tokio::test]
async fn a_crowd_of_idle_feed_connections_takes_nothing_from_http_and_the_database() {
    let database = TestDatabase::new().await;
    let (_server, addresses) = serve(&database).await;
    let mut crowd = crowd(addresses.feed).await;
    assert_http_serves(addresses.http).await;
    let event = first_event(addresses.feed).await;
    assert!(event.contains("too many feed connections"), "{event}");
    // A share is free again when its connections have ended.
    crowd.clear();
    let is_served = async { while !first_event(addresses.feed).await.contains("hello") {} };
    timeout(TIMEOUT, is_served).await.expect("a free share in time");
}

#[tokio::test]
async fn too_few_descriptors_for_the_database_end_the_start_with_the_remedy() {
    let mut command = Command::new("sh");
    let script = "ulimit -n 64; exec \"$0\" --readers 100 --http 127.0.0.1:0 --feed 127.0.0.1:0";
    command.args(["-c", script, env!("CARGO_BIN_EXE_health-server")]);
    let output = timeout(TIMEOUT, command.stdin(Stdio::null()).output()).await;
    let output = output.expect("an end in time").unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("64 open files") && message.contains("ulimit -n"),
        "{message}"
    );
}
