//! A writer: one task and one connection that write one batch after another.

mod spare;

use std::{sync::Arc, time::Duration};

use tokio::{
    task::yield_now,
    time::{Instant, timeout},
};

use crate::{
    batch::{Batch, Receipt, WritePlan},
    cause::Cause,
    config::Config,
    counters::Counters,
    error::{Error, NotWritableReason, Refused, TemporaryReason},
    ingest::{
        backoff::{Backoff, LONGEST_PAUSE},
        outcome::Outcome,
        queue::IngestQueue,
        request::{Answer, Request},
        states::WriterStates,
        work::{SMALL_ROWS, WorkQueue},
    },
    live::handover::Handover,
    panics::has_panicked,
    store::{
        batch_key::BatchKey,
        commit_log,
        connection::Session,
        lock_wait::{LockWait, report_waits},
        newest_timestamps::{LookUp, NewestTimestamps},
        prepared::{self, Rows},
        readers::{Readers, give_back},
        refusal::{classify, is_about_a_node, is_about_one_row},
        tables::Tables,
        write::{WriterSession, Written},
        write_error::WriteError,
    },
};

/// A task that writes requests.
///
/// As soon as the task is free, it takes the requests that wait, see [`work`](crate::ingest::work). So batches grow
/// with the load, and no request waits for a timer. A writer without a connection takes no request, so that another
/// writer can.
pub(crate) struct Writer {
    /// Its place in the states of the writers.
    index: usize,
    config: Config,
    readers: Readers,
    handover: Handover,
    counters: Arc<Counters>,
    queue: Arc<WorkQueue>,
    states: Arc<WriterStates>,
    session: Option<WriterSession>,
}

/// Why a batch was not written.
enum BatchFailure {
    /// A temporary failure: write the same batch again, after a pause or at once.
    Temporary { error: Error, retry_at_once: bool },
    /// The batch is committed, but a node of a cluster may have lost its part: write the same batch again, which stores
    /// what is missing. These are the receipts of the first attempt.
    MaybeIncomplete(Vec<Receipt>),
    /// A node of a cluster failed. Samples of its users cannot be stored for now, those of other users can.
    NodeAway(Error),
    /// The database can store nothing for now, and said why. A retry would only delay this answer to the callers.
    NotWritable(Error),
    /// The database refuses one of the requests, and always will.
    Refused(Error),
    /// The database refuses one row, and may accept the others.
    RowRefused(Cause),
    /// The batch may be committed or not: the writer did not learn it from the database within the ingest deadline.
    OutcomeUnknown(Error),
}

/// How often an idle writer looks whether its connection is still there, and whether others need it more.
const CHECK_CONNECTION_EVERY: Duration = Duration::from_secs(1);

/// The pause after a refused connection while another writer is connected, which writes for all users. It is long
/// because PostgreSQL starts a process and writes a line into its log for each attempt.
const SURPLUS_PAUSE: Duration = Duration::from_secs(30);

/// How old a session must be before a writer replaces it because the database is read-only in it. So a writer connects
/// at most twice a second.
const READ_ONLY_SESSION_LIFE: Duration = Duration::from_millis(500);

/// How often a writer yields before it takes what waits.
const MAX_YIELDS: usize = 4;

impl Writer {
    pub(crate) fn new(
        index: usize,
        config: Config,
        readers: Readers,
        handover: Handover,
        counters: Arc<Counters>,
        queue: &IngestQueue,
    ) -> Self {
        Self {
            index,
            config,
            readers,
            handover,
            counters,
            queue: Arc::clone(queue.work()),
            states: Arc::clone(queue.writers()),
            session: None,
        }
    }

    /// Writes until the queue is closed and empty.
    pub(crate) async fn run(mut self) {
        while has_panicked("writer", Box::pin(self.write_all())).await {
            // The state of the session's transaction is unknown, so the session is closed. The callers of the batch got
            // an error.
            if let Some(session) = self.session.take() {
                self.counters.note_blocked(session.pid(), false);
            }
        }
    }

    async fn write_all(&mut self) {
        while self.is_connected() || self.connect().await {
            match timeout(CHECK_CONNECTION_EVERY, self.queue.wait()).await {
                Err(_) => {
                    self.leave_surplus_connection().await;
                    continue;
                }
                Ok(false) => return,
                Ok(true) => {}
            }
            self.let_clients_enqueue().await;
            // A connection may have been lost while the writer was idle.
            if !self.is_connected() {
                self.queue.pass_on();
            } else if let Some(mut work) = self.queue.take() {
                // Otherwise another writer was faster.
                let requests = std::mem::take(&mut work.requests);
                let unwritten = self.write(requests, &mut work.newest_timestamps).await;
                if !unwritten.is_empty() {
                    work.give_back(unwritten);
                }
            }
        }
    }

    fn is_connected(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.is_lost())
    }

    /// Opens a connection; tries again until it succeeds. Returns false if the queue is closed and empty before that.
    ///
    /// While no writer has a connection, this writer answers the requests whose deadlines have passed. If there are too
    /// many connections, other tasks of this server give surplus ones back.
    async fn connect(&mut self) -> bool {
        let mut backoff = Backoff::new();
        let mut need = None;
        let mut last_error = None;
        self.session = None;
        while !self.queue.is_done() {
            let error = match Session::writer(&self.config).await {
                Ok(session) if self.is_surplus() => {
                    drop(session);
                    surplus()
                }
                Ok(session) => {
                    if last_error.is_some() {
                        tracing::info!(writer = self.index, "the writer is connected to the database again");
                    }
                    self.states.connected(self.index);
                    self.session = Some(WriterSession::new(session));
                    return true;
                }
                Err(error) => {
                    self.counters.count_failure(&error);
                    self.config.status.lasting_outage().map_or(error, Error::Stopped)
                }
            };
            self.states.refused(self.index, &error);
            let pause = if self.states.count_connected() > 0 {
                need = None;
                SURPLUS_PAUSE
            } else {
                self.queue.answer_expired(&error);
                if error.is_too_many_connections() {
                    need.get_or_insert_with(|| self.config.sessions.need());
                    give_back(&self.readers).await;
                }
                backoff.next()
            };
            self.log_refusal(&error, &mut last_error);
            self.queue.sleep(pause, LONGEST_PAUSE).await;
        }
        drop(need);
        false
    }

    /// Logs a refusal, unless the one before had the same message.
    fn log_refusal(&self, error: &Error, last: &mut Option<String>) {
        let chain = error.chain();
        if last.as_ref() != Some(&chain) {
            let others = self.states.count_connected();
            tracing::warn!(
                error = chain,
                writer = self.index,
                others,
                "a writer has no connection to the database"
            );
            *last = Some(chain);
        }
    }

    /// Returns whether another task of this server needs a connection more than this writer.
    fn is_surplus(&self) -> bool {
        self.config.sessions.are_scarce() && self.states.count_connected() > 0
    }

    /// Closes the connection if another task needs one and another writer is connected.
    async fn leave_surplus_connection(&mut self) {
        if self.config.sessions.are_scarce() && self.states.leave_to_others(self.index) {
            self.session = None;
            tracing::info!(
                writer = self.index,
                "connections are scarce: the writer leaves its own to another task"
            );
            self.queue.sleep(SURPLUS_PAUSE, LONGEST_PAUSE).await;
        }
    }

    /// Yields while requests arrive, so that clients that were just answered can enqueue their next one: with many
    /// clients that send one sample at a time, batches grow. Without other work this takes no time.
    async fn let_clients_enqueue(&self) {
        let mut rows = 0;
        for _ in 0..MAX_YIELDS {
            yield_now().await;
            let before = std::mem::replace(&mut rows, self.queue.free_rows());
            if rows <= before || rows >= SMALL_ROWS {
                return;
            }
        }
    }

    /// Writes requests as one batch and answers each. Tries again until it succeeds or all their deadlines have passed.
    ///
    /// Returns requests that it cannot write because it has lost its connection. They are not written and not answered.
    async fn write(&mut self, mut requests: Vec<Request>, cache: &mut NewestTimestamps) -> Vec<Request> {
        let mut mode = LookUp::UnlessNew;
        let mut backoff = Backoff::new();
        let mut failures_of_nodes = 0;
        let mut first_receipts = None;
        while !requests.is_empty() {
            let batch = Batch::new(requests.iter().map(|request| request.samples.as_slice()));
            let rows = batch.len();
            let started = Instant::now();
            match self.try_write(&batch, mode, cache).await {
                Ok(mut written) => {
                    if let Some(receipts) = first_receipts {
                        written.plan.receipts = receipts;
                    }
                    self.counters
                        .count_commit(&written.plan.receipts, rows, started.elapsed());
                    self.acknowledge(requests, written);
                    return Vec::new();
                }
                Err(BatchFailure::Temporary { error, retry_at_once }) => {
                    mode = LookUp::All;
                    if !retry_at_once {
                        tracing::warn!(
                            error = error.chain(),
                            rows,
                            "a batch could not be written, trying again"
                        );
                        self.counters.count_failed_write(&error);
                    }
                    if !self.is_connected() {
                        return requests;
                    }
                    if !retry_at_once {
                        backoff.wait().await;
                    }
                    if answer_expired(&mut requests, &error) {
                        first_receipts = None;
                    }
                }
                Err(BatchFailure::MaybeIncomplete(receipts)) => {
                    mode = LookUp::All;
                    first_receipts.get_or_insert(receipts);
                }
                Err(BatchFailure::NodeAway(error)) => {
                    mode = LookUp::All;
                    failures_of_nodes += 1;
                    if failures_of_nodes == 1 {
                        // The node may be well: a connection that the coordinator had kept was broken, or a shard was
                        // moved.
                        continue;
                    }
                    if requests.len() > 1 {
                        return self.write_one_by_one(requests, cache).await;
                    }
                    tracing::warn!(
                        error = error.chain(),
                        rows,
                        "a node of the cluster could not store a request"
                    );
                    self.counters.count_failed_write(&error);
                    answer_all(requests, &error);
                    return Vec::new();
                }
                Err(BatchFailure::NotWritable(error)) => {
                    if matches!(error, Error::NotWritable(NotWritableReason::ReadOnly)) {
                        self.counters.note_writable(false);
                    } else {
                        tracing::warn!(error = error.chain(), rows, "a batch could not be written");
                    }
                    self.counters.count_failed_write(&error);
                    answer_all(requests, &error);
                    return Vec::new();
                }
                Err(BatchFailure::Refused(error)) if requests.len() == 1 => {
                    tracing::error!(error = error.chain(), rows, "the database refuses a request");
                    answer_all(requests, &error);
                    return Vec::new();
                }
                Err(BatchFailure::RowRefused(cause)) if requests.len() == 1 => {
                    let mut unwritten = Vec::new();
                    for request in requests {
                        unwritten.extend(self.write_around_refused(request, &cause, cache).await);
                    }
                    return unwritten;
                }
                Err(BatchFailure::Refused(_) | BatchFailure::RowRefused(_)) => {
                    return self.write_one_by_one(requests, cache).await;
                }
                Err(BatchFailure::OutcomeUnknown(error)) => {
                    tracing::warn!(error = error.chain(), rows, "the outcome of a commit is unknown");
                    answer_all(requests, &error);
                    return Vec::new();
                }
            }
        }
        Vec::new()
    }

    /// Writes each request in a batch of its own, so that only the requests fail that the database refuses or cannot
    /// store now.
    async fn write_one_by_one(&mut self, requests: Vec<Request>, cache: &mut NewestTimestamps) -> Vec<Request> {
        let mut unwritten = Vec::new();
        for request in requests {
            if self.is_connected() {
                unwritten.extend(Box::pin(self.write(vec![request], cache)).await);
            } else {
                unwritten.push(request);
            }
        }
        unwritten
    }

    /// Halves a request with a refused sample, writes each half, and so on, until only the refused samples are left.
    ///
    /// The result is as if the samples had been sent one by one. After the deadline of the request, the samples that
    /// are left count as refused, because the caller no longer waits. If the connection is lost, returns the parts that
    /// another writer has to write.
    async fn write_around_refused(
        &mut self,
        request: Request,
        cause: &Cause,
        cache: &mut NewestTimestamps,
    ) -> Vec<Request> {
        let count = request.samples.len();
        if count <= 1 || request.deadline <= Instant::now() {
            let error = Error::Database(Arc::clone(cause));
            tracing::error!(error = error.chain(), samples = count, "the database refuses a sample");
            let refused = Refused {
                stored: Receipt::default(),
                positions: (0..count).map(|index| request.positions.of(index)).collect(),
                cause: Arc::clone(cause),
            };
            answer_all(vec![request], &Error::SamplesRefused(refused));
            return Vec::new();
        }
        let (ack, halves) = request.halves();
        let (mut answers, mut unwritten) = (Vec::new(), Vec::new());
        for (half, answer) in halves {
            if self.is_connected() {
                unwritten.extend(Box::pin(self.write(vec![half], cache)).await);
            } else {
                unwritten.push(half);
            }
            answers.push(answer);
        }
        // Not awaited: if the connection was lost, another writer answers a part later.
        tokio::spawn(async move { ack.send(joined(answers).await) });
        unwritten
    }

    fn acknowledge(&self, requests: Vec<Request>, written: Written) {
        let WritePlan {
            inserts,
            updates,
            receipts,
        } = written.plan;
        let changed = inserts
            .into_iter()
            .chain(updates.into_iter().map(|update| update.after));
        // The handover comes before the acknowledgement, so that a client that subscribes after its answer does not get
        // these samples. After a fence there is no record to hand over: the poller finds the commit in the log.
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
        let Some(open) = &mut self.session else {
            return Err(retry_later(Error::Unavailable(Arc::new(NotConnected))));
        };
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
            Err(WriteError::NotWritable(reason)) => Err(BatchFailure::NotWritable(Error::NotWritable(reason))),
            Err(WriteError::Failed(error)) => {
                let is_row_refusal = error.as_db_error().is_some_and(is_about_one_row);
                let is_node_failure = error.as_db_error().is_some_and(is_about_a_node);
                Err(match classify(error) {
                    error @ Error::NotWritable(_) => {
                        // If the setting of a database changes, read-only or back, only new sessions have the change.
                        self.session.take_if(|session| session.age() > READ_ONLY_SESSION_LIFE);
                        BatchFailure::NotWritable(error)
                    }
                    error if is_node_failure => BatchFailure::NodeAway(error),
                    error if error.is_retryable() => retry_later(error),
                    Error::Database(cause) if is_row_refusal => BatchFailure::RowRefused(cause),
                    error => BatchFailure::Refused(error),
                })
            }
            Err(WriteError::Unknown { key, cause, plan }) => self.find_outcome(key, cause, plan, cache).await,
        }
    }

    /// Asks the database how a commit ended whose answer was lost, or of which a node of a cluster may not have
    /// committed its part. Only a complete commit is acknowledged, because every later answer must include its samples.
    ///
    /// Gives up after [`Limits::ingest_deadline`](crate::Limits::ingest_deadline), counted from this call. The
    /// deadlines of the requests began earlier, so most callers already have [`Error::NotStoredInTime`] by then.
    async fn find_outcome(
        &mut self,
        key: BatchKey,
        cause: Cause,
        plan: WritePlan,
        cache: &mut NewestTimestamps,
    ) -> Result<Written, BatchFailure> {
        let unknown = Error::CommitUnknown(Arc::clone(&cause));
        self.counters.count_failed_write(&unknown);
        let deadline = Instant::now() + self.config.limits.ingest_deadline;
        let mut backoff = Backoff::new();
        // If PostgreSQL is down for longer than a restart takes, asking again does not help.
        while Instant::now() < deadline && self.config.status.lasting_outage().is_none() {
            if let Ok(mut session) = Session::writer(&self.config).await
                && let Ok(is_committed) = commit_log::fence(&mut session, key).await
                && prepared::recover(&mut session, Rows::OfAllUsers).await.is_ok()
            {
                let is_distributed = session.tables() == Tables::Distributed;
                self.session = Some(WriterSession::new(session));
                if !is_committed {
                    return Err(retry_at_once(Error::Unavailable(cause)));
                }
                if is_distributed {
                    return Err(BatchFailure::MaybeIncomplete(plan.receipts));
                }
                cache.stored(&plan.inserts);
                return Ok(Written { plan, appended: None });
            }
            backoff.wait().await;
        }
        Err(BatchFailure::OutcomeUnknown(unknown))
    }
}

/// Returns the reason of a writer that leaves its connection to others.
fn surplus() -> Error {
    Error::Temporary {
        reason: TemporaryReason::TooManyConnections,
        cause: Arc::new(LeftToOthers),
    }
}

/// Adds up the answers of the parts of a request.
async fn joined(answers: Vec<Answer>) -> Result<Receipt, Error> {
    let mut outcome = Outcome::default();
    for answer in answers {
        outcome.add(answer.await.unwrap_or(Err(Error::Closed)))?;
    }
    outcome.finish()
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

/// The cause of an error if the session was lost before the first attempt.
#[derive(Debug, thiserror::Error)]
#[error("the writer has no connection")]
struct NotConnected;

/// The cause of [`TemporaryReason::TooManyConnections`] for a writer that is surplus.
#[derive(Debug, thiserror::Error)]
#[error("another task of this server needs the connection, and another writer is connected")]
struct LeftToOthers;

/// Answers the requests whose callers no longer wait, and removes them. Returns whether there were any.
fn answer_expired(requests: &mut Vec<Request>, error: &Error) -> bool {
    let now = Instant::now();
    let (expired, waiting): (Vec<_>, Vec<_>) = requests.drain(..).partition(|request| request.deadline <= now);
    *requests = waiting;
    let is_any_expired = !expired.is_empty();
    answer_all(expired, error);
    is_any_expired
}

fn answer_all(requests: Vec<Request>, error: &Error) {
    for request in requests {
        let _ = request.ack.send(Err(error.clone()));
    }
}
