//! What the feed reads of the table, wherever PostgreSQL has put the rows of a commit.

use std::{collections::BTreeSet, time::Duration};

use chrono::TimeDelta;
use test_support::{TestDatabase, earlier};

use crate::{
    config::{Config, Limits},
    health::Health,
    sample::{Readings, Sample, Source, Steps, UserId},
    store::{
        commit_log::{CommitRecord, LogPage, LogPosition, maintain, page},
        connection::Session,
        feed_rows::{FeedRow, ROWS_LOCAL, rows},
    },
};

const USERS: i64 = 20;

const DAY: Duration = Duration::from_hours(24);

/// Rows of one commit: one of each user.
fn commit(second: i64, source: &str) -> Vec<Sample> {
    let readings = |user: i64| Readings {
        steps: Steps::new(user + second % 1_000).ok(),
        ..Readings::default()
    };
    let time = Sample::EARLIEST + TimeDelta::seconds(second);
    let sample = |user| {
        let source = Source::new(source).unwrap();
        Sample::new(UserId::new(user).unwrap(), time, source, readings(user)).unwrap()
    };
    (1..=USERS).map(sample).collect()
}

async fn open(database: &TestDatabase) -> (Health, Session) {
    let limits = Limits {
        writers: 1,
        ..Limits::patient()
    };
    let config = Config::from_url(database.url()).unwrap().limits(limits);
    let health = Health::open(config.clone()).await.unwrap();
    (health, Session::writer(&config).await.unwrap())
}

/// All records of the log that have rows.
async fn records(session: &mut Session) -> Vec<CommitRecord> {
    let mut all = Vec::new();
    let mut from = LogPosition::START;
    loop {
        let log = page(session, from, 1_000, DAY).await.unwrap();
        let LogPage::Records { records, .. } = log else {
            panic!("{log:?}")
        };
        let Some(last) = records.last() else { return all };
        from = last.position();
        all.extend(records.into_iter().filter(|record| record.rows > 0));
    }
}

fn samples(rows: &[FeedRow]) -> Vec<&Sample> {
    rows.iter().map(|row| &row.sample).collect()
}

/// New rows fill the space of erased ones, so those of one commit lie anywhere. An index on ranges of blocks finds
/// nearly the whole table then, and a subscriber that resumes falls behind without end.
#[tokio::test]
async fn the_rows_of_a_commit_cost_as_much_after_erasures_as_before() {
    let database = TestDatabase::undistributed().await;
    let (health, mut session) = open(&database).await;
    let many = (0..1_500).flat_map(|second| commit(second, ""));
    health.ingest(many).await.unwrap();
    for user in (1..=USERS).step_by(2) {
        health.erase(UserId::new(user).unwrap()).await.unwrap();
        session.client().batch_execute("VACUUM health_metrics").await.unwrap();
        for second in 0..20 {
            health.ingest(commit(1_000 * user + second, "")).await.unwrap();
        }
    }
    session
        .client()
        .batch_execute("VACUUM ANALYZE health_metrics")
        .await
        .unwrap();
    let pages = "SELECT pg_relation_size('health_metrics') / current_setting('block_size')::bigint";
    let pages: i64 = session.client().query_one(pages, &[]).await.unwrap().get(0);
    let log = records(&mut session).await;
    let record = log[log.len() - 10];
    let found = rows(&mut session, &[record], None, None).await.unwrap().unwrap();
    assert_eq!(found.len(), record.rows.unsigned_abs() as usize);

    // The same statement, with a plan for any parameters.
    let prepare =
        format!("SET plan_cache_mode = force_generic_plan; PREPARE found (bigint[], timestamptz[]) AS {ROWS_LOCAL}");
    session.client().batch_execute(&prepare).await.unwrap();
    let users: Vec<_> = found.iter().map(|row| row.sample.user_id().to_string()).collect();
    let times: Vec<_> = found.iter().map(|row| row.sample.timestamp().to_rfc3339()).collect();
    let explain = format!(
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE found ('{{{}}}', '{{{}}}')",
        users.join(","),
        times.join(",")
    );
    let plan = session.client().simple_query(&explain).await.unwrap();
    let plan = plan.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let plan: serde_json::Value = serde_json::from_str(plan.unwrap()).unwrap();
    let read = ["Shared Hit Blocks", "Shared Read Blocks"].map(|name| plan[0]["Plan"][name].as_i64().unwrap());
    // Of each row, its page and at most three of the index.
    let most = 4 * i64::from(record.rows);
    let read: i64 = read.iter().sum();
    assert!(pages > most, "the table has only {pages} pages");
    assert!(
        read <= most,
        "{read} pages for {} rows of a table of {pages}",
        record.rows
    );
}

#[tokio::test]
async fn a_part_of_a_commit_is_found_by_the_places_of_its_rows_also_if_it_updates_some() {
    let database = TestDatabase::new().await;
    let (health, mut session) = open(&database).await;
    health.ingest(commit(0, "watch")).await.unwrap();
    // Rows of two sources have one key. The second commit inserts some rows and updates others.
    let mut second = commit(0, "phone");
    let changed = commit(0, "watch").into_iter().map(|sample| {
        sample.merged_with(Readings {
            steps: Steps::new(500).ok(),
            ..Readings::default()
        })
    });
    second.extend(changed);
    health.ingest(second.clone()).await.unwrap();
    for is_packed in [false, true] {
        if is_packed {
            let age = format!(
                "UPDATE health_commits SET committed_at = {}",
                earlier("committed_at", "1 hour")
            );
            session.client().batch_execute(&age).await.unwrap();
            health.ingest(commit(1, "")).await.unwrap();
            while maintain(&mut session, DAY).await.unwrap() {}
        }
        let log = records(&mut session).await;
        let [first, last] = [log[0], log[1]];
        assert_eq!([first.rows, last.rows], [20, 40]);
        let found = rows(&mut session, &[first], None, None).await.unwrap().unwrap();
        assert!(found.is_empty(), "each row was changed by the later commit");
        let all = rows(&mut session, &[first, last], None, None).await.unwrap().unwrap();
        assert_eq!(samples(&all), second.iter().collect::<Vec<_>>());
        for part in [0..7, 7..33, 33..1 << 20] {
            let found = rows(&mut session, &[last], Some(&part), None).await.unwrap().unwrap();
            let expected: Vec<_> = all.iter().filter(|row| part.contains(&row.place())).collect();
            assert_eq!(
                samples(&found),
                expected.iter().map(|row| &row.sample).collect::<Vec<_>>()
            );
        }
        let users = [3, 17].map(|user| UserId::new(user).unwrap());
        let found = rows(&mut session, &[first, last], None, Some(&users))
            .await
            .unwrap()
            .unwrap();
        let found: BTreeSet<_> = found.iter().map(|row| row.sample.user_id()).collect();
        assert_eq!(found, BTreeSet::from(users));
    }
    health.close().await.unwrap();
}

#[tokio::test]
async fn commits_that_are_no_longer_in_the_log_are_not_taken_for_commits_without_rows() {
    let database = TestDatabase::new().await;
    let (health, mut session) = open(&database).await;
    for second in 0..3 {
        health.ingest(commit(second, "")).await.unwrap();
    }
    let log = records(&mut session).await;
    session
        .client()
        .batch_execute("DELETE FROM health_commits WHERE number < (SELECT max(number) FROM health_commits)")
        .await
        .unwrap();
    assert!(rows(&mut session, &log, None, None).await.unwrap().is_none());
    assert_eq!(
        rows(&mut session, &log[2..], None, None).await.unwrap().unwrap().len(),
        20
    );

    // The database was put back to an earlier state, and the number was given again.
    for other in [
        "writer = writer + 1, rows = rows + 1",
        "batch = batch + 1, rows = 1",
        "keys = ''",
    ] {
        let client = session.client();
        let change = format!("BEGIN; UPDATE health_commits SET {other}");
        client.batch_execute(&change).await.unwrap();
        assert!(
            rows(&mut session, &log[2..], None, None).await.unwrap().is_none(),
            "{other}"
        );
        session.client().batch_execute("ROLLBACK").await.unwrap();
    }
}
