//! One embedded cluster in a data directory, and the programs that create and run it.

use std::{ffi::OsString, fs::File, path::Path, process::ExitStatus, time::Duration};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep},
};

use crate::{
    embedded::{
        directory::{Directory, OwnerKind, OwnerLock},
        error::EmbeddedError,
        find::{self, Programs, SearchPath},
        log_tail::LogTail,
        options::Options,
        os_user::OsUser,
        watchdog::{SupervisedCommand, Watchdog},
    },
    outage::DatabaseStatus,
    panics::outcome_of,
};

/// The superuser of the cluster, as which we connect.
pub(crate) const USER: &str = "postgres";

/// The longest time to wait for the PostgreSQL of a killed run to end. It writes out its memory first.
pub(crate) const PREVIOUS_RUN_TIMEOUT: Duration = Duration::from_mins(1);

/// The interval of checking a condition for which the operating system sends no event.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// A data directory that this process has locked, with a complete cluster.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) directory: Directory,
    options: Options,
    user: OsUser,
    programs: Programs,
}

/// A running PostgreSQL. Dropping it ends PostgreSQL.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) watchdog: Watchdog,
    /// The length of `postgres.log` before this run.
    log_begin: u64,
}

/// The end of a [`Run`], for those who wait for it and do not own the run.
#[derive(Debug, Clone)]
pub(crate) struct RunEnd {
    status: watch::Receiver<Option<ExitStatus>>,
    directory: Directory,
    log_begin: u64,
}

impl RunEnd {
    /// Waits until PostgreSQL has ended. Returns `None` if the runtime that started it is gone.
    pub(crate) async fn status(&self) -> Option<ExitStatus> {
        let mut status = self.status.clone();
        status.wait_for(Option::is_some).await.ok().and_then(|status| *status)
    }

    /// Returns the last lines that this run has logged.
    pub(crate) fn log(&self) -> LogTail {
        self.directory.log_tail(self.log_begin)
    }

    /// Waits until PostgreSQL has ended, and returns an error that says how.
    pub(crate) async fn error(&self) -> EmbeddedError {
        let status = self.status().await;
        EmbeddedError::EndedUnexpectedly {
            directory: self.directory.path().to_owned(),
            status,
            log: self.log(),
        }
    }
}

impl Instance {
    /// Locks the directory, waits until no earlier PostgreSQL runs on it, and creates the cluster if it is missing.
    ///
    /// The returned file holds the lock that PostgreSQL inherits. Keep it until PostgreSQL has started.
    pub(crate) async fn acquire(
        directory: Directory,
        options: &Options,
        kind: OwnerKind,
    ) -> Result<(Instance, OwnerLock, File), EmbeddedError> {
        let options = options.clone();
        let (instance, owner_lock) = run_blocking(move || Instance::prepare(directory, options, kind)).await?;
        let lock = instance.wait_for_previous_run().await?;
        instance.directory.remove_stale_files()?;
        if !instance.directory.pgdata().exists() {
            instance.initdb(&lock).await?;
            instance.tell_of_new_cluster();
        }
        Ok((instance, owner_lock, lock))
    }

    pub(crate) fn end_of(&self, run: &Run) -> RunEnd {
        RunEnd {
            status: run.watchdog.status(),
            directory: self.directory.clone(),
            log_begin: run.log_begin,
        }
    }

    /// Searches for the server programs again. An upgrade may have moved them while PostgreSQL ran.
    pub(crate) async fn choose_programs(&self) -> Result<Programs, EmbeddedError> {
        let bindir = self.options.chosen_bindir().map(Path::to_owned);
        let pgdata = self.directory.pgdata();
        run_blocking(move || find::choose(&SearchPath::new(bindir.as_deref()), &pgdata)).await
    }

    pub(crate) fn restarts(&self) -> bool {
        self.options.restarts()
    }

    pub(crate) fn database_status(&self) -> &DatabaseStatus {
        self.options.database_status()
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Starts PostgreSQL. The caller passes the lock of [`acquire`](Self::acquire) or
    /// [`wait_for_previous_run`](Self::wait_for_previous_run).
    pub(crate) fn spawn_postgres(&self, programs: &Programs, lock: &File) -> Result<Run, EmbeddedError> {
        // The path of the socket is relative to pgdata, the working directory of PostgreSQL. So its length and its
        // characters do not matter.
        let mut arguments: Vec<OsString> = vec!["-D".into(), self.directory.pgdata().into()];
        let port = self.options.chosen_port().to_string();
        arguments.extend(["-k".into(), "../run".into(), "-p".into(), port.into()]);
        for setting in self.options.settings() {
            arguments.extend(["-c".into(), setting.into()]);
        }
        let (log, log_begin) = self.directory.open_log(&self.user)?;
        let throw_away = self.throw_away_directory();
        let command = SupervisedCommand {
            program: &programs.postgres(),
            arguments: &arguments,
            user: &self.user,
            lock,
            log: &log,
            remove_after_success: throw_away,
            remove_after_failure: throw_away,
        };
        let watchdog = command.spawn()?;
        tracing::info!(
            version = programs.major,
            bindir = %programs.bindir.display(),
            directory = %self.directory.path().display(),
            "starting PostgreSQL"
        );
        Ok(Run { watchdog, log_begin })
    }

    fn prepare(
        directory: Directory,
        options: Options,
        kind: OwnerKind,
    ) -> Result<(Instance, OwnerLock), EmbeddedError> {
        let user = OsUser::choose(&directory.pgdata())?;
        let programs = find::choose(&SearchPath::new(options.chosen_bindir()), &directory.pgdata())?;
        directory.prepare(&user)?;
        let owner_lock = directory.lock_for_owner(&user, kind)?;
        let instance = Instance {
            directory,
            options,
            user,
            programs,
        };
        Ok((instance, owner_lock))
    }

    /// Waits for the end of an earlier PostgreSQL. It ends by itself, because the process that owned it has ended.
    pub(crate) async fn wait_for_previous_run(&self) -> Result<File, EmbeddedError> {
        let start = Instant::now();
        loop {
            if let Some(lock) = self.directory.lock_for_postgres(&self.user)? {
                return Ok(lock);
            }
            if start.elapsed() >= PREVIOUS_RUN_TIMEOUT {
                return Err(EmbeddedError::StillEnding {
                    directory: self.directory.path().to_owned(),
                    process: self.directory.postmaster_pid().ok().flatten(),
                    seconds: PREVIOUS_RUN_TIMEOUT.as_secs(),
                });
            }
            sleep(CHECK_INTERVAL).await;
        }
    }

    /// Creates the cluster under a temporary name and renames it when it is complete. A kill leaves nothing to repair.
    async fn initdb(&self, lock: &File) -> Result<(), EmbeddedError> {
        self.user.check_has_name()?;
        self.directory.begin_cluster(&self.user)?;
        let fixed = "-A trust -E UTF8 --no-locale --no-instructions -k -U";
        let mut arguments: Vec<OsString> = fixed.split(' ').map(OsString::from).collect();
        arguments.extend([USER.into(), "-D".into(), self.directory.pgdata_new().into()]);
        if !self.options.is_durable() {
            arguments.push("--no-sync".into());
        }
        let (log, log_begin) = self.directory.open_log(&self.user)?;
        let command = SupervisedCommand {
            program: &self.programs.initdb(),
            arguments: &arguments,
            user: &self.user,
            lock,
            log: &log,
            remove_after_success: None,
            remove_after_failure: self.throw_away_directory(),
        };
        match command.spawn()?.ended().await {
            Some(status) if status.success() => self.directory.finish_cluster(self.options.is_durable()),
            status => Err(EmbeddedError::Initdb {
                directory: self.directory.path().to_owned(),
                status: status.unwrap_or_default(),
                log: self.directory.log_tail(log_begin),
            }),
        }
    }

    /// After a loss of the data directory, an empty database looks like a server that works.
    fn tell_of_new_cluster(&self) {
        if self.throw_away_directory().is_none() {
            tracing::warn!(
                "the data directory {} had no database, so a new one was created, without samples and tokens. If there was one, stop \
                 the server, and restore a backup before clients send to the new database",
                self.directory.path().display()
            );
        }
    }

    /// Returns the directory to remove at the end, if it is a temporary one.
    fn throw_away_directory(&self) -> Option<&Path> {
        self.options.is_throw_away().then(|| self.directory.path())
    }
}

/// Runs a function that waits for files and short-lived programs on a thread for blocking work.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EmbeddedError> + Send + 'static,
) -> Result<T, EmbeddedError> {
    outcome_of(spawn_blocking(work)).await
}
