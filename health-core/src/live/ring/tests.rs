//! The ring against a simple model: random members, deliveries and reads.

mod member;
mod model;
mod values;

use std::{collections::BTreeSet, sync::atomic::Ordering::SeqCst, task::Poll};

use proptest::{collection::vec, prelude::*};

use crate::live::ring::{
    state::INDEXED_USERS,
    tests::model::{Model, Step},
};

const USERS: i64 = 40;

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
