//! A durable PostgreSQL of the test's own, and the ways to hurt it.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use health_core::embedded::{Cluster, Options};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

/// Longer than a recovery ever takes.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Database {
    directory: PathBuf,
    cluster: Option<Cluster>,
}

/// Few, so that all of them are soon taken.
const CONNECTIONS_MAX: u32 = 30;

/// The clients' backends of PostgreSQL, those that do something first.
const BACKENDS: &str = "SELECT pid FROM pg_stat_activity WHERE application_name = 'health' AND pid <> pg_backend_pid() \
     ORDER BY state = 'active' DESC";

const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'health'";

impl Database {
    pub(crate) async fn start(name: &str) -> Self {
        let directory = directory(name);
        let mut database = Self {
            directory,
            cluster: None,
        };
        database.restart().await;
        database
    }

    /// What the server under test is told.
    pub(crate) fn url(&self) -> String {
        self.cluster.as_ref().unwrap().url("health_db")
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A connection, once PostgreSQL takes some: it may be recovering.
    pub(crate) async fn connect(&self) -> Client {
        let connecting = async {
            loop {
                if let Ok(client) = self.try_connect().await {
                    return client;
                }
            }
        };
        timeout(PATIENCE, connecting).await.expect("a connection in time")
    }

    pub(crate) async fn try_connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Sends PostgreSQL a signal that ends it, and starts it again when it has ended.
    pub(crate) async fn strike(&mut self, signal: Signal) {
        self.end(signal).await;
        self.restart().await;
    }

    /// Sends PostgreSQL a signal that ends it, and waits for that.
    pub(crate) async fn end(&mut self, signal: Signal) {
        kill_postgres(&self.directory.join("data"), signal);
        if let Some(cluster) = self.cluster.take() {
            let _how_it_ended = cluster.ended().await;
        }
    }

    /// Kills one backend, which makes PostgreSQL cut every connection and recover.
    pub(crate) async fn kill_backend(&self) {
        let client = self.connect().await;
        if let Some(row) = client.query(BACKENDS, &[]).await.unwrap().first() {
            kill(row.get(0), Signal::KILL);
        }
    }

    /// Ends every connection of the server in order.
    pub(crate) async fn cut_connections(&self) {
        self.connect().await.batch_execute(TERMINATE).await.unwrap();
    }

    pub(crate) async fn restart(&mut self) {
        // One call in place of one for each of a thousand files that nobody has touched.
        let options = Options::new()
            .data_dir(self.directory.join("data"))
            .setting("recovery_init_sync_method", "syncfs")
            .max_connections(CONNECTIONS_MAX);
        self.cluster = Some(Cluster::start(options).await.unwrap_or_else(|error| panic!("{error}")));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.cluster = None;
        // A PostgreSQL that is just ending may still write; what it leaves lies in the temporary directory.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A new directory of a test's own.
pub(crate) fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("health-{name}-{}", std::process::id()));
    // PostgreSQL may run as another user, who has to pass.
    fs::DirBuilder::new().mode(0o755).create(&directory).unwrap();
    directory
}

/// Sends a signal to the PostgreSQL of a data directory.
pub(crate) fn kill_postgres(data: &Path, signal: Signal) {
    let text = fs::read_to_string(data.join("pgdata/postmaster.pid")).unwrap();
    kill(text.lines().next().unwrap().trim().parse().unwrap(), signal);
}

fn kill(process: i32, signal: Signal) {
    // One that is gone already cannot be killed.
    let _ = kill_process(Pid::from_raw(process).unwrap(), signal);
}
