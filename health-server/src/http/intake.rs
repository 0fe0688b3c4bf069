//! The samples of one request on their way into the queue, and the verdict on them.

use std::{collections::VecDeque, sync::Arc};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use health_core::{Ack, Error, Health, IngestCounts, ReceiveClock, Rejection, Sample, read_record};
use hyper::StatusCode;

use crate::{app::App, http::problem::Refusal};

/// Samples handed to the queue at once: enough to make batches of COPY's best size, small enough to keep memory flat.
const CHUNK_ROWS: usize = 5_000;

/// Rows that all requests together gather before there is room for them in the queue: with more requests than this is chunks,
/// each gathers less at a time.
const GATHERED_ROWS: usize = 40_000;

/// Samples handed to the queue at once where very many requests come together.
const SMALLEST_CHUNK_ROWS: usize = 256;

/// Chunks of one request that wait for their commit. Two writers with a full batch each, and as much again behind them.
const CHUNKS_IN_FLIGHT: usize = 16;

/// Refusals that are listed; all are counted.
const LISTED_ERRORS: usize = 100;

/// Takes the records of one request.
pub(crate) struct Intake<'a> {
    health: &'a Health,
    clock: ReceiveClock,
    gathered: Vec<Sample>,
    in_flight: VecDeque<Ack>,
    records: u64,
    counts: IngestCounts,
    rejected: u64,
    errors: Vec<Rejection>,
    failure: Option<Error>,
    /// One of those that share [`GATHERED_ROWS`].
    all: Arc<()>,
}

/// The queue or the database gave up on this request: what follows is not worth reading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GivenUp;

/// What became of a request.
pub(crate) struct Verdict {
    pub(crate) counts: IngestCounts,
    pub(crate) rejected: u64,
    pub(crate) refusal: Option<Refusal>,
}

impl<'a> Intake<'a> {
    pub(crate) fn new(app: &'a App) -> Self {
        Self {
            health: &app.health,
            clock: ReceiveClock {
                received_at: now(),
                max_future: app.health.limits().max_future,
            },
            gathered: Vec::new(),
            in_flight: VecDeque::new(),
            records: 0,
            counts: IngestCounts::default(),
            rejected: 0,
            errors: Vec::new(),
            failure: None,
            all: Arc::clone(&app.intakes),
        }
    }

    /// Says that what follows arrives now.
    pub(crate) fn arrives_now(&mut self) {
        self.clock.received_at = self.clock.received_at.max(now());
    }

    /// Reads one record.
    pub(crate) fn take(&mut self, json: &[u8]) {
        let index = self.records;
        self.records += 1;
        match read_record(json, &self.clock) {
            Ok(sample) => {
                if sample.timestamp() == self.clock.received_at {
                    // Two records without a time are two readings: the next one arrives a microsecond later.
                    self.clock.received_at += TimeDelta::microseconds(1);
                }
                self.gathered.push(sample);
            }
            Err(faults) => {
                self.rejected += 1;
                let room = LISTED_ERRORS.saturating_sub(self.errors.len());
                self.errors
                    .extend(faults.into_iter().take(room).map(|fault| Rejection::new(index, fault)));
            }
        }
    }

    /// Records seen, good and bad.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Whether there is enough for a chunk.
    pub(crate) fn is_full(&self) -> bool {
        let share = GATHERED_ROWS / Arc::strong_count(&self.all);
        self.gathered.len() >= share.clamp(SMALLEST_CHUNK_ROWS, CHUNK_ROWS)
    }

    /// Whether anything waits to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.gathered.is_empty()
    }

    /// Hands what is gathered to the queue, waiting for room, and for older chunks where too many are under way.
    pub(crate) async fn send(&mut self) -> Result<(), GivenUp> {
        while self.in_flight.len() >= CHUNKS_IN_FLIGHT {
            self.settle_oldest().await;
        }
        if !self.gathered.is_empty() && self.failure.is_none() {
            let chunk = std::mem::take(&mut self.gathered);
            match self.health.enqueue(chunk).await {
                Ok(ack) => self.in_flight.push_back(ack),
                Err(error) => self.failure = Some(error),
            }
        }
        if self.failure.is_some() { Err(GivenUp) } else { Ok(()) }
    }

    /// Waits for everything that was sent, and says what became of the request.
    pub(crate) async fn finish(mut self, end: Result<(), Refusal>) -> Verdict {
        // What was whole before the body broke off is stored as well; a failure is kept and told below.
        let _ = self.send().await;
        while !self.in_flight.is_empty() {
            self.settle_oldest().await;
        }
        let Self {
            counts,
            rejected,
            errors,
            ..
        } = self;
        let refusal = match (self.failure, end) {
            (Some(failure), _) => Some(Refusal::of_core(&failure)),
            (None, Err(refusal)) => Some(refusal),
            (None, Ok(())) if rejected > 0 => Some(Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!(
                    "{rejected} of {} records were refused, the others are stored.",
                    self.records
                ),
            )),
            (None, Ok(())) => None,
        };
        Verdict {
            counts,
            rejected,
            refusal: refusal.map(|refusal| refusal.counting(counts, rejected, errors)),
        }
    }

    async fn settle_oldest(&mut self) {
        let Some(ack) = self.in_flight.pop_front() else { return };
        match ack.receipt().await {
            Ok(receipt) => self.counts.add(IngestCounts {
                accepted: receipt.accepted(),
                inserted: receipt.inserted,
                updated: receipt.updated,
                unchanged: receipt.unchanged,
            }),
            // The first failure is the one to tell: those behind it often follow from it.
            Err(error) => self.failure = self.failure.take().or(Some(error)),
        }
    }
}

/// The clock, as exactly as samples keep it.
fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
