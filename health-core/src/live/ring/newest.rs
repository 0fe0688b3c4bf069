//! The newest sample of each user, for subscribers that want no more than that.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{live::chunk::Chunk, sample::UserId};

/// The newest sample of each user, in the order of delivery. Each is a chunk of its own, so that it keeps no other sample in
/// memory.
#[derive(Debug, Default)]
pub(super) struct Newest {
    by_user: HashMap<UserId, u64>,
    by_index: BTreeMap<u64, Arc<Chunk>>,
    bytes: usize,
    evicted: u64,
    evicted_before: u64,
}

/// The most users in the table, about 30 MB if the names of their sources are short. The memory has a limit of its own, see
/// [`Newest::update`]. In a full table, a new user's sample evicts the sample that was delivered first.
const USERS_MAX: usize = 65_536;

/// What a user takes beside the chunk: the entries of both maps.
const ENTRY_BYTES: usize = 96;

impl Newest {
    /// Takes the last sample of each user in the chunk. Evicts samples until the table has at most [`USERS_MAX`] users and
    /// `bytes_max` bytes, and returns their users and indexes.
    pub(super) fn update(&mut self, chunk: &Chunk, bytes_max: usize) -> Vec<(UserId, u64)> {
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

    pub(super) fn of_user(&self, user: UserId) -> Option<&Arc<Chunk>> {
        self.by_index.get(self.by_user.get(&user)?)
    }

    /// How many samples were evicted because the table was full.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The index after the last evicted sample.
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

    fn evict_first(&mut self) -> Option<(UserId, u64)> {
        let (&index, chunk) = self.by_index.first_key_value()?;
        let user = chunk.samples().first()?.user_id();
        self.by_user.remove(&user);
        self.remove(index);
        self.evicted += 1;
        self.evicted_before = index + 1;
        Some((user, index))
    }
}
