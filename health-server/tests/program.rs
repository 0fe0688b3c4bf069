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

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use health_core::Problem;
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

/// The table of the migration library.
const HISTORY: &str = "CREATE TABLE refinery_schema_history \
     (version int4 PRIMARY KEY, name varchar(255), applied_on varchar(255), checksum varchar(255))";

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
async fn a_data_directory_beside_a_database_url_is_warned_of_if_it_is_a_flag() {
    let database = TestDatabase::new().await;
    let warns = async |mut command: Command| {
        command.env("DATABASE_URL", database.url());
        let output = timeout(TIMEOUT, command.output()).await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("--data-dir has no effect")
    };
    assert!(warns(health_server(&["token", "list", "--data-dir", "/nonexistent"])).await);
    // A package may set the variable for all of its commands.
    let mut with_variable = health_server(&["token", "list"]);
    with_variable.env("HEALTH_DATA_DIR", "/nonexistent");
    assert!(!warns(with_variable).await);
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
                .batch_execute(include_str!("../../migrations/V1__health_metrics.sql"))
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
        while !text.contains("the blocker") {
            let line = timeout(TIMEOUT, log.read_line(&mut text)).await;
            assert_ne!(line.expect("a log line in time").unwrap(), 0, "{text}");
        }
        for part in [&format!("process {pid} "), "since 20", "postgres"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        assert_eq!(text.contains("the table health_metrics"), is_table, "{text}");
        drop(client);
        server.listening().await;
        assert_eq!(server.stop().await.code(), Some(0));
    }
}

#[tokio::test]
async fn an_empty_database_url_is_an_error() {
    let mut with_variable = health_server(&FREE_PORTS);
    with_variable.env("DATABASE_URL", "");
    let with_flag = health_server(&[&FREE_PORTS[..], &["--database-url", ""]].concat());
    for mut command in [with_flag, with_variable] {
        let output = timeout(TIMEOUT, command.stdin(Stdio::null()).output())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("a URL that is not empty"), "{message}");
    }
}

#[tokio::test]
async fn an_empty_variable_is_named_in_the_error_unless_it_may_be_empty() {
    /// An empty value of these means none.
    const MAY_BE_EMPTY: [&str; 4] = [
        "HEALTH_ALLOW_ANONYMOUS",
        "HEALTH_ALLOW_HOST",
        "HEALTH_LOG",
        "HEALTH_TOKEN",
    ];
    // Files that are not there end an import that finds nothing else wrong.
    for arguments in [&["man"][..], &["import", "/no/such/file"]] {
        let help = run_to_end(&[arguments[0], "--help"]).await.stdout;
        let mut help = String::from_utf8(help).unwrap();
        if arguments == ["man"] {
            help = String::from_utf8(run_to_end(&["--help"]).await.stdout).unwrap();
        }
        let variables: Vec<_> = help
            .split("[env: ")
            .skip(1)
            .map(|rest| rest.split(['=', ']']).next().unwrap())
            .collect();
        assert!(variables.contains(&"HEALTH_LOG"), "{help}");
        for variable in variables {
            let mut command = health_server(arguments);
            command.env(variable, "").stdin(Stdio::null());
            let output = timeout(TIMEOUT, command.output()).await.unwrap().unwrap();
            let message = String::from_utf8(output.stderr).unwrap();
            let start = format!("error: the environment variable {variable} is empty. Unset it, or write ");
            let is_refused = output.status.code() == Some(2) && message.starts_with(&start);
            assert_ne!(is_refused, MAY_BE_EMPTY.contains(&variable), "{variable}: {message}");
        }
    }
}

#[tokio::test]
async fn a_variable_that_is_mistaken_for_that_of_the_database_is_warned_of() {
    let database = TestDatabase::new().await;
    let mut command = health_server(&["migrate", "--database-url", database.url()]);
    command.env("HEALTH_DATABASE_URL", "postgres://me:hunter2@host/db");
    let output = timeout(TIMEOUT, command.stdin(Stdio::null()).output()).await;
    let log = String::from_utf8(output.unwrap().unwrap().stderr).unwrap();
    let expected = "HEALTH_DATABASE_URL has no effect: write its value to DATABASE_URL";
    assert!(log.contains(expected) && !log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn a_wrong_value_of_a_variable_is_refused_with_its_name_unless_a_flag_has_the_value() {
    for (arguments, variable, value, parts) in [
        (
            &["man"][..],
            "HEALTH_WRITERS",
            "many",
            &["'many'", "--writers", "at least 1"][..],
        ),
        (
            &["man"],
            "HEALTH_LOG_FORMAT",
            "xml",
            &["'xml'", "--log-format", "text or json"],
        ),
        (
            &["token", "list"],
            "HEALTH_LOG",
            "a=loud",
            &["--log", "health_core=debug"],
        ),
    ] {
        let mut command = health_server(arguments);
        command.env(variable, value).stdin(Stdio::null());
        let output = timeout(TIMEOUT, command.output()).await.unwrap().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        for part in [variable].iter().chain(parts) {
            assert!(message.contains(part), "{part} is missing: {message}");
        }
    }
    let mut command = health_server(&["--writers", "few"]);
    command.env("HEALTH_WRITERS", "many").stdin(Stdio::null());
    let output = timeout(TIMEOUT, command.output()).await.unwrap().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("'few' for '--writers <N>'"), "{message}");
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
    while !text.contains("waiting up to 60s") {
        let line = timeout(TIMEOUT, log.read_line(&mut text)).await;
        assert_ne!(line.expect("a log line in time").unwrap(), 0, "{text}");
    }
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
    while !text.contains("waiting up to 60s") {
        let line = timeout(TIMEOUT, log.read_line(&mut text)).await;
        assert_ne!(line.expect("a log line in time").unwrap(), 0, "{text}");
    }
    client.batch_execute("ROLLBACK").await.unwrap();
    server.listening().await;
    assert_eq!(server.stop().await.code(), Some(0));
}

#[tokio::test]
async fn environment_variables_set_options() {
    let database = TestDatabase::new().await;
    let mut command = health_server(&FREE_PORTS);
    command.env("DATABASE_URL", database.url()).env("HEALTH_MAX_BODY", "10");
    let mut server = TestProcess::start(command);
    let addresses = server.listening().await;
    let response = post(addresses, "           ").await;
    let problem: Problem = serde_json::from_str(response.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(problem.status, 413);
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
