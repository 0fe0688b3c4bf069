//! Which requests a free writer takes next.
//!
//! Requests wait in shards of users, as many as there are writers. A shard has at most one writer at a time, so each user's
//! samples are written in the order in which they were enqueued. A shard is not bound to a writer:
//!
//! * While few rows wait, one writer takes all shards that are free. Few clients then make one transaction in place of two.
//! * While many rows wait, each writer takes the fullest free shard, and the writers work side by side.
//!
//! A shard has two lanes, see [`lanes`](crate::ingest::lanes). Small requests pass large ones, unless the large ones hold samples
//! of the same user. While small requests arrive, large ones are written in smaller batches, because a small request of one of
//! their users waits for the batch under way. Small requests of other users do not wait for it: the spare writer writes them.

use std::{pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, oneshot},
    time::{Instant, sleep, timeout},
};

use crate::{
    batch::Receipt,
    config::Limits,
    error::Error,
    ingest::{lanes::Shard, positions::Positions},
    sample::{Sample, UserId},
    shard::Shards,
    store::newest_timestamps::NewestTimestamps,
};

/// Samples of one call and one shard.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) samples: Vec<Sample>,
    /// Where the samples stand in the call.
    pub(crate) positions: Positions,
    /// After this moment the caller no longer waits for the outcome.
    pub(crate) deadline: Instant,
    pub(crate) ack: AnswerSender,
    /// The permits of the whole call, which its requests share. The last one returns them.
    pub(super) permits: Arc<OwnedSemaphorePermit>,
}

/// Where the answer to a request goes.
pub(crate) type AnswerSender = oneshot::Sender<Result<Receipt, Error>>;

/// The receiver of the answer to a request.
pub(crate) type Answer = oneshot::Receiver<Result<Receipt, Error>>;

impl Request {
    /// The users of its samples, with repetitions.
    pub(super) fn users(&self) -> impl Iterator<Item = UserId> {
        self.samples.iter().map(Sample::user_id)
    }

    /// Divides a request into two, each with its own answer. Also returns where the answer to the whole goes.
    pub(crate) fn halves(self) -> (AnswerSender, [(Request, Answer); 2]) {
        let Self {
            mut samples,
            positions,
            deadline,
            ack,
            permits,
        } = self;
        let middle = samples.len() / 2;
        let second = samples.split_off(middle);
        let half = |samples: Vec<Sample>, first| {
            let (ack, answer) = oneshot::channel();
            let request = Request {
                positions: positions.of_part(first, samples.len()),
                samples,
                deadline,
                ack,
                permits: Arc::clone(&permits),
            };
            (request, answer)
        };
        (ack, [half(samples, 0), half(second, middle)])
    }
}

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

/// The highest limit of a batch. The last request may exceed the limit by [`MIXED_BATCH_ROWS`], and a shard's lanes by a
/// request each. A batch has 2^20 ids ([`BATCH_BITS`](crate::store::commit_log::BATCH_BITS)), about twice this limit.
const BATCH_ROWS_MAX: usize = 500_000;

/// A request of fewer rows is small. Below this number rows go in by INSERT in about a millisecond, see `store/write.rs`.
pub(super) const SMALL_ROWS: usize = 500;

/// While no more rows wait, one writer takes them all: it writes them in some milliseconds.
const ONE_WRITER_ROWS: usize = 1_000;

/// The most rows of large requests in a batch while small requests arrive. A batch of this size takes 10 to 20 ms, and
/// costs no more a row than a larger one.
const MIXED_BATCH_ROWS: usize = 5_000;

/// How long after a small request others are expected.
const MIXED_FOR: Duration = Duration::from_secs(1);

/// After this time in one batch, the spare writer is taken to be stuck, and the others no longer leave small requests to it.
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

    /// Answers the requests whose callers no longer wait with an error, and removes them. If the database is known to be down
    /// for longer than a restart takes, no caller needs to wait.
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
    /// Puts back requests that were not written, in front of all others of their shards, so that another writer takes them.
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
        // The writer itself looks for work next, unless it panics. To wake another one as well costs a switch of threads for
        // each batch. The spare writer does not take what may have waited for it.
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
mod tests {
    use proptest::prelude::*;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::sample::{HeartRate, Readings, Source};

    /// A request whose samples all belong to one user; its number is in the timestamps.
    fn request(user: i64, number: i64, rows: usize, permits: &Arc<OwnedSemaphorePermit>) -> Request {
        let readings = Readings {
            heart_rate: HeartRate::new(60.0).ok(),
            ..Readings::default()
        };
        let time = Sample::EARLIEST + chrono::TimeDelta::seconds(number);
        let sample = Sample::new(UserId::new(user).unwrap(), time, Source::default(), readings).unwrap();
        Request {
            positions: Positions::From(0),
            samples: vec![sample; rows],
            deadline: Instant::now(),
            ack: oneshot::channel().0,
            permits: Arc::clone(permits),
        }
    }

    fn permits() -> Arc<OwnedSemaphorePermit> {
        Arc::new(Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap())
    }

    fn queue(writers: usize) -> Arc<WorkQueue> {
        Arc::new(WorkQueue::new(&Limits {
            writers,
            ..Limits::default()
        }))
    }

    fn add(queue: &WorkQueue, user: i64, number: i64, rows: usize) {
        let shard = queue.shards().of(UserId::new(user).unwrap());
        queue.add(shard, request(user, number, rows, &permits())).unwrap();
    }

    fn users(work: &Work) -> Vec<i64> {
        work.requests
            .iter()
            .map(|request| request.samples[0].user_id().get())
            .collect()
    }

    #[test]
    fn one_writer_takes_all_shards_while_few_rows_wait_and_each_takes_one_while_many_do() {
        let queue = queue(2);
        for user in 1..=20 {
            add(&queue, user, 0, 1);
        }
        let all = queue.take().unwrap();
        assert_eq!(all.requests.len(), 20);
        assert!(queue.take().is_none());
        drop(all);
        for user in 1..=20 {
            add(&queue, user, 0, 2_000);
        }
        let (first, second) = (queue.take().unwrap(), queue.take().unwrap());
        assert!(queue.take().is_none());
        let shard = |work: &Work| queue.shards().of(UserId::new(users(work)[0]).unwrap());
        assert_ne!(shard(&first), shard(&second));
    }

    #[test]
    fn a_small_request_passes_large_ones_of_other_users_only() {
        let queue = queue(1);
        for number in 0..10 {
            add(&queue, 1, number, SMALL_ROWS);
        }
        add(&queue, 2, 0, 1);
        add(&queue, 1, 10, 1);
        let work = queue.take().unwrap();
        assert_eq!(users(&work), [2]);
        drop(work);
        add(&queue, 2, 1, 1);
        let work = queue.take().unwrap();
        assert_eq!(users(&work)[..2], [2, 1]);
        assert_eq!(work.requests.len(), 1 + MIXED_BATCH_ROWS / SMALL_ROWS);
        drop(work);
        assert_eq!(users(&queue.take().unwrap()), [1]);
    }

    #[test]
    fn small_requests_of_other_users_go_to_the_spare_writer_while_large_ones_are_written() {
        let queue = queue(1);
        queue.set_spare_connected(true);
        add(&queue, 1, 0, SMALL_ROWS);
        assert!(queue.take_spare().is_none());
        add(&queue, 2, 0, 1);
        let large = queue.take().unwrap();
        assert_eq!(users(&large), [1]);
        add(&queue, 1, 1, 1);
        let small = queue.take_spare().unwrap();
        assert_eq!(users(&small), [2]);
        // Large requests of the spare writer's users wait for it, and keep their place before later small ones.
        add(&queue, 2, 1, SMALL_ROWS);
        add(&queue, 2, 2, 1);
        drop(large);
        let own = queue.take().unwrap();
        assert_eq!(users(&own), [1]);
        drop(own);
        assert!(queue.take().is_none());
        drop(small);
        assert_eq!(users(&queue.take().unwrap()), [2, 2]);
    }

    #[test]
    fn small_requests_alone_are_not_divided_between_two_writers() {
        let queue = queue(1);
        queue.set_spare_connected(true);
        add(&queue, 1, 0, 1);
        let first = queue.take().unwrap();
        add(&queue, 2, 0, 1);
        assert!(queue.take_spare().is_none());
        drop(first);
        assert_eq!(users(&queue.take().unwrap()), [2]);
    }

    /// One step of the property test.
    #[derive(Debug, Clone, Copy)]
    enum TestStep {
        Add(i64, usize),
        Take,
        TakeSpare,
        /// Ends one of the works in progress.
        End(usize),
        ConnectSpare(bool),
    }

    fn test_step() -> impl Strategy<Value = TestStep> {
        let rows = prop_oneof![3 => Just(1_usize), 1 => Just(700), 1 => Just(3_000)];
        prop_oneof![
            6 => (1..6_i64, rows).prop_map(|(user, rows)| TestStep::Add(user, rows)),
            2 => Just(TestStep::Take),
            2 => Just(TestStep::TakeSpare),
            3 => any::<usize>().prop_map(TestStep::End),
            1 => any::<bool>().prop_map(TestStep::ConnectSpare),
        ]
    }

    proptest! {
        /// Whatever is added and however it is taken, each user's requests are taken in their order, never by two writers at
        /// once, and none is lost.
        #[test]
        fn requests_of_a_user_keep_their_order(
            steps in proptest::collection::vec(test_step(), 1..100),
            writers in 1..4_usize,
        ) {
            let queue = queue(writers);
            let mut next = [0_i64; 6];
            let mut seen = [0_i64; 6];
            let mut in_progress: Vec<Work> = Vec::new();
            let mut check = |work: &Work, in_progress: &[Work]| {
                for other in in_progress {
                    assert!(!users(other).iter().any(|user| users(work).contains(user)), "two writers have one user");
                }
                for request in &work.requests {
                    let user = usize::try_from(request.samples[0].user_id().get()).unwrap();
                    let number = (request.samples[0].timestamp() - Sample::EARLIEST).num_seconds();
                    assert_eq!(number, seen[user], "user {user}");
                    seen[user] += 1;
                }
            };
            for step in steps {
                let taken = match step {
                    TestStep::Add(user, rows) => {
                        let index = usize::try_from(user).unwrap();
                        add(&queue, user, next[index], rows);
                        next[index] += 1;
                        None
                    }
                    TestStep::Take => queue.take(),
                    TestStep::TakeSpare => queue.take_spare(),
                    TestStep::End(index) if !in_progress.is_empty() => {
                        drop(in_progress.swap_remove(index % in_progress.len()));
                        None
                    }
                    TestStep::End(_) => None,
                    TestStep::ConnectSpare(is_connected) => {
                        queue.set_spare_connected(is_connected);
                        None
                    }
                };
                if let Some(work) = taken {
                    check(&work, &in_progress);
                    in_progress.push(work);
                }
            }
            in_progress.clear();
            queue.set_spare_connected(false);
            while let Some(work) = queue.take() {
                check(&work, &[]);
            }
            prop_assert_eq!(seen, next);
        }
    }
}
