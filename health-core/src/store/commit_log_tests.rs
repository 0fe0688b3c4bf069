//! Tests of the commit log: packs lose nothing, positions are exact, and a fence says how a batch ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use test_support::{TestDatabase, earlier};
use tokio::time::timeout;

use crate::{
    batch::Batch,
    config::{Config, Limits},
    health::Health,
    live::{event::LiveEvent, filter::Filter, subscription::Subscription},
    sample::{Readings, Sample, Source, Steps, UserId},
    shard::Shards,
    store::{
        batch_key::BatchKey,
        commit_log::{
            APPEND, COMMIT_LOCK, CommitRecord, LogPage, LogPosition, fence, fingerprint, maintain, newest, page,
        },
        connection::Session,
        micros::Micros,
        newest_timestamps::{LookUp, NewestTimestamps},
        required_version::KNOWN_VERSION,
        write::WriterSession,
    },
};

const DAY: Duration = Duration::from_hours(24);

/// Much longer than anything takes that a test waits for. The machine may be busy with other tests.
const TIMEOUT: Duration = Duration::from_secs(90);

/// The records of these tests are read, not their rows.
const NO_KEYS: &[u8] = &[];

/// Makes every record old enough to be packed.
fn age() -> String {
    format!(
        "UPDATE health_commits SET committed_at = {}",
        earlier("committed_at", "6 minutes")
    )
}

/// A received sample: user, second, version.
type Received = (i64, i64, i32);

async fn open(database: &TestDatabase, subscriber_queue: usize) -> Health {
    let limits = Limits {
        writers: 1,
        subscriber_queue,
        ..Limits::patient()
    };
    let config = Config::from_url(database.url()).unwrap().limits(limits);
    Health::open(config).await.unwrap()
}

async fn session(database: &TestDatabase) -> Session {
    let config = Config::from_url(database.url()).unwrap();
    Session::writer(&config).await.unwrap()
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
    let next = timeout(TIMEOUT, live.next()).await;
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

/// Packs all records but the newest.
async fn pack_all(session: &mut Session) {
    session.client().batch_execute(&age()).await.unwrap();
    while maintain(session, DAY).await.unwrap() {}
}

async fn count(session: &Session, sql: &str) -> i64 {
    session.client().query_one(sql, &[]).await.unwrap().get(0)
}

/// Begins a transaction with a batch number of its own.
async fn begin(session: &Session, writer_id: i64) -> BatchKey {
    session.client().batch_execute("BEGIN").await.unwrap();
    let batch_number = count(session, "SELECT nextval('health_batch_numbers')").await;
    BatchKey {
        writer_id,
        batch_number,
    }
}

async fn append(session: &Session, key: BatchKey) -> Result<i64, tokio_postgres::Error> {
    let BatchKey {
        writer_id,
        batch_number,
    } = key;
    session.client().batch_execute(COMMIT_LOCK).await?;
    let row = session
        .client()
        .query_one(
            APPEND,
            &[
                &batch_number,
                &writer_id,
                &1_i32,
                &None::<Micros>,
                &KNOWN_VERSION,
                &NO_KEYS,
            ],
        )
        .await?;
    Ok(row.get(0))
}

/// Commits a record without rows in the table.
async fn commit_record(session: &Session, writer_id: i64) -> BatchKey {
    let key = begin(session, writer_id).await;
    append(session, key).await.unwrap();
    session.client().batch_execute("COMMIT").await.unwrap();
    key
}

/// Asks for the outcome of a batch until there is an answer, as a writer does. On a busy machine the commit may take
/// longer than a fence waits for it.
async fn ask(session: &mut Session, key: BatchKey) -> bool {
    let asking = async {
        loop {
            if let Ok(is_committed) = fence(session, key).await {
                return is_committed;
            }
        }
    };
    timeout(TIMEOUT, asking).await.expect("an answer in time")
}

/// Reads all records after a position, page by page.
async fn records_after(session: &mut Session, mut from: LogPosition, limit: usize) -> Vec<CommitRecord> {
    let mut all = Vec::new();
    loop {
        match page(session, from, limit, DAY).await.unwrap() {
            LogPage::Records {
                records, is_too_old, ..
            } => {
                assert!(!is_too_old && records.len() <= limit);
                let Some(last) = records.last() else { return all };
                from = last.position();
                all.extend(records);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn every_position_is_read_exactly_however_records_were_packed() {
    let database = TestDatabase::new().await;
    let mut session = session(&database).await;
    let first = newest(&mut session).await.unwrap();
    for n in 0..60 {
        commit_record(&session, 1_000_000_007 * (n % 7 + 1)).await;
        if n % 11 == 3 {
            pack_all(&mut session).await;
        }
    }
    assert!(count(&session, "SELECT count(*) FROM health_commit_packs").await >= 5);
    let all = records_after(&mut session, first, 1_000).await;
    assert_eq!(all.len(), 60);
    for (number, record) in (first.number + 1..).zip(&all) {
        assert_eq!(record.number, number);
    }
    for (index, record) in all.iter().enumerate() {
        for limit in [1, 2, 7, 1_000] {
            assert_eq!(
                records_after(&mut session, record.position(), limit).await,
                all[index + 1..]
            );
        }
        let mut forged = record.position();
        forged.fingerprint ^= 1 << (index % 32);
        let answer = page(&mut session, forged, 10, DAY).await.unwrap();
        assert!(matches!(answer, LogPage::OtherHistory), "{answer:?}");
    }
    // Everything before the start of the log; and numbers that are not given yet.
    assert_eq!(records_after(&mut session, LogPosition::START, 9).await.len(), 61);
    for ahead in [1, 2, 1_000, i64::MAX - 61] {
        let forged = LogPosition {
            number: 61 + ahead,
            fingerprint: first.fingerprint,
        };
        let answer = page(&mut session, forged, 10, DAY).await.unwrap();
        assert!(matches!(answer, LogPage::OtherHistory), "{answer:?}");
    }
}

#[tokio::test]
async fn a_log_with_a_hole_is_never_read_across_it() {
    let database = TestDatabase::new().await;
    let mut session = session(&database).await;
    let start = newest(&mut session).await.unwrap();
    for writer in 1..=20 {
        commit_record(&session, writer).await;
        if writer == 10 {
            pack_all(&mut session).await;
        }
    }
    let delete = "DELETE FROM health_commits WHERE number = 15";
    session.client().batch_execute(delete).await.unwrap();
    for limit in [1, 3, 100] {
        let mut from = start;
        let answer = loop {
            match page(&mut session, from, limit, DAY).await.unwrap() {
                LogPage::Records { records, .. } => from = records.last().expect("records or an end").position(),
                other => break other,
            }
        };
        assert!(matches!(answer, LogPage::Pruned), "{answer:?}");
        assert_eq!(from.number, 14);
    }
}

#[tokio::test]
async fn only_old_records_are_packed_and_never_the_newest_and_numbers_stay_without_gaps_if_the_clock_jumps() {
    let database = TestDatabase::new().await;
    let mut session = session(&database).await;
    let first = newest(&mut session).await.unwrap();
    for writer in 1..=20 {
        commit_record(&session, writer).await;
    }
    let packs = "SELECT count(*) FROM health_commit_packs";
    let left = "SELECT count(*) FROM health_commits";
    maintain(&mut session, DAY).await.unwrap();
    assert_eq!((count(&session, packs).await, count(&session, left).await), (0, 21));
    let expected = records_after(&mut session, first, 100).await;
    // The clock ran ahead for a moment: a record in the middle counts as younger than later ones.
    session.client().batch_execute(&age()).await.unwrap();
    let ahead = "UPDATE health_commits SET committed_at = now() + interval '1 minute' WHERE number = 10";
    session.client().batch_execute(ahead).await.unwrap();
    maintain(&mut session, DAY).await.unwrap();
    assert_eq!((count(&session, packs).await, count(&session, left).await), (1, 12));
    assert_eq!(records_after(&mut session, first, 100).await, expected);
    session.client().batch_execute(&age()).await.unwrap();
    maintain(&mut session, DAY).await.unwrap();
    assert_eq!((count(&session, packs).await, count(&session, left).await), (2, 1));
    assert_eq!(records_after(&mut session, first, 100).await, expected);
    // Nothing is left to pack.
    assert!(!maintain(&mut session, DAY).await.unwrap());
    assert_eq!((count(&session, packs).await, count(&session, left).await), (2, 1));
}

#[tokio::test]
async fn packs_older_than_the_window_are_deleted_and_the_position_of_an_idle_client_stays() {
    let database = TestDatabase::new().await;
    let mut session = session(&database).await;
    let mut positions = vec![newest(&mut session).await.unwrap()];
    let old = format!(
        "UPDATE health_commit_packs SET last_committed = {}",
        earlier("last_committed", "23 hours 58 minutes")
    );
    for writer in 1..=40 {
        commit_record(&session, writer).await;
        positions.push(newest(&mut session).await.unwrap());
        if writer == 20 || writer == 30 {
            pack_all(&mut session).await;
        }
    }
    session.client().batch_execute(&old).await.unwrap();
    // The older one of the two packs goes; the other one ends with the position of clients that are idle since then. A
    // third one is new.
    maintain(&mut session, DAY).await.unwrap();
    assert_eq!(count(&session, "SELECT count(*) FROM health_commit_packs").await, 2);
    let first = count(&session, "SELECT min(first_number) FROM health_commit_packs").await;
    for position in positions {
        let answer = page(&mut session, position, 100, DAY).await.unwrap();
        if position.number < first {
            assert!(matches!(answer, LogPage::Pruned), "{position:?}: {answer:?}");
        } else {
            let LogPage::Records {
                records, is_too_old, ..
            } = answer
            else {
                panic!("{position:?}: {answer:?}")
            };
            assert_eq!(records.len(), usize::try_from(41 - position.number).unwrap());
            assert_eq!(is_too_old, position.number < 30);
        }
    }
}

#[tokio::test]
async fn after_any_cursor_no_sample_is_missing_however_commits_were_packed() {
    let database = TestDatabase::new().await;
    let health = open(&database, 1_000).await;
    let mut session = session(&database).await;
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
            pack_all(&mut session).await;
        }
    }
    health.ingest([sample(3, 0, 1)]).await.unwrap();
    for (index, cursor) in cursors.iter().enumerate() {
        let mut live = resume(&health, cursor).await;
        let received = receive_up_to(&mut live, (3, 0, 1)).await;
        let distinct: BTreeSet<_> = received.iter().copied().collect();
        assert_eq!(distinct.len(), received.len(), "after cursor {index}: each sample once");
        for (&(user, second), &version) in &last {
            let received_version = distinct.contains(&(user, second, i32::try_from(version).unwrap()));
            let is_after_cursor = version >= i64::try_from(index).unwrap();
            assert_eq!(
                received_version, is_after_cursor,
                "after cursor {index}: {user} {second} {version}"
            );
        }
        for (user, second, version) in distinct.into_iter().filter(|received| received.0 < 3) {
            assert_eq!(last[&(user, second)], i64::from(version), "as it is stored at the end");
        }
    }
}

#[tokio::test]
async fn a_running_replay_misses_nothing_when_commits_are_packed() {
    // With a ring that is too small for what is committed meanwhile, the replay reads that from the log as well.
    for subscriber_queue in [100_000, 16] {
        let database = TestDatabase::new().await;
        let health = open(&database, subscriber_queue).await;
        let mut session = session(&database).await;
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
            // A fresh sample and a late one of another user, packed while the replay is running.
            health
                .ingest([sample(n, n, n), sample(n + 500, 1000 - n, n)])
                .await
                .unwrap();
            pack_all(&mut session).await;
        }
        health.ingest([sample(2000, 0, 1)]).await.unwrap();
        // The last sample overtakes the backlog of other users.
        let all = 20 * 1000 + 20 * 2 + 1;
        let mut distinct: BTreeSet<_> = received.iter().copied().collect();
        // On a busy machine this test may not read for a while. The replay then gives its rows up and reads them again,
        // so some samples may come twice. The promise is: at least once.
        while distinct.len() < all {
            let sample = receive(&mut live).await;
            distinct.insert(sample);
            received.push(sample);
        }
        let mut first_times = BTreeSet::new();
        let mut latest = BTreeMap::new();
        for (user, second, version) in received {
            if !first_times.insert((user, second, version)) {
                continue;
            }
            let before = latest.insert(user, version);
            assert!(
                before <= Some(version),
                "user {user} at {second}: in the order of commits"
            );
        }
    }
}

#[tokio::test]
async fn a_fence_says_how_a_batch_ended_and_keeps_it_out_if_it_has_not() {
    let database = TestDatabase::new().await;
    let (writer, mut other) = (session(&database).await, session(&database).await);
    let records = "SELECT count(*) FROM health_commits WHERE rows > 0";
    let before = count(&writer, records).await;
    // Committed: true, as often as it is asked.
    let committed = commit_record(&writer, 5).await;
    assert!(fence(&mut other, committed).await.unwrap());
    assert!(fence(&mut other, committed).await.unwrap());
    // Rolled back: false, and false again if the answer to the first question was lost.
    let rolled_back = begin(&writer, 5).await;
    append(&writer, rolled_back).await.unwrap();
    writer.client().batch_execute("ROLLBACK").await.unwrap();
    assert!(!fence(&mut other, rolled_back).await.unwrap());
    assert!(!fence(&mut other, rolled_back).await.unwrap());
    // In progress, before its record: it can never commit after the answer.
    let in_progress = begin(&writer, 5).await;
    assert!(!fence(&mut other, in_progress).await.unwrap());
    let refused = append(&writer, in_progress).await.unwrap_err();
    assert_eq!(refused.code(), Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION));
    writer.client().batch_execute("ROLLBACK").await.unwrap();
    // Never begun, as after a crash of PostgreSQL; or the same batch number of another writer.
    for lost in [
        BatchKey {
            writer_id: 5,
            batch_number: 1 << 40,
        },
        BatchKey {
            writer_id: 6,
            ..committed
        },
    ] {
        assert!(!fence(&mut other, lost).await.unwrap());
    }
    assert_eq!(count(&writer, records).await, before + 1);
}

#[tokio::test]
async fn a_fence_gives_no_answer_while_a_commit_is_under_way() {
    let database = TestDatabase::new().await;
    let (writer, mut other) = (session(&database).await, session(&database).await);
    for (end, expected) in [("COMMIT", true), ("ROLLBACK", false)] {
        let key = begin(&writer, 5).await;
        append(&writer, key).await.unwrap();
        assert!(fence(&mut other, key).await.is_err());
        let mut others = [session(&database).await, session(&database).await];
        let [first, second] = &mut others;
        let (first, second, ()) = tokio::join!(ask(first, key), ask(second, key), async {
            tokio::task::yield_now().await;
            writer.client().batch_execute(end).await.unwrap();
        });
        assert_eq!((first, second), (expected, expected));
        // The session can be used after the error.
        assert_eq!(fence(&mut other, key).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_fence_finds_packed_records() {
    let database = TestDatabase::new().await;
    let (writer, mut other) = (session(&database).await, session(&database).await);
    let mut committed = Vec::new();
    let mut lost = Vec::new();
    for n in 0..30 {
        let key = begin(&writer, n % 3 + 1).await;
        if n % 2 == 0 {
            append(&writer, key).await.unwrap();
            writer.client().batch_execute("COMMIT").await.unwrap();
            committed.push(key);
        } else {
            writer.client().batch_execute("ROLLBACK").await.unwrap();
            lost.push(key);
        }
        if n == 14 {
            // Some of the lost ones are fenced, and the fences are packed.
            for key in &lost {
                assert!(!fence(&mut other, *key).await.unwrap());
            }
            pack_all(&mut other).await;
        }
    }
    pack_all(&mut other).await;
    for key in committed {
        assert!(fence(&mut other, key).await.unwrap(), "{key:?}");
    }
    let before = count(&writer, "SELECT max(number) FROM health_commits").await;
    for key in lost {
        assert!(!fence(&mut other, key).await.unwrap(), "{key:?}");
    }
    let after = count(&writer, "SELECT max(number) FROM health_commits").await;
    assert!(after > before, "the later ones get a record");
}

#[tokio::test]
async fn a_position_after_a_fence_is_not_that_of_the_batch_that_it_keeps_out() {
    let database = TestDatabase::new().await;
    let mut session = session(&database).await;
    let writer_id = 0x1234_5678_9abc_def0;
    let key = BatchKey {
        writer_id,
        batch_number: 9,
    };
    assert!(!fence(&mut session, key).await.unwrap());
    let position = newest(&mut session).await.unwrap();
    assert_ne!(position.fingerprint, fingerprint(writer_id));
    commit_record(&session, 3).await;
    pack_all(&mut session).await;
    assert_eq!(records_after(&mut session, position, 10).await.len(), 1);
}

#[tokio::test]
async fn a_small_batch_that_is_older_than_the_threshold_leaves_no_record_without_rows() {
    let database = TestDatabase::new().await;
    let other = session(&database).await;
    let mut writer = WriterSession::new(session(&database).await);
    let mut cache = NewestTimestamps::new(Shards::new(1));
    let records = "SELECT count(*) FROM health_commits";
    let without_rows = "WITH stored AS (SELECT id >> 20 AS batch, count(*) AS rows FROM health_metrics GROUP BY 1) \
        SELECT count(*) FROM health_commits c LEFT JOIN stored USING (batch) \
        WHERE c.number > 1 AND c.rows <> coalesce(stored.rows, 0)";
    let recent = |second: i64| {
        let time = Utc::now() - TimeDelta::seconds(60 - second);
        let readings = sample(1, 0, 1).readings();
        vec![Sample::new(UserId::new(1).unwrap(), time, Source::default(), readings).unwrap()]
    };
    for second in 0..6 {
        let before = count(&other, records).await;
        if second == 4 {
            let later = "UPDATE health_sealing SET threshold = now() + interval '1 hour'";
            other.client().batch_execute(later).await.unwrap();
        }
        let samples = recent(second);
        let batch = Batch::new([samples.as_slice()].into_iter());
        let written = writer.write(&mut cache, &batch, LookUp::UnlessNew).await.unwrap();
        assert!(written.appended.is_some());
        assert_eq!(count(&other, records).await, before + 1);
        assert_eq!(count(&other, without_rows).await, 0);
    }
}
