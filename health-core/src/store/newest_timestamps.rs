//! A cache of the newest stored timestamp of each (user, source): a later sample is new.

use chrono::{DateTime, Utc};
use foldhash::HashMap;

use crate::{
    sample::{Identity, Sample, Source, UserId},
    shard::Shards,
};

/// The newest stored timestamp of each (user, source), for the users of the shards that a writer has taken.
///
/// The cache is a hint: another server may have stored a later sample. A caller that relies on it must handle a
/// duplicate key.
#[derive(Debug)]
pub(crate) struct NewestTimestamps {
    shards: Shards,
    /// Empty for shards that the writer has not taken.
    by_shard: Vec<ShardTimestamps>,
}

/// The part of the cache for one shard of users. It stays with the shard, whichever writer takes it.
///
/// The hash of the standard library took a sixth of the CPU time of a load with many users. A client that knows which
/// users collide under this one can slow writers down, but it needs the right to write, and the map is bounded.
#[derive(Debug, Default)]
pub(crate) struct ShardTimestamps {
    newest: HashMap<(UserId, Source), DateTime<Utc>>,
}

/// What the cache says about one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Novelty {
    /// The sample is later than everything stored of its (user, source).
    New,
    /// The table may contain the sample.
    MayExist,
    /// The cache has no entry for its (user, source).
    NotCached,
}

/// Which samples of a batch the writer looks up before it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookUp {
    /// The samples that are not new according to the cache.
    UnlessNew,
    /// All: an attempt with the cache has failed, perhaps because another server stored some of them.
    All,
}

impl NewestTimestamps {
    /// Makes an empty cache.
    pub(crate) fn new(shards: Shards) -> Self {
        let by_shard = std::iter::repeat_with(ShardTimestamps::default);
        Self {
            shards,
            by_shard: by_shard.take(shards.count()).collect(),
        }
    }

    /// Puts in the newest timestamps of a shard.
    pub(crate) fn put(&mut self, shard: usize, timestamps: ShardTimestamps) {
        self.by_shard[shard] = timestamps;
    }

    /// Takes out the newest timestamps of a shard.
    pub(crate) fn remove(&mut self, shard: usize) -> ShardTimestamps {
        std::mem::take(&mut self.by_shard[shard])
    }

    pub(crate) fn novelty(&self, identity: &Identity) -> Novelty {
        let shard = &self.by_shard[self.shards.of(identity.user_id)];
        match shard.newest.get(&(identity.user_id, identity.source.clone())) {
            None => Novelty::NotCached,
            Some(newest) if *newest < identity.timestamp => Novelty::New,
            Some(_) => Novelty::MayExist,
        }
    }

    /// Notes that no sample of this (user, source) is stored after `newest`.
    pub(crate) fn insert(&mut self, user_id: UserId, source: &Source, newest: DateTime<Utc>) {
        self.by_shard[self.shards.of(user_id)].insert(user_id, source, newest);
    }

    /// Notes that these samples are stored.
    pub(crate) fn stored(&mut self, samples: &[Sample]) {
        for sample in samples {
            let shard = &mut self.by_shard[self.shards.of(sample.user_id())];
            match shard.newest.get_mut(&(sample.user_id(), sample.source().clone())) {
                Some(newest) => *newest = sample.timestamp().max(*newest),
                None => shard.insert(sample.user_id(), sample.source(), sample.timestamp()),
            }
        }
    }
}

impl ShardTimestamps {
    /// Entries in the cache, at most: an entry takes about 80 bytes, so 20 MB for each shard.
    const MAX_ENTRIES: usize = 250_000;

    fn insert(&mut self, user_id: UserId, source: &Source, newest: DateTime<Utc>) {
        if self.newest.len() >= Self::MAX_ENTRIES {
            // A full cache starts again. This costs one query per batch until it is filled, and needs no order of use.
            self.newest.clear();
        }
        self.newest.insert((user_id, source.clone()), newest);
    }
}
