//! Which samples a subscription receives that begins now, in which order, and what it hears if it is too slow.

use std::time::Duration;

use health_core::{Filter, Limits, LiveEvent};
use test_support::TestDatabase;
use tokio::time::timeout;

use crate::support::{
    APPEND, COMMIT_LOCK, expect_resumed, keys_of_one_row, next, next_sample, one_writer, open, open_with, receive,
    sample, sql, user,
};

#[tokio::test]
async fn a_subscription_begins_with_the_next_acknowledged_sample() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    for n in 0..20 {
        health.ingest([sample(1, n, 1)]).await.unwrap();
        let mut live = health.subscribe(Filter::all());
        health.ingest([sample(1, n, 2)]).await.unwrap();
        assert_eq!(receive(&mut live, 1).await, ["1:2"]);
        assert!(live.try_next().is_none());
    }
}

#[tokio::test]
async fn a_subscription_receives_only_changes_and_only_of_its_users() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let mut all = health.subscribe(Filter::all());
    let mut two = health.subscribe(Filter::users([user(2), user(3)]));
    health.ingest([sample(1, 0, 1), sample(2, 0, 1)]).await.unwrap();
    health.ingest([sample(1, 0, 1), sample(2, 0, 2)]).await.unwrap();
    health.ingest([sample(3, 0, 9)]).await.unwrap();
    assert_eq!(receive(&mut all, 4).await, ["1:1", "2:1", "2:2", "3:9"]);
    assert_eq!(receive(&mut two, 3).await, ["2:1", "2:2", "3:9"]);
    health.close().await.unwrap();
    assert!(all.next().await.is_none() && two.next().await.is_none());
}

#[tokio::test]
async fn two_servers_deliver_all_commits_in_the_same_order() {
    let database = TestDatabase::new().await;
    let servers = [open(&database).await, open(&database).await];
    let mut subscriptions = [servers[0].subscribe(Filter::all()), servers[1].subscribe(Filter::all())];
    let mut expected = Vec::new();
    for n in 0..60 {
        let health = &servers[usize::try_from(n % 2).unwrap()];
        health.ingest([sample(1, n, n)]).await.unwrap();
        expected.push(format!("1:{n}"));
    }
    for subscription in &mut subscriptions {
        assert_eq!(receive(subscription, 60).await, expected);
        assert!(subscription.try_next().is_none());
    }
}

#[tokio::test]
async fn another_server_delivers_all_of_a_commit_that_no_single_statement_finds() {
    let database = TestDatabase::new().await;
    let limits = Limits {
        batch_rows: 50_000,
        ..one_writer()
    };
    let (first, second) = (open_with(&database, limits).await, open(&database).await);
    let mut live = second.subscribe(Filter::all());
    let samples = (1..=25).flat_map(|id| (0..1_000).map(move |n| sample(id, n, n)));
    first.ingest(samples).await.unwrap();
    let expected = (1..=25).flat_map(|id| (0..1_000).map(move |n| format!("{id}:{n}")));
    assert_eq!(receive(&mut live, 25_000).await, expected.collect::<Vec<_>>());
    assert!(live.try_next().is_none());
}

#[tokio::test]
async fn a_commit_that_becomes_visible_late_is_not_lost_and_delays_no_other() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let start = health.cursor();
    let mut live = health.subscribe(Filter::all());
    // Another writer takes its batch number and writes its row first.
    let mut slow = sql(&database).await;
    let transaction = slow.transaction().await.unwrap();
    let batch = "SELECT nextval('health_batch_numbers')";
    let batch: i64 = transaction.query_one(batch, &[]).await.unwrap().get(0);
    let insert =
        "INSERT INTO health_metrics (id, user_id, timestamp, steps) VALUES ($1, 9, '2025-03-02T12:00:00Z', 99)";
    transaction.execute(insert, &[&(batch << 20)]).await.unwrap();
    for n in 0..5 {
        health.ingest([sample(1, n, n)]).await.unwrap();
    }
    assert_eq!(receive(&mut live, 5).await, ["1:0", "1:1", "1:2", "1:3", "1:4"]);
    let mut resuming = health.subscribe(Filter::all()).resume(start);
    expect_resumed(&mut resuming).await.unwrap();
    assert_eq!(receive(&mut resuming, 5).await, ["1:0", "1:1", "1:2", "1:3", "1:4"]);
    let cursor = resuming.cursor();
    // While it is committing, other commits wait for it, and get later numbers.
    transaction.execute(COMMIT_LOCK, &[]).await.unwrap();
    let keys = keys_of_one_row(9, "2025-03-02T12:00:00Z");
    transaction.execute(APPEND, &[&batch, &7_i64, &keys]).await.unwrap();
    let waiting = health.enqueue(vec![sample(1, 5, 5)]).await.unwrap();
    let mut blocked = health.subscribe(Filter::all()).resume(cursor.clone());
    expect_resumed(&mut blocked).await.unwrap();
    assert!(live.try_next().is_none() && blocked.try_next().is_none());
    transaction.commit().await.unwrap();
    waiting.receipt().await.unwrap();
    for subscription in [&mut live, &mut resuming, &mut blocked] {
        assert_eq!(receive(subscription, 2).await, ["9:99", "1:5"]);
        assert!(subscription.try_next().is_none());
    }
    // A cursor from before it became visible includes it.
    let mut again = health.subscribe(Filter::users([user(9)])).resume(cursor);
    expect_resumed(&mut again).await.unwrap();
    assert_eq!(receive(&mut again, 1).await, ["9:99"]);
}

#[tokio::test]
async fn a_slow_subscriber_learns_what_it_missed_and_can_resume_to_receive_it() {
    let database = TestDatabase::new().await;
    let limits = Limits {
        subscriber_queue: 100,
        ..one_writer()
    };
    let health = open_with(&database, limits).await;
    let mut slow = health.subscribe(Filter::all());
    let mut quick = health.subscribe(Filter::users([user(1), user(300)]));
    health.ingest((1..=90).map(|id| sample(id, 0, 1))).await.unwrap();
    assert_eq!(receive(&mut quick, 1).await, ["1:1"]);
    health.ingest((2..=300).map(|id| sample(id, 1, 2))).await.unwrap();
    assert_eq!(receive(&mut quick, 1).await, ["300:2"]);
    // The ring holds the newest 100 samples at most, in whole chunks of 100 samples of a commit. They count as missed
    // at once.
    assert_eq!(health.counts().missed, 290);
    let LiveEvent::Lagged { missed, cursor } = next(&mut slow).await else {
        panic!("not lagged");
    };
    assert_eq!(missed, 290);
    let kept = receive(&mut slow, 99).await;
    assert_eq!((kept[0].as_str(), kept[98].as_str()), ("202:2", "300:2"));
    assert!(slow.try_next().is_none() && quick.try_next().is_none());
    assert_eq!(health.counts().missed, 290);
    // From the cursor on, everything comes again.
    let mut slow = health.subscribe(Filter::all()).resume(cursor);
    expect_resumed(&mut slow).await.unwrap();
    let expected = (1..=90)
        .map(|id| format!("{id}:1"))
        .chain((2..=300).map(|id| format!("{id}:2")));
    assert_eq!(receive(&mut slow, 389).await, expected.collect::<Vec<_>>());
    assert!(slow.try_next().is_none());
}

#[tokio::test]
async fn subscribers_that_never_read_share_bounded_memory_and_do_not_affect_others() {
    let database = TestDatabase::new().await;
    let limits = Limits {
        subscriber_memory: 1 << 20,
        ..one_writer()
    };
    let health = open_with(&database, limits).await;
    let mut asleep: Vec<_> = (0..20).map(|_| health.subscribe(Filter::all())).collect();
    let mut thin = health.subscribe(Filter::all()).every(Duration::from_millis(1));
    let mut awake = health.subscribe(Filter::all());
    for n in 0..50 {
        health.ingest((1..=500).map(|id| sample(id, n, n))).await.unwrap();
        let all = receive(&mut awake, 500).await;
        assert_eq!(all[499], format!("500:{n}"));
    }
    // Far more was written than fits into the memory. Each subscriber can count what it missed.
    for live in &mut asleep {
        let (mut received, mut missed) = (0, 0);
        while received + missed < 50 * 500 {
            match next(live).await {
                LiveEvent::Sample { .. } => received += 1,
                LiveEvent::Lagged { missed: more, cursor } => {
                    missed += usize::try_from(more).unwrap();
                    // From that cursor on nothing is missing.
                    let mut again = health.subscribe(Filter::users([user(7)])).resume(cursor);
                    expect_resumed(&mut again).await.unwrap();
                    let later = receive(&mut again, 50 - received / 500).await;
                    assert_eq!(later.last().unwrap(), "7:49");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(received + missed, 50 * 500);
        assert!(missed > 0);
        assert!(live.try_next().is_none());
    }
    while next_sample(&mut thin).await.0 != "500:49" {}
}

#[tokio::test]
async fn with_an_interval_only_the_newest_sample_of_each_user_is_delivered() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let mut all = health.subscribe(Filter::all());
    let start = all.cursor();
    let mut paced = health.subscribe(Filter::all()).every(Duration::from_millis(300));
    for n in 0..20 {
        health.ingest([sample(1, n, n), sample(2, n, n)]).await.unwrap();
    }
    receive(&mut all, 40).await;
    let mut received = vec![next_sample(&mut paced).await.0];
    while !received.contains(&"2:19".to_owned()) {
        received.push(next_sample(&mut paced).await.0);
    }
    assert!(received.len() <= 8, "{received:?}");
    // The interval also applies to a replay.
    let mut paced = health
        .subscribe(Filter::all())
        .every(Duration::from_millis(50))
        .resume(start);
    expect_resumed(&mut paced).await.unwrap();
    assert_eq!(receive(&mut paced, 2).await, ["1:19", "2:19"]);
    health.ingest([sample(3, 0, 1)]).await.unwrap();
    assert_eq!(receive(&mut paced, 1).await, ["3:1"]);
}

#[tokio::test]
async fn with_an_interval_the_first_sample_after_a_quiet_interval_is_delivered_at_once() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let hour = Duration::from_hours(1);
    let mut all = health.subscribe(Filter::all()).every(hour);
    let mut one = health.subscribe(Filter::users([user(2)])).every(hour);
    // Both wait before the samples are delivered.
    for live in [&mut all, &mut one] {
        assert!(timeout(Duration::ZERO, live.next()).await.is_err());
    }
    health.ingest([sample(1, 0, 1)]).await.unwrap();
    assert_eq!(receive(&mut all, 1).await, ["1:1"]);
    health.ingest([sample(1, 1, 2), sample(2, 0, 3)]).await.unwrap();
    assert_eq!(receive(&mut one, 1).await, ["2:3"]);
    assert!(
        timeout(Duration::ZERO, all.next()).await.is_err(),
        "at most one in an interval"
    );
}
