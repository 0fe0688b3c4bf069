//! Shards of users. A writer that works on one shard at a time writes each user's samples in order.

use crate::sample::UserId;

/// A division of all users into shards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shards {
    count: usize,
}

impl Shards {
    pub(crate) fn new(count: usize) -> Self {
        Self { count: count.max(1) }
    }

    pub(crate) fn count(self) -> usize {
        self.count
    }

    /// Returns the shard of a user, which never changes.
    pub(crate) fn of(self, user_id: UserId) -> usize {
        // Fibonacci hashing (the multiplier is 2^64 divided by the golden ratio) spreads even ids and multiples as
        // well as any others.
        let hash = user_id.get().unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        usize::try_from(hash).unwrap_or(0) % self.count
    }
}
