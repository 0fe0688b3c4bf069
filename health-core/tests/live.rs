//! Tests of subscriptions: which samples they receive, in which order, and from which cursor.

#![cfg(test)]

use std::time::Duration;

use chrono::TimeDelta;
use health_core::{
    Config, Cursor, Filter, Health, Limits, LiveEvent, Readings, Sample, Source, Steps, Subscription, UserId,
    parse_timestamp,
};
use test_support::{TestDatabase, earlier};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

/// Opens a handle with one writer, so that the order between users is fixed as well.
async fn open(database: &TestDatabase) -> Health {
    open_with(database, one_writer()).await
}

fn one_writer() -> Limits {
    Limits {
        writers: 1,
        ..Limits::default()
    }
}

async fn open_with(database: &TestDatabase, limits: Limits) -> Health {
    let config = Config::from_url(database.url()).unwrap().limits(limits);
    Health::open(config).await.unwrap()
}

async fn sql(database: &TestDatabase) -> Client {
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Makes all commits older.
fn set_back(by: &str) -> String {
    format!(
        "UPDATE health_commits SET committed_at = {}",
        earlier("committed_at", by)
    )
}

/// What every writer does last: it takes the lock, then a number. `$1` is its batch number, `$2` its own id.
const COMMIT_LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('health commit order'))";
const APPEND: &str = "INSERT INTO health_commits (number, batch, writer, previous_writer, rows, keys) \
    SELECT number + 1, $1, $2, writer, 1, $3 FROM health_commits ORDER BY number DESC LIMIT 1";

/// The keys of a commit of one row: the power of the unit of time, here seconds, then user and time, each doubled and with seven bits
/// a byte, the low ones first.
fn keys_of_one_row(user: u64, time: &str) -> Vec<u8> {
    let seconds = parse_timestamp(time).unwrap().timestamp().cast_unsigned();
    let mut bytes = vec![6];
    for mut value in [user * 2, seconds * 2] {
        while value > 0x7f {
            bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        bytes.push(u8::try_from(value).unwrap());
    }
    bytes
}

/// Deletes all records but the newest, as if they had been pruned.
const PRUNE: &str = "DELETE FROM health_commits WHERE number < (SELECT max(number) FROM health_commits)";

fn number_of(cursor: &Cursor) -> i64 {
    cursor.as_str().split_once('.').unwrap().0.parse().unwrap()
}

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn sample(id: i64, second: i64, steps: i64) -> Sample {
    let time = parse_timestamp("2025-03-02T12:00:00Z").unwrap() + TimeDelta::seconds(second);
    let readings = Readings {
        steps: Some(Steps::new(steps).unwrap()),
        ..Readings::default()
    };
    Sample::new(user(id), time, Source::default(), readings).unwrap()
}

async fn next(live: &mut Subscription) -> LiveEvent {
    timeout(Duration::from_secs(20), live.next())
        .await
        .expect("an event in time")
        .expect("an event")
}

/// Receives the next sample as `user:steps`, and its cursor.
async fn next_sample(live: &mut Subscription) -> (String, Cursor) {
    match next(live).await {
        LiveEvent::Sample { cursor, published } => {
            let sample = published.sample();
            let steps = sample.steps().map_or(-1, Steps::get);
            (format!("{}:{steps}", sample.user_id()), cursor)
        }
        other => panic!("not a sample: {other:?}"),
    }
}

async fn receive(live: &mut Subscription, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(next_sample(live).await.0);
    }
    all
}

async fn expect_resumed(live: &mut Subscription) -> Result<(), String> {
    match next(live).await {
        LiveEvent::Subscribed { resumed: true, .. } => Ok(()),
        LiveEvent::Subscribed { reason, .. } => Err(reason.unwrap_or_default()),
        other => panic!("not subscribed: {other:?}"),
    }
}

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
    // The ring holds the newest 100 samples at most, in whole chunks of 100 samples of a commit. They count as missed at once.
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
async fn an_unusable_cursor_is_refused_with_a_reason_and_the_stream_continues_from_now() {
    let (database, other) = (TestDatabase::new().await, TestDatabase::new().await);
    let health = open(&database).await;
    let start = health.cursor();
    let mut all = health.subscribe(Filter::all());
    health.ingest([sample(1, 0, 1)]).await.unwrap();
    let (_, newest) = next_sample(&mut all).await;
    // The first records of the two databases are the same, because both are copies of one. The second ones are not.
    let foreign = {
        let health = open(&other).await;
        let mut all = health.subscribe(Filter::all());
        health.ingest([sample(1, 0, 1)]).await.unwrap();
        next_sample(&mut all).await.1
    };
    assert_eq!(number_of(&newest), number_of(&foreign));
    let (number, fingerprint) = newest.as_str().split_once('.').unwrap();
    let fingerprint_bits = u32::from_str_radix(fingerprint, 16).unwrap();
    let forged = |text: String| Cursor::new(text);
    for (cursor, part) in [
        (Cursor::new("nonsense"), "not one that this server has given"),
        (Cursor::new(""), "not one that this server has given"),
        (forged(format!("+{newest}")), "not one that this server has given"),
        (forged(format!("1f00ba-{number}")), "older version"),
        (forged(format!("1f00ba-{number}:9:7,8")), "older version"),
        (forged(format!("-{newest}")), "older version"),
        (foreign, "does not belong to this database"),
        (
            forged(format!("9223372036854775807.{fingerprint}")),
            "does not belong to this database",
        ),
        (
            forged(format!("1000000000000.{fingerprint}")),
            "does not belong to this database",
        ),
        (
            forged(format!("{number}.{:08x}", fingerprint_bits ^ 1)),
            "does not belong to this database",
        ),
        (
            forged(format!("{number}.{:08x}", fingerprint_bits ^ (1 << 31))),
            "does not belong to this database",
        ),
        (forged("0.00000001".to_owned()), "does not belong to this database"),
    ] {
        let mut live = health.subscribe(Filter::all()).resume(cursor.clone());
        let reason = expect_resumed(&mut live).await.expect_err(cursor.as_str());
        assert!(reason.contains(part), "{cursor}: {reason}");
        health.ingest([sample(1, 0, 2)]).await.unwrap();
        assert_eq!(receive(&mut live, 1).await, ["1:2"]);
        health.ingest([sample(1, 0, 1)]).await.unwrap();
    }
    // Numbers that the same writer will give soon.
    for ahead in [1, 2, 50] {
        while health.cursor() != all.cursor() {
            next_sample(&mut all).await;
        }
        let cursor = forged(format!("{}.{fingerprint}", number_of(&health.cursor()) + ahead));
        let mut live = health.subscribe(Filter::all()).resume(cursor.clone());
        let reason = expect_resumed(&mut live).await.expect_err(cursor.as_str());
        assert!(
            reason.contains("does not belong to this database"),
            "{cursor}: {reason}"
        );
        health.ingest([sample(1, ahead, 2)]).await.unwrap();
        assert_eq!(receive(&mut live, 1).await, ["1:2"]);
    }
    // Commits that are older than the replay window are not replayed, even if they are still there.
    let client = sql(&database).await;
    let age = set_back("25 hours");
    client.batch_execute(&age).await.unwrap();
    for cursor in [&start, &newest] {
        let mut live = health.subscribe(Filter::all()).resume(cursor.clone());
        assert!(expect_resumed(&mut live).await.unwrap_err().contains("too old"));
    }
    // After they were pruned as well.
    client.batch_execute(PRUNE).await.unwrap();
    for cursor in [&start, &newest, &forged("0.00000000".to_owned())] {
        let mut live = health.subscribe(Filter::all()).resume(cursor.clone());
        assert!(expect_resumed(&mut live).await.unwrap_err().contains("too old"));
    }
    // If nothing was committed after a cursor, it is usable at any age.
    let mut live = health.subscribe(Filter::all()).resume(health.cursor());
    expect_resumed(&mut live).await.unwrap();
    health.ingest([sample(1, 0, 3)]).await.unwrap();
    assert_eq!(receive(&mut live, 1).await, ["1:3"]);
}

#[tokio::test]
async fn a_fresh_sample_waits_only_for_the_backlog_of_its_own_user() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let start = health.cursor();
    let users = 200;
    for n in 0..1000 {
        let batch = (1..=users).map(|id| sample(id, n, n)).collect();
        // Without waiting for each request, so that the queue joins them into large batches.
        let ack = health.enqueue(batch).await.unwrap();
        if n == 999 {
            ack.receipt().await.unwrap();
        }
    }
    let mut live = health.subscribe(Filter::all()).resume(start);
    expect_resumed(&mut live).await.unwrap();
    // The fresh samples come after 1000 received ones, so that the replay is running.
    let mut next_of = vec![0; 1000];
    let mut received = 0_usize;
    let mut fresh_at = None;
    let total = 1000 * users + 2;
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
    timeout(Duration::from_secs(20), ends).await.expect("an end in time");
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
async fn a_server_that_was_without_database_until_commits_were_pruned_says_that_samples_may_be_missing() {
    let database = TestDatabase::new().await;
    let (connected, cut_off) = (open(&database).await, open(&database).await);
    let mut live = cut_off.subscribe(Filter::all());
    connected.ingest([sample(1, 0, 1)]).await.unwrap();
    assert_eq!(receive(&mut live, 1).await, ["1:1"]);
    // The database accepts no new connections, and the poller of one server loses its connection.
    let client = sql(&database).await;
    let (outside, connection) = {
        let mut config: tokio_postgres::Config = database.url().parse().unwrap();
        config.dbname("postgres").connect(NoTls).await.unwrap()
    };
    tokio::spawn(connection);
    let name = database.name();
    let refuse_connections = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
    outside.batch_execute(&refuse_connections).await.unwrap();
    let terminate_poller = "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks JOIN pg_stat_activity USING (pid) \
                   WHERE locktype = 'advisory' AND mode = 'ShareLock' AND objsubid = 2 \
                   AND datname = current_database() ORDER BY backend_start DESC LIMIT 1";
    client.batch_execute(terminate_poller).await.unwrap();
    let mut unaffected = connected.subscribe(Filter::all());
    connected.ingest([sample(2, 0, 2)]).await.unwrap();
    assert_eq!(receive(&mut unaffected, 1).await, ["2:2"]);
    client.batch_execute(PRUNE).await.unwrap();
    let accept_connections = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
    outside.batch_execute(&accept_connections).await.unwrap();
    let reason = expect_resumed(&mut live).await.unwrap_err();
    assert!(reason.contains("no longer in the commit log"), "{reason}");
    connected.ingest([sample(3, 0, 3)]).await.unwrap();
    while next_sample(&mut live).await.0 != "3:3" {}
    assert_eq!(receive(&mut unaffected, 1).await, ["3:3"]);
}

/// Writes commits as a writer does: the n-th is of user n, all at one time.
async fn write_commits(client: &Client, commits: i64) {
    let batch = "SELECT setval('health_batch_numbers', nextval('health_batch_numbers') + $1::bigint) - $1::bigint";
    let first: i64 = client.query_one(batch, &[&commits]).await.unwrap().get(0);
    let rows = "INSERT INTO health_metrics (id, user_id, timestamp, steps) \
        SELECT ($1::bigint + n) << 20, n, '2025-03-02T12:00:00Z'::timestamptz, 1 FROM generate_series(1, $2::bigint) AS n";
    client.execute(rows, &[&first, &commits]).await.unwrap();
    let records = "INSERT INTO health_commits (number, batch, writer, previous_writer, rows, keys) \
        SELECT number + n, $1::bigint + n, 7, CASE n WHEN 1 THEN writer ELSE 7 END, 1, keys \
        FROM unnest($2::bytea[]) WITH ORDINALITY AS of_rows (keys, n), \
        (SELECT number, writer FROM health_commits ORDER BY number DESC LIMIT 1) AS newest";
    let keys = (1..=commits.cast_unsigned()).map(|user| keys_of_one_row(user, "2025-03-02T12:00:00Z"));
    let keys: Vec<_> = keys.collect();
    client.execute(records, &[&first, &keys]).await.unwrap();
}

/// Waits until the feed has delivered a commit.
async fn until_delivered(health: &Health, number: i64) {
    let delivered = async {
        while number_of(&health.cursor()) < number {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), delivered)
        .await
        .expect("delivered in time");
}

#[tokio::test]
async fn a_replay_that_is_overtaken_by_pruning_says_that_samples_may_be_missing() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let start = health.cursor();
    // More commits than a replay reads at once.
    let commits = 2_000_i64;
    let client = sql(&database).await;
    write_commits(&client, commits).await;
    until_delivered(&health, number_of(&start) + commits).await;
    let mut live = health.subscribe(Filter::all()).resume(start);
    expect_resumed(&mut live).await.unwrap();
    assert_eq!(receive(&mut live, 3).await, ["1:1", "2:1", "3:1"]);
    // The rest is pruned while the subscriber pauses in its backlog.
    client.batch_execute(PRUNE).await.unwrap();
    let mut received = 3;
    let reason = loop {
        match next(&mut live).await {
            LiveEvent::Sample { published, .. } => {
                received += 1;
                assert_eq!(published.sample().user_id().get(), received, "in order, without gaps");
            }
            LiveEvent::Subscribed {
                resumed: false, reason, ..
            } => break reason.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert!(
        received < commits,
        "the records were pruned, so the replay cannot have found the rest"
    );
    assert!(reason.contains("too old"), "{reason}");
    // Then come the live samples.
    health.ingest([sample(9, 9, 9)]).await.unwrap();
    assert_eq!(receive(&mut live, 1).await, ["9:9"]);
}

#[tokio::test]
async fn a_replay_goes_on_if_the_database_is_put_back_to_an_earlier_state_while_its_subscriber_pauses() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let start = health.cursor();
    let (client, commits) = (sql(&database).await, 2_000);
    write_commits(&client, commits).await;
    until_delivered(&health, number_of(&start) + commits).await;
    let mut live = health.subscribe(Filter::all()).resume(start.clone());
    expect_resumed(&mut live).await.unwrap();
    assert_eq!(receive(&mut live, 3).await, ["1:1", "2:1", "3:1"]);
    // The numbers of the later commits are given again, to commits that have more rows. The first key says: the same again.
    let put_back = "UPDATE health_commits SET writer = 8, rows = 2, keys = keys || '\\x0000' WHERE number > $1";
    let common = number_of(&start) + 100;
    client.execute(put_back, &[&common]).await.unwrap();
    let mut received = 3;
    loop {
        match next(&mut live).await {
            LiveEvent::Sample { published, .. } => {
                received += 1;
                assert_eq!(published.sample().user_id().get(), received, "in order, without gaps");
            }
            LiveEvent::Subscribed { resumed: false, .. } => break,
            other => panic!("{other:?}"),
        }
    }
    health.ingest([sample(1, 0, 7)]).await.unwrap();
    while next_sample(&mut live).await.0 != "1:7" {}
}

/// No program writes such a record, but the newest one from before the keys is one.
#[tokio::test]
async fn a_commit_whose_rows_the_log_does_not_name_is_a_gap_that_subscribers_hear_of() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let start = health.cursor();
    for n in 1..=3 {
        health.ingest([sample(1, n, n)]).await.unwrap();
    }
    let client = sql(&database).await;
    let mut second = 0;
    for nameless in ["", "\\x07"] {
        let damage = format!(
            "UPDATE health_commits SET keys = '{nameless}' WHERE number = (SELECT max(number) - 1 FROM health_commits)"
        );
        client.batch_execute(&damage).await.unwrap();
        for every in [None, Some(Duration::from_millis(10))] {
            let mut live = health.subscribe(Filter::all()).resume(start.clone());
            if let Some(interval) = every {
                live = live.every(interval);
            }
            expect_resumed(&mut live).await.unwrap();
            let reason = expect_resumed(&mut live).await.unwrap_err();
            assert!(reason.contains("does not say which samples"), "{reason}");
            second += 1;
            health.ingest([sample(2, second, second)]).await.unwrap();
            assert_eq!(next_sample(&mut live).await.0, format!("2:{second}"), "{every:?}");
        }
    }

    // A commit of another server.
    let mut live = health.subscribe(Filter::all());
    let batch = "SELECT nextval('health_batch_numbers')";
    let batch: i64 = client.query_one(batch, &[]).await.unwrap().get(0);
    let no_keys: &[u8] = &[];
    client.execute(APPEND, &[&batch, &7_i64, &no_keys]).await.unwrap();
    let reason = expect_resumed(&mut live).await.unwrap_err();
    assert!(reason.contains("does not say which samples"), "{reason}");
    health.ingest([sample(3, 0, 1)]).await.unwrap();
    assert_eq!(receive(&mut live, 1).await, ["3:1"]);
}

#[tokio::test]
async fn a_jump_of_the_databases_clock_loses_no_sample_silently() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let mut live = health.subscribe(Filter::all());
    let start = live.cursor();
    health.ingest([sample(1, 0, 1)]).await.unwrap();
    assert_eq!(receive(&mut live, 1).await, ["1:1"]);
    let client = sql(&database).await;
    // The clock jumps back by a day: earlier commits lie in the future.
    let jump_back = set_back("-25 hours");
    client.batch_execute(&jump_back).await.unwrap();
    health.ingest([sample(2, 0, 2)]).await.unwrap();
    assert_eq!(receive(&mut live, 1).await, ["2:2"]);
    let mut again = health.subscribe(Filter::all()).resume(start.clone());
    expect_resumed(&mut again).await.unwrap();
    assert_eq!(receive(&mut again, 2).await, ["1:1", "2:2"]);
    // The clock jumps ahead by two days: all commits count as older than the window. The stream continues, and
    // resuming is refused.
    let jump_ahead = set_back("50 hours");
    client.batch_execute(&jump_ahead).await.unwrap();
    health.ingest([sample(3, 0, 3)]).await.unwrap();
    assert_eq!(receive(&mut live, 1).await, ["3:3"]);
    assert_eq!(receive(&mut again, 1).await, ["3:3"]);
    let mut again = health.subscribe(Filter::all()).resume(start);
    assert!(expect_resumed(&mut again).await.unwrap_err().contains("too old"));
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
        // While the reader waits, the slow ones take an event each.
        match timeout(Duration::from_millis(5), live.next()).await {
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
    let mut users = std::collections::BTreeSet::new();
    let mut received = 0;
    while users.len() < 1_000 {
        // The replay finds that nobody has taken its rows for long.
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
