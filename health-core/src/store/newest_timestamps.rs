//! A cache that tells which samples are certainly new: those later than everything stored of their (user, source).

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::sample::{Identity, Sample, Source, UserId};

/// A bound for the newest stored timestamp of each (user, source), as far as this writer knows.
///
/// The cache is a hint: another server may have stored a later sample. A caller that relies on it must handle a
/// duplicate key.
#[derive(Debug, Default)]
pub(crate) struct NewestTimestamps {
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
    /// Those that are not certainly new by the cache.
    UnlessNew,
    /// All: a try with the cache has failed, perhaps because another server stored some of them.
    All,
}

impl NewestTimestamps {
    /// Entries in the cache, at most: an entry takes about 80 bytes, so 20 MB for each writer.
    const MAX_ENTRIES: usize = 250_000;

    pub(crate) fn novelty(&self, identity: &Identity) -> Novelty {
        match self.newest.get(&(identity.user_id, identity.source.clone())) {
            None => Novelty::NotCached,
            Some(newest) if *newest < identity.timestamp => Novelty::New,
            Some(_) => Novelty::MayExist,
        }
    }

    /// Notes that no sample of this (user, source) is stored after `newest`.
    pub(crate) fn insert(&mut self, user_id: UserId, source: &Source, newest: DateTime<Utc>) {
        if self.newest.len() >= Self::MAX_ENTRIES {
            // A full cache starts again. This costs one query per batch until it is filled, and needs no order of use.
            self.newest.clear();
        }
        self.newest.insert((user_id, source.clone()), newest);
    }

    /// Notes that these samples are stored.
    pub(crate) fn stored(&mut self, samples: &[Sample]) {
        for sample in samples {
            match self.newest.get_mut(&(sample.user_id(), sample.source().clone())) {
                Some(newest) => *newest = sample.timestamp().max(*newest),
                None => self.insert(sample.user_id(), sample.source(), sample.timestamp()),
            }
        }
    }
}
