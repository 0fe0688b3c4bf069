//! The ring against a simple model: random members, deliveries and reads.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use chrono::TimeDelta;
use proptest::{collection::vec, prelude::*};

use super::{CHUNK_SAMPLES, Delivery, Listener, Mark, Membership, READ_BACK, Ring, state::INDEXED_USERS};
use crate::{
    config::Limits,
    erasure::Erasure,
    live::{chunk::Change, cursor::from_cursor, event::LiveEvent, filter::Filter},
    range::TimeRange,
    sample::{Readings, Sample, Source, Steps, UserId},
    store::commit_log::LogPosition,
    wire::Cursor,
};

const USERS: i64 = 40;

/// One step of a run. Numbers that choose a member or a listener count round.
#[derive(Debug, Clone)]
enum Step {
    Subscribe {
        users: Option<BTreeSet<i64>>,
        paced: bool,
    },
    /// Takes up to this number of events.
    Read(usize, usize),
    Drop(usize),
    Tick(usize),
    /// A writer hands a commit over; it is delivered later.
    HandOver,
    /// Delivers a commit with samples of these users: one that was handed over, if there is one and `own` is true.
    Deliver {
        own: bool,
        users: Vec<i64>,
    },
    /// Delivers an erasure of a user's samples in the last seconds of the model.
    Erase {
        own: bool,
        user: i64,
        seconds: i64,
    },
    Gap,
    /// A replay begins, or ends and joins.
    Listen {
        paced: bool,
    },
    Join(usize, Option<BTreeSet<i64>>),
}

/// A delivered sample or erasure.
#[derive(Debug, Clone, Copy)]
struct Delivered {
    index: u64,
    number: i64,
    user: i64,
    /// The second of its timestamp, which no other sample has.
    second: i64,
    /// The first and the last second of an erasure.
    erased: Option<(i64, i64)>,
    order: u64,
}

impl Delivered {
    /// Whether the erasure covers another sample, or another erasure.
    fn covers(&self, other: &Self) -> bool {
        let (first, last) = other.erased.unwrap_or((other.second, other.second));
        self.user == other.user && self.erased.is_some_and(|(from, to)| from <= first && last <= to)
    }
}

/// An unread sample of a member. A ghost was acknowledged before the member subscribed: it is not read, but if it falls off
/// the ring after an unread sample, it counts as missed.
#[derive(Debug, Clone, Copy)]
struct Unread {
    sample: Delivered,
    is_ghost: bool,
}

struct ModelMember {
    membership: Membership,
    users: Option<BTreeSet<i64>>,
    subscribed_after: u64,
    unread: VecDeque<Unread>,
    /// Missed, and not told yet.
    untold: u64,
    told: u64,
    /// The index of the first sample after a gap that the member was not notified of.
    gap: Option<u64>,
    wakes: Arc<Wakes>,
    /// How often it was woken when it found nothing to read.
    waits_since: Option<usize>,
    paced: Option<ModelPace>,
}

/// What a member that wants the newest samples has received.
#[derive(Default)]
struct ModelPace {
    /// The newest unread sample of each user.
    newest: BTreeMap<i64, Delivered>,
    /// The unread erasures, without those that a later one includes.
    erasures: Vec<Delivered>,
    in_turn: BTreeSet<i64>,
}

impl ModelPace {
    fn unread(&self) -> impl Iterator<Item = &Delivered> {
        self.newest.values().chain(&self.erasures)
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

struct Model {
    ring: Arc<Ring>,
    limits: Limits,
    delivered: Vec<Delivered>,
    /// The index of the next sample.
    next_index: u64,
    number: i64,
    second: i64,
    members: Vec<ModelMember>,
    listeners: Vec<(Listener, Mark, bool, Option<u64>)>,
    handed_over: VecDeque<u64>,
    /// All that non-paced members have missed.
    missed: u64,
    had_paced: bool,
}

fn position(number: i64) -> LogPosition {
    LogPosition {
        number,
        fingerprint: u32::try_from(number).unwrap_or_default().wrapping_mul(0x9E37_79B9),
    }
}

fn sample(user: i64, second: i64) -> Sample {
    let readings = Readings {
        steps: Some(Steps::new(1).unwrap()),
        ..Readings::default()
    };
    let time = Sample::EARLIEST + TimeDelta::seconds(second);
    // Some sources need memory of their own.
    let source = Source::new("x".repeat(1 + usize::try_from(second % 40).unwrap())).unwrap();
    Sample::new(UserId::new(user).unwrap(), time, source, readings).unwrap()
}

/// The erasure of a user's samples from the first to the last second.
fn erasure(user: i64, (first, last): (i64, i64)) -> Erasure {
    let time = |second| Sample::EARLIEST + TimeDelta::seconds(second);
    let range = TimeRange::new(time(first), time(last + 1)).unwrap();
    Erasure::of_range(UserId::new(user).unwrap(), range, None)
}

fn number_of(cursor: &Cursor) -> i64 {
    let position = from_cursor(cursor).unwrap();
    assert_eq!(position, self::position(position.number), "a cursor of this ring");
    position.number
}

fn filter(users: Option<&BTreeSet<i64>>) -> Filter {
    match users {
        None => Filter::all(),
        Some(users) => Filter::users(users.iter().map(|user| UserId::new(*user).unwrap())),
    }
}

impl ModelMember {
    fn new(membership: Membership, users: Option<BTreeSet<i64>>) -> Self {
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

    fn matches(&self, user: i64) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(&user))
    }

    fn deliver(&mut self, sample: Delivered) {
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
        // A commit that was acknowledged before the member subscribed moves it on, whoever its samples are of.
        if is_ghost && !has_unread {
            self.unread.clear();
        } else if matches {
            self.unread.push_back(Unread { sample, is_ghost });
        }
    }

    /// Samples before an index are not in the ring any more. Returns how many the member has missed by that.
    fn evict(&mut self, first_index: u64) -> u64 {
        let gone = self.unread.partition_point(|unread| unread.sample.index < first_index);
        self.unread.drain(..gone);
        self.untold += gone as u64;
        gone as u64
    }

    /// Whether a task that waits for the member must have been woken.
    fn is_ready(&self) -> bool {
        self.untold > 0 || self.gap.is_some() || self.unread.iter().any(|unread| !unread.is_ghost)
    }

    /// After a resume from this cursor, nothing is missing: what is still unread is in a later commit.
    fn check_cursor(&self, cursor: &Cursor) -> Result<(), TestCaseError> {
        let number = number_of(cursor);
        let mut unread = self.unread.iter().filter(|unread| !unread.is_ghost);
        prop_assert!(unread.all(|unread| unread.sample.number > number), "{number}");
        Ok(())
    }

    /// Takes an event and compares it. Returns false if there was none.
    fn read(&mut self, next_index: u64, evicted: &[Delivered]) -> Result<bool, TestCaseError> {
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

    fn read_paced(&mut self, polled: Poll<Option<LiveEvent>>) -> Result<bool, TestCaseError> {
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

impl Model {
    fn new(subscriber_queue: usize, subscriber_memory: usize) -> Self {
        let limits = Limits {
            subscriber_queue,
            subscriber_memory,
            ..Limits::default()
        };
        Self {
            ring: Arc::new(Ring::new(position(1), &limits)),
            limits,
            delivered: Vec::new(),
            next_index: 0,
            number: 1,
            second: 0,
            members: Vec::new(),
            listeners: Vec::new(),
            handed_over: VecDeque::new(),
            missed: 0,
            had_paced: false,
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let count = self.members.len().max(1);
        match step {
            Step::Subscribe { users, paced } => self.subscribe(users, paced),
            Step::Read(member, limit) => {
                let first_index = self.ring.state.lock().first_index();
                let evicted = self.delivered.partition_point(|sample| sample.index < first_index);
                let (next_index, evicted) = (self.next_index, &self.delivered[..evicted]);
                if let Some(member) = self.members.get_mut(member % count) {
                    for _ in 0..limit {
                        if !member.read(next_index, evicted)? {
                            break;
                        }
                    }
                }
            }
            Step::Drop(member) => {
                if !self.members.is_empty() {
                    self.members.swap_remove(member % count);
                }
            }
            Step::Tick(member) => self.tick(member)?,
            Step::HandOver => self.handed_over.push_back(self.ring.hand_over()),
            Step::Deliver { own, users } => self.deliver(own, &users)?,
            Step::Erase { own, user, seconds } => self.erase(own, user, seconds)?,
            Step::Gap => {
                self.number += 5;
                self.ring.continue_after_gap("gap", position(self.number));
                for gap in self.members.iter_mut().map(|member| &mut member.gap) {
                    *gap = Some(self.next_index);
                }
                for (_, _, _, gap) in &mut self.listeners {
                    *gap = Some(self.next_index);
                }
            }
            Step::Listen { paced } => {
                let listener = self.ring.listen(paced);
                self.had_paced |= paced;
                self.listeners.push((listener, self.ring.mark(), paced, None));
            }
            Step::Join(listener, users) => self.join(listener, users)?,
        }
        self.check()
    }

    fn subscribe(&mut self, users: Option<BTreeSet<i64>>, paced: bool) {
        let membership = self.ring.subscribe(&filter(users.as_ref()));
        if paced {
            membership.read_newest();
            self.had_paced = true;
        }
        let mut member = ModelMember::new(membership, users);
        member.subscribed_after = self.ring.handed_over_count.load(SeqCst);
        member.paced = paced.then(ModelPace::default);
        self.members.push(member);
    }

    /// Begins a turn of a paced member, once the one before is read.
    fn tick(&mut self, member: usize) -> Result<(), TestCaseError> {
        let count = self.members.len().max(1);
        let Some(member) = self.members.get_mut(member % count) else {
            return Ok(());
        };
        if member.paced.is_some() {
            while member.read(self.next_index, &[])? {}
        }
        if let Some(pace) = &mut member.paced {
            pace.in_turn.clear();
            let waker = Waker::from(Arc::clone(&member.wakes));
            let begun = member.membership.poll_turn(&Context::from_waker(&waker));
            member.read_paced(begun)?;
        }
        Ok(())
    }

    fn deliver(&mut self, own: bool, users: &[i64]) -> Result<(), TestCaseError> {
        self.number += 1;
        let order = if own { self.handed_over.pop_front() } else { None };
        let order = order.unwrap_or(READ_BACK);
        let numbered: Vec<(i64, i64)> = users.iter().copied().zip(self.second..).collect();
        self.second += i64::try_from(users.len()).unwrap();
        let samples: Vec<_> = numbered.iter().map(|(user, second)| sample(*user, *second)).collect();
        let delivery = |samples: Option<Vec<_>>| Delivery {
            change: samples.map(Change::Samples),
            batch_number: self.number,
            position: position(self.number),
        };
        let has_listeners = !self.members.is_empty() || !self.listeners.is_empty();
        prop_assert_eq!(self.ring.has_listeners(), has_listeners);
        // Without samples, only if there is no subscription.
        let before = self.ring.cursor();
        let is_delivered = self.ring.deliver(delivery(None), || order);
        prop_assert_eq!(is_delivered, !has_listeners);
        if !has_listeners {
            return Ok(());
        }
        prop_assert_eq!(self.ring.cursor(), before);
        prop_assert!(self.ring.deliver(delivery(Some(samples)), || order));
        let chunk = CHUNK_SAMPLES.min(self.limits.subscriber_queue);
        self.delivered_in_chunks(&numbered, chunk, order);
        self.evict();
        Ok(())
    }

    fn erase(&mut self, own: bool, user: i64, seconds: i64) -> Result<(), TestCaseError> {
        self.number += 1;
        let order = if own { self.handed_over.pop_front() } else { None };
        let order = order.unwrap_or(READ_BACK);
        let range = (self.second.saturating_sub(seconds), self.second);
        self.second += 1;
        let delivery = Delivery {
            change: Some(Change::Erasure(Arc::new(erasure(user, range)))),
            batch_number: self.number,
            position: position(self.number),
        };
        prop_assert!(self.ring.deliver(delivery, || order));
        if self.members.is_empty() && self.listeners.is_empty() {
            return Ok(());
        }
        let delivered = Delivered {
            index: self.next_index,
            number: self.number,
            user,
            second: 0,
            erased: Some(range),
            order,
        };
        self.next_index += 1;
        self.delivered.push(delivered);
        self.members.iter_mut().for_each(|member| member.deliver(delivered));
        self.evict();
        Ok(())
    }

    fn delivered_in_chunks(&mut self, numbered: &[(i64, i64)], chunk: usize, order: u64) {
        for part in numbered.chunks(chunk) {
            let mut part = part.to_vec();
            part.sort_by_key(|(user, _)| *user);
            for (user, second) in part {
                let sample = Delivered {
                    index: self.next_index,
                    number: self.number,
                    user,
                    second,
                    erased: None,
                    order,
                };
                self.next_index += 1;
                self.delivered.push(sample);
                self.members.iter_mut().for_each(|member| member.deliver(sample));
            }
        }
    }

    fn evict(&mut self) {
        let first_index = self.ring.state.lock().first_index();
        let evicted = self.members.iter_mut().map(|member| member.evict(first_index));
        self.missed += evicted.sum::<u64>();
    }

    fn join(&mut self, listener: usize, users: Option<BTreeSet<i64>>) -> Result<(), TestCaseError> {
        if self.listeners.is_empty() {
            return Ok(());
        }
        let (listener, mark, paced, gap) = self.listeners.swap_remove(listener % self.listeners.len());
        let joined = self.ring.join(&filter(users.as_ref()), mark, paced);
        let first_index = self.ring.state.lock().first_index();
        prop_assert_eq!(joined.is_some(), paced || mark.index >= first_index);
        if let Some(membership) = joined {
            let mut member = ModelMember::new(membership, users);
            member.gap = gap;
            member.paced = paced.then(ModelPace::default);
            let from = self.delivered.partition_point(|sample| sample.index < mark.index);
            for sample in &self.delivered[from..] {
                member.deliver(*sample);
            }
            self.members.push(member);
        }
        drop(listener);
        Ok(())
    }

    /// What holds at every moment.
    fn check(&self) -> Result<(), TestCaseError> {
        for member in self.members.iter().filter(|member| member.is_ready()) {
            if let Some(wakes) = member.waits_since {
                prop_assert!(member.wakes.0.load(SeqCst) > wakes, "a member is woken");
            }
        }
        let state = self.ring.state.lock();
        let samples: usize = state.chunks.iter().map(|chunk| chunk.len()).sum();
        let bytes: usize = state.chunks.iter().map(|chunk| chunk.bytes()).sum();
        prop_assert_eq!(state.bytes, bytes);
        prop_assert!(samples <= self.limits.subscriber_queue);
        prop_assert!(bytes + state.newest.bytes() <= self.limits.subscriber_memory);
        let untold: u64 = self.members.iter().map(|member| member.untold).sum();
        let told: u64 = self.members.iter().map(|member| member.told).sum();
        prop_assert!(self.missed >= untold + told, "members that were dropped count as well");
        let has_paced = self.members.iter().any(|member| member.paced.is_some())
            || self.listeners.iter().any(|(_, _, paced, _)| *paced);
        if !has_paced {
            prop_assert_eq!(state.newest.bytes(), 0);
        }
        // What paced members missed counts as well.
        prop_assert!(state.missed >= self.missed);
        prop_assert!(self.had_paced || state.missed == self.missed);
        if self.members.is_empty() && self.listeners.is_empty() {
            prop_assert!(state.chunks.is_empty() && state.by_user.is_empty() && state.paced_by_user.is_empty());
        }
        Ok(())
    }

    /// Lets every member read to the end, then drops it.
    fn end(mut self) -> Result<(), TestCaseError> {
        for index in 0..self.members.len() {
            self.step(Step::Tick(index))?;
            self.step(Step::Read(index, usize::MAX))?;
            let member = &self.members[index];
            prop_assert!(!member.is_ready());
            if let Some(pace) = &member.paced {
                prop_assert!(pace.unread().next().is_none(), "nothing is missing in silence");
            }
            let is_idle = member.membership.cursor_if_idle();
            prop_assert_eq!(is_idle, Some(self.ring.cursor()));
        }
        while !self.members.is_empty() {
            self.step(Step::Drop(0))?;
        }
        self.listeners.clear();
        self.check()
    }
}

fn some_users() -> impl Strategy<Value = Option<BTreeSet<i64>>> {
    let named = |count| proptest::collection::btree_set(1..=USERS, count).prop_map(Some);
    prop_oneof![
        3 => Just(None),
        3 => named(1..2),
        2 => named(2..INDEXED_USERS),
        1 => named(INDEXED_USERS + 1..INDEXED_USERS + 8),
        1 => Just(Some(BTreeSet::new())),
    ]
}

fn step(with_paced: bool) -> impl Strategy<Value = Step> {
    let paced = move || prop::bool::weighted(if with_paced { 0.4 } else { 0.0 });
    let which = || 0..64_usize;
    prop_oneof![
        3 => (some_users(), paced()).prop_map(|(users, paced)| Step::Subscribe { users, paced }),
        6 => (which(), 1..30_usize).prop_map(|(member, limit)| Step::Read(member, limit)),
        2 => which().prop_map(|member| Step::Read(member, usize::MAX)),
        1 => which().prop_map(Step::Drop),
        2 => which().prop_map(Step::Tick),
        2 => Just(Step::HandOver),
        10 => (any::<bool>(), vec(1..=USERS, 0..25)).prop_map(|(own, users)| Step::Deliver { own, users }),
        1 => (any::<bool>(), vec(1..=USERS, 500..1_200)).prop_map(|(own, users)| Step::Deliver { own, users }),
        3 => (any::<bool>(), 1..=USERS, 0..40_i64).prop_map(|(own, user, seconds)| Step::Erase { own, user, seconds }),
        1 => Just(Step::Gap),
        1 => paced().prop_map(|paced| Step::Listen { paced }),
        2 => (which(), some_users()).prop_map(|(listener, users)| Step::Join(listener, users)),
    ]
}

proptest! {
    #[test]
    fn members_receive_every_matching_sample_or_the_number_of_those_that_they_missed(
        steps in vec(step(false), 1..120),
        queue in prop_oneof![1..5_usize, 10..80_usize, 600..3_000_usize],
        memory in prop_oneof![Just(64_usize << 20), 2_000..60_000_usize],
    ) {
        let mut model = Model::new(queue, memory);
        for step in steps {
            model.step(step)?;
        }
        model.end()?;
    }

    #[test]
    fn paced_members_receive_the_newest_sample_of_each_user(
        steps in vec(step(true), 1..120),
        queue in prop_oneof![1..5_usize, 10..80_usize, 600..3_000_usize],
        memory in prop_oneof![Just(64_usize << 20), 2_000..60_000_usize],
    ) {
        let mut model = Model::new(queue, memory);
        for step in steps {
            model.step(step)?;
        }
        model.end()?;
    }
}

#[test]
fn closing_the_ring_wakes_and_ends_every_member_after_its_unread_samples() {
    let mut model = Model::new(100, 1 << 20);
    model.subscribe(None, false);
    model.subscribe(Some(BTreeSet::from([2])), false);
    for member in &mut model.members {
        assert!(!member.read(0, &[]).unwrap());
    }
    model.deliver(false, &[1]).unwrap();
    model.ring.close();
    for (member, unread) in model.members.iter_mut().zip([1, 0]) {
        assert!(member.wakes.0.load(SeqCst) > 0);
        for _ in 0..unread {
            assert!(member.read(1, &[]).unwrap());
        }
        assert!(matches!(member.membership.take(), Poll::Ready(None)));
    }
}

#[test]
fn a_paced_member_that_waits_for_its_turn_is_woken_by_a_sample_of_its_users_only() {
    let mut model = Model::new(100, 1 << 20);
    model.subscribe(None, true);
    model.subscribe(Some(BTreeSet::from([2])), true);
    let woken = |model: &Model| -> Vec<usize> {
        let wakes = model.members.iter().map(|member| member.wakes.0.load(SeqCst));
        wakes.collect()
    };
    model.deliver(false, &[1, 2]).unwrap();
    assert_eq!(woken(&model), [0, 0], "they wait for their timers");
    for member in 0..2 {
        model.tick(member).unwrap();
        model.tick(member).unwrap();
    }
    model.deliver(false, &[1]).unwrap();
    assert_eq!(woken(&model), [1, 0]);
    model.deliver(false, &[2]).unwrap();
    model.deliver(false, &[2]).unwrap();
    assert_eq!(woken(&model), [1, 1], "once, until they wait again");
}
