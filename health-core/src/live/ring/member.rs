//! A member of the ring.

use std::{sync::Arc, task::Waker};

use crate::{
    live::{chunk::Chunk, event::LiveEvent, filter::Filter, ring::newest::Newest},
    sample::UserId,
    wire::Cursor,
};

/// A subscriber, as the ring sees it.
#[derive(Debug)]
pub(super) struct Member {
    /// The users whose samples it reads, ordered; all users if there are none.
    pub(super) users: Option<Arc<[UserId]>>,
    /// The index of the next sample that it has not read. Samples before it are read, or of other users.
    pub(super) next: u64,
    /// How many commits writers had handed over when it subscribed: it does not get those. A paced member does, because
    /// they may have replaced samples that it must get.
    pub(super) subscribed_after: u64,
    /// How many gaps it was notified of.
    pub(super) gaps_seen: u64,
    /// Set if it has fallen off and has not read `lagged` yet.
    pub(super) fall: Option<Fall>,
    /// Set if it is paced: it reads the newest sample of each user.
    pub(super) pace: Option<Pace>,
    pub(super) waker: Option<Waker>,
}

/// The data from which the `lagged` event of a member is made.
#[derive(Debug)]
pub(super) struct Fall {
    /// The cursor from which the subscriber receives the missed samples.
    pub(super) cursor: Cursor,
    /// The samples before the first missed one: by index if it reads all users, otherwise counted over its users.
    pub(super) base: u64,
}

/// How a member reads the newest sample of each user: in turns. A turn ends with what was delivered when it began.
#[derive(Debug)]
pub(super) struct Pace {
    /// The end of the turn: the index of the first sample that was delivered after the turn had begun.
    turn_end: u64,
    /// The cursor before the first sample of the turn.
    since: Cursor,
    /// The cursor after the last sample of the turn.
    until: Cursor,
    /// The next of the member's users, if it has named any, and the index after what it has read of that user in this
    /// turn.
    user: (usize, u64),
    /// [`Newest::evicted`] at the member's last read. Only for members that read all users.
    evicted: u64,
    /// How many samples it missed since its last `lagged`, and the cursor from which it can get them.
    pub(super) lagged: Option<(u64, Cursor)>,
    /// The member waits for the first sample of its next turn.
    pub(super) waits_for_turn: bool,
}

impl Member {
    pub(super) fn new(filter: &Filter, next: u64, gaps_seen: u64) -> Self {
        Self {
            users: filter.named().map(|users| users.iter().copied().collect()),
            next,
            subscribed_after: 0,
            gaps_seen,
            fall: None,
            pace: None,
            waker: None,
        }
    }

    /// Registers the task to be woken when there may be something to read.
    pub(super) fn wait(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }
}

impl Pace {
    pub(super) fn new(next: u64, evicted: u64, cursor: &Cursor) -> Self {
        Self {
            turn_end: next,
            since: cursor.clone(),
            until: cursor.clone(),
            user: (0, 0),
            evicted,
            lagged: None,
            waits_for_turn: false,
        }
    }

    /// Begins a turn, unless the one before is not read to its end.
    pub(super) fn tick(&mut self, delivered: u64, cursor: &Cursor) {
        if self.since == self.until {
            self.turn_end = delivered;
            self.until.clone_from(cursor);
        }
    }

    /// Whether there is nothing to read and nothing was delivered since the last turn.
    pub(super) fn is_idle(&self, next: u64, delivered: u64) -> bool {
        next >= delivered && self.since == self.until && self.lagged.is_none()
    }

    /// Notes that the table evicted samples that the member has not read.
    pub(super) fn miss(&mut self, samples: u64) {
        let since = &self.since;
        self.lagged.get_or_insert_with(|| (0, since.clone())).0 += samples;
    }

    /// How many samples the table has evicted since the last call, for a member that reads all users. If the member had
    /// read some of them before, they count as well: the number may be too high.
    pub(super) fn newly_evicted(&mut self, next: u64, newest: &Newest) -> u64 {
        let evicted = newest.evicted() - self.evicted;
        self.evicted = newest.evicted();
        if newest.evicted_before() > next { evicted } else { 0 }
    }

    /// The next sample or erasure of the turn.
    pub(super) fn take(&mut self, next: &mut u64, users: Option<&[UserId]>, newest: &Newest) -> Option<LiveEvent> {
        if let Some((missed, cursor)) = self.lagged.take() {
            return Some(LiveEvent::Lagged { missed, cursor });
        }
        let found = match users {
            None => {
                let found = newest.first_between(*next, self.turn_end);
                if let Some((index, _)) = found {
                    *next = index + 1;
                }
                found.map(|(_, chunk)| chunk)
            }
            Some(users) => self.next_of(users, *next, newest).map(|(read, chunk)| {
                self.user = read;
                chunk
            }),
        };
        let Some(chunk) = found else {
            *next = self.turn_end.max(*next);
            self.since.clone_from(&self.until);
            self.user = (0, 0);
            return None;
        };
        let more = match users {
            None => newest.first_between(*next, self.turn_end).is_some(),
            Some(users) => self.next_of(users, *next, newest).is_some(),
        };
        let cursor = if more { &self.since } else { &self.until };
        Some(LiveEvent::of(chunk, 0, cursor.clone()))
    }

    /// What the turn still has of the member's users: the first erasure or newest sample, and [`Self::user`] after it.
    fn next_of(&self, users: &[UserId], next: u64, newest: &Newest) -> Option<((usize, u64), Arc<Chunk>)> {
        let (first, read) = self.user;
        (first..users.len()).find_map(|at| {
            let start = if at == first { next.max(read) } else { next };
            let (index, chunk) = newest.first_of_user(*users.get(at)?, start, self.turn_end)?;
            Some(((at, index + 1), chunk))
        })
    }
}
