//! Kills, at the worst moments.

use std::{fs, path::Path};

use health_core::embedded::Cluster;
use tokio::sync::oneshot;

use crate::{
    child::Keeper,
    scratch::{Scratch, connect, count, is_over, kill, postmaster, run, until},
};

#[tokio::test]
async fn after_a_kill_postgresql_ends_and_a_start_at_once_succeeds() {
    let scratch = Scratch::new("killed");
    let mut keeper = Keeper::start(&scratch.data());
    let (_, url) = keeper.wait_until_ready();
    run(&url, "CREATE TABLE rows AS SELECT generate_series(1, 1000) AS n").await;
    keeper.kill();

    // At once: PostgreSQL has yet to notice that its owner is gone.
    let cluster = Cluster::start(scratch.options()).await.unwrap();
    assert_eq!(count(&cluster.url("postgres"), "rows").await, 1000);
    cluster.stop().await.unwrap();

    // And with nobody waiting for it, it ends by itself.
    let mut keeper = Keeper::start(&scratch.data());
    keeper.wait_until_ready();
    keeper.kill();
    until("PostgreSQL ends with its owner", || is_over(&scratch.data())).await;
}

#[tokio::test]
async fn rows_committed_before_a_kill_of_both_in_mid_write_are_there() {
    let scratch = Scratch::new("both");
    let mut committed = 0;
    for _ in 0..3 {
        let mut keeper = Keeper::start(&scratch.data());
        let (_, url) = keeper.wait_until_ready();
        run(&url, "CREATE TABLE IF NOT EXISTS rows (n bigint)").await;
        let found = count(&url, "rows").await;
        assert!(found >= committed, "{committed} rows were committed, {found} are there");

        let (begun, has_begun) = oneshot::channel();
        let writing = tokio::spawn(write_until_it_breaks(url, found, begun));
        has_begun.await.unwrap();
        let server = postmaster(&scratch.data());
        keeper.kill();
        kill(server);
        committed = writing.await.unwrap();
    }
    let cluster = Cluster::start(scratch.options()).await.unwrap();
    let found = count(&cluster.url("postgres"), "rows").await;
    assert!(
        found >= committed && committed > 0,
        "{committed} rows were committed, {found} are there"
    );
    cluster.stop().await.unwrap();
}

/// The rows whose commit was answered, those of before included.
async fn write_until_it_breaks(url: String, mut committed: i64, begun: oneshot::Sender<()>) -> i64 {
    let client = connect(&url).await;
    let mut begun = Some(begun);
    while client
        .batch_execute("INSERT INTO rows SELECT generate_series(1, 100)")
        .await
        .is_ok()
    {
        committed += 100;
        if let Some(begun) = begun.take() {
            begun.send(()).unwrap();
        }
    }
    committed
}

#[tokio::test]
async fn a_stale_pid_file_that_names_a_living_process_does_not_block() {
    // The process has to be one that PostgreSQL may signal, so another PostgreSQL lends its own.
    let other = Scratch::new("lender");
    let lender = Cluster::start(other.quick()).await.unwrap();

    let scratch = Scratch::new("stale");
    Cluster::start(scratch.quick()).await.unwrap().stop().await.unwrap();
    let file = fs::read_to_string(other.data().join("pgdata/postmaster.pid")).unwrap();
    for name in ["pgdata/postmaster.pid", "run/.s.PGSQL.5432.lock", "run/.s.PGSQL.5432"] {
        fs::write(scratch.data().join(name), &file).unwrap();
    }
    assert_eq!(postmaster(&scratch.data()), postmaster(&other.data()));

    let cluster = Cluster::start(scratch.quick()).await.unwrap();
    assert_eq!(count(&cluster.url("postgres"), "pg_database").await, 3);
    cluster.stop().await.unwrap();
    lender.stop().await.unwrap();
}

#[tokio::test]
async fn a_kill_during_initdb_leaves_nothing_to_repair() {
    let scratch = Scratch::new("initdb");
    // At the beginning, in the middle and near the end of it.
    for milestone in ["pgdata.new/PG_VERSION", "pgdata.new/base/1", "pgdata.new/base/5"] {
        let keeper = Keeper::start(&scratch.data());
        let milestone = scratch.data().join(milestone);
        until("initdb is at work", || milestone.exists() || is_made(&scratch.data())).await;
        keeper.kill();
        if is_made(&scratch.data()) {
            // It was faster than we looked; begin again.
            until("PostgreSQL ends with its owner", || is_over(&scratch.data())).await;
            fs::remove_dir_all(scratch.data().join("pgdata")).unwrap();
        }
    }
    let cluster = Cluster::start(scratch.options()).await.unwrap();
    assert_eq!(count(&cluster.url("postgres"), "pg_database").await, 3);
    cluster.stop().await.unwrap();
    assert!(is_made(&scratch.data()) && !scratch.data().join("pgdata.new").exists());
}

fn is_made(data: &Path) -> bool {
    data.join("pgdata").exists()
}

#[tokio::test]
async fn a_throw_away_cluster_is_removed_after_a_kill() {
    let mut keeper = Keeper::start(Path::new(""));
    let (data, url) = keeper.wait_until_ready();
    assert_eq!(count(&url, "pg_database").await, 3);
    assert!(Path::new(&data).exists());
    keeper.kill();
    until("the directory is removed", || !Path::new(&data).exists()).await;
}
