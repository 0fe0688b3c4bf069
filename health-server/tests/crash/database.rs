//! A durable PostgreSQL for one test, and the ways to break it.

use std::{fs, path::Path, time::Duration};

use health_core::embedded::{Cluster, Options};
use rustix::process::{Pid, Signal, kill_process};
use test_support::{TempDir, test_directory};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

/// Longer than any crash recovery takes on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(2);

/// A PostgreSQL that syncs every commit to the disk. It is stopped and its directory is removed on drop.
pub(crate) struct Database {
    // Declared, and so dropped, before its directory.
    cluster: Option<Cluster>,
    directory: TempDir,
}

/// Few, so that a test can take all of them quickly.
const CONNECTIONS_MAX: u32 = 30;

/// The backends (PostgreSQL's processes, one for each connection) of the server, those that execute a statement
/// first.
const BACKENDS: &str = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'health-server %' AND pid <> pg_backend_pid() \
     ORDER BY state = 'active' DESC";

/// Ends the connections of the server and waits up to 10 s for the end of each.
pub(crate) const TERMINATE: &str =
    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name LIKE 'health-server %'";

impl Database {
    pub(crate) async fn start() -> Self {
        let mut database = Self {
            cluster: None,
            directory: test_directory(),
        };
        database.start_postgres().await;
        database
    }

    /// Returns the URL for the server under test.
    pub(crate) fn url(&self) -> String {
        self.cluster.as_ref().unwrap().url("health_db")
    }

    /// Returns the directory of the test; the data directory is in it.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Connects to PostgreSQL as soon as it accepts connections. It may be recovering from a crash.
    pub(crate) async fn connect(&self) -> Client {
        let connecting = async {
            loop {
                if let Ok(client) = self.try_connect().await {
                    return client;
                }
            }
        };
        timeout(TIMEOUT, connecting).await.expect("a connection in time")
    }

    pub(crate) async fn try_connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Ends PostgreSQL with a signal, and starts it again:
    ///
    /// - `KILL`: a crash. PostgreSQL replays its write-ahead log at the next start.
    /// - `QUIT`: an immediate shutdown, with the same consequence.
    /// - `INT`: a fast shutdown. PostgreSQL cancels transactions and ends in order.
    pub(crate) async fn restart(&mut self, signal: Signal) {
        self.stop_postgres(signal).await;
        self.start_postgres().await;
    }

    /// Ends PostgreSQL with a signal, see [`restart`](Self::restart), and waits for its end.
    pub(crate) async fn stop_postgres(&mut self, signal: Signal) {
        kill_postgres(&self.directory().join("data"), signal);
        if let Some(cluster) = self.cluster.take() {
            let _reason = cluster.ended().await;
        }
    }

    pub(crate) async fn start_postgres(&mut self) {
        // `syncfs` syncs the whole file system at once. The default syncs each of a thousand unchanged files.
        // The test decides when PostgreSQL runs.
        let options = Options::new()
            .restart(false)
            .data_dir(self.directory().join("data"))
            .setting("recovery_init_sync_method", "syncfs")
            .max_connections(CONNECTIONS_MAX);
        self.cluster = Some(Cluster::start(options).await.unwrap_or_else(|error| panic!("{error}")));
    }

    /// Kills one backend with SIGKILL. PostgreSQL then ends all other connections and recovers as after a crash.
    pub(crate) async fn kill_backend(&self) {
        let client = self.connect().await;
        if let Some(row) = client.query(BACKENDS, &[]).await.unwrap().first() {
            kill(row.get(0), Signal::KILL);
        }
    }

    /// Ends every connection of the server, as an administrator does.
    pub(crate) async fn terminate_connections(&self) {
        self.connect().await.batch_execute(TERMINATE).await.unwrap();
    }
}

/// Sends a signal to the PostgreSQL of a data directory. Returns its process id.
pub(crate) fn kill_postgres(data: &Path, signal: Signal) -> i32 {
    let process = postgres_of(data).expect("PostgreSQL runs");
    kill(process, signal);
    process
}

/// Returns the process id of the PostgreSQL of a data directory, if it runs or was killed.
pub(crate) fn postgres_of(data: &Path) -> Option<i32> {
    let text = fs::read_to_string(data.join("pgdata/postmaster.pid")).ok()?;
    text.lines().next()?.trim().parse().ok()
}

fn kill(process: i32, signal: Signal) {
    // Fails only if the process has already ended.
    let _ = kill_process(Pid::from_raw(process).unwrap(), signal);
}
