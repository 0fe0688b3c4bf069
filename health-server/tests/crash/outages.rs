//! The database restarts, runs out of connections, is locked, or dies. The server recovers without a restart.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use rustix::process::Signal;
use serde_json::Value;
use test_support::test_directory;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    client::{Client, records},
    database::{Database, TERMINATE, kill_postgres, postgres_of},
    server::Server,
};

/// Longer than any recovery takes on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(3);

/// How long one question may take while PostgreSQL is down: several fit into the second before it is started again.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(100);

/// Counts the connections of the server.
const SERVER_CONNECTIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'health-server %'";

async fn start_server(database: &Database, options: &[&str]) -> Server {
    let url = database.url();
    let arguments = [&["--database-url", &url], options].concat();
    Server::start(&arguments, &database.directory().join("server.log")).await
}

/// Posts one sample of a user over a connection of its own.
async fn post(http: SocketAddr, user: i64) -> (u16, Value) {
    let body = format!(r#"{{"user_id":{user},"heart_rate":60}}"#);
    let mut client = Client::connect(http).await.unwrap();
    client.post("application/json", body.as_bytes()).await.unwrap()
}

/// Returns the status of `/-/ready`.
async fn ready(http: SocketAddr) -> u16 {
    Client::connect(http).await.unwrap().get("/-/ready").await.unwrap().0
}

/// Waits until the server stores samples and is ready. Until then, both must give 503.
async fn wait_for_recovery(http: SocketAddr) {
    let recovery = async {
        loop {
            match (post(http, 1).await.0, ready(http).await) {
                (200, 200) => break,
                (posted, ready) => assert!([200, 503].contains(&posted) && [200, 503].contains(&ready)),
            }
        }
    };
    timeout(TIMEOUT, recovery).await.expect("a recovery in time");
}

#[tokio::test]
async fn requests_wait_for_a_restart_of_postgresql_within_their_deadline() {
    let mut database = Database::start().await;
    let options = ["--ingest-deadline", "60s", "--connection-wait", "100ms"];
    let server = start_server(&database, &options).await;
    let http = server.http();
    assert_eq!(post(http, 1).await.0, 200);
    for signal in [Signal::INT, Signal::QUIT] {
        database.stop_postgres(signal).await;
        let mut requests = JoinSet::new();
        for user in 1..=20 {
            requests.spawn(post(http, user));
        }
        assert_eq!(ready(http).await, 503);
        database.start_postgres().await;
        for (status, response) in requests.join_all().await {
            assert_eq!((status, response["inserted"].as_i64()), (200, Some(1)), "{response}");
        }
        wait_for_recovery(http).await;
    }
    assert_eq!(server.stop().await.code(), Some(0));
}

#[tokio::test]
async fn a_postgresql_without_free_connections_gives_503_until_some_are_free() {
    let database = Database::start().await;
    let options = ["--ingest-deadline", "500ms", "--connection-wait", "100ms"];
    let server = start_server(&database, &options).await;
    let http = server.http();
    // The first sample may take longer than the short deadline.
    wait_for_recovery(http).await;
    let admin = database.connect().await;
    let count_connections = async || -> i64 { admin.query_one(SERVER_CONNECTIONS, &[]).await.unwrap().get(0) };
    let mut taken = Vec::new();
    // Ends the connections of the server and takes their places, until the server has none.
    while count_connections().await > 0 {
        admin.batch_execute(TERMINATE).await.unwrap();
        while let Ok(client) = database.try_connect().await {
            taken.push(client);
        }
    }
    let (status, response) = post(http, 1).await;
    assert_eq!((status, response["accepted"].as_i64()), (503, Some(0)), "{response}");
    assert_eq!(ready(http).await, 503);
    drop(taken);
    wait_for_recovery(http).await;
    assert_eq!(server.stop().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_bounded_while_the_table_is_locked() {
    const CLIENTS: i64 = 48;
    const RECORDS_PER_CLIENT: i64 = 50_000;
    const PEAK_MEMORY_MIB_MAX: u64 = 160;
    let database = Database::start().await;
    let options = ["--ingest-deadline", "1s", "--queue-rows", "20000"];
    let server = start_server(&database, &options).await;
    let http = server.http();
    let admin = database.connect().await;
    admin.batch_execute("BEGIN; LOCK TABLE health_metrics").await.unwrap();
    let mut requests = JoinSet::new();
    for user in 1..=CLIENTS {
        requests.spawn(async move {
            let body = records(user, RECORDS_PER_CLIENT);
            let mut client = Client::connect(http).await.unwrap();
            client.post("application/x-ndjson", body.as_bytes()).await
        });
    }
    while let Some(response) = requests.join_next().await {
        let (status, response) = response.unwrap().unwrap();
        assert!([429, 503].contains(&status), "{response}");
        assert_eq!(response["accepted"], 0, "{response}");
    }
    let peak = server.peak_memory_mib();
    assert!(peak < PEAK_MEMORY_MIB_MAX, "{peak} MiB");
    admin.batch_execute("COMMIT").await.unwrap();
    wait_for_recovery(http).await;
    assert_eq!(server.stop().await.code(), Some(0));
}

/// Asks the server once why PostgreSQL has stopped. Returns `None` if the server does not say that it has.
///
/// A question that was asked before the server noticed the end waits for a connection and is answered after the
/// restart. So none is waited for long.
async fn reason_of_the_outage(http: SocketAddr) -> Option<String> {
    let mut client = Client::connect(http).await.unwrap();
    let answer = timeout(QUESTION_TIMEOUT, client.get("/-/ready")).await;
    let (status, response) = answer.ok()?.ok()?;
    let detail = response["detail"].as_str().unwrap_or_default();
    (status == 503 && detail.contains("PostgreSQL has stopped")).then(|| detail.to_owned())
}

/// Ends PostgreSQL, and asks until the server says why. PostgreSQL is started again after a second. If this machine is
/// so busy that no question was answered meanwhile, ends it once more.
async fn reason_after_a_signal(http: SocketAddr, data: &Path, signal: Signal) -> String {
    loop {
        let ended = kill_postgres(data, signal);
        let runs_again = async || postgres_of(data).is_some_and(|process| process != ended) && ready(http).await == 200;
        while !runs_again().await {
            if let Some(reason) = reason_of_the_outage(http).await {
                return reason;
            }
        }
    }
}

#[tokio::test]
async fn a_server_starts_its_own_postgresql_again_if_it_dies() {
    let directory = test_directory();
    let (data, log) = (directory.path().join("data"), directory.path().join("server.log"));
    let options = ["--data-dir", data.to_str().unwrap(), "--ingest-deadline", "60s"];
    let server = Server::start(&options, &log).await;
    let http = server.http();
    let mut acknowledged = 0;
    for signal in [Signal::KILL, Signal::QUIT] {
        assert_eq!(post(http, 1).await.0, 200);
        let reason = timeout(TIMEOUT, reason_after_a_signal(http, &data, signal))
            .await
            .expect("a reason in time");
        assert!(reason.contains("is being started again"), "{reason}");
        // A request waits for the end of a short outage.
        let (status, response) = post(http, 1).await;
        assert_eq!(status, 200, "{response}");
        acknowledged += 2;
        wait_for_recovery(http).await;
    }
    let (status, response) = Client::connect(http).await.unwrap().get("/users").await.unwrap();
    assert_eq!(status, 200, "{response}");
    assert!(
        response["users"][0]["samples"].as_i64() >= Some(acknowledged),
        "{response}"
    );
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("PostgreSQL is down; starting it again in 1 s"), "{text}");
    assert_eq!(server.stop().await.code(), Some(0));
}

/// PostgreSQL itself notices it within a minute, and goes on with files that nobody will find again.
#[tokio::test]
async fn a_server_whose_data_directory_is_gone_stores_nothing_until_it_is_back() {
    let directory = test_directory();
    let (data, log) = (directory.path().join("data"), directory.path().join("server.log"));
    let options = ["--data-dir", data.to_str().unwrap()];
    let server = Server::start(&options, &log).await;
    let http = server.http();
    assert_eq!(post(http, 1).await.0, 200);
    let elsewhere = directory.path().join("elsewhere");
    fs::rename(&data, &elsewhere).unwrap();
    let asking = async {
        loop {
            if let Some(reason) = reason_of_the_outage(http).await {
                return reason;
            }
        }
    };
    let reason = timeout(TIMEOUT, asking).await.expect("a reason in time");
    assert!(reason.contains("its data directory is gone"), "{reason}");
    let (status, response) = post(http, 1).await;
    assert_eq!(status, 503, "{response}");
    assert!(!data.exists(), "nobody makes an empty one");
    fs::rename(&elsewhere, &data).unwrap();
    wait_for_recovery(http).await;
    let (status, response) = Client::connect(http).await.unwrap().get("/users").await.unwrap();
    assert_eq!(status, 200, "{response}");
    assert!(response["users"][0]["samples"].as_i64() >= Some(1), "{response}");
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("restore a backup into the place"), "{text}");
    assert_eq!(server.stop().await.code(), Some(0));
}

#[tokio::test]
async fn a_server_ends_with_an_error_if_waiting_cannot_cure_its_own_postgresql() {
    let directory = test_directory();
    let (data, log) = (directory.path().join("data"), directory.path().join("server.log"));
    // The server must end soon, although requests may wait for an hour.
    let options = ["--data-dir", data.to_str().unwrap(), "--ingest-deadline", "1h"];
    let mut server = Server::start(&options, &log).await;
    let http = server.http();
    assert_eq!(post(http, 1).await.0, 200);
    let (control, elsewhere) = (data.join("pgdata/global/pg_control"), data.join("pg_control"));
    fs::rename(&control, &elsewhere).unwrap();
    // Before the server ends.
    let mut client = Client::connect(http).await.unwrap();
    kill_postgres(&data, Signal::KILL);
    let body = r#"{"user_id":1,"heart_rate":60}"#.as_bytes();
    let last_request = tokio::spawn(async move { client.post("application/json", body).await });
    assert_eq!(server.wait().await.code(), Some(1));
    let text = fs::read_to_string(&log).unwrap();
    assert!(
        text.contains("stopped while starting") && text.contains("pg_control"),
        "{text}"
    );
    let acknowledged = 1 + i64::from(matches!(last_request.await.unwrap(), Ok((200, _))));

    // The next start recovers every acknowledged sample.
    fs::rename(elsewhere, control).unwrap();
    let server = Server::start(&options[..2], &log).await;
    let mut client = Client::connect(server.http()).await.unwrap();
    let (status, response) = client.get("/users").await.unwrap();
    assert_eq!(status, 200, "{response}");
    assert!(
        response["users"][0]["samples"].as_i64() >= Some(acknowledged),
        "{response}"
    );
    assert_eq!(server.stop().await.code(), Some(0));
}
