//! The records of one ingest request: parses them, hands their samples to the write queue, and counts the results.

use std::{collections::VecDeque, sync::Arc};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use health_core::{
    Ack, Error, Health, IngestCounts, Receipt, ReceiveClock, Record, RecordFault, Rejection, Sample,
    access::{AccessDenied, AccessEnd, Authenticator},
    read_record,
};
use hyper::StatusCode;

use crate::{
    app::App,
    http::{auth::Caller, error::HttpError, refusal::refused_and_stored, right_door},
};

/// Samples that one upload buffers before it enqueues them: large enough for efficient `COPY` batches, small enough to
/// keep memory flat.
const MAX_BUFFERED: usize = 5_000;

/// Samples that all uploads together should buffer. With many uploads, each one enqueues smaller portions.
const MAX_BUFFERED_BY_ALL: usize = 40_000;

/// The smallest portion, however many uploads there are.
const MIN_PORTION: usize = 256;

/// Portions of one upload that may wait for their commit: full batches for two writers, and the same amount queued.
const MAX_UNACKNOWLEDGED: usize = 16;

/// Errors that a response lists. It counts all of them.
const MAX_LISTED_ERRORS: usize = 100;

/// An ingest request in progress.
pub(crate) struct Upload<'a> {
    health: &'a Health,
    authenticator: &'a Authenticator,
    caller: &'a Caller,
    clock: ReceiveClock,
    /// Valid samples that are not in the queue yet.
    buffer: Vec<Sample>,
    /// The index of the record of each of them.
    buffer_records: Vec<u64>,
    /// Records that are not divided into samples yet, with their indexes. If there are any, the buffer is full.
    ///
    /// A record of a hundred bytes may become 101 samples, so a portion of a body could become a large buffer.
    waiting: VecDeque<(u64, Record)>,
    /// Portions in the queue, oldest first.
    unacknowledged: VecDeque<Portion>,
    records: u64,
    counts: IngestCounts,
    rejected: u64,
    /// Those of the rejected records that name a user whom the caller may not access.
    forbidden: u64,
    first_denied: Option<AccessDenied>,
    errors: Vec<Rejection>,
    /// Why the access ended during the upload.
    access_end: Option<AccessEnd>,
    /// The first error of the queue or the database.
    failure: Option<Error>,
    /// Its reference count is the number of uploads that share [`MAX_BUFFERED_BY_ALL`].
    active_uploads: Arc<()>,
}

/// Samples of an upload that are in the queue.
struct Portion {
    ack: Ack,
    /// The index of the record of each sample.
    records: Vec<u64>,
}

/// The reason in the list of errors if the database refuses a sample. The cause may name tables and goes to the log.
const REFUSED_BY_DATABASE: &str = "is refused by the database; the server's log has the reason";

/// The queue or the database has failed, or the access has ended, so reading the rest of the body is pointless.
/// [`Upload::finish`] has the reason.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueueFailed;

/// The result of an upload.
pub(crate) struct UploadOutcome {
    pub(crate) counts: IngestCounts,
    pub(crate) rejected: u64,
    /// The response, unless every record was stored.
    pub(crate) error: Option<HttpError>,
}

/// What happened to the records of an upload.
pub(crate) struct Settled {
    pub(crate) counts: IngestCounts,
    pub(crate) records: u64,
    pub(crate) rejected: u64,
    /// Those of the rejected records that name a user whom the caller may not access.
    pub(crate) forbidden: u64,
    /// What the token does not permit of the first of these records.
    pub(crate) first_denied: Option<AccessDenied>,
    pub(crate) errors: Vec<Rejection>,
    /// Why samples may be missing: the queue or the database failed, or the access ended.
    pub(crate) failure: Option<HttpError>,
}

impl<'a> Upload<'a> {
    pub(crate) fn new(app: &'a App, caller: &'a Caller) -> Self {
        Self {
            health: &app.health,
            authenticator: &app.authenticator,
            caller,
            clock: ReceiveClock {
                received_at: now(),
                max_future: app.health.limits().max_future,
            },
            buffer: Vec::new(),
            buffer_records: Vec::new(),
            waiting: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            records: 0,
            counts: IngestCounts::default(),
            rejected: 0,
            forbidden: 0,
            first_denied: None,
            errors: Vec::new(),
            access_end: None,
            failure: None,
            active_uploads: Arc::clone(&app.active_uploads),
        }
    }

    /// Sets the receive time of the records that follow, which samples without a timestamp get.
    pub(crate) fn update_receive_time(&mut self) {
        self.clock.received_at = self.clock.received_at.max(now());
    }

    /// Parses one record.
    pub(crate) fn add_record(&mut self, json: &[u8]) {
        let index = self.records;
        self.records += 1;
        match read_record(json, &self.clock) {
            Ok(record) => self.add_parsed(index, record),
            Err(faults) => self.reject(index, faults),
        }
    }

    /// Adds a valid record. `index` is its position, with which an error will name it.
    pub(crate) fn add_parsed(&mut self, index: u64, record: Record) {
        match self.caller.access.check_user(record.user_id()) {
            Ok(()) => self.add_allowed(index, record),
            Err(denied) => {
                self.forbidden += 1;
                let reason = format!("is not allowed: {denied}");
                self.first_denied.get_or_insert(denied);
                let field = Some("user_id".into());
                self.reject(index, [RecordFault { field, reason }]);
            }
        }
    }

    fn add_allowed(&mut self, index: u64, record: Record) {
        if let Record::Sample(sample) = &record
            && sample.timestamp() == self.clock.received_at
        {
            // Two records without a timestamp are two samples, so they must not get the same time.
            self.clock.received_at += TimeDelta::microseconds(1);
        }
        match record {
            Record::Sample(sample) if self.waiting.is_empty() => {
                self.buffer.push(sample);
                self.buffer_records.push(index);
            }
            record => {
                self.waiting.push_back((index, record));
                self.divide_waiting();
            }
        }
    }

    /// Divides records that wait into samples, until the buffer is full.
    fn divide_waiting(&mut self) {
        while !self.is_full()
            && let Some((index, record)) = self.waiting.pop_front()
        {
            self.buffer.extend(record.into_samples());
            self.buffer_records.resize(self.buffer.len(), index);
        }
    }

    /// Counts a record that is refused.
    pub(crate) fn reject(&mut self, index: u64, faults: impl IntoIterator<Item = RecordFault>) {
        self.rejected += 1;
        let listed = MAX_LISTED_ERRORS.saturating_sub(self.errors.len());
        let faults = faults.into_iter().take(listed);
        self.errors.extend(faults.map(|fault| Rejection::new(index, fault)));
    }

    /// Returns the time of arrival of the records that follow.
    pub(crate) fn clock(&self) -> &ReceiveClock {
        &self.clock
    }

    /// Returns how many records were parsed, valid and invalid ones.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Returns whether enough samples are buffered to enqueue them.
    pub(crate) fn is_full(&self) -> bool {
        let share = MAX_BUFFERED_BY_ALL / Arc::strong_count(&self.active_uploads);
        self.buffer.len() >= share.clamp(MIN_PORTION, MAX_BUFFERED)
    }

    /// Returns who sends the upload.
    pub(crate) fn caller(&self) -> &'a Caller {
        self.caller
    }

    /// Returns whether no sample is buffered.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Enqueues all samples of the records so far. Waits for space in the queue, and for older portions if too many are
    /// in it.
    pub(crate) async fn enqueue(&mut self) -> Result<(), QueueFailed> {
        loop {
            self.enqueue_buffer().await?;
            self.divide_waiting();
            if self.buffer.is_empty() {
                return Ok(());
            }
        }
    }

    async fn enqueue_buffer(&mut self) -> Result<(), QueueFailed> {
        while self.unacknowledged.len() >= MAX_UNACKNOWLEDGED {
            self.await_oldest().await;
        }
        if !self.buffer.is_empty()
            && let Some(end) = self.authenticator.end_of(&self.caller.access)
        {
            self.access_end = Some(end);
            self.buffer.clear();
        }
        if !self.buffer.is_empty() && self.failure.is_none() {
            // After a full portion another one is likely.
            let next = if self.is_full() { self.buffer.len() } else { 0 };
            let portion = std::mem::replace(&mut self.buffer, Vec::with_capacity(next));
            match self.health.enqueue(portion).await {
                Ok(ack) => self.unacknowledged.push_back(Portion {
                    ack,
                    records: std::mem::take(&mut self.buffer_records),
                }),
                Err(error) => self.failure = Some(error),
            }
        }
        if self.failure.is_some() || self.access_end.is_some() {
            Err(QueueFailed)
        } else {
            Ok(())
        }
    }

    /// Waits until every sample is committed or has failed. `end` says whether the body was read to its end.
    pub(crate) async fn finish(self, end: Result<(), HttpError>) -> UploadOutcome {
        let Settled {
            counts,
            records,
            rejected,
            forbidden,
            first_denied,
            errors,
            failure,
        } = self.settle().await;
        let error = match (failure, end) {
            (Some(failure), _) => Some(failure),
            (None, Err(error)) => Some(error),
            (None, Ok(())) if records > 0 && forbidden == records => {
                Some(HttpError::new(StatusCode::FORBIDDEN, no_user_allowed(first_denied)))
            }
            (None, Ok(())) if rejected > 0 => {
                let detail = refused_and_stored(rejected, counts.accepted);
                let refused = HttpError::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
                Some(refused.with_hints(right_door::of_refused_fields(&errors)))
            }
            (None, Ok(())) => None,
        };
        UploadOutcome {
            counts,
            rejected,
            error: error.map(|error| error.with_counts(counts, rejected).with_errors(errors)),
        }
    }

    /// Waits until every sample is committed or has failed, and returns what happened.
    pub(crate) async fn settle(mut self) -> Settled {
        // Complete records before a broken end are stored too. A failure is in `self.failure`.
        let _ = self.enqueue().await;
        while !self.unacknowledged.is_empty() {
            self.await_oldest().await;
        }
        if let Some(denied) = &self.first_denied {
            self.caller.note_refused_records(denied, self.forbidden);
        }
        let access_ended = self.access_end.map(|end| self.caller.access_ended(end));
        Settled {
            counts: self.counts,
            records: self.records,
            rejected: self.rejected,
            forbidden: self.forbidden,
            first_denied: self.first_denied,
            errors: self.errors,
            failure: self.failure.map(HttpError::from).or(access_ended),
        }
    }

    async fn await_oldest(&mut self) {
        let Some(Portion { ack, records }) = self.unacknowledged.pop_front() else {
            return;
        };
        match ack.receipt().await {
            Ok(receipt) => self.add_stored(receipt),
            Err(Error::SamplesRefused(refused)) => {
                self.add_stored(refused.stored);
                let refused = refused.positions.iter().filter_map(|position| records.get(*position));
                let mut refused: Vec<u64> = refused.copied().collect();
                // Several parts of one record are one refused record.
                refused.sort_unstable();
                refused.dedup();
                self.rejected += u64::try_from(refused.len()).unwrap_or(u64::MAX);
                let listed = MAX_LISTED_ERRORS.saturating_sub(self.errors.len());
                self.errors
                    .extend(refused.into_iter().take(listed).map(|index| Rejection {
                        index,
                        field: None,
                        reason: REFUSED_BY_DATABASE.to_owned(),
                    }));
            }
            // The response reports the first failure, because later ones often follow from it.
            Err(error) => self.failure = self.failure.take().or(Some(error)),
        }
    }

    fn add_stored(&mut self, receipt: Receipt) {
        self.counts.add(IngestCounts {
            accepted: receipt.accepted(),
            inserted: receipt.inserted,
            updated: receipt.updated,
            unchanged: receipt.unchanged,
        });
    }
}

/// Returns the detail of the response to an upload without a user whom the token may write.
fn no_user_allowed(first_denied: Option<AccessDenied>) -> String {
    let denied = first_denied.map_or_else(String::new, |denied| format!(": {denied}"));
    format!("The token may not write any user of this request{denied}. Nothing was stored.")
}

/// Returns the current time with the precision of a sample's timestamp.
fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
