//! What subscribers hear: of what, in which order, from where on.

#![cfg(test)]

use std::time::Duration;

use chrono::TimeDelta;
use health_core::{
    Config, Cursor, Filter, Health, Limits, LiveEvent, Readings, Sample, Source, Steps, Subscription, UserId,
    parse_timestamp,
};
use test_support::TestDatabase;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

/// With one writer, so that the order between users is certain as well.
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

/// The next sample as `user:steps`, and its cursor.
async fn heard(live: &mut Subscription) -> (String, Cursor) {
    match next(live).await {
        LiveEvent::Sample { cursor, published } => {
            let sample = published.sample();
            let steps = sample.steps().map_or(-1, Steps::get);
            (format!("{}:{steps}", sample.user_id()), cursor)
        }
        other => panic!("no sample: {other:?}"),
    }
}

async fn hear(live: &mut Subscription, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(heard(live).await.0);
    }
    all
}

async fn resumed(live: &mut Subscription) -> Result<(), String> {
    match next(live).await {
        LiveEvent::Subscribed { resumed: true, .. } => Ok(()),
        LiveEvent::Subscribed { reason, .. } => Err(reason.unwrap_or_default()),
        other => panic!("not subscribed: {other:?}"),
    }
}

#[tokio::test]
async fn a_subscription_begins_with_what_is_acknowledged_behind_it() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    for n in 0..20 {
        health.ingest([sample(1, n, 1)]).await.unwrap();
        let mut live = health.subscribe(Filter::all());
        health.ingest([sample(1, n, 2)]).await.unwrap();
        assert_eq!(hear(&mut live, 1).await, ["1:2"]);
        assert!(live.try_next().is_none());
    }
}

#[tokio::test]
async fn only_what_changed_something_and_only_the_users_asked_for() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let mut all = health.subscribe(Filter::all());
    let mut two = health.subscribe(Filter::users([user(2), user(3)]));
    health.ingest([sample(1, 0, 1), sample(2, 0, 1)]).await.unwrap();
    health.ingest([sample(1, 0, 1), sample(2, 0, 2)]).await.unwrap();
    health.ingest([sample(3, 0, 9)]).await.unwrap();
    assert_eq!(hear(&mut all, 4).await, ["1:1", "2:1", "2:2", "3:9"]);
    assert_eq!(hear(&mut two, 3).await, ["2:1", "2:2", "3:9"]);
    health.close().await.unwrap();
    assert!(all.next().await.is_none() && two.next().await.is_none());
}

#[tokio::test]
async fn the_last_cursor_repeats_nothing_in_peace_and_loses_nothing() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let mut live = health.subscribe(Filter::all());
    let mut cursor = live.cursor();
    for n in 0..10 {
        let batch: Vec<_> = (1..=3).map(|id| sample(id, n, n + 1)).collect();
        health.ingest(batch).await.unwrap();
        for id in 1..=3 {
            let (what, at) = heard(&mut live).await;
            assert_eq!(what, format!("{id}:{}", n + 1));
            cursor = at;
        }
        drop(live);
        // Committed while nobody listens.
        health.ingest([sample(4, n, n + 1)]).await.unwrap();
        live = health.subscribe(Filter::all()).resume(cursor.clone());
        resumed(&mut live).await.unwrap();
        assert_eq!(hear(&mut live, 1).await, [format!("4:{}", n + 1)]);
        // Behind the backlog the cursor is that of the present.
        health.ingest([sample(5, n, 1)]).await.unwrap();
        assert_eq!(hear(&mut live, 1).await, ["5:1"]);
        while live.cursor() == cursor {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_cursor_is_good_with_any_filter_on_another_server_and_after_a_restart() {
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
    resumed(&mut live).await.unwrap();
    second.ingest([sample(501, 0, 4), sample(1, 0, 4)]).await.unwrap();
    // The corrected sample appears as it is now.
    let mut all = hear(&mut live, 4).await;
    all.sort();
    assert_eq!(all, ["501:4", "7:1", "7:2", "8:3"]);
    // Erased since.
    sql(&database)
        .await
        .execute("DELETE FROM health_metrics WHERE user_id <= 498", &[])
        .await
        .unwrap();
    let mut live = second.subscribe(Filter::all()).resume(cursor);
    resumed(&mut live).await.unwrap();
    assert_eq!(hear(&mut live, 3).await, ["499:1", "500:1", "501:4"]);
}

#[tokio::test]
async fn two_servers_tell_each_others_commits_in_one_order() {
    let database = TestDatabase::new().await;
    let servers = [open(&database).await, open(&database).await];
    let mut readers = [servers[0].subscribe(Filter::all()), servers[1].subscribe(Filter::all())];
    let mut expected = Vec::new();
    for n in 0..60 {
        let health = &servers[usize::try_from(n % 2).unwrap()];
        health.ingest([sample(1, n, n)]).await.unwrap();
        expected.push(format!("1:{n}"));
    }
    for reader in &mut readers {
        assert_eq!(hear(reader, 60).await, expected);
        assert!(reader.try_next().is_none());
    }
}

#[tokio::test]
async fn a_commit_that_becomes_visible_late_is_neither_lost_nor_does_it_hold_up_others() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let start = health.cursor();
    let mut live = health.subscribe(Filter::all());
    let mut slow = sql(&database).await;
    let transaction = slow.transaction().await.unwrap();
    let insert = "INSERT INTO health_metrics (user_id, timestamp, steps) VALUES (9, '2025-03-02T12:00:00Z', 99)";
    transaction.execute(insert, &[]).await.unwrap();
    let record = "INSERT INTO health_commits (first_id, last_id, writer) \
                  SELECT currval('health_metrics_id_seq') - 1, currval('health_metrics_id_seq'), 7";
    transaction.execute(record, &[]).await.unwrap();
    for n in 0..5 {
        health.ingest([sample(1, n, n)]).await.unwrap();
    }
    assert_eq!(hear(&mut live, 5).await, ["1:0", "1:1", "1:2", "1:3", "1:4"]);
    let mut resuming = health.subscribe(Filter::all()).resume(start);
    resumed(&mut resuming).await.unwrap();
    assert_eq!(hear(&mut resuming, 5).await, ["1:0", "1:1", "1:2", "1:3", "1:4"]);
    let held = resuming.cursor();
    transaction.commit().await.unwrap();
    assert_eq!(hear(&mut live, 1).await, ["9:99"]);
    assert_eq!(hear(&mut resuming, 1).await, ["9:99"]);
    // The cursor from before it was visible still brings it.
    let mut again = health.subscribe(Filter::users([user(9)])).resume(held);
    resumed(&mut again).await.unwrap();
    assert_eq!(hear(&mut again, 1).await, ["9:99"]);
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_what_it_missed_and_gets_it_back() {
    let database = TestDatabase::new().await;
    let limits = Limits {
        subscriber_queue: 100,
        ..one_writer()
    };
    let health = open_with(&database, limits).await;
    let mut slow = health.subscribe(Filter::all());
    let mut quick = health.subscribe(Filter::users([user(1)]));
    health.ingest((1..=90).map(|id| sample(id, 0, 1))).await.unwrap();
    health.ingest((1..=300).map(|id| sample(id, 1, 2))).await.unwrap();
    assert_eq!(hear(&mut quick, 2).await, ["1:1", "1:2"]);
    assert_eq!(hear(&mut slow, 100).await[99], "10:2");
    let LiveEvent::Lagged { missed, cursor } = next(&mut slow).await else {
        panic!("not lagged");
    };
    assert_eq!(missed, 290);
    let mut slow = health.subscribe(Filter::all()).resume(cursor);
    resumed(&mut slow).await.unwrap();
    while heard(&mut slow).await.0 != "300:2" {}
}

#[tokio::test]
async fn a_cursor_that_is_of_no_use_is_refused_with_a_reason_and_the_stream_goes_on_from_now() {
    let (database, other) = (TestDatabase::new().await, TestDatabase::new().await);
    let limits = Limits {
        replay_window: Duration::from_millis(400),
        ..one_writer()
    };
    let health = open_with(&database, limits).await;
    let start = health.cursor();
    health.ingest([sample(1, 0, 1)]).await.unwrap();
    let stream = start.as_str().split('-').next().unwrap();
    let ahead = Cursor::new(format!("{stream}-999999999999"));
    let foreign = open(&other).await.cursor();
    for (cursor, part) in [
        (Cursor::new("nonsense"), "not one of this database"),
        (foreign, "not one of this database"),
        (ahead, "ahead of this database"),
    ] {
        let mut live = health.subscribe(Filter::all()).resume(cursor);
        let reason = resumed(&mut live).await.unwrap_err();
        assert!(reason.contains(part), "{reason}");
        health.ingest([sample(1, 0, 2)]).await.unwrap();
        assert_eq!(hear(&mut live, 1).await, ["1:2"]);
        health.ingest([sample(1, 0, 1)]).await.unwrap();
    }
    // Pruned, once it is older than the window; not before.
    let client = sql(&database).await;
    let left = || async {
        let row = client
            .query_one("SELECT count(*) FROM health_commits", &[])
            .await
            .unwrap();
        row.get::<_, i64>(0)
    };
    timeout(Duration::from_secs(20), async { while left().await > 0 {} })
        .await
        .unwrap();
    let mut live = health.subscribe(Filter::all()).resume(start);
    assert!(resumed(&mut live).await.unwrap_err().contains("too old"));
    // Where nothing was committed since, nothing was missed however long ago it was.
    let mut live = health.subscribe(Filter::all()).resume(health.cursor());
    resumed(&mut live).await.unwrap();
}

#[tokio::test]
async fn a_fresh_sample_waits_for_its_own_users_backlog_only() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let start = health.cursor();
    let users = 200;
    for n in 0..1000 {
        let batch = (1..=users).map(|id| sample(id, n, n)).collect();
        // Not one by one: the queue makes large batches of them.
        let ack = health.enqueue(batch).await.unwrap();
        if n == 999 {
            ack.receipt().await.unwrap();
        }
    }
    let mut live = health.subscribe(Filter::all()).resume(start);
    resumed(&mut live).await.unwrap();
    // Some of it is read, so that the replay is under way.
    let mut next_of = vec![0; 1000];
    let mut place = 0_usize;
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
            panic!("no sample")
        };
        let sample = published.sample();
        let id = usize::try_from(sample.user_id().get()).unwrap();
        let steps = sample.steps().unwrap().get();
        assert_eq!(steps, next_of[id], "user {id}: each once, in the order of commits");
        next_of[id] += 1;
        place += 1;
        if steps == 1000 {
            fresh_at = Some(place);
        }
    }
    let fresh_at = fresh_at.unwrap();
    assert!(fresh_at < 120_000, "the fresh sample came as number {fresh_at}");
    assert!(live.try_next().is_none());
}

#[tokio::test]
async fn every_interval_brings_the_newest_of_each_user() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let mut all = health.subscribe(Filter::all());
    let start = all.cursor();
    let mut paced = health.subscribe(Filter::all()).every(Duration::from_millis(300));
    for n in 0..20 {
        health.ingest([sample(1, n, n), sample(2, n, n)]).await.unwrap();
    }
    hear(&mut all, 40).await;
    let mut told = vec![heard(&mut paced).await.0];
    while !told.contains(&"2:19".to_owned()) {
        told.push(heard(&mut paced).await.0);
    }
    assert!(told.len() <= 8, "{told:?}");
    // From a cursor on as well; every cursor on the way is good to go on from.
    let mut paced = health
        .subscribe(Filter::all())
        .every(Duration::from_millis(50))
        .resume(start);
    resumed(&mut paced).await.unwrap();
    assert_eq!(hear(&mut paced, 2).await, ["1:19", "2:19"]);
    health.ingest([sample(3, 0, 1)]).await.unwrap();
    assert_eq!(hear(&mut paced, 1).await, ["3:1"]);
}

#[tokio::test]
async fn a_replay_ends_with_the_handle() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let start = health.cursor();
    health.ingest((1..=20_000).map(|id| sample(id, 0, 1))).await.unwrap();
    let mut live = health.subscribe(Filter::all()).resume(start.clone());
    let mut newest = health
        .subscribe(Filter::all())
        .every(Duration::from_millis(1))
        .resume(start.clone());
    resumed(&mut live).await.unwrap();
    resumed(&mut newest).await.unwrap();
    hear(&mut live, 10).await;
    health.clone().close().await.unwrap();
    let ends = async {
        while live.next().await.is_some() {}
        while newest.next().await.is_some() {}
        // Nor does one begin behind the end.
        let mut late = health.subscribe(Filter::all()).resume(start);
        while late.next().await.is_some() {}
    };
    timeout(Duration::from_secs(20), ends).await.expect("an end in time");
}

#[tokio::test]
async fn who_resumes_again_before_anything_came_goes_on_from_the_second_cursor() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let start = health.cursor();
    let mut all = health.subscribe(Filter::all());
    health.ingest([sample(1, 0, 1)]).await.unwrap();
    let (_, second) = heard(&mut all).await;
    health.ingest([sample(2, 0, 2)]).await.unwrap();
    let mut live = health.subscribe(Filter::all()).resume(start).resume(second);
    resumed(&mut live).await.unwrap();
    health.ingest([sample(3, 0, 3)]).await.unwrap();
    assert_eq!(hear(&mut live, 2).await, ["2:2", "3:3"]);
    assert!(live.try_next().is_none());
}

#[tokio::test]
async fn readers_who_never_read_share_a_bounded_memory_and_cost_the_others_nothing() {
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
        let all = hear(&mut awake, 500).await;
        assert_eq!(all[499], format!("500:{n}"));
    }
    // Far more was written than there is memory for, and each of them can say what it missed.
    for live in &mut asleep {
        let (mut heard, mut missed) = (0, 0);
        while heard + missed < 50 * 500 {
            match next(live).await {
                LiveEvent::Sample { .. } => heard += 1,
                LiveEvent::Lagged { missed: more, cursor } => {
                    missed += usize::try_from(more).unwrap();
                    // From there on nothing is missing.
                    let mut again = health.subscribe(Filter::users([user(7)])).resume(cursor);
                    resumed(&mut again).await.unwrap();
                    let behind = hear(&mut again, 50 - heard / 500).await;
                    assert_eq!(behind.last().unwrap(), "7:49");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(heard + missed, 50 * 500);
        assert!(missed > 0);
        assert!(live.try_next().is_none());
    }
    while heard(&mut thin).await.0 != "500:49" {}
}

#[tokio::test]
async fn a_server_that_was_cut_off_for_longer_than_the_window_says_that_samples_may_be_missing() {
    let database = TestDatabase::new().await;
    let limits = Limits {
        replay_window: Duration::from_millis(400),
        ..one_writer()
    };
    let (there, away) = (
        open_with(&database, limits.clone()).await,
        open_with(&database, limits).await,
    );
    let mut live = away.subscribe(Filter::all());
    there.ingest([sample(1, 0, 1)]).await.unwrap();
    assert_eq!(hear(&mut live, 1).await, ["1:1"]);
    // Nobody who is not connected comes in any more, and the courier of one of them is thrown out.
    let client = sql(&database).await;
    let (outside, connection) = {
        let mut config: tokio_postgres::Config = database.url().parse().unwrap();
        config.dbname("postgres").connect(NoTls).await.unwrap()
    };
    tokio::spawn(connection);
    let name = database.name();
    let shut = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
    outside.batch_execute(&shut).await.unwrap();
    let courier = "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks JOIN pg_stat_activity USING (pid) \
                   WHERE locktype = 'advisory' AND mode = 'ShareLock' AND objsubid = 2 AND datname = current_database() \
                   ORDER BY backend_start DESC LIMIT 1";
    client.batch_execute(courier).await.unwrap();
    let mut kept = there.subscribe(Filter::all());
    there.ingest([sample(2, 0, 2)]).await.unwrap();
    assert_eq!(hear(&mut kept, 1).await, ["2:2"]);
    let gone = async {
        let left = "SELECT count(*) FROM health_commits";
        while client.query_one(left, &[]).await.unwrap().get::<_, i64>(0) > 0 {}
    };
    timeout(Duration::from_secs(20), gone).await.expect("pruned in time");
    let open = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
    outside.batch_execute(&open).await.unwrap();
    let reason = resumed(&mut live).await.unwrap_err();
    assert!(reason.contains("out of reach"), "{reason}");
    there.ingest([sample(3, 0, 3)]).await.unwrap();
    while heard(&mut live).await.0 != "3:3" {}
    assert_eq!(hear(&mut kept, 1).await, ["3:3"]);
}

#[tokio::test]
async fn a_replay_that_is_overtaken_by_the_window_says_that_samples_may_be_missing() {
    let database = TestDatabase::new().await;
    let limits = Limits {
        replay_window: Duration::from_millis(400),
        ..one_writer()
    };
    let health = open_with(&database, limits).await;
    let start = health.cursor();
    health.ingest((1..=20_000).map(|id| sample(id, 0, 1))).await.unwrap();
    let mut live = health.subscribe(Filter::all()).resume(start);
    resumed(&mut live).await.unwrap();
    hear(&mut live, 10).await;
    // Committed, and forgotten by the feed, while the reader sleeps in the middle of its backlog.
    health.ingest([sample(1, 1, 2)]).await.unwrap();
    let client = sql(&database).await;
    let gone = async {
        let left = "SELECT count(*) FROM health_commits";
        while client.query_one(left, &[]).await.unwrap().get::<_, i64>(0) > 0 {}
    };
    timeout(Duration::from_secs(20), gone).await.expect("pruned in time");
    let reason = loop {
        match next(&mut live).await {
            LiveEvent::Sample { published, .. } => {
                let late = published.sample().steps().map(Steps::get) == Some(2);
                assert!(!late, "it came although nobody can have known where to look for it");
            }
            LiveEvent::Subscribed { resumed: false, reason } => break reason.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert!(reason.contains("too old"), "{reason}");
    // The rest of the backlog comes all the same, and then the present.
    health.ingest([sample(9, 9, 9)]).await.unwrap();
    while heard(&mut live).await.0 != "9:9" {}
}

#[tokio::test]
async fn a_jump_of_the_databases_clock_loses_nothing_in_silence() {
    let database = TestDatabase::new().await;
    let health = open(&database).await;
    let mut live = health.subscribe(Filter::all());
    let start = live.cursor();
    health.ingest([sample(1, 0, 1)]).await.unwrap();
    assert_eq!(hear(&mut live, 1).await, ["1:1"]);
    let client = sql(&database).await;
    // Back by a day: what was committed lies in the future now.
    let back = "UPDATE health_commits SET committed_at = committed_at + interval '25 hours'";
    client.batch_execute(back).await.unwrap();
    health.ingest([sample(2, 0, 2)]).await.unwrap();
    assert_eq!(hear(&mut live, 1).await, ["2:2"]);
    let mut again = health.subscribe(Filter::all()).resume(start.clone());
    resumed(&mut again).await.unwrap();
    assert_eq!(hear(&mut again, 2).await, ["1:1", "2:2"]);
    // Ahead by two: everything counts as older than the window. The stream goes on, and resuming is honest.
    let ahead = "UPDATE health_commits SET committed_at = committed_at - interval '50 hours'";
    client.batch_execute(ahead).await.unwrap();
    health.ingest([sample(3, 0, 3)]).await.unwrap();
    assert_eq!(hear(&mut live, 1).await, ["3:3"]);
    assert_eq!(hear(&mut again, 1).await, ["3:3"]);
    let mut again = health.subscribe(Filter::all()).resume(start);
    assert!(resumed(&mut again).await.unwrap_err().contains("too old"));
}
