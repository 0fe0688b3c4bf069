//! [`Health`]: the handle through which a program uses this library.

mod read;

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OnceCell, watch},
    task::{AbortHandle, JoinHandle},
    time::{sleep, timeout},
};

use crate::{
    access::Authenticator,
    batch::Receipt,
    config::{Config, Limits},
    counters::{Counters, Counts},
    error::{Error, NotWritableReason},
    ingest::{
        queue::{Ack, IngestQueue},
        writer::Writer,
    },
    live::{
        filter::Filter, handover::Handover, maintenance, poller::Poller, replay::source::ReplaySource, ring::Ring,
        subscription::Subscription,
    },
    outage::DatabaseStatus,
    panics::has_panicked,
    retention::Retention,
    roller,
    sample::Sample,
    store::{
        capacity,
        commit_log::{self, LogPosition},
        database::Facts,
        error::StoreError,
        lock_wait::report_waits,
        migrate,
        readers::{Readers, checkout, readers},
        ready, schema_version,
    },
    wire::Cursor,
};

/// A handle that stores samples in PostgreSQL, answers queries about them, and publishes what was committed.
///
/// A clone is cheap and is the same handle. The background tasks end when the last clone is dropped, or with
/// [`Health::close`].
#[derive(Clone)]
pub struct Health {
    inner: Arc<Inner>,
}

struct Inner {
    queue: IngestQueue,
    readers: Readers,
    ring: Arc<Ring>,
    /// Erasures go to the poller the same way as what writers commit.
    handover: Handover,
    replays: Arc<ReplaySource>,
    counters: Arc<Counters>,
    limits: Limits,
    status: DatabaseStatus,
    /// Made by the first call of [`Health::authenticator`].
    authenticator: OnceCell<Authenticator>,
    /// Notified when another program says that tokens have changed.
    tokens_changed: Arc<Notify>,
    /// Tells the tasks to finish their work and end.
    closing: watch::Sender<bool>,
    /// The writers, the roller, the maintenance of the commit log and the retention; empty after [`Health::close`].
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Tells the poller that the writers have ended.
    writers_ended: watch::Sender<bool>,
    poller: Mutex<Option<JoinHandle<()>>>,
}

/// How long [`Health::close`] waits for the poller to deliver the last samples. Subscribers that resume later get
/// them all the same, so two polls of the commit log are enough.
const LAST_DELIVERY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long samples may wait without any commit before the server counts as not ready. A full batch takes a tenth
/// of it.
const STALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the readiness check looks for a commit: seldom enough to cost nothing, often enough to answer at once.
const COMMIT_CHECK_INTERVAL: Duration = Duration::from_millis(20);

impl Health {
    /// Connects, brings the schema up to date, and starts the background tasks.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database cannot be reached; those of [`migrate`](crate::migrate).
    pub async fn open(config: Config) -> Result<Self, Error> {
        config.limits.check()?;
        let facts = migrate::prepare(&config).await?;
        let readers = readers(&config.for_sessions("reader"));
        let position = newest_position(&config, &readers, &facts).await?;
        let limits = config.limits.clone();
        let ring = Arc::new(Ring::new(position, &limits));
        let replays = Arc::new(ReplaySource::new(readers.clone(), limits.replay_window));
        let counters = Arc::new(Counters::default());
        counters.note_writable(!facts.is_read_only);
        let queue = IngestQueue::new(&limits, Arc::clone(&counters));
        let (handover, commits) = Handover::new(Arc::clone(&ring));
        let (closing, _) = watch::channel(false);
        let (writers_ended, end) = watch::channel(false);
        let tokens_changed = Arc::new(Notify::new());
        let poller = tokio::spawn(
            Poller::new(
                config.for_sessions("feed"),
                readers.clone(),
                Arc::clone(&ring),
                commits,
                Arc::clone(&tokens_changed),
                end,
            )
            .run(),
        );
        let maintenance = {
            let (readers, window, closing) = (readers.clone(), limits.replay_window, closing.subscribe());
            let run = move || maintenance::run(readers.clone(), window, closing.clone());
            tokio::spawn(async move { while has_panicked("maintenance", run()).await {} })
        };
        let roller = {
            let config = config.for_sessions("summaries");
            let (readers, counters, closing) = (readers.clone(), Arc::clone(&counters), closing.subscribe());
            let run = move || roller::run(config.clone(), readers.clone(), Arc::clone(&counters), closing.clone());
            tokio::spawn(async move { while has_panicked("roller", run()).await {} })
        };
        let retention = limits.retain.map(|retain| {
            counters.note_retention_run(Utc::now());
            let (config, handover) = (config.for_sessions("retention"), handover.clone());
            let retention = Retention::new(config, retain, handover, Arc::clone(&counters), closing.subscribe());
            let run = move || retention.clone().run();
            tokio::spawn(async move { while has_panicked("retention", run()).await {} })
        });
        let writers = limits.writers.max(1);
        let tasks = (0..=writers)
            .map(|index| {
                let (config, handover) = (config.for_sessions("writer"), handover.clone());
                let writer = Writer::new(index, config, readers.clone(), handover, Arc::clone(&counters), &queue);
                if index < writers {
                    tokio::spawn(writer.run())
                } else {
                    tokio::spawn(writer.run_as_spare())
                }
            })
            .chain([roller, maintenance])
            .chain(retention)
            .collect();
        Ok(Self {
            inner: Arc::new(Inner {
                queue,
                readers,
                ring,
                handover,
                replays,
                counters,
                limits,
                status: config.status,
                authenticator: OnceCell::new(),
                tokens_changed,
                closing,
                tasks: Mutex::new(tasks),
                writers_ended,
                poller: Mutex::new(Some(poller)),
            }),
        })
    }

    /// Stores samples and returns after the commit.
    ///
    /// # Errors
    /// Those of [`Health::enqueue`] and [`Ack::receipt`].
    pub async fn ingest(&self, samples: impl IntoIterator<Item = Sample>) -> Result<Receipt, Error> {
        self.enqueue(samples.into_iter().collect()).await?.receipt().await
    }

    /// Adds samples to the queue and returns a pending acknowledgement. Waits while the queue is full.
    ///
    /// Samples of the same user are written in the order of these calls.
    ///
    /// # Errors
    /// None of the samples is stored after one of these errors: [`Error::Invalid`] if a sample is in the future,
    /// [`Error::Overloaded`] if the queue had no room in time, [`Error::Closed`] after [`Health::close`].
    pub async fn enqueue(&self, samples: Vec<Sample>) -> Result<Ack, Error> {
        let now = Utc::now();
        for (index, sample) in samples.iter().enumerate() {
            sample
                .check_not_in_future(now, self.inner.limits.max_future)
                .map_err(|fault| Error::Invalid { index, fault })?;
        }
        self.check_not_stopped()?;
        self.inner.queue.enqueue(samples).await
    }

    /// Subscribes to the samples that are committed from now on, or [after a cursor](Subscription::resume).
    pub fn subscribe(&self, filter: Filter) -> Subscription {
        Subscription::new(&self.inner.ring, &self.inner.replays, filter)
    }

    /// Returns the resume point at the end of what has been delivered to subscribers.
    pub fn cursor(&self) -> Cursor {
        self.inner.ring.cursor()
    }

    /// Checks that samples can be stored now. Answers within some seconds, even if the database does not answer.
    ///
    /// # Errors
    /// The reason why samples cannot be stored.
    pub async fn ready(&self) -> Result<(), Error> {
        if let Some(outage) = self.inner.status.outage() {
            return Err(Error::Stopped(outage.reason));
        }
        self.inner.queue.writers().why_none_is_connected().map_or(Ok(()), Err)?;
        let counters = &self.inner.counters;
        let database = ready::ready(&self.inner.readers).await;
        match &database {
            Ok(()) => counters.note_writable(true),
            Err(Error::NotWritable(NotWritableReason::ReadOnly)) => counters.note_writable(false),
            Err(_) => {}
        }
        database?;
        counters.reason_not_stored().map_or(Ok(()), Err)?;
        self.check_writers_progress().await
    }

    /// If samples wait, checks that batches are committed.
    ///
    /// A database that answers readers may still keep writers waiting: for a synchronous standby, or for its disk.
    async fn check_writers_progress(&self) -> Result<(), Error> {
        let Inner { queue, counters, .. } = &*self.inner;
        let before = counters.batches();
        let progress = async {
            while queue.rows() > 0 && counters.batches() == before {
                sleep(COMMIT_CHECK_INTERVAL).await;
            }
        };
        // The database answers, see `ready`.
        timeout(STALL_TIMEOUT, progress).await.map_err(|_| {
            let stalled = Error::NotWritable(NotWritableReason::Stalled(STALL_TIMEOUT));
            counters.reason_not_stored().unwrap_or(stalled)
        })
    }

    /// Returns the authenticator of API tokens, for a program that lets others use this handle.
    ///
    /// The first call reads the tokens and starts the task that keeps them up to date.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database cannot be reached.
    pub async fn authenticator(&self) -> Result<Authenticator, Error> {
        let Inner {
            readers,
            tokens_changed,
            closing,
            tasks,
            ..
        } = &*self.inner;
        let start = async {
            let started = Authenticator::start(readers.clone(), Arc::clone(tokens_changed), closing.subscribe());
            let (authenticator, refresh) = started.await?;
            tasks.lock().push(tokio::spawn(refresh));
            Ok(authenticator)
        };
        self.inner.authenticator.get_or_try_init(|| start).await.cloned()
    }

    /// Fails at once if the database is known to be down for longer than a restart takes.
    fn check_not_stopped(&self) -> Result<(), Error> {
        let reason = self.inner.status.lasting_outage();
        reason.map_or(Ok(()), |reason| Err(Error::Stopped(reason)))
    }

    /// Returns what this handle has done so far.
    pub fn counts(&self) -> Counts {
        let Inner {
            queue,
            counters,
            ring,
            readers,
            limits,
            ..
        } = &*self.inner;
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let (readers_open, readers_idle) = readers.connections();
        Counts {
            queue_rows_max: number(limits.queue_rows),
            writers: number(limits.writers.max(1)),
            writers_connected: number(queue.writers().count_connected()),
            readers_max: limits.readers.into(),
            readers_open,
            readers_idle,
            ..counters.counts(queue.rows(), ring.missed())
        }
    }

    /// Returns the limits in force.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Refuses new samples, stores those that were accepted, delivers them to subscribers, and ends all tasks.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if this took longer than [`Limits::drain_timeout`]. Samples that are not stored by then
    /// were not acknowledged either.
    pub async fn close(self) -> Result<(), Error> {
        self.inner.queue.close();
        self.inner.closing.send_replace(true);
        let outcome = self.drain().await;
        // The poller delivers the last stored samples, if it reaches the database.
        self.inner.writers_ended.send_replace(true);
        let poller = self.inner.poller.lock().take();
        if let Some(mut poller) = poller
            && timeout(LAST_DELIVERY_TIMEOUT, &mut poller).await.is_err()
        {
            poller.abort();
        }
        self.inner.ring.close();
        outcome
    }

    /// Waits until the tasks have ended. Aborts those that take too long.
    async fn drain(&self) -> Result<(), Error> {
        let tasks = std::mem::take(&mut *self.inner.tasks.lock());
        let abort_handles: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let limit = self.inner.limits.drain_timeout;
        let ended = timeout(limit, async {
            for task in tasks {
                // Panics do not end a task.
                let _ = task.await;
            }
        });
        let outcome = ended.await.map_err(|_| Error::TimedOut(limit));
        abort_handles.iter().for_each(AbortHandle::abort);
        outcome
    }
}

/// Returns the position at the end of the commit log.
///
/// If another session has locked the table, the log says who.
async fn newest_position(config: &Config, readers: &Readers, facts: &Facts) -> Result<LogPosition, Error> {
    let mut session = checkout(readers).await?;
    capacity::warn_if_too_small(&mut session, &config.limits).await?;
    let pid = session.pid();
    let reading = commit_log::newest(&mut session);
    match report_waits(config, pid, "the start", |_, _| (), reading).await {
        Err(StoreError::Postgres(error)) => Err(schema_version::read_error(error, facts)),
        position => Ok(position?),
    }
}
