//! Which samples are certainly new: those later than anything their (user, source) has stored.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::sample::{Identity, Sample, Source, UserId};

/// For each (user, source), a time behind which nothing is stored yet.
///
/// A hint, not a truth: another server may have stored more. Whoever relies on it has to survive a duplicate key.
#[derive(Debug, Default)]
pub(crate) struct Known {
    nothing_after: HashMap<(UserId, Source), DateTime<Utc>>,
}

/// What is known of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Novelty {
    /// Later than everything stored of its (user, source).
    New,
    /// May be stored already.
    MayExist,
    /// Nothing is known of its (user, source).
    Unknown,
}

/// How much of what is known about stored samples is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Samples later than all that is known of their (user, source) are new.
    Known,
    /// Every sample is looked up.
    Nothing,
}

impl Known {
    /// (User, source) pairs remembered, at most: about 80 bytes each.
    const MOST_PAIRS: usize = 250_000;

    pub(crate) fn novelty(&self, identity: &Identity) -> Novelty {
        match self.nothing_after.get(&(identity.user_id, identity.source.clone())) {
            None => Novelty::Unknown,
            Some(last) if *last < identity.timestamp => Novelty::New,
            Some(_) => Novelty::MayExist,
        }
    }

    /// Nothing of this (user, source) is stored behind `last`.
    pub(crate) fn learn(&mut self, user_id: UserId, source: &Source, last: DateTime<Utc>) {
        if self.nothing_after.len() >= Self::MOST_PAIRS {
            // Forgetting costs a look-up each; it happens to those with more users than that, once in a long while.
            self.nothing_after.clear();
        }
        self.nothing_after.insert((user_id, source.clone()), last);
    }

    /// These samples are stored now; they come in the order of the key.
    pub(crate) fn stored(&mut self, samples: &[Sample]) {
        for sample in samples {
            match self.nothing_after.get_mut(&(sample.user_id(), sample.source().clone())) {
                Some(last) => *last = sample.timestamp().max(*last),
                None => self.learn(sample.user_id(), sample.source(), sample.timestamp()),
            }
        }
    }
}
