//! What one reader of the feed has yet to receive, and what it holds of a few users.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use health_core::{Erasure, Identity, Sample, UserId};
use tokio::time::{Duration, Instant};

use crate::{
    oracle::{Oracle, hash_of},
    person::Change,
};

/// One user in this many is mirrored. These users are erased often, so that the mirrors stay small.
const MIRRORED: i64 = 100;

/// The longest time from a request to its samples on the feed, over all kills and breaks.
const DELAY_MAX: Duration = Duration::from_mins(5);

/// The ledger of one reader. Writers note what they send, the reader notes what it receives.
#[derive(Clone)]
pub(crate) struct Ledger {
    pub(crate) reader: &'static str,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The newest version of each sample that was sent and did not arrive, by the hash of its identity.
    pending: HashMap<u64, Pending>,
    /// What the reader holds of the mirrored users.
    mirror: BTreeMap<UserId, BTreeMap<Identity, Sample>>,
    received: u64,
}

struct Pending {
    version: u64,
    identity: Identity,
    since: Instant,
}

/// Returns whether readers mirror a user.
pub(crate) fn is_mirrored(user: UserId) -> bool {
    user.get() % MIRRORED == 1
}

impl Ledger {
    pub(crate) fn new(reader: &'static str) -> Self {
        Self {
            reader,
            state: Arc::default(),
        }
    }

    /// Notes what is about to be sent. It may arrive before its acknowledgement.
    pub(crate) fn expect(&self, changes: &[Change]) {
        let mut state = self.lock();
        let since = Instant::now();
        for change in changes {
            if change.before.as_ref() != Some(&change.after) {
                let identity = change.after.identity().clone();
                let version = hash_of(&change.after);
                state.pending.insert(
                    key_of(&identity),
                    Pending {
                        version,
                        identity,
                        since,
                    },
                );
            }
        }
    }

    /// Notes that samples are about to be erased: they may arrive or not.
    pub(crate) fn release(&self, erasure: &Erasure) {
        self.lock().pending.retain(|_, Pending { identity, .. }| {
            identity.user_id != erasure.user_id() || !erasure.covers_reading(identity.timestamp, &identity.source)
        });
    }

    /// Notes samples that the reader received.
    pub(crate) fn received(&self, samples: &[Sample]) {
        let mut state = self.lock();
        for sample in samples {
            state.received += 1;
            let key = key_of(sample.identity());
            // An older version than the newest may arrive as well.
            if state
                .pending
                .get(&key)
                .is_some_and(|pending| pending.version == hash_of(sample))
            {
                state.pending.remove(&key);
            }
            if is_mirrored(sample.user_id()) {
                let mirror = state.mirror.entry(sample.user_id()).or_default();
                mirror.insert(sample.identity().clone(), sample.clone());
            }
        }
    }

    /// Drops what was erased.
    pub(crate) fn erased(&self, erasure: &Erasure) {
        if let Some(mirror) = self.lock().mirror.get_mut(&erasure.user_id()) {
            mirror.retain(|_, sample| !erasure.covers(sample));
        }
    }

    /// Returns what the reader holds of a mirrored user.
    pub(crate) fn held(&self, user: UserId) -> Oracle {
        self.lock()
            .mirror
            .get(&user)
            .map(|mirror| Oracle::of(mirror.values()))
            .unwrap_or_default()
    }

    /// Returns how many samples the reader received, and how many are still to come.
    pub(crate) fn counts(&self) -> (u64, usize) {
        let state = self.lock();
        (state.received, state.pending.len())
    }

    /// Returns an error if a sample is late by minutes.
    pub(crate) fn check(&self) -> Result<(), String> {
        let state = self.lock();
        let late = state
            .pending
            .values()
            .find(|pending| pending.since.elapsed() > DELAY_MAX);
        late.map_or(Ok(()), |pending| Err(self.missing(&pending.identity, DELAY_MAX)))
    }

    /// Returns an error if a sample is still to come.
    pub(crate) fn check_complete(&self, waited: Duration) -> Result<(), String> {
        let state = self.lock();
        let first = state.pending.values().next();
        first.map_or(Ok(()), |pending| Err(self.missing(&pending.identity, waited)))
    }

    fn missing(&self, identity: &Identity, time: Duration) -> String {
        format!(
            "the feed reader {:?} did not receive {identity:?} within {time:?}",
            self.reader
        )
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_of(identity: &Identity) -> u64 {
    let mut hasher = DefaultHasher::new();
    identity.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use health_core::{Readings, Source, Steps, TimeRange, parse_timestamp};

    use super::*;

    fn sample(user: i64, steps: i64) -> Sample {
        let time = parse_timestamp("2025-03-02T18:00:00Z").unwrap();
        let readings = Readings {
            steps: Some(Steps::new(steps).unwrap()),
            ..Readings::default()
        };
        Sample::new(UserId::new(user).unwrap(), time, Source::default(), readings).unwrap()
    }

    fn change(before: Option<Sample>, after: &Sample) -> Change {
        Change {
            person: 0,
            record: after.clone(),
            before,
            after: after.clone(),
        }
    }

    #[test]
    fn a_reader_must_receive_the_newest_version_of_each_sample() {
        let ledger = Ledger::new("lines");
        let (old, new) = (sample(1, 1), sample(1, 2));
        let is_complete = || ledger.check_complete(DELAY_MAX).is_ok();
        ledger.expect(&[change(None, &old)]);
        ledger.expect(&[change(Some(old.clone()), &new)]);
        ledger.received(std::slice::from_ref(&old));
        assert!(!is_complete(), "an older version is not enough");
        ledger.received(std::slice::from_ref(&new));
        assert!(is_complete());
        // An unchanged sample is not on the feed.
        ledger.expect(&[change(Some(new.clone()), &new)]);
        assert!(is_complete());
        assert_eq!(ledger.held(new.user_id()), Oracle::of([&new]));
    }

    #[test]
    fn an_erased_sample_may_not_stay_and_need_not_come() {
        let ledger = Ledger::new("stream");
        let (held, pending) = (sample(1, 1), sample(2, 2));
        ledger.received(std::slice::from_ref(&held));
        ledger.expect(&[change(None, &pending)]);
        let range = TimeRange::new(pending.timestamp(), pending.timestamp() + chrono::TimeDelta::seconds(1)).unwrap();
        ledger.release(&Erasure::of_range(pending.user_id(), range, None));
        assert!(ledger.check_complete(DELAY_MAX).is_ok());
        ledger.erased(&Erasure::of_user(held.user_id()));
        assert!(ledger.held(held.user_id()).is_empty());
    }
}
