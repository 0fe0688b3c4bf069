//! Which members read which samples.

use std::{collections::VecDeque, sync::Arc};

use slab::Slab;

use crate::{
    live::{chunk::Chunk, ring::member::Member},
    sample::UserId,
};

/// The members that read the same samples.
#[derive(Debug, Default)]
pub(super) struct Audience {
    pub(super) members: Vec<usize>,
    /// How many of them have fallen off and have not read `lagged` yet.
    pub(super) fallen: usize,
    /// No member that has not fallen off has a `next` below this.
    all_read_before: u64,
}

/// The members that have named a user.
#[derive(Debug)]
pub(super) struct UserAudience {
    pub(super) audience: Audience,
    /// How many samples of the user were evicted since there is an audience.
    pub(super) evicted: u64,
    /// [`Chunk::end_index`] of each chunk in the ring that holds samples of the user.
    pub(super) chunk_ends: VecDeque<u64>,
}

impl Audience {
    pub(super) fn add(&mut self, id: usize, next: u64) {
        self.members.push(id);
        self.all_read_before = self.all_read_before.min(next);
    }

    pub(super) fn remove(&mut self, id: usize, fallen: bool) {
        if let Some(at) = self.members.iter().position(|member| *member == id) {
            self.members.swap_remove(at);
        }
        self.fallen -= usize::from(fallen);
    }

    /// A member that had fallen off has read `lagged`, and goes on at `next`.
    pub(super) fn recovered(&mut self, next: u64) {
        self.fallen -= 1;
        self.all_read_before = self.all_read_before.min(next);
    }

    /// The members that have not read the sample before `end`, and had not fallen off before.
    ///
    /// Looks at the members only if one of them may not have read it.
    pub(super) fn newly_fallen(&mut self, members: &Slab<Member>, end: u64) -> Vec<usize> {
        if self.all_read_before >= end {
            return Vec::new();
        }
        let mut fallen = Vec::new();
        self.all_read_before = u64::MAX;
        for id in &self.members {
            let member = &members[*id];
            if member.fall.is_some() {
                continue;
            }
            if member.next < end {
                fallen.push(*id);
            } else {
                self.all_read_before = self.all_read_before.min(member.next);
            }
        }
        fallen
    }
}

impl UserAudience {
    /// An audience without members for a user of whom the ring may hold samples.
    pub(super) fn new(user: UserId, chunks: &VecDeque<Arc<Chunk>>) -> Self {
        let with_user = chunks.iter().filter(|chunk| !chunk.of_user(user).is_empty());
        Self {
            audience: Audience {
                all_read_before: u64::MAX,
                ..Audience::default()
            },
            evicted: 0,
            chunk_ends: with_user.map(|chunk| chunk.end_index()).collect(),
        }
    }

    /// The end of the first chunk with samples of the user that ends after an index.
    pub(super) fn first_end_after(&self, index: u64) -> Option<u64> {
        let at = self.chunk_ends.partition_point(|end| *end <= index);
        self.chunk_ends.get(at).copied()
    }
}
