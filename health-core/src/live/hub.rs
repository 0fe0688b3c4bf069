//! Who listens, what our own writers have committed, and how far the stream has been delivered.

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

/// The meeting place of writers, the courier and subscribers.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<HubState>,
    stream: String,
    capacity: usize,
    /// For all that waits for readers.
    budget: Arc<MemoryBudget>,
    /// There is something for the courier to do.
    pub(crate) news: Notify,
    /// There is, and nobody waits for it.
    pub(crate) idle_news: Notify,
    pub(crate) replay_source: ReplaySource,
}

/// Where those who resume read from.
#[derive(Debug)]
pub(crate) struct ReplaySource {
    pub(crate) readers: Readers,
    pub(crate) window: Duration,
    /// Resuming takes its turn, so that a thousand who reconnect at once leave connections to those who ask for statistics.
    pub(crate) query_permits: Semaphore,
    /// Rows that were read and are on their way to a reader take theirs.
    pub(crate) row_permits: Semaphore,
}

/// The name one connection of a writer commits under, for as long as it lives.
#[derive(Debug)]
pub(crate) struct WriterId {
    id: i64,
    hub: Arc<Hub>,
}

/// What a look of the courier's has to deliver, in order.
#[derive(Debug, Default)]
pub(crate) struct DeliveryPlan {
    /// Our own, by [`CommitRow::ids`]'s end: they are in memory.
    pub(crate) own: Vec<CommitRow>,
    /// Stretches of the table, ascending and apart from each other.
    pub(crate) table: Vec<IdRange>,
    /// Committed by a writer of ours that has not pending it over yet, and what came behind it: not now.
    pub(crate) postponed: Vec<u64>,
}

#[derive(Debug)]
struct HubState {
    /// What has been delivered.
    seen: TransactionSnapshot,
    cursor: Cursor,
    to_all: Vec<Arc<SubscriberQueue>>,
    to_user: HashMap<UserId, Vec<Arc<SubscriberQueue>>>,
    touched: Vec<Arc<SubscriberQueue>>,
    /// They are filled from the table, and not to be reached by what is published.
    replaying: Vec<Arc<SubscriberQueue>>,
    joining: Vec<JoinRequest>,
    writers: HashSet<i64>,
    pending_commits: BTreeMap<u64, PendingCommit>,
    /// Samples in `handed`.
    pending_samples: usize,
    handovers: u64,
    /// Of those in the work under way, what has been delivered from memory.
    delivered: HashSet<u64>,
    /// Another server listens for rings.
    others_listen: bool,
    /// Something was pending over since the last ring.
    unannounced: bool,
    closed: bool,
}

/// A commit of ours that waits for its turn.
#[derive(Debug)]
struct PendingCommit {
    /// How many had been pending over with it.
    number: u64,
    samples: CommitSamples,
}

#[derive(Debug)]
enum CommitSamples {
    InMemory(Vec<Sample>),
    /// Unheard listened then.
    Unheard,
    /// Too many wait: it is read from the table.
    InTable,
}

#[derive(Debug)]
struct JoinRequest {
    filter: Filter,
    queue: Arc<SubscriberQueue>,
    joined: oneshot::Sender<TransactionSnapshot>,
    /// It was there when the look under way began.
    before_poll: bool,
}

/// Samples of our own that wait for their turn, which takes a moment where the database answers. About 150 bytes each.
const PENDING_SAMPLES_MAX: usize = 100_000;

/// Samples that are pending out at once, and so kept as long as anybody waits for one of them.
const CHUNK_SAMPLES_MAX: usize = 1_000;

/// Replays that ask the database at the same time.
const REPLAYS_AT_ONCE: usize = 2;

/// Rows that all replays together may have read ahead, about 150 bytes each.
const REPLAYED_ROWS_MAX: usize = 100_000;

impl Hub {
    /// A hub that delivers what becomes visible behind a position.
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

    /// Which database's stream it is.
    pub(crate) fn stream(&self) -> &str {
        &self.stream
    }

    /// Where the stream stands.
    pub(crate) fn cursor(&self) -> Cursor {
        self.lock().cursor.clone()
    }

    /// Where the stream stands, if all that was delivered up to there has left the queue.
    pub(crate) fn cursor_if_idle(&self, queue: &SubscriberQueue) -> Option<Cursor> {
        let state = self.lock();
        queue.is_idle().then(|| state.cursor.clone())
    }

    /// A queue that hears of what is pending over from now on, and of what others commit.
    pub(crate) fn open(&self, filter: &Filter) -> (Arc<SubscriberQueue>, Cursor) {
        let mut state = self.lock();
        let queue = Arc::new(SubscriberQueue::new(self.capacity, state.handovers, &self.budget));
        state.add(filter, &queue);
        (queue, state.cursor.clone())
    }

    /// Takes a queue out, to be filled from the table at first.
    pub(crate) fn detach(&self, filter: &Filter, queue: &Arc<SubscriberQueue>) {
        let mut state = self.lock();
        state.remove(filter, queue);
        if state.closed {
            return queue.close();
        }
        state.replaying.push(Arc::clone(queue));
    }

    /// Puts a queue that was set aside back in, to go on from now.
    pub(crate) fn attach(&self, filter: &Filter, queue: &Arc<SubscriberQueue>) {
        let mut state = self.lock();
        if !queue.is_abandoned() {
            state.add(filter, queue);
        }
    }

    /// Puts a queue in between two looks, and tells which was the first of them: it gets what that one does not see.
    pub(crate) fn join(&self, filter: Filter, queue: Arc<SubscriberQueue>) -> oneshot::Receiver<TransactionSnapshot> {
        let (joined, answer) = oneshot::channel();
        let mut state = self.lock();
        if state.closed {
            return answer; // It never comes, and the queue is closed already.
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

    /// A name for a writer's connection.
    pub(crate) fn register_writer(self: &Arc<Self>) -> WriterId {
        // 0 is taken, see `feed::MERGED`.
        let id = fastrand::i64(1..);
        self.lock().writers.insert(id);
        WriterId {
            id,
            hub: Arc::clone(self),
        }
    }

    /// What a writer of ours has committed. Never waits, and keeps nothing where nobody listens.
    pub(crate) fn hand_over(&self, xid: u64, samples: impl Iterator<Item = Sample>) {
        let mut state = self.lock();
        if state.seen.sees(xid) {
            return; // Its author's name was given up, so it was read from the table.
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

    /// Whether other servers are to be logged of something.
    pub(crate) fn must_notify_others(&self) -> bool {
        let state = self.lock();
        state.others_listen && state.unannounced
    }

    /// They are being logged.
    pub(crate) fn notification_sent(&self) {
        self.lock().unannounced = false;
    }

    /// Whether a ring is heard by anyone.
    pub(crate) fn others_listen(&self, others: bool) {
        self.lock().others_listen = others;
    }

    /// Another server notified_at, or the connection was lost.
    pub(crate) fn received_notification(&self) {
        self.lock().others_listen = true;
        self.news.notify_one();
    }

    pub(crate) fn seen(&self) -> TransactionSnapshot {
        self.lock().seen.clone()
    }

    /// What has been delivered, as a look begins. Whoever waits to be let in by now may be at its end.
    pub(crate) fn begin_poll(&self) -> TransactionSnapshot {
        let state = &mut *self.lock();
        for joining in &mut state.joining {
            joining.before_poll = true;
        }
        state.seen.clone()
    }

    /// What there is to do about commits that became visible, given by the ends of their ranges.
    pub(crate) fn plan_delivery(&self, commits: &[CommitRow]) -> DeliveryPlan {
        let state = self.lock();
        let mut plan = DeliveryPlan::default();
        for (index, commit) in commits.iter().enumerate() {
            let pending = state.pending_commits.get(&commit.xid).map(|pending| &pending.samples);
            match pending {
                // It stands for others' commits as well, whoever's the last of them was.
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

    /// Delivers a commit of ours, once.
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

    /// Where too much waits, those who are furthest behind lose it.
    fn shed_excess(&self, state: &HubState) {
        if !self.budget.is_exceeded() {
            return;
        }
        let queues = state.to_all.iter().chain(state.to_user.values().flatten());
        let mut by_need: Vec<_> = queues.map(|queue| (queue.live_len(), queue)).collect();
        by_need.sort_unstable_by_key(|(behind, _)| Reverse(*behind));
        for (_, queue) in by_need.into_iter().take_while(|(behind, _)| *behind > 0) {
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

    /// Where the stream stands for whoever has got what a snapshot sees.
    pub(crate) fn cursor_of(&self, seen: TransactionSnapshot) -> Cursor {
        let position = Position {
            stream: self.stream.clone(),
            seen,
        };
        position.to_cursor()
    }

    /// Tells everyone who listens that not all may have been delivered, and why.
    pub(crate) fn announce_gap(&self, why: &str) {
        let state = self.lock();
        for queue in state.to_all.iter().chain(state.to_user.values().flatten()) {
            queue.announce(LiveEvent::Subscribed {
                resumed: false,
                reason: Some(why.to_owned()),
            });
        }
    }

    /// All that a snapshot sees was delivered.
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
        let kept = |pending: &PendingCommit| match &pending.samples {
            CommitSamples::InMemory(samples) => samples.len(),
            CommitSamples::Unheard | CommitSamples::InTable => 0,
        };
        state.pending_samples = state.pending_commits.values().map(kept).sum();
        for queue in state.touched.drain(..) {
            queue.end_poll(Some(&state.cursor));
        }
    }

    /// Lets those in who wait between two looks. Only where everything was delivered that was pending over before `seen`.
    ///
    /// Those who came during the look wait for the next: a replay may have read more than this look's snapshot sees, and
    /// would hear of it again behind what is newer.
    pub(crate) fn admit_joining(&self) {
        let state = &mut *self.lock();
        let (ready, early): (Vec<_>, _) = state.joining.drain(..).partition(|joining| joining.before_poll);
        state.joining = early;
        for joining in ready {
            // Whoever is gone takes nothing any more.
            if !joining.queue.is_abandoned() && joining.joined.send(state.seen.clone()).is_ok() {
                state.add(&joining.filter, &joining.queue);
            }
        }
    }

    /// Ends every subscription behind what waits for it.
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
    /// Whether anyone reads what there is. For those who have not yet heard that they were too slow it need not be polled_at at
    /// at once.
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
        // Where everyone sleeps nothing is made for anyone. The first who does not is found first, as a rule.
        if self.to_user.is_empty() && hearing.all(|queue| queue.has_skipped()) {
            let hearing = self.to_all.iter().filter(|queue| hears(queue));
            hearing.for_each(|queue| queue.skip_all(count, cursor));
            return;
        }
        let mut published = samples
            .into_iter()
            .map(|sample| Arc::new(Published::new(sample, budget)));
        loop {
            // What no reader has room for is gone before the next are made.
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

/// The same ranges, ascending, those that meet as one.
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
