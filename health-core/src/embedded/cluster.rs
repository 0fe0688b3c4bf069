//! A running PostgreSQL: starting, connecting, stopping.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Config, NoTls};

use crate::embedded::{
    directory::{Directory, OwnerKind, OwnerLock},
    error::EmbeddedError,
    instance::{CHECK_INTERVAL, Instance, PORT, PREVIOUS_RUN_TIMEOUT, USER},
    options::Options,
    socket,
    watchdog::Watchdog,
};

/// The longest time until PostgreSQL answers. It includes the recovery after a crash, which reads up to `max_wal_size`.
const READY_TIMEOUT: Duration = Duration::from_mins(2);

/// How long PostgreSQL may take to stop after SIGINT. It writes its buffers to the disk then. After this time it gets
/// SIGQUIT.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How long PostgreSQL may take to stop after SIGQUIT. It writes nothing then. The next start recovers from the WAL.
const QUIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The first pause between two attempts to connect. It doubles up to [`CHECK_INTERVAL`].
const CONNECT_PAUSE_MIN: Duration = Duration::from_millis(2);

/// A running PostgreSQL with a data directory of its own.
///
/// PostgreSQL listens on a Unix socket in the data directory and nowhere else. End it with [`stop`](Cluster::stop). If
/// the value is dropped, or this process is killed, a watchdog ends PostgreSQL, and no committed data is lost.
///
/// ```no_run
/// # async fn example() -> Result<(), health_core::embedded::EmbeddedError> {
/// use health_core::embedded::{Cluster, Options};
///
/// let cluster = Cluster::start(Options::new().data_dir("/srv/health")).await?;
/// println!("{}", cluster.url("postgres"));
/// cluster.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    directory: Directory,
    socket_directory: PathBuf,
    running: Option<Running>,
}

/// What a cluster holds if this process started PostgreSQL.
#[derive(Debug)]
struct Running {
    // Fields are dropped in this order: the watchdog ends PostgreSQL before the directory is unlocked.
    watchdog: Watchdog,
    log_begin: u64,
    _owner_lock: OwnerLock,
}

impl Cluster {
    /// Starts PostgreSQL. Creates the data directory and an empty cluster first if they are missing.
    ///
    /// Waits for the end of a PostgreSQL whose owner was killed, or of one that a command started with
    /// [`attach`](Cluster::attach) and will stop.
    ///
    /// Must be called on a Tokio runtime. That runtime must live as long as [`ended`](Cluster::ended) is used.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::AlreadyRunning`] if another process runs PostgreSQL in the directory. The other variants say
    /// that PostgreSQL is missing, has another version than the data, may not run as this user, or does not start.
    pub async fn start(options: Options) -> Result<Cluster, EmbeddedError> {
        let path = options.resolve_data_dir()?;
        let directory = Directory::new(path.clone());
        let start = Instant::now();
        loop {
            match Cluster::start_in(path.clone(), &options, OwnerKind::Server).await {
                Err(EmbeddedError::AlreadyRunning { .. })
                    if directory.owner_may_be_command() && start.elapsed() < PREVIOUS_RUN_TIMEOUT =>
                {
                    sleep(CHECK_INTERVAL).await;
                }
                Err(error) if options.is_throw_away() => {
                    // If PostgreSQL did run, its watchdog may be removing the directory as well.
                    let _ = tokio::fs::remove_dir_all(path).await;
                    return Err(error);
                }
                result => return result,
            }
        }
    }

    /// Connects to the PostgreSQL of another process in the directory, or starts one. For commands that run once.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), health_core::embedded::EmbeddedError> {
    /// use health_core::embedded::{Cluster, Options};
    ///
    /// let cluster = Cluster::attach(Options::new()).await?;
    /// println!("PostgreSQL was running: {}", !cluster.is_owner());
    /// cluster.stop().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`start`](Cluster::start), but [`EmbeddedError::AlreadyRunning`] only if the running PostgreSQL does not
    /// answer within two minutes.
    pub async fn attach(options: Options) -> Result<Cluster, EmbeddedError> {
        let path = options.resolve_data_dir()?;
        let start = Instant::now();
        loop {
            let directory = Directory::new(path.clone());
            // Only a PostgreSQL that a server started is used. A command stops the one that it started, perhaps while we use it.
            if !directory.owner_may_be_command() {
                let socket_directory = socket::short_path(&directory.run())?;
                let cluster = Cluster {
                    directory,
                    socket_directory,
                    running: None,
                };
                if timeout(READY_TIMEOUT, cluster.answers()).await == Ok(true) {
                    return Ok(cluster);
                }
            }
            match Cluster::start_in(path.clone(), &options, OwnerKind::Command).await {
                // The other process may be starting, or it may be ending and then leave the directory to us.
                Err(EmbeddedError::AlreadyRunning { .. }) if start.elapsed() < READY_TIMEOUT => {
                    sleep(CHECK_INTERVAL).await;
                }
                result => return result,
            }
        }
    }

    /// Returns the URL of a database: `postgres://postgres@/NAME?host=…`.
    ///
    /// A new cluster has the databases `postgres` and `template1` only.
    pub fn url(&self, database: &str) -> String {
        let host = self.socket_directory.as_os_str().as_encoded_bytes();
        format!(
            "postgres://{USER}@/{}?host={}&port={PORT}",
            percent_encoded(database.as_bytes()),
            percent_encoded(host)
        )
    }

    /// Returns the data directory.
    pub fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    /// Returns whether this process started PostgreSQL. If not, another process did.
    pub fn is_owner(&self) -> bool {
        self.running.is_some()
    }

    /// Waits until PostgreSQL ends unexpectedly, and returns an error that says how it ended.
    ///
    /// If another process started PostgreSQL, this never returns. This method is cancel safe.
    pub async fn ended(&self) -> EmbeddedError {
        let Some(running) = &self.running else {
            return std::future::pending().await;
        };
        let status = running.watchdog.ended().await;
        let log = self.directory.log_tail(running.log_begin);
        EmbeddedError::EndedUnexpectedly {
            directory: self.directory.path().to_owned(),
            status,
            log,
        }
    }

    /// Stops PostgreSQL and waits for its end. Open connections are closed, and committed data stays.
    ///
    /// If another process started the server, this does nothing.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::EndedUnexpectedly`] if it had already ended, [`EmbeddedError::NotStopped`] if it does not end.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        let Some(running) = &self.running else {
            return Ok(());
        };
        if running.watchdog.has_ended() {
            return Err(self.ended().await);
        }
        running.watchdog.signal("INT");
        if timeout(STOP_TIMEOUT, running.watchdog.ended()).await.is_err() {
            let directory = self.directory.path().display();
            tracing::warn!(%directory, "PostgreSQL did not end after SIGINT, sending SIGQUIT");
            running.watchdog.signal("QUIT");
            if timeout(QUIT_TIMEOUT, running.watchdog.ended()).await.is_err() {
                let seconds = (STOP_TIMEOUT + QUIT_TIMEOUT).as_secs();
                return Err(EmbeddedError::NotStopped {
                    directory: self.directory.path().to_owned(),
                    seconds,
                });
            }
        }
        Ok(())
    }

    /// Returns the connection parameters of a database.
    pub(crate) fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .user(USER)
            .dbname(database)
            .host_path(&self.socket_directory)
            .port(PORT)
            .connect_timeout(READY_TIMEOUT);
        config
    }

    async fn start_in(path: PathBuf, options: &Options, kind: OwnerKind) -> Result<Cluster, EmbeddedError> {
        let (instance, lock) = Instance::acquire(Directory::new(path), options, kind).await?;
        let socket_directory = socket::short_path(&instance.directory.run())?;
        let (watchdog, log_begin) = instance.spawn_postgres(&lock, options)?;
        let running = Some(Running {
            watchdog,
            log_begin,
            _owner_lock: instance.owner_lock,
        });
        let cluster = Cluster {
            directory: instance.directory,
            socket_directory,
            running,
        };
        cluster.wait_until_ready().await?;
        Ok(cluster)
    }

    async fn wait_until_ready(&self) -> Result<(), EmbeddedError> {
        let Some(Running {
            watchdog, log_begin, ..
        }) = &self.running
        else {
            return Ok(());
        };
        let directory = || self.directory.path().to_owned();
        let connect = async {
            let mut pause = CONNECT_PAUSE_MIN;
            while !self.answers().await {
                sleep(pause).await;
                pause = (pause * 2).min(CHECK_INTERVAL);
            }
        };
        tokio::select! {
            status = watchdog.ended() => {
                let log = self.directory.log_tail(*log_begin);
                Err(match status {
                    Some(status) => EmbeddedError::StoppedWhileStarting { directory: directory(), status, log },
                    None => EmbeddedError::EndedUnexpectedly { directory: directory(), status, log },
                })
            }
            ready = timeout(READY_TIMEOUT, connect) => ready.map_err(|_| {
                let (seconds, log) = (READY_TIMEOUT.as_secs(), self.directory.log_tail(*log_begin));
                EmbeddedError::NotReady { directory: directory(), seconds, log }
            }),
        }
    }

    /// Returns whether PostgreSQL answers a statement.
    async fn answers(&self) -> bool {
        let Ok((client, connection)) = self.config("postgres").connect(NoTls).await else {
            return false;
        };
        let connection = tokio::spawn(connection);
        let answered = client.simple_query("SELECT 1").await.is_ok();
        drop(client);
        // Wait until the connection is closed. Whether its last message reaches the server does not matter.
        let _ = connection.await;
        answered
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.running.is_some() {
            socket::remove_link(&self.directory.run(), &self.socket_directory);
        }
    }
}

/// Percent-encodes all bytes except ASCII letters and digits.
fn percent_encoded(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 3);
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}
