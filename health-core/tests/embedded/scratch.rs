//! What the tests share: a directory, statements, and waiting.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use health_core::embedded::Options;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

/// Generous: what is waited for takes milliseconds, except on a machine with better things to do.
const DEADLINE: Duration = Duration::from_secs(90);

/// A directory that everybody may enter, removed after the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("health-embedded-{name}-{}", std::process::id()));
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&path).unwrap();
        Scratch(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A data directory that is not there yet.
    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    pub(crate) fn options(&self) -> Options {
        Options::new().data_dir(self.data())
    }

    /// The same without waiting for the disk, for tests in which nothing crashes.
    pub(crate) fn quick(&self) -> Options {
        self.options().durable(false)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A PostgreSQL that is just ending may still write; what it leaves lies in the temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub(crate) async fn run(url: &str, statements: &str) {
    connect(url).await.batch_execute(statements).await.unwrap();
}

pub(crate) async fn count(url: &str, table: &str) -> i64 {
    connect(url)
        .await
        .query_one(&format!("SELECT count(*) FROM {table}"), &[])
        .await
        .unwrap()
        .get(0)
}

/// Looks again and again: the operating system tells nobody about the ends of processes that are not theirs.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < DEADLINE, "waited in vain: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Whether no process of a PostgreSQL in this data directory lives any more.
pub(crate) fn is_over(data: &Path) -> bool {
    use rustix::fs::{FlockOperation, flock};
    match fs::File::open(data.join("pg.lock")) {
        Ok(file) => flock(&file, FlockOperation::NonBlockingLockShared).is_ok(),
        Err(_) => true,
    }
}

pub(crate) fn postmaster(data: &Path) -> i32 {
    let text = fs::read_to_string(data.join("pgdata/postmaster.pid")).unwrap();
    text.lines().next().unwrap().trim().parse().unwrap()
}

pub(crate) fn kill(process: i32) {
    kill_process(Pid::from_raw(process).unwrap(), Signal::KILL).unwrap();
}

pub(crate) fn owner(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().uid()
}

pub(crate) fn we_are_root() -> bool {
    rustix::process::geteuid().is_root()
}
