//! How long answers take, against the same from raw rows: `cargo bench -p health-core --bench reads`.
//!
//! One user with a year of samples every 15 seconds, scattered over the table among as many of a thousand others. With
//! `HEALTH_BENCH_EVERY=1` the year has a sample every second (31 million, which take some minutes to make). With
//! `HEALTH_BENCH_URL` a database of your own is used in place of a throw-away one, as it is or, where it is empty, filled.

#![expect(clippy::print_stdout, reason = "it prints a table")]

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Europe::Berlin;
use health_core::{Bucket, Config, Health, TimeRange, UserId, migrate};
use test_support::TestDatabase;
use tokio_postgres::{Client, NoTls};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const USER: i64 = 500;

/// A day, in the order of time: so the heap is, and the user's rows are scattered over all of it. Each of the others wears
/// a watch for a day and a half of the year, so that at any time some do.
const FILL: &str = "INSERT INTO health_metrics (user_id, timestamp, heart_rate, steps, calories, source) \
    SELECT user_id, at, 60 + (extract(epoch FROM at)::bigint / 7) % 97, (extract(epoch FROM at)::bigint / 11) % 20, 0.25, 'watch' \
    FROM (SELECT $1::bigint AS user_id, at FROM generate_series($2::timestamptz, $3::timestamptz - interval '1 ms', $4 * interval '1 s') AS at \
    UNION ALL SELECT first + user_id, at FROM generate_series($2::timestamptz, $3::timestamptz - interval '1 ms', interval '1 min') AS at, \
    LATERAL (SELECT (extract(doy FROM at)::integer - 1) * 1000 / 366) AS day (first), generate_series(1, 4) AS user_id \
    WHERE first + user_id <> $1) AS samples ORDER BY at";

const PLAIN: &str = "SELECT count(*), avg(heart_rate), min(heart_rate), max(heart_rate), sum(steps), sum(calories) \
    FROM health_metrics WHERE user_id = $1 AND timestamp >= $2 AND timestamp < $3";

const PLAIN_BY_DAY: &str = "SELECT date_trunc('day', timestamp, 'Europe/Berlin') AS day, count(*), avg(heart_rate), \
    min(heart_rate), max(heart_rate), sum(steps), sum(calories) \
    FROM health_metrics WHERE user_id = $1 AND timestamp >= $2 AND timestamp < $3 GROUP BY day ORDER BY day";

#[tokio::main]
async fn main() -> Outcome<()> {
    let every: f64 = std::env::var("HEALTH_BENCH_EVERY")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(15.0);
    let database = TestDatabase::empty().await;
    let url = std::env::var("HEALTH_BENCH_URL").unwrap_or_else(|_| database.url().to_owned());
    let config = Config::from_url(&url)?;
    migrate(&config).await?;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);

    // Not aligned to anything, as "the last year" never is.
    let newest = "SELECT max(timestamp) FROM health_metrics WHERE user_id = $1";
    let newest: Option<DateTime<Utc>> = client.query_one(newest, &[&USER]).await?.get(0);
    let end = newest.unwrap_or_else(|| Utc::now() - TimeDelta::hours(2));
    if newest.is_none() {
        let began = Instant::now();
        fill(&client, end - TimeDelta::days(365), end, every).await?;
        println!("samples made       {:>10.1} s", began.elapsed().as_secs_f64());
    }
    let began = Instant::now();
    let health = Health::open(config).await?;
    while health.counts().summary_lag_seconds == 0 || health.counts().summary_lag_seconds > 3_600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("sealed             {:>10.1} s", began.elapsed().as_secs_f64());
    for table in ["health_metrics", "health_rollups"] {
        client.batch_execute(&format!("VACUUM ANALYZE {table}")).await?;
    }

    let user = UserId::new(USER)?;
    let last = |length: TimeDelta| TimeRange::new(end - length, end);
    let (hour, day, year) = (
        last(TimeDelta::hours(1))?,
        last(TimeDelta::days(1))?,
        last(TimeDelta::days(365))?,
    );
    let week = last(TimeDelta::days(7))?;
    let nothing = median("SELECT 1", 500, || health.ready()).await?;
    let of_hour = median("an hour", 500, || health.stats(user, hour)).await?;
    let of_day = median("a day", 500, || health.stats(user, day)).await?;
    let of_year = median("a year", 200, || health.stats(user, year)).await?;
    let percentiles = median("percentiles, year", 200, || {
        health.percentiles(user, year, &[50.0, 95.0, 99.0])
    })
    .await?;
    let series = median("local days, year", 100, || {
        health.series(user, year, Bucket::Day, Berlin)
    })
    .await?;
    median("local hours, year", 20, || {
        health.series(user, year, Bucket::Hour, Berlin)
    })
    .await?;
    median("minutes, a week", 20, || {
        health.series(user, week, Bucket::Minute, Berlin)
    })
    .await?;
    median("100 users", 50, || health.users(100, None)).await?;
    let plain = median("SQL, raw, year", 5, || plain(&client, PLAIN, year)).await?;
    let plain_by_day = median("SQL, raw, by day", 5, || self::plain(&client, PLAIN_BY_DAY, year)).await?;

    println!();
    ratio("a year / an hour", of_year / of_hour, 3.0);
    ratio("a year / SQL over raw rows", of_year / plain, 0.01);
    ratio("an hour - SELECT 1, ms", (of_hour - nothing) * 1e3, 1.0);
    ratio("a day - SELECT 1, ms", (of_day - nothing) * 1e3, 1.0);
    ratio("local days / SQL over raw rows", series / plain_by_day, 0.05);
    ratio("percentiles / a year", percentiles / of_year, 2.0);
    health.close().await?;
    Ok(())
}

async fn fill(client: &Client, start: DateTime<Utc>, end: DateTime<Utc>, every: f64) -> Outcome<()> {
    client.batch_execute("SET synchronous_commit = off").await?;
    let statement = client.prepare(FILL).await?;
    let mut from = start;
    while from < end {
        let to = end.min(from + TimeDelta::days(1));
        client.execute(&statement, &[&USER, &from, &to, &every]).await?;
        from = to;
    }
    Ok(())
}

async fn plain(client: &Client, sql: &str, range: TimeRange) -> Result<(), tokio_postgres::Error> {
    client.query(sql, &[&USER, &range.start(), &range.end()]).await?;
    Ok(())
}

/// Seconds.
async fn median<T, E, F>(what: &str, rounds: u32, mut call: impl FnMut() -> F) -> Result<f64, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut times = Vec::new();
    // The first few prepare statements and fill caches.
    for round in 0..rounds + 3 {
        let began = Instant::now();
        call().await?;
        if round >= 3 {
            times.push(began.elapsed());
        }
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64();
    println!("{what:<18} {:>10.3} ms  p95 {:>10.3} ms", at(50) * 1e3, at(95) * 1e3);
    Ok(at(50))
}

fn ratio(what: &str, ratio: f64, at_most: f64) {
    let verdict = if ratio <= at_most { "" } else { "   MISSED" };
    println!("{what:<32} {ratio:>8.4}   at most {at_most}{verdict}");
}
