//! The bounded queue in front of the writers.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    batch::Receipt,
    config::Limits,
    error::Error,
    sample::{Sample, UserId},
};

/// A bounded queue of samples that wait for a writer. Each user always has the same writer.
#[derive(Debug)]
pub(crate) struct IngestQueue {
    writers: Vec<mpsc::UnboundedSender<Request>>,
    /// One permit a row. A request holds its permits until its samples are committed.
    permits: Arc<Semaphore>,
    capacity_rows: usize,
    timeout: Duration,
}

/// The samples of one call that the same writer writes.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) samples: Vec<Sample>,
    /// After this moment the caller no longer waits for the outcome.
    pub(crate) deadline: Instant,
    pub(crate) ack: oneshot::Sender<Result<Receipt, Error>>,
    /// The permits of the whole call, which its requests share. The last one returns them.
    _permits: Arc<OwnedSemaphorePermit>,
}

/// A pending acknowledgement, which arrives after the commit.
///
/// Dropping it does not cancel the write.
#[must_use = "samples are acknowledged only once `receipt` has resolved"]
#[derive(Debug)]
pub struct Ack {
    parts: Vec<oneshot::Receiver<Result<Receipt, Error>>>,
    deadline: Instant,
    timeout: Duration,
}

impl Ack {
    /// Waits until the samples are committed and durable, and returns the receipt.
    ///
    /// # Errors
    /// A retryable error if the database was out of reach or too slow. A part of the samples may be stored then;
    /// sending them again is harmless.
    pub async fn receipt(self) -> Result<Receipt, Error> {
        let mut receipt = Receipt::default();
        for part in self.parts {
            match timeout_at(self.deadline, part).await {
                Ok(Ok(answer)) => receipt += answer?,
                // The writer has ended without an answer, so it has not acknowledged anything.
                Ok(Err(_)) => return Err(Error::Closed),
                Err(_) => return Err(Error::TimedOut(self.timeout)),
            }
        }
        Ok(receipt)
    }
}

impl IngestQueue {
    /// Makes a queue, and the receiver of each writer.
    pub(crate) fn new(limits: &Limits) -> (Self, Vec<mpsc::UnboundedReceiver<Request>>) {
        // The channels need no bound of their own: the permits bound the rows in all of them together.
        let (writers, receivers) = (0..limits.writers.max(1)).map(|_| mpsc::unbounded_channel()).unzip();
        let capacity_rows = limits
            .queue_rows
            .clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let queue = Self {
            writers,
            permits: Arc::new(Semaphore::new(capacity_rows)),
            capacity_rows,
            timeout: limits.ingest_deadline,
        };
        (queue, receivers)
    }

    /// Adds samples once there is room for them. A call of more samples than the queue holds waits until it is empty.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if there is no room in time, [`Error::Closed`] after [`Self::close`].
    pub(crate) async fn enqueue(&self, samples: Vec<Sample>) -> Result<Ack, Error> {
        let deadline = Instant::now() + self.timeout;
        let rows = u32::try_from(samples.len().min(self.capacity_rows)).unwrap_or(u32::MAX);
        let permits = match timeout_at(deadline, Arc::clone(&self.permits).acquire_many_owned(rows)).await {
            Ok(Ok(permits)) => Arc::new(permits),
            Ok(Err(_)) => return Err(Error::Closed),
            Err(_) => {
                return Err(Error::Overloaded {
                    wanted: samples.len(),
                    limit: self.capacity_rows,
                    waited: self.timeout,
                });
            }
        };
        let mut parts = Vec::new();
        for (writer, samples) in self.split(samples) {
            let (ack, answer) = oneshot::channel();
            let request = Request {
                samples,
                deadline,
                ack,
                _permits: Arc::clone(&permits),
            };
            writer.send(request).map_err(|_| Error::Closed)?;
            parts.push(answer);
        }
        Ok(Ack {
            parts,
            deadline,
            timeout: self.timeout,
        })
    }

    /// Returns the number of rows that wait or are being written.
    pub(crate) fn rows(&self) -> usize {
        self.capacity_rows - self.permits.available_permits().min(self.capacity_rows)
    }

    /// Refuses all later calls of [`Self::enqueue`], and those that wait for room.
    pub(crate) fn close(&self) {
        self.permits.close();
    }

    /// Splits samples by writer. Each part keeps their order.
    fn split(&self, samples: Vec<Sample>) -> Vec<(&mpsc::UnboundedSender<Request>, Vec<Sample>)> {
        let Some(first) = samples.first() else {
            return Vec::new();
        };
        // If all samples have the same writer, as in a call of one user, the vector moves without a copy.
        let writer = self.writer_index(first.user_id());
        if samples
            .iter()
            .all(|sample| self.writer_index(sample.user_id()) == writer)
        {
            return vec![(&self.writers[writer], samples)];
        }
        let mut parts: Vec<_> = self.writers.iter().map(|writer| (writer, Vec::new())).collect();
        for sample in samples {
            parts[self.writer_index(sample.user_id())].1.push(sample);
        }
        parts.retain(|(_, samples)| !samples.is_empty());
        parts
    }

    /// Returns the index of a user's writer. It never changes, so samples are written in the order in which they
    /// were sent.
    fn writer_index(&self, user_id: UserId) -> usize {
        // Fibonacci hashing (the multiplier is 2^64 divided by the golden ratio) spreads even ids and multiples as
        // well as any others.
        let hash = user_id.get().unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        usize::try_from(hash).unwrap_or(0) % self.writers.len()
    }
}
