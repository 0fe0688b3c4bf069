//! Gaps: samples that the server cannot send, because a cursor is unusable or the commit log does not have them any
//! more.

use std::time::Duration;

use health_core::{Config, Cursor, Filter, Health, LiveEvent};
use test_support::{TestDatabase, earlier};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use crate::support::{
    APPEND, TIMEOUT, expect_resumed, keys_of_one_row, next, next_sample, one_writer, open, receive, sample, sql,
};

/// Makes all commits older.
fn set_back(by: &str) -> String {
    format!(
        "UPDATE health_commits SET committed_at = {}",
        earlier("committed_at", by)
    )
}

/// Deletes all records but the newest, as if they had been pruned.
const PRUNE: &str = "DELETE FROM health_commits WHERE number < (SELECT max(number) FROM health_commits)";

fn number_of(cursor: &Cursor) -> i64 {
    cursor.as_str().split_once('.').unwrap().0.parse().unwrap()
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
    timeout(TIMEOUT, delivered).await.expect("delivered in time");
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
async fn a_server_that_was_without_database_until_commits_were_pruned_says_that_samples_may_be_missing() {
    let database = TestDatabase::new().await;
    let named = |name: &'static str| {
        let config = Config::from_url(database.url()).unwrap().limits(one_writer());
        Health::open(config.application(name))
    };
    let (connected, cut_off) = (named("connected").await.unwrap(), named("cut-off").await.unwrap());
    let mut live = cut_off.subscribe(Filter::all());
    connected.ingest([sample(1, 0, 1)]).await.unwrap();
    assert_eq!(receive(&mut live, 1).await, ["1:1"]);
    // The database accepts no new connections, and the poller of one server loses its connection.
    let client = sql(&database).await;
    let pollers = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted \
                   AND objsubid = 2 AND datname = current_database() AND application_name LIKE '% feed'";
    while client.query_one(pollers, &[]).await.unwrap().get::<_, i64>(0) < 2 {}
    let (outside, connection) = {
        let mut config: tokio_postgres::Config = database.url().parse().unwrap();
        config.dbname("postgres").connect(NoTls).await.unwrap()
    };
    tokio::spawn(connection);
    let name = database.name();
    let refuse_connections = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
    outside.batch_execute(&refuse_connections).await.unwrap();
    let terminate_poller = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity \
                   WHERE datname = current_database() AND application_name = 'cut-off feed'";
    client.query_one(terminate_poller, &[]).await.unwrap();
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
    // The numbers of the later commits belong to other commits now, which have more rows. The added key repeats the key
    // before it.
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

/// No program writes such a record. A database that was migrated from a version without row keys has one, its newest.
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
    // The clock jumps back by a day: the commits before the jump lie in the future.
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
