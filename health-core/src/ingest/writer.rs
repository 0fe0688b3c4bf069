//! A writer: one task and one connection that write one batch after another.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::yield_now,
    time::{Instant, timeout},
};

use crate::{
    batch::{Batch, WritePlan},
    config::Config,
    counters::Counters,
    error::Error,
    ingest::{backoff::Backoff, queue::Request},
    live::hub::{Hub, WriterId},
    store::{
        commit_outcome::{CommitOutcome, CommitRecord, commit_outcome},
        connection::{Session, classify},
        newest_timestamps::{LookUp, NewestTimestamps},
        write::{WriteError, WriterSession, Written},
    },
};

/// A task that writes the requests of its queue.
///
/// As soon as it is free it takes all waiting requests, up to the limit of a batch. So batches grow with the load,
/// and no request waits for a timer.
pub(crate) struct Writer {
    config: Config,
    hub: Arc<Hub>,
    counters: Arc<Counters>,
    requests: mpsc::UnboundedReceiver<Request>,
    closing: watch::Receiver<bool>,
    connection: Connection,
    /// Survives the connection, because it says something about the table.
    newest_timestamps: NewestTimestamps,
}

/// The writer's connection, opened when it is needed.
#[derive(Default)]
struct Connection {
    session: Option<WriterSession>,
    /// The writer id of the connection. The hub forgets it together with the connection: then the poller reads from the
    /// table what the last commit of this id wrote, if it was committed.
    writer_id: Option<WriterId>,
}

/// Why a batch was not written.
enum BatchFailure {
    /// A temporary failure: write the same batch again, after a pause or at once.
    Temporary { error: Error, retry_at_once: bool },
    /// The database refuses one of the requests, and always will.
    Refused(Error),
    /// The batch may be committed or not, and there is no way to find out.
    OutcomeUnknown(Error),
}

/// The longest time to open a connection. A stopped server, or a proxy that has lost its server, accepts
/// connections and then says nothing for ever. The value is twice the TCP connect timeout that
/// [`Config::from_url`] sets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Writer {
    pub(crate) fn new(
        config: Config,
        hub: Arc<Hub>,
        counters: Arc<Counters>,
        requests: mpsc::UnboundedReceiver<Request>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self {
            config,
            hub,
            counters,
            requests,
            closing,
            connection: Connection::default(),
            newest_timestamps: NewestTimestamps::default(),
        }
    }

    /// Writes until the queue is closed and empty.
    pub(crate) async fn run(mut self) {
        loop {
            let first = tokio::select! {
                // Closing comes first, so that a busy queue cannot delay it. `recv` still returns what is in the queue.
                biased;
                _ = self.closing.wait_for(|closing| *closing), if !self.requests.is_closed() => {
                    self.requests.close();
                    continue;
                }
                request = self.requests.recv() => request,
            };
            let Some(first) = first else { return };
            // Yields once, so that clients that were just answered can enqueue their next request: with many
            // clients that send one sample at a time, batches grow by a third. Without other work this takes no
            // time.
            yield_now().await;
            let requests = self.gather(first);
            self.write(requests).await;
        }
    }

    /// Takes the waiting requests, up to the limit of a batch. The first is taken whatever its size.
    fn gather(&mut self, first: Request) -> Vec<Request> {
        let mut rows = first.samples.len();
        let mut requests = vec![first];
        while rows < self.config.limits.batch_rows {
            let Ok(request) = self.requests.try_recv() else { break };
            rows += request.samples.len();
            requests.push(request);
        }
        requests
    }

    /// Writes requests as one batch and answers each. Tries again until it succeeds or all their deadlines have passed.
    async fn write(&mut self, mut requests: Vec<Request>) {
        let mut mode = LookUp::UnlessNew;
        let mut backoff = Backoff::new();
        while !requests.is_empty() {
            let batch = Batch::new(requests.iter().map(|request| request.samples.as_slice()));
            let rows = batch.len();
            match self.try_write(&batch, mode).await {
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
                Err(BatchFailure::Refused(error)) if requests.len() == 1 => {
                    tracing::error!(error = error.chain(), rows, "the database refuses a request");
                    return answer_all(requests, &error);
                }
                Err(BatchFailure::Refused(_)) => {
                    // Writes each request in a batch of its own, so that only the refused one fails.
                    for request in requests {
                        Box::pin(self.write(vec![request])).await;
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
        // The hub comes before the acknowledgement. So a client that subscribes after its answer does not get these
        // samples.
        if let Some(xid) = written.record.and_then(|record| record.xid()) {
            self.hub.hand_over(xid, changed);
        }
        for (request, receipt) in requests.into_iter().zip(receipts) {
            // The caller may have gone. Its samples are stored all the same.
            let _ = request.ack.send(Ok(receipt));
        }
    }

    /// Writes a batch once.
    async fn try_write(&mut self, batch: &Batch, mode: LookUp) -> Result<Written, BatchFailure> {
        let Connection { session, writer_id } = &mut self.connection;
        if session.as_ref().is_some_and(WriterSession::is_closed) {
            // The connection was lost while the writer was idle.
            *session = None;
            *writer_id = None;
        }
        let open = match session.take() {
            Some(open) => open,
            None => connect(&self.config)
                .await
                .map(WriterSession::new)
                .map_err(retry_later)?,
        };
        let open = session.insert(open);
        let id = writer_id.get_or_insert_with(|| self.hub.register_writer()).get();
        let written = open.write(&mut self.newest_timestamps, id, batch, mode).await;
        if open.is_closed() || matches!(written, Err(WriteError::Unknown { .. })) {
            *session = None;
            *writer_id = None;
        }
        match written {
            Ok(written) => Ok(written),
            Err(WriteError::Conflict) => {
                self.counters.count_conflict();
                Err(retry_at_once(Error::Unavailable(Arc::new(WriteConflict))))
            }
            Err(WriteError::Failed(error)) => Err(match classify(error) {
                error @ Error::Unavailable(_) => retry_later(error),
                error => BatchFailure::Refused(error),
            }),
            Err(WriteError::Unknown { record, error, plan }) => self.find_outcome(record, error, plan).await,
        }
    }

    /// Finds out how a commit ended whose answer was lost, once the database answers again.
    ///
    /// The outcome stays unknown in two cases. If the connection was lost before the commit record arrived, nothing
    /// identifies the transaction, and the writer does not ask. Otherwise it asks until
    /// [`Limits::ingest_deadline`](crate::Limits::ingest_deadline) has passed.
    async fn find_outcome(
        &mut self,
        record: Option<CommitRecord>,
        error: tokio_postgres::Error,
        plan: WritePlan,
    ) -> Result<Written, BatchFailure> {
        let unknown = Error::CommitUnknown(Arc::new(error));
        let Some(record) = record else {
            return Err(BatchFailure::OutcomeUnknown(unknown));
        };
        self.counters.count_failed_write(&unknown);
        let deadline = Instant::now() + self.config.limits.ingest_deadline;
        let mut backoff = Backoff::new();
        while Instant::now() < deadline {
            if let Ok(session) = connect(&self.config).await {
                match commit_outcome(&session, &record).await {
                    Ok(CommitOutcome::Committed) => {
                        self.connection.session = Some(WriterSession::new(session));
                        self.newest_timestamps.stored(&plan.inserts);
                        return Ok(Written {
                            plan,
                            record: Some(record),
                        });
                    }
                    Ok(CommitOutcome::RolledBack) => {
                        self.connection.session = Some(WriterSession::new(session));
                        return Err(retry_at_once(unknown));
                    }
                    Ok(CommitOutcome::InProgress) | Err(_) => {}
                }
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
        Ok(Err(error)) => Err(Error::Unavailable(Arc::new(error))),
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
