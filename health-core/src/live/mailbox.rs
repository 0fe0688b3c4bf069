//! What waits for one subscriber. Bounded: what does not fit is counted, and told where it is missing.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;

use crate::{
    live::event::{LiveEvent, Published},
    sample::{Sample, UserId},
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

/// What the courier puts in at once.
#[derive(Debug, Clone)]
pub(crate) enum Parcel {
    /// A whole commit, the same for everyone who hears of all users.
    Many(Arc<[Arc<Published>]>),
    One(Arc<Published>),
}

#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, in any combination"
)]
struct State {
    first: Option<LiveEvent>,
    /// From the table; before what waits.
    replayed: Held,
    waiting: Held,
    /// What waits has to wait until the last was replayed.
    replaying: bool,
    /// What was skipped since the last event that waits, and where that began.
    skipped: Option<(u64, Cursor)>,
    touched: bool,
    closed: bool,
    abandoned: bool,
    reader: Option<Waker>,
}

/// Samples in their order, or only the newest of each user.
#[derive(Debug)]
enum Held {
    All { parcels: VecDeque<Waiting>, samples: usize },
    Newest(Newest),
}

#[derive(Debug, Default)]
struct Newest {
    by_user: BTreeMap<UserId, Arc<Published>>,
    /// Where the stream stood before the first of them.
    since: Option<Cursor>,
    /// Where it stands behind all of them, if that is known.
    until: Option<Cursor>,
}

#[derive(Debug)]
struct Waiting {
    parcel: Parcel,
    next: usize,
    end: usize,
    cursor: Cursor,
    /// Of the last sample in it, where that is known to be the last before it.
    last: Option<Cursor>,
}

/// Samples of a replay that wait for the reader, at most, before the next are fetched.
const REPLAY_AHEAD: usize = 512;

impl Mailbox {
    /// Room for `capacity` samples; what was handed over up to `since` is not for it.
    pub(crate) fn new(capacity: usize, since: u64) -> Self {
        Self {
            state: Mutex::default(),
            room: Notify::new(),
            capacity,
            since,
        }
    }

    /// From now on, only the newest sample of each user waits.
    pub(crate) fn keep_newest(&self) {
        let state = &mut *self.lock();
        for held in [&mut state.replayed, &mut state.waiting] {
            let mut newest = Newest::default();
            while let Some((cursor, published)) = held.pop() {
                newest.since.get_or_insert(cursor);
                newest.by_user.insert(published.sample().user_id(), published);
            }
            *held = Held::Newest(newest);
        }
    }

    /// Whether a commit is for it that was the `place`th to be handed over.
    pub(crate) fn hears(&self, place: u64) -> bool {
        place > self.since
    }

    /// Puts samples in, as far as there is room. Never waits. True for the first time since [`Self::settle`].
    pub(crate) fn put(&self, cursor: &Cursor, parcel: &Parcel) -> bool {
        let mut state = self.lock();
        // Once something was skipped, nothing may overtake the notice of it.
        let capacity = if state.skipped.is_some() { 0 } else { self.capacity };
        let skipped = state.waiting.push(parcel, cursor, capacity);
        if skipped > 0 {
            let more = u64::try_from(skipped).unwrap_or(u64::MAX);
            let (before, since) = state.skipped.take().unwrap_or_else(|| (0, cursor.clone()));
            state.skipped = Some((before.saturating_add(more), since));
        }
        !std::mem::replace(&mut state.touched, true)
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
        state.skipped = None;
        state.replaying = true;
    }

    /// Says something before all samples.
    pub(crate) fn announce(&self, event: LiveEvent) {
        let mut state = self.lock();
        state.first = Some(event);
        wake(state);
    }

    /// Puts replayed samples in once there is room.
    pub(crate) async fn replay(&self, cursor: &Cursor, samples: Vec<Sample>) {
        if samples.is_empty() {
            return;
        }
        loop {
            {
                let mut state = self.lock();
                let most = match &state.replayed {
                    Held::All { .. } => REPLAY_AHEAD,
                    Held::Newest(_) => self.capacity,
                };
                if state.replayed.len() < most {
                    let samples = samples.into_iter().map(|sample| Arc::new(Published::new(sample)));
                    let parcel = Parcel::Many(samples.collect());
                    state.replayed.push(&parcel, cursor, usize::MAX);
                    return wake(state);
                }
            }
            self.room.notified().await;
        }
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
        self.make_room(&state);
        taken
    }

    /// The next event if one waits.
    pub(crate) fn try_take(&self) -> Poll<Option<LiveEvent>> {
        let mut state = self.lock();
        let taken = state.take();
        self.make_room(&state);
        taken
    }

    /// What was said before all samples, or the end. Samples wait for [`Self::take_newest`].
    pub(crate) fn poll_first(&self, context: &mut Context<'_>) -> Poll<Option<LiveEvent>> {
        let mut state = self.lock();
        if let Some(first) = state.first.take() {
            return Poll::Ready(Some(first));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// The newest sample of each user who has one, and what was skipped.
    pub(crate) fn take_newest(&self) -> VecDeque<LiveEvent> {
        let mut state = self.lock();
        let mut newest = state.replayed.take_newest();
        if !state.replaying {
            let live = state.waiting.take_newest();
            newest.by_user.extend(live.by_user);
            newest.since = newest.since.or(live.since);
            newest.until = live.until.or(newest.until);
        }
        let mut events = VecDeque::new();
        if let Some(since) = newest.since {
            events.extend(newest.by_user.into_values().map(|published| LiveEvent::Sample {
                cursor: since.clone(),
                published,
            }));
        }
        if let (Some(LiveEvent::Sample { cursor, .. }), Some(until)) = (events.back_mut(), newest.until) {
            *cursor = until;
        }
        if !state.replaying
            && let Some((missed, cursor)) = state.skipped.take()
        {
            events.push_back(LiveEvent::Lagged { missed, cursor });
        }
        self.make_room(&state);
        events
    }

    /// Whether nothing waits, and nothing is being replayed.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        let empty = state.waiting.len() == 0 && state.replayed.len() == 0;
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

    fn make_room(&self, state: &State) {
        if state.replaying && state.replayed.len() < REPLAY_AHEAD {
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

impl Parcel {
    fn len(&self) -> usize {
        match self {
            Self::Many(samples) => samples.len(),
            Self::One(_) => 1,
        }
    }

    fn get(&self, place: usize) -> &Arc<Published> {
        match self {
            Self::Many(samples) => &samples[place],
            Self::One(sample) => sample,
        }
    }
}

impl State {
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

impl Default for Held {
    fn default() -> Self {
        Self::All {
            parcels: VecDeque::new(),
            samples: 0,
        }
    }
}

impl Held {
    /// Takes what fits, and says how many did not.
    fn push(&mut self, parcel: &Parcel, cursor: &Cursor, capacity: usize) -> usize {
        match self {
            Self::All { parcels, samples } => {
                let fit = parcel.len().min(capacity.saturating_sub(*samples));
                if fit > 0 {
                    *samples += fit;
                    parcels.push_back(Waiting {
                        parcel: parcel.clone(),
                        next: 0,
                        end: fit,
                        cursor: cursor.clone(),
                        last: None,
                    });
                }
                parcel.len() - fit
            }
            Self::Newest(newest) => {
                let mut skipped = 0;
                for place in 0..parcel.len() {
                    let published = parcel.get(place);
                    let user = published.sample().user_id();
                    if newest.by_user.len() < capacity || (capacity > 0 && newest.by_user.contains_key(&user)) {
                        newest.since.get_or_insert_with(|| cursor.clone());
                        newest.by_user.insert(user, Arc::clone(published));
                    } else {
                        skipped += 1;
                    }
                }
                skipped
            }
        }
    }

    fn pop(&mut self) -> Option<(Cursor, Arc<Published>)> {
        let Self::All { parcels, samples } = self else {
            return None;
        };
        let front = parcels.front_mut()?;
        let published = Arc::clone(front.parcel.get(front.next));
        front.next += 1;
        *samples -= 1;
        if front.next < front.end {
            return Some((front.cursor.clone(), published));
        }
        let Waiting { cursor, last, .. } = parcels.pop_front()?;
        Some((last.unwrap_or(cursor), published))
    }

    fn settle(&mut self, after: &Cursor) {
        match self {
            Self::All { parcels, .. } => {
                if let Some(back) = parcels.back_mut() {
                    back.last = Some(after.clone());
                }
            }
            Self::Newest(newest) => newest.until = Some(after.clone()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::All { samples, .. } => *samples,
            Self::Newest(newest) => newest.by_user.len(),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::All { .. } => *self = Self::default(),
            Self::Newest(newest) => *newest = Newest::default(),
        }
    }

    fn take_newest(&mut self) -> Newest {
        match self {
            Self::All { .. } => Newest::default(),
            Self::Newest(newest) => std::mem::take(newest),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::sample::{HeartRate, Readings, Source};

    fn published(user: i64) -> Arc<Published> {
        let readings = Readings {
            heart_rate: HeartRate::new(60.0).ok(),
            ..Readings::default()
        };
        let user = UserId::new(user).unwrap();
        let sample = Sample::new(user, Sample::EARLIEST, Source::default(), readings).unwrap();
        Arc::new(Published::new(sample))
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
        let mailbox = Mailbox::new(3, 0);
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
        let mailbox = Mailbox::new(10, 0);
        mailbox.begin_replay();
        mailbox.put(&cursor("live"), &many(1));
        let old = cursor("old");
        let replay = mailbox.replay(&old, vec![published(5).sample().clone()]);
        assert!(replay.now_or_never().is_some());
        assert_eq!(drain(&mailbox), ["old:5"]);
        assert!(!mailbox.is_idle());
        mailbox.end_replay();
        assert_eq!(drain(&mailbox), ["live:1"]);
        assert!(mailbox.is_idle());
    }

    #[test]
    fn the_newest_of_each_user_is_kept_and_cursors_lose_nothing() {
        let mailbox = Mailbox::new(3, 0);
        mailbox.keep_newest();
        for (before, after, users) in [("a", "b", 2), ("b", "c", 3)] {
            mailbox.put(&cursor(before), &many(users));
            mailbox.settle(Some(&cursor(after)));
        }
        let told = |mailbox: &Mailbox| mailbox.take_newest().into_iter().map(tell).collect::<Vec<_>>();
        assert_eq!(told(&mailbox), ["a:1", "a:2", "c:3"]);
        assert!(told(&mailbox).is_empty());
        mailbox.put(&cursor("c"), &many(4));
        assert_eq!(told(&mailbox), ["c:1", "c:2", "c:3", "lagged 1 from c"]);
    }
}
