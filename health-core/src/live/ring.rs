//! The ring: the committed samples of the last moments, in the order of their commits, shared by all subscribers.
//!
//! The [`poller`](super::poller) delivers each commit once, as [chunks](super::chunk). A subscriber is a *member* of the ring:
//! an index and a filter. It takes samples from the ring when it can, and nothing is copied for it.
//!
//! The ring is bounded in samples and in bytes. When it is full, it evicts its oldest chunk. If a member has not read a
//! sample of that chunk that matches its filter, the member has *fallen off*. From then on the ring counts the samples that
//! the member misses. At its next read the member gets their number (`lagged`). So the memory does not depend on the number
//! of subscribers or on their speed.
//!
//! * Members that named users are woken, and counted, through an [audience] for each named user.
//! * A *paced* member wants the newest sample of each user in every interval. It reads the [newest] table instead, and misses
//!   samples only if that table is full.

mod audience;
mod member;
mod newest;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use slab::Slab;

use crate::{
    config::Limits,
    live::{
        chunk::Chunk,
        cursor::to_cursor,
        event::{LiveEvent, Published},
        filter::Filter,
        ring::{
            audience::{Audience, UserAudience},
            member::{Fall, Member, Pace},
            newest::Newest,
        },
    },
    sample::{Sample, UserId},
    store::commit_log::LogPosition,
    wire::Cursor,
};

/// The samples of the last commits, and who reads them.
#[derive(Debug)]
pub(crate) struct Ring {
    state: Mutex<State>,
    /// How many subscriptions there are. Without any, nothing is kept.
    listeners: AtomicUsize,
    /// How many commits the writers of this server have handed over to the poller.
    handed_over_count: AtomicU64,
    samples_max: usize,
    bytes_max: usize,
}

/// One commit, as the poller delivers it.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// The samples; `None` if they were not kept.
    pub(crate) samples: Option<Vec<Sample>>,
    pub(crate) batch_number: i64,
    /// The position after the commit.
    pub(crate) position: LogPosition,
}

/// The order of a commit that was found in the log, not handed over. It is higher than every
/// [`Member::subscribed_after`], so every member gets the commit.
pub(crate) const READ_BACK: u64 = u64::MAX;

/// An index in the ring, and the position in the commit log that it corresponds to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) position: LogPosition,
    /// The index of the next sample that will be delivered.
    pub(crate) index: u64,
    /// How many gaps there were before it.
    gaps: u64,
    /// How many samples the table of the newest ones had evicted.
    newest_evicted: u64,
}

/// Keeps samples in the ring for a subscription that is not a member yet.
#[derive(Debug)]
pub(crate) struct Listener {
    ring: Arc<Ring>,
    paced: bool,
}

/// A member of the ring, until it is dropped.
#[derive(Debug)]
pub(crate) struct Membership {
    ring: Arc<Ring>,
    id: usize,
}

#[derive(Debug)]
struct State {
    position: LogPosition,
    cursor: Cursor,
    chunks: VecDeque<Arc<Chunk>>,
    /// The memory of the chunks in bytes.
    bytes: usize,
    /// How many samples were ever delivered: the index of the next one.
    delivered: u64,
    /// How many samples members have missed.
    missed: u64,
    members: Slab<Member>,
    /// The members that read the samples of all users.
    everyone: Audience,
    by_user: HashMap<UserId, UserAudience>,
    newest: Newest,
    /// How many subscriptions want the newest samples only.
    paced: usize,
    /// Those of them that have named a user.
    paced_by_user: HashMap<UserId, Vec<usize>>,
    /// Those that have not, and that wait for a sample of any user. Some may be gone.
    waiting_for_turn: Vec<usize>,
    gap: Option<Gap>,
    closed: bool,
    /// The highest [`Member::subscribed_after`].
    subscribed_after_max: u64,
}

/// The history of the database does not continue where it was.
#[derive(Debug)]
struct Gap {
    /// How many gaps there were, with this one.
    count: u64,
    /// The index of the first sample after it.
    index: u64,
    reason: String,
}

/// The most samples of a chunk: a subscriber that holds one sample keeps this many in memory.
const CHUNK_SAMPLES: usize = 512;

/// Up to this number of users in a filter, the next chunk is found through the users' audiences. For longer filters it is
/// faster to look into each chunk.
const INDEXED_USERS: usize = 16;

impl Ring {
    /// Makes an empty ring that continues after a position.
    pub(crate) fn new(position: LogPosition, limits: &Limits) -> Self {
        let state = State {
            position,
            cursor: to_cursor(position),
            chunks: VecDeque::new(),
            bytes: 0,
            delivered: 0,
            missed: 0,
            members: Slab::new(),
            everyone: Audience::default(),
            by_user: HashMap::new(),
            newest: Newest::default(),
            paced: 0,
            paced_by_user: HashMap::new(),
            waiting_for_turn: Vec::new(),
            gap: None,
            closed: false,
            subscribed_after_max: 0,
        };
        Self {
            state: Mutex::new(state),
            listeners: AtomicUsize::new(0),
            handed_over_count: AtomicU64::new(0),
            samples_max: limits.subscriber_queue.max(1),
            bytes_max: limits.subscriber_memory,
        }
    }

    /// Returns the position up to which everything was delivered.
    pub(crate) fn position(&self) -> LogPosition {
        self.state.lock().position
    }

    /// Returns the cursor of [`Self::position`].
    pub(crate) fn cursor(&self) -> Cursor {
        self.state.lock().cursor.clone()
    }

    /// Returns whether there is a subscription.
    pub(crate) fn has_listeners(&self) -> bool {
        self.listeners.load(SeqCst) > 0
    }

    /// Returns how many samples subscribers missed because they read too slowly.
    pub(crate) fn missed(&self) -> u64 {
        self.state.lock().missed
    }

    /// Counts a commit that a writer is about to acknowledge, and returns the new count: the order of the commit.
    pub(crate) fn hand_over(&self) -> u64 {
        self.handed_over_count.fetch_add(1, SeqCst) + 1
    }

    /// Delivers a commit to all members. Does nothing and returns false if its samples are needed and not given.
    ///
    /// `order_of` returns what [`Self::hand_over`] returned for the commit, or [`READ_BACK`]. It is called while no subscriber
    /// can subscribe.
    pub(crate) fn deliver(&self, delivery: Delivery, order_of: impl FnOnce() -> u64) -> bool {
        let mut wakers = Vec::new();
        {
            let state = &mut *self.state.lock();
            // A listener that comes now takes its position from the state after this delivery.
            let has_listeners = self.has_listeners();
            if has_listeners && delivery.samples.is_none() {
                return false;
            }
            let before = state.cursor.clone();
            state.position = delivery.position;
            state.cursor = to_cursor(delivery.position);
            if !has_listeners {
                return true;
            }
            let order = order_of();
            let mut rest = delivery.samples.unwrap_or_default().into_iter();
            let chunk_len = CHUNK_SAMPLES.min(self.samples_max);
            while rest.len() > 0 {
                let samples = rest.by_ref().take(chunk_len).collect();
                let mut chunk = Chunk::new(samples, delivery.batch_number, order, before.clone());
                if rest.len() == 0 {
                    chunk.after = Some(state.cursor.clone());
                }
                state.push(chunk, self.bytes_max / 2, &mut wakers);
                state.evict(self.samples_max, self.bytes_max);
            }
        }
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// Tells all members that samples may be missing, and continues from another position.
    pub(crate) fn continue_after_gap(&self, reason: &str, position: LogPosition) {
        let wakers = {
            let state = &mut *self.state.lock();
            state.position = position;
            state.cursor = to_cursor(position);
            state.gap = Some(Gap {
                count: state.gaps() + 1,
                index: state.delivered,
                reason: reason.to_owned(),
            });
            state.take_wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends every subscription after the samples that it has not read yet.
    pub(crate) fn close(&self) {
        let wakers = {
            let state = &mut *self.state.lock();
            state.closed = true;
            state.take_wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Returns whether [`Self::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Makes a member that reads the commits that are delivered from now on.
    ///
    /// It does not get commits that were acknowledged before this call but are not delivered yet.
    pub(crate) fn subscribe(self: &Arc<Self>, filter: &Filter) -> Membership {
        self.listeners.fetch_add(1, SeqCst);
        let state = &mut *self.state.lock();
        let mut member = Member::new(filter, state.delivered, state.gaps());
        member.subscribed_after = self.handed_over_count.load(SeqCst);
        state.subscribed_after_max = member.subscribed_after;
        Membership {
            ring: Arc::clone(self),
            id: state.add(member),
        }
    }

    /// Keeps samples in the ring until [`Self::join`]; with `paced`, the newest sample of each user.
    pub(crate) fn listen(self: &Arc<Self>, paced: bool) -> Listener {
        self.listeners.fetch_add(1, SeqCst);
        self.state.lock().paced += usize::from(paced);
        Listener {
            ring: Arc::clone(self),
            paced,
        }
    }

    /// Returns the present end of the ring. Later samples can be read by [`Self::chunks_from`] or after [`Self::join`].
    pub(crate) fn mark(&self) -> Mark {
        let state = self.state.lock();
        Mark {
            position: state.position,
            index: state.delivered,
            gaps: state.gaps(),
            newest_evicted: state.newest.evicted(),
        }
    }

    /// Returns up to `limit` chunks from an index on; `None` if the ring does not hold that index any more.
    pub(crate) fn chunks_from(&self, index: u64, limit: usize) -> Option<Vec<Arc<Chunk>>> {
        let state = self.state.lock();
        let first = state.chunk_at(index);
        (index >= state.first_index()).then(|| state.chunks.range(first..).take(limit).cloned().collect())
    }

    /// Makes a member that reads from a mark on; `None` if the ring does not hold that index any more. With `paced`, the
    /// member reads the newest sample of each user, and never falls off.
    pub(crate) fn join(self: &Arc<Self>, filter: &Filter, mark: Mark, paced: bool) -> Option<Membership> {
        let state = &mut *self.state.lock();
        if mark.index < state.first_index() && !paced {
            return None;
        }
        self.listeners.fetch_add(1, SeqCst);
        let mut member = Member::new(filter, mark.index, mark.gaps);
        if paced {
            let mut pace = Pace::new(mark.index, state.newest.evicted(), &to_cursor(mark.position));
            // Perhaps not all of them were samples of its users.
            let evicted = state.newest.evicted() - mark.newest_evicted;
            if evicted > 0 {
                pace.miss(evicted);
                state.missed += evicted;
            }
            member.pace = Some(pace);
        }
        Some(Membership {
            ring: Arc::clone(self),
            id: state.add(member),
        })
    }

    /// Notes that there is one listener less. The last one leaves an empty ring.
    fn stop_listening(&self, state: &mut State) {
        if self.listeners.fetch_sub(1, SeqCst) == 1 {
            state.clear();
        }
    }
}

impl Membership {
    /// Reads only the newest sample of each user from now on, in turns, see [`Self::poll_turn`].
    pub(crate) fn read_newest(&self) {
        let state = &mut *self.ring.state.lock();
        let lagged = state.recover(self.id);
        let mut member = state.remove(self.id);
        let unread = state.chunk_at(member.next);
        let cursor = state.chunks.get(unread).map_or(&state.cursor, |chunk| &chunk.before);
        let mut pace = Pace::new(member.next, state.newest.evicted(), cursor);
        pace.lagged = lagged;
        member.pace = Some(pace);
        if state.paced == 0 {
            // Until now no member needed the table.
            for chunk in state.chunks.range(unread..) {
                state.newest.update(chunk, usize::MAX);
            }
        }
        let id = state.add(member);
        debug_assert_eq!(id, self.id, "a slab gives the last free key first");
    }

    /// Returns the next event, if there is one; `Ready(None)` after [`Ring::close`].
    pub(crate) fn take(&self) -> Poll<Option<LiveEvent>> {
        let state = &mut *self.ring.state.lock();
        match state.take(self.id) {
            Some(event) => Poll::Ready(Some(event)),
            None if state.closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// The same; if there is none, the task is woken when there may be one.
    pub(crate) fn poll_take(&self, context: &Context<'_>) -> Poll<Option<LiveEvent>> {
        let state = &mut *self.ring.state.lock();
        match state.take(self.id) {
            Some(event) => Poll::Ready(Some(event)),
            None if state.closed => Poll::Ready(None),
            None => {
                state.members[self.id].wait(context.waker());
                Poll::Pending
            }
        }
    }

    /// Moves up to `limit` events that are ready into `events`.
    pub(crate) fn take_into(&self, events: &mut Vec<LiveEvent>, limit: usize) {
        let state = &mut *self.ring.state.lock();
        events.extend(std::iter::from_fn(|| state.take(self.id)).take(limit));
    }

    /// Begins a turn with the newest samples that were delivered up to now, and returns its first event. If there is none, the
    /// task is woken when a sample of the member's users is delivered.
    pub(crate) fn poll_turn(&self, context: &Context<'_>) -> Poll<Option<LiveEvent>> {
        let state = &mut *self.ring.state.lock();
        if let Some(pace) = &mut state.members[self.id].pace {
            pace.tick(state.delivered, &state.cursor);
        }
        match state.take(self.id) {
            Some(event) => Poll::Ready(Some(event)),
            None if state.closed => Poll::Ready(None),
            None => {
                state.wait_for_turn(self.id, context.waker());
                Poll::Pending
            }
        }
    }

    /// Returns the present cursor if the member has read everything.
    pub(crate) fn cursor_if_idle(&self) -> Option<Cursor> {
        let state = &*self.ring.state.lock();
        state.is_idle(self.id).then(|| state.cursor.clone())
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let state = &mut *self.ring.state.lock();
        state.remove(self.id);
        self.ring.stop_listening(state);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let state = &mut *self.ring.state.lock();
        if self.paced {
            state.remove_paced();
        }
        self.ring.stop_listening(state);
    }
}

impl State {
    /// The index of the oldest sample in the ring.
    fn first_index(&self) -> u64 {
        self.chunks.front().map_or(self.delivered, |chunk| chunk.first_index)
    }

    /// Which chunk holds an index, or the first one after it.
    fn chunk_at(&self, index: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.end_index() <= index)
    }

    fn gaps(&self) -> u64 {
        self.gap.as_ref().map_or(0, |gap| gap.count)
    }

    fn take_wakers(&mut self) -> Vec<Waker> {
        let members = self.members.iter_mut();
        members.filter_map(|(_, member)| member.waker.take()).collect()
    }

    /// Empties the ring; there must be no members.
    fn clear(&mut self) {
        self.chunks.clear();
        self.bytes = 0;
        self.newest.clear();
    }

    /// Appends a chunk. The newest samples of users take `newest_bytes_max` at most, so that the chunks keep their share.
    fn push(&mut self, mut chunk: Chunk, newest_bytes_max: usize, wakers: &mut Vec<Waker>) {
        chunk.first_index = self.delivered;
        self.delivered = chunk.end_index();
        self.bytes += chunk.bytes();
        if self.paced > 0 {
            let evicted = self.newest.update(&chunk, newest_bytes_max);
            self.evicted_from_newest(&evicted);
            self.wake_paced(&chunk, wakers);
        }
        for id in &self.everyone.members {
            wakers.extend(self.members[*id].waker.take());
        }
        for (user, _) in audiences(&self.by_user, &chunk) {
            let Some(audience) = self.by_user.get_mut(&user) else {
                continue;
            };
            audience.chunk_ends.push_back(chunk.end_index());
            for id in &audience.audience.members {
                wakers.extend(self.members[*id].waker.take());
            }
        }
        let (order, end) = (chunk.order, chunk.end_index());
        self.chunks.push_back(Arc::new(chunk));
        if order <= self.subscribed_after_max {
            self.skip_acknowledged(order, end);
        }
    }

    /// Has a paced member woken at the next sample of one of its users.
    fn wait_for_turn(&mut self, id: usize, waker: &Waker) {
        let member = &mut self.members[id];
        member.wait(waker);
        if let Some(pace) = &mut member.pace
            && !std::mem::replace(&mut pace.waits_for_turn, true)
            && member.users.is_none()
        {
            self.waiting_for_turn.push(id);
        }
    }

    /// Wakes the paced members that wait for a sample of the chunk. Those that wait for their timer stay asleep.
    fn wake_paced(&mut self, chunk: &Chunk, wakers: &mut Vec<Waker>) {
        let mut woken = std::mem::take(&mut self.waiting_for_turn);
        if !self.paced_by_user.is_empty() {
            let named = chunk.users().filter_map(|(user, _)| self.paced_by_user.get(&user));
            woken.extend(named.flatten());
        }
        for id in woken {
            if let Some(member) = self.members.get_mut(id)
                && let Some(pace) = &mut member.pace
                && std::mem::take(&mut pace.waits_for_turn)
            {
                wakers.extend(member.waker.take());
            }
        }
    }

    /// Counts the samples that paced members that had named users have missed.
    fn evicted_from_newest(&mut self, evicted: &[(UserId, u64)]) {
        for (user, index) in evicted {
            for id in self.paced_by_user.get(user).into_iter().flatten() {
                let member = &mut self.members[*id];
                if let Some(pace) = member.pace.as_mut().filter(|_| member.next <= *index) {
                    pace.miss(1);
                    self.missed += 1;
                }
            }
        }
    }

    /// Moves members past a chunk that was just delivered and that was acknowledged before they subscribed. So they do not
    /// count it as missed. A member that has not read an earlier chunk yet does count it. That is harmless.
    fn skip_acknowledged(&mut self, order: u64, end: u64) {
        let subscribed_later = |(id, member): (usize, &Member)| {
            let skips = order <= member.subscribed_after && member.fall.is_none() && member.pace.is_none();
            skips.then_some(id)
        };
        let ids: Vec<_> = self.members.iter().filter_map(subscribed_later).collect();
        for id in ids {
            if self.next_match(id).is_none() {
                self.members[id].next = end;
            }
        }
    }

    /// Evicts chunks until the ring is within its bounds.
    fn evict(&mut self, samples_max: usize, bytes_max: usize) {
        let samples_max = samples_max as u64;
        while self.delivered - self.first_index() > samples_max || self.bytes + self.newest.bytes() > bytes_max {
            let Some(chunk) = self.chunks.pop_front() else { return };
            self.bytes -= chunk.bytes();
            self.evicted_from_everyone(&chunk);
            self.evicted_from_users(&chunk);
        }
    }

    fn evicted_from_everyone(&mut self, chunk: &Chunk) {
        self.missed += self.everyone.fallen as u64 * chunk.len() as u64;
        for id in self.everyone.newly_fallen(&self.members, chunk.end_index()) {
            let member = &mut self.members[id];
            let base = member.next.max(chunk.first_index);
            self.missed += chunk.end_index() - base;
            self.everyone.fallen += 1;
            member.fall = Some(Fall {
                cursor: chunk.before.clone(),
                base,
            });
        }
    }

    fn evicted_from_users(&mut self, chunk: &Chunk) {
        let users = audiences(&self.by_user, chunk);
        let mut fallen = Vec::new();
        for (user, range) in &users {
            let Some(UserAudience { audience, .. }) = self.by_user.get_mut(user) else {
                continue;
            };
            self.missed += audience.fallen as u64 * range.len() as u64;
            fallen.extend(audience.newly_fallen(&self.members, chunk.first_index + range.end as u64));
        }
        for id in fallen {
            self.fall_from_users(id, chunk);
        }
        for (user, range) in users {
            let Some(audience) = self.by_user.get_mut(&user) else {
                continue;
            };
            audience.evicted += range.len() as u64;
            audience.chunk_ends.pop_front();
        }
    }

    /// A member has not read a sample of one of its users that is being evicted.
    fn fall_from_users(&mut self, id: usize, chunk: &Chunk) {
        let member = &mut self.members[id];
        if member.fall.is_some() {
            return; // It has already fallen off because of another user.
        }
        let users = member.users.clone().unwrap_or_default();
        let read = usize::try_from(member.next.saturating_sub(chunk.first_index)).unwrap_or(usize::MAX);
        let mut base = 0;
        for user in users.iter() {
            let Some(audience) = self.by_user.get_mut(user) else {
                continue;
            };
            let range = chunk.of_user(*user);
            let read_of_user = read.clamp(range.start, range.end) - range.start;
            base += audience.evicted + read_of_user as u64;
            audience.audience.fallen += 1;
            self.missed += (range.len() - read_of_user) as u64;
        }
        member.fall = Some(Fall {
            cursor: chunk.before.clone(),
            base,
        });
    }

    /// Puts a member that had fallen off back at the start of the ring, and returns how many samples it has missed.
    fn recover(&mut self, id: usize) -> Option<(u64, Cursor)> {
        let first_index = self.first_index();
        let member = &mut self.members[id];
        let Fall { cursor, base } = member.fall.take()?;
        member.next = member.next.max(first_index);
        let next = member.next;
        let missed = match member.users.clone() {
            None => {
                self.everyone.recovered(next);
                first_index - base
            }
            Some(users) => {
                let mut evicted = 0;
                for user in users.iter() {
                    let Some(audience) = self.by_user.get_mut(user) else {
                        continue;
                    };
                    audience.audience.recovered(next);
                    evicted += audience.evicted;
                }
                evicted - base
            }
        };
        Some((missed, cursor))
    }

    fn add(&mut self, member: Member) -> usize {
        let (next, users, paced) = (member.next, member.users.clone(), member.pace.is_some());
        let id = self.members.insert(member);
        if paced {
            self.paced += 1;
            for user in users.iter().flat_map(|users| users.iter()) {
                self.paced_by_user.entry(*user).or_default().push(id);
            }
            return id;
        }
        let Some(users) = users else {
            self.everyone.add(id, next);
            return id;
        };
        for user in users.iter() {
            let chunks = &self.chunks;
            let audience = self
                .by_user
                .entry(*user)
                .or_insert_with(|| UserAudience::new(*user, chunks));
            audience.audience.add(id, next);
        }
        id
    }

    fn remove(&mut self, id: usize) -> Member {
        let mut member = self.members.remove(id);
        let fallen = member.fall.take().is_some();
        match (&member.pace, &member.users) {
            (Some(_), users) => {
                for user in users.iter().flat_map(|users| users.iter()) {
                    if let Entry::Occupied(mut entry) = self.paced_by_user.entry(*user) {
                        entry.get_mut().retain(|other| *other != id);
                        if entry.get().is_empty() {
                            entry.remove();
                        }
                    }
                }
                self.remove_paced();
            }
            (None, None) => self.everyone.remove(id, fallen),
            (None, Some(users)) => {
                for user in users.iter() {
                    if let Some(audience) = self.by_user.get_mut(user) {
                        audience.audience.remove(id, fallen);
                        if audience.audience.members.is_empty() {
                            self.by_user.remove(user);
                        }
                    }
                }
            }
        }
        member
    }

    fn remove_paced(&mut self) {
        self.paced -= 1;
        if self.paced == 0 {
            self.newest.clear();
        }
    }

    fn take(&mut self, id: usize) -> Option<LiveEvent> {
        if self.members[id].pace.is_some() {
            return self.take_gap(id, self.delivered).or_else(|| self.take_newest(id));
        }
        if let Some((missed, cursor)) = self.recover(id) {
            return Some(LiveEvent::Lagged { missed, cursor });
        }
        let found = self.next_match(id);
        let next = found
            .as_ref()
            .map_or(self.delivered, |(chunk, at)| chunk.first_index + *at as u64);
        self.members[id].next = next;
        if let Some(gap) = self.take_gap(id, next) {
            return Some(gap);
        }
        let member = &mut self.members[id];
        let (chunk, at) = found?;
        member.next += 1;
        let is_last = chunk.next_match(member.users.as_deref(), at + 1).is_none();
        let cursor = chunk.after.as_ref().filter(|_| is_last).unwrap_or(&chunk.before);
        Some(LiveEvent::Sample {
            cursor: cursor.clone(),
            published: Published::new(chunk, at),
        })
    }

    /// The next sample that a member has not read yet.
    fn next_match(&self, id: usize) -> Option<(Arc<Chunk>, usize)> {
        let member = &self.members[id];
        let mut next = member.next;
        loop {
            if let Some(users) = member.users.as_deref().filter(|users| users.len() <= INDEXED_USERS) {
                let ends = users
                    .iter()
                    .filter_map(|user| self.by_user.get(user)?.first_end_after(next));
                // No sample of these users lies before the chunk that ends there.
                let end = ends.min()?;
                let chunk = self.chunks.get(self.chunk_at(end - 1))?;
                next = next.max(chunk.first_index);
            }
            let chunk = self.chunks.get(self.chunk_at(next))?;
            let from = usize::try_from(next.saturating_sub(chunk.first_index)).unwrap_or(usize::MAX);
            if chunk.order > member.subscribed_after
                && let Some(at) = chunk.next_match(member.users.as_deref(), from)
            {
                return Some((Arc::clone(chunk), at));
            }
            next = chunk.end_index();
        }
    }

    /// The gap that a member has not been notified of yet, if it lies before an index.
    fn take_gap(&mut self, id: usize, index: u64) -> Option<LiveEvent> {
        let gap = self.gap.as_ref().filter(|gap| gap.index <= index)?;
        let member = &mut self.members[id];
        if member.gaps_seen >= gap.count {
            return None;
        }
        member.gaps_seen = gap.count;
        Some(LiveEvent::Subscribed {
            resumed: false,
            reason: Some(gap.reason.clone()),
        })
    }

    fn take_newest(&mut self, id: usize) -> Option<LiveEvent> {
        let Member { next, users, pace, .. } = &mut self.members[id];
        let pace = pace.as_mut()?;
        if users.is_none() {
            let evicted = pace.newly_evicted(*next, &self.newest);
            if evicted > 0 {
                pace.miss(evicted);
                self.missed += evicted;
            }
        }
        pace.take(next, users.as_deref(), &self.newest)
    }

    fn is_idle(&self, id: usize) -> bool {
        let member = &self.members[id];
        let knows_gap = member.gaps_seen >= self.gaps();
        match &member.pace {
            Some(pace) => knows_gap && pace.is_idle(member.next, self.delivered),
            None => knows_gap && member.fall.is_none() && self.next_match(id).is_none(),
        }
    }
}

/// The users of a chunk who have an audience, with the range of their samples.
fn audiences(by_user: &HashMap<UserId, UserAudience>, chunk: &Chunk) -> Vec<(UserId, std::ops::Range<usize>)> {
    if by_user.is_empty() {
        Vec::new()
    } else if by_user.len() < chunk.len() / 8 {
        let ranges = by_user.keys().map(|user| (*user, chunk.of_user(*user)));
        ranges.filter(|(_, range)| !range.is_empty()).collect()
    } else {
        chunk.users().filter(|(user, _)| by_user.contains_key(user)).collect()
    }
}
