//! Which samples a subscription receives that resumes after a cursor, in which order, and whom it delays.

use std::{collections::BTreeSet, time::Duration};

use health_core::{Filter, LiveEvent};
use test_support::TestDatabase;
use tokio::time::timeout;

use crate::support::{TIMEOUT, expect_resumed, next, next_sample, open, receive, sample, sql, user};

#[tokio::test]
async fn resuming_from_the_last_cursor_loses_nothing_and_repeats_nothing() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let mut live = health.subscribe(Filter::all());
    let mut cursor = live.cursor();
    for n in 0..10 {
        let batch: Vec<_> = (1..=3).map(|id| sample(id, n, n + 1)).collect();
        health.ingest(batch).await.unwrap();
        for id in 1..=3 {
            let (received, sample_cursor) = next_sample(&mut live).await;
            assert_eq!(received, format!("{id}:{}", n + 1));
            cursor = sample_cursor;
        }
        drop(live);
        // This sample is committed while there is no subscription.
        health.ingest([sample(4, n, n + 1)]).await.unwrap();
        live = health.subscribe(Filter::all()).resume(cursor.clone());
        expect_resumed(&mut live).await.unwrap();
        assert_eq!(receive(&mut live, 1).await, [format!("4:{}", n + 1)]);
        // After the backlog, the cursor advances with the live samples.
        health.ingest([sample(5, n, 1)]).await.unwrap();
        assert_eq!(receive(&mut live, 1).await, ["5:1"]);
        while live.cursor() == cursor {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_cursor_is_valid_with_any_filter_on_another_server_and_after_a_restart() {
    let database = TestDatabase::new().await;
    let first = open(&database).await;
    let cursor = first.cursor();
    first.ingest((1..=500).map(|id| sample(id, 0, 1))).await.unwrap();
    first.ingest([sample(7, -1000, 2), sample(8, 0, 3)]).await.unwrap();
    first.close().await.unwrap();
    let second = open(&database).await;
    let mut live = second
        .subscribe(Filter::users([user(7), user(8), user(501)]))
        .resume(cursor.clone());
    expect_resumed(&mut live).await.unwrap();
    second.ingest([sample(501, 0, 4), sample(1, 0, 4)]).await.unwrap();
    // A corrected sample is sent in its present form.
    let mut all = receive(&mut live, 4).await;
    all.sort();
    assert_eq!(all, ["501:4", "7:1", "7:2", "8:3"]);
    // Erased samples are not sent.
    sql(&database)
        .await
        .execute("DELETE FROM health_metrics WHERE user_id <= 498", &[])
        .await
        .unwrap();
    let mut live = second.subscribe(Filter::all()).resume(cursor);
    expect_resumed(&mut live).await.unwrap();
    assert_eq!(receive(&mut live, 3).await, ["499:1", "500:1", "501:4"]);
}

#[tokio::test]
async fn resuming_twice_uses_the_second_cursor() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let start = health.cursor();
    let mut all = health.subscribe(Filter::all());
    health.ingest([sample(1, 0, 1)]).await.unwrap();
    let (_, second) = next_sample(&mut all).await;
    health.ingest([sample(2, 0, 2)]).await.unwrap();
    let mut live = health.subscribe(Filter::all()).resume(start).resume(second);
    expect_resumed(&mut live).await.unwrap();
    health.ingest([sample(3, 0, 3)]).await.unwrap();
    assert_eq!(receive(&mut live, 2).await, ["2:2", "3:3"]);
    assert!(live.try_next().is_none());
}

#[tokio::test]
async fn a_fresh_sample_waits_only_for_the_backlog_of_its_own_user() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let start = health.cursor();
    let users = 200;
    let mut acks = Vec::new();
    for n in 0..1000 {
        let batch = (1..=users).map(|id| sample(id, n, n)).collect();
        // The test does not wait for each request, so that a writer joins them into large batches.
        acks.push(health.enqueue(batch).await.unwrap());
    }
    for ack in acks {
        ack.receipt().await.unwrap();
    }
    // Nothing of the backlog is delivered later, as if it were fresh.
    let mut delivered = health.subscribe(Filter::all());
    health.ingest([sample(998, 0, 0)]).await.unwrap();
    while next_sample(&mut delivered).await.0 != "998:0" {}
    drop(delivered);
    let mut live = health.subscribe(Filter::all()).resume(start);
    expect_resumed(&mut live).await.unwrap();
    // The fresh samples come after 1000 received ones, so that the replay is running.
    let mut next_of = vec![0; 1000];
    let mut received = 0_usize;
    let mut fresh_at = None;
    let total = 1000 * users + 3;
    for count in 0..total {
        if count == 1000 {
            health
                .ingest([sample(users, 1000, 1000), sample(999, 0, 0)])
                .await
                .unwrap();
        }
        let LiveEvent::Sample { published, .. } = next(&mut live).await else {
            panic!("not a sample")
        };
        let sample = published.sample();
        let id = usize::try_from(sample.user_id().get()).unwrap();
        let steps = sample.steps().unwrap().get();
        assert_eq!(
            steps, next_of[id],
            "user {id}: each sample once, in the order of commits"
        );
        next_of[id] += 1;
        received += 1;
        if steps == 1000 {
            fresh_at = Some(received);
        }
    }
    let fresh_at = fresh_at.unwrap();
    assert!(fresh_at < 120_000, "the fresh sample came as number {fresh_at}");
    assert!(live.try_next().is_none());
}

#[tokio::test]
async fn readers_that_take_one_event_now_and_then_do_not_delay_another_that_resumes() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let start = health.cursor();
    let count = 20_000;
    health.ingest((1..=count).map(|id| sample(id, 0, 1))).await.unwrap();
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut live = health.subscribe(Filter::all()).resume(start.clone());
        expect_resumed(&mut live).await.unwrap();
        slow.push((live, 0));
    }
    // All of them have begun: their rows are in memory.
    for (live, _) in &mut slow {
        next_sample(live).await;
    }
    let mut live = health.subscribe(Filter::all()).resume(start);
    expect_resumed(&mut live).await.unwrap();
    let mut received = 0;
    while received < count {
        // While the reader waits, the slow ones take an event each, so seldom that a busy machine ends the wait before.
        match timeout(Duration::from_millis(25), live.next()).await {
            Ok(Some(LiveEvent::Sample { .. })) => received += 1,
            Ok(other) => panic!("not a sample: {other:?}"),
            Err(_) => {
                for (live, taken) in &mut slow {
                    *taken += i32::from(live.try_next().is_some());
                    assert!(
                        *taken < 1_000,
                        "the reader waits until the slow ones have read their rows"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_slow_reader_gets_past_a_large_commit() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let start = health.cursor();
    let count = 3_000;
    health.ingest((1..=count).map(|id| sample(id, 0, 1))).await.unwrap();
    let mut live = health.subscribe(Filter::all()).resume(start);
    expect_resumed(&mut live).await.unwrap();
    let mut users = BTreeSet::new();
    let mut received = 0;
    while users.len() < 1_000 {
        // The replay notices that its subscriber has not taken a row for long.
        tokio::time::pause();
        tokio::time::advance(Duration::from_millis(150)).await;
        tokio::time::resume();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            users.insert(next_sample(&mut live).await.0);
            received += 1;
        }
        assert!(
            received < 5_000,
            "the replay sends the beginning of the commit again and again"
        );
    }
}

#[tokio::test]
async fn a_replay_ends_when_the_handle_is_closed() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let start = health.cursor();
    health.ingest((1..=20_000).map(|id| sample(id, 0, 1))).await.unwrap();
    let mut live = health.subscribe(Filter::all()).resume(start.clone());
    let mut newest = health
        .subscribe(Filter::all())
        .every(Duration::from_millis(1))
        .resume(start.clone());
    expect_resumed(&mut live).await.unwrap();
    expect_resumed(&mut newest).await.unwrap();
    receive(&mut live, 10).await;
    health.clone().close().await.unwrap();
    let ends = async {
        while live.next().await.is_some() {}
        while newest.next().await.is_some() {}
        // A subscription that starts after the end also ends.
        let mut late = health.subscribe(Filter::all()).resume(start);
        while late.next().await.is_some() {}
    };
    timeout(TIMEOUT, ends).await.expect("an end in time");
}
