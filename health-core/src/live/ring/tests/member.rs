//! What a member of the ring must receive, by the model.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use proptest::prelude::*;

use crate::{
    live::{
        event::LiveEvent,
        ring::{
            Membership,
            tests::values::{erasure, number_of},
        },
    },
    sample::{Sample, UserId},
    wire::Cursor,
};

/// A delivered sample or erasure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivered {
    pub(super) index: u64,
    pub(super) number: i64,
    pub(super) user: i64,
    /// The second of its timestamp, which no other sample has.
    pub(super) second: i64,
    /// The first and the last second of an erasure.
    pub(super) erased: Option<(i64, i64)>,
    pub(super) order: u64,
}

impl Delivered {
    /// Whether the erasure covers another sample, or another erasure.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let (first, last) = other.erased.unwrap_or((other.second, other.second));
        self.user == other.user && self.erased.is_some_and(|(from, to)| from <= first && last <= to)
    }
}

/// An unread sample of a member. A ghost was acknowledged before the member subscribed: it is not read, but if it falls
/// off the ring after an unread sample, it counts as missed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unread {
    pub(super) sample: Delivered,
    pub(super) is_ghost: bool,
}

pub(super) struct ModelMember {
    pub(super) membership: Membership,
    pub(super) users: Option<BTreeSet<i64>>,
    pub(super) subscribed_after: u64,
    pub(super) unread: VecDeque<Unread>,
    /// Missed, and not told yet.
    pub(super) untold: u64,
    pub(super) told: u64,
    /// The index of the first sample after a gap that the member was not notified of.
    pub(super) gap: Option<u64>,
    pub(super) wakes: Arc<Wakes>,
    /// How often it was woken when it found nothing to read.
    pub(super) waits_since: Option<usize>,
    pub(super) paced: Option<ModelPace>,
}

/// What a member that wants the newest samples has received.
#[derive(Default)]
pub(super) struct ModelPace {
    /// The newest unread sample of each user.
    pub(super) newest: BTreeMap<i64, Delivered>,
    /// The unread erasures, without those that a later one includes.
    pub(super) erasures: Vec<Delivered>,
    pub(super) in_turn: BTreeSet<i64>,
}

impl ModelPace {
    pub(super) fn unread(&self) -> impl Iterator<Item = &Delivered> {
        self.newest.values().chain(&self.erasures)
    }
}

#[derive(Default)]
pub(super) struct Wakes(pub(super) AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl ModelMember {
    pub(super) fn new(membership: Membership, users: Option<BTreeSet<i64>>) -> Self {
        Self {
            membership,
            users,
            subscribed_after: 0,
            unread: VecDeque::new(),
            untold: 0,
            told: 0,
            gap: None,
            wakes: Arc::default(),
            waits_since: None,
            paced: None,
        }
    }

    pub(super) fn matches(&self, user: i64) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(&user))
    }

    pub(super) fn deliver(&mut self, sample: Delivered) {
        let matches = self.matches(sample.user);
        if let Some(pace) = self.paced.as_mut().filter(|_| matches) {
            if sample.erased.is_some() {
                pace.newest.retain(|_, newest| !sample.covers(newest));
                pace.erasures.retain(|earlier| !sample.covers(earlier));
                pace.erasures.push(sample);
            } else {
                pace.newest.insert(sample.user, sample);
            }
        }
        if self.paced.is_some() {
            return;
        }
        let is_ghost = sample.order <= self.subscribed_after;
        let has_unread = self.untold > 0 || self.unread.iter().any(|unread| !unread.is_ghost);
        // A commit that was acknowledged before the member subscribed moves it on, also if the samples are not of its
        // users.
        if is_ghost && !has_unread {
            self.unread.clear();
        } else if matches {
            self.unread.push_back(Unread { sample, is_ghost });
        }
    }

    /// Samples before an index are not in the ring any more. Returns how many the member has missed by that.
    pub(super) fn evict(&mut self, first_index: u64) -> u64 {
        let gone = self.unread.partition_point(|unread| unread.sample.index < first_index);
        self.unread.drain(..gone);
        self.untold += gone as u64;
        gone as u64
    }

    /// Whether a task that waits for the member must have been woken.
    pub(super) fn is_ready(&self) -> bool {
        self.untold > 0 || self.gap.is_some() || self.unread.iter().any(|unread| !unread.is_ghost)
    }

    /// After a resume from this cursor, nothing is missing: what is still unread is in a later commit.
    pub(super) fn check_cursor(&self, cursor: &Cursor) -> Result<(), TestCaseError> {
        let number = number_of(cursor);
        let mut unread = self.unread.iter().filter(|unread| !unread.is_ghost);
        prop_assert!(unread.all(|unread| unread.sample.number > number), "{number}");
        Ok(())
    }

    /// Takes an event and compares it. Returns false if there was none.
    pub(super) fn read(&mut self, next_index: u64, evicted: &[Delivered]) -> Result<bool, TestCaseError> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        let polled = self.membership.poll_take(&Context::from_waker(&waker));
        if self.paced.is_some() {
            return self.read_paced(polled);
        }
        while self.untold == 0 && self.unread.front().is_some_and(|unread| unread.is_ghost) {
            self.unread.pop_front();
        }
        let next = self.unread.iter().find(|unread| !unread.is_ghost);
        let index = next.map_or(next_index, |unread| unread.sample.index);
        match polled {
            Poll::Ready(Some(LiveEvent::Lagged { missed, cursor })) => {
                prop_assert!(self.untold > 0);
                prop_assert_eq!(missed, self.untold);
                self.check_cursor(&cursor)?;
                let number = number_of(&cursor);
                // Also what was missed comes again after the cursor.
                let missed = evicted.iter().rev().filter(|sample| self.matches(sample.user));
                for sample in missed.take(usize::try_from(self.untold).unwrap()) {
                    prop_assert!(sample.number > number || sample.order <= self.subscribed_after);
                }
                self.told += self.untold;
                self.untold = 0;
            }
            Poll::Ready(Some(LiveEvent::Subscribed {
                resumed,
                reason,
                cursor,
            })) => {
                prop_assert!(!resumed && reason.as_deref() == Some("gap"));
                self.check_cursor(&cursor)?;
                prop_assert!(self.untold == 0 && self.gap.is_some_and(|gap| gap <= index));
                self.gap = None;
            }
            Poll::Ready(Some(LiveEvent::Sample { cursor, published })) => {
                prop_assert_eq!(self.untold, 0);
                prop_assert!(self.gap.is_none_or(|gap| gap > index));
                self.unread.retain(|unread| unread.sample.index >= index);
                let Some(expected) = self.unread.pop_front() else {
                    return Err(TestCaseError::fail("a sample that was not expected"));
                };
                let (expected, sample) = (expected.sample, published.sample());
                prop_assert_eq!(expected.erased, None);
                prop_assert_eq!(sample.user_id().get(), expected.user);
                prop_assert_eq!((sample.timestamp() - Sample::EARLIEST).num_seconds(), expected.second);
                let json: serde_json::Value = serde_json::from_slice(published.json()).unwrap();
                prop_assert_eq!(json["user_id"].as_i64(), Some(expected.user));
                self.check_cursor(&cursor)?;
                prop_assert!(number_of(&cursor) <= expected.number);
            }
            Poll::Ready(Some(LiveEvent::Erased {
                cursor,
                erasure: erased,
            })) => {
                prop_assert_eq!(self.untold, 0);
                prop_assert!(self.gap.is_none_or(|gap| gap > index));
                self.unread.retain(|unread| unread.sample.index >= index);
                let expected = self.unread.pop_front().map(|unread| unread.sample);
                let expected_erasure = expected.and_then(|it| Some(erasure(it.user, it.erased?)));
                prop_assert_eq!(Some(&*erased), expected_erasure.as_ref());
                self.check_cursor(&cursor)?;
                prop_assert!(expected.is_some_and(|expected| number_of(&cursor) <= expected.number));
            }
            Poll::Ready(None) => return Err(TestCaseError::fail("the ring is not closed")),
            Poll::Pending => {
                prop_assert!(!self.is_ready());
                self.unread.clear();
                self.waits_since = Some(self.wakes.0.load(SeqCst));
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn read_paced(&mut self, polled: Poll<Option<LiveEvent>>) -> Result<bool, TestCaseError> {
        let Some(pace) = &mut self.paced else { return Ok(false) };
        match polled {
            Poll::Ready(Some(LiveEvent::Lagged { missed, cursor })) => {
                let number = number_of(&cursor);
                prop_assert!(pace.unread().all(|unread| unread.number > number));
                // The samples that the table evicted come again after the cursor.
                let before = pace.newest.len();
                let state = self.membership.ring.state.lock();
                pace.newest.retain(|user, unread| {
                    let user = UserId::new(*user).unwrap();
                    let found = state.newest.first_of_user(user, unread.index, unread.index + 1);
                    found.is_some()
                });
                pace.erasures.retain(|unread| {
                    let user = UserId::new(unread.user).unwrap();
                    let found = state.newest.first_of_user(user, unread.index, unread.index + 1);
                    found.is_some()
                });
                let evicted = (before - pace.newest.len()) as u64;
                prop_assert!(missed > 0 && missed >= evicted, "{missed} of {evicted}");
            }
            Poll::Ready(Some(LiveEvent::Subscribed { .. })) => {
                prop_assert!(self.gap.is_some());
                self.gap = None;
            }
            Poll::Ready(Some(LiveEvent::Sample { cursor, published })) => {
                let user = published.sample().user_id().get();
                let second = (published.sample().timestamp() - Sample::EARLIEST).num_seconds();
                prop_assert!(pace.in_turn.insert(user), "one sample of each user in a turn");
                let newest = pace.newest.remove(&user);
                prop_assert_eq!(newest.map(|newest| newest.second), Some(second), "the newest one, once");
                let is_earlier =
                    |it: &&Delivered| it.user == user && newest.is_some_and(|newest| it.index < newest.index);
                prop_assert!(
                    !pace.erasures.iter().any(|it| is_earlier(&it)),
                    "erasures in their order"
                );
                let number = number_of(&cursor);
                prop_assert!(pace.unread().all(|unread| unread.number > number));
            }
            Poll::Ready(Some(LiveEvent::Erased {
                cursor,
                erasure: erased,
            })) => {
                let is_it = |it: &Delivered| it.erased.is_some_and(|range| erasure(it.user, range) == *erased);
                let Some(at) = pace.erasures.iter().position(is_it) else {
                    return Err(TestCaseError::fail("an erasure that was not expected"));
                };
                let read = pace.erasures.remove(at);
                let mut others = pace.unread().filter(|it| it.user == read.user);
                prop_assert!(others.all(|it| it.index > read.index), "in the order of delivery");
                let number = number_of(&cursor);
                prop_assert!(pace.unread().all(|unread| unread.number > number));
            }
            Poll::Ready(None) => return Err(TestCaseError::fail("the ring is not closed")),
            Poll::Pending => return Ok(false),
        }
        Ok(true)
    }
}
