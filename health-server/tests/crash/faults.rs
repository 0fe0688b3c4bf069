//! A database that goes, is full, or is stuck, and comes back: without a restart everything is well again.

use std::{fs, net::SocketAddr, time::Duration};

use rustix::process::Signal;
use serde_json::Value;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    client::Client,
    database::{Database, directory, kill_postgres},
    server::Server,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

async fn serve(database: &Database, arguments: &[&str]) -> Server {
    let url = database.url();
    let arguments = [&["--database-url", &url], arguments].concat();
    Server::start(&arguments, &database.directory().join("server.log")).await
}

/// One record of a user, in its own connection.
async fn post(http: SocketAddr, user: i64) -> (u16, Value) {
    let body = format!(r#"{{"user_id":{user},"heart_rate":60}}"#);
    let mut client = Client::connect(http).await.unwrap();
    client.post("application/json", body.as_bytes()).await.unwrap()
}

async fn ready(http: SocketAddr) -> u16 {
    Client::connect(http).await.unwrap().get("/-/ready").await.unwrap().0
}

/// Asks until it is well; until then everything is a 503.
async fn until_well(http: SocketAddr) {
    let well = async {
        loop {
            match (post(http, 1).await.0, ready(http).await) {
                (200, 200) => break,
                (posted, ready) => assert!([200, 503].contains(&posted) && [200, 503].contains(&ready)),
            }
        }
    };
    timeout(PATIENCE, well).await.expect("all well in time");
}

#[tokio::test]
async fn a_restart_of_postgresql_within_the_deadline_is_waited_for() {
    let mut database = Database::start("restart").await;
    let server = serve(&database, &["--ingest-deadline", "60s", "--connection-wait", "100ms"]).await;
    let http = server.http();
    assert_eq!(post(http, 1).await.0, 200);
    for signal in [Signal::INT, Signal::QUIT] {
        database.end(signal).await;
        let mut waiting = JoinSet::new();
        for user in 1..=20 {
            waiting.spawn(post(http, user));
        }
        assert_eq!(ready(http).await, 503);
        database.restart().await;
        for (status, answer) in waiting.join_all().await {
            assert_eq!((status, answer["inserted"].as_i64()), (200, Some(1)), "{answer}");
        }
        until_well(http).await;
    }
    assert_eq!(server.end().await.code(), Some(0));
}

#[tokio::test]
async fn out_of_connections_is_a_503_until_there_are_some_again() {
    let database = Database::start("connections").await;
    let server = serve(&database, &["--ingest-deadline", "500ms", "--connection-wait", "100ms"]).await;
    let http = server.http();
    assert_eq!(post(http, 1).await.0, 200);
    let admin = database.connect().await;
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'health'";
    let mut taken = Vec::new();
    // Whatever the server lets go of is taken, until it has none.
    while admin.query_one(ours, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        database_cut(&admin).await;
        while let Ok(client) = database.try_connect().await {
            taken.push(client);
        }
    }
    let (status, answer) = post(http, 1).await;
    assert_eq!((status, answer["accepted"].as_i64()), (503, Some(0)), "{answer}");
    assert_eq!(ready(http).await, 503);
    drop(taken);
    until_well(http).await;
    assert_eq!(server.end().await.code(), Some(0));
}

async fn database_cut(admin: &tokio_postgres::Client) {
    let cut = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'health'";
    admin.batch_execute(cut).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_locked_costs_time_and_little_memory() {
    const CLIENTS: i64 = 48;
    const MEMORY_MIB: u64 = 160;
    let database = Database::start("locked").await;
    let server = serve(&database, &["--ingest-deadline", "1s", "--queue-rows", "20000"]).await;
    let http = server.http();
    let admin = database.connect().await;
    admin.batch_execute("BEGIN; LOCK TABLE health_metrics").await.unwrap();
    let mut clients = JoinSet::new();
    for user in 1..=CLIENTS {
        clients.spawn(async move {
            // Half a million lines, if it were to take them.
            let line = |second: i64| format!("{{\"user_id\":{user},\"timestamp\":{},\"steps\":1}}\n", at(second));
            let body: String = (0..50_000).map(line).collect();
            Client::connect(http)
                .await
                .unwrap()
                .post("application/x-ndjson", body.as_bytes())
                .await
        });
    }
    while let Some(answer) = clients.join_next().await {
        let (status, answer) = answer.unwrap().unwrap();
        assert!([429, 503].contains(&status), "{answer}");
        assert_eq!(answer["accepted"], 0, "{answer}");
    }
    let memory = server.memory_mib();
    assert!(memory < MEMORY_MIB, "{memory} MiB");
    admin.batch_execute("COMMIT").await.unwrap();
    until_well(http).await;
    assert_eq!(server.end().await.code(), Some(0));
}

fn at(second: i64) -> String {
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("\"2025-03-02T{hour:02}:{minute:02}:{second:02}Z\"")
}

#[tokio::test]
async fn a_server_whose_own_postgresql_dies_ends_with_an_error_that_says_so() {
    let directory = directory("own");
    let (data, log) = (directory.join("data"), directory.join("server.log"));
    let arguments = ["--data-dir", data.to_str().unwrap(), "--ingest-deadline", "1h"];
    let mut server = Server::start(&arguments, &log).await;
    let http = server.http();
    assert_eq!(post(http, 1).await.0, 200);
    let mut client = Client::connect(http).await.unwrap();
    kill_postgres(&data, Signal::QUIT);
    // Nobody keeps it waiting, whatever the deadline.
    let body = r#"{"user_id":1,"heart_rate":60}"#.as_bytes();
    let last = tokio::spawn(async move { client.post("application/json", body).await });
    assert_eq!(server.status().await.code(), Some(1));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("PostgreSQL") && log.contains("ended"), "{log}");
    let acknowledged = 1 + i64::from(matches!(last.await.unwrap(), Ok((200, _))));
    // What was acknowledged is there at the next start.
    let server = Server::start(&["--data-dir", data.to_str().unwrap()], &directory.join("server.log")).await;
    let (status, answer) = Client::connect(server.http())
        .await
        .unwrap()
        .get("/users")
        .await
        .unwrap();
    assert_eq!(status, 200, "{answer}");
    assert!(answer["users"][0]["samples"].as_i64() >= Some(acknowledged), "{answer}");
    assert_eq!(server.end().await.code(), Some(0));
    fs::remove_dir_all(directory).unwrap();
}
