//! Answers of readers equal a plain aggregate over the samples of the same snapshot, while writers, rollers and erasers
//! work.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use test_support::TestDatabase;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    config::{Config, Limits},
    erasure::Erasure,
    fold::assemble,
    grain::Grain,
    health::Health,
    histogram::Histogram,
    range::TimeRange,
    sample::{Calories, HeartRate, Readings, Sample, Source, Steps, UserId},
    stats::{RangeStats, SourceTotals, Stats},
    store::{
        connection::Session,
        erase,
        micros::Micros,
        read::{ReadTransaction, StatsQuery},
        readers::readers,
        rollup::{Roller, Step},
        tables::Tables,
        users,
    },
    summary::to_f64,
};

/// Computes statistics from samples only. Returns one row a source; each row repeats the numbers of the whole range.
/// A heart rate counts for no time after `$4`.
const PLAIN: &str = "
WITH samples AS (
    SELECT source, timestamp, heart_rate, steps, calories FROM health_metrics
    WHERE user_id = $1 AND timestamp >= $2 AND timestamp < $3
), weighted AS (
    SELECT source, heart_rate, greatest(0, extract(epoch FROM least(
        lead(timestamp) OVER (PARTITION BY source ORDER BY timestamp), timestamp + interval '300 s', $4
    ) - timestamp)) * 1000000 AS micros
    FROM samples WHERE heart_rate IS NOT NULL
), best AS (
    SELECT sum(heart_rate * micros::float8) / nullif(sum(micros::float8), 0) AS average, sum(micros)::bigint AS covered
    FROM weighted GROUP BY source ORDER BY sum(micros) DESC, source LIMIT 1
), slices AS (
    SELECT max(steps) AS steps, max(calories) AS calories FROM (
        SELECT date_bin('15 minutes', timestamp, 'epoch') AS slice, sum(steps) AS steps, sum(calories) AS calories
        FROM samples GROUP BY slice, source) AS one GROUP BY slice
), totals AS (
    SELECT coalesce(sum(steps), 0)::bigint AS steps, coalesce(sum(calories), 0) AS calories FROM slices
), whole AS (
    SELECT avg(heart_rate) AS average, min(heart_rate) AS min, max(heart_rate) AS max FROM samples
)
SELECT s.source, count(*) AS samples, coalesce(sum(s.steps), 0) AS steps, coalesce(sum(s.calories), 0) AS calories,
    whole.average, whole.min, whole.max, best.average AS weighted, best.covered,
    totals.steps AS total_steps, totals.calories AS total_calories
FROM samples s CROSS JOIN whole CROSS JOIN totals LEFT JOIN best ON true
GROUP BY s.source, whole.average, whole.min, whole.max, best.average, best.covered, totals.steps, totals.calories
ORDER BY s.source";

/// Reads the heart rates for the histogram.
const HEART_RATES: &str = "SELECT heart_rate FROM health_metrics \
    WHERE user_id = $1 AND timestamp >= $2 AND timestamp < $3 AND heart_rate IS NOT NULL";

/// The range of time in which the samples lie: it contains whole days, so that days are summarised.
const SPREAD: Duration = Duration::from_hours(3 * 24);

/// How long all tasks run; the environment variable `HEALTH_TEST_SECONDS` sets another time.
const RUN: Duration = Duration::from_secs(6);

/// How many samples must be compared before the tasks end, however busy the machine is.
const COMPARED_MIN: i64 = 10_000;

/// Few users, so that tasks often work on the same rows.
const USERS: i64 = 4;

/// A number of samples that some slices reach at once, some later, and some never.
const DENSE_SAMPLES: u64 = 30;

/// The relative error that the plain aggregate may have: it adds thousands of `f64`s, while answers are exact.
const TOLERANCE: f64 = 1e-9;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_answer_equals_an_aggregate_over_the_samples_of_its_snapshot() {
    compare_while_everything_changes(&TestDatabase::undistributed().await, Tables::Local).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_answer_equals_an_aggregate_also_with_the_statements_for_distributed_tables() {
    let database = TestDatabase::distributed_if(true).await;
    compare_while_everything_changes(&database, Tables::Distributed).await;
}

/// Checks that no slice is dirty, and that days and minutes have summaries.
async fn everything_is_summarised(session: &Session) {
    let count = "SELECT (SELECT count(*) FROM health_dirty), \
         (SELECT count(*) FROM health_rollups WHERE minutes = 1440), \
         (SELECT count(*) FROM health_rollups WHERE minutes = 1)";
    let row = session.client().query_one(count, &[]).await.unwrap();
    let [dirty_slices, days, minutes]: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(dirty_slices, 0);
    assert!(
        days > 0 && minutes > 0,
        "{days} summaries of days and {minutes} of minutes"
    );
}

async fn compare_while_everything_changes(database: &TestDatabase, tables: Tables) {
    let config = Config::from_url(database.url()).unwrap();
    let seconds = std::env::var("HEALTH_TEST_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let run = seconds.map_or(RUN, Duration::from_secs);
    let (began, now) = (Instant::now(), Utc::now());
    // A busy machine compares less in the same time, so it runs on.
    let compared = Arc::new(AtomicI64::new(0));
    let running = {
        let compared = Arc::clone(&compared);
        move || began.elapsed() < run || compared.load(Relaxed) <= COMPARED_MIN
    };
    // The age from which samples are summarised falls to zero, so the threshold moves all the time.
    let settle = move || SPREAD.mul_f64((1.0 - began.elapsed().as_secs_f64() / run.as_secs_f64()).max(0.0));
    // Two servers with writers. Their own rollers find nothing old enough; the rollers of this test do the work.
    let config = config.limits(Limits {
        settle: SPREAD * 1_000,
        ..Limits::patient()
    });
    let servers = [
        Health::open(config.clone()).await.unwrap(),
        Health::open(config.clone()).await.unwrap(),
    ];

    let mut workers = JoinSet::new();
    for writer in 0..4 {
        let health = servers[writer % 2].clone();
        let (pool, running) = (readers(&config), running.clone());
        workers.spawn(async move {
            let mut batches = 0;
            while running() {
                // Most samples lie near the threshold, where both sealing and the writer might miss a slice. Few lie
                // elsewhere: a later write to the same slice would make it dirty and hide the fault.
                let near_threshold = (now - settle() + Duration::from_mins(40)).min(now);
                let random_sample = |_| {
                    if fastrand::u8(..40) == 0 {
                        any_sample(now, SPREAD)
                    } else {
                        any_sample(near_threshold, Duration::from_hours(1))
                    }
                };
                let samples: Vec<_> = (0..fastrand::usize(1..80)).map(random_sample).collect();
                health.ingest(samples).await.unwrap();
                batches += 1;
                if batches % 10 == 0 {
                    health.ingest(dense_slice(any_user(), now)).await.unwrap();
                }
                if writer == 1 && batches % 8 == 0 {
                    erase::erase(&pool, any_erasure(near_threshold), |_| ()).await.unwrap();
                }
                if writer == 0 && batches % 40 == 0 {
                    erase::erase(&pool, Erasure::of_user(any_user()), |_| ()).await.unwrap();
                }
            }
        });
    }
    for _ in 0..2 {
        let mut session = Session::roller(&config).await.unwrap();
        let (mut roller, running) = (eager_roller(SPREAD), running.clone());
        workers.spawn(async move {
            while running() {
                roller.settle = settle();
                if fastrand::bool() {
                    roller.awaited_users.note(any_user(), usize::MAX);
                }
                roller.step(&mut session).await.unwrap();
            }
        });
    }
    for _ in 0..3 {
        let mut session = Session::writer(&config).await.unwrap();
        let (compared, running) = (Arc::clone(&compared), running.clone());
        workers.spawn(async move {
            while running() {
                compared.fetch_add(compare_some(&mut session, now).await, Relaxed);
            }
        });
    }
    workers.join_all().await;

    for user in 1..=USERS {
        let samples = dense_slice(UserId::new(user).unwrap(), now);
        servers[0].ingest(samples).await.unwrap();
    }
    // After the writers have ended, rollers leave no dirty slice, and the answers come from summaries.
    let mut session = Session::writer(&config).await.unwrap();
    assert_eq!(session.tables(), tables);
    summarise_all(&mut session).await;
    everything_is_summarised(&session).await;
    let days: Vec<_> = (0..=4)
        .map(|day| Grain::Day.floor((now - SPREAD).timestamp_micros()) + day * Grain::Day.micros())
        .collect();
    for user in 1..=USERS {
        compare(&mut session, UserId::new(user).unwrap(), &days, now.timestamp_micros()).await;
    }
    for server in servers {
        server.close().await.unwrap();
    }
}

/// The greatest legal user id has no next id from which sealing could continue.
#[tokio::test]
async fn sealing_ends_if_a_user_has_the_greatest_id() {
    for is_distributed in [false, true] {
        seal_users_with_the_greatest_ids(&TestDatabase::distributed_if(is_distributed).await).await;
    }
}

async fn seal_users_with_the_greatest_ids(database: &TestDatabase) {
    let config = Config::from_url(database.url()).unwrap();
    let health = Health::open(config.clone().limits(Limits::patient())).await.unwrap();
    let users = [1, i64::MAX - 1, i64::MAX].map(|user| UserId::new(user).unwrap());
    let samples = users
        .into_iter()
        .flat_map(|user| (0..3).map(move |hour| sample(user, 1_740_000_000 + hour * 3600)));
    health.ingest(samples).await.unwrap();
    health.close().await.unwrap();
    let mut session = Session::writer(&config).await.unwrap();
    let back = "DELETE FROM health_rollups; DELETE FROM health_dirty; \
                UPDATE health_sealing SET sealed_before = '2000-01-01T00:00:00Z', next_user = 0, \
                next_slice = '2000-01-01T00:00:00Z'";
    session.client().batch_execute(back).await.unwrap();
    let mut roller = eager_roller(Duration::ZERO);
    let mut steps = 0;
    while roller.step(&mut session).await.unwrap() != Step::Idle {
        steps += 1;
        assert!(steps < 50, "sealing does not end");
    }
    let slices = "SELECT count(*) FROM health_rollups WHERE minutes = 15";
    let count: i64 = session.client().query_one(slices, &[]).await.unwrap().get(0);
    assert_eq!(count, 9);
}

#[tokio::test]
async fn an_epoch_with_many_dirty_slices_ends_early_once_no_server_writes() {
    const HOUR: Duration = Duration::from_hours(1);
    let database = TestDatabase::new().await;
    let config = Config::from_url(database.url()).unwrap();
    Health::open(config.clone()).await.unwrap().close().await.unwrap();
    let mut session = Session::roller(&config).await.unwrap();
    let roller = |quiet_min| {
        let mut roller = Roller::new(Duration::ZERO, Arc::default());
        (roller.epoch_min, roller.quiet_min) = (HOUR, quiet_min);
        roller
    };
    add_dirty_slices(&session, 10).await;
    assert_eq!(work(&mut roller(Duration::ZERO), &mut session).await, Step::Waiting);
    add_dirty_slices(&session, 2_000).await;
    assert_eq!(work(&mut roller(HOUR), &mut session).await, Step::Waiting);
    assert_eq!(work(&mut roller(Duration::ZERO), &mut session).await, Step::Idle);
    let count = "SELECT count(*) FROM health_dirty";
    assert_eq!(
        session.client().query_one(count, &[]).await.unwrap().get::<_, i64>(0),
        0
    );
}

#[tokio::test]
async fn slices_of_a_user_whose_queries_find_many_dirty_ones_are_summarised_first() {
    let database = TestDatabase::new().await;
    let config = Config::from_url(database.url()).unwrap();
    Health::open(config.clone()).await.unwrap().close().await.unwrap();
    let mut session = Session::roller(&config).await.unwrap();
    let mut roller = Roller::new(Duration::ZERO, Arc::default());
    assert_eq!(work(&mut roller, &mut session).await, Step::Idle);
    let add = "INSERT INTO health_dirty (user_id, slice, epoch) \
               SELECT user_id, timestamptz '2020-01-01T00:00:00Z' + number * interval '15 min', epoch - 1 \
               FROM health_sealing, generate_series(1, 200) AS user_id, generate_series(1, 100) AS number";
    session.client().batch_execute(add).await.unwrap();
    roller = Roller::new(Duration::ZERO, Arc::default());
    roller.awaited_users.note(UserId::new(150).unwrap(), 100);
    for _ in 0..3 {
        assert_eq!(roller.step(&mut session).await.unwrap(), Step::Worked);
    }
    let count = "SELECT count(*) FILTER (WHERE user_id = 150), count(*) FILTER (WHERE user_id = 1), \
                 count(*) FILTER (WHERE user_id = 100) FROM health_dirty";
    let row = session.client().query_one(count, &[]).await.unwrap();
    let [awaited, first, other]: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!((awaited, other), (0, 100));
    assert!(first < 100, "no step was for the users in their order");
    assert_eq!(roller.awaited_users.first(), None);
}

/// Adds dirty slices of the current epoch.
async fn add_dirty_slices(session: &Session, count: i32) {
    let add = "INSERT INTO health_dirty (user_id, slice, epoch) \
               SELECT 1, timestamptz '2020-01-01T00:00:00Z' + number * interval '15 min', epoch \
               FROM health_sealing, generate_series(1, $1::integer) AS number";
    session.client().execute(add, &[&count]).await.unwrap();
}

/// Runs steps until one finds nothing to do.
async fn work(roller: &mut Roller, session: &mut Session) -> Step {
    loop {
        match roller.step(session).await.unwrap() {
            Step::Worked => {}
            step => return step,
        }
    }
}

/// Makes a roller that ends an epoch whenever there is a dirty slice, and stores minutes of many slices.
fn eager_roller(settle: Duration) -> Roller {
    let mut roller = Roller::new(settle, Arc::default());
    roller.epoch_min = Duration::ZERO;
    roller.dense_samples = DENSE_SAMPLES;
    roller
}

pub(super) async fn summarise_all(session: &mut Session) {
    let mut roller = eager_roller(Duration::ZERO);
    while roller.step(session).await.unwrap() != Step::Idle {}
}

/// Compares the answers about a random range of a random user. Returns the number of samples in it.
async fn compare_some(session: &mut Session, now: DateTime<Utc>) -> i64 {
    let mut cuts: Vec<_> = (0..fastrand::usize(2..6))
        .map(|_| any_time(now, SPREAD).timestamp_micros())
        .collect();
    if fastrand::bool() {
        for cut in &mut cuts {
            *cut = Grain::Hour.floor(*cut);
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    // Sometimes the present lies within the range.
    let now = if fastrand::u8(..8) == 0 {
        any_time(now, SPREAD)
    } else {
        now
    };
    compare(session, any_user(), &cuts, now.timestamp_micros()).await
}

/// Compares the answers about the range from the first to the last cut, and about the buckets between the cuts.
pub(super) async fn compare(session: &mut Session, user: UserId, cuts: &[i64], now: i64) -> i64 {
    let [start, ends @ ..] = cuts else { return 0 };
    let (&start, Some(&end)) = (start, ends.last()) else {
        return 0;
    };
    let whole = StatsQuery {
        user,
        start,
        ends: &[end],
        now,
    };
    let buckets = StatsQuery { user, start, ends, now };

    let mut transaction = ReadTransaction::begin(session, whole).await.unwrap();
    let stats = assemble(transaction.summaries().await.unwrap(), start, &[end], now).remove(0);
    let histogram = transaction.histogram().await.unwrap();
    transaction.set_query(buckets).await.unwrap();
    let series = assemble(transaction.summaries().await.unwrap(), start, ends, now);
    let plain = plain(transaction.session(), whole).await;
    let rates = plain_rates(transaction.session(), whole).await;
    assert_counted_exactly(transaction.session(), user).await;
    let mut plain_buckets = Vec::new();
    let mut from = start;
    for &to in ends {
        let bucket = StatsQuery {
            user,
            start: from,
            ends: &[to],
            now,
        };
        plain_buckets.push(self::plain(transaction.session(), bucket).await);
        from = to;
    }
    drop(transaction);

    assert_same(&stats, &plain);
    let (stats, plain) = (stats.overall, plain.overall);
    assert_eq!(histogram, rates);
    for (bucket, plain) in series.iter().zip(&plain_buckets) {
        // Only the totals may differ: the whole range decides which source counts in a slice.
        let mut plain = plain.clone();
        plain.overall.total_steps = bucket.overall.total_steps;
        plain.overall.total_calories = bucket.overall.total_calories;
        assert_same(bucket, &plain);
    }
    assert_eq!(
        series.iter().map(|bucket| bucket.overall.total_steps).sum::<i64>(),
        plain.total_steps
    );
    assert_near(
        Some(series.iter().map(|bucket| bucket.overall.total_calories).sum()),
        Some(plain.total_calories),
        &stats,
        &plain,
    );
    stats.samples
}

async fn plain(session: &mut Session, query: StatsQuery<'_>) -> RangeStats {
    let end = query.ends[0];
    let weights_end = end.min(query.now);
    let statement = session.prepare(PLAIN).await.unwrap();
    let (user, start) = (query.user.get(), Micros(query.start));
    let rows = session
        .client()
        .query(&statement, &[&user, &start, &Micros(end), &Micros(weights_end)])
        .await
        .unwrap();
    let Some(whole) = rows.first() else {
        return RangeStats::default();
    };
    let sources: Vec<_> = rows
        .iter()
        .map(|row| SourceTotals {
            source: row.get("source"),
            samples: row.get("samples"),
            steps: row.get("steps"),
            calories: row.get("calories"),
        })
        .collect();
    let covered = whole.get::<_, Option<i64>>("covered").unwrap_or(0);
    let overall = Stats {
        samples: sources.iter().map(|source| source.samples).sum(),
        average_heart_rate: whole.get("average"),
        min_heart_rate: whole.get("min"),
        max_heart_rate: whole.get("max"),
        time_weighted_heart_rate: whole.get("weighted"),
        heart_rate_coverage: if covered == 0 {
            0.0
        } else {
            to_f64(covered.into()) / to_f64((weights_end - query.start).into())
        },
        total_steps: whole.get("total_steps"),
        total_calories: whole.get("total_calories"),
    };
    RangeStats { overall, sources }
}

/// Compares the number of samples in the list of users with the table.
async fn assert_counted_exactly(session: &mut Session, user: UserId) {
    let users = users::details(session, &[user.get()]).await.unwrap();
    let count = session
        .prepare("SELECT count(*) FROM health_metrics WHERE user_id = $1")
        .await
        .unwrap();
    let row = session.client().query_one(&count, &[&user.get()]).await.unwrap();
    let listed = users.first().map_or(0, |entry| entry.samples);
    assert_eq!(listed, row.get::<_, i64>(0), "samples of user {user}");
}

async fn plain_rates(session: &mut Session, query: StatsQuery<'_>) -> Histogram {
    let statement = session.prepare(HEART_RATES).await.unwrap();
    let (user, start, end) = (query.user.get(), Micros(query.start), Micros(query.ends[0]));
    let rows = session
        .client()
        .query(&statement, &[&user, &start, &end])
        .await
        .unwrap();
    let mut histogram = Histogram::default();
    for row in &rows {
        histogram.add(row.get(0));
    }
    histogram
}

fn assert_same(stats: &RangeStats, plain: &RangeStats) {
    let (all, all_plain) = (stats, plain);
    let (stats, plain) = (&stats.overall, &plain.overall);
    assert_eq!(stats.samples, plain.samples);
    assert_eq!(stats.min_heart_rate, plain.min_heart_rate, "{stats:?} {plain:?}");
    assert_eq!(stats.max_heart_rate, plain.max_heart_rate, "{stats:?} {plain:?}");
    assert_eq!(stats.total_steps, plain.total_steps, "{stats:?} {plain:?}");
    let near = |one: Option<f64>, other: Option<f64>| assert_near(one, other, stats, plain);
    near(stats.average_heart_rate, plain.average_heart_rate);
    near(stats.time_weighted_heart_rate, plain.time_weighted_heart_rate);
    near(Some(stats.heart_rate_coverage), Some(plain.heart_rate_coverage));
    near(Some(stats.total_calories), Some(plain.total_calories));
    assert_eq!(all.sources.len(), all_plain.sources.len(), "{all:?} {all_plain:?}");
    for (source, plain) in all.sources.iter().zip(&all_plain.sources) {
        assert_eq!(
            (&source.source, source.samples, source.steps),
            (&plain.source, plain.samples, plain.steps)
        );
        near(Some(source.calories), Some(plain.calories));
    }
}

fn assert_near(one: Option<f64>, other: Option<f64>, stats: &Stats, plain: &Stats) {
    let near = match (one, other) {
        (Some(one), Some(other)) => (one - other).abs() <= TOLERANCE * other.abs(),
        (one, other) => one == other,
    };
    assert!(near, "{one:?} is not {other:?}: {stats:?} {plain:?}");
}

/// Makes a sample at a multiple of 20 seconds, so that some identities come again with other values.
fn any_sample(until: DateTime<Utc>, spread: Duration) -> Sample {
    let around = any_time(until, spread);
    sample(any_user(), around.timestamp() / 20 * 20)
}

/// Makes a dense slice in the middle of the range. On a slow machine random samples alone are too few for one.
fn dense_slice(user: UserId, now: DateTime<Utc>) -> Vec<Sample> {
    let start = Grain::Slice.floor((now - SPREAD / 2).timestamp_micros()) / 1_000_000;
    (0..45).map(|n| sample(user, start + n * 20)).collect()
}

/// Makes a sample with random values and source. `second` is its time in seconds since 1970.
fn sample(user: UserId, second: i64) -> Sample {
    let readings = Readings {
        heart_rate: fastrand::u8(..4)
            .gt(&0)
            .then(|| HeartRate::new(f64::from(fastrand::u8(50..180)) + 0.3).unwrap()),
        steps: fastrand::bool().then(|| Steps::new(fastrand::i64(0..30)).unwrap()),
        calories: Some(Calories::new(f64::from(fastrand::u8(..100)) / 7.0).unwrap()),
    };
    let source = Source::new(["", "phone", "watch"][fastrand::usize(..3)]).unwrap();
    let time = DateTime::from_timestamp(second, 0).unwrap();
    Sample::new(user, time, source, readings).unwrap()
}

fn any_time(until: DateTime<Utc>, spread: Duration) -> DateTime<Utc> {
    until - spread.mul_f64(fastrand::f64())
}

/// Makes an erasure of some hours near the threshold, so that it cuts slices, hours and days that are being sealed.
fn any_erasure(near_threshold: DateTime<Utc>) -> Erasure {
    let start = any_time(near_threshold, Duration::from_hours(5));
    let range = TimeRange::new(start, start + TimeDelta::minutes(fastrand::i64(1..300))).unwrap();
    let source = fastrand::bool().then(|| Source::new("watch").unwrap());
    Erasure::of_range(any_user(), range, source)
}

fn any_user() -> UserId {
    UserId::new(fastrand::i64(1..=USERS)).unwrap()
}
