//! The newest sample of each user, for subscribers that want no more than that.
//!
//! Erasures stand beside the samples, because a subscriber must get each of them: a later sample does not replace an
//! erasure. An erasure removes the newest sample of its user if it covers it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use crate::{erasure::Erasure, live::chunk::Chunk, sample::UserId};

/// The newest sample of each user, and erasures, in the order of delivery. Each is a chunk of its own, so that it keeps
/// no other sample in memory.
#[derive(Debug, Default)]
pub(super) struct Newest {
    /// The index of each user's newest sample.
    by_user: HashMap<UserId, u64>,
    /// The indexes of each user's erasures, for users who have any.
    erasures: HashMap<UserId, BTreeSet<u64>>,
    erasures_count: usize,
    by_index: BTreeMap<u64, Arc<Chunk>>,
    bytes: usize,
    evicted: u64,
    evicted_before: u64,
}

/// The most users in the table, about 30 MB if the names of their sources are short. The memory has a limit of its own,
/// see [`Newest::update`]. In a full table, a new user's sample evicts the sample that was delivered first.
const USERS_MAX: usize = 65_536;

/// The most erasures in the table, about 1 MB. One erasure of millions of samples takes some hundreds. A further one
/// evicts the one that was delivered first, and subscribers that have not read that one get `lagged`.
const ERASURES_MAX: usize = 4_096;

/// What a user takes beside the chunk: the entries of both maps.
const ENTRY_BYTES: usize = 96;

impl Newest {
    /// Takes the last sample of each user in the chunk, or its erasure. Evicts entries until the table has at most
    /// [`USERS_MAX`] users, [`ERASURES_MAX`] erasures and `bytes_max` bytes, and returns their users and indexes.
    pub(super) fn update(&mut self, chunk: &Chunk, bytes_max: usize) -> Vec<(UserId, u64)> {
        if let Some(erasure) = chunk.erasure() {
            self.erase(erasure, chunk);
        }
        for (user, range) in chunk.users() {
            let Some(sample) = chunk.samples().get(range.end - 1) else {
                continue;
            };
            let index = chunk.first_index + range.end as u64 - 1;
            let mut newest = Chunk::new(
                vec![sample.clone()],
                chunk.batch_number,
                chunk.order,
                chunk.before.clone(),
            );
            newest.first_index = index;
            if let Some(before) = self.by_user.insert(user, index) {
                self.remove(before);
            }
            self.bytes += newest.bytes() + ENTRY_BYTES;
            self.by_index.insert(index, Arc::new(newest));
        }
        let mut evicted = Vec::new();
        while self.erasures_count > ERASURES_MAX
            && let Some(first) = self.erasures.values().filter_map(BTreeSet::first).min()
        {
            evicted.extend(self.evict(*first));
        }
        while self.by_user.len() > USERS_MAX || self.bytes > bytes_max {
            let Some(first) = self.evict_first() else { break };
            evicted.push(first);
        }
        evicted
    }

    /// The first sample with `start <= index < end`.
    pub(super) fn first_between(&self, start: u64, end: u64) -> Option<(u64, Arc<Chunk>)> {
        if start >= end {
            return None;
        }
        let found = self.by_index.range(start..end).next();
        found.map(|(index, chunk)| (*index, Arc::clone(chunk)))
    }

    /// The first sample or erasure of a user with `start <= index < end`.
    pub(super) fn first_of_user(&self, user: UserId, start: u64, end: u64) -> Option<(u64, Arc<Chunk>)> {
        if start >= end {
            return None;
        }
        let sample = self.by_user.get(&user).filter(|index| (start..end).contains(index));
        let erasures = self.erasures.get(&user);
        let erasure = erasures.and_then(|indexes| indexes.range(start..end).next());
        let index = sample.into_iter().chain(erasure).min()?;
        Some((*index, Arc::clone(self.by_index.get(index)?)))
    }

    /// How many samples and erasures were evicted because the table was full.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The index after the last evicted entry.
    pub(super) fn evicted_before(&self) -> u64 {
        self.evicted_before
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn clear(&mut self) {
        let (evicted, evicted_before) = (self.evicted, self.evicted_before);
        *self = Self {
            evicted,
            evicted_before,
            ..Self::default()
        };
    }

    fn remove(&mut self, index: u64) {
        if let Some(chunk) = self.by_index.remove(&index) {
            self.bytes -= chunk.bytes() + ENTRY_BYTES;
        }
    }

    /// Takes an erasure. It removes what it makes superfluous: the user's newest sample if it is erased, and earlier
    /// erasures of no more than this one.
    fn erase(&mut self, erasure: &Arc<Erasure>, chunk: &Chunk) {
        let user = erasure.user_id();
        if let Some(index) = self.by_user.get(&user).copied()
            && let Some(sample) = self.by_index.get(&index).and_then(|chunk| chunk.samples().first())
            && erasure.covers(sample)
        {
            self.by_user.remove(&user);
            self.remove(index);
        }
        let includes = |index: &u64| {
            let earlier = self.by_index.get(index).and_then(|chunk| chunk.erasure());
            earlier.is_some_and(|earlier| erasure.includes(earlier))
        };
        let earlier = self.erasures.get(&user).into_iter().flatten();
        let superfluous: Vec<u64> = earlier.copied().filter(includes).collect();
        for index in superfluous {
            self.remove_erasure(user, index);
        }
        let (batch_number, order, before) = (chunk.batch_number, chunk.order, chunk.before.clone());
        let mut entry = Chunk::of_erasure(Arc::clone(erasure), batch_number, order, before);
        entry.first_index = chunk.first_index;
        self.bytes += entry.bytes() + ENTRY_BYTES;
        self.by_index.insert(chunk.first_index, Arc::new(entry));
        self.erasures.entry(user).or_default().insert(chunk.first_index);
        self.erasures_count += 1;
    }

    fn remove_erasure(&mut self, user: UserId, index: u64) {
        if let Entry::Occupied(mut entry) = self.erasures.entry(user) {
            self.erasures_count -= usize::from(entry.get_mut().remove(&index));
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        self.remove(index);
    }

    fn evict_first(&mut self) -> Option<(UserId, u64)> {
        let (&index, _) = self.by_index.first_key_value()?;
        self.evict(index)
    }

    /// Evicts a sample or an erasure, and returns its user and its index.
    fn evict(&mut self, index: u64) -> Option<(UserId, u64)> {
        let chunk = self.by_index.get(&index)?;
        let user = chunk.user(0);
        if chunk.erasure().is_some() {
            self.remove_erasure(user, index);
        } else {
            self.by_user.remove(&user);
            self.remove(index);
        }
        self.evicted += 1;
        self.evicted_before = self.evicted_before.max(index + 1);
        Some((user, index))
    }
}
