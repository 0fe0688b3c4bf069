//! Which requests a free writer takes next.
//!
//! Requests wait in shards of users, as many as there are writers. A shard has at most one writer at a time, so each
//! user's samples are written in the order in which they were enqueued. A shard is not bound to a writer:
//!
//! * While few rows wait, one writer takes all shards that are free. Few clients then make one transaction in place of
//!   two.
//! * While many rows wait, each writer takes the fullest free shard, and the writers work side by side.
//!
//! A shard has two lanes, see [`lanes`](crate::ingest::lanes). Small requests pass large ones, unless the large ones
//! hold samples of the same user. While small requests arrive, large ones are written in smaller batches, because a
//! small request of one of their users waits for the batch under way. Small requests of other users do not wait for it:
//! the spare writer writes them.

use std::{pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use crate::{
    config::Limits,
    error::Error,
    ingest::{lanes::Shard, request::Request},
    shard::Shards,
    store::newest_timestamps::NewestTimestamps,
};

/// The requests that wait for a writer.
#[derive(Debug)]
pub(crate) struct WorkQueue {
    state: Mutex<State>,
    /// There is work that a writer may take.
    work: Notify,
    /// There may be work for the spare writer.
    spare_work: Notify,
    closed: Notify,
    shards: Shards,
    batch_rows: usize,
}

/// Requests that a writer has taken. Dropping it frees their shards.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) requests: Vec<Request>,
    /// The newest timestamps of these shards; empty for the spare writer.
    pub(crate) newest_timestamps: NewestTimestamps,
    taken: Vec<usize>,
    is_spare: bool,
    queue: Arc<WorkQueue>,
}

#[derive(Debug)]
struct State {
    shards: Vec<Shard>,
    /// When the last small request came.
    last_small: Option<Instant>,
    /// The spare writer has a connection.
    spare_is_connected: bool,
    /// When the spare writer took what it is writing.
    spare_since: Option<Instant>,
    is_closed: bool,
}

/// The highest limit of a batch. The last request may exceed the limit by [`MIXED_BATCH_ROWS`], and a shard's lanes by
/// a request each. A batch has 2^20 ids ([`BATCH_BITS`](crate::store::commit_log::BATCH_BITS)), about twice this limit.
const BATCH_ROWS_MAX: usize = 500_000;

/// A request of fewer rows is small. Below this number rows go in by INSERT in about a millisecond, see
/// `store/write.rs`.
pub(super) const SMALL_ROWS: usize = 500;

/// While no more rows wait, one writer takes them all: it writes them in some milliseconds.
const ONE_WRITER_ROWS: usize = 1_000;

/// The most rows of large requests in a batch while small requests arrive. A batch of this size takes 10 to 20 ms, and
/// costs no more a row than a larger one.
const MIXED_BATCH_ROWS: usize = 5_000;

/// How long after a small request others are expected.
const MIXED_FOR: Duration = Duration::from_secs(1);

/// After this time in one batch, the spare writer is taken to be stuck, and the others no longer leave small requests
/// to it.
const SPARE_TIME: Duration = Duration::from_millis(500);

impl WorkQueue {
    pub(crate) fn new(limits: &Limits) -> Self {
        let shards = Shards::new(limits.writers);
        Self {
            state: Mutex::new(State {
                shards: std::iter::repeat_with(Shard::new).take(shards.count()).collect(),
                last_small: None,
                spare_is_connected: false,
                spare_since: None,
                is_closed: false,
            }),
            work: Notify::new(),
            spare_work: Notify::new(),
            closed: Notify::new(),
            shards,
            batch_rows: limits.batch_rows.min(BATCH_ROWS_MAX),
        }
    }

    pub(crate) fn shards(&self) -> Shards {
        self.shards
    }

    /// The most rows that a request in the lane of large ones should have, so that batches can be cut between requests.
    pub(crate) fn part_rows(&self) -> usize {
        self.batch_rows.clamp(SMALL_ROWS, MIXED_BATCH_ROWS)
    }

    /// Adds a request of a shard; gives it back after [`Self::close`].
    pub(crate) fn add(&self, shard: usize, request: Request) -> Result<(), Request> {
        let state = &mut *self.state.lock();
        if state.is_closed {
            return Err(request);
        }
        let is_small = request.samples.len() < SMALL_ROWS;
        if is_small {
            state.last_small = Some(Instant::now());
        }
        let shard = &mut state.shards[shard];
        shard.add(request, is_small);
        if shard.is_free() {
            self.work.notify_one();
        } else if is_small && shard.spare_may_take() {
            self.spare_work.notify_one();
        }
        Ok(())
    }

    /// Waits until there is work that a writer may take. Returns false after [`Self::close`], when nothing is left.
    pub(crate) async fn wait(&self) -> bool {
        loop {
            let notified = self.work.notified();
            {
                let state = self.state.lock();
                if state.free_shards().next().is_some() {
                    return true;
                }
                if state.is_closed && state.shards.iter().all(Shard::is_empty) {
                    return false;
                }
            }
            notified.await;
        }
    }

    /// Returns the rows that wait in shards that no writer has.
    pub(crate) fn free_rows(&self) -> usize {
        let state = self.state.lock();
        state.free_shards().map(|shard| state.shards[shard].rows()).sum()
    }

    /// Takes work, if there is any.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Work> {
        let state = &mut *self.state.lock();
        let free: Vec<usize> = state.free_shards().collect();
        let rows: usize = free.iter().map(|shard| state.shards[*shard].rows()).sum();
        let candidates = if rows <= ONE_WRITER_ROWS {
            free
        } else {
            let fullest = free.into_iter().max_by_key(|shard| state.shards[*shard].rows());
            fullest.into_iter().collect()
        };
        let is_mixed = state.is_mixed();
        let spare_is_ready = state.spare_is_ready();
        let limit = self.batch_limit(is_mixed);
        let (mut requests, mut taken) = (Vec::new(), Vec::new());
        let mut newest_timestamps = NewestTimestamps::new(self.shards);
        for index in candidates {
            let shard = &mut state.shards[index];
            if let Some(timestamps) = shard.take(limit, is_mixed, spare_is_ready, &mut requests) {
                newest_timestamps.put(index, timestamps);
                taken.push(index);
                if shard.has_spare_work() {
                    self.spare_work.notify_one();
                }
            }
        }
        if state.free_shards().next().is_some() {
            self.work.notify_one();
        }
        // A `Work` that is dropped locks the state.
        (!taken.is_empty()).then(|| Work {
            requests,
            newest_timestamps,
            taken,
            is_spare: false,
            queue: Arc::clone(self),
        })
    }

    /// Waits until there may be work for the spare writer. Returns false after [`Self::close`].
    pub(crate) async fn wait_spare(&self) -> bool {
        loop {
            let notified = self.spare_work.notified();
            {
                let state = self.state.lock();
                if state.is_closed {
                    return false;
                }
                if state.shards.iter().any(Shard::has_spare_work) {
                    return true;
                }
            }
            notified.await;
        }
    }

    /// Takes small requests that would wait for the large ones that are being written, if there are any.
    pub(crate) fn take_spare(self: &Arc<Self>) -> Option<Work> {
        let state = &mut *self.state.lock();
        let (mut requests, mut taken) = (Vec::new(), Vec::new());
        for (index, shard) in state.shards.iter_mut().enumerate() {
            if shard.take_spare(self.batch_limit(true), &mut requests) {
                taken.push(index);
            }
        }
        if taken.is_empty() {
            return None;
        }
        state.spare_since = Some(Instant::now());
        Some(Work {
            requests,
            newest_timestamps: NewestTimestamps::new(self.shards),
            taken,
            is_spare: true,
            queue: Arc::clone(self),
        })
    }

    /// Notes whether the spare writer has a connection. While it has none, the other writers write everything.
    pub(crate) fn set_spare_connected(&self, is_connected: bool) {
        self.state.lock().spare_is_connected = is_connected;
    }

    fn batch_limit(&self, is_mixed: bool) -> usize {
        if is_mixed {
            self.batch_rows.min(MIXED_BATCH_ROWS)
        } else {
            self.batch_rows
        }
    }

    /// Wakes another writer for the work that waits. For a writer that was woken and has no connection.
    pub(crate) fn pass_on(&self) {
        self.work.notify_one();
    }

    /// Answers the requests whose callers no longer wait with an error, and removes them. If the database is known to
    /// be down for longer than a restart takes, no caller needs to wait.
    pub(crate) fn answer_expired(&self, error: &Error) {
        let now = Instant::now();
        let state = &mut *self.state.lock();
        let is_expired = |request: &Request| request.deadline <= now || matches!(error, Error::Stopped(_));
        for request in state.shards.iter_mut().flat_map(|shard| shard.remove(is_expired)) {
            let _ = request.ack.send(Err(error.clone()));
        }
    }

    /// Returns whether the queue is closed and nothing is left.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.state.lock();
        state.is_closed && state.shards.iter().all(Shard::is_empty)
    }

    /// Sleeps, but not longer than `longest_after_close` once the queue is closed.
    pub(crate) async fn sleep(&self, pause: Duration, longest_after_close: Duration) {
        let mut closed = pin!(self.closed.notified());
        closed.as_mut().enable();
        if self.state.lock().is_closed {
            sleep(pause.min(longest_after_close)).await;
        } else {
            let _ = timeout(pause, closed).await;
        }
    }

    /// Refuses all later requests. Those that wait are still taken.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.work.notify_waiters();
        self.spare_work.notify_one();
        self.closed.notify_waiters();
    }
}

impl Work {
    /// Puts back requests that were not written, in front of all others of their shards, so that another writer takes
    /// them.
    ///
    /// They go into the lane of small requests, which is taken first: those of a user keep their order.
    pub(crate) fn give_back(self, requests: Vec<Request>) {
        let queue = Arc::clone(&self.queue);
        {
            let state = &mut *queue.state.lock();
            for request in requests.into_iter().rev() {
                let Some(first) = request.samples.first() else {
                    continue;
                };
                let shard = queue.shards.of(first.user_id());
                state.shards[shard].give_back(request);
            }
        }
        // Frees the shards.
        drop(self);
        queue.work.notify_one();
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let state = &mut *self.queue.state.lock();
        if self.is_spare {
            state.spare_since = None;
        }
        for index in &self.taken {
            let shard = &mut state.shards[*index];
            if self.is_spare {
                shard.end_spare();
            } else {
                shard.end(self.newest_timestamps.remove(*index));
            }
        }
        if state.is_closed {
            self.queue.work.notify_waiters();
        }
        // The writer itself looks for work next, unless it panics. Waking another one too would cost a switch of
        // threads for each batch. But the spare writer does not take the requests that had to wait for it.
        if self.is_spare || std::thread::panicking() {
            self.queue.work.notify_one();
        }
    }
}

impl State {
    /// The shards with requests that no writer has.
    fn free_shards(&self) -> impl Iterator<Item = usize> {
        let shards = self.shards.iter().enumerate();
        shards.filter_map(|(index, shard)| shard.has_work().then_some(index))
    }

    /// Returns whether small requests may be left to the spare writer.
    fn spare_is_ready(&self) -> bool {
        self.spare_is_connected && self.spare_since.is_none_or(|since| since.elapsed() < SPARE_TIME)
    }

    /// Returns whether small requests arrive.
    fn is_mixed(&self) -> bool {
        self.last_small.is_some_and(|last| last.elapsed() < MIXED_FOR)
    }
}

#[cfg(test)]
mod tests;
