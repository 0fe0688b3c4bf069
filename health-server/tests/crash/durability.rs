//! A role or a server whose commits do not wait for the disk. What the server reports as done is durable all the same.

use test_support::Signal;

use crate::{
    client::{Client, records},
    database::Database,
    server::Server,
};

/// Lets commits of the role return before they are on the disk. PostgreSQL writes them out by itself after a long
/// delay: a crash before loses them.
const WEAKEN_COMMITS: [&str; 3] = [
    "ALTER SYSTEM SET wal_writer_delay = '10s'",
    "SELECT pg_reload_conf()",
    "ALTER ROLE postgres SET synchronous_commit = off",
];

/// Erases that are tried. Another commit may happen to write out a lost one, so a single one proves little.
const ROUNDS: i64 = 5;

const RECORDS: i64 = 50;

async fn weaken_commits(database: &Database) {
    let admin = database.connect().await;
    for statement in WEAKEN_COMMITS {
        admin.batch_execute(statement).await.unwrap();
    }
}

#[tokio::test]
async fn an_erasure_and_an_acknowledged_sample_survive_a_kill_although_commits_are_weak_by_default() {
    let mut database = Database::start().await;
    let url = database.url();
    let server = Server::start(&["--database-url", &url], &database.directory().join("server.log")).await;
    weaken_commits(&database).await;
    for user in 1..=ROUNDS {
        // New connections, with the new default.
        database.terminate_connections().await;
        let mut client = Client::connect(server.http()).await.unwrap();
        for user in [user, user + ROUNDS] {
            let body = records(user, RECORDS);
            let (status, response) = client.post("application/x-ndjson", body.as_bytes()).await.unwrap();
            assert_eq!(status, 200, "{response}");
        }
        assert_eq!(client.delete(&format!("/users/{user}")).await.unwrap(), 204);
        database.restart(Signal::KILL).await;
        let admin = database.connect().await;
        let count = "SELECT count(*) FROM health_metrics WHERE user_id = $1";
        for (user, expected) in [(user, 0), (user + ROUNDS, RECORDS)] {
            let stored: i64 = admin.query_one(count, &[&user]).await.unwrap().get(0);
            assert_eq!(stored, expected, "user {user}");
        }
    }
    assert_eq!(server.stop().await.code(), Some(0));
}
