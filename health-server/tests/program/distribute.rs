//! `health-server distribute`: what it prints, and what it says where it cannot work.

use test_support::{TestDatabase, is_on_citus};
use tokio::time::timeout;
use tokio_postgres::NoTls;

use super::{TIMEOUT, run_to_end, serve};

/// Returns the exit status, stdout and stderr.
async fn distribute(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run_to_end(&[&["distribute", "--log", "error"], arguments].concat()).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn a_database_without_citus_is_refused_with_what_to_install() {
    if is_on_citus() {
        eprintln!("skipped: a cluster has Citus");
        return;
    }
    let database = TestDatabase::new().await;
    for arguments in [vec![], vec!["--dry-run"]] {
        let url = ["--database-url", database.url()];
        let (status, printed, message) = distribute(&[&arguments[..], &url].concat()).await;
        assert_eq!((status, printed.as_str()), (Some(1), ""), "{message}");
        assert!(
            message.contains("Citus") && message.contains("CREATE EXTENSION citus"),
            "{message}"
        );
    }
    let empty = TestDatabase::empty().await;
    let (status, _, message) = distribute(&["--database-url", empty.url()]).await;
    assert_eq!(status, Some(1));
    assert!(message.contains("health-server migrate"), "{message}");
    let (status, _, message) = distribute(&[]).await;
    assert_eq!(status, Some(1));
    assert!(message.contains("--database-url"), "{message}");
}

#[tokio::test]
async fn a_coordinator_is_told_line_by_line_and_servers_must_be_stopped_first() {
    let database = TestDatabase::undistributed().await;
    if !is_on_citus() {
        database.pretend_citus().await;
    }
    let url = ["--database-url", database.url()];

    let (status, script, _) = distribute(&[&url[..], &["--dry-run"]].concat()).await;
    assert_eq!(status, Some(0));
    let create = "SELECT create_distributed_table('health_metrics', 'user_id');";
    assert!(
        script.starts_with("BEGIN;") && script.ends_with("COMMIT;\n") && script.contains(create),
        "{script}"
    );

    let (server, _) = serve(&url).await;
    let (status, _, message) = distribute(&url).await;
    assert_eq!(status, Some(1), "{message}");
    assert!(
        message.contains("in use by process") && message.contains("Stop every server"),
        "{message}"
    );
    assert_eq!(server.stop().await.code(), Some(0));

    // What was printed before does the same, as soon as no session of the server is left.
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let sessions =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'health%'";
    let ended = async { while client.query_one(sessions, &[]).await.unwrap().get::<_, i64>(0) > 0 {} };
    timeout(TIMEOUT, ended).await.expect("the end of all sessions in time");
    client.batch_execute(&script).await.unwrap();
    let (status, lines, message) = distribute(&url).await;
    assert_eq!(status, Some(0), "{message}");
    for table in ["health_metrics", "health_rollups", "health_dirty", "health_commits"] {
        let line = lines.lines().find(|line| line.starts_with(table));
        assert!(line.is_some_and(|line| line.contains("already")), "{table}: {lines}");
    }
    assert!(
        lines.contains("health_sealing") && lines.contains("stay on the coordinator"),
        "{lines}"
    );
}
