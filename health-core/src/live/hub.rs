//! The state that writers, the poller and subscribers share.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::{
    config::Limits,
    live::{
        budget::MemoryBudget,
        cursor::Position,
        event::{LiveEvent, Published},
        filter::Filter,
        pending::Chunk,
        subscriber_queue::SubscriberQueue,
        transaction_snapshot::TransactionSnapshot,
    },
    sample::{Sample, UserId},
    store::{
        connection::Readers,
        feed::{CommitRow, IdRange, MERGED},
    },
    wire::Cursor,
};

/// The meeting point of writers, the poller and subscribers.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<HubState>,
    stream: String,
    capacity: usize,
    /// The bound on the memory of all subscriber queues.
    budget: Arc<MemoryBudget>,
    /// Wakes the poller.
    pub(crate) news: Notify,
    /// Wakes the poller when no subscriber waits, so that it may poll less often.
    pub(crate) idle_news: Notify,
    pub(crate) replay_source: ReplaySource,
}

/// The database connections and limits of replays.
#[derive(Debug)]
pub(crate) struct ReplaySource {
    pub(crate) readers: Readers,
    pub(crate) window: Duration,
    /// Limits concurrent queries, so that a thousand clients that reconnect at once leave connections for
    /// statistics.
    pub(crate) query_permits: Semaphore,
    /// Limits the rows that were read and are not yet in a subscriber queue.
    pub(crate) row_permits: Semaphore,
}

/// The id under which one connection of a writer commits. Dropping it makes the poller read the rest from the
/// table.
#[derive(Debug)]
pub(crate) struct WriterId {
    id: i64,
    hub: Arc<Hub>,
}

/// The commits that one poll delivers, and in which way.
#[derive(Debug, Default)]
pub(crate) struct DeliveryPlan {
    /// Commits of this server, ordered by the end of [`CommitRow::ids`]. Their samples are in memory.
    pub(crate) own: Vec<CommitRow>,
    /// Ranges of the table, ascending and disjoint.
    pub(crate) table: Vec<IdRange>,
    /// Commits that wait for the next poll: one that its writer has not handed over yet, and all after it.
    pub(crate) postponed: Vec<u64>,
}

#[derive(Debug)]
struct HubState {
    /// Everything that this snapshot sees was delivered.
    seen: TransactionSnapshot,
    cursor: Cursor,
    to_all: Vec<Arc<SubscriberQueue>>,
    to_user: HashMap<UserId, Vec<Arc<SubscriberQueue>>>,
    touched: Vec<Arc<SubscriberQueue>>,
    /// Queues that a replay fills. Live samples do not reach them.
    replaying: Vec<Arc<SubscriberQueue>>,
    joining: Vec<JoinRequest>,
    writers: HashSet<i64>,
    pending_commits: BTreeMap<u64, PendingCommit>,
    /// The number of samples in `pending_commits`.
    pending_samples: usize,
    handovers: u64,
    /// Commits that the current poll has delivered from memory.
    delivered: HashSet<u64>,
    /// Whether another server listens for notifications.
    others_listen: bool,
    /// Whether a commit was handed over since the last notification.
    unannounced: bool,
    closed: bool,
}

/// A commit of this server that is not delivered yet.
#[derive(Debug)]
struct PendingCommit {
    /// The number of commits handed over so far, this one included.
    number: u64,
    samples: CommitSamples,
}

#[derive(Debug)]
enum CommitSamples {
    InMemory(Vec<Sample>),
    /// There were no subscribers when it was handed over.
    Unheard,
    /// Too many samples were pending, so it is read from the table.
    InTable,
}

#[derive(Debug)]
struct JoinRequest {
    filter: Filter,
    queue: Arc<SubscriberQueue>,
    joined: oneshot::Sender<TransactionSnapshot>,
    /// Whether the request was there when the current poll began.
    before_poll: bool,
}

/// The largest number of samples in memory that wait for the poller. About 150 bytes each; the wait takes
/// milliseconds.
const PENDING_SAMPLES_MAX: usize = 100_000;

/// The largest number of samples in a chunk. A chunk stays in memory as long as a subscriber waits for one of
/// its samples.
const CHUNK_SAMPLES_MAX: usize = 1_000;

/// The number of replays that query the database at the same time.
const REPLAYS_AT_ONCE: usize = 2;

/// The largest number of rows that all replays together may hold, about 150 bytes each.
const REPLAYED_ROWS_MAX: usize = 100_000;

impl Hub {
    /// Creates a hub that delivers the commits after a position.
    pub(crate) fn new(position: Position, limits: &Limits, readers: Readers) -> Self {
        let cursor = position.to_cursor();
        let Position { stream, seen } = position;
        let state = HubState {
            seen,
            cursor,
            to_all: Vec::new(),
            to_user: HashMap::new(),
            touched: Vec::new(),
            replaying: Vec::new(),
            joining: Vec::new(),
            writers: HashSet::new(),
            pending_commits: BTreeMap::new(),
            pending_samples: 0,
            handovers: 0,
            delivered: HashSet::new(),
            others_listen: false,
            unannounced: false,
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            stream,
            capacity: limits.subscriber_queue,
            budget: MemoryBudget::new(limits.subscriber_memory),
            news: Notify::new(),
            idle_news: Notify::new(),
            replay_source: ReplaySource {
                readers,
                window: limits.replay_window,
                query_permits: Semaphore::new(REPLAYS_AT_ONCE),
                row_permits: Semaphore::new(REPLAYED_ROWS_MAX),
            },
        }
    }

    /// Returns the id of the database's stream.
    pub(crate) fn stream(&self) -> &str {
        &self.stream
    }

    /// Returns the present position.
    pub(crate) fn cursor(&self) -> Cursor {
        self.lock().cursor.clone()
    }

    /// Returns the present position, if the subscriber has taken everything up to it.
    pub(crate) fn cursor_if_idle(&self, queue: &SubscriberQueue) -> Option<Cursor> {
        let state = self.lock();
        queue.is_idle().then(|| state.cursor.clone())
    }

    /// Opens a queue for everything that is handed over or committed by others from now on.
    pub(crate) fn open(&self, filter: &Filter) -> (Arc<SubscriberQueue>, Cursor) {
        let mut state = self.lock();
        let queue = Arc::new(SubscriberQueue::new(self.capacity, state.handovers, &self.budget));
        state.add(filter, &queue);
        (queue, state.cursor.clone())
    }

    /// Detaches a queue from the live samples, so that a replay can fill it.
    pub(crate) fn detach(&self, filter: &Filter, queue: &Arc<SubscriberQueue>) {
        let mut state = self.lock();
        state.remove(filter, queue);
        if state.closed {
            return queue.close();
        }
        state.replaying.push(Arc::clone(queue));
    }

    /// Attaches a detached queue again, from now on.
    pub(crate) fn attach(&self, filter: &Filter, queue: &Arc<SubscriberQueue>) {
        let mut state = self.lock();
        if !queue.is_abandoned() {
            state.add(filter, queue);
        }
    }

    /// Asks the poller to attach a queue between two polls. The receiver gets the snapshot of that moment.
    pub(crate) fn join(&self, filter: Filter, queue: Arc<SubscriberQueue>) -> oneshot::Receiver<TransactionSnapshot> {
        let (joined, answer) = oneshot::channel();
        let mut state = self.lock();
        if state.closed {
            return answer; // The sender is dropped; the queue is closed already.
        }
        state.joining.push(JoinRequest {
            filter,
            queue,
            joined,
            before_poll: false,
        });
        drop(state);
        self.news.notify_one();
        answer
    }

    pub(crate) fn remove(&self, filter: &Filter, queue: &Arc<SubscriberQueue>) {
        self.lock().remove(filter, queue);
    }

    /// Creates the writer id for a new connection.
    pub(crate) fn register_writer(self: &Arc<Self>) -> WriterId {
        // 0 is reserved, see `feed::MERGED`.
        let id = fastrand::i64(1..);
        self.lock().writers.insert(id);
        WriterId {
            id,
            hub: Arc::clone(self),
        }
    }

    /// Takes over the samples of a commit. Never waits, and keeps nothing if there are no subscribers.
    pub(crate) fn hand_over(&self, xid: u64, samples: impl Iterator<Item = Sample>) {
        let mut state = self.lock();
        if state.seen.sees(xid) {
            return; // Its writer id was dropped, so it was read from the table.
        }
        state.handovers += 1;
        state.unannounced = true;
        let samples = if !state.has_subscribers() && state.joining.is_empty() {
            CommitSamples::Unheard
        } else if state.pending_samples >= PENDING_SAMPLES_MAX {
            CommitSamples::InTable
        } else {
            let samples: Vec<_> = samples.collect();
            state.pending_samples += samples.len();
            CommitSamples::InMemory(samples)
        };
        let number = state.handovers;
        state.pending_commits.insert(xid, PendingCommit { number, samples });
        let quiet = !state.others_listen && !state.has_active_subscribers() && state.joining.is_empty();
        drop(state);
        if quiet {
            self.idle_news.notify_one();
        } else {
            self.news.notify_one();
        }
    }

    pub(crate) fn has_subscribers(&self) -> bool {
        let state = self.lock();
        state.has_subscribers() || !state.joining.is_empty()
    }

    /// Returns whether other servers must be notified of new commits.
    pub(crate) fn must_notify_others(&self) -> bool {
        let state = self.lock();
        state.others_listen && state.unannounced
    }

    /// Records that the notification is being sent.
    pub(crate) fn notification_sent(&self) {
        self.lock().unannounced = false;
    }

    /// Sets whether another server listens.
    pub(crate) fn others_listen(&self, others: bool) {
        self.lock().others_listen = others;
    }

    /// Handles a notification of another server, or the loss of the connection.
    pub(crate) fn received_notification(&self) {
        self.lock().others_listen = true;
        self.news.notify_one();
    }

    pub(crate) fn seen(&self) -> TransactionSnapshot {
        self.lock().seen.clone()
    }

    /// Returns the snapshot that was delivered last. Join requests up to now may be granted at the end of this
    /// poll.
    pub(crate) fn begin_poll(&self) -> TransactionSnapshot {
        let state = &mut *self.lock();
        for joining in &mut state.joining {
            joining.before_poll = true;
        }
        state.seen.clone()
    }

    /// Decides how each new commit is delivered. The commits are ordered by the end of their ranges.
    pub(crate) fn plan_delivery(&self, commits: &[CommitRow]) -> DeliveryPlan {
        let state = self.lock();
        let mut plan = DeliveryPlan::default();
        for (index, commit) in commits.iter().enumerate() {
            let pending = state.pending_commits.get(&commit.xid).map(|pending| &pending.samples);
            match pending {
                // A merged record also stands for commits of other writers.
                _ if commit.writer == MERGED => plan.table.push(commit.ids),
                _ if state.delivered.contains(&commit.xid) => plan.own.push(*commit),
                Some(CommitSamples::InMemory(_) | CommitSamples::Unheard) => plan.own.push(*commit),
                None if state.writers.contains(&commit.writer) => {
                    plan.postponed = commits[index..].iter().map(|commit| commit.xid).collect();
                    break;
                }
                Some(CommitSamples::InTable) | None => plan.table.push(commit.ids),
            }
        }
        plan.table = joined(plan.table);
        plan
    }

    /// Delivers a commit of this server from memory, once.
    pub(crate) fn publish_own(&self, xid: u64) {
        let state = &mut *self.lock();
        state.delivered.insert(xid);
        let Some(pending) = state.pending_commits.remove(&xid) else {
            return;
        };
        if let CommitSamples::InMemory(samples) = pending.samples {
            state.pending_samples -= samples.len();
            state.publish(samples, &self.budget, |queue| queue.accepts(pending.number));
            self.shed_excess(state);
        }
    }

    /// Discards waiting samples if the memory budget is exceeded, from the longest queues first.
    fn shed_excess(&self, state: &HubState) {
        if !self.budget.is_exceeded() {
            return;
        }
        let queues = state.to_all.iter().chain(state.to_user.values().flatten());
        let mut longest_first: Vec<_> = queues.map(|queue| (queue.live_len(), queue)).collect();
        longest_first.sort_unstable_by_key(|(samples, _)| Reverse(*samples));
        for (_, queue) in longest_first.into_iter().take_while(|(samples, _)| *samples > 0) {
            if self.budget.has_headroom() {
                return;
            }
            queue.discard_live();
        }
    }

    /// Delivers rows of the table.
    pub(crate) fn publish(&self, samples: Vec<Sample>) {
        if samples.is_empty() {
            return;
        }
        let state = &mut *self.lock();
        state.publish(samples, &self.budget, |_| true);
        self.shed_excess(state);
        for queue in state.touched.drain(..) {
            queue.end_poll(None);
        }
    }

    /// Returns the cursor of a snapshot.
    pub(crate) fn cursor_of(&self, seen: TransactionSnapshot) -> Cursor {
        let position = Position {
            stream: self.stream.clone(),
            seen,
        };
        position.to_cursor()
    }

    /// Tells all subscribers that samples may be missing, and why.
    pub(crate) fn announce_gap(&self, why: &str) {
        let state = self.lock();
        for queue in state.to_all.iter().chain(state.to_user.values().flatten()) {
            queue.announce(LiveEvent::Subscribed {
                resumed: false,
                reason: Some(why.to_owned()),
            });
        }
    }

    /// Ends a poll: everything that the snapshot sees was delivered.
    pub(crate) fn advance(&self, seen: TransactionSnapshot) {
        let state = &mut *self.lock();
        let position = Position {
            stream: self.stream.clone(),
            seen,
        };
        state.cursor = position.to_cursor();
        state.seen = position.seen;
        state.delivered.clear();
        let HubState {
            pending_commits, seen, ..
        } = state;
        pending_commits.retain(|xid, _| !seen.sees(*xid));
        let samples_in_memory = |pending: &PendingCommit| match &pending.samples {
            CommitSamples::InMemory(samples) => samples.len(),
            CommitSamples::Unheard | CommitSamples::InTable => 0,
        };
        state.pending_samples = state.pending_commits.values().map(samples_in_memory).sum();
        for queue in state.touched.drain(..) {
            queue.end_poll(Some(&state.cursor));
        }
    }

    /// Attaches the queues that wait to join. Call it only if no commit was postponed.
    ///
    /// Requests that came during the poll wait for the next one. Their replays may have read more than this
    /// poll's snapshot sees, and would receive old versions of samples after newer ones.
    pub(crate) fn admit_joining(&self) {
        let state = &mut *self.lock();
        let (ready, early): (Vec<_>, _) = state.joining.drain(..).partition(|joining| joining.before_poll);
        state.joining = early;
        for joining in ready {
            // If the subscription was dropped, its queue gets nothing.
            if !joining.queue.is_abandoned() && joining.joined.send(state.seen.clone()).is_ok() {
                state.add(&joining.filter, &joining.queue);
            }
        }
    }

    /// Ends every subscription after the events that wait for it.
    pub(crate) fn close(&self) {
        let state = &mut *self.lock();
        state.closed = true;
        state.joining.clear();
        let live = state.to_all.iter().chain(state.to_user.values().flatten());
        for queue in live.chain(&state.replaying) {
            queue.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HubState> {
        self.state.lock()
    }
}

impl WriterId {
    pub(crate) fn get(&self) -> i64 {
        self.id
    }
}

impl Drop for WriterId {
    fn drop(&mut self) {
        self.hub.lock().writers.remove(&self.id);
        self.hub.news.notify_one();
    }
}

impl HubState {
    /// Returns whether a subscriber is waiting for samples. Those that have yet to hear of skipped samples are
    /// not.
    fn has_active_subscribers(&self) -> bool {
        !self.to_user.is_empty() || self.to_all.iter().any(|queue| !queue.has_skipped())
    }

    fn has_subscribers(&self) -> bool {
        !(self.to_all.is_empty() && self.to_user.is_empty())
    }

    fn remove(&mut self, filter: &Filter, queue: &Arc<SubscriberQueue>) {
        let others = |other: &Arc<SubscriberQueue>| !Arc::ptr_eq(other, queue);
        self.joining.retain(|joining| others(&joining.queue));
        self.replaying.retain(others);
        match filter.named() {
            None => self.to_all.retain(others),
            Some(users) => {
                for user in users {
                    if let Some(queues) = self.to_user.get_mut(user) {
                        queues.retain(others);
                        if queues.is_empty() {
                            self.to_user.remove(user);
                        }
                    }
                }
            }
        }
    }

    fn add(&mut self, filter: &Filter, queue: &Arc<SubscriberQueue>) {
        self.replaying.retain(|other| !Arc::ptr_eq(other, queue));
        if self.closed {
            return queue.close();
        }
        match filter.named() {
            None => self.to_all.push(Arc::clone(queue)),
            Some(users) => {
                for user in users {
                    self.to_user.entry(*user).or_default().push(Arc::clone(queue));
                }
            }
        }
    }

    fn publish(&mut self, samples: Vec<Sample>, budget: &Arc<MemoryBudget>, hears: impl Fn(&SubscriberQueue) -> bool) {
        let (count, cursor) = (samples.len(), &self.cursor);
        let mut hearing = self.to_all.iter().filter(|queue| hears(queue));
        // If all queues skip, no sample is shared. Usually the first queue accepts, so this check is short.
        if self.to_user.is_empty() && hearing.all(|queue| queue.has_skipped()) {
            let hearing = self.to_all.iter().filter(|queue| hears(queue));
            hearing.for_each(|queue| queue.skip_all(count, cursor));
            return;
        }
        let mut published = samples
            .into_iter()
            .map(|sample| Arc::new(Published::new(sample, budget)));
        loop {
            // Samples that no queue has space for are freed before the next chunk is made.
            let chunk: Arc<[_]> = published.by_ref().take(CHUNK_SAMPLES_MAX).collect();
            if chunk.is_empty() {
                return;
            }
            self.deliver(&chunk, &hears);
        }
    }

    fn deliver(&mut self, published: &Arc<[Arc<Published>]>, hears: impl Fn(&SubscriberQueue) -> bool) {
        let chunk = Chunk::Shared(Arc::clone(published));
        for queue in self.to_all.iter().filter(|queue| hears(queue)) {
            if queue.push(&self.cursor, &chunk) {
                self.touched.push(Arc::clone(queue));
            }
        }
        if self.to_user.is_empty() {
            return;
        }
        for sample in published.iter() {
            let queues = self.to_user.get(&sample.sample().user_id()).into_iter().flatten();
            for queue in queues.filter(|queue| hears(queue)) {
                if queue.push(&self.cursor, &Chunk::One(Arc::clone(sample))) {
                    self.touched.push(Arc::clone(queue));
                }
            }
        }
    }
}

/// Sorts ranges and joins those that touch.
fn joined(mut ranges: Vec<IdRange>) -> Vec<IdRange> {
    ranges.sort_unstable_by_key(|range| range.after);
    let mut joined: Vec<IdRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.after <= last.last => last.last = last.last.max(range.last),
            _ => joined.push(range),
        }
    }
    joined
}
