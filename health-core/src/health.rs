//! [`Health`]: the handle that everything else hangs on.

mod read;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::Utc;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    batch::Receipt,
    config::{Config, Limits},
    counters::{Counters, Counts},
    error::Error,
    ingest::{
        queue::{Ack, Queue},
        writer::Writer,
    },
    live::{compactor, filter::Filter, hub::Hub, poller::Poller, subscription::Subscription},
    roller,
    sample::Sample,
    store::{
        connection::{Readers, readers},
        feed, migrate, ready,
    },
    wire::Cursor,
};

/// Takes samples, keeps them in PostgreSQL, answers for them, and tells what was committed.
///
/// A cheap clone: every clone is the same handle. Background tasks end with the last of them, or with [`Health::close`].
#[derive(Clone)]
pub struct Health {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Queue,
    readers: Readers,
    hub: Arc<Hub>,
    counters: Arc<Counters>,
    limits: Limits,
    closing: watch::Sender<bool>,
    /// The writers, the roller and the upkeep of the feed.
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Tells the courier that the writers have ended.
    ending: watch::Sender<bool>,
    courier: Mutex<Option<JoinHandle<()>>>,
}

/// How long the end waits for the last samples to be delivered; whoever resumes gets them all the same.
const LAST_DELIVERY: Duration = Duration::from_secs(2);

/// Samples that wait so long, and no commit meanwhile, are not being written. A full batch takes a tenth of it.
const STALLED: Duration = Duration::from_secs(2);

/// How often to look meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Health {
    /// Connects, brings the schema up to date, and starts the writers and the roller.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database cannot be reached; those of [`migrate`](crate::migrate).
    pub async fn open(config: Config) -> Result<Self, Error> {
        migrate::migrate(&config).await?;
        let readers = readers(&config);
        let position = feed::position(&readers).await?;
        let limits = config.limits.clone();
        let hub = Arc::new(Hub::new(position, &limits, readers.clone()));
        let counters = Arc::new(Counters::default());
        let (queue, ends) = Queue::new(&limits);
        let (closing, _) = watch::channel(false);
        let (ending, end) = watch::channel(false);
        let courier = tokio::spawn(Poller::new(config.clone(), Arc::clone(&hub), end).run());
        let upkeep = tokio::spawn(compactor::run(Arc::clone(&hub), closing.subscribe()));
        let roller = tokio::spawn(roller::run(config.clone(), Arc::clone(&counters), closing.subscribe()));
        let tasks = ends
            .into_iter()
            .map(|requests| {
                let writer = Writer::new(
                    config.clone(),
                    Arc::clone(&hub),
                    Arc::clone(&counters),
                    requests,
                    closing.subscribe(),
                );
                tokio::spawn(writer.run())
            })
            .chain([roller, upkeep])
            .collect();
        Ok(Self {
            inner: Arc::new(Inner {
                queue,
                readers,
                hub,
                counters,
                limits,
                closing,
                tasks: Mutex::new(tasks),
                ending,
                courier: Mutex::new(Some(courier)),
            }),
        })
    }

    /// Stores samples. Resolves after the commit.
    ///
    /// # Errors
    /// See [`Health::enqueue`] and [`Ack::receipt`].
    pub async fn ingest(&self, samples: impl IntoIterator<Item = Sample>) -> Result<Receipt, Error> {
        self.enqueue(samples.into_iter().collect()).await?.receipt().await
    }

    /// Puts samples into the queue, once there is room, and gives back the promise of an answer.
    ///
    /// Samples of the same user are written in the order of these calls.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a sample from the future, [`Error::Overloaded`] where there was no room in time,
    /// [`Error::Closed`] after [`Health::close`]. None of the samples is stored then.
    pub async fn enqueue(&self, samples: Vec<Sample>) -> Result<Ack, Error> {
        let now = Utc::now();
        for (index, sample) in samples.iter().enumerate() {
            sample
                .check_not_in_future(now, self.inner.limits.max_future)
                .map_err(|fault| Error::Invalid { index, fault })?;
        }
        self.inner.queue.enqueue(samples).await
    }

    /// Hears of what is committed from now on, or [from a cursor on](Subscription::resume).
    pub fn subscribe(&self, filter: Filter) -> Subscription {
        Subscription::new(&self.inner.hub, filter)
    }

    /// Where the stream of changes stands.
    pub fn cursor(&self) -> Cursor {
        self.inner.hub.cursor()
    }

    /// Whether samples can be stored now. Answers within some seconds, whatever the database does.
    ///
    /// # Errors
    /// What stands against it.
    pub async fn ready(&self) -> Result<(), Error> {
        ready::ready(&self.inner.readers).await?;
        self.inner.counters.trouble().map_or(Ok(()), Err)?;
        self.writing_goes_on().await
    }

    /// Where samples wait, whether any are committed: a database may answer readers and keep writers waiting all the same,
    /// for a standby that has to confirm, or for its disk.
    async fn writing_goes_on(&self) -> Result<(), Error> {
        let Inner { queue, counters, .. } = &*self.inner;
        let before = counters.batches();
        let going_on = async {
            while queue.rows() > 0 && counters.batches() == before {
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(STALLED, going_on).await.map_err(|_| Error::TimedOut(STALLED))
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.inner.counters.counts(self.inner.queue.rows())
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Takes nothing more, stores what was accepted, ends every subscription, then stops.
    ///
    /// # Errors
    /// [`Error::TimedOut`] where that took longer than [`Limits::drain_timeout`]; what is not stored by then was not
    /// acknowledged either.
    pub async fn close(self) -> Result<(), Error> {
        self.inner.queue.close();
        self.inner.closing.send_replace(true);
        let tasks = std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let deadline = self.inner.limits.drain_timeout;
        let stopping: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let drained = timeout(deadline, async {
            for task in tasks {
                // A writer that panicked has nothing left to store.
                let _ = task.await;
            }
        });
        let outcome = drained.await.map_err(|_| Error::TimedOut(deadline));
        stopping.iter().for_each(tokio::task::AbortHandle::abort);
        // What was stored last is still delivered, if the database is there.
        self.inner.ending.send_replace(true);
        let courier = self.inner.courier.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut courier) = courier
            && timeout(LAST_DELIVERY, &mut courier).await.is_err()
        {
            courier.abort();
        }
        self.inner.hub.close();
        outcome
    }
}
