//! Which requests a free writer takes next.
//!
//! Requests wait in shards of users, as many as there are writers. A shard has at most one writer at a time, so each user's
//! samples are written in the order in which they were enqueued. A shard is not bound to a writer:
//!
//! * While few rows wait, one writer takes all shards that are free. Few clients then make one transaction in place of two.
//! * While many rows wait, each writer takes the fullest free shard, and the writers work side by side.
//!
//! A shard has two lanes. Small requests pass large ones, unless the large ones hold samples of the same user. While small
//! requests arrive, large ones are written in smaller batches, because a small request waits for the batch under way.

use std::{cell::OnceCell, collections::VecDeque, pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, oneshot},
    time::{Instant, sleep, timeout},
};

use crate::{
    batch::Receipt,
    config::Limits,
    error::Error,
    ingest::positions::Positions,
    sample::{Sample, UserId},
    shard::Shards,
    store::newest_timestamps::{NewestTimestamps, ShardTimestamps},
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
    closed: Notify,
    shards: Shards,
    batch_rows: usize,
}

/// Requests that a writer has taken. Dropping it frees their shards.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) requests: Vec<Request>,
    /// The newest timestamps of these shards.
    pub(crate) newest_timestamps: NewestTimestamps,
    taken: Vec<usize>,
    queue: Arc<WorkQueue>,
}

#[derive(Debug)]
struct State {
    shards: Vec<Shard>,
    /// When the last small request came.
    last_small: Option<Instant>,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Shard {
    small: VecDeque<Request>,
    large: VecDeque<LargeRequest>,
    /// The last turn left large requests waiting.
    took_small_only: bool,
    /// The rows in both lanes.
    rows: usize,
    /// `None` while a writer works on the shard.
    timestamps: Option<ShardTimestamps>,
}

/// A request in the lane of large ones.
#[derive(Debug)]
struct LargeRequest {
    request: Request,
    /// Its users, ordered. Made when a small request asks; a load of large requests alone does not pay for it.
    users: OnceCell<Box<[UserId]>>,
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

impl WorkQueue {
    pub(crate) fn new(limits: &Limits) -> Self {
        let shards = Shards::new(limits.writers);
        let empty = || Shard {
            timestamps: Some(ShardTimestamps::default()),
            ..Shard::default()
        };
        Self {
            state: Mutex::new(State {
                shards: std::iter::repeat_with(empty).take(shards.count()).collect(),
                last_small: None,
                is_closed: false,
            }),
            work: Notify::new(),
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
        shard.rows += request.samples.len();
        if is_small && !shard.large_requests_hold_users_of(&request) {
            shard.small.push_back(request);
        } else {
            shard.large.push_back(LargeRequest {
                request,
                users: OnceCell::new(),
            });
        }
        if shard.timestamps.is_some() {
            self.work.notify_one();
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
                if state.is_closed && state.shards.iter().all(|shard| shard.rows == 0) {
                    return false;
                }
            }
            notified.await;
        }
    }

    /// Returns the rows that wait in shards that no writer has.
    pub(crate) fn free_rows(&self) -> usize {
        let state = self.state.lock();
        state.free_shards().map(|shard| state.shards[shard].rows).sum()
    }

    /// Takes work, if there is any.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Work> {
        let state = &mut *self.state.lock();
        let free: Vec<usize> = state.free_shards().collect();
        let rows: usize = free.iter().map(|shard| state.shards[*shard].rows).sum();
        let taken = if rows <= ONE_WRITER_ROWS {
            free
        } else {
            let fullest = free.into_iter().max_by_key(|shard| state.shards[*shard].rows);
            fullest.into_iter().collect()
        };
        if taken.is_empty() {
            return None;
        }
        let is_mixed = state.last_small.is_some_and(|last| last.elapsed() < MIXED_FOR);
        let mixed_rows = self.batch_rows.min(MIXED_BATCH_ROWS);
        let limit = if is_mixed { mixed_rows } else { self.batch_rows };
        let mut requests = Vec::new();
        let mut newest_timestamps = NewestTimestamps::new(self.shards);
        for index in &taken {
            let shard = &mut state.shards[*index];
            shard.take_requests(limit, &mut requests);
            newest_timestamps.put(*index, shard.timestamps.take().unwrap_or_default());
        }
        if state.free_shards().next().is_some() {
            self.work.notify_one();
        }
        Some(Work {
            requests,
            newest_timestamps,
            taken,
            queue: Arc::clone(self),
        })
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
        for shard in &mut state.shards {
            let small = std::mem::take(&mut shard.small);
            let large = std::mem::take(&mut shard.large);
            let is_expired = |request: &Request| request.deadline <= now || matches!(error, Error::Stopped(_));
            let (expired, waiting) = small.into_iter().partition(is_expired);
            shard.small = waiting;
            let (expired_large, waiting): (VecDeque<_>, _) =
                large.into_iter().partition(|large| is_expired(&large.request));
            shard.large = waiting;
            let expired_large = expired_large.into_iter().map(|large| large.request);
            for request in expired.into_iter().chain(expired_large) {
                shard.rows -= request.samples.len();
                let _ = request.ack.send(Err(error.clone()));
            }
        }
    }

    /// Returns whether the queue is closed and nothing is left.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.state.lock();
        state.is_closed && state.shards.iter().all(|shard| shard.rows == 0)
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
                let shard = &mut state.shards[queue.shards.of(first.user_id())];
                shard.rows += request.samples.len();
                shard.small.push_front(request);
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
        for index in &self.taken {
            state.shards[*index].timestamps = Some(self.newest_timestamps.remove(*index));
        }
        if state.is_closed {
            self.queue.work.notify_waiters();
        }
        // The writer itself looks for work next, unless it panics. To wake another one as well costs a switch of threads for
        // each batch.
        if std::thread::panicking() {
            self.queue.work.notify_one();
        }
    }
}

impl State {
    /// The shards with requests that no writer has.
    fn free_shards(&self) -> impl Iterator<Item = usize> {
        let shards = self.shards.iter().enumerate();
        shards.filter_map(|(index, shard)| (shard.rows > 0 && shard.timestamps.is_some()).then_some(index))
    }
}

impl Shard {
    fn large_requests_hold_users_of(&self, request: &Request) -> bool {
        let mut users = request.samples.iter().map(Sample::user_id);
        !self.large.is_empty() && users.any(|user| self.large.iter().any(|large| large.holds(user)))
    }

    /// Takes requests up to a number of rows, small ones first. If both lanes have requests, every other turn takes small
    /// ones only: those do not wait for large ones twice, and large ones do not wait for ever.
    ///
    /// Large requests never pass small ones, which may have come before them and hold the same users.
    fn take_requests(&mut self, limit: usize, taken: &mut Vec<Request>) {
        let mut rows = 0;
        let both = !self.small.is_empty() && !self.large.is_empty();
        self.took_small_only = both && !self.took_small_only;
        while let Some(request) = self.small.pop_front() {
            rows += request.samples.len();
            taken.push(request);
            if rows >= limit {
                break;
            }
        }
        while !self.took_small_only && rows < limit {
            let Some(LargeRequest { request, .. }) = self.large.pop_front() else {
                break;
            };
            rows += request.samples.len();
            taken.push(request);
        }
        self.rows -= rows;
    }
}

impl LargeRequest {
    fn holds(&self, user: UserId) -> bool {
        let users = self.users.get_or_init(|| {
            let mut users: Vec<_> = self.request.samples.iter().map(Sample::user_id).collect();
            users.sort_unstable();
            users.dedup();
            users.into()
        });
        users.binary_search(&user).is_ok()
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

    proptest! {
        /// Whatever is added and however it is taken, each user's requests are taken in their order, and none is lost.
        #[test]
        fn requests_of_a_user_keep_their_order(
            steps in proptest::collection::vec((1..6_i64, prop_oneof![Just(1_usize), Just(700), Just(3_000)], any::<bool>()), 1..60),
            writers in 1..4_usize,
        ) {
            let queue = queue(writers);
            let mut next = [0_i64; 6];
            let mut seen = [0_i64; 6];
            let mut in_progress: Vec<Work> = Vec::new();
            let mut check = |work: &Work| {
                for request in &work.requests {
                    let user = usize::try_from(request.samples[0].user_id().get()).unwrap();
                    let number = (request.samples[0].timestamp() - Sample::EARLIEST).num_seconds();
                    assert_eq!(number, seen[user], "user {user}");
                    seen[user] += 1;
                }
            };
            for (user, rows, takes) in steps {
                let index = usize::try_from(user).unwrap();
                add(&queue, user, next[index], rows);
                next[index] += 1;
                if takes {
                    match queue.take() {
                        Some(work) => in_progress.push(work),
                        None => in_progress.clear(),
                    }
                    if let Some(work) = in_progress.last() {
                        check(work);
                        if in_progress.len() > 1 {
                            in_progress.remove(0);
                        }
                    }
                }
                if in_progress.len() == 1 && rows == 3_000 {
                    in_progress.clear();
                }
            }
            in_progress.clear();
            while let Some(work) = queue.take() {
                check(&work);
            }
            prop_assert_eq!(seen, next);
        }
    }
}
