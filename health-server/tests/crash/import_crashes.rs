//! An import whose program or whose server is killed. What is stored in the end is the file, and nothing twice.

use std::process::Stdio;

use test_support::{ReservedPort, TestProcess, test_directory};
use tokio::{io::AsyncWriteExt, process::Command, task::yield_now};

use crate::{client::Client, database::Database, server::Server};

/// Records of one half of the file. A batch has about 25 000.
const HALF: i64 = 30_000;

/// The seconds of a day: each record has a time of its own.
fn records(numbers: std::ops::Range<i64>) -> String {
    let record = |number: i64| {
        let (day, second) = (1 + number / 86_400, number % 86_400);
        let time = format!(
            "2025-03-{day:02}T{:02}:{:02}:{:02}Z",
            second / 3600,
            second / 60 % 60,
            second % 60
        );
        format!("{{\"user_id\":7,\"timestamp\":\"{time}\",\"heart_rate\":70,\"steps\":1,\"source\":\"watch\"}}\n")
    };
    numbers.map(record).collect()
}

/// Starts an import of its own standard input.
fn start_import(server: &Server) -> TestProcess {
    let mut command = Command::new(env!("CARGO_BIN_EXE_health-server"));
    let url = format!("http://{}", server.http());
    command
        .args(["import", "--server", &url, "/dev/stdin"])
        .stderr(Stdio::null());
    TestProcess::start(command)
}

/// Writes to the import. Fails if it ends.
async fn write(import: &mut TestProcess, records: &str) {
    import
        .child()
        .stdin
        .as_mut()
        .unwrap()
        .write_all(records.as_bytes())
        .await
        .unwrap();
}

/// Returns the numbers of stored samples and of steps.
async fn totals(server: &Server) -> (i64, i64) {
    let mut client = Client::connect(server.http()).await.unwrap();
    let path = "/metrics?user_id=7&start=2025-01-01T00:00:00Z&end=2026-01-01T00:00:00Z";
    let (_, stats) = client.get(path).await.unwrap();
    (
        stats["samples"].as_i64().unwrap(),
        stats["total_steps"].as_i64().unwrap(),
    )
}

async fn wait_until_something_is_stored(server: &Server) {
    while totals(server).await.0 == 0 {
        yield_now().await;
    }
}

/// Returns the exit status and the rows `stored` and `unchanged` of the table.
async fn end(mut import: TestProcess) -> (Option<i32>, [i64; 2]) {
    drop(import.child().stdin.take());
    let table = import.rest_of_output().await;
    let row = |name: &str| {
        let row = table.lines().find_map(|line| line.strip_prefix(name));
        row.unwrap_or_else(|| panic!("no {name} in {table}"))
            .trim()
            .parse()
            .unwrap()
    };
    let rows = ["stored", "unchanged"].map(row);
    (import.wait().await.code(), rows)
}

#[tokio::test]
async fn an_import_that_is_killed_half_way_and_repeated_stores_the_file_once() {
    let database = Database::start().await;
    let directory = test_directory();
    let url = database.url();
    let server = Server::start(&["--database-url", &url], &directory.path().join("log")).await;
    let mut import = start_import(&server);
    write(&mut import, &records(0..HALF)).await;
    wait_until_something_is_stored(&server).await;
    import.kill().await;

    let mut import = start_import(&server);
    write(&mut import, &records(0..2 * HALF)).await;
    let (status, [stored, unchanged]) = end(import).await;
    assert_eq!((status, stored + unchanged), (Some(0), 2 * HALF));
    assert!(unchanged > 0, "the first import has stored something");
    assert_eq!(totals(&server).await, (2 * HALF, 2 * HALF));
}

#[tokio::test]
async fn an_import_whose_server_is_killed_goes_on_when_it_is_back_and_loses_and_doubles_nothing() {
    let database = Database::start().await;
    let directory = test_directory();
    let url = database.url();
    let (arguments, log) = (["--database-url", url.as_str()], directory.path().join("log"));
    let port = ReservedPort::new();
    let http = port.address().to_string();
    let server = Server::start_at(&http, &arguments, &log).await;
    let mut import = start_import(&server);
    write(&mut import, &records(0..HALF)).await;
    wait_until_something_is_stored(&server).await;
    server.kill().await;
    write(&mut import, &records(HALF..2 * HALF)).await;
    drop(import.child().stdin.take());
    let server = Server::start_at(&http, &arguments, &log).await;
    let (status, [stored, unchanged]) = end(import).await;
    assert_eq!((status, stored + unchanged), (Some(0), 2 * HALF));
    assert_eq!(totals(&server).await, (2 * HALF, 2 * HALF));
}
