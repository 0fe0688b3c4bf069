//! Tests that kill processes at the worst moments.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use health_core::embedded::Cluster;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::oneshot;

use crate::{
    child::ClusterProcess,
    support::{TestDirectory, connect, count_rows, execute, has_ended, kill, postmaster_pid, wait_until},
};

#[tokio::test]
async fn after_a_kill_postgresql_ends_and_an_immediate_start_succeeds() {
    let directory = TestDirectory::new();
    let mut process = ClusterProcess::start(&directory.data());
    let (_, url) = process.wait_until_ready().await;
    execute(&url, "CREATE TABLE rows AS SELECT generate_series(1, 1000) AS n").await;
    process.kill().await;

    // PostgreSQL has not noticed yet that its owner was killed.
    let cluster = Cluster::start(directory.durable_options()).await.unwrap();
    assert_eq!(count_rows(&cluster.url("postgres"), "rows").await, 1000);
    cluster.stop().await.unwrap();

    // Without a new start, it ends by itself.
    let mut process = ClusterProcess::start(&directory.data());
    process.wait_until_ready().await;
    process.kill().await;
    wait_until("PostgreSQL ends after its owner", || has_ended(&directory.data())).await;
}

#[tokio::test]
async fn committed_rows_survive_a_kill_of_both_processes_during_a_write() {
    let directory = TestDirectory::new();
    let mut committed = 0;
    for _ in 0..3 {
        let mut process = ClusterProcess::start(&directory.data());
        let (_, url) = process.wait_until_ready().await;
        execute(&url, "CREATE TABLE IF NOT EXISTS rows (n bigint)").await;
        let found = count_rows(&url, "rows").await;
        assert!(found >= committed, "{committed} rows were committed, {found} are there");

        let (started, has_started) = oneshot::channel();
        let writing = tokio::spawn(write_until_an_error(url, found, started));
        has_started.await.unwrap();
        // PostgreSQL first: it ends by itself when its owner has ended.
        kill(postmaster_pid(&directory.data()));
        process.kill().await;
        committed = writing.await.unwrap();
    }
    let cluster = Cluster::start(directory.durable_options()).await.unwrap();
    let found = count_rows(&cluster.url("postgres"), "rows").await;
    assert!(
        found >= committed && committed > 0,
        "{committed} rows were committed, {found} are there"
    );
    cluster.stop().await.unwrap();
}

/// Inserts rows until a statement fails. Returns the number of committed rows, including those before.
async fn write_until_an_error(url: String, mut committed: i64, started: oneshot::Sender<()>) -> i64 {
    let client = connect(&url).await;
    let mut started = Some(started);
    while client
        .batch_execute("INSERT INTO rows SELECT generate_series(1, 100)")
        .await
        .is_ok()
    {
        committed += 100;
        if let Some(started) = started.take() {
            started.send(()).unwrap();
        }
    }
    committed
}

#[tokio::test]
async fn a_stale_pid_file_with_the_id_of_a_running_process_does_not_prevent_a_start() {
    // PostgreSQL must be allowed to signal the process, so the file is that of another PostgreSQL.
    let other = TestDirectory::new();
    let other_cluster = Cluster::start(other.options()).await.unwrap();

    let directory = TestDirectory::new();
    Cluster::start(directory.options()).await.unwrap().stop().await.unwrap();
    let file = fs::read_to_string(other.data().join("pgdata/postmaster.pid")).unwrap();
    for name in ["pgdata/postmaster.pid", "run/.s.PGSQL.5432.lock", "run/.s.PGSQL.5432"] {
        fs::write(directory.data().join(name), &file).unwrap();
    }
    assert_eq!(postmaster_pid(&directory.data()), postmaster_pid(&other.data()));

    let cluster = Cluster::start(directory.options()).await.unwrap();
    assert_eq!(count_rows(&cluster.url("postgres"), "pg_database").await, 3);
    cluster.stop().await.unwrap();
    other_cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_kill_during_initdb_leaves_nothing_to_repair() {
    let directory = TestDirectory::new();
    // At the beginning, in the middle and near the end, initdb has created so many databases.
    for databases in [0, 1, 3] {
        let process = ClusterProcess::start(&directory.data());
        wait_until("initdb creates the databases", || {
            count_databases(&directory.data()) >= Some(databases) || has_cluster(&directory.data())
        })
        .await;
        process.kill().await;
        if has_cluster(&directory.data()) {
            // initdb was too fast to be killed. Remove its cluster for the next attempt.
            wait_until("PostgreSQL ends after its owner", || has_ended(&directory.data())).await;
            fs::remove_dir_all(directory.data().join("pgdata")).unwrap();
        }
    }
    let cluster = Cluster::start(directory.durable_options()).await.unwrap();
    assert_eq!(count_rows(&cluster.url("postgres"), "pg_database").await, 3);
    cluster.stop().await.unwrap();
    assert!(has_cluster(&directory.data()) && !directory.data().join("pgdata.new").exists());
}

#[tokio::test]
async fn a_kill_right_after_postgresql_was_run_ends_it() {
    let directory = TestDirectory::new();
    Cluster::start(directory.options()).await.unwrap().stop().await.unwrap();
    for _ in 0..5 {
        let mut process = ClusterProcess::start(&directory.data());
        process.wait_until_spawned().await;
        process.kill().await;
        wait_until("PostgreSQL ends after its owner", || has_ended(&directory.data())).await;
    }
}

/// A process that starts a program has its locks twice for an instant. If it is killed then, one of them stays until
/// the program runs.
#[tokio::test]
async fn a_start_waits_for_the_lock_of_an_owner_that_has_ended() {
    let directory = TestDirectory::new();
    let (data, path) = (directory.data(), directory.data().join("server.lock"));
    fs::create_dir(&data).unwrap();
    let mut owner = Command::new("true").spawn().unwrap();
    owner.wait().unwrap();
    fs::write(&path, format!("{} \n", owner.id())).unwrap();
    let lock = File::open(&path).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let second_attempt = async {
        // Each attempt closes the directory to other users.
        for _ in 0..2 {
            fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
            wait_until("an attempt to start", || {
                fs::metadata(&data).unwrap().permissions().mode() & 0o777 == 0o700
            })
            .await;
        }
        drop(lock);
    };
    let (cluster, ()) = tokio::join!(Cluster::start(directory.options()), second_attempt);
    cluster.unwrap().stop().await.unwrap();
}

/// Returns how many databases initdb has created, or `None` before it has begun to write files.
fn count_databases(data: &Path) -> Option<usize> {
    let pgdata = data.join("pgdata.new");
    let databases = fs::read_dir(pgdata.join("base")).map_or(0, Iterator::count);
    pgdata.join("PG_VERSION").exists().then_some(databases)
}

fn has_cluster(data: &Path) -> bool {
    data.join("pgdata").exists()
}

#[tokio::test]
async fn a_throw_away_cluster_is_removed_after_a_kill() {
    let mut process = ClusterProcess::start(Path::new(""));
    let (data, url) = process.wait_until_ready().await;
    assert_eq!(count_rows(&url, "pg_database").await, 3);
    assert!(Path::new(&data).exists());
    process.kill().await;
    wait_until("the data directory is removed", || !Path::new(&data).exists()).await;
}
