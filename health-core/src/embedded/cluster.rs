//! A running PostgreSQL of our own: started, reached, stopped.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Config, NoTls};

use crate::embedded::{
    directory::{Directory, OwnerLock, Purpose},
    error::EmbeddedError,
    options::Options,
    site::{PAUSE_MAX, PORT, PREVIOUS_MAX, Site, USER},
    socket,
    watchdog::Watchdog,
};

/// How long PostgreSQL may take until it answers, recovery after a crash included.
const READY_MAX: Duration = Duration::from_secs(READY_SECONDS_MAX);
const READY_SECONDS_MAX: u64 = 120;

/// How long PostgreSQL may take to end by SIGINT, which writes out everything; after that comes SIGQUIT, which does not.
const STOP_MAX: Duration = Duration::from_secs(30);

/// How long it may take to end by SIGQUIT.
const QUIT_MAX: Duration = Duration::from_secs(10);

/// The first pause between two tries to connect; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(2);

/// A running PostgreSQL server with a data directory of its own.
///
/// It listens on a Unix socket in the data directory and nowhere else. It ends with [`stop`](Cluster::stop); when the value is dropped
/// without that, or the process is killed, a watchdog ends it, and nothing committed is lost.
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

/// What the one who started it holds.
#[derive(Debug)]
struct Running {
    // Fields are dropped in order: PostgreSQL is told to end before the directory is given up.
    watchdog: Watchdog,
    log_begin: u64,
    _owner: OwnerLock,
}

impl Cluster {
    /// Starts PostgreSQL, and makes the data directory and an empty cluster first where they are missing.
    ///
    /// The PostgreSQL of a run that was killed a moment ago is waited for, and so is a command that [attached](Cluster::attach).
    /// Must be called on a Tokio runtime; that runtime must live as long as [`ended`](Cluster::ended) is of interest.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::AlreadyRunning`] where another process does this with the same directory; the others when PostgreSQL is
    /// missing, does not fit the data, may not be run here, or does not start.
    pub async fn start(options: Options) -> Result<Cluster, EmbeddedError> {
        let path = options.resolve_data_dir()?;
        let directory = Directory::new(path.clone());
        let begin = Instant::now();
        loop {
            match Cluster::start_in(path.clone(), &options, Purpose::Serving).await {
                Err(EmbeddedError::AlreadyRunning { .. })
                    if directory.may_be_owned_for_a_moment() && begin.elapsed() < PREVIOUS_MAX =>
                {
                    sleep(PAUSE_MAX).await;
                }
                Err(error) if options.is_throw_away() => {
                    // Where PostgreSQL did run, its watchdog may be at this as well.
                    let _ = tokio::fs::remove_dir_all(path).await;
                    return Err(error);
                }
                started_or_not => return started_or_not,
            }
        }
    }

    /// For commands that run once: uses the PostgreSQL that another process runs on the directory, or starts one.
    ///
    /// # Errors
    ///
    /// As [`start`](Cluster::start), except that a directory in use is none, unless its PostgreSQL does not answer.
    pub async fn attach(options: Options) -> Result<Cluster, EmbeddedError> {
        let path = options.resolve_data_dir()?;
        let begin = Instant::now();
        loop {
            let directory = Directory::new(path.clone());
            // Another such command stops its PostgreSQL when it is done, in the middle of what we do.
            if !directory.may_be_owned_for_a_moment() {
                let socket_directory = socket::short_path(&directory.run())?;
                let cluster = Cluster {
                    directory,
                    socket_directory,
                    running: None,
                };
                if timeout(READY_MAX, cluster.answers()).await == Ok(true) {
                    return Ok(cluster);
                }
            }
            match Cluster::start_in(path.clone(), &options, Purpose::Moment).await {
                // It may be starting at this moment, or ending and then leave the directory to us.
                Err(EmbeddedError::AlreadyRunning { .. }) if begin.elapsed() < READY_MAX => sleep(PAUSE_MAX).await,
                started_or_not => return started_or_not,
            }
        }
    }

    /// The URL of one of its databases: `postgres://postgres@/NAME?host=…`. A fresh cluster has `postgres` and `template1` only.
    pub fn url(&self, database: &str) -> String {
        let host = self.socket_directory.as_os_str().as_encoded_bytes();
        format!(
            "postgres://{USER}@/{}?host={}&port={PORT}",
            escaped(database.as_bytes()),
            escaped(host)
        )
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    /// Whether this process runs the server, rather than using that of another one.
    pub fn is_owner(&self) -> bool {
        self.running.is_some()
    }

    /// Resolves when PostgreSQL ends although nobody asked it to, with an error that says how. For a cluster that another
    /// process runs it never resolves.
    pub async fn ended(&self) -> EmbeddedError {
        let Some(running) = &self.running else {
            return std::future::pending().await;
        };
        let status = running.watchdog.ended().await;
        let log = self.directory.log_tail(running.log_begin);
        EmbeddedError::EndedUnasked {
            directory: self.directory.path().to_owned(),
            status,
            log,
        }
    }

    /// Stops PostgreSQL. Open connections are cut; what was committed stays. Does nothing to a server that another process runs.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::EndedUnasked`] where it had ended before, [`EmbeddedError::NotStopped`] where it does not end.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        let Some(running) = &self.running else {
            return Ok(());
        };
        if running.watchdog.has_ended() {
            return Err(self.ended().await);
        }
        running.watchdog.signal("INT");
        if timeout(STOP_MAX, running.watchdog.ended()).await.is_err() {
            tracing::warn!(directory = %self.directory.path().display(), "PostgreSQL does not end by SIGINT, sending SIGQUIT");
            running.watchdog.signal("QUIT");
            if timeout(QUIT_MAX, running.watchdog.ended()).await.is_err() {
                let seconds = (STOP_MAX + QUIT_MAX).as_secs();
                return Err(EmbeddedError::NotStopped {
                    directory: self.directory.path().to_owned(),
                    seconds,
                });
            }
        }
        Ok(())
    }

    /// How to connect to one of its databases.
    pub(crate) fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .user(USER)
            .dbname(database)
            .host_path(&self.socket_directory)
            .port(PORT)
            .connect_timeout(READY_MAX);
        config
    }

    async fn start_in(path: PathBuf, options: &Options, purpose: Purpose) -> Result<Cluster, EmbeddedError> {
        let (site, lock) = Site::take(Directory::new(path), options, purpose).await?;
        let socket_directory = socket::short_path(&site.directory.run())?;
        let (watchdog, log_begin) = site.spawn_postgres(&lock, options)?;
        let running = Some(Running {
            watchdog,
            log_begin,
            _owner: site.owner,
        });
        let cluster = Cluster {
            directory: site.directory,
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
        let knock = async {
            let mut pause = PAUSE_MIN;
            while !self.answers().await {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        };
        tokio::select! {
            status = watchdog.ended() => {
                let log = self.directory.log_tail(*log_begin);
                Err(match status {
                    Some(status) => EmbeddedError::StoppedWhileStarting { directory: directory(), status, log },
                    None => EmbeddedError::EndedUnasked { directory: directory(), status, log },
                })
            }
            ready = timeout(READY_MAX, knock) => ready.map_err(|_| {
                let (seconds, log) = (READY_MAX.as_secs(), self.directory.log_tail(*log_begin));
                EmbeddedError::NotReady { directory: directory(), seconds, log }
            }),
        }
    }

    /// Whether a statement is answered.
    async fn answers(&self) -> bool {
        let Ok((client, connection)) = self.config("postgres").connect(NoTls).await else {
            return false;
        };
        let connection = tokio::spawn(connection);
        let answered = client.simple_query("SELECT 1").await.is_ok();
        drop(client);
        // The connection says goodbye and ends; whether that still reaches the server does not matter here.
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

/// Percent-encodes everything but letters and digits.
fn escaped(bytes: &[u8]) -> String {
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
