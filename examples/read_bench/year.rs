//! The year that is asked about, and what PostgreSQL says of it without summaries.

use chrono::{DateTime, TimeDelta, Utc};
use indicatif::ProgressBar;
use tokio_postgres::Client;

use crate::Outcome;

pub(crate) const USER: i64 = 500;

/// Unit of the spacing: seconds. A day, in the order of time: so the heap is, and the user's rows are scattered over all of
/// it. Each of the others wears a watch for a day and a half of the year, so that at any time some do.
const FILL: &str = "INSERT INTO health_metrics (user_id, timestamp, heart_rate, steps, calories, source) \
    SELECT user_id, at, 60 + (extract(epoch FROM at)::bigint / 7) % 97, (extract(epoch FROM at)::bigint / 11) % 20, 0.25, 'watch' \
    FROM (SELECT $1::bigint AS user_id, at FROM generate_series($2::timestamptz, $3::timestamptz - interval '1 ms', $4 * interval '1 s') AS at \
    UNION ALL SELECT first + user_id, at FROM generate_series($2::timestamptz, $3::timestamptz - interval '1 ms', interval '1 min') AS at, \
    LATERAL (SELECT (extract(doy FROM at)::integer - 1) * 1000 / 366) AS day (first), generate_series(1, 4) AS user_id \
    WHERE first + user_id <> $1) AS samples ORDER BY at";

pub(crate) const PLAIN: &str = "SELECT count(*), avg(heart_rate), min(heart_rate), max(heart_rate), sum(steps), sum(calories) \
    FROM health_metrics WHERE user_id = $1 AND timestamp >= $2 AND timestamp < $3";

pub(crate) const PLAIN_BY_DAY: &str = "SELECT date_trunc('day', timestamp, 'Europe/Berlin') AS day, count(*), avg(heart_rate), \
    min(heart_rate), max(heart_rate), sum(steps), sum(calories) \
    FROM health_metrics WHERE user_id = $1 AND timestamp >= $2 AND timestamp < $3 GROUP BY day ORDER BY day";

const NEWEST: &str = "SELECT max(timestamp) FROM health_metrics WHERE user_id = $1";

const UNSEALED: &str = "SELECT EXISTS (SELECT FROM health_dirty) OR EXISTS (SELECT FROM health_sealing \
    WHERE sealed_before < threshold OR threshold < now() - interval '1 hour')";

/// Where the user's year ends, which is made where there is none.
pub(crate) async fn find_or_make(client: &Client, every: f64, bar: &ProgressBar) -> Outcome<DateTime<Utc>> {
    let newest: Option<DateTime<Utc>> = client.query_one(NEWEST, &[&USER]).await?.get(0);
    if let Some(newest) = newest {
        return Ok(newest);
    }
    // Not aligned to anything, as "the last year" never is.
    let end = Utc::now() - TimeDelta::hours(2);
    client.batch_execute("SET synchronous_commit = off").await?;
    let statement = client.prepare(FILL).await?;
    let mut from = end - TimeDelta::days(365);
    while from < end {
        bar.set_message(format!("a year of samples: {}", from.date_naive()));
        let to = end.min(from + TimeDelta::days(1));
        client.execute(&statement, &[&USER, &from, &to, &every]).await?;
        from = to;
    }
    Ok(end)
}

/// Waits until the server has summarised everything.
pub(crate) async fn sealed(client: &Client) -> Outcome<()> {
    while client.query_one(UNSEALED, &[]).await?.get(0) {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    for table in ["health_metrics", "health_rollups"] {
        client.batch_execute(&format!("VACUUM ANALYZE {table}")).await?;
    }
    Ok(())
}
