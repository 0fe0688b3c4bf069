//! A server that is older than the schema allows writes nothing any more, from the very commit of the migration.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use chrono::Utc;
use test_support::{TestDatabase, earlier};
use tokio::task::JoinSet;

use crate::{
    config::{Config, Limits},
    error::{Error, NotWritableReason},
    health::Health,
    store::{
        commit_log::maintain,
        connection::Session,
        erase_tests::{at, open, range, sample, session, user},
        error::StoreError,
        required_version::KNOWN_VERSION,
        rollup::{Roller, Step},
        sealing_tests::summarise_all,
    },
};

/// What a migration does first that an older program would break a promise with.
const RAISE: &str = "BEGIN; SELECT pg_advisory_xact_lock(hashtext('health rollers')); \
    SELECT pg_advisory_xact_lock(hashtext('health threshold')); UPDATE health_sealing SET required_version = ";

async fn raise(session: &Session, version: i32) {
    session
        .client()
        .batch_execute(&format!("{RAISE}{version}; COMMIT"))
        .await
        .unwrap();
}

fn is_outdated(error: &Error) -> bool {
    let Error::NotWritable(reason) = error else {
        return false;
    };
    let expected = NotWritableReason::OutdatedProgram {
        required: KNOWN_VERSION + 1,
        known: KNOWN_VERSION,
    };
    assert!(error.to_string().contains("update it"), "{error}");
    *reason == expected
}

/// Everything that a server writes.
async fn contents(session: &Session) -> Vec<String> {
    let all = "SELECT md5(string_agg(stored::text, ',' ORDER BY stored::text)) FROM (SELECT m::text FROM health_metrics m \
        UNION ALL SELECT r::text FROM health_rollups r UNION ALL SELECT d::text FROM health_dirty d \
        UNION ALL SELECT c::text FROM health_commits c UNION ALL SELECT p::text FROM health_commit_packs p \
        UNION ALL SELECT s::text FROM health_sealing s) AS stored";
    let row = session.client().query_one(all, &[]).await.unwrap();
    vec![row.get(0)]
}

#[tokio::test]
async fn a_server_that_is_too_old_for_the_schema_reads_and_writes_nothing_until_it_is_updated() {
    let database = TestDatabase::new().await;
    let health = open(&database, Limits::default()).await;
    health.ingest([sample(1, 0, "", 1), sample(2, 0, "", 2)]).await.unwrap();
    let mut session = session(&database).await;
    summarise_all(&mut session).await;
    // A dirty slice, and a commit that is old enough for a pack.
    health.ingest([sample(1, 5, "", 3)]).await.unwrap();
    let age = format!(
        "UPDATE health_commits SET committed_at = {}",
        earlier("committed_at", "6 minutes")
    );
    session.client().batch_execute(&age).await.unwrap();
    raise(&session, KNOWN_VERSION + 1).await;
    let before = contents(&session).await;

    let late = health.ingest([sample(1, 9, "", 1)]).await.unwrap_err();
    assert!(is_outdated(&late), "{late:?}");
    // The second one would be written in one round trip.
    for _ in 0..2 {
        let recent = sample_now(3);
        let refused = health.ingest([recent]).await.unwrap_err();
        assert!(is_outdated(&refused), "{refused:?}");
    }
    let erased = health.erase(user(1)).await.unwrap_err();
    assert!(is_outdated(&erased), "{erased:?}");
    let erased = health.erase_range(user(2), range(-10, 10), None).await.unwrap_err();
    assert!(is_outdated(&erased), "{erased:?}");
    let ready = health.ready().await.unwrap_err();
    assert!(is_outdated(&ready), "{ready:?}");
    let mut roller = Roller::new(std::time::Duration::ZERO, Arc::default());
    let step = roller.step(&mut session).await;
    assert!(matches!(step, Err(StoreError::NotWritable(_))), "{step:?}");
    let packed = maintain(&mut session, std::time::Duration::from_hours(24)).await;
    assert!(matches!(packed, Err(StoreError::NotWritable(_))), "{packed:?}");
    assert_eq!(contents(&session).await, before);
    let day = health.stats(user(1), range(-10, 10)).await.unwrap();
    assert_eq!(day.overall.samples, 2);

    raise(&session, KNOWN_VERSION).await;
    health.ingest([sample_now(3)]).await.unwrap();
    health.ready().await.unwrap();
    assert_eq!(health.erase(user(1)).await.unwrap(), 2);
    while roller.step(&mut session).await.unwrap() == Step::Worked {}
    health.close().await.unwrap();
}

fn sample_now(id: i64) -> crate::sample::Sample {
    let second = (Utc::now() - at(0)).num_seconds();
    sample(id, second, "", 4)
}

/// Writers and erasers are busy while the migration waits for its locks. None of their transactions ends after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_transaction_of_an_outdated_server_is_committed_after_the_migration() {
    let database = TestDatabase::new().await;
    let servers = [
        open(&database, Limits::default()).await,
        open(&database, Limits::default()).await,
    ];
    let session = session(&database).await;
    let refused = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for task in 0..6_i64 {
        let (health, refused): (Health, _) = (
            servers[usize::try_from(task % 2).unwrap()].clone(),
            Arc::clone(&refused),
        );
        tasks.spawn(async move {
            for round in 1.. {
                let outcome = if task < 4 {
                    let new = [
                        sample_now(task + 1),
                        sample(task + 1, round % 3_000, "watch", round % 90),
                    ];
                    health.ingest(new).await.map(|_| ())
                } else {
                    health
                        .erase_range(user(task - 3), range(0, 3_000), None)
                        .await
                        .map(|_| ())
                };
                if let Err(error) = outcome {
                    assert!(is_outdated(&error), "{error:?}");
                    refused.store(true, SeqCst);
                    return round;
                }
            }
            0
        });
    }
    let count = "SELECT count(*) FROM health_commits";
    let count = async || session.client().query_one(count, &[]).await.unwrap().get::<_, i64>(0);
    while count().await < 200 {}
    let raise = format!("{RAISE}{}", KNOWN_VERSION + 1);
    session.client().batch_execute(&raise).await.unwrap();
    assert!(!refused.load(SeqCst), "the new number is not visible yet");
    let at_migration = count().await;
    session.client().batch_execute("COMMIT").await.unwrap();
    while let Some(rounds) = tasks.join_next().await {
        assert!(rounds.unwrap() > 1);
    }
    assert_eq!(count().await, at_migration);
}

/// A schema that an older server may use: it goes on, but does not start again.
#[tokio::test]
async fn a_migration_that_older_servers_can_live_with_lets_them_run_and_refuses_their_next_start_by_name() {
    let database = TestDatabase::new().await;
    let health = open(&database, Limits::default()).await;
    let session = session(&database).await;
    let newer = format!(
        "ALTER TABLE health_sealing ADD COLUMN of_a_newer_version integer; ALTER TABLE health_metrics ADD COLUMN other integer; \
         INSERT INTO refinery_schema_history VALUES ({}, 'newer', '2026-01-01T00:00:00Z', '1')",
        KNOWN_VERSION + 1
    );
    session.client().batch_execute(&newer).await.unwrap();
    health.ingest([sample(1, 0, "", 1), sample_now(1)]).await.unwrap();
    health.ingest([sample_now(2)]).await.unwrap();
    assert_eq!(health.erase(user(1)).await.unwrap(), 2);
    let start = Health::open(Config::from_url(database.url()).unwrap()).await;
    let Err(refusal) = start else {
        panic!("an outdated server starts")
    };
    let message = refusal.to_string();
    let version = format!("schema version {}", KNOWN_VERSION + 1);
    assert!(
        message.contains(&version) && message.contains("Run the newer program"),
        "{message}"
    );
    health.close().await.unwrap();
}
