//! Panics in the running program: a handler answers 500, and background tasks start again.
//!
//! A row with a NULL where the schema has none makes the driver panic. The tests drop the constraint and write such a
//! row.

use serde_json::{Value, json};
use test_support::TestDatabase;
use tokio_postgres::Client;

use crate::{
    client::FeedConnection,
    guarded::in_time,
    program::Program,
    support::{counts, record},
};

/// The log line of each panic.
const BUG: &str = "a bug: the program panicked. Please report it";

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

async fn start() -> (TestDatabase, Program, Client) {
    let database = TestDatabase::new().await;
    let program = Program::on(&database).await;
    let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    (database, program, client)
}

/// Executes statements one by one: Citus refuses some that are sent with others.
async fn each<const N: usize>(sql: &Client, statements: [&str; N]) {
    for statement in statements {
        sql.batch_execute(statement).await.unwrap();
    }
}

async fn has_started_again(program: &mut Program, task: &str) {
    program
        .line(&[
            ("task", json!(task)),
            (
                "message",
                json!("a background task panicked, which is a bug; it starts again"),
            ),
        ])
        .await;
}

/// Subscribes after a cursor, and returns the events until the first sample or the end.
async fn resume(program: &Program, cursor: &str) -> Value {
    let mut feed = FeedConnection::connect(program.feed).await;
    feed.send(format!("SUBSCRIBE after={cursor}\n")).await;
    loop {
        let event = feed.event().await;
        if event["event"] == "sample" || event["event"] == "bye" {
            return event;
        }
    }
}

#[tokio::test]
async fn a_handler_and_the_roller_survive_a_panic() {
    let (_database, mut program, sql) = start().await;
    let roller_has_sealed = async || {
        let sealed = "SELECT sealed_before > '2001-01-01' FROM health_sealing";
        let is_done = async || sql.query_one(sealed, &[]).await.unwrap().get::<_, Option<bool>>(0) == Some(true);
        in_time(async { while !is_done().await {} }).await;
    };
    roller_has_sealed().await;
    let inject = "ALTER TABLE health_sealing ALTER COLUMN sealed_before DROP NOT NULL; \
         UPDATE health_sealing SET sealed_before = NULL";
    sql.batch_execute(inject).await.unwrap();

    let stats = "/metrics?user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";
    let response = program.request("GET", stats, &[], "").await;
    assert_eq!(response.status, 500, "{response:?}");
    assert!(response.problem().contains("Its log has the reason"));
    let id = response.header("x-request-id").unwrap().to_owned();
    for message in [BUG, "a handler panicked"] {
        program
            .line(&[("message", json!(message)), ("request_id", json!(id))])
            .await;
    }
    has_started_again(&mut program, "roller").await;

    sql.batch_execute(
        "UPDATE health_sealing SET sealed_before = '2000-01-01T00:00:00Z', threshold = '2000-01-01T00:00:00Z'",
    )
    .await
    .unwrap();
    assert_eq!(program.request("GET", stats, &[], "").await.status, 200);
    roller_has_sealed().await;
    program.stop().await;
}

#[tokio::test]
async fn the_poller_and_replays_survive_a_panic_and_deliver_each_sample_once() {
    let (_database, mut program, sql) = start().await;
    let mut feed = FeedConnection::connect(program.feed).await;
    let cursor = feed.event().await["cursor"].as_str().unwrap().to_owned();
    feed.send("SUBSCRIBE\n").await;
    assert_eq!(feed.event().await["event"], "subscribed");
    let inject = [
        "ALTER TABLE health_commits ALTER COLUMN batch DROP NOT NULL",
        "INSERT INTO health_commits (number, batch, writer, previous_writer, rows) \
         SELECT number + 1, NULL, 77, writer, 0 FROM health_commits ORDER BY number DESC LIMIT 1",
    ];
    each(&sql, inject).await;
    has_started_again(&mut program, "poller").await;
    let bye = resume(&program, &cursor).await;
    assert!(bye["reason"].as_str().unwrap().contains("connect again"), "{bye}");

    // Its commit waits for the one that cannot be read.
    let response = program.request("POST", "/ingest", &JSON, &record(7, 0)).await;
    assert_eq!(response.status, 200, "{response:?}");
    sql.batch_execute("UPDATE health_commits SET batch = 0 WHERE batch IS NULL")
        .await
        .unwrap();
    let response = program.request("POST", "/ingest", &JSON, &record(8, 0)).await;
    assert_eq!(response.status, 200, "{response:?}");
    let mut users = Vec::new();
    while users.len() < 2 {
        users.push(in_time(feed.sample()).await["user_id"].clone());
    }
    assert_eq!(users, [7, 8]);
    assert_eq!(resume(&program, &cursor).await["user_id"], 7);
    program.stop().await;
}

#[tokio::test]
async fn a_writer_survives_a_panic_and_what_it_had_committed_is_known() {
    let (_database, mut program, sql) = start().await;
    // The writer reads the answer to the record after its commit.
    let inject = [
        "ALTER TABLE health_commits ALTER COLUMN previous_writer DROP NOT NULL",
        "CREATE FUNCTION damage() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN NEW.previous_writer := NULL; RETURN NEW; END'",
        "CREATE TRIGGER damage BEFORE INSERT ON health_commits FOR EACH ROW EXECUTE FUNCTION damage()",
    ];
    each(&sql, inject).await;
    let response = program.request("POST", "/ingest", &JSON, &record(7, 0)).await;
    assert_eq!(response.status, 503, "{response:?}");
    has_started_again(&mut program, "writer").await;

    sql.batch_execute("DROP TRIGGER damage ON health_commits")
        .await
        .unwrap();
    let send = async || program.request("POST", "/ingest", &JSON, &record(7, 0)).await;
    let response = in_time(send()).await;
    assert_eq!(
        (response.status, counts(&response)),
        (200, [1, 0, 0, 1]),
        "{response:?}"
    );
    let ready = async || program.request("GET", "/-/ready", &[], "").await.status == 200;
    in_time(async { while !ready().await {} }).await;
    program.stop().await;
}
