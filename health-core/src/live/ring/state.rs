//! The samples in the ring, its members, and what each of them reads next.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    task::Waker,
};

use slab::Slab;

use crate::{
    live::{
        chunk::Chunk,
        cursor::to_cursor,
        event::LiveEvent,
        ring::{
            audience::{Audience, UserAudience},
            member::Member,
            newest::Newest,
        },
    },
    sample::UserId,
    store::commit_log::LogPosition,
    wire::Cursor,
};

/// What the lock of the ring protects.
#[derive(Debug)]
pub(super) struct State {
    pub(super) position: LogPosition,
    pub(super) cursor: Cursor,
    pub(super) chunks: VecDeque<Arc<Chunk>>,
    /// The memory of the chunks in bytes.
    pub(super) bytes: usize,
    /// How many samples were ever delivered: the index of the next one.
    pub(super) delivered: u64,
    /// How many samples members have missed.
    pub(super) missed: u64,
    pub(super) members: Slab<Member>,
    /// The members that read the samples of all users.
    pub(super) everyone: Audience,
    pub(super) by_user: HashMap<UserId, UserAudience>,
    pub(super) newest: Newest,
    /// How many subscriptions want the newest samples only.
    pub(super) paced: usize,
    /// Those of them that have named a user.
    pub(super) paced_by_user: HashMap<UserId, Vec<usize>>,
    /// Those that have not, and that wait for a sample of any user. Some may be gone.
    pub(super) waiting_for_turn: Vec<usize>,
    pub(super) gap: Option<Gap>,
    pub(super) closed: bool,
    /// The highest [`Member::subscribed_after`].
    pub(super) subscribed_after_max: u64,
}

/// The history of the database does not continue where it was.
#[derive(Debug)]
pub(super) struct Gap {
    /// How many gaps there were, with this one.
    pub(super) count: u64,
    /// The index of the first sample after it.
    pub(super) index: u64,
    pub(super) reason: String,
    /// The cursor to resume after it.
    pub(super) cursor: Cursor,
}

/// Up to this number of users in a filter, the next chunk is found through the users' audiences. For longer filters it
/// is faster to look into each chunk.
pub(super) const INDEXED_USERS: usize = 16;

impl State {
    /// The state of an empty ring that continues after a position.
    pub(super) fn new(position: LogPosition) -> Self {
        Self {
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
        }
    }

    /// The index of the oldest sample in the ring.
    pub(super) fn first_index(&self) -> u64 {
        self.chunks.front().map_or(self.delivered, |chunk| chunk.first_index)
    }

    /// Which chunk holds an index, or the first one after it.
    pub(super) fn chunk_at(&self, index: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.end_index() <= index)
    }

    pub(super) fn gaps(&self) -> u64 {
        self.gap.as_ref().map_or(0, |gap| gap.count)
    }

    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        let members = self.members.iter_mut();
        members.filter_map(|(_, member)| member.waker.take()).collect()
    }

    /// Empties the ring; there must be no members.
    pub(super) fn clear(&mut self) {
        self.chunks.clear();
        self.bytes = 0;
        self.newest.clear();
    }

    /// Appends a chunk. The newest samples of users take `newest_bytes_max` at most, so that the chunks keep their
    /// share.
    pub(super) fn push(&mut self, mut chunk: Chunk, newest_bytes_max: usize, wakers: &mut Vec<Waker>) {
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

    /// Moves members past a chunk that was just delivered and that was acknowledged before they subscribed. So they do
    /// not count it as missed. A member that has not read an earlier chunk yet does count it. That is harmless.
    pub(super) fn skip_acknowledged(&mut self, order: u64, end: u64) {
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

    pub(super) fn add(&mut self, member: Member) -> usize {
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

    pub(super) fn remove(&mut self, id: usize) -> Member {
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

    pub(super) fn remove_paced(&mut self) {
        self.paced -= 1;
        if self.paced == 0 {
            self.newest.clear();
        }
    }

    pub(super) fn take(&mut self, id: usize) -> Option<LiveEvent> {
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
        let cursor = chunk
            .after
            .as_ref()
            .filter(|_| is_last)
            .unwrap_or(&chunk.before)
            .clone();
        Some(LiveEvent::of(chunk, at, cursor))
    }

    /// The next sample that a member has not read yet.
    pub(super) fn next_match(&self, id: usize) -> Option<(Arc<Chunk>, usize)> {
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
    pub(super) fn take_gap(&mut self, id: usize, index: u64) -> Option<LiveEvent> {
        let gap = self.gap.as_ref().filter(|gap| gap.index <= index)?;
        let member = &mut self.members[id];
        if member.gaps_seen >= gap.count {
            return None;
        }
        member.gaps_seen = gap.count;
        Some(LiveEvent::Subscribed {
            resumed: false,
            reason: Some(gap.reason.clone()),
            cursor: gap.cursor.clone(),
        })
    }

    pub(super) fn take_newest(&mut self, id: usize) -> Option<LiveEvent> {
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

    pub(super) fn is_idle(&self, id: usize) -> bool {
        let member = &self.members[id];
        let knows_gap = member.gaps_seen >= self.gaps();
        match &member.pace {
            Some(pace) => knows_gap && pace.is_idle(member.next, self.delivered),
            None => knows_gap && member.fall.is_none() && self.next_match(id).is_none(),
        }
    }
}

/// The users of a chunk who have an audience, with the range of their samples.
pub(super) fn audiences(
    by_user: &HashMap<UserId, UserAudience>,
    chunk: &Chunk,
) -> Vec<(UserId, std::ops::Range<usize>)> {
    if by_user.is_empty() {
        Vec::new()
    } else if by_user.len() < chunk.len() / 8 {
        let ranges = by_user.keys().map(|user| (*user, chunk.of_user(*user)));
        ranges.filter(|(_, range)| !range.is_empty()).collect()
    } else {
        chunk.users().filter(|(user, _)| by_user.contains_key(user)).collect()
    }
}
