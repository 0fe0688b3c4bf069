//! Tests of the feed's SQL: merged commit records, and transaction ids that PostgreSQL may assign again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::TimeDelta;
use test_support::TestDatabase;
use tokio::time::timeout;
use tokio_postgres::NoTls;

use crate::{
    config::{Config, Limits},
    health::Health,
    live::{
        cursor::Position, event::LiveEvent, filter::Filter, hub::Hub, subscription::Subscription,
        transaction_snapshot::TransactionSnapshot,
    },
    sample::{Readings, Sample, Source, Steps, UserId},
    store::{
        connection::{Readers, readers},
        feed::{self, CommitRow, FeedConnection, IdRange, MERGED},
    },
};

const DAY: Duration = Duration::from_hours(24);

/// A received sample: user, second, version.
type Received = (i64, i64, i32);

async fn open(database: &TestDatabase) -> (Health, Config, Readers) {
    let limits = Limits {
        writers: 1,
        ..Limits::default()
    };
    let config = Config::from_url(database.url()).unwrap().limits(limits);
    let health = Health::open(config.clone()).await.unwrap();
    let readers = readers(&config);
    (health, config, readers)
}

fn sample(user: i64, second: i64, version: i64) -> Sample {
    let readings = Readings {
        steps: Some(Steps::new(version).unwrap()),
        ..Readings::default()
    };
    let time = Sample::EARLIEST + TimeDelta::seconds(second);
    Sample::new(UserId::new(user).unwrap(), time, Source::default(), readings).unwrap()
}

async fn next(live: &mut Subscription) -> LiveEvent {
    let next = timeout(Duration::from_secs(20), live.next()).await;
    next.expect("an event in time").expect("an event")
}

async fn receive(live: &mut Subscription) -> Received {
    match next(live).await {
        LiveEvent::Sample { published, .. } => {
            let sample = published.sample();
            let second = (sample.timestamp() - Sample::EARLIEST).num_seconds();
            (
                sample.user_id().get(),
                second,
                sample.steps().map(Steps::get).unwrap_or_default(),
            )
        }
        other => panic!("no sample: {other:?}"),
    }
}

/// Receives samples up to and with `last`.
async fn receive_up_to(live: &mut Subscription, last: Received) -> Vec<Received> {
    let mut all = Vec::new();
    while all.last() != Some(&last) {
        all.push(receive(live).await);
    }
    all
}

async fn resume(health: &Health, cursor: &crate::wire::Cursor) -> Subscription {
    let mut live = health.subscribe(Filter::all()).resume(cursor.clone());
    match next(&mut live).await {
        LiveEvent::Subscribed { resumed: true, .. } => live,
        other => panic!("not resumed: {other:?}"),
    }
}

/// Merges all commit records into one.
async fn merge_all(readers: &Readers) {
    let seen = feed::position(readers).await.unwrap().seen;
    feed::prune_and_merge(readers, seen.xmin(), DAY, Some(seen.xmin()))
        .await
        .unwrap();
}

#[tokio::test]
async fn after_any_cursor_no_sample_is_missing_however_commits_were_merged() {
    let database = TestDatabase::new().await;
    let (health, _, readers) = open(&database).await;
    let mut cursors = Vec::new();
    // The last version of each sample, which is also the number of its commit.
    let mut last: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for n in 0..100 {
        cursors.push(health.cursor());
        // A new sample, a corrected one, and a late one.
        let batch = [(1, n, n), (1, (n - 1).max(0), n), (2, 500 - n, n)];
        for (user, second, version) in batch {
            last.insert((user, second), version);
        }
        let batch = batch.map(|(user, second, version)| sample(user, second, version));
        health.ingest(batch).await.unwrap();
        while cursors.last() == Some(&health.cursor()) {
            tokio::task::yield_now().await;
        }
        if n % 7 == 6 {
            merge_all(&readers).await;
        }
    }
    health.ingest([sample(3, 0, 1)]).await.unwrap();
    for (index, cursor) in cursors.iter().enumerate() {
        let mut live = resume(&health, cursor).await;
        let received = receive_up_to(&mut live, (3, 0, 1)).await;
        let distinct: BTreeSet<_> = received.iter().copied().collect();
        for (&(user, second), &version) in &last {
            let received_version = distinct.contains(&(user, second, i32::try_from(version).unwrap()));
            let is_after_cursor = version >= i64::try_from(index).unwrap();
            assert!(
                received_version || !is_after_cursor,
                "after cursor {index}: {user} {second} {version}"
            );
        }
        for (user, second, version) in distinct.into_iter().filter(|received| received.0 < 3) {
            assert_eq!(last[&(user, second)], i64::from(version), "as it is stored at the end");
        }
    }
}

#[tokio::test]
async fn a_running_replay_misses_nothing_when_commits_are_merged() {
    let database = TestDatabase::new().await;
    let (health, _, readers) = open(&database).await;
    let start = health.cursor();
    for n in 0..20 {
        health.ingest((1..=1000).map(|user| sample(user, n, n))).await.unwrap();
    }
    let mut live = resume(&health, &start).await;
    let mut received = Vec::new();
    for n in 20..40 {
        for _ in 0..200 {
            received.push(receive(&mut live).await);
        }
        // A fresh sample and a late one of another user, merged while the replay is running.
        health
            .ingest([sample(n, n, n), sample(n + 500, 1000 - n, n)])
            .await
            .unwrap();
        merge_all(&readers).await;
    }
    health.ingest([sample(2000, 0, 1)]).await.unwrap();
    received.extend(receive_up_to(&mut live, (2000, 0, 1)).await);
    let distinct: BTreeSet<_> = received.iter().copied().collect();
    assert_eq!(distinct.len(), received.len(), "each sample once");
    assert_eq!(distinct.len(), 20 * 1000 + 20 * 2 + 1);
    let mut latest = BTreeMap::new();
    for (user, second, version) in received {
        let before = latest.insert(user, version);
        assert!(
            before <= Some(version),
            "user {user} at {second}: in the order of commits"
        );
    }
}

#[tokio::test]
async fn a_snapshot_ends_at_the_last_durable_commit() {
    let database = TestDatabase::new().await;
    let (health, config, readers) = open(&database).await;
    let before = feed::position(&readers).await.unwrap().seen;
    health.ingest([sample(1, 0, 1)]).await.unwrap();
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    // Transactions that leave nothing on disk. After a crash, PostgreSQL assigns their ids again.
    let mut unused_xid = 0;
    for _ in 0..5 {
        let row = client
            .query_one("SELECT pg_current_xact_id()::text", &[])
            .await
            .unwrap();
        unused_xid = row.get::<_, &str>(0).parse().unwrap();
    }
    let commit = client
        .query_one("SELECT xid::text FROM health_commits", &[])
        .await
        .unwrap();
    let commit: u64 = commit.get::<_, &str>(0).parse().unwrap();
    let mut connection = FeedConnection::open(&config, || {}).await.unwrap();
    let polled = connection.poll(&before, false, false).await.unwrap().snapshot;
    let missed = feed::replay_range(&readers, &before, DAY).await.unwrap().snapshot;
    for snapshot in [polled, missed, feed::position(&readers).await.unwrap().seen] {
        assert!(
            snapshot.sees(commit) && !snapshot.sees(commit + 1) && !snapshot.sees(unused_xid),
            "{snapshot}"
        );
    }
}

#[tokio::test]
async fn a_merged_record_is_read_from_the_table_even_if_its_last_commit_is_in_memory() {
    let database = TestDatabase::new().await;
    let (_, config, readers) = open(&database).await;
    let position = Position {
        stream: "1".to_owned(),
        seen: TransactionSnapshot::below(5),
    };
    let hub = Hub::new(position, &config.limits, readers);
    let (_queue, _) = hub.open(&Filter::all());
    hub.hand_over(7, [sample(1, 0, 1)].into_iter());
    let ids = IdRange { after: 0, last: 20 };
    let commit = |writer| CommitRow { xid: 7, ids, writer };
    let plan = hub.plan_delivery(&[commit(99)]);
    assert_eq!((plan.own.len(), plan.table.len()), (1, 0));
    let plan = hub.plan_delivery(&[commit(MERGED)]);
    assert_eq!((plan.own.len(), plan.table), (0, vec![ids]));
}
