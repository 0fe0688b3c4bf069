//! The bounded queue in front of the writers.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    batch::Receipt,
    config::Limits,
    counters::Counters,
    error::Error,
    ingest::{
        outcome::Outcome,
        positions::Positions,
        request::Request,
        states::WriterStates,
        work::{SMALL_ROWS, WorkQueue},
    },
    sample::Sample,
};

/// A bounded queue of samples that wait for a writer.
#[derive(Debug)]
pub(crate) struct IngestQueue {
    work: Arc<WorkQueue>,
    writers: Arc<WriterStates>,
    /// One permit a row. A request holds its permits until its samples are committed.
    permits: Arc<Semaphore>,
    /// Permits that only small requests may take, so that they do not wait until large ones leave.
    small_permits: Arc<Semaphore>,
    /// The number of all permits.
    capacity_rows: usize,
    /// The number of `small_permits`.
    small_rows: usize,
    timeout: Duration,
    counters: Arc<Counters>,
}

/// One row in ten is reserved for small requests, in whole requests of the largest size: none in a very small queue.
const SMALL_SHARE: usize = 10;

/// A pending acknowledgement, which arrives after the commit.
///
/// Dropping it does not cancel the write.
#[must_use = "samples are acknowledged only once `receipt` has resolved"]
#[derive(Debug)]
pub struct Ack {
    parts: Vec<oneshot::Receiver<Result<Receipt, Error>>>,
    writers: Arc<WriterStates>,
    deadline: Instant,
    timeout: Duration,
    counters: Arc<Counters>,
}

impl Ack {
    /// Waits until the samples are committed and durable, and returns the receipt.
    ///
    /// # Errors
    /// [`Error::NotStoredInTime`], or another retryable error if the database was out of reach or too slow. A part of
    /// the samples may be stored then; sending them again is harmless. [`Error::SamplesRefused`] if the database
    /// refused some of them; the others are stored.
    pub async fn receipt(self) -> Result<Receipt, Error> {
        let mut outcome = Outcome::default();
        for part in self.parts {
            match timeout_at(self.deadline, part).await {
                Ok(Ok(answer)) => outcome.add(answer)?,
                // The writer has ended without an answer, so it has not acknowledged anything.
                Ok(Err(_)) => return Err(Error::Closed),
                // The database may have answered, and said why it stores nothing.
                Err(_) => {
                    let reason = self.writers.why_none_is_connected();
                    let reason = reason.or_else(|| self.counters.reason_not_stored());
                    return Err(reason.unwrap_or(Error::NotStoredInTime(self.timeout)));
                }
            }
        }
        outcome.finish()
    }
}

/// The writers end with the queue, after they have written what it holds.
impl Drop for IngestQueue {
    fn drop(&mut self) {
        self.close();
    }
}

impl IngestQueue {
    /// Makes a queue.
    pub(crate) fn new(limits: &Limits, counters: Arc<Counters>) -> Self {
        let capacity_rows = limits
            .queue_rows
            .clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let small_rows = (capacity_rows / SMALL_SHARE) / SMALL_ROWS * SMALL_ROWS;
        Self {
            work: Arc::new(WorkQueue::new(limits)),
            // One more for the spare writer.
            writers: Arc::new(WriterStates::new(limits.writers.max(1).saturating_add(1))),
            permits: Arc::new(Semaphore::new(capacity_rows - small_rows)),
            small_permits: Arc::new(Semaphore::new(small_rows)),
            capacity_rows,
            small_rows,
            timeout: limits.ingest_deadline,
            counters,
        }
    }

    /// The writers' end.
    pub(crate) fn work(&self) -> &Arc<WorkQueue> {
        &self.work
    }

    /// The states of the writers.
    pub(crate) fn writers(&self) -> &Arc<WriterStates> {
        &self.writers
    }

    /// Adds samples once there is room for them. A call of more samples than the queue holds waits until it is empty,
    /// takes all permits, and then exceeds the limit.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if there is no room in time, [`Error::Closed`] after [`Self::close`].
    pub(crate) async fn enqueue(&self, samples: Vec<Sample>) -> Result<Ack, Error> {
        let deadline = Instant::now() + self.timeout;
        let permits = Arc::new(self.acquire(samples.len(), deadline).await?);
        let mut parts = Vec::new();
        for (shard, samples, positions) in self.split(samples) {
            let (ack, answer) = oneshot::channel();
            let request = Request {
                samples,
                positions,
                deadline,
                ack,
                permits: Arc::clone(&permits),
            };
            self.work.add(shard, request).map_err(|_| Error::Closed)?;
            parts.push(answer);
        }
        Ok(Ack {
            parts,
            writers: Arc::clone(&self.writers),
            deadline,
            timeout: self.timeout,
            counters: Arc::clone(&self.counters),
        })
    }

    /// Returns the number of rows that wait or are being written.
    pub(crate) fn rows(&self) -> usize {
        let free = self.permits.available_permits() + self.small_permits.available_permits();
        self.capacity_rows - free.min(self.capacity_rows)
    }

    /// Refuses all later calls of [`Self::enqueue`], and those that wait for room.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.small_permits.close();
        self.work.close();
    }

    /// Waits for room for a number of rows.
    async fn acquire(&self, samples: usize, deadline: Instant) -> Result<OwnedSemaphorePermit, Error> {
        let common_rows = self.capacity_rows - self.small_rows;
        let rows = u32::try_from(samples.min(common_rows)).unwrap_or(u32::MAX);
        if samples < SMALL_ROWS {
            for permits in [&self.permits, &self.small_permits] {
                if let Ok(permits) = Arc::clone(permits).try_acquire_many_owned(rows) {
                    return Ok(permits);
                }
            }
        }
        match timeout_at(deadline, Arc::clone(&self.permits).acquire_many_owned(rows)).await {
            Ok(Ok(permits)) => Ok(permits),
            Ok(Err(_)) => Err(Error::Closed),
            Err(_) => Err(Error::Overloaded {
                wanted: samples,
                limit: self.capacity_rows,
                waited: self.timeout,
            }),
        }
    }

    /// Splits samples by shard, and large parts into several. Each part keeps their order.
    fn split(&self, samples: Vec<Sample>) -> Vec<(usize, Vec<Sample>, Positions)> {
        let shards = self.work.shards();
        let Some(first) = samples.first() else {
            return Vec::new();
        };
        // If all samples have the same shard, as in a call of one user, the vector moves without a copy.
        let shard = shards.of(first.user_id());
        let by_shard = if samples.iter().all(|sample| shards.of(sample.user_id()) == shard) {
            vec![(shard, samples, Positions::From(0))]
        } else {
            // The shards of many users have about the same number of samples.
            let even = samples.len() / shards.count();
            let rows = even + even / 8;
            let mut parts: Vec<_> = (0..shards.count())
                .map(|shard| (shard, Vec::with_capacity(rows), Vec::with_capacity(rows)))
                .collect();
            for (position, sample) in (0_u32..).zip(samples) {
                let (_, samples, positions) = &mut parts[shards.of(sample.user_id())];
                samples.push(sample);
                positions.push(position);
            }
            parts.retain(|(_, samples, _)| !samples.is_empty());
            let parts = parts.into_iter();
            parts
                .map(|(shard, samples, positions)| (shard, samples, Positions::Each(positions)))
                .collect()
        };
        let part_rows = self.work.part_rows();
        let mut parts = Vec::with_capacity(by_shard.len());
        for (shard, samples, positions) in by_shard {
            let count = samples.len();
            if count <= part_rows {
                parts.push((shard, samples, positions));
                continue;
            }
            // Each part has a vector of its own size: one that is split off would leave the others with the capacity of
            // all.
            let mut rest = samples.into_iter();
            while rest.len() > 0 {
                let first = count - rest.len();
                let samples = rest.by_ref().take(part_rows).collect();
                parts.push((shard, samples, positions.of_part(first, part_rows)));
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{HeartRate, Readings, Source, UserId};

    /// Otherwise a large request of a few megabytes would take gigabytes while it waits.
    #[test]
    fn parts_of_a_large_request_take_no_more_memory_than_the_request() {
        let readings = Readings {
            heart_rate: HeartRate::new(60.0).ok(),
            ..Readings::default()
        };
        let user = UserId::new(1).unwrap();
        let sample = Sample::new(user, Sample::EARLIEST, Source::default(), readings).unwrap();
        for batch_rows in [1, 700, 20_000] {
            let limits = Limits {
                batch_rows,
                ..Limits::default()
            };
            let queue = IngestQueue::new(&limits, Arc::default());
            let parts = queue.split(vec![sample.clone(); 30_000]);
            let rows: usize = parts.iter().map(|(_, samples, _)| samples.len()).sum();
            let capacity: usize = parts.iter().map(|(_, samples, _)| samples.capacity()).sum();
            assert_eq!(rows, 30_000, "{batch_rows}");
            assert!(capacity < 40_000, "{batch_rows}: {capacity}");
            assert!(parts.len() <= 60, "{batch_rows}: {}", parts.len());
        }
    }
}
