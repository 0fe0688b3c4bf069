//! Where and how PostgreSQL is to run, and the programs that make it so.

use std::{ffi::OsString, fs::File, path::Path, time::Duration};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use crate::embedded::{
    account::Account,
    directory::{Directory, OwnerLock, Purpose},
    error::EmbeddedError,
    find::{self, Places, Programs},
    options::Options,
    watchdog::{Watchdog, Watched},
};

/// The superuser of the cluster, and who we connect as.
pub(crate) const USER: &str = "postgres";

/// Only names the socket: PostgreSQL listens at no TCP address.
pub(crate) const PORT: u16 = 5432;

/// How long the PostgreSQL of a killed run may take to end before we give up waiting for it.
pub(crate) const PREVIOUS_MAX: Duration = Duration::from_secs(PREVIOUS_SECONDS_MAX);
const PREVIOUS_SECONDS_MAX: u64 = 60;

/// The pause between two looks at something the system does not tell us about.
pub(crate) const PAUSE_MAX: Duration = Duration::from_millis(50);

/// A directory that is ours, with a cluster in it that no PostgreSQL runs on, and how to run one.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) directory: Directory,
    pub(crate) owner: OwnerLock,
    account: Account,
    programs: Programs,
}

impl Site {
    /// Takes the directory, waits for what still runs on it, and makes the cluster where there is none.
    ///
    /// The file is locked, for PostgreSQL to inherit: it must live until that runs.
    pub(crate) async fn take(
        directory: Directory,
        options: &Options,
        purpose: Purpose,
    ) -> Result<(Site, File), EmbeddedError> {
        let site = {
            let options = options.clone();
            blocking(move || Site::prepare(directory, &options, purpose)).await?
        };
        let lock = site.wait_for_previous().await?;
        site.directory.sweep()?;
        if !site.directory.pgdata().exists() {
            site.initdb(&lock, options).await?;
        }
        Ok((site, lock))
    }

    /// Starts PostgreSQL; answers where in `postgres.log` this run begins.
    pub(crate) fn spawn_postgres(&self, lock: &File, options: &Options) -> Result<(Watchdog, u64), EmbeddedError> {
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

    fn prepare(directory: Directory, options: &Options, purpose: Purpose) -> Result<Site, EmbeddedError> {
        let account = Account::choose(&directory.pgdata())?;
        let programs = find::choose(&Places::of_this_machine(options.bindir_chosen()), &directory.pgdata())?;
        directory.prepare(&account)?;
        let owner = directory.own(&account, purpose)?;
        Ok(Site {
            directory,
            owner,
            account,
            programs,
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
