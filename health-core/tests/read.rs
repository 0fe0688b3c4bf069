//! Tests of the queries of `Health` against a real PostgreSQL.
//!
//! They cover statistics, series, percentiles, users, export and erasing.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::{Asia, Europe, Tz};
use health_core::{
    Bucket, Calories, Config, Error, Health, HeartRate, Limits, RangeStats, Readings, Sample, Source, Steps, TimeRange,
    UserId, parse_timestamp,
};
use test_support::{TestDatabase, patient_limits};
use tokio::time::timeout;

/// Much longer than a transaction takes.
const TIMEOUT: Duration = Duration::from_secs(90);

type Outcome = Result<(), Box<dyn std::error::Error>>;

async fn open(database: &TestDatabase) -> Result<Health, Error> {
    Health::open(Config::from_url(database.url())?.limits(patient_limits())).await
}

/// Creates two databases. In the second, Health uses its statements for distributed tables.
async fn both_kinds_of_tables() -> [TestDatabase; 2] {
    [
        TestDatabase::undistributed().await,
        TestDatabase::distributed_if(true).await,
    ]
}

fn sample(user: i64, at: DateTime<Utc>, source: &str, heart_rate: f64, steps: i64, kcal: f64) -> Option<Sample> {
    let readings = Readings {
        heart_rate: HeartRate::new(heart_rate).ok(),
        steps: Steps::new(steps).ok(),
        calories: Calories::new(kcal).ok(),
    };
    Sample::new(UserId::new(user).ok()?, at, Source::new(source).ok()?, readings).ok()
}

/// Converts a small integer.
fn whole(number: i64) -> f64 {
    i32::try_from(number).map_or(f64::NAN, f64::from)
}

/// Ten days of a watch that measures every ten minutes and a phone that measures every seven.
///
/// In Europe clocks go forward within these days.
fn ten_days(user: i64) -> Result<(Vec<Sample>, TimeRange), Box<dyn std::error::Error>> {
    let start = parse_timestamp("2025-03-25T22:13:20Z")?;
    let end = start + TimeDelta::days(10);
    let every = |minutes: i32| {
        (0..)
            .map(move |n| start + TimeDelta::minutes(minutes.into()) * n)
            .take_while(move |at| *at < end)
    };
    let rate = |at: DateTime<Utc>| 60.0 + whole(at.timestamp() / 60 % 97);
    let watch = every(10).filter_map(|at| sample(user, at, "watch", rate(at), at.timestamp() / 600 % 90, 1.5));
    let phone = every(7).filter_map(|at| sample(user, at, "phone", -1.0, at.timestamp() / 420 % 110, 0.25));
    Ok((watch.chain(phone).collect(), TimeRange::new(start, end)?))
}

async fn export(health: &Health, user: UserId, range: TimeRange) -> Result<Vec<Sample>, Error> {
    let mut samples = health.samples(user, range);
    let mut all = Vec::new();
    loop {
        let page = samples.next_page().await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

#[tokio::test]
async fn buckets_add_up_to_the_statistics_of_the_range_in_any_zone() -> Outcome {
    let database = TestDatabase::new().await;
    let health = open(&database).await?;
    let user = UserId::new(7)?;
    let (samples, range) = ten_days(7)?;
    health.ingest(samples).await?;
    let whole = health.stats(user, range).await?.overall;
    assert_eq!(whole.samples, 1_440 + 2_058);
    for zone in [Tz::UTC, Europe::Berlin, Asia::Kathmandu] {
        for bucket in [
            Bucket::FiveMinutes,
            Bucket::QuarterHour,
            Bucket::Hour,
            Bucket::Day,
            Bucket::Week,
        ] {
            let buckets = health.series(user, range, bucket, zone).await?;
            let sum = |of: fn(&health_core::SeriesBucket) -> i64| buckets.iter().map(of).sum::<i64>();
            assert_eq!(sum(|bucket| bucket.stats.samples), whole.samples, "{bucket} {zone}");
            assert_eq!(
                sum(|bucket| bucket.stats.total_steps),
                whole.total_steps,
                "{bucket} {zone}"
            );
            let calories: f64 = buckets.iter().map(|bucket| bucket.stats.total_calories).sum();
            assert!((calories - whole.total_calories).abs() < 1e-9, "{bucket} {zone}");
            assert_eq!(
                (buckets[0].start, buckets[buckets.len() - 1].end),
                (range.start(), range.end())
            );
        }
    }
    assert_eq!(health.series(user, range, Bucket::Day, Europe::Berlin).await?.len(), 12);
    let minutes = health.series(user, range, Bucket::Minute, Tz::UTC).await;
    assert!(
        matches!(&minutes, Err(Error::TooManyBuckets(error)) if error.count == 14_401),
        "{minutes:?}"
    );
    health.close().await?;
    Ok(())
}

#[tokio::test]
async fn exported_samples_can_be_ingested_again_and_give_the_same_statistics() -> Outcome {
    for database in both_kinds_of_tables().await {
        export_erase_and_ingest_again(&database).await?;
    }
    Ok(())
}

async fn export_erase_and_ingest_again(database: &TestDatabase) -> Outcome {
    let health = open(database).await?;
    let user = UserId::new(7)?;
    let (samples, range) = ten_days(7)?;
    health.ingest(samples.iter().rev().cloned()).await?;
    let exported = export(&health, user, range).await?;
    let mut expected = samples;
    expected.sort_by(|one, other| one.identity().cmp(other.identity()));
    assert_eq!(exported, expected);
    let before = health.stats(user, range).await?;
    assert_eq!(health.ingest(exported.clone()).await?.unchanged, 3_498);
    assert_eq!(health.stats(user, range).await?, before);

    assert_eq!(health.erase(user).await?, 3_498);
    assert_eq!(health.erase(user).await?, 0);
    assert_eq!(health.stats(user, range).await?, RangeStats::default());
    assert_eq!(export(&health, user, range).await?, []);
    // After erasing, the same samples count as new.
    assert_eq!(health.ingest(exported).await?.inserted, 3_498);
    assert_eq!(health.stats(user, range).await?, before);
    health.close().await?;
    Ok(())
}

#[tokio::test]
async fn export_pages_neither_lose_nor_repeat_samples() -> Outcome {
    let database = TestDatabase::new().await;
    let health = open(&database).await?;
    let start = parse_timestamp("2025-06-01T00:00:00Z")?;
    // Three devices have samples of the same times, so that some pages end between samples of one time.
    let names = ["", "a", "a "];
    let samples = (0..9_000).filter_map(|n| {
        sample(
            1,
            start + TimeDelta::seconds(n / 3),
            names[usize::try_from(n % 3).unwrap_or(0)],
            70.0,
            1,
            0.0,
        )
    });
    let samples: Vec<_> = samples.collect();
    health.ingest(samples.iter().cloned()).await?;
    let range = TimeRange::new(start, start + TimeDelta::hours(1))?;
    assert_eq!(export(&health, UserId::new(1)?, range).await?, samples);
    health.close().await?;
    Ok(())
}

#[tokio::test]
async fn users_are_listed_by_id_in_pages() -> Outcome {
    for database in both_kinds_of_tables().await {
        list_users_in_pages(&database).await?;
    }
    Ok(())
}

async fn list_users_in_pages(database: &TestDatabase) -> Outcome {
    let health = open(database).await?;
    let at = parse_timestamp("2025-06-01T00:00:00Z")?;
    let now = Utc::now();
    for user in [3, 5, 9, i64::MAX] {
        let old = (0..40).filter_map(|n| sample(user, at + TimeDelta::minutes(n * (user % 10)), "a", 70.0, 1, 0.0));
        let samples: Vec<_> = old.chain(sample(user, now, "b", 80.0, 2, 1.0)).collect();
        health.ingest(samples).await?;
    }
    let counts = |page: &health_core::UsersResponse| {
        page.users
            .iter()
            .map(|user| (user.user_id.get(), user.samples))
            .collect::<Vec<_>>()
    };
    let first = health.users(2, None).await?;
    assert_eq!(counts(&first), [(3, 41), (5, 41)]);
    assert_eq!(first.next, Some(UserId::new(5)?));
    assert_eq!(first.users[0].first, at);
    assert_eq!(first.users[0].last.source().as_str(), "b");
    let second = health.users(2, first.next).await?;
    assert_eq!(second.users.len(), 2);
    assert_eq!(second.next, None);
    assert!(health.users(2, Some(UserId::new(i64::MAX)?)).await?.users.is_empty());

    let among = [UserId::new(9)?, UserId::new(4)?, UserId::new(3)?];
    assert_eq!(counts(&health.users_among(&among, 10, None).await?), [(3, 41), (9, 41)]);
    assert_eq!(counts(&health.users_among(&among, 1, None).await?), [(3, 41)]);
    assert_eq!(
        counts(&health.users_among(&among, 1, Some(UserId::new(3)?)).await?),
        [(9, 41)]
    );
    health.close().await?;
    Ok(())
}

#[tokio::test]
async fn percentiles_are_those_of_the_nearest_rank() -> Outcome {
    let database = TestDatabase::new().await;
    let health = open(&database).await?;
    let start = parse_timestamp("2025-06-01T00:00:00Z")?;
    let (user, range) = (UserId::new(1)?, TimeRange::new(start, start + TimeDelta::hours(24))?);
    assert_eq!(health.percentiles(user, range, &[50.0]).await?.values, [None]);
    let samples: Vec<_> = (0..100)
        .filter_map(|n| sample(1, start + TimeDelta::minutes(n * 13), "", whole(50 + n), 0, 0.0))
        .collect();
    health.ingest(samples).await?;
    let percentiles = health.percentiles(user, range, &[0.0, 50.0, 95.0, 99.0, 100.0]).await?;
    assert_eq!(percentiles.readings, 100);
    assert_eq!(percentiles.values, [50.0, 99.0, 144.0, 148.0, 149.0].map(Some));
    health.close().await?;
    Ok(())
}

/// Hyper drops the future of a request when its client disconnects, which may be at any await point.
#[tokio::test]
async fn a_dropped_query_leaves_no_transaction_open() -> Outcome {
    let database = TestDatabase::new().await;
    let limits = Limits {
        readers: 1,
        ..patient_limits()
    };
    let health = Health::open(Config::from_url(database.url())?.limits(limits)).await?;
    let (samples, range) = ten_days(7)?;
    health.ingest(samples).await?;
    let user = UserId::new(7)?;
    let whole = health.stats(user, range).await?;
    for polls in 0..40 {
        let mut query = Box::pin(health.stats(user, range));
        for _ in 0..polls {
            if futures_util::poll!(&mut query).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(query);
        assert_eq!(health.stats(user, range).await?, whole, "after {polls} polls");
    }
    let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    // A session of another task may be within its transaction, and one that was given up may not have ended yet. None
    // stays.
    let open = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    let none_is_open = async {
        while client.query_one(open, &[]).await?.get::<_, i64>(0) > 0 {}
        Ok::<_, tokio_postgres::Error>(())
    };
    timeout(TIMEOUT, none_is_open)
        .await
        .map_err(|_| "a transaction stays open")??;
    health.close().await?;
    Ok(())
}
