//! A writer: one task and one connection that write one batch after another.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::yield_now,
    time::{Instant, timeout},
};

use crate::{
    batch::{Batch, WritePlan},
    config::Config,
    counters::Counters,
    error::{Cause, Error, NotWritableReason},
    ingest::{
        backoff::Backoff,
        work::{Request, WorkQueue},
    },
    live::handover::Handover,
    store::{
        append::BatchKey,
        commit_log,
        connection::{Session, classify},
        lock_wait::{LockWait, report_waits},
        newest_timestamps::{LookUp, NewestTimestamps},
        write::{WriteError, WriterSession, Written},
    },
};

/// A task that writes requests.
///
/// As soon as it is free it takes what waits, see [`work`](crate::ingest::work). So batches grow with the load, and no
/// request waits for a timer.
pub(crate) struct Writer {
    config: Config,
    handover: Handover,
    counters: Arc<Counters>,
    queue: Arc<WorkQueue>,
    /// Opened when it is needed.
    session: Option<WriterSession>,
}

/// Why a batch was not written.
enum BatchFailure {
    /// A temporary failure: write the same batch again, after a pause or at once.
    Temporary { error: Error, retry_at_once: bool },
    /// The database can store nothing for now, and said why. Waiting would only keep the reason from the callers.
    NotWritable(Error),
    /// The database refuses one of the requests, and always will.
    Refused(Error),
    /// The batch may be committed or not: the database did not say within the ingest deadline.
    OutcomeUnknown(Error),
}

/// The longest time to open a connection. A stopped server, or a proxy that has lost its server, accepts
/// connections and then says nothing for ever. The value is twice the TCP connect timeout that
/// [`Config::from_url`] sets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How old a session may become in which the database is read-only. It bounds how often a writer connects.
const READ_ONLY_SESSION_LIFE: Duration = Duration::from_millis(500);

impl Writer {
    pub(crate) fn new(config: Config, handover: Handover, counters: Arc<Counters>, queue: Arc<WorkQueue>) -> Self {
        Self {
            config,
            handover,
            counters,
            queue,
            session: None,
        }
    }

    /// Writes until the queue is closed and empty.
    pub(crate) async fn run(mut self) {
        while self.queue.wait().await {
            // Yields once, so that clients that were just answered can enqueue their next request: with many
            // clients that send one sample at a time, batches grow by a third. Without other work this takes no
            // time.
            yield_now().await;
            // Another writer may have been faster.
            if let Some(mut work) = self.queue.take() {
                let requests = std::mem::take(&mut work.requests);
                self.write(requests, &mut work.newest_timestamps).await;
            }
        }
    }

    /// Writes requests as one batch and answers each. Tries again until it succeeds or all their deadlines have passed.
    async fn write(&mut self, mut requests: Vec<Request>, cache: &mut NewestTimestamps) {
        let mut mode = LookUp::UnlessNew;
        let mut backoff = Backoff::new();
        while !requests.is_empty() {
            let batch = Batch::new(requests.iter().map(|request| request.samples.as_slice()));
            let rows = batch.len();
            match self.try_write(&batch, mode, cache).await {
                Ok(written) => return self.acknowledge(requests, written),
                Err(BatchFailure::Temporary { error, retry_at_once }) => {
                    mode = LookUp::All;
                    if !retry_at_once {
                        tracing::warn!(
                            error = error.chain(),
                            rows,
                            "a batch could not be written, trying again"
                        );
                        self.counters.count_failed_write(&error);
                        backoff.wait().await;
                    }
                    answer_expired(&mut requests, &error);
                }
                Err(BatchFailure::NotWritable(error)) => {
                    if matches!(error, Error::NotWritable(NotWritableReason::ReadOnly)) {
                        self.counters.note_writable(false);
                    } else {
                        tracing::warn!(error = error.chain(), rows, "a batch could not be written");
                    }
                    self.counters.count_failed_write(&error);
                    return answer_all(requests, &error);
                }
                Err(BatchFailure::Refused(error)) if requests.len() == 1 => {
                    tracing::error!(error = error.chain(), rows, "the database refuses a request");
                    return answer_all(requests, &error);
                }
                Err(BatchFailure::Refused(_)) => {
                    // Writes each request in a batch of its own, so that only the refused one fails.
                    for request in requests {
                        Box::pin(self.write(vec![request], cache)).await;
                    }
                    return;
                }
                Err(BatchFailure::OutcomeUnknown(error)) => {
                    tracing::warn!(error = error.chain(), rows, "the outcome of a commit is unknown");
                    return answer_all(requests, &error);
                }
            }
        }
    }

    fn acknowledge(&self, requests: Vec<Request>, written: Written) {
        let WritePlan {
            inserts,
            updates,
            receipts,
        } = written.plan;
        self.counters.count_commit(&receipts);
        let changed = inserts
            .into_iter()
            .chain(updates.into_iter().map(|update| update.after));
        // Before the acknowledgement, so that a client that subscribes after its answer does not get these samples. After a
        // fence there is no record to hand over: the poller finds the commit in the log.
        if let Some(appended) = written.appended {
            self.handover
                .hand_over(appended.record, appended.previous_writer_id, changed);
        }
        for (request, receipt) in requests.into_iter().zip(receipts) {
            // The caller may have gone. Its samples are stored all the same.
            let _ = request.ack.send(Ok(receipt));
        }
    }

    /// Writes a batch once.
    async fn try_write(
        &mut self,
        batch: &Batch,
        mode: LookUp,
        cache: &mut NewestTimestamps,
    ) -> Result<Written, BatchFailure> {
        // A connection may have been lost while the writer was idle.
        let open = match self.session.take().filter(|session| !session.is_closed()) {
            Some(open) => open,
            None => connect(&self.config)
                .await
                .map(WriterSession::new)
                .map_err(retry_later)?,
        };
        let open = self.session.insert(open);
        let (pid, counters) = (open.pid(), &self.counters);
        let mut was_blocked = false;
        let on_wait = |wait: Option<&LockWait>, _| {
            was_blocked |= wait.is_some();
            counters.note_blocked(pid, wait.is_some());
        };
        let written = report_waits(&self.config, pid, "a writer", on_wait, open.write(cache, batch, mode)).await;
        if was_blocked {
            counters.note_blocked(pid, false);
        }
        if matches!(written, Err(WriteError::Unknown { .. })) {
            self.session = None;
        }
        match written {
            Ok(written) => Ok(written),
            Err(WriteError::Conflict) => {
                self.counters.count_conflict();
                Err(retry_at_once(Error::Unavailable(Arc::new(WriteConflict))))
            }
            Err(WriteError::Failed(error)) => Err(match classify(error) {
                error @ Error::NotWritable(_) => {
                    // A database that was set to read-only, and back, tells only new sessions.
                    self.session.take_if(|session| session.age() > READ_ONLY_SESSION_LIFE);
                    BatchFailure::NotWritable(error)
                }
                error if error.is_retryable() => retry_later(error),
                error => BatchFailure::Refused(error),
            }),
            Err(WriteError::Unknown { key, error, plan }) => self.find_outcome(key, error, plan, cache).await,
        }
    }

    /// Asks the database how a commit ended. The answer to the `COMMIT` was lost.
    ///
    /// Gives up after [`Limits::ingest_deadline`](crate::Limits::ingest_deadline), counted from the loss. The deadlines of the
    /// requests began earlier. So most callers have gone by then, with [`Error::TimedOut`].
    async fn find_outcome(
        &mut self,
        key: BatchKey,
        error: tokio_postgres::Error,
        plan: WritePlan,
        cache: &mut NewestTimestamps,
    ) -> Result<Written, BatchFailure> {
        let cause: Cause = Arc::new(error);
        let unknown = Error::CommitUnknown(Arc::clone(&cause));
        self.counters.count_failed_write(&unknown);
        let deadline = Instant::now() + self.config.limits.ingest_deadline;
        let mut backoff = Backoff::new();
        while Instant::now() < deadline {
            if let Ok(mut session) = connect(&self.config).await
                && let Ok(is_committed) = commit_log::fence(&mut session, key).await
            {
                self.session = Some(WriterSession::new(session));
                if !is_committed {
                    return Err(retry_at_once(Error::Unavailable(cause)));
                }
                cache.stored(&plan.inserts);
                return Ok(Written { plan, appended: None });
            }
            backoff.wait().await;
        }
        Err(BatchFailure::OutcomeUnknown(unknown))
    }
}

async fn connect(config: &Config) -> Result<Session, Error> {
    match timeout(CONNECT_TIMEOUT, Session::writer(config)).await {
        Ok(Ok(session)) => Ok(session),
        // No error of the connection is the fault of a request, so every one of them is temporary.
        Ok(Err(error)) => Err(match classify(error) {
            Error::Database(cause) => Error::Unavailable(cause),
            error => error,
        }),
        Err(_) => Err(Error::TimedOut(CONNECT_TIMEOUT)),
    }
}

fn retry_later(error: Error) -> BatchFailure {
    BatchFailure::Temporary {
        error,
        retry_at_once: false,
    }
}

fn retry_at_once(error: Error) -> BatchFailure {
    BatchFailure::Temporary {
        error,
        retry_at_once: true,
    }
}

/// The cause of [`Error::Unavailable`] if a request's deadline passes after conflicts with other servers only.
#[derive(Debug, thiserror::Error)]
#[error("another server wrote the same samples at the same time")]
struct WriteConflict;

/// Answers the requests whose callers no longer wait, and removes them.
fn answer_expired(requests: &mut Vec<Request>, error: &Error) {
    let now = Instant::now();
    let (expired, waiting) = requests.drain(..).partition(|request| request.deadline <= now);
    *requests = waiting;
    answer_all(expired, error);
}

fn answer_all(requests: Vec<Request>, error: &Error) {
    for request in requests {
        let _ = request.ack.send(Err(error.clone()));
    }
}
