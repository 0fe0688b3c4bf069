//! The ring: the committed samples of the last moments, in the order of their commits, shared by all subscribers.
//!
//! The [`poller`](super::poller) delivers each commit once, as [chunks](super::chunk). A subscriber is a *member* of
//! the ring: an index and a filter. It takes samples from the ring when it can, and nothing is copied for it.
//!
//! The ring is bounded in samples and in bytes. When it is full, it evicts its oldest chunk. If a member has not read a
//! sample of that chunk that matches its filter, the member has *fallen off*. From then on the ring counts the samples
//! that the member misses. At its next read the member gets their number (`lagged`). So the memory does not depend on
//! the number of subscribers or on their speed.
//!
//! * Members that named users are woken, and counted, through an [audience] for each named user.
//! * A *paced* member wants the newest sample of each user in every interval. It reads the [newest] table instead, and
//!   misses samples only if that table is full.

mod audience;
mod fall;
mod member;
mod newest;
mod state;
#[cfg(test)]
mod tests;
mod turn;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use crate::{
    config::Limits,
    live::{
        chunk::{Change, Chunk},
        cursor::to_cursor,
        event::LiveEvent,
        filter::Filter,
        ring::{
            member::{Member, Pace},
            state::{Gap, State},
        },
    },
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
    /// What it did; `None` if its samples were not kept.
    pub(crate) change: Option<Change>,
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

/// The most samples of a chunk: a subscriber that holds one sample keeps this many in memory.
const CHUNK_SAMPLES: usize = 512;

impl Ring {
    /// Makes an empty ring that continues after a position.
    pub(crate) fn new(position: LogPosition, limits: &Limits) -> Self {
        Self {
            state: Mutex::new(State::new(position)),
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
    /// `order_of` returns what [`Self::hand_over`] returned for the commit, or [`READ_BACK`]. It is called while no
    /// subscriber can subscribe.
    pub(crate) fn deliver(&self, delivery: Delivery, order_of: impl FnOnce() -> u64) -> bool {
        let mut wakers = Vec::new();
        {
            let state = &mut *self.state.lock();
            // A listener that comes now takes its position from the state after this delivery.
            let has_listeners = self.has_listeners();
            if has_listeners && delivery.change.is_none() {
                return false;
            }
            let before = state.cursor.clone();
            state.position = delivery.position;
            state.cursor = to_cursor(delivery.position);
            if !has_listeners {
                return true;
            }
            let order = order_of();
            let samples = match delivery.change {
                Some(Change::Samples(samples)) => samples,
                Some(Change::Erasure(erasure)) => {
                    let mut chunk = Chunk::of_erasure(erasure, delivery.batch_number, order, before.clone());
                    chunk.after = Some(state.cursor.clone());
                    state.push(chunk, self.bytes_max / 2, &mut wakers);
                    state.evict(self.samples_max, self.bytes_max);
                    Vec::new()
                }
                None => Vec::new(),
            };
            let mut rest = samples.into_iter();
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
                cursor: to_cursor(position),
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

    /// Makes a member that reads from a mark on; `None` if the ring does not hold that index any more. With `paced`,
    /// the member reads the newest sample of each user, and never falls off.
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

    /// Notes that there is one listener less. If none is left, empties the ring.
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

    /// Begins a turn with the newest samples that were delivered up to now, and returns its first event. If there is
    /// none, the task is woken when a sample of the member's users is delivered.
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
