//! `--database-url`: a fault ends the start at once and never shows the password, and TLS serves from end to end.

#![cfg(test)]

use std::{fs, process::Stdio, time::Duration};

use test_support::{Authority, TestCluster, TestDatabase, TestProcess, is_on_citus, test_directory};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};

/// Shorter than the server waits for a database that is out of reach, so a test fails if the server waits.
const AT_ONCE: Duration = Duration::from_secs(30);

fn health_server(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_health-server"));
    command
        .args(["--http", "127.0.0.1:0", "--feed", "127.0.0.1:0", "--database-url", url])
        .kill_on_drop(true);
    command
}

/// Runs a server that ends by itself, and returns what it wrote to stderr.
async fn message_of_end(url: &str) -> String {
    let output = health_server(url).stdin(Stdio::null()).output();
    let output = timeout(AT_ONCE, output).await.expect("an end at once").unwrap();
    assert_eq!(output.status.code(), Some(1), "{url}");
    assert!(output.stdout.is_empty(), "{url}");
    String::from_utf8(output.stderr).unwrap()
}

/// Starts PostgreSQL with TLS only, and a role that needs a password.
async fn cluster_with_tls(authority: &Authority) -> TestCluster {
    let cluster = TestCluster::start().await;
    let server = authority.sign("x", &["localhost"]);
    let certificate = cluster.install("server.crt", &server.certificate);
    let key = cluster.install("server.key", &server.key);
    let settings = [
        ("ssl_cert_file", certificate.to_str().unwrap()),
        ("ssl_key_file", key.to_str().unwrap()),
        ("ssl", "on"),
    ];
    let hba = "hostssl all all 127.0.0.1/32 scram-sha-256";
    cluster.configure(&settings, hba).await;
    cluster
        .execute("CREATE ROLE patient LOGIN CREATEDB PASSWORD 's#cret'")
        .await;
    cluster
}

#[tokio::test]
async fn the_server_stores_over_tls_and_its_log_names_database_host_and_role() {
    let (authority, directory) = (Authority::new("the authority"), test_directory());
    let cluster = cluster_with_tls(&authority).await;
    let root = directory.path().join("root.crt");
    fs::write(&root, authority.certificate()).unwrap();
    let (port, root) = (cluster.port(), root.display());
    let url = format!(
        "postgres://patient:s%23cret@localhost:{port}?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={root}"
    );
    let log = directory.path().join("log");
    let mut command = health_server(&url);
    command.stderr(fs::File::create(&log).unwrap());
    let mut server = TestProcess::start(command);
    let addresses = server.listening().await;
    let mut stream = TcpStream::connect(addresses.http).await.unwrap();
    let body = r#"{"user_id":1,"steps":1}"#;
    let head = "POST /ingest HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: 23\r\n\r\n";
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.0 200"), "{response}");
    assert!(server.stop().await.success());

    let log = fs::read_to_string(log).unwrap();
    let target = format!("database patient on localhost:{port} as role patient with sslmode=verify-full");
    assert!(log.contains(&target), "{log}");
    assert!(!log.contains("cret"), "{log}");
}

#[tokio::test]
async fn a_fault_that_waiting_cannot_cure_ends_the_start_at_once() {
    let authority = Authority::new("the authority");
    let cluster = cluster_with_tls(&authority).await;
    let other = test_directory().path().join("missing.crt");
    let (port, other) = (cluster.port(), other.display());
    let tcp = |credentials: &str, query: &str| {
        format!("postgres://{credentials}@localhost:{port}/d?hostaddr=127.0.0.1&{query}")
    };
    for (url, part) in [
        ("postgres://u:s@cret@localhost/d".to_owned(), "write %40"),
        ("'postgres://u:secret@localhost/d'".to_owned(), "in quotes"),
        (
            "postgresql+asyncpg://u:secret@localhost/d".to_owned(),
            "Write `postgres://`",
        ),
        (
            "jdbc:postgresql://localhost/d?password=secret".to_owned(),
            "Write `postgres://`",
        ),
        (
            "postgres://u:secret@localhost/d?sslmode=allow".to_owned(),
            "`sslmode=allow`",
        ),
        (tcp("patient:secret", ""), "Correct the user and the password"),
        (tcp("patient", ""), "asks for a password"),
        (tcp("patient:s%23cret", "sslmode=disable"), "write sslmode=require"),
        (tcp("patient:s%23cret", "sslmode=verify-full"), "sslrootcert=FILE"),
        (tcp("patient:s%23cret", &format!("sslrootcert={other}")), "missing.crt"),
        (tcp("patient:s%23cret", "sslrootcert=system"), "sslrootcert"),
    ] {
        let message = message_of_end(&url).await;
        assert!(message.contains(part), "{url}: {message}");
        assert!(!message.contains("cret"), "{url}: {message}");
    }
}

#[tokio::test]
async fn migrate_names_its_database_in_the_log() {
    let database = TestDatabase::empty().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_health-server"));
    command.args(["migrate", "--database-url", database.url()]);
    let output = command.output().await.unwrap();
    assert!(output.status.success());
    let log = String::from_utf8(output.stderr).unwrap();
    let place = if is_on_citus() { "" } else { "the socket " };
    let target = format!("using the database {} on {place}", database.name());
    assert!(log.contains(&target), "{log}");
}
