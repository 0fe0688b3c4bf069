//! A writer: one task, one connection, one batch after the other.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::yield_now,
    time::{Instant, sleep, timeout},
};

use crate::{
    batch::{Batch, Plan},
    config::Config,
    counters::Counters,
    error::Error,
    ingest::queue::Request,
    live::hub::{Hub, WriterId},
    store::{
        connection::{Session, classify},
        known::{Known, Trust},
        outcome::{Record, outcome},
        write::{self, WriteError, WriterSession, Written},
    },
};

/// Takes what is waiting the moment it is free, so that batches grow with the load and nobody waits for a timer.
pub(crate) struct Writer {
    config: Config,
    hub: Arc<Hub>,
    counters: Arc<Counters>,
    requests: mpsc::UnboundedReceiver<Request>,
    closing: watch::Receiver<bool>,
    connection: Connection,
}

/// The writer's connection, made when it is needed, and what it has learnt of the table.
#[derive(Default)]
struct Connection {
    session: Option<WriterSession>,
    /// Under which name it commits. Given up with the connection: what became of its last commit is for the table to say.
    author: Option<WriterId>,
    known: Known,
}

/// Why a batch could not be settled this time.
enum Setback {
    /// Passing: try the same again, after a while or at once.
    Again { error: Error, at_once: bool },
    /// One of the requests cannot be stored as it is.
    Guilty(Error),
    /// It may be stored or not, and PostgreSQL does not remember which.
    Unknown(Error),
}

/// The pause before the second try; it doubles from try to try.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause between tries, and so the longest a writer sleeps on when the database is back.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long a connection may take until it can be used. A server that takes connections and then says nothing (stopped, or
/// behind a proxy that has lost it) would otherwise be waited for without end.
const CONNECT_MAX: Duration = Duration::from_secs(10);

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
        }
    }

    /// Writes until the queue is closed and empty.
    pub(crate) async fn run(mut self) {
        loop {
            let first = tokio::select! {
                // Closing first, so that a busy queue cannot put it off; what is in the queue is written all the same.
                biased;
                _ = self.closing.wait_for(|closing| *closing), if !self.requests.is_closed() => {
                    self.requests.close();
                    continue;
                }
                request = self.requests.recv() => request,
            };
            let Some(first) = first else { return };
            // Whoever was just answered and is about to send again gets its turn: a third more samples a batch where many
            // send one at a time, and no wait at all where nobody does.
            yield_now().await;
            let requests = self.gather(first);
            self.settle(requests).await;
        }
    }

    /// What is waiting, up to the limit of a batch. The first always fits.
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

    /// Sees requests through to an answer each.
    async fn settle(&mut self, mut requests: Vec<Request>) {
        let mut trust = Trust::Known;
        let mut pause = FIRST_PAUSE;
        loop {
            if requests.is_empty() {
                return;
            }
            let batch = Batch::new(requests.iter().map(|request| request.samples.as_slice()));
            let setback = match self.commit(&batch, trust).await {
                Ok(written) => {
                    self.counters.writing_works();
                    return self.acknowledge(requests, written);
                }
                Err(setback) => setback,
            };
            match setback {
                Setback::Again { error, at_once } => {
                    trust = Trust::Nothing;
                    if !at_once {
                        tracing::warn!(
                            error = error.chain(),
                            rows = batch.len(),
                            "a batch could not be written, trying again"
                        );
                        self.counters.writing_fails(&error);
                        sleep(pause).await;
                        pause = LONGEST_PAUSE.min(pause * 2);
                    }
                    give_up_expired(&mut requests, &error);
                }
                Setback::Guilty(error) if requests.len() == 1 => {
                    tracing::error!(
                        error = error.chain(),
                        rows = batch.len(),
                        "the database refuses a request"
                    );
                    return answer_all(requests, &error);
                }
                Setback::Guilty(_) => {
                    // One by one, so that the innocent are stored.
                    for request in requests {
                        Box::pin(self.settle(vec![request])).await;
                    }
                    return;
                }
                Setback::Unknown(error) => {
                    tracing::warn!(
                        error = error.chain(),
                        rows = batch.len(),
                        "the outcome of a commit is unknown"
                    );
                    return answer_all(requests, &error);
                }
            }
        }
    }

    fn acknowledge(&self, requests: Vec<Request>, written: Written) {
        let Plan {
            inserts,
            updates,
            receipts,
        } = written.plan;
        self.counters.committed(&receipts);
        let changed = inserts
            .into_iter()
            .chain(updates.into_iter().map(|update| update.after));
        // Before the acknowledgement, so that whoever subscribes behind it does not hear of it.
        if let Some(xid) = written.record.and_then(|record| record.xid()) {
            self.hub.hand_over(xid, changed);
        }
        for (request, receipt) in requests.into_iter().zip(receipts) {
            // Whoever asked may be gone; what it sent is stored.
            let _ = request.ack.send(Ok(receipt));
        }
    }

    async fn commit(&mut self, batch: &Batch, trust: Trust) -> Result<Written, Setback> {
        let again = |error: Error| match error {
            Error::Unavailable(_) => Setback::Again { error, at_once: false },
            guilty => Setback::Guilty(guilty),
        };
        let Connection { session, author, known } = &mut self.connection;
        if session.as_ref().is_some_and(WriterSession::is_closed) {
            // It broke while nothing was under way.
            *session = None;
            *author = None;
        }
        let ready = match session.take() {
            Some(session) => session,
            None => connect(&self.config)
                .await
                .map(WriterSession::new)
                .map_err(|error| Setback::Again { error, at_once: false })?,
        };
        let ready = session.insert(ready);
        let writer_id = author.get_or_insert_with(|| self.hub.register_writer()).get();
        let written = write::write(ready, known, writer_id, batch, trust).await;
        if ready.is_closed() || matches!(written, Err(WriteError::Unknown { .. })) {
            *session = None;
            *author = None;
        }
        match written {
            Ok(written) => Ok(written),
            Err(WriteError::Raced) => {
                self.counters.raced();
                let error = Error::Unavailable(Arc::new(Raced));
                Err(Setback::Again { error, at_once: true })
            }
            Err(WriteError::Failed(error)) => Err(again(classify(error))),
            Err(WriteError::Unknown { record, error, plan }) => self.find_out(record, error, plan).await,
        }
    }

    /// Asks PostgreSQL, once it answers again, how a commit ended.
    async fn find_out(
        &mut self,
        record: Option<Record>,
        error: tokio_postgres::Error,
        plan: Plan,
    ) -> Result<Written, Setback> {
        let unknown = Error::CommitUnknown(Arc::new(error));
        let Some(record) = record else {
            return Err(Setback::Unknown(unknown));
        };
        self.counters.writing_fails(&unknown);
        let give_up = Instant::now() + self.config.limits.ingest_deadline;
        let mut pause = FIRST_PAUSE;
        while Instant::now() < give_up {
            if let Ok(session) = connect(&self.config).await {
                match outcome(&session, &record).await {
                    Ok(Some(true)) => {
                        self.connection.session = Some(WriterSession::new(session));
                        self.connection.known.stored(&plan.inserts);
                        return Ok(Written {
                            plan,
                            record: Some(record),
                        });
                    }
                    Ok(Some(false)) => {
                        self.connection.session = Some(WriterSession::new(session));
                        return Err(Setback::Again {
                            error: unknown,
                            at_once: true,
                        });
                    }
                    Ok(None) | Err(_) => {}
                }
            }
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
        Err(Setback::Unknown(unknown))
    }
}

async fn connect(config: &Config) -> Result<Session, Error> {
    match timeout(CONNECT_MAX, Session::writer(config)).await {
        Ok(Ok(session)) => Ok(session),
        // Whatever keeps a connection from being made, waiting may mend it, and no request is guilty of it.
        Ok(Err(error)) => Err(Error::Unavailable(Arc::new(error))),
        Err(_) => Err(Error::TimedOut(CONNECT_MAX)),
    }
}

/// Another server changed some of the same rows.
#[derive(Debug, thiserror::Error)]
#[error("another server wrote the same samples at the same time")]
struct Raced;

fn give_up_expired(requests: &mut Vec<Request>, error: &Error) {
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
