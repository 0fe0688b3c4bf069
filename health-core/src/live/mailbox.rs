//! What waits for one subscriber. Bounded: what does not fit is counted, and told where it is missing.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;

use crate::{
    live::{
        budget::{Budget, Share},
        event::{LiveEvent, Published},
        held::{Held, Parcel},
    },
    sample::Sample,
    wire::Cursor,
};

/// The place where events wait. One subscription takes, the courier and one replay put.
#[derive(Debug)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    room: Notify,
    capacity: usize,
    /// Our own commits handed over up to then were there before it.
    since: u64,
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, in any combination"
)]
struct State {
    first: Option<LiveEvent>,
    /// From the table; before what waits.
    replayed: Held,
    waiting: Held,
    /// What the last tick brought to a reader who wants the newest.
    ready: VecDeque<LiveEvent>,
    /// What waits has to wait until the last was replayed.
    replaying: bool,
    /// What was skipped since the last event that waits, and where that began.
    skipped: Option<(u64, Cursor)>,
    touched: bool,
    closed: bool,
    abandoned: bool,
    reader: Option<Waker>,
    /// What the queues take.
    share: Share,
}

/// Samples of a replay that wait for the reader before more are put in; and the most that are put in at once.
pub(crate) const REPLAY_AHEAD: usize = 128;

impl Mailbox {
    /// Room for `capacity` samples; what was handed over up to `since` is not for it.
    pub(crate) fn new(capacity: usize, since: u64, budget: &Arc<Budget>) -> Self {
        let state = State {
            first: None,
            replayed: Held::default(),
            waiting: Held::default(),
            ready: VecDeque::new(),
            replaying: false,
            skipped: None,
            touched: false,
            closed: false,
            abandoned: false,
            reader: None,
            share: Share::new(budget, 0),
        };
        Self {
            state: Mutex::new(state),
            room: Notify::new(),
            capacity,
            since,
        }
    }

    /// From now on, only the newest sample of each user waits.
    pub(crate) fn keep_newest(&self) {
        let mut state = self.lock();
        state.replayed.keep_newest();
        state.waiting.keep_newest();
        state.recount();
    }

    /// Whether a commit is for it that was the `place`th to be handed over.
    pub(crate) fn hears(&self, place: u64) -> bool {
        place > self.since
    }

    /// Puts samples in, as far as there is room. Never waits. True for the first time since [`Self::settle`].
    pub(crate) fn put(&self, cursor: &Cursor, parcel: &Parcel) -> bool {
        let mut state = self.lock();
        // Once something was skipped, nothing may overtake the notice of it, and the reader knows that one waits.
        if state.skipped.is_some() {
            state.skip(parcel.len(), cursor);
            return false;
        }
        let skipped = state.waiting.push(parcel, cursor, self.capacity);
        if skipped > 0 {
            state.skip(skipped, cursor);
        }
        state.recount();
        !std::mem::replace(&mut state.touched, true)
    }

    /// Whether all that is put in is skipped, until the reader has heard of it.
    pub(crate) fn has_skipped(&self) -> bool {
        self.lock().skipped.is_some()
    }

    /// Skips samples, whatever they are.
    pub(crate) fn pass_over(&self, count: usize, cursor: &Cursor) {
        let mut state = self.lock();
        state.skip(count, cursor);
        wake(state);
    }

    /// How many samples wait that [`Self::shed`] would skip.
    pub(crate) fn behind(&self) -> usize {
        let state = self.lock();
        state.ready.len() + state.waiting.len()
    }

    /// Skips what waits, but for what is replayed: there is no memory for it any more.
    pub(crate) fn shed(&self) {
        let mut state = self.lock();
        // In the order in which they lie in the stream.
        let later = state.skipped.take();
        for event in std::mem::take(&mut state.ready) {
            match event {
                LiveEvent::Sample { cursor, .. } => state.skip(1, &cursor),
                LiveEvent::Lagged { missed, cursor } => state.skip_more(missed, &cursor),
                LiveEvent::Subscribed { .. } => {}
            }
        }
        if let Some(since) = state.waiting.since().cloned() {
            let count = state.waiting.len();
            state.skip(count, &since);
            state.waiting.clear();
        }
        if let Some((missed, cursor)) = later {
            state.skip_more(missed, &cursor);
        }
        state.recount();
        wake(state);
    }

    /// Wakes the reader. `after` is where the stream stands behind all that was put in, where that is known.
    pub(crate) fn settle(&self, after: Option<&Cursor>) {
        let mut state = self.lock();
        state.touched = false;
        if let Some(after) = after
            && state.skipped.is_none()
        {
            state.waiting.settle(after);
        }
        // Whoever wants the newest has a clock.
        if matches!(state.waiting, Held::All { .. }) {
            wake(state);
        }
    }

    /// Nothing but a replay is taken from now on.
    pub(crate) fn begin_replay(&self) {
        let mut state = self.lock();
        state.waiting.clear();
        state.ready.clear();
        state.skipped = None;
        state.replaying = true;
        state.recount();
    }

    /// Says something before all samples.
    pub(crate) fn announce(&self, event: LiveEvent) {
        let mut state = self.lock();
        state.first = Some(event);
        wake(state);
    }

    /// Resolves once there is room for samples of a replay.
    pub(crate) async fn room(&self) {
        while !self.lock().has_room(self.capacity) {
            self.room.notified().await;
        }
    }

    /// Puts replayed samples in, [`REPLAY_AHEAD`] at most, once there is [`room`](Self::room).
    pub(crate) fn replay(&self, cursor: &Cursor, samples: impl Iterator<Item = Sample>) {
        let mut state = self.lock();
        let samples = samples.map(|sample| Arc::new(Published::new(sample, state.share.budget())));
        let parcel = Parcel::Many(samples.collect());
        state.replayed.push(&parcel, cursor, usize::MAX);
        state.recount();
        wake(state);
    }

    /// All was replayed up to a place.
    pub(crate) fn has_replayed(&self, up_to: &Cursor) {
        self.lock().replayed.settle(up_to);
    }

    /// All was replayed: what waited meanwhile is taken from now on.
    pub(crate) fn end_replay(&self) {
        let mut state = self.lock();
        state.replaying = false;
        wake(state);
    }

    /// The next event, in order; `Ready(None)` after the end.
    pub(crate) fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<LiveEvent>> {
        let mut state = self.lock();
        let taken = state.take();
        if taken.is_pending() {
            state.reader = Some(context.waker().clone());
        }
        self.make_room(&mut state);
        taken
    }

    /// The next event if one waits.
    pub(crate) fn try_take(&self) -> Poll<Option<LiveEvent>> {
        let mut state = self.lock();
        let taken = state.take();
        self.make_room(&mut state);
        taken
    }

    /// The next event for a reader who wants the newest: what the last tick brought. `Ready(None)` after the end.
    pub(crate) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Option<LiveEvent>> {
        let mut state = self.lock();
        let mut event = state.pop_ready();
        if event.is_none() && state.closed {
            // The last tick.
            state.tick();
            event = state.pop_ready();
            return Poll::Ready(event);
        }
        if event.is_none() {
            state.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(event)
    }

    /// The same if one waits.
    pub(crate) fn try_ready(&self) -> Option<LiveEvent> {
        self.lock().pop_ready()
    }

    /// Makes the newest sample of each user ready who has one, and what was skipped. The queue of those is empty then.
    pub(crate) fn tick(&self) {
        let mut state = self.lock();
        state.tick();
        self.make_room(&mut state);
    }

    /// Whether nothing waits, and nothing is being replayed.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        let empty = state.waiting.len() == 0 && state.replayed.len() == 0 && state.ready.is_empty();
        empty && state.first.is_none() && state.skipped.is_none() && !state.replaying
    }

    /// Ends it, behind what waits.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        wake(state);
    }

    /// Nobody will ever take from it again.
    pub(crate) fn abandon(&self) {
        self.lock().abandoned = true;
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }

    /// What was taken may be room for a replay.
    fn make_room(&self, state: &mut State) {
        state.recount();
        if state.replaying && state.has_room(self.capacity) {
            self.room.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete when it is released, also by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the reader, once the lock is released.
fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

impl State {
    /// Whether more of a replay may be put in. Where only the newest are kept, a whole backlog comes down to them.
    fn has_room(&self, capacity: usize) -> bool {
        let most = match &self.replayed {
            Held::Newest(_) if !self.share.budget().is_tight() => capacity,
            Held::Newest(_) | Held::All { .. } => REPLAY_AHEAD,
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
        self.share.resize(self.replayed.bytes() + self.waiting.bytes() + ready);
    }

    fn pop_ready(&mut self) -> Option<LiveEvent> {
        let event = self.first.take().or_else(|| self.ready.pop_front());
        if self.ready.is_empty() && self.ready.capacity() > 0 {
            self.ready = VecDeque::new();
            self.recount();
        }
        event
    }

    fn tick(&mut self) {
        let mut newest = self.replayed.take_newest();
        if !self.replaying {
            let live = self.waiting.take_newest();
            newest.by_user.extend(live.by_user);
            newest.since = newest.since.or(live.since);
            newest.until = live.until.or(newest.until);
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
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let mut sample = self.replayed.pop();
        if sample.is_none() && !self.replaying {
            sample = self.waiting.pop();
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
        Arc::new(Published::new(sample, &Budget::new(0)))
    }

    fn many(count: i64) -> Parcel {
        Parcel::Many((1..=count).map(published).collect())
    }

    fn tell(event: LiveEvent) -> String {
        match event {
            LiveEvent::Sample { cursor, published } => format!("{cursor}:{}", published.sample().user_id()),
            LiveEvent::Lagged { missed, cursor } => format!("lagged {missed} from {cursor}"),
            LiveEvent::Subscribed { resumed, .. } => format!("subscribed {resumed}"),
        }
    }

    fn drain(mailbox: &Mailbox) -> Vec<String> {
        let mut told = Vec::new();
        while let Poll::Ready(Some(event)) = mailbox.try_take() {
            told.push(tell(event));
        }
        told
    }

    fn cursor(text: &str) -> Cursor {
        Cursor::new(text)
    }

    #[test]
    fn what_does_not_fit_is_counted_and_marked_where_it_is_missing() {
        let mailbox = Mailbox::new(3, 0, &Budget::new(0));
        mailbox.put(&cursor("a"), &many(2));
        mailbox.settle(Some(&cursor("b")));
        mailbox.put(&cursor("b"), &many(4));
        mailbox.settle(Some(&cursor("c")));
        mailbox.put(&cursor("c"), &many(1));
        assert_eq!(drain(&mailbox), ["a:1", "b:2", "b:1", "lagged 4 from b"]);
        mailbox.put(&cursor("d"), &Parcel::One(published(7)));
        mailbox.close();
        assert_eq!(drain(&mailbox), ["d:7"]);
        assert!(matches!(mailbox.try_take(), Poll::Ready(None)));
    }

    #[test]
    fn what_is_live_waits_for_the_end_of_the_replay() {
        let mailbox = Mailbox::new(10, 0, &Budget::new(0));
        mailbox.begin_replay();
        mailbox.put(&cursor("live"), &many(1));
        let old = cursor("old");
        assert!(mailbox.room().now_or_never().is_some());
        mailbox.replay(&old, std::iter::once(published(5).sample().clone()));
        assert_eq!(drain(&mailbox), ["old:5"]);
        assert!(!mailbox.is_idle());
        mailbox.end_replay();
        assert_eq!(drain(&mailbox), ["live:1"]);
        assert!(mailbox.is_idle());
    }

    #[test]
    fn the_newest_of_each_user_is_kept_and_cursors_lose_nothing() {
        let mailbox = Mailbox::new(3, 0, &Budget::new(0));
        mailbox.keep_newest();
        for (before, after, users) in [("a", "b", 2), ("b", "c", 3)] {
            mailbox.put(&cursor(before), &many(users));
            mailbox.settle(Some(&cursor(after)));
        }
        let told = |mailbox: &Mailbox| {
            mailbox.tick();
            std::iter::from_fn(|| mailbox.try_ready()).map(tell).collect::<Vec<_>>()
        };
        assert_eq!(told(&mailbox), ["a:1", "a:2", "c:3"]);
        assert!(told(&mailbox).is_empty());
        mailbox.put(&cursor("c"), &many(4));
        assert_eq!(told(&mailbox), ["c:1", "c:2", "c:3", "lagged 1 from c"]);
    }

    #[test]
    fn whoever_has_to_make_room_is_told_of_all_of_it_from_the_first_on() {
        let mailbox = Mailbox::new(4, 0, &Budget::new(0));
        for (before, users) in [("a", 2), ("b", 3)] {
            mailbox.put(&cursor(before), &many(users));
        }
        mailbox.settle(Some(&cursor("c")));
        let taken = mailbox.try_take().map(|event| event.map(tell));
        assert_eq!(taken, Poll::Ready(Some("a:1".to_owned())));
        assert_eq!(mailbox.behind(), 3);
        mailbox.shed();
        mailbox.put(&cursor("c"), &many(1));
        assert_eq!(drain(&mailbox), ["lagged 5 from a"]);

        let mailbox = Mailbox::new(4, 0, &Budget::new(0));
        mailbox.keep_newest();
        mailbox.put(&cursor("a"), &many(3));
        mailbox.settle(Some(&cursor("b")));
        mailbox.tick();
        mailbox.put(&cursor("b"), &many(2));
        assert_eq!(mailbox.try_ready().map(tell).unwrap(), "a:1");
        mailbox.shed();
        mailbox.tick();
        assert_eq!(mailbox.try_ready().map(tell).unwrap(), "lagged 4 from a");
        assert!(mailbox.try_ready().is_none());
    }

    #[test]
    fn what_waits_is_counted_and_given_back() {
        let budget = Budget::new(0);
        let published = |user| Arc::new(Published::new(published(user).sample().clone(), &budget));
        for newest in [false, true] {
            let mailbox = Mailbox::new(10_000, 0, &budget);
            if newest {
                mailbox.keep_newest();
            }
            for user in 1..=5000 {
                mailbox.put(&cursor("a"), &Parcel::One(published(user)));
            }
            assert!(budget.is_spent());
            mailbox.tick();
            assert!(budget.is_spent());
            drain(&mailbox);
            while mailbox.try_ready().is_some() {}
            assert!(!budget.is_spent());
            mailbox.put(&cursor("b"), &Parcel::One(published(1)));
            drop(mailbox);
            assert!(!budget.is_spent());
        }
    }
}
