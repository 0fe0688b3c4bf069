//! Starting, using and stopping.

use health_core::embedded::{Cluster, EmbeddedError};

use crate::{
    child::Keeper,
    scratch::{Scratch, count, is_over, kill, postmaster, run, until},
};

#[tokio::test]
async fn rows_survive_two_starts() {
    let scratch = Scratch::new("two-starts");
    for start in 0..3 {
        let cluster = Cluster::start(scratch.options()).await.unwrap();
        let url = cluster.url("postgres");
        run(
            &url,
            "CREATE TABLE IF NOT EXISTS rows (n integer); INSERT INTO rows VALUES (1)",
        )
        .await;
        assert_eq!(count(&url, "rows").await, start + 1);
        cluster.stop().await.unwrap();
        assert!(is_over(&scratch.data()));
    }
}

#[tokio::test]
async fn it_is_durable_unless_told_otherwise() {
    let scratch = Scratch::new("durable");
    for (options, expected) in [(scratch.options(), "on"), (scratch.quick(), "off")] {
        let cluster = Cluster::start(options.setting("work_mem", "5MB")).await.unwrap();
        let client = crate::scratch::connect(&cluster.url("postgres")).await;
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
async fn of_two_starts_at_once_one_wins_and_the_other_says_so() {
    let scratch = Scratch::new("at-once");
    let both = tokio::join!(Cluster::start(scratch.quick()), Cluster::start(scratch.quick()));
    let (cluster, error) = match both {
        (Ok(cluster), Err(error)) | (Err(error), Ok(cluster)) => (cluster, error),
        both => panic!("one starts and one does not: {both:?}"),
    };
    assert!(matches!(error, EmbeddedError::AlreadyRunning { .. }), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("already running") && message.contains(scratch.data().to_str().unwrap()),
        "{message}"
    );
    assert_eq!(count(&cluster.url("postgres"), "pg_database").await, 3);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_process_is_named_and_can_attach() {
    let scratch = Scratch::new("attach");
    let mut keeper = Keeper::start(&scratch.data());
    let (_, url) = keeper.wait_until_ready();
    run(&url, "CREATE TABLE rows AS SELECT 1 AS n").await;

    let error = Cluster::start(scratch.options()).await.unwrap_err();
    assert!(
        matches!(error, EmbeddedError::AlreadyRunning { process: Some(id), .. } if id == keeper.id()),
        "{error}"
    );

    let attached = Cluster::attach(scratch.options()).await.unwrap();
    assert!(!attached.is_owner());
    assert_eq!(count(&attached.url("postgres"), "rows").await, 1);
    attached.stop().await.unwrap();
    assert_eq!(
        count(&url, "rows").await,
        1,
        "the server is not the attached one's to stop"
    );
}

#[tokio::test]
async fn attaching_starts_a_server_where_there_is_none() {
    let scratch = Scratch::new("attach-first");
    let cluster = Cluster::attach(scratch.quick()).await.unwrap();
    assert!(cluster.is_owner());
    assert_eq!(count(&cluster.url("postgres"), "pg_database").await, 3);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn attaching_waits_for_a_server_that_is_starting() {
    let scratch = Scratch::new("attach-early");
    let keeper = Keeper::start(&scratch.data());
    let lock = scratch.data().join("server.lock");
    until("the directory is owned", || {
        std::fs::metadata(&lock).is_ok_and(|it| it.len() > 0)
    })
    .await;
    let attached = Cluster::attach(scratch.options()).await.unwrap();
    assert!(!attached.is_owner());
    assert_eq!(count(&attached.url("postgres"), "pg_database").await, 3);
    keeper.kill();
}

#[tokio::test]
async fn a_command_that_runs_once_is_waited_for() {
    let scratch = Scratch::new("moment");
    let first = Cluster::attach(scratch.quick()).await.unwrap();
    let server = Cluster::start(scratch.quick());
    let second = async {
        let cluster = Cluster::attach(scratch.quick()).await.unwrap();
        assert_eq!(count(&cluster.url("postgres"), "rows").await, 1);
        cluster.stop().await.unwrap();
    };
    let first = async {
        run(&first.url("postgres"), "CREATE TABLE rows AS SELECT 1 AS n").await;
        first.stop().await.unwrap();
    };
    let (server, (), ()) = tokio::join!(server, second, first);
    let server = server.unwrap();
    assert_eq!(count(&server.url("postgres"), "rows").await, 1);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_end_unasked_is_noticed() {
    let scratch = Scratch::new("unasked");
    let cluster = Cluster::start(scratch.quick()).await.unwrap();
    kill(postmaster(&scratch.data()));
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
async fn dropping_it_ends_it() {
    let scratch = Scratch::new("dropped");
    let cluster = Cluster::start(scratch.quick()).await.unwrap();
    assert!(!is_over(&scratch.data()));
    drop(cluster);
    until("PostgreSQL ends", || is_over(&scratch.data())).await;
    let again = Cluster::start(scratch.quick()).await.unwrap();
    drop(again);
    // Without waiting: the start itself waits for the one that is ending.
    Cluster::start(scratch.quick()).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn stopping_cuts_open_connections() {
    let scratch = Scratch::new("cut");
    let cluster = Cluster::start(scratch.quick()).await.unwrap();
    let client = crate::scratch::connect(&cluster.url("postgres")).await;
    client.batch_execute("BEGIN").await.unwrap();
    cluster.stop().await.unwrap();
    assert!(client.batch_execute("COMMIT").await.is_err());
}

#[tokio::test]
async fn a_start_that_fails_shows_the_log() {
    let scratch = Scratch::new("log");
    let error = Cluster::start(scratch.quick().setting("shared_buffers", "plenty"))
        .await
        .unwrap_err();
    assert!(matches!(error, EmbeddedError::StoppedWhileStarting { .. }), "{error}");
    let message = error.to_string();
    assert!(
        message.contains(r#"invalid value for parameter "shared_buffers": "plenty""#),
        "{message}"
    );
    // Neither the directory nor the data is the worse for it.
    Cluster::start(scratch.quick()).await.unwrap().stop().await.unwrap();
}
