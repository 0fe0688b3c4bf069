//! The bounded queue of one subscriber. Samples that do not fit are counted, and the subscriber is told.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::{
    live::{
        budget::{BudgetShare, MemoryBudget},
        event::{LiveEvent, Published},
        pending::{Chunk, Pending},
    },
    sample::Sample,
    wire::Cursor,
};

/// A queue of events. One subscription takes from it; the poller and one replay put into it.
#[derive(Debug)]
pub(crate) struct SubscriberQueue {
    state: Mutex<QueueState>,
    replay_space: Notify,
    capacity: usize,
    /// The number of handed-over commits when the queue was opened. Those commits are not for this queue.
    opened_after: u64,
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the flags are independent, and all combinations occur"
)]
struct QueueState {
    announcement: Option<LiveEvent>,
    /// Samples from a replay. They come before the live ones.
    replayed: Pending,
    live: Pending,
    /// Samples of the last tick, if the subscriber wants only the newest of each user.
    ready: VecDeque<LiveEvent>,
    /// Whether live samples must wait for the end of the replay.
    replaying: bool,
    /// The number of samples skipped after the last waiting one, and the cursor before the first of them.
    skipped: Option<(u64, Cursor)>,
    touched: bool,
    closed: bool,
    abandoned: bool,
    waker: Option<Waker>,
    /// The memory of the queues.
    share: BudgetShare,
}

/// The number of replayed samples that may wait in the queue, and the most that are put in at once.
pub(crate) const REPLAY_AHEAD: usize = 128;

impl SubscriberQueue {
    /// Creates a queue for `capacity` live samples, which ignores the first `opened_after` handed-over commits.
    pub(crate) fn new(capacity: usize, opened_after: u64, budget: &Arc<MemoryBudget>) -> Self {
        let state = QueueState {
            announcement: None,
            replayed: Pending::default(),
            live: Pending::default(),
            ready: VecDeque::new(),
            replaying: false,
            skipped: None,
            touched: false,
            closed: false,
            abandoned: false,
            waker: None,
            share: BudgetShare::new(budget, 0),
        };
        Self {
            state: Mutex::new(state),
            replay_space: Notify::new(),
            capacity,
            opened_after,
        }
    }

    /// Keeps only the newest sample of each user from now on.
    pub(crate) fn keep_newest(&self) {
        let mut state = self.lock();
        state.replayed.keep_newest();
        state.live.keep_newest();
        state.recount();
    }

    /// Returns whether the commit that was handed over as this number is for this queue.
    pub(crate) fn accepts(&self, number: u64) -> bool {
        number > self.opened_after
    }

    /// Adds as many samples as fit, without waiting. Returns true at the first call since [`Self::end_poll`].
    pub(crate) fn push(&self, cursor: &Cursor, chunk: &Chunk) -> bool {
        let mut state = self.lock();
        // After a skipped sample no other may enter before the subscriber has been told. The subscriber is
        // already awake.
        if state.skipped.is_some() {
            state.skip(chunk.len(), cursor);
            return false;
        }
        let skipped = state.live.push(chunk, cursor, self.capacity);
        if skipped > 0 {
            state.skip(skipped, cursor);
        }
        state.recount();
        !std::mem::replace(&mut state.touched, true)
    }

    /// Returns whether all new samples are skipped until the subscriber has been told.
    pub(crate) fn has_skipped(&self) -> bool {
        self.lock().skipped.is_some()
    }

    /// Counts samples as skipped.
    pub(crate) fn skip_all(&self, count: usize, cursor: &Cursor) {
        let mut state = self.lock();
        state.skip(count, cursor);
        wake(state);
    }

    /// Returns how many samples [`Self::discard_live`] would skip.
    pub(crate) fn live_len(&self) -> usize {
        let state = self.lock();
        state.ready.len() + state.live.len()
    }

    /// Skips all live samples, to free memory. Replayed samples stay.
    pub(crate) fn discard_live(&self) {
        let mut state = self.lock();
        // The count starts at the earliest position: ready samples, then live ones, then those skipped before.
        let later = state.skipped.take();
        for event in std::mem::take(&mut state.ready) {
            match event {
                LiveEvent::Sample { cursor, .. } => state.skip(1, &cursor),
                LiveEvent::Lagged { missed, cursor } => state.skip_more(missed, &cursor),
                LiveEvent::Subscribed { .. } => {}
            }
        }
        if let Some(since) = state.live.since().cloned() {
            let count = state.live.len();
            state.skip(count, &since);
            state.live.clear();
        }
        if let Some((missed, cursor)) = later {
            state.skip_more(missed, &cursor);
        }
        state.recount();
        wake(state);
    }

    /// Wakes the subscriber. `after` is the position after all samples that were added, if it is known.
    pub(crate) fn end_poll(&self, after: Option<&Cursor>) {
        let mut state = self.lock();
        state.touched = false;
        if let Some(after) = after
            && state.skipped.is_none()
        {
            state.live.set_end_cursor(after);
        }
        // A subscriber that wants only the newest samples is woken by its own timer.
        if matches!(state.live, Pending::All { .. }) {
            wake(state);
        }
    }

    /// Removes all samples, and accepts live samples only for after the replay.
    pub(crate) fn begin_replay(&self) {
        let mut state = self.lock();
        state.live.clear();
        state.ready.clear();
        state.skipped = None;
        state.replaying = true;
        state.recount();
    }

    /// Adds an event in front of all samples.
    pub(crate) fn announce(&self, event: LiveEvent) {
        let mut state = self.lock();
        state.announcement = Some(event);
        wake(state);
    }

    /// Waits until there is space for replayed samples.
    pub(crate) async fn replay_space(&self) {
        while !self.lock().has_replay_space(self.capacity) {
            self.replay_space.notified().await;
        }
    }

    /// Adds replayed samples, at most [`REPLAY_AHEAD`]. Call [`replay_space`](Self::replay_space) first.
    pub(crate) fn push_replayed(&self, cursor: &Cursor, samples: impl Iterator<Item = Sample>) {
        let mut state = self.lock();
        let samples = samples.map(|sample| Arc::new(Published::new(sample, state.share.budget())));
        let chunk = Chunk::Shared(samples.collect());
        state.replayed.push(&chunk, cursor, usize::MAX);
        state.recount();
        wake(state);
    }

    /// Sets the position up to which all was replayed.
    pub(crate) fn set_replayed_up_to(&self, up_to: &Cursor) {
        self.lock().replayed.set_end_cursor(up_to);
    }

    /// Ends the replay: live samples are taken from now on.
    pub(crate) fn end_replay(&self) {
        let mut state = self.lock();
        state.replaying = false;
        wake(state);
    }

    /// Polls for the next event in order. `Ready(None)` means the end.
    pub(crate) fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<LiveEvent>> {
        let mut state = self.lock();
        let taken = state.take();
        if taken.is_pending() {
            state.waker = Some(context.waker().clone());
        }
        self.notify_replay_space(&mut state);
        taken
    }

    /// Returns the next event if there is one.
    pub(crate) fn try_take(&self) -> Poll<Option<LiveEvent>> {
        let mut state = self.lock();
        let taken = state.take();
        self.notify_replay_space(&mut state);
        taken
    }

    /// Polls for the next event of the last tick. `Ready(None)` means the end.
    pub(crate) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Option<LiveEvent>> {
        let mut state = self.lock();
        let mut event = state.pop_ready();
        if event.is_none() && state.closed {
            // The last samples are delivered without waiting for the next tick.
            state.tick();
            event = state.pop_ready();
            return Poll::Ready(event);
        }
        if event.is_none() {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(event)
    }

    /// Returns the next event of the last tick if there is one.
    pub(crate) fn try_ready(&self) -> Option<LiveEvent> {
        self.lock().pop_ready()
    }

    /// Moves the newest samples, and the count of skipped ones, to the ready events.
    pub(crate) fn tick(&self) {
        let mut state = self.lock();
        state.tick();
        self.notify_replay_space(&mut state);
    }

    /// Returns whether nothing waits and no replay is running.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        let empty = state.live.len() == 0 && state.replayed.len() == 0 && state.ready.is_empty();
        empty && state.announcement.is_none() && state.skipped.is_none() && !state.replaying
    }

    /// Ends the queue after the events that wait.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        wake(state);
    }

    /// Marks the queue as having no subscriber any more.
    pub(crate) fn abandon(&self) {
        self.lock().abandoned = true;
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }

    /// Wakes the replay if there is space again.
    fn notify_replay_space(&self, state: &mut QueueState) {
        state.recount();
        if state.replaying && state.has_replay_space(self.capacity) {
            self.replay_space.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock()
    }
}

/// Wakes the subscriber after the lock is released.
fn wake(mut state: MutexGuard<'_, QueueState>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl QueueState {
    /// Returns whether replayed samples may be added. If only the newest are kept, they replace each other, so
    /// more may.
    fn has_replay_space(&self, capacity: usize) -> bool {
        let most = match &self.replayed {
            Pending::NewestPerUser(_) if !self.share.budget().is_tight() => capacity,
            Pending::NewestPerUser(_) | Pending::All { .. } => REPLAY_AHEAD,
        };
        self.replayed.len() < most
    }

    fn skip(&mut self, count: usize, cursor: &Cursor) {
        self.skip_more(u64::try_from(count).unwrap_or(u64::MAX), cursor);
    }

    fn skip_more(&mut self, more: u64, cursor: &Cursor) {
        let (before, since) = self.skipped.take().unwrap_or_else(|| (0, cursor.clone()));
        self.skipped = Some((before.saturating_add(more), since));
    }

    fn recount(&mut self) {
        let ready = self.ready.capacity() * size_of::<LiveEvent>();
        self.share.resize(self.replayed.bytes() + self.live.bytes() + ready);
    }

    fn pop_ready(&mut self) -> Option<LiveEvent> {
        let event = self.announcement.take().or_else(|| self.ready.pop_front());
        if self.ready.is_empty() && self.ready.capacity() > 0 {
            self.ready = VecDeque::new();
            self.recount();
        }
        event
    }

    fn tick(&mut self) {
        let mut newest = self.replayed.take_newest();
        if !self.replaying {
            let newest_live = self.live.take_newest();
            newest.by_user.extend(newest_live.by_user);
            newest.since = newest.since.or(newest_live.since);
            newest.until = newest_live.until.or(newest.until);
        }
        if let Some(since) = newest.since {
            let samples = newest.by_user.into_values();
            self.ready.extend(samples.map(|published| LiveEvent::Sample {
                cursor: since.clone(),
                published,
            }));
        }
        if let (Some(LiveEvent::Sample { cursor, .. }), Some(until)) = (self.ready.back_mut(), newest.until) {
            *cursor = until;
        }
        if !self.replaying
            && let Some((missed, cursor)) = self.skipped.take()
        {
            self.ready.push_back(LiveEvent::Lagged { missed, cursor });
        }
        self.recount();
    }

    fn take(&mut self) -> Poll<Option<LiveEvent>> {
        if let Some(event) = self.announcement.take() {
            return Poll::Ready(Some(event));
        }
        let mut sample = self.replayed.pop();
        if sample.is_none() && !self.replaying {
            sample = self.live.pop();
        }
        if let Some((cursor, published)) = sample {
            return Poll::Ready(Some(LiveEvent::Sample { cursor, published }));
        }
        if !self.replaying
            && let Some((missed, cursor)) = self.skipped.take()
        {
            return Poll::Ready(Some(LiveEvent::Lagged { missed, cursor }));
        }
        if self.closed { Poll::Ready(None) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::sample::{HeartRate, Readings, Source, UserId};

    fn published(user: i64) -> Arc<Published> {
        let readings = Readings {
            heart_rate: HeartRate::new(60.0).ok(),
            ..Readings::default()
        };
        let user = UserId::new(user).unwrap();
        let sample = Sample::new(user, Sample::EARLIEST, Source::default(), readings).unwrap();
        Arc::new(Published::new(sample, &MemoryBudget::new(0)))
    }

    fn many(count: i64) -> Chunk {
        Chunk::Shared((1..=count).map(published).collect())
    }

    fn describe(event: LiveEvent) -> String {
        match event {
            LiveEvent::Sample { cursor, published } => format!("{cursor}:{}", published.sample().user_id()),
            LiveEvent::Lagged { missed, cursor } => format!("lagged {missed} from {cursor}"),
            LiveEvent::Subscribed { resumed, .. } => format!("subscribed {resumed}"),
        }
    }

    fn drain(queue: &SubscriberQueue) -> Vec<String> {
        let mut events = Vec::new();
        while let Poll::Ready(Some(event)) = queue.try_take() {
            events.push(describe(event));
        }
        events
    }

    fn cursor(text: &str) -> Cursor {
        Cursor::new(text)
    }

    #[test]
    fn samples_that_do_not_fit_are_counted_and_reported_at_their_position() {
        let queue = SubscriberQueue::new(3, 0, &MemoryBudget::new(0));
        queue.push(&cursor("a"), &many(2));
        queue.end_poll(Some(&cursor("b")));
        queue.push(&cursor("b"), &many(4));
        queue.end_poll(Some(&cursor("c")));
        queue.push(&cursor("c"), &many(1));
        assert_eq!(drain(&queue), ["a:1", "b:2", "b:1", "lagged 4 from b"]);
        queue.push(&cursor("d"), &Chunk::One(published(7)));
        queue.close();
        assert_eq!(drain(&queue), ["d:7"]);
        assert!(matches!(queue.try_take(), Poll::Ready(None)));
    }

    #[test]
    fn live_samples_wait_for_the_end_of_the_replay() {
        let queue = SubscriberQueue::new(10, 0, &MemoryBudget::new(0));
        queue.begin_replay();
        queue.push(&cursor("live"), &many(1));
        let old = cursor("old");
        assert!(queue.replay_space().now_or_never().is_some());
        queue.push_replayed(&old, std::iter::once(published(5).sample().clone()));
        assert_eq!(drain(&queue), ["old:5"]);
        assert!(!queue.is_idle());
        queue.end_replay();
        assert_eq!(drain(&queue), ["live:1"]);
        assert!(queue.is_idle());
    }

    #[test]
    fn only_the_newest_sample_of_each_user_is_kept_and_cursors_lose_nothing() {
        let queue = SubscriberQueue::new(3, 0, &MemoryBudget::new(0));
        queue.keep_newest();
        for (before, after, users) in [("a", "b", 2), ("b", "c", 3)] {
            queue.push(&cursor(before), &many(users));
            queue.end_poll(Some(&cursor(after)));
        }
        let take_tick = |queue: &SubscriberQueue| {
            queue.tick();
            std::iter::from_fn(|| queue.try_ready())
                .map(describe)
                .collect::<Vec<_>>()
        };
        assert_eq!(take_tick(&queue), ["a:1", "a:2", "c:3"]);
        assert!(take_tick(&queue).is_empty());
        queue.push(&cursor("c"), &many(4));
        assert_eq!(take_tick(&queue), ["c:1", "c:2", "c:3", "lagged 1 from c"]);
    }

    #[test]
    fn discarded_samples_are_reported_with_the_cursor_before_the_first() {
        let queue = SubscriberQueue::new(4, 0, &MemoryBudget::new(0));
        for (before, users) in [("a", 2), ("b", 3)] {
            queue.push(&cursor(before), &many(users));
        }
        queue.end_poll(Some(&cursor("c")));
        let taken = queue.try_take().map(|event| event.map(describe));
        assert_eq!(taken, Poll::Ready(Some("a:1".to_owned())));
        assert_eq!(queue.live_len(), 3);
        queue.discard_live();
        queue.push(&cursor("c"), &many(1));
        assert_eq!(drain(&queue), ["lagged 5 from a"]);

        let queue = SubscriberQueue::new(4, 0, &MemoryBudget::new(0));
        queue.keep_newest();
        queue.push(&cursor("a"), &many(3));
        queue.end_poll(Some(&cursor("b")));
        queue.tick();
        queue.push(&cursor("b"), &many(2));
        assert_eq!(queue.try_ready().map(describe).unwrap(), "a:1");
        queue.discard_live();
        queue.tick();
        assert_eq!(queue.try_ready().map(describe).unwrap(), "lagged 4 from a");
        assert!(queue.try_ready().is_none());
    }

    #[test]
    fn waiting_samples_count_against_the_budget_until_they_are_taken() {
        let budget = MemoryBudget::new(0);
        let published = |user| Arc::new(Published::new(published(user).sample().clone(), &budget));
        for newest in [false, true] {
            let queue = SubscriberQueue::new(10_000, 0, &budget);
            if newest {
                queue.keep_newest();
            }
            for user in 1..=5000 {
                queue.push(&cursor("a"), &Chunk::One(published(user)));
            }
            assert!(budget.is_exceeded());
            queue.tick();
            assert!(budget.is_exceeded());
            drain(&queue);
            while queue.try_ready().is_some() {}
            assert!(!budget.is_exceeded());
            queue.push(&cursor("b"), &Chunk::One(published(1)));
            drop(queue);
            assert!(!budget.is_exceeded());
        }
    }
}
