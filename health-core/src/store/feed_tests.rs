//! What the feed reads where commits were merged, and where numbers of transactions may be given out again.

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

/// User, second, version.
type Heard = (i64, i64, i32);

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

async fn hear(live: &mut Subscription) -> Heard {
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

/// All up to the one that comes last.
async fn hear_up_to(live: &mut Subscription, last: Heard) -> Vec<Heard> {
    let mut all = Vec::new();
    while all.last() != Some(&last) {
        all.push(hear(live).await);
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

/// Makes one row of all commits there are.
async fn merge(readers: &Readers) {
    let seen = feed::position(readers).await.unwrap().seen;
    feed::prune_and_merge(readers, seen.xmin(), DAY, Some(seen.xmin()))
        .await
        .unwrap();
}

#[tokio::test]
async fn behind_any_cursor_nothing_is_missing_however_commits_were_merged() {
    let database = TestDatabase::new().await;
    let (health, _, readers) = open(&database).await;
    let mut cursors = Vec::new();
    // What each sample is in the end, and the number of the commit that made it so.
    let mut last: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for n in 0..100 {
        cursors.push(health.cursor());
        // New, corrected, and late.
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
            merge(&readers).await;
        }
    }
    health.ingest([sample(3, 0, 1)]).await.unwrap();
    for (place, cursor) in cursors.iter().enumerate() {
        let mut live = resume(&health, cursor).await;
        let heard = hear_up_to(&mut live, (3, 0, 1)).await;
        let distinct: BTreeSet<_> = heard.iter().copied().collect();
        for (&(user, second), &version) in &last {
            let version_heard = distinct.contains(&(user, second, i32::try_from(version).unwrap()));
            let behind = version >= i64::try_from(place).unwrap();
            assert!(
                version_heard || !behind,
                "behind cursor {place}: {user} {second} {version}"
            );
        }
        for (user, second, version) in distinct.into_iter().filter(|heard| heard.0 < 3) {
            assert_eq!(last[&(user, second)], i64::from(version), "as it is stored now");
        }
    }
}

#[tokio::test]
async fn a_replay_that_is_under_way_misses_nothing_when_commits_are_merged() {
    let database = TestDatabase::new().await;
    let (health, _, readers) = open(&database).await;
    let start = health.cursor();
    for n in 0..20 {
        health.ingest((1..=1000).map(|user| sample(user, n, n))).await.unwrap();
    }
    let mut live = resume(&health, &start).await;
    let mut heard = Vec::new();
    for n in 20..40 {
        for _ in 0..200 {
            heard.push(hear(&mut live).await);
        }
        // Fresh, and late of another user, and merged while it is in the middle.
        health
            .ingest([sample(n, n, n), sample(n + 500, 1000 - n, n)])
            .await
            .unwrap();
        merge(&readers).await;
    }
    health.ingest([sample(2000, 0, 1)]).await.unwrap();
    heard.extend(hear_up_to(&mut live, (2000, 0, 1)).await);
    let distinct: BTreeSet<_> = heard.iter().copied().collect();
    assert_eq!(distinct.len(), heard.len(), "each once");
    assert_eq!(distinct.len(), 20 * 1000 + 20 * 2 + 1);
    let mut latest = BTreeMap::new();
    for (user, second, version) in heard {
        let before = latest.insert(user, version);
        assert!(
            before <= Some(version),
            "user {user} at {second}: in the order of commits"
        );
    }
}

#[tokio::test]
async fn a_snapshot_is_not_kept_beyond_what_a_crash_leaves() {
    let database = TestDatabase::new().await;
    let (health, config, readers) = open(&database).await;
    let before = feed::position(&readers).await.unwrap().seen;
    health.ingest([sample(1, 0, 1)]).await.unwrap();
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    // Numbers of transactions that leave nothing behind: after a crash they are given out again, to writers perhaps.
    let mut spent = 0;
    for _ in 0..5 {
        let row = client
            .query_one("SELECT pg_current_xact_id()::text", &[])
            .await
            .unwrap();
        spent = row.get::<_, &str>(0).parse().unwrap();
    }
    let commit = client
        .query_one("SELECT xid::text FROM health_commits", &[])
        .await
        .unwrap();
    let commit: u64 = commit.get::<_, &str>(0).parse().unwrap();
    let mut connection = FeedConnection::open(&config, || {}).await.unwrap();
    let polled_at = connection.poll(&before, false, false).await.unwrap().snapshot;
    let backlog = feed::replay_range(&readers, &before, DAY).await.unwrap().snapshot;
    for snapshot in [polled_at, backlog, feed::position(&readers).await.unwrap().seen] {
        assert!(
            snapshot.sees(commit) && !snapshot.sees(commit + 1) && !snapshot.sees(spent),
            "{snapshot}"
        );
    }
}

#[tokio::test]
async fn a_row_that_stands_for_many_commits_is_read_whoever_wrote_the_last_of_them() {
    let database = TestDatabase::new().await;
    let (_, config, readers) = open(&database).await;
    let position = Position {
        stream: "1".to_owned(),
        seen: TransactionSnapshot::below(5),
    };
    let hub = Hub::new(position, &config.limits, readers);
    let (_queue, _) = hub.open(&Filter::all());
    hub.hand_over(7, [sample(1, 0, 1)].into_iter());
    let span = IdRange { after: 0, last: 20 };
    let commit = |author| CommitRow { xid: 7, ids, author };
    let work = hub.plan_delivery(&[commit(99)]);
    assert_eq!((work.ours.len(), work.table.len()), (1, 0));
    let work = hub.plan_delivery(&[commit(MERGED)]);
    assert_eq!((work.ours.len(), work.table), (0, vec![span]));
}
