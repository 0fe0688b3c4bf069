//! Functions that the tests share: data directories, SQL statements, processes, and waiting.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use health_core::embedded::Options;
use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, kill_process},
};
use test_support::{TempDir, test_directory};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

/// The longest time that [`wait_until`] waits. The events take milliseconds, but the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(90);

/// A temporary directory with the path of a data directory in it. Every user may enter it.
pub(crate) struct TestDirectory(TempDir);

impl TestDirectory {
    pub(crate) fn new() -> TestDirectory {
        TestDirectory(test_directory())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the path of the data directory, which does not exist at first.
    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub(crate) fn durable_options(&self) -> Options {
        Options::new().data_dir(self.data())
    }

    /// Returns options that do not wait for the disk, for tests without a crash.
    pub(crate) fn options(&self) -> Options {
        self.durable_options().durable(false)
    }
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub(crate) async fn execute(url: &str, statements: &str) {
    connect(url).await.batch_execute(statements).await.unwrap();
}

pub(crate) async fn count_rows(url: &str, table: &str) -> i64 {
    connect(url)
        .await
        .query_one(&format!("SELECT count(*) FROM {table}"), &[])
        .await
        .unwrap()
        .get(0)
}

/// Checks a condition until it is true. The operating system reports the end of a process only to its parent.
pub(crate) async fn wait_until(description: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "not within {TIMEOUT:?}: {description}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Returns whether all processes of the PostgreSQL in this data directory have ended.
pub(crate) fn has_ended(data: &Path) -> bool {
    match fs::File::open(data.join("pg.lock")) {
        Ok(file) => flock(&file, FlockOperation::NonBlockingLockShared).is_ok(),
        Err(_) => true,
    }
}

pub(crate) fn postmaster_pid(data: &Path) -> i32 {
    let text = fs::read_to_string(data.join("pgdata/postmaster.pid")).unwrap();
    text.lines().next().unwrap().trim().parse().unwrap()
}

pub(crate) fn kill(process: i32) {
    kill_process(Pid::from_raw(process).unwrap(), Signal::KILL).unwrap();
}

pub(crate) fn owner(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().uid()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
