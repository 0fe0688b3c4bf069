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

/// Takes samples in, as long as there is room, and hands each user's to the one writer that writes them.
#[derive(Debug)]
pub(crate) struct Queue {
    writers: Vec<mpsc::UnboundedSender<Request>>,
    /// Permits are rows: those that wait and those being written.
    room: Arc<Semaphore>,
    room_rows: usize,
    deadline: Duration,
}

/// Samples on their way, all for the same writer.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) samples: Vec<Sample>,
    /// Nobody waits for the outcome any more from then on.
    pub(crate) deadline: Instant,
    pub(crate) ack: oneshot::Sender<Result<Receipt, Error>>,
    /// The room it takes, shared with the other parts of the same call, given back with the last of them.
    _room: Arc<OwnedSemaphorePermit>,
}

/// The promise of an answer: it comes after the commit.
///
/// Dropping it cancels nothing.
#[must_use = "samples are acknowledged only once `receipt` has resolved"]
#[derive(Debug)]
pub struct Ack {
    parts: Vec<oneshot::Receiver<Result<Receipt, Error>>>,
    deadline: Instant,
    waited: Duration,
}

impl Ack {
    /// What became of the samples, once they are committed and durable.
    ///
    /// # Errors
    /// Retryable ones where the database was out of reach or too slow. Then a part of the samples may be stored all the same;
    /// sending them again is harmless.
    pub async fn receipt(self) -> Result<Receipt, Error> {
        let mut receipt = Receipt::default();
        for part in self.parts {
            match timeout_at(self.deadline, part).await {
                Ok(Ok(answer)) => receipt += answer?,
                // A writer that is gone has not acknowledged anything.
                Ok(Err(_)) => return Err(Error::Closed),
                Err(_) => return Err(Error::TimedOut(self.waited)),
            }
        }
        Ok(receipt)
    }
}

impl Queue {
    /// A queue, and the end of it for each writer.
    pub(crate) fn new(limits: &Limits) -> (Self, Vec<mpsc::UnboundedReceiver<Request>>) {
        // Unbounded, because the room is counted in rows, not in requests.
        let (writers, ends) = (0..limits.writers.max(1)).map(|_| mpsc::unbounded_channel()).unzip();
        let room_rows = limits
            .queue_rows
            .clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let room = Arc::new(Semaphore::new(room_rows));
        (
            Self {
                writers,
                room,
                room_rows,
                deadline: limits.ingest_deadline,
            },
            ends,
        )
    }

    /// Takes samples in once there is room for them. More than there is room for at all go in alone.
    pub(crate) async fn enqueue(&self, samples: Vec<Sample>) -> Result<Ack, Error> {
        let deadline = Instant::now() + self.deadline;
        let rows = u32::try_from(samples.len().min(self.room_rows)).unwrap_or(u32::MAX);
        let room = match timeout_at(deadline, Arc::clone(&self.room).acquire_many_owned(rows)).await {
            Ok(Ok(room)) => Arc::new(room),
            Ok(Err(_)) => return Err(Error::Closed),
            Err(_) => {
                return Err(Error::Overloaded {
                    wanted: samples.len(),
                    limit: self.room_rows,
                    waited: self.deadline,
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
                _room: Arc::clone(&room),
            };
            writer.send(request).map_err(|_| Error::Closed)?;
            parts.push(answer);
        }
        Ok(Ack {
            parts,
            deadline,
            waited: self.deadline,
        })
    }

    /// Rows that wait or are being written.
    pub(crate) fn rows(&self) -> usize {
        self.room_rows - self.room.available_permits().min(self.room_rows)
    }

    /// Takes nothing in any more.
    pub(crate) fn close(&self) {
        self.room.close();
    }

    /// Each writer's share of the samples, in their order.
    fn split(&self, samples: Vec<Sample>) -> Vec<(&mpsc::UnboundedSender<Request>, Vec<Sample>)> {
        let Some(first) = samples.first() else {
            return Vec::new();
        };
        let place = self.place(first.user_id());
        if samples.iter().all(|sample| self.place(sample.user_id()) == place) {
            return vec![(&self.writers[place], samples)];
        }
        let mut shares: Vec<_> = self.writers.iter().map(|writer| (writer, Vec::new())).collect();
        for sample in samples {
            shares[self.place(sample.user_id())].1.push(sample);
        }
        shares.retain(|(_, share)| !share.is_empty());
        shares
    }

    /// The writer of a user: always the same, so that what is sent in order is written in order.
    fn place(&self, user_id: UserId) -> usize {
        // Fibonacci hashing, so that even ids and multiples spread as well as any.
        let hash = user_id.get().unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        usize::try_from(hash).unwrap_or(0) % self.writers.len()
    }
}
