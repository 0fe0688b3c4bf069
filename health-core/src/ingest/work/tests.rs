//! Which requests a free writer takes, by example and by property.

use proptest::prelude::*;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::*;
use crate::{
    ingest::positions::Positions,
    sample::{HeartRate, Readings, Sample, Source, UserId},
};

/// A request whose samples all belong to one user; its number is in the timestamps.
fn request(user: i64, number: i64, rows: usize, permits: &Arc<OwnedSemaphorePermit>) -> Request {
    let readings = Readings {
        heart_rate: HeartRate::new(60.0).ok(),
        ..Readings::default()
    };
    let time = Sample::EARLIEST + chrono::TimeDelta::seconds(number);
    let sample = Sample::new(UserId::new(user).unwrap(), time, Source::default(), readings).unwrap();
    Request {
        positions: Positions::From(0),
        samples: vec![sample; rows],
        deadline: Instant::now(),
        ack: oneshot::channel().0,
        permits: Arc::clone(permits),
    }
}

fn permits() -> Arc<OwnedSemaphorePermit> {
    Arc::new(Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap())
}

fn queue(writers: usize) -> Arc<WorkQueue> {
    Arc::new(WorkQueue::new(&Limits {
        writers,
        ..Limits::default()
    }))
}

fn add(queue: &WorkQueue, user: i64, number: i64, rows: usize) {
    let shard = queue.shards().of(UserId::new(user).unwrap());
    queue.add(shard, request(user, number, rows, &permits())).unwrap();
}

fn users(work: &Work) -> Vec<i64> {
    work.requests
        .iter()
        .map(|request| request.samples[0].user_id().get())
        .collect()
}

// What a writer takes depends on how long ago small requests came. With a paused clock, no time passes in between.

#[tokio::test(start_paused = true)]
async fn one_writer_takes_all_shards_while_few_rows_wait_and_each_takes_one_while_many_do() {
    let queue = queue(2);
    for user in 1..=20 {
        add(&queue, user, 0, 1);
    }
    let all = queue.take().unwrap();
    assert_eq!(all.requests.len(), 20);
    assert!(queue.take().is_none());
    drop(all);
    for user in 1..=20 {
        add(&queue, user, 0, 2_000);
    }
    let (first, second) = (queue.take().unwrap(), queue.take().unwrap());
    assert!(queue.take().is_none());
    let shard = |work: &Work| queue.shards().of(UserId::new(users(work)[0]).unwrap());
    assert_ne!(shard(&first), shard(&second));
}

#[tokio::test(start_paused = true)]
async fn a_small_request_passes_large_ones_of_other_users_only() {
    let queue = queue(1);
    for number in 0..10 {
        add(&queue, 1, number, SMALL_ROWS);
    }
    add(&queue, 2, 0, 1);
    add(&queue, 1, 10, 1);
    let work = queue.take().unwrap();
    assert_eq!(users(&work), [2]);
    drop(work);
    add(&queue, 2, 1, 1);
    let work = queue.take().unwrap();
    assert_eq!(users(&work)[..2], [2, 1]);
    assert_eq!(work.requests.len(), 1 + MIXED_BATCH_ROWS / SMALL_ROWS);
    drop(work);
    assert_eq!(users(&queue.take().unwrap()), [1]);
}

#[tokio::test(start_paused = true)]
async fn small_requests_of_other_users_go_to_the_spare_writer_while_large_ones_are_written() {
    let queue = queue(1);
    queue.set_spare_connected(true);
    add(&queue, 1, 0, SMALL_ROWS);
    assert!(queue.take_spare().is_none());
    add(&queue, 2, 0, 1);
    let large = queue.take().unwrap();
    assert_eq!(users(&large), [1]);
    add(&queue, 1, 1, 1);
    let small = queue.take_spare().unwrap();
    assert_eq!(users(&small), [2]);
    // Large requests of the spare writer's users wait for it, and keep their place before later small ones.
    add(&queue, 2, 1, SMALL_ROWS);
    add(&queue, 2, 2, 1);
    drop(large);
    let own = queue.take().unwrap();
    assert_eq!(users(&own), [1]);
    drop(own);
    assert!(queue.take().is_none());
    drop(small);
    assert_eq!(users(&queue.take().unwrap()), [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn small_requests_alone_are_not_divided_between_two_writers() {
    let queue = queue(1);
    queue.set_spare_connected(true);
    add(&queue, 1, 0, 1);
    let first = queue.take().unwrap();
    add(&queue, 2, 0, 1);
    assert!(queue.take_spare().is_none());
    drop(first);
    assert_eq!(users(&queue.take().unwrap()), [2]);
}

/// One step of the property test.
#[derive(Debug, Clone, Copy)]
enum TestStep {
    Add(i64, usize),
    Take,
    TakeSpare,
    /// Ends one of the works in progress.
    End(usize),
    ConnectSpare(bool),
}

fn test_step() -> impl Strategy<Value = TestStep> {
    let rows = prop_oneof![3 => Just(1_usize), 1 => Just(700), 1 => Just(3_000)];
    prop_oneof![
        6 => (1..6_i64, rows).prop_map(|(user, rows)| TestStep::Add(user, rows)),
        2 => Just(TestStep::Take),
        2 => Just(TestStep::TakeSpare),
        3 => any::<usize>().prop_map(TestStep::End),
        1 => any::<bool>().prop_map(TestStep::ConnectSpare),
    ]
}

proptest! {
    /// Whatever is added and however it is taken, each user's requests are taken in their order, never by two writers
    /// at once, and none is lost.
    #[test]
    fn requests_of_a_user_keep_their_order(
        steps in proptest::collection::vec(test_step(), 1..100),
        writers in 1..4_usize,
    ) {
        let queue = queue(writers);
        let mut next = [0_i64; 6];
        let mut seen = [0_i64; 6];
        let mut in_progress: Vec<Work> = Vec::new();
        let mut check = |work: &Work, in_progress: &[Work]| {
            for other in in_progress {
                assert!(!users(other).iter().any(|user| users(work).contains(user)), "two writers have one user");
            }
            for request in &work.requests {
                let user = usize::try_from(request.samples[0].user_id().get()).unwrap();
                let number = (request.samples[0].timestamp() - Sample::EARLIEST).num_seconds();
                assert_eq!(number, seen[user], "user {user}");
                seen[user] += 1;
            }
        };
        for step in steps {
            let taken = match step {
                TestStep::Add(user, rows) => {
                    let index = usize::try_from(user).unwrap();
                    add(&queue, user, next[index], rows);
                    next[index] += 1;
                    None
                }
                TestStep::Take => queue.take(),
                TestStep::TakeSpare => queue.take_spare(),
                TestStep::End(index) if !in_progress.is_empty() => {
                    drop(in_progress.swap_remove(index % in_progress.len()));
                    None
                }
                TestStep::End(_) => None,
                TestStep::ConnectSpare(is_connected) => {
                    queue.set_spare_connected(is_connected);
                    None
                }
            };
            if let Some(work) = taken {
                check(&work, &in_progress);
                in_progress.push(work);
            }
        }
        in_progress.clear();
        queue.set_spare_connected(false);
        while let Some(work) = queue.take() {
            check(&work, &[]);
        }
        prop_assert_eq!(seen, next);
    }
}
