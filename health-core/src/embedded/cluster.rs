//! A running PostgreSQL: starting, connecting, stopping.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    embedded::{
        directory::{Directory, OwnerKind},
        error::EmbeddedError,
        instance::{CHECK_INTERVAL, Instance, PREVIOUS_RUN_TIMEOUT, USER},
        options::Options,
        ready::{Address, READY_TIMEOUT, answers, wait_until_ready},
        socket,
        supervisor::{RestartPause, Supervisor},
    },
    outage::{Outage, OutageReason},
};

/// How long the lock of a process that was killed may last. If it was just starting a program, the new process has a
/// copy of the lock until it runs that program.
const KILLED_OWNER_TIMEOUT: Duration = Duration::from_secs(5);

/// A running PostgreSQL with a data directory of its own.
///
/// PostgreSQL listens on a Unix socket in the data directory and nowhere else. End it with [`stop`](Cluster::stop). If
/// the value is dropped, or this process is killed, a watchdog ends PostgreSQL, and no committed data is lost.
///
/// If PostgreSQL ends unexpectedly (its disk is full, it was killed), it is started again after 1 s, then after pauses
/// that double up to 30 s, until it runs. [`Options::status`] tells of the outage meanwhile. The supervisor gives up
/// only if waiting cannot help: the server programs of this version are gone, rights are missing, files are damaged, a
/// setting is wrong. Then [`ended`](Cluster::ended) returns.
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
    address: Address,
    /// The only directory to look in for the server programs, if one was given.
    bindir: Option<PathBuf>,
    /// Present if this process started PostgreSQL.
    supervisor: Option<Supervisor>,
}

impl Cluster {
    /// Starts PostgreSQL. Creates the data directory and an empty cluster first if they are missing.
    ///
    /// Waits for the end of a PostgreSQL whose owner was killed, or of one that a command started with
    /// [`attach`](Cluster::attach) and will stop. If PostgreSQL cannot start because its disk is full, waits until
    /// there is space, unless [`Options::restart`] says otherwise.
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
        let status = options.database_status();
        let start = Instant::now();
        let mut pause = RestartPause::new();
        loop {
            match Cluster::start_in(path.clone(), &options, OwnerKind::Server).await {
                Err(EmbeddedError::AlreadyRunning { .. })
                    if directory.owner_may_be_command() && start.elapsed() < PREVIOUS_RUN_TIMEOUT =>
                {
                    sleep(CHECK_INTERVAL).await;
                }
                Err(EmbeddedError::AlreadyRunning { process, .. })
                    if has_ended(process) && start.elapsed() < KILLED_OWNER_TIMEOUT =>
                {
                    sleep(CHECK_INTERVAL).await;
                }
                Err(error) if options.restarts() && error.needs_space(&path) => {
                    tracing::error!(%error, "PostgreSQL cannot start, because its disk is full; trying again in {pause}");
                    status.set(Some(Outage {
                        reason: OutageReason::DiskFull,
                        is_lasting: true,
                    }));
                    pause.wait().await;
                }
                Err(error) if options.is_throw_away() => {
                    // If PostgreSQL did run, its watchdog may be removing the directory as well.
                    let _ = tokio::fs::remove_dir_all(path).await;
                    return Err(error);
                }
                result => {
                    status.set(None);
                    return result;
                }
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
            // Only a PostgreSQL that a server started is used. A command stops the one that it started, perhaps while
            // we use it.
            if !directory.owner_may_be_command() {
                let address = address(&directory, &options)?;
                if timeout(READY_TIMEOUT, answers(&address)).await == Ok(true) {
                    return Ok(Cluster {
                        directory,
                        address,
                        bindir: options.chosen_bindir().map(Path::to_owned),
                        supervisor: None,
                    });
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
        let host = self.address.socket_directory.as_os_str().as_encoded_bytes();
        format!(
            "postgres://{USER}@/{}?host={}&port={}",
            percent_encoded(database.as_bytes()),
            percent_encoded(host),
            self.address.port
        )
    }

    /// Returns the data directory.
    pub fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn pgdata(&self) -> PathBuf {
        self.directory.pgdata()
    }

    pub(crate) fn bindir(&self) -> Option<&Path> {
        self.bindir.as_deref()
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Returns whether this process started PostgreSQL. If not, another process did.
    pub fn is_owner(&self) -> bool {
        self.supervisor.is_some()
    }

    /// Waits until PostgreSQL has ended for good, and returns an error that says how it ended.
    ///
    /// That is an end that waiting cannot cure, or with [`Options::restart`] `false` any unexpected end. If another
    /// process started PostgreSQL, this never returns. This method is cancel safe.
    pub async fn ended(&self) -> EmbeddedError {
        match &self.supervisor {
            Some(supervisor) => supervisor.failed().await,
            None => std::future::pending().await,
        }
    }

    /// Stops PostgreSQL and waits for its end. Open connections are closed, and committed data stays.
    ///
    /// If another process started the server, or if PostgreSQL is down and would be started again, this does nothing.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::EndedUnexpectedly`] if it had already [ended](Cluster::ended), [`EmbeddedError::NotStopped`] if
    /// it does not end.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        match &self.supervisor {
            Some(supervisor) => supervisor.stop().await,
            None => Ok(()),
        }
    }

    async fn start_in(path: PathBuf, options: &Options, kind: OwnerKind) -> Result<Cluster, EmbeddedError> {
        let (instance, owner_lock, lock) = Instance::acquire(Directory::new(path), options, kind).await?;
        let directory = instance.directory.clone();
        let address = address(&directory, options)?;
        let run = instance.spawn_postgres(instance.programs(), &lock)?;
        drop(lock);
        let mut cluster = Cluster {
            directory,
            address: address.clone(),
            bindir: options.chosen_bindir().map(Path::to_owned),
            supervisor: None,
        };
        let ready = wait_until_ready(&address, cluster.data_dir(), &instance.end_of(&run)).await;
        // Also before an error, so that the fields are dropped in order.
        let supervisor = Supervisor::new(instance, owner_lock, run, address);
        let supervisor = cluster.supervisor.insert(supervisor);
        ready?;
        supervisor.watch();
        Ok(cluster)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.supervisor.is_some() {
            socket::remove_link(&self.directory.run(), &self.address.socket_directory);
        }
    }
}

/// Returns whether no process has this id.
fn has_ended(process: Option<u32>) -> bool {
    let id = process.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    id.is_some_and(|id| test_kill_process(id) == Err(Errno::SRCH))
}

/// Returns where the PostgreSQL of a directory listens.
fn address(directory: &Directory, options: &Options) -> Result<Address, EmbeddedError> {
    Ok(Address {
        socket_directory: socket::short_path(&directory.run())?,
        port: options.chosen_port(),
    })
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
