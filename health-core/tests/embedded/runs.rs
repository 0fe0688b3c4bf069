//! Tests of starting, using and stopping.

use std::fs;

use health_core::{
    DatabaseStatus, OutageReason,
    embedded::{Cluster, EmbeddedError},
};

use crate::{
    child::ClusterProcess,
    support::{TestDirectory, count_rows, execute, has_ended, kill, postmaster_pid, wait_until},
};

#[tokio::test]
async fn rows_survive_restarts() {
    let directory = TestDirectory::new();
    for start in 0..3 {
        let cluster = Cluster::start(directory.durable_options()).await.unwrap();
        let url = cluster.url("postgres");
        execute(
            &url,
            "CREATE TABLE IF NOT EXISTS rows (n integer); INSERT INTO rows VALUES (1)",
        )
        .await;
        assert_eq!(count_rows(&url, "rows").await, start + 1);
        cluster.stop().await.unwrap();
        assert!(has_ended(&directory.data()));
    }
}

#[tokio::test]
async fn commits_are_durable_by_default() {
    let directory = TestDirectory::new();
    for (options, expected) in [(directory.durable_options(), "on"), (directory.options(), "off")] {
        let cluster = Cluster::start(options.setting("work_mem", "5MB")).await.unwrap();
        let client = crate::support::connect(&cluster.url("postgres")).await;
        for name in ["fsync", "synchronous_commit", "full_page_writes"] {
            let value: String = client
                .query_one("SELECT current_setting($1)", &[&name])
                .await
                .unwrap()
                .get(0);
            assert_eq!(value, expected, "{name}");
        }
        let row = client.query_one(
            "SELECT current_setting('work_mem'), current_setting('listen_addresses')",
            &[],
        );
        let row = row.await.unwrap();
        assert_eq!((row.get(0), row.get(1)), ("5MB", ""));
        cluster.stop().await.unwrap();
    }
}

#[tokio::test]
async fn of_two_concurrent_starts_one_succeeds_and_the_other_reports_it() {
    let directory = TestDirectory::new();
    let both = tokio::join!(Cluster::start(directory.options()), Cluster::start(directory.options()));
    let (cluster, error) = match both {
        (Ok(cluster), Err(error)) | (Err(error), Ok(cluster)) => (cluster, error),
        both => panic!("one must succeed and one must fail: {both:?}"),
    };
    assert!(matches!(error, EmbeddedError::AlreadyRunning { .. }), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("already running") && message.contains(directory.data().to_str().unwrap()),
        "{message}"
    );
    assert_eq!(count_rows(&cluster.url("postgres"), "pg_database").await, 3);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_start_names_the_owner_and_a_command_can_attach() {
    let directory = TestDirectory::new();
    let mut process = ClusterProcess::start(&directory.data());
    let (_, url) = process.wait_until_ready().await;
    execute(&url, "CREATE TABLE rows AS SELECT 1 AS n").await;

    let error = Cluster::start(directory.durable_options()).await.unwrap_err();
    assert!(
        matches!(error, EmbeddedError::AlreadyRunning { process: Some(id), .. } if id == process.id()),
        "{error}"
    );

    let attached = Cluster::attach(directory.durable_options()).await.unwrap();
    assert!(!attached.is_owner());
    assert_eq!(count_rows(&attached.url("postgres"), "rows").await, 1);
    attached.stop().await.unwrap();
    assert_eq!(
        count_rows(&url, "rows").await,
        1,
        "a command that attached must not stop the server"
    );
}

#[tokio::test]
async fn attaching_starts_postgresql_if_none_is_running() {
    let directory = TestDirectory::new();
    let cluster = Cluster::attach(directory.options()).await.unwrap();
    assert!(cluster.is_owner());
    assert_eq!(count_rows(&cluster.url("postgres"), "pg_database").await, 3);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn attaching_waits_for_postgresql_to_start() {
    let directory = TestDirectory::new();
    let process = ClusterProcess::start(&directory.data());
    let lock = directory.data().join("server.lock");
    wait_until("the data directory is locked", || {
        fs::metadata(&lock).is_ok_and(|metadata| metadata.len() > 0)
    })
    .await;
    let attached = Cluster::attach(directory.durable_options()).await.unwrap();
    assert!(!attached.is_owner());
    assert_eq!(count_rows(&attached.url("postgres"), "pg_database").await, 3);
    process.kill().await;
}

#[tokio::test]
async fn a_start_waits_for_the_end_of_a_command() {
    let directory = TestDirectory::new();
    let first = Cluster::attach(directory.options()).await.unwrap();
    let server = Cluster::start(directory.options());
    let second = async {
        let cluster = Cluster::attach(directory.options()).await.unwrap();
        assert_eq!(count_rows(&cluster.url("postgres"), "rows").await, 1);
        cluster.stop().await.unwrap();
    };
    let first = async {
        execute(&first.url("postgres"), "CREATE TABLE rows AS SELECT 1 AS n").await;
        first.stop().await.unwrap();
    };
    let (server, (), ()) = tokio::join!(server, second, first);
    let server = server.unwrap();
    assert_eq!(count_rows(&server.url("postgres"), "rows").await, 1);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_unexpected_end_is_reported_if_postgresql_is_not_started_again() {
    let directory = TestDirectory::new();
    let cluster = Cluster::start(directory.options().restart(false)).await.unwrap();
    kill(postmaster_pid(&directory.data()));
    let error = cluster.ended().await;
    assert!(
        matches!(error, EmbeddedError::EndedUnexpectedly { status: Some(_), .. }),
        "{error}"
    );
    assert!(matches!(
        cluster.stop().await,
        Err(EmbeddedError::EndedUnexpectedly { .. })
    ));
}

#[tokio::test]
async fn postgresql_is_started_again_if_it_is_killed() {
    let directory = TestDirectory::new();
    let status = DatabaseStatus::default();
    let options = directory.durable_options().status(status.clone());
    let cluster = Cluster::start(options).await.unwrap();
    let url = cluster.url("postgres");
    execute(&url, "CREATE TABLE rows AS SELECT 1 AS n").await;
    for _ in 0..2 {
        kill(postmaster_pid(&directory.data()));
        wait_until("the outage is reported", || status.outage().is_some()).await;
        let outage = status.outage().unwrap();
        assert_eq!((outage.reason, outage.is_lasting), (OutageReason::Killed, false));
        wait_until("PostgreSQL runs again", || status.outage().is_none()).await;
        assert_eq!(count_rows(&url, "rows").await, 1);
    }
    cluster.stop().await.unwrap();
    assert!(has_ended(&directory.data()));
}

#[tokio::test]
async fn a_cluster_can_be_stopped_and_dropped_while_postgresql_is_down() {
    let directory = TestDirectory::new();
    for stop in [true, false] {
        let status = DatabaseStatus::default();
        let options = directory.options().status(status.clone());
        let cluster = Cluster::start(options).await.unwrap();
        kill(postmaster_pid(&directory.data()));
        wait_until("the outage is reported", || status.outage().is_some()).await;
        if stop {
            cluster.stop().await.unwrap();
        } else {
            drop(cluster);
        }
        // Nothing starts PostgreSQL any more, and the directory is free.
        wait_until("all processes of PostgreSQL end", || has_ended(&directory.data())).await;
        Cluster::start(directory.options()).await.unwrap().stop().await.unwrap();
    }
}

#[tokio::test]
async fn an_end_that_waiting_cannot_cure_is_final() {
    for (file, content) in [("pgdata/PG_VERSION", "13\n"), ("pgdata/global/pg_control", "")] {
        let directory = TestDirectory::new();
        let cluster = Cluster::start(directory.options()).await.unwrap();
        let file = directory.data().join(file);
        let before = fs::read(&file).unwrap();
        fs::write(&file, content).unwrap();
        kill(postmaster_pid(&directory.data()));
        let error = cluster.ended().await;
        assert!(
            matches!(
                error,
                EmbeddedError::OtherVersion { .. } | EmbeddedError::StoppedWhileStarting { .. }
            ),
            "{error}"
        );
        assert!(cluster.stop().await.is_err());
        fs::write(&file, before).unwrap();
        Cluster::start(directory.options()).await.unwrap().stop().await.unwrap();
    }
}

#[tokio::test]
async fn dropping_the_cluster_ends_postgresql() {
    let directory = TestDirectory::new();
    let cluster = Cluster::start(directory.options()).await.unwrap();
    assert!(!has_ended(&directory.data()));
    drop(cluster);
    wait_until("PostgreSQL ends", || has_ended(&directory.data())).await;
    let again = Cluster::start(directory.options()).await.unwrap();
    drop(again);
    // The start itself waits for the PostgreSQL that is ending.
    Cluster::start(directory.options()).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn stopping_closes_open_connections() {
    let directory = TestDirectory::new();
    let cluster = Cluster::start(directory.options()).await.unwrap();
    let client = crate::support::connect(&cluster.url("postgres")).await;
    client.batch_execute("BEGIN").await.unwrap();
    cluster.stop().await.unwrap();
    assert!(client.batch_execute("COMMIT").await.is_err());
}

#[tokio::test]
async fn a_failed_start_shows_the_log() {
    let directory = TestDirectory::new();
    let error = Cluster::start(directory.options().setting("shared_buffers", "plenty"))
        .await
        .unwrap_err();
    assert!(matches!(error, EmbeddedError::StoppedWhileStarting { .. }), "{error}");
    let message = error.to_string();
    assert!(
        message.contains(r#"invalid value for parameter "shared_buffers": "plenty""#),
        "{message}"
    );
    // The directory is still usable.
    Cluster::start(directory.options()).await.unwrap().stop().await.unwrap();
}
