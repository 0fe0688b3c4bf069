//! The model: the ring, its members, and the steps of a run.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, atomic::Ordering::SeqCst},
    task::{Context, Waker},
};

use proptest::prelude::*;

use crate::{
    config::Limits,
    live::{
        chunk::Change,
        ring::{
            CHUNK_SAMPLES, Delivery, Listener, Mark, READ_BACK, Ring,
            tests::{
                member::{Delivered, ModelMember, ModelPace},
                values::{erasure, filter, position, sample},
            },
        },
    },
};

/// One step of a run. Numbers that choose a member or a listener count round.
#[derive(Debug, Clone)]
pub(super) enum Step {
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

pub(super) struct Model {
    pub(super) ring: Arc<Ring>,
    pub(super) limits: Limits,
    pub(super) delivered: Vec<Delivered>,
    /// The index of the next sample.
    pub(super) next_index: u64,
    pub(super) number: i64,
    pub(super) second: i64,
    pub(super) members: Vec<ModelMember>,
    pub(super) listeners: Vec<(Listener, Mark, bool, Option<u64>)>,
    pub(super) handed_over: VecDeque<u64>,
    /// All that non-paced members have missed.
    pub(super) missed: u64,
    pub(super) had_paced: bool,
}

impl Model {
    pub(super) fn new(subscriber_queue: usize, subscriber_memory: usize) -> Self {
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

    pub(super) fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
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

    pub(super) fn subscribe(&mut self, users: Option<BTreeSet<i64>>, paced: bool) {
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
    pub(super) fn tick(&mut self, member: usize) -> Result<(), TestCaseError> {
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

    pub(super) fn deliver(&mut self, own: bool, users: &[i64]) -> Result<(), TestCaseError> {
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

    pub(super) fn erase(&mut self, own: bool, user: i64, seconds: i64) -> Result<(), TestCaseError> {
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

    pub(super) fn delivered_in_chunks(&mut self, numbered: &[(i64, i64)], chunk: usize, order: u64) {
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

    pub(super) fn evict(&mut self) {
        let first_index = self.ring.state.lock().first_index();
        let evicted = self.members.iter_mut().map(|member| member.evict(first_index));
        self.missed += evicted.sum::<u64>();
    }

    pub(super) fn join(&mut self, listener: usize, users: Option<BTreeSet<i64>>) -> Result<(), TestCaseError> {
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
    pub(super) fn check(&self) -> Result<(), TestCaseError> {
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
    pub(super) fn end(mut self) -> Result<(), TestCaseError> {
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
