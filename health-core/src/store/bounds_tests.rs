//! Samples at both ends of every legal range: stored, summarised, asked for and erased like any other.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use test_support::TestDatabase;

use crate::{
    config::{Config, Limits},
    health::Health,
    range::TimeRange,
    sample::{Calories, HeartRate, Readings, Sample, Source, Steps, UserId},
    store::{
        connection::Session,
        sealing_tests::{compare, summarise_all},
    },
    time::parse_timestamp,
};

const USERS: [i64; 4] = [1, 2, i64::MAX - 1, i64::MAX];

/// The first valid time; ends of slices, hours, days and years; changes of the clock in Berlin. One microsecond on both
/// sides of each, if it is valid.
const TIMES: [&str; 6] = [
    "2000-01-01T00:00:00Z",
    "2000-01-01T00:15:00Z",
    "2024-03-31T01:00:00Z",
    "2024-10-27T01:00:00Z",
    "2024-12-31T23:45:00Z",
    "2025-01-01T00:00:00Z",
];

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

/// Names of no byte and of 64 bytes, with characters of one to four bytes.
fn sources() -> Vec<Source> {
    let names = [
        String::new(),
        "a".repeat(64),
        "\u{e9}".repeat(32),
        "\u{20ac}".repeat(21) + "z",
        "\u{10ffff}".repeat(16),
        "\\N,\"'{}%\u{7f}\u{80}"
            .chars()
            .filter(|char| !char.is_control())
            .collect(),
    ];
    names.iter().map(|name| Source::new(name).unwrap()).collect()
}

/// Values at both ends of their ranges, one of each pair or both.
fn readings(index: usize) -> Readings {
    let end = |low: f64, high: f64| if index.is_multiple_of(2) { low } else { high };
    let steps = if index.is_multiple_of(2) { 0 } else { 100_000 };
    Readings {
        heart_rate: (!index.is_multiple_of(5)).then(|| HeartRate::new(end(20.0, 250.0)).unwrap()),
        steps: (!index.is_multiple_of(3)).then(|| Steps::new(steps).unwrap()),
        calories: Some(Calories::new(end(0.0, 10_000.0)).unwrap()),
    }
}

fn times(now: DateTime<Utc>, max_future: TimeDelta) -> Vec<DateTime<Utc>> {
    let edges = TIMES.iter().map(|text| parse_timestamp(text).unwrap());
    let mut times: Vec<_> = edges
        .chain([now + max_future])
        .flat_map(|time| [-1, 0, 1].map(|step| time + TimeDelta::microseconds(step)))
        .filter(|time| *time >= Sample::EARLIEST && *time <= now + max_future)
        .collect();
    times.sort_unstable();
    times
}

fn samples(user: UserId, times: &[DateTime<Utc>]) -> Vec<Sample> {
    let mut samples = Vec::new();
    for time in times {
        for source in sources() {
            let readings = readings(samples.len());
            samples.push(Sample::new(user, *time, source, readings).unwrap());
        }
    }
    samples
}

#[tokio::test]
async fn samples_at_the_ends_of_every_range_are_like_any_other_before_and_after_sealing_and_erasing() {
    let database = TestDatabase::new().await;
    // The roller of the handle finds nothing old enough; this test summarises.
    let limits = Limits {
        settle: Duration::from_hours(24 * 365 * 90),
        ..Limits::patient()
    };
    let max_future = limits.max_future;
    let config = Config::from_url(database.url()).unwrap().limits(limits);
    let health = Health::open(config.clone()).await.unwrap();
    let mut session = Session::writer(&config).await.unwrap();
    let now = Utc::now();
    let times = times(now, max_future);
    let per_user = times.len() * sources().len();
    for id in USERS {
        let receipt = health.ingest(samples(user(id), &times)).await.unwrap();
        assert_eq!(receipt.inserted, per_user as u64);
        let again = health.ingest(samples(user(id), &times)).await.unwrap();
        assert_eq!(again.unchanged, per_user as u64);
    }
    let mut users: Vec<i64> = USERS.to_vec();
    check(&health, &mut session, &users, &times, now).await;
    summarise_all(&mut session).await;
    check(&health, &mut session, &users, &times, now).await;
    while let Some(id) = users.pop() {
        assert_eq!(health.erase(user(id)).await.unwrap(), per_user as u64);
        assert_eq!(health.erase(user(id)).await.unwrap(), 0);
        check(&health, &mut session, &users, &times, now).await;
        summarise_all(&mut session).await;
        check(&health, &mut session, &users, &times, now).await;
    }
    for table in ["health_metrics", "health_rollups", "health_dirty"] {
        let count = format!("SELECT count(*) FROM {table}");
        let rows: i64 = session.client().query_one(&count, &[]).await.unwrap().get(0);
        assert_eq!(rows, 0, "{table}");
    }
    health.close().await.unwrap();
}

/// Compares what the handle says of the users with what they have stored.
async fn check(health: &Health, session: &mut Session, users: &[i64], times: &[DateTime<Utc>], now: DateTime<Utc>) {
    let everything = TimeRange::new(DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC).unwrap();
    let per_user = times.len() * sources().len();
    for id in USERS {
        let (id, expected) = (user(id), if users.contains(&id) { per_user } else { 0 });
        let stats = health.stats(id, everything).await.unwrap();
        assert_eq!(stats.overall.samples, i64::try_from(expected).unwrap());
        let percentiles = health.percentiles(id, everything, &[0.0, 100.0]).await.unwrap();
        let ends = (expected > 0).then_some([20.0, 250.0]);
        assert_eq!(percentiles.values, [ends.map(|ends| ends[0]), ends.map(|ends| ends[1])]);
        let mut exported = Vec::new();
        let mut pages = health.samples(id, everything);
        loop {
            let page = pages.next_page().await.unwrap();
            if page.is_empty() {
                break;
            }
            exported.extend(page);
        }
        assert_eq!(exported.len(), expected);
        // Cuts at each time: each sample is in exactly one bucket, the one that begins at its time.
        let mut cuts = vec![everything.start().timestamp_micros()];
        cuts.extend(times.iter().map(DateTime::timestamp_micros));
        cuts.push(everything.end().timestamp_micros());
        cuts.dedup();
        compare(session, id, &cuts, now.timestamp_micros()).await;
    }
    for limit in 1..=users.len() + 1 {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = health.users(limit, after).await.unwrap();
            assert!(
                page.users
                    .iter()
                    .all(|user| user.samples == i64::try_from(per_user).unwrap())
            );
            found.extend(page.users.iter().map(|user| user.user_id.get()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, users, "pages of {limit}");
    }
    let after_the_greatest = health.users(1, Some(user(i64::MAX))).await.unwrap();
    assert!(after_the_greatest.users.is_empty() && after_the_greatest.next.is_none());
}
