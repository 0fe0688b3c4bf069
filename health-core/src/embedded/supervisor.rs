//! Keeps PostgreSQL running: if it ends unexpectedly, a task starts it again.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::{
    embedded::{
        directory::OwnerLock,
        error::EmbeddedError,
        instance::{Instance, Run, RunEnd, run_blocking},
        ready::{Address, wait_until_ready},
    },
    outage::{DatabaseStatus, Outage, OutageReason},
    panics::has_panicked,
};

/// The pause before the first attempt to start PostgreSQL again. Its other processes need a moment to end.
const RESTART_PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest pause. So PostgreSQL starts again at most half a minute after the disk has space.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How often the supervisor looks whether the data directory is still there. PostgreSQL itself looks only once a
/// minute, and until then confirms commits to deleted files.
const DIRECTORY_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long PostgreSQL may take to stop after SIGINT. It writes its buffers to the disk then. After this time it gets
/// SIGQUIT.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How long PostgreSQL may take to stop after SIGQUIT. It writes nothing then. The next start recovers from the WAL.
const QUIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The PostgreSQL of a data directory that this process owns. Dropping the value ends PostgreSQL and unlocks the
/// directory.
#[derive(Debug)]
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    /// The error that waiting cannot cure, if PostgreSQL ended with one.
    failure: watch::Sender<Option<EmbeddedError>>,
    task: Option<AbortHandle>,
}

/// Pauses that double from attempt to attempt.
pub(crate) struct RestartPause(Duration);

/// What the supervisor and its task share.
#[derive(Debug)]
struct Shared {
    instance: Instance,
    address: Address,
    held: Mutex<Held>,
}

/// What the supervisor holds until it is stopped or dropped.
#[derive(Debug)]
struct Held {
    // Fields are dropped in this order: the watchdog ends PostgreSQL before the directory is unlocked.
    /// The present run, or the last one if PostgreSQL has ended.
    run: Option<Run>,
    owner_lock: Option<OwnerLock>,
    /// Whether PostgreSQL must not be started any more.
    is_closing: bool,
}

impl Supervisor {
    /// Makes the supervisor of `run`, the present run of PostgreSQL in `instance`. Nothing watches it before
    /// [`watch`](Self::watch).
    pub(crate) fn new(instance: Instance, owner_lock: OwnerLock, run: Run, address: Address) -> Supervisor {
        let held = Held {
            run: Some(run),
            owner_lock: Some(owner_lock),
            is_closing: false,
        };
        Supervisor {
            shared: Arc::new(Shared {
                instance,
                address,
                held: Mutex::new(held),
            }),
            failure: watch::Sender::new(None),
            task: None,
        }
    }

    /// Starts the task that starts PostgreSQL again.
    pub(crate) fn watch(&mut self) {
        let (shared, failure) = (Arc::clone(&self.shared), self.failure.clone());
        let task = tokio::spawn(async move {
            let watching = || async { drop(failure.send_replace(Some(shared.keep_running().await))) };
            while has_panicked("supervisor", watching()).await {}
        });
        self.task = Some(task.abort_handle());
    }

    /// Waits until PostgreSQL has ended and is not started again.
    pub(crate) async fn failed(&self) -> EmbeddedError {
        let mut failure = self.failure.subscribe();
        let failed = failure
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|error| error.clone());
        match failed {
            Some(error) => error,
            // Cannot be: this value holds the sender.
            None => std::future::pending().await,
        }
    }

    /// Stops PostgreSQL, if it runs, and waits for its end.
    pub(crate) async fn stop(&self) -> Result<(), EmbeddedError> {
        self.close();
        if let Some(error) = self.failure.borrow().clone() {
            return Err(error);
        }
        let Some(run) = self.shared.held.lock().run.take() else {
            return Ok(());
        };
        if run.watchdog.has_ended() {
            let error = self.shared.instance.end_of(&run).error().await;
            // If the task would start PostgreSQL again, its end is no error.
            return if self.shared.instance.restarts() {
                Ok(())
            } else {
                Err(error)
            };
        }
        run.watchdog.signal("INT");
        if timeout(STOP_TIMEOUT, run.watchdog.ended()).await.is_err() {
            let directory = self.shared.instance.directory.path();
            tracing::warn!(
                directory = %directory.display(),
                "PostgreSQL did not end after SIGINT, sending SIGQUIT"
            );
            run.watchdog.signal("QUIT");
            if timeout(QUIT_TIMEOUT, run.watchdog.ended()).await.is_err() {
                return Err(EmbeddedError::NotStopped {
                    directory: directory.to_owned(),
                    seconds: (STOP_TIMEOUT + QUIT_TIMEOUT).as_secs(),
                });
            }
        }
        Ok(())
    }

    /// Ends the task. From now on PostgreSQL is not started any more.
    fn close(&self) {
        self.shared.held.lock().is_closing = true;
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The task ends later, and must not hold PostgreSQL and the lock until then.
impl Drop for Supervisor {
    fn drop(&mut self) {
        self.close();
        let mut held = self.shared.held.lock();
        held.run = None;
        held.owner_lock = None;
    }
}

impl Shared {
    /// Starts PostgreSQL again and again, until waiting cannot help. Returns the reason.
    async fn keep_running(&self) -> EmbeddedError {
        let mut pause = RestartPause::new();
        loop {
            let started = Instant::now();
            let end = self.held.lock().run.as_ref().map(|run| self.instance.end_of(run));
            let Some(end) = end else {
                // The supervisor was stopped or dropped: this task is being aborted.
                return std::future::pending().await;
            };
            let mut error = tokio::select! {
                error = end.error() => error,
                () = self.gone() => self.quit(&end).await,
            };
            if !self.instance.restarts() {
                return error;
            }
            if started.elapsed() > RESTART_PAUSE_MAX {
                pause = RestartPause::new();
            }
            let mut has_failed_to_start = false;
            loop {
                self.report(&error, has_failed_to_start);
                tracing::error!(%error, "PostgreSQL is down; starting it again in {pause}");
                pause.wait().await;
                match self.restart().await {
                    Ok(()) => break,
                    // The cluster is gone. If the program ended here, its next start would create an empty one.
                    Err(_) if matches!(self.instance.directory.pgdata().try_exists(), Ok(false)) => {
                        error = self.directory_gone();
                    }
                    Err(failed) if failed.is_permanent() => return failed,
                    Err(failed) => error = failed,
                }
                has_failed_to_start = true;
            }
            self.status().set(None);
            tracing::info!("PostgreSQL runs again");
        }
    }

    /// Reports an outage to those who use the database.
    fn report(&self, error: &EmbeddedError, has_failed_to_start: bool) {
        let reason = error.outage_reason(self.instance.directory.path());
        self.status().set(Some(Outage {
            reason,
            is_lasting: has_failed_to_start || matches!(reason, OutageReason::DiskFull | OutageReason::DirectoryGone),
        }));
    }

    async fn postmaster_pid(&self) -> Result<Option<u32>, EmbeddedError> {
        let directory = self.instance.directory.clone();
        run_blocking(move || directory.postmaster_pid()).await
    }

    /// Waits until the file with the process id of this PostgreSQL is missing in the data directory, or names another
    /// process. PostgreSQL itself looks at the same file. A directory that cannot be read counts as one that has it. If
    /// an operator stops PostgreSQL, it removes the file just before it ends, so the file must be missing twice in a
    /// row.
    async fn gone(&self) {
        let before = self.postmaster_pid().await.ok().flatten();
        let mut missed = 0;
        while missed < 2 {
            sleep(DIRECTORY_CHECK_INTERVAL).await;
            missed = match self.postmaster_pid().await {
                Ok(now) if before.is_some() && now != before => missed + 1,
                _ => 0,
            };
        }
    }

    fn directory_gone(&self) -> EmbeddedError {
        EmbeddedError::DirectoryGone {
            directory: self.instance.directory.path().to_owned(),
        }
    }

    /// Ends a PostgreSQL whose data directory is gone, so that it acknowledges nothing more.
    async fn quit(&self, end: &RunEnd) -> EmbeddedError {
        let error = self.directory_gone();
        self.report(&error, false);
        if let Some(run) = &self.held.lock().run {
            run.watchdog.signal("QUIT");
        }
        end.status().await;
        error
    }

    fn status(&self) -> &DatabaseStatus {
        self.instance.database_status()
    }

    async fn restart(&self) -> Result<(), EmbeddedError> {
        // An upgrade may have moved the programs while PostgreSQL ran.
        let programs = self.instance.choose_programs().await?;
        let lock = self.instance.wait_for_previous_run().await?;
        let end = {
            let mut held = self.held.lock();
            if held.is_closing {
                None
            } else {
                self.instance.directory.remove_stale_files()?;
                let run = held.run.insert(self.instance.spawn_postgres(&programs, &lock)?);
                Some(self.instance.end_of(run))
            }
        };
        drop(lock);
        match end {
            Some(end) => self.wait_until_ready(&end).await,
            None => std::future::pending().await,
        }
    }

    /// Waits until PostgreSQL answers, however long its recovery takes: starting it again would begin the recovery
    /// again.
    async fn wait_until_ready(&self, end: &RunEnd) -> Result<(), EmbeddedError> {
        let directory = self.instance.directory.path();
        loop {
            match wait_until_ready(&self.address, directory, end).await {
                Err(error @ EmbeddedError::NotReady { .. }) => tracing::warn!(%error, "still waiting for PostgreSQL"),
                result => return result,
            }
        }
    }
}

impl RestartPause {
    pub(crate) fn new() -> RestartPause {
        RestartPause(RESTART_PAUSE_MIN)
    }

    /// Sleeps before the next attempt.
    pub(crate) async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = RESTART_PAUSE_MAX.min(self.0 * 2);
    }
}

impl fmt::Display for RestartPause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs())
    }
}
