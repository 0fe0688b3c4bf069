//! The program `health-server`: what it prints, when it ends, and with which exit status.

#![cfg(test)]

#[path = "program/check.rs"]
mod check;
#[path = "program/config.rs"]
mod config;
#[path = "program/data_directory.rs"]
mod data_directory;
#[path = "program/distribute.rs"]
mod distribute;
#[path = "program/variables.rs"]
mod variables;
#[path = "program/waiting.rs"]
mod waiting;

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use test_support::{Addresses, Signal, TestDatabase, TestProcess};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, UnixDatagram},
    process::Command,
    time::timeout,
};
use tokio_postgres::NoTls;

/// Longer than anything here takes on a busy machine, also a new cluster that is synced to the disk. So a test that
/// waits in vain fails.
const TIMEOUT: Duration = Duration::from_mins(5);

const FREE_PORTS: [&str; 4] = ["--http", "127.0.0.1:0", "--feed", "127.0.0.1:0"];

fn health_server(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_health-server"));
    command.args(arguments).env_remove("DATABASE_URL").kill_on_drop(true);
    command
}

/// Runs the program until it ends by itself.
async fn run_to_end(arguments: &[&str]) -> Output {
    let mut command = health_server(arguments);
    let output = command.stdin(Stdio::null()).output();
    timeout(TIMEOUT, output).await.expect("an end in time").unwrap()
}

/// Starts a server on free ports and waits until it serves.
async fn serve(arguments: &[&str]) -> (TestProcess, Addresses) {
    let program = env!("CARGO_BIN_EXE_health-server");
    TestProcess::health_server(program, "127.0.0.1:0", arguments, Stdio::null()).await
}

/// Sends a JSON body to `/ingest` and returns the whole response.
async fn post(addresses: Addresses, body: &str) -> String {
    let mut stream = TcpStream::connect(addresses.http).await.unwrap();
    let length = body.len();
    let head = format!("POST /ingest HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    exchange(&mut stream, &(head + body)).await
}

/// Returns the whole response to a GET.
async fn get(addresses: Addresses, path: &str) -> String {
    let mut stream = TcpStream::connect(addresses.http).await.unwrap();
    exchange(&mut stream, &format!("GET {path} HTTP/1.0\r\n\r\n")).await
}

async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    let read = timeout(TIMEOUT, stream.read_to_string(&mut response)).await;
    read.expect("a response in time").unwrap();
    response
}

#[tokio::test]
async fn the_server_prints_its_addresses_and_ends_in_order_on_a_signal() {
    for signal in [Signal::INT, Signal::TERM] {
        let database = TestDatabase::empty().await;
        let (mut server, addresses) = serve(&["--database-url", database.url()]).await;
        let response = post(addresses, r#"{"user_id":1,"steps":1}"#).await;
        assert!(response.starts_with("HTTP/1.0 200"), "{response}");
        let mut feed = BufReader::new(TcpStream::connect(addresses.feed).await.unwrap());
        let mut line = String::new();
        feed.read_line(&mut line).await.unwrap();
        assert!(line.contains("hello"), "{line}");

        server.signal(signal);
        line.clear();
        feed.read_line(&mut line).await.unwrap();
        assert!(line.contains("bye"), "{line}");
        drop(feed);
        assert_eq!(server.wait().await.code(), Some(0));
        assert_eq!(server.rest_of_output().await, "", "stdout has one line only");
    }
}

#[tokio::test]
async fn systemd_is_told_when_the_server_serves_lives_and_stops() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let next = async || {
        let mut message = [0; 256];
        let length = timeout(TIMEOUT, socket.recv(&mut message))
            .await
            .expect("a message in time");
        String::from_utf8_lossy(&message[..length.unwrap()]).trim().to_owned()
    };
    let database = TestDatabase::empty().await;
    let mut command = health_server(&FREE_PORTS);
    command.args(["--database-url", database.url()]).stderr(Stdio::null());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
    let mut server = TestProcess::start(command);
    assert_eq!(next().await, "READY=1");
    server.listening().await;
    for _ in 0..3 {
        assert_eq!(next().await, "WATCHDOG=1");
    }
    server.signal(Signal::TERM);
    let mut message = next().await;
    while message == "WATCHDOG=1" {
        message = next().await;
    }
    assert_eq!(message, "STOPPING=1");
    // Until its end, the server may go on to tell that it lives. It waits for a reader of that.
    tokio::select! {
        status = server.wait() => assert_eq!(status.code(), Some(0)),
        () = async { while !next().await.is_empty() {} } => panic!("an empty message"),
    }
}

#[tokio::test]
async fn an_address_in_use_is_named_together_with_its_flag() {
    let other_program = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other_program.local_addr().unwrap().to_string();
    for arguments in [
        ["--http", &address, "--feed", "127.0.0.1:0"],
        ["--feed", &address, "--http", "127.0.0.1:0"],
    ] {
        let output = run_to_end(&arguments).await;
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        for part in [&address, "in use", arguments[0]] {
            assert!(message.contains(part), "{part} is missing: {message}");
        }
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn an_address_that_other_machines_can_reach_needs_a_token_or_permission() {
    let database = TestDatabase::empty().await;
    let url = ["--database-url", database.url()];
    for (flag, other) in [("--http", "--feed"), ("--feed", "--http")] {
        let output = run_to_end(&[&[flag, "0.0.0.0:0", other, "127.0.0.1:0"], &url[..]].concat()).await;
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        for part in ["--allow-anonymous", "0.0.0.0:0", flag, "token create"] {
            assert!(message.contains(part), "{part} is missing: {message}");
        }
        assert!(output.stdout.is_empty(), "it does not listen");
    }
    // Some containers have no IPv6.
    let has_ipv6 = TcpListener::bind("[::1]:0").await.is_ok();
    let feed = if has_ipv6 { "[::1]:0" } else { "127.0.0.1:0" };
    let exposed = ["--http", "0.0.0.0:0", "--feed", feed];
    let serve = async |more: &[&str]| {
        let mut command = health_server(&[&exposed, &url[..], more].concat());
        command.stderr(Stdio::null());
        let mut server = TestProcess::start(command);
        let addresses = server.listening().await;
        assert!(addresses.http.ip().is_unspecified(), "{addresses:?}");
    };
    serve(&["--allow-anonymous"]).await;
    let created = run_to_end(&[&["token", "create", "--name", "a", "--scope", "read"], &url[..]].concat()).await;
    assert_eq!(created.status.code(), Some(0));
    serve(&[]).await;
}

#[tokio::test]
async fn the_token_commands_print_the_secret_once_and_name_what_is_wrong() {
    let database = TestDatabase::empty().await;
    let token = async |arguments: &[&str]| {
        let output = run_to_end(&[&["token"], arguments, &["--database-url", database.url()]].concat()).await;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let create = [
        "create",
        "--name",
        "watch",
        "--scope",
        "ingest,read",
        "--users",
        "101,202",
        "--expires",
        "90d",
    ];
    let (status, secret, log) = token(&create).await;
    assert_eq!(status, Some(0));
    assert_eq!(secret.lines().count(), 1);
    let (status, list, _) = token(&["list"]).await;
    assert_eq!(status, Some(0));
    let (_, expires) = log.split_once("expires_at=\"").expect("when it expires");
    let second = expires.split(['.', 'Z']).next().unwrap();
    assert!(second.len() == 19 && list.contains(second), "{log}{list}");
    for part in ["watch", "ingest,read", "101,202", "never"] {
        assert!(list.contains(part), "{part} is missing: {list}");
    }
    assert!(!list.contains(secret.trim()));

    let (status, _, message) = token(&create).await;
    assert_eq!(status, Some(1));
    assert!(message.contains("watch exists"), "{message}");
    for (arguments, status, part) in [
        (&["revoke", "phone"][..], Some(1), "phone"),
        (
            &["create", "--name", "b", "--scope", "write"],
            Some(2),
            "ingest, read or erase",
        ),
        (&["create", "--name", "b c", "--scope", "read"], Some(2), "spaces"),
        (
            &["create", "--name", "b", "--scope", "read", "--users", "ana"],
            Some(2),
            "101,202",
        ),
        (
            &["create", "--name", "b", "--scope", "read", "--expires", "soon"],
            Some(2),
            "90d",
        ),
        (
            &["create", "--name", "b", "--scope", "read", "--expires", "5"],
            Some(2),
            "with a unit",
        ),
        (&["create", "--name", "b"], Some(2), "--scope"),
    ] {
        let (actual, stdout, message) = token(arguments).await;
        assert_eq!(actual, status, "{message}");
        assert!(message.contains(part) && stdout.is_empty(), "{message}");
    }
    let (status, _, _) = token(&["revoke", "watch"]).await;
    assert_eq!(status, Some(0));
    let (_, list, _) = token(&["list"]).await;
    assert_eq!(list.lines().count(), 1, "the head only: {list}");
}

#[tokio::test]
async fn migrate_updates_the_schema_and_ends_also_if_it_is_current() {
    let database = TestDatabase::empty().await;
    for _ in 0..2 {
        let output = run_to_end(&["migrate", "--database-url", database.url()]).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn a_dry_run_prints_sql_and_changes_nothing() {
    let database = TestDatabase::empty().await;
    for _ in 0..2 {
        let output = run_to_end(&["migrate", "--dry-run", "--database-url", database.url()]).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let page = String::from_utf8(output.stdout).unwrap();
        for part in [
            "has schema version 0",
            "\n-- Migration 1 (health_metrics). It took ",
            "\nCREATE TABLE health_metrics (",
            "--   none on what exists already\n",
        ] {
            assert!(page.contains(part), "{part} is missing: {page}");
        }
    }
    assert_eq!(
        run_to_end(&["migrate", "--database-url", database.url()])
            .await
            .status
            .code(),
        Some(0)
    );
    let output = run_to_end(&["migrate", "--dry-run", "--database-url", database.url()]).await;
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(page.contains("is up to date") && page.lines().count() == 1, "{page}");

    let directory = test_support::test_directory();
    let path = directory.path().join("data");
    let output = run_to_end(&["migrate", "--dry-run", "--data-dir", path.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!path.exists(), "no PostgreSQL was created");
}

#[tokio::test]
async fn migrate_prints_the_grants_of_a_role() {
    let database = TestDatabase::empty().await;
    let role = format!("an \"{}\"", database.name());
    let arguments = ["migrate", "--print-grants", &role, "--database-url", database.url()];
    let output = run_to_end(&arguments).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let statements = String::from_utf8(output.stdout).unwrap();
    let quoted = format!("\"an \"\"{}\"\"\"", database.name());
    for part in [
        format!("GRANT USAGE ON SCHEMA \"public\" TO {quoted};").as_str(),
        "\"public\".\"health_metrics\"",
        "GRANT USAGE, SELECT ON SEQUENCE \"public\".\"health_batch_numbers\"",
    ] {
        assert!(statements.contains(part), "{part} is missing: {statements}");
    }
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("CREATE ROLE {quoted}")).await.unwrap();
    client.batch_execute(&statements).await.unwrap();
}

#[tokio::test]
async fn invalid_options_end_the_program_with_a_message() {
    for arguments in [
        ["--max-body", "many"],
        ["--max-future", "1w"],
        ["--http", ""],
        ["--writers", "-1"],
        ["--no-such-flag", "1"],
    ] {
        let output = run_to_end(&arguments).await;
        assert_ne!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[tokio::test]
async fn help_names_the_flags_and_their_variables() {
    let help = String::from_utf8(run_to_end(&["--help"]).await.stdout).unwrap();
    for part in [
        "--max-line",
        "HEALTH_MAX_LINE",
        "--drain-timeout",
        "HEALTH_DRAIN_TIMEOUT",
    ] {
        assert!(help.contains(part), "{part} is missing: {help}");
    }
}
