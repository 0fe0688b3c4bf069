//! The program itself: what it prints, when it ends, and with which status.

#![cfg(test)]

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use health_core::Problem;
use rustix::process::{Pid, Signal, kill_process};
use test_support::TestDatabase;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn health_server(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_health-server"));
    command
        .args(arguments)
        .env_remove("DATABASE_URL")
        .kill_on_drop(true)
        .stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
async fn outcome(arguments: &[&str]) -> Output {
    timeout(PATIENCE, health_server(arguments).output())
        .await
        .expect("an end in time")
        .unwrap()
}

/// Starts it, and reads the two addresses off its first line.
async fn serving(arguments: &[&str]) -> (Child, BufReader<ChildStdout>, String, String) {
    let mut child = health_server(&[&["--http", "127.0.0.1:0", "--feed", "127.0.0.1:0"], arguments].concat())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    timeout(PATIENCE, out.read_line(&mut line))
        .await
        .expect("a line in time")
        .unwrap();
    let (http, feed) = line
        .trim_end()
        .strip_prefix("listening http=http://")
        .and_then(|rest| rest.split_once(" feed="))
        .unwrap();
    let (http, feed) = (http.to_owned(), feed.to_owned());
    (child, out, http, feed)
}

fn send(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
}

async fn ask(address: &str, request: String) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .expect("an answer in time")
        .unwrap();
    answer
}

#[tokio::test]
async fn it_says_where_it_serves_and_ends_in_order_when_asked() {
    for signal in [Signal::INT, Signal::TERM] {
        let database = TestDatabase::empty().await;
        let (mut child, mut out, http, feed) = serving(&["--database-url", database.url()]).await;
        let body = r#"{"user_id":1,"steps":1}"#;
        let head = "POST /ingest HTTP/1.0\r\ncontent-type: application/json";
        let answer = ask(&http, format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
        let mut reader = BufReader::new(TcpStream::connect(&feed).await.unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        assert!(line.contains("hello"), "{line}");

        send(&child, signal);
        line.clear();
        reader.read_line(&mut line).await.unwrap();
        assert!(line.contains("bye"), "{line}");
        drop(reader);
        let status = timeout(PATIENCE, child.wait()).await.expect("an end in time").unwrap();
        assert_eq!(status.code(), Some(0));
        let mut rest = String::new();
        out.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "", "one line is all there is on stdout");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for arguments in [
        ["--http", &address, "--feed", "127.0.0.1:0"],
        ["--feed", &address, "--http", "127.0.0.1:0"],
    ] {
        let output = outcome(&arguments).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            error.contains(&address) && error.contains("taken") && error.contains(arguments[0]),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn an_address_others_can_reach_has_to_be_allowed() {
    for flag in ["--http", "--feed"] {
        let output = outcome(&[flag, "0.0.0.0:0"]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            error.contains("--allow-anonymous") && error.contains("0.0.0.0:0"),
            "{error}"
        );
    }
    let database = TestDatabase::new().await;
    let arguments = [
        "--database-url",
        database.url(),
        "--allow-anonymous",
        "--http",
        "0.0.0.0:0",
        "--feed",
        "[::1]:0",
    ];
    let mut child = health_server(&arguments).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .await
        .unwrap();
    assert!(line.starts_with("listening http=http://0.0.0.0:"), "{line}");
}

#[tokio::test]
async fn migrate_brings_the_schema_up_to_date_and_ends() {
    let database = TestDatabase::empty().await;
    for _ in 0..2 {
        let output = outcome(&["migrate", "--database-url", database.url()]).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_waited_for_and_its_password_kept() {
    // Somebody listens, and hangs up.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://someone:hunter2@{}/health_db", nobody.local_addr().unwrap());
    tokio::spawn(async move { while nobody.accept().await.is_ok() {} });
    let arguments = ["--http", "127.0.0.1:0", "--feed", "127.0.0.1:0", "--database-url", &url];
    let mut child = health_server(&arguments).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    timeout(PATIENCE, log.read_line(&mut line))
        .await
        .expect("a line in time")
        .unwrap();
    assert!(line.contains("waiting up to 60s"), "{line}");
    send(&child, Signal::TERM);
    let status = timeout(PATIENCE, child.wait()).await.expect("an end in time").unwrap();
    assert_eq!(status.code(), Some(0));
    log.read_to_string(&mut line).await.unwrap();
    assert!(!line.contains("hunter2"), "{line}");
}

#[tokio::test]
async fn flags_and_variables_are_read_and_nonsense_is_named() {
    let database = TestDatabase::new().await;
    let mut command = health_server(&["--http", "127.0.0.1:0", "--feed", "127.0.0.1:0"]);
    let mut child = command
        .env("DATABASE_URL", database.url())
        .env("HEALTH_MAX_BODY", "10")
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .await
        .unwrap();
    let http = line
        .trim_end()
        .strip_prefix("listening http=http://")
        .and_then(|rest| rest.split(' ').next())
        .unwrap();
    let answer = ask(
        http,
        "POST /ingest HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n           ".to_owned(),
    )
    .await;
    let problem: Problem = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(problem.status, 413);
    for arguments in [
        ["--max-body", "many"],
        ["--max-future", "1w"],
        ["--http", ""],
        ["--writers", "-1"],
        ["--no-such-flag", "1"],
    ] {
        let output = outcome(&arguments).await;
        assert_ne!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    let help = String::from_utf8(outcome(&["--help"]).await.stdout).unwrap();
    assert!(
        help.contains("--max-line") && help.contains("HEALTH_MAX_LINE"),
        "{help}"
    );
}
