//! A role with few connections.

use std::time::Duration;

use futures_util::future::join_all;
use test_support::TestDatabase;

use crate::support::{Server, record, until_ok};

/// Longer than the requests of a burst take, also on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// So short that a test can wait until it has passed.
const SHORT: Duration = Duration::from_secs(2);

/// A server whose role may have some connections only, and whose requests wait this long for one. Returns it with the
/// name of the role.
async fn limited_server(limit: i32, wait: Duration) -> (Server, String) {
    let database = TestDatabase::new().await;
    let role = format!("limited_{}", database.name());
    let (admin, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    admin
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN CONNECTION LIMIT {limit}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; \
             GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}"
        ))
        .await
        .unwrap();
    let user = database.url().parse::<tokio_postgres::Config>().unwrap();
    let user = user.get_user().unwrap();
    let url = database.url().replacen(&format!("//{user}@"), &format!("//{role}@"), 1);
    assert_ne!(url, database.url());
    let server = Server::with_database(database, Some(&url), |_, core| {
        core.ingest_deadline = wait;
        core.connection_wait = wait;
    })
    .await;
    (server, role)
}

async fn drop_role(server: Server, role: &str) {
    let sql = server.sql().await;
    let (running, _database) = server.stop();
    running.await.unwrap().unwrap();
    sql.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await
        .unwrap();
}

fn range(user: i64) -> String {
    format!("/metrics?user_id={user}&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z")
}

async fn post_for_all_users(server: &Server, second: i64) {
    let posts = (1..=8).map(|user| server.post("json", record(user, second)));
    for response in join_all(posts).await {
        assert_eq!(response.status, 200, "{response:?}");
    }
}

#[tokio::test]
async fn all_users_are_served_with_four_connections_also_after_a_burst_of_queries() {
    for limit in [4, 5, 6] {
        let (server, role) = limited_server(limit, LONG).await;
        for second in 0..20 {
            // All users at once, so that both writers want to write.
            post_for_all_users(&server, second).await;
            let paths: Vec<_> = (1..=16).map(range).collect();
            for response in join_all(paths.iter().map(|path| server.get(path))).await {
                assert_eq!(response.status, 200, "{response:?}");
            }
        }
        assert_eq!(server.get("/-/ready").await.status, 200);
        // Every connection is lost, and queries are first to open new ones.
        let sql = server.sql().await;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1";
        sql.execute(end, &[&role]).await.unwrap();
        let paths: Vec<_> = (1..=16).map(range).collect();
        join_all(paths.iter().map(|path| server.get(path))).await;
        loop {
            let response = server.post("json", record(1, 100)).await;
            if response.status == 200 && server.get("/-/ready").await.status == 200 {
                break;
            }
        }
        post_for_all_users(&server, 101).await;
        drop_role(server, &role).await;
    }
}

#[tokio::test]
async fn a_role_without_connections_is_named_as_the_reason_and_the_server_recovers() {
    let (server, role) = limited_server(6, SHORT).await;
    let sql = server.sql().await;
    let limit = async |limit: i32| {
        let limit = format!("ALTER ROLE {role} CONNECTION LIMIT {limit}");
        sql.batch_execute(&limit).await.unwrap();
    };
    limit(0).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1";
    sql.execute(end, &[&role]).await.unwrap();
    // The first answers may still be about the lost connections.
    loop {
        let (posted, read) = tokio::join!(server.post("json", record(1, 0)), server.get("/users"));
        let ready = server.get("/-/ready").await;
        let responses = [posted, read, ready];
        assert!(responses.iter().all(|response| response.status == 503), "{responses:?}");
        let reason = "too many connections";
        if responses.iter().all(|response| response.problem().contains(reason)) {
            break;
        }
    }
    limit(6).await;
    loop {
        let (posted, ready) = tokio::join!(server.post("json", record(1, 0)), server.get("/-/ready"));
        if posted.status == 200 && ready.status == 200 {
            break;
        }
    }
    until_ok(async || server.get(&range(1)).await).await;
    drop_role(server, &role).await;
}
