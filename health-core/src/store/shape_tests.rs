//! Both shapes of a statement give the same rows, and a session knows which of them it needs.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use test_support::{TestDatabase, is_on_citus};

use crate::{
    config::{Config, Limits},
    grain::Grain,
    health::Health,
    sample::{HeartRate, Readings, Sample, Source, Steps, UserId},
    store::{
        connection::Session,
        dirty_slices::{self, UserSlice},
        rollup::{Roller, Step},
        summarise::{self, UserTimeSpan},
        tables::Tables,
        users,
    },
};

#[tokio::test]
async fn a_session_learns_from_the_catalog_of_citus_where_the_tables_are() {
    let database = TestDatabase::undistributed().await;
    let config = Config::from_url(database.url()).unwrap();
    let plan_mode = "SELECT current_setting('plan_cache_mode'), current_setting('citus.multi_shard_modify_mode', true)";
    let settings = async |session: &Session| -> (String, Option<String>) {
        let row = session.client().query_one(plan_mode, &[]).await.unwrap();
        (row.get(0), row.get(1))
    };
    let local = session(&config, Tables::Local).await;
    // The setting exists where Citus is installed.
    let mode = is_on_citus().then(|| "parallel".into());
    assert_eq!(settings(&local).await, ("force_generic_plan".into(), mode));
    drop(local);
    database.distribute().await;
    let distributed = session(&config, Tables::Distributed).await;
    assert_eq!(settings(&distributed).await, ("auto".into(), Some("sequential".into())));
    if is_on_citus() {
        eprintln!("skipped in part: the catalog of a real cluster cannot be changed");
        return;
    }
    // Citus is installed, but the tables are not distributed, or in another way.
    for change in [
        "UPDATE pg_dist_partition SET partmethod = 'n'",
        "DELETE FROM pg_dist_partition",
    ] {
        distributed.client().batch_execute(change).await.unwrap();
        session(&config, Tables::Local).await;
    }
}

#[tokio::test]
async fn both_shapes_of_a_statement_give_the_same_rows() {
    let database = TestDatabase::undistributed().await;
    let config = Config::from_url(database.url()).unwrap();
    let spans = store_samples(&config).await;
    let local = everything_read(&mut session(&config, Tables::Local).await, &spans).await;
    database.distribute().await;
    let distributed = everything_read(&mut session(&config, Tables::Distributed).await, &spans).await;
    assert!(local.len() > 100_000, "only {} bytes were compared", local.len());
    for (local, distributed) in local.lines().zip(distributed.lines()) {
        assert_eq!(local, distributed);
    }
    assert_eq!(local.len(), distributed.len());
}

/// Citus names a node that is away, or a shard that has moved meanwhile, in an answer and not in an error.
#[tokio::test]
async fn users_are_found_by_other_statements_if_a_node_has_not_answered() {
    if is_on_citus() {
        eprintln!("skipped: the functions of a real cluster cannot be changed");
        return;
    }
    let database = TestDatabase::distributed_if(true).await;
    let config = Config::from_url(database.url()).unwrap();
    let health = Health::open(config.clone().limits(Limits::patient())).await.unwrap();
    health.ingest([3, 9, 4, 700].map(any_sample)).await.unwrap();
    health.close().await.unwrap();
    let mut session = session(&config, Tables::Distributed).await;
    for answer in [
        None,
        Some("true, NULL::text"),
        Some("false, 'connection refused'"),
        Some("true, 'x,y'"),
    ] {
        if let Some(answer) = answer {
            let answers = format!(
                "CREATE OR REPLACE FUNCTION pg_catalog.master_run_on_worker(worker_name text[], port integer[], command text[], \
                 parallel boolean, OUT node_name text, OUT node_port integer, OUT success boolean, OUT result text) \
                 RETURNS SETOF record LANGUAGE sql STABLE AS $$ SELECT 'one', 1, true, '700,3' \
                 UNION ALL SELECT 'copy', 2, true, '3,700' UNION ALL SELECT 'two', 3, {answer} $$"
            );
            session.client().batch_execute(&answers).await.unwrap();
        }
        let all = match answer {
            Some("true, NULL::text") => vec![3, 700],
            _ => vec![3, 4, 9, 700],
        };
        let found = users::ids_after(&mut session, 0, 10).await.unwrap();
        assert_eq!(found, all, "{answer:?}");
        let first = users::ids_after(&mut session, 0, 2).await.unwrap();
        assert_eq!(first, all[..2], "{answer:?}");
    }
}

/// Connects, and checks where the session takes the tables to be.
async fn session(config: &Config, tables: Tables) -> Session {
    let session = Session::writer(config).await.unwrap();
    assert_eq!(session.tables(), tables);
    session
}

/// Stores samples of some users, summarises them, and makes slices dirty, some of them twice. Returns spans of whole
/// slices that contain them.
async fn store_samples(config: &Config) -> Vec<UserTimeSpan> {
    let health = Health::open(config.clone().limits(Limits::patient())).await.unwrap();
    let mut roller = Roller::new(Duration::ZERO, Arc::default());
    roller.epoch_min = Duration::ZERO;
    let mut session = Session::writer(config).await.unwrap();
    for user in 1..=40 {
        let samples: Vec<_> = (0..400).map(|_| any_sample(user)).collect();
        health.ingest(samples).await.unwrap();
    }
    health.close().await.unwrap();
    while roller.step(&mut session).await.unwrap() != Step::Idle {}
    let add = "INSERT INTO health_dirty (user_id, slice, epoch) \
               SELECT user_id, date_bin('15 minutes', timestamp, '2000-01-01T00:00:00Z'), id % 2 \
               FROM health_metrics WHERE id % 3 = 0";
    session.client().batch_execute(add).await.unwrap();
    let start = Grain::Slice.floor(Sample::EARLIEST.timestamp_micros());
    let span = |user, hour: i64| UserTimeSpan {
        user,
        from: start + hour * 4 * Grain::Slice.micros(),
        to: start + (hour + 7) * 4 * Grain::Slice.micros(),
    };
    (1..=40)
        .flat_map(|user| [span(user, 0), span(user, 9), span(user, 30)])
        .collect()
}

/// Makes a sample of the first two days.
fn any_sample(user: i64) -> Sample {
    let readings = Readings {
        heart_rate: HeartRate::new(f64::from(fastrand::u8(50..180))).ok(),
        steps: Steps::new(fastrand::i64(0..30)).ok(),
        calories: None,
    };
    let time = Sample::EARLIEST + TimeDelta::seconds(fastrand::i64(0..2 * 24 * 60) * 60);
    let source = Source::new(["", "phone", "watch"][fastrand::usize(..3)]).unwrap();
    Sample::new(UserId::new(user).unwrap(), time, source, readings).unwrap()
}

/// Runs every function whose statements have two shapes, and returns what they read, a line each. Changes are rolled
/// back.
async fn everything_read(session: &mut Session, spans: &[UserTimeSpan]) -> String {
    let mut read = Vec::new();
    for (after, most) in [(0, 100), (0, 7), (13, 7), (39, 2), (40, 2), (i64::MAX, 2)] {
        read.push(format!("{:?}", users::ids_after(session, after, most).await.unwrap()));
    }
    for user in users::details(session, &[1, 2, 17, 40, 41, 1_000]).await.unwrap() {
        read.push(format!("{user:?}"));
    }
    for limit in [None, Some(1), Some(100), Some(1_000), Some(i64::MAX)] {
        let summaries = summarise::samples(session, spans, limit, 5).await.unwrap();
        read.push(format!("{:?}", summaries.stopped_at));
        read.extend(summaries.slices.iter().map(|summary| format!("{summary:?}")));
        read.extend(summaries.minutes.iter().map(|summary| format!("{summary:?}")));
    }
    let rollups = "SELECT r::text FROM health_rollups r ORDER BY user_id, minutes, start, source";
    let dirty = "SELECT DISTINCT user_id, slice::text FROM health_dirty ORDER BY 1, 2";
    session
        .client()
        .batch_execute("BEGIN; DELETE FROM health_rollups WHERE minutes > 15")
        .await
        .unwrap();
    summarise::coarser(session, spans, |_| i64::MAX / 2).await.unwrap();
    for row in session.client().query(rollups, &[]).await.unwrap() {
        read.push(row.get(0));
    }
    let mut after = UserSlice::default();
    for rows_max in [1, 10, 300, 10_000] {
        let slices = dirty_slices::remove(session, 1, after, rows_max).await.unwrap();
        assert!(!slices.is_empty());
        read.push(format!("{slices:?}"));
        after = slices.last().copied().unwrap_or(after);
    }
    let left = session.client().query(dirty, &[]).await.unwrap();
    read.extend(
        left.iter()
            .map(|row| format!("{} {}", row.get::<_, i64>(0), row.get::<_, &str>(1))),
    );
    session.client().batch_execute("ROLLBACK").await.unwrap();
    read.join("\n")
}
