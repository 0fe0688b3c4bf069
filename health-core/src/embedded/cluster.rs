//! A running PostgreSQL of our own: started, reached, stopped.

use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Config, NoTls};

use crate::embedded::{
    account::Account,
    directory::{Directory, OwnerLock},
    error::EmbeddedError,
    find::{self, Places, Programs},
    options::Options,
    socket,
    watchdog::{Watchdog, Watched},
};

/// The superuser of the cluster, and who we connect as.
const USER: &str = "postgres";

/// Only names the socket: PostgreSQL listens at no TCP address.
const PORT: u16 = 5432;

/// How long PostgreSQL may take until it answers, recovery after a crash included.
const READY_MAX: Duration = Duration::from_secs(READY_SECONDS_MAX);
const READY_SECONDS_MAX: u64 = 120;

/// How long the PostgreSQL of a killed run may take to end before we give up waiting for it.
const PREVIOUS_MAX: Duration = Duration::from_secs(PREVIOUS_SECONDS_MAX);
const PREVIOUS_SECONDS_MAX: u64 = 60;

/// How long PostgreSQL may take to end by SIGINT, which writes out everything; after that comes SIGQUIT, which does not.
const STOP_MAX: Duration = Duration::from_secs(30);

/// How long it may take to end by SIGQUIT.
const QUIT_MAX: Duration = Duration::from_secs(10);

/// The shortest and longest pauses between two looks at something the system does not tell us about.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(50);

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
    // Fields are dropped in order: PostgreSQL is told to end before the directory is given up.
    running: Option<Running>,
}

/// What the one who started it holds.
#[derive(Debug)]
struct Running {
    watchdog: Watchdog,
    log_begin: u64,
    _owner: OwnerLock,
}

/// Everything that is decided before the first program runs.
struct Site {
    directory: Directory,
    account: Account,
    programs: Programs,
    owner: OwnerLock,
}

impl Cluster {
    /// Starts PostgreSQL, and makes the data directory and an empty cluster first where they are missing.
    ///
    /// The PostgreSQL of a run that was killed a moment ago is waited for. Must be called on a Tokio runtime; that runtime must live as long as
    /// [`ended`](Cluster::ended) is of interest.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::AlreadyRunning`] where another process does this with the same directory; the others when PostgreSQL is
    /// missing, does not fit the data, may not be run here, or does not start.
    pub async fn start(options: Options) -> Result<Cluster, EmbeddedError> {
        let path = options.resolve_data_dir()?;
        let started = Cluster::start_in(path.clone(), &options).await;
        if started.is_err() && options.is_throw_away() {
            // Where PostgreSQL did run, its watchdog may be at this as well.
            let _ = tokio::fs::remove_dir_all(path).await;
        }
        started
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
            let socket_directory = socket::short_path(&directory.run())?;
            let cluster = Cluster {
                directory,
                socket_directory,
                running: None,
            };
            if timeout(READY_MAX, cluster.answers()).await == Ok(true) {
                return Ok(cluster);
            }
            match Cluster::start_in(path.clone(), &options).await {
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

    async fn start_in(path: PathBuf, options: &Options) -> Result<Cluster, EmbeddedError> {
        let prepared = {
            let options = options.clone();
            blocking(move || Site::prepare(Directory::new(path), &options)).await?
        };
        let lock = prepared.wait_for_previous().await?;
        prepared.directory.sweep()?;
        if !prepared.directory.pgdata().exists() {
            prepared.initdb(&lock, options).await?;
        }
        let socket_directory = socket::short_path(&prepared.directory.run())?;
        let (watchdog, log_begin) = prepared.spawn_postgres(&lock, options)?;
        let running = Some(Running {
            watchdog,
            log_begin,
            _owner: prepared.owner,
        });
        let cluster = Cluster {
            directory: prepared.directory,
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

impl Site {
    fn prepare(directory: Directory, options: &Options) -> Result<Site, EmbeddedError> {
        let account = Account::choose(&directory.pgdata())?;
        let programs = find::choose(&Places::of_this_machine(options.bindir_chosen()), &directory.pgdata())?;
        directory.prepare(&account)?;
        let owner = directory.own(&account)?;
        Ok(Site {
            directory,
            account,
            programs,
            owner,
        })
    }

    /// Waits for the PostgreSQL of an earlier owner, which ends by itself because that owner has.
    async fn wait_for_previous(&self) -> Result<File, EmbeddedError> {
        let begin = Instant::now();
        loop {
            if let Some(lock) = self.directory.lock_for_postgres(&self.account)? {
                return Ok(lock);
            }
            if begin.elapsed() >= PREVIOUS_MAX {
                return Err(EmbeddedError::StillEnding {
                    directory: self.directory.path().to_owned(),
                    process: self.directory.postmaster(),
                    seconds: PREVIOUS_MAX.as_secs(),
                });
            }
            sleep(PAUSE_MAX).await;
        }
    }

    /// Makes the cluster under another name and renames it when it is whole, so that a kill leaves nothing to repair.
    async fn initdb(&self, lock: &File, options: &Options) -> Result<(), EmbeddedError> {
        self.account.check_named()?;
        self.directory.begin_cluster(&self.account)?;
        let mut arguments: Vec<OsString> = vec!["-D".into(), self.directory.pgdata_new().into()];
        arguments.extend(
            [
                "-U",
                USER,
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-locale",
                "--no-instructions",
                "-k",
            ]
            .map(OsString::from),
        );
        if !options.is_durable() {
            arguments.push("--no-sync".into());
        }
        let (log, log_begin) = self.directory.open_log(&self.account)?;
        let watchdog = self
            .watched(
                &self.programs.initdb(),
                &arguments,
                lock,
                &log,
                None,
                self.removed(options),
            )
            .spawn()?;
        match watchdog.ended().await {
            Some(status) if status.success() => self.directory.finish_cluster(),
            status => Err(EmbeddedError::Initdb {
                directory: self.directory.path().to_owned(),
                status: status.unwrap_or_default(),
                log: self.directory.log_tail(log_begin),
            }),
        }
    }

    fn spawn_postgres(&self, lock: &File, options: &Options) -> Result<(Watchdog, u64), EmbeddedError> {
        // The socket's directory is given relative to the data, where PostgreSQL works: its length and characters do not matter.
        let mut arguments: Vec<OsString> = vec!["-D".into(), self.directory.pgdata().into()];
        arguments.extend(["-k".into(), "../run".into(), "-p".into(), PORT.to_string().into()]);
        for setting in options.settings() {
            arguments.extend(["-c".into(), setting.into()]);
        }
        let (log, log_begin) = self.directory.open_log(&self.account)?;
        let removed = self.removed(options);
        let watchdog = self
            .watched(&self.programs.postgres(), &arguments, lock, &log, removed, removed)
            .spawn()?;
        tracing::info!(
            version = self.programs.major,
            bindir = %self.programs.bindir.display(),
            directory = %self.directory.path().display(),
            "starting PostgreSQL"
        );
        Ok((watchdog, log_begin))
    }

    fn watched<'a>(
        &'a self,
        program: &'a Path,
        arguments: &'a [OsString],
        lock: &'a File,
        log: &'a File,
        remove_after_success: Option<&'a Path>,
        remove_after_failure: Option<&'a Path>,
    ) -> Watched<'a> {
        let account = &self.account;
        Watched {
            program,
            arguments,
            account,
            lock,
            log,
            remove_after_success,
            remove_after_failure,
        }
    }

    fn removed(&self, options: &Options) -> Option<&Path> {
        options.is_throw_away().then(|| self.directory.path())
    }
}

/// Runs what looks at files and short-lived programs aside from the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EmbeddedError> + Send + 'static,
) -> Result<T, EmbeddedError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking work is only ever cancelled when the runtime shuts down, and then nobody polls this.
            Err(_) => std::future::pending().await,
        },
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
