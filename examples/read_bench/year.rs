//! The year of samples that the benchmark reads, and the same statistics by plain SQL.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use examples::{Result, bench::Progress};
use tokio_postgres::Client;

/// The user whose year is read.
pub(crate) const USER: i64 = 500;

/// Stores one day of samples in the order of time, so that the user's rows are scattered over the heap.
///
/// `$1` is the user, `$2` and `$3` the range of the day, `$4` the seconds between two samples. At any time four of the
/// other thousand users wear a watch, each of them for a day and a half of the year.
const STORE_DAY: &str = "INSERT INTO health_metrics (user_id, timestamp, heart_rate, steps, calories, source) \
    SELECT user_id, at, 60 + (extract(epoch FROM at)::bigint / 7) % 97, (extract(epoch FROM at)::bigint / 11) % 20, 0.25, 'watch' \
    FROM (SELECT $1::bigint AS user_id, at FROM generate_series($2::timestamptz, $3::timestamptz - interval '1 ms', $4 * interval '1 s') AS at \
    UNION ALL SELECT first + user_id, at FROM generate_series($2::timestamptz, $3::timestamptz - interval '1 ms', interval '1 min') AS at, \
    LATERAL (SELECT (extract(doy FROM at)::integer - 1) * 1000 / 366) AS day (first), generate_series(1, 4) AS user_id \
    WHERE first + user_id <> $1) AS samples ORDER BY at";

/// The statistics of a range from the raw samples: a plain aggregate, which reads every row.
pub(crate) const RAW_STATS: &str = "SELECT count(*), avg(heart_rate), min(heart_rate), max(heart_rate), sum(steps), sum(calories) \
    FROM health_metrics WHERE user_id = $1 AND timestamp >= $2 AND timestamp < $3";

/// The same for each local day, which also sorts or hashes every row.
pub(crate) const RAW_STATS_BY_DAY: &str = "SELECT date_trunc('day', timestamp, 'Europe/Berlin') AS day, count(*), avg(heart_rate), \
    min(heart_rate), max(heart_rate), sum(steps), sum(calories) \
    FROM health_metrics WHERE user_id = $1 AND timestamp >= $2 AND timestamp < $3 GROUP BY day ORDER BY day";

/// The newest sample of the user, from the primary key.
const NEWEST: &str = "SELECT max(timestamp) FROM health_metrics WHERE user_id = $1";

/// True as long as there are dirty slices or slices that wait to be sealed.
const UNSEALED: &str = "SELECT EXISTS (SELECT FROM health_dirty) OR EXISTS (SELECT FROM health_sealing \
    WHERE sealed_before < threshold OR threshold < now() - interval '1 hour')";

/// Returns the end of the user's year. Stores the year if the user has no samples.
pub(crate) async fn find_or_create(sql: &Client, every_seconds: f64, progress: &Progress) -> Result<DateTime<Utc>> {
    let newest: Option<DateTime<Utc>> = sql.query_one(NEWEST, &[&USER]).await?.get(0);
    if let Some(newest) = newest {
        return Ok(newest);
    }
    // Aligned to nothing, as "the last year" of a dashboard.
    let year_end = Utc::now() - TimeDelta::hours(2);
    sql.batch_execute("SET synchronous_commit = off").await?;
    let statement = sql.prepare(STORE_DAY).await?;
    let mut start = year_end - TimeDelta::days(365);
    while start < year_end {
        progress.show(format!("storing a year of samples: {}", start.date_naive()));
        let end = year_end.min(start + TimeDelta::days(1));
        sql.execute(&statement, &[&USER, &start, &end, &every_seconds]).await?;
        start = end;
    }
    Ok(year_end)
}

/// Waits until the server has summarised everything, then vacuums the tables.
pub(crate) async fn summarise_and_vacuum(sql: &Client) -> Result<()> {
    while sql.query_one(UNSEALED, &[]).await?.get(0) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for table in ["health_metrics", "health_rollups"] {
        sql.batch_execute(&format!("VACUUM ANALYZE {table}")).await?;
    }
    Ok(())
}
