//! Statistics, by SQL over the raw samples.

use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use crate::{
    error::Error,
    range::TimeRange,
    sample::UserId,
    stats::{SourceTotals, Stats},
    store::connection::{Readers, checkout, classify},
};

/// One row a source, each with the numbers of the whole beside its own. `$4` is where weights end: now, or the end of the
/// range. Times are compared in whole microseconds, so that sources that cover equally much are told so.
const STATS: &str = "
WITH samples AS (
    SELECT source, timestamp, heart_rate, steps, calories FROM health_metrics
    WHERE user_id = $1 AND timestamp >= $2 AND timestamp < $3
), held AS (
    SELECT source, heart_rate, greatest(0, extract(epoch FROM
        least(lead(timestamp) OVER (PARTITION BY source ORDER BY timestamp), timestamp + interval '300 s', $4) - timestamp)) * 1000000 AS micros
    FROM samples WHERE heart_rate IS NOT NULL
), best AS (
    SELECT sum(heart_rate * micros::float8) / nullif(sum(micros::float8), 0) AS weighted, sum(micros)::bigint AS covered
    FROM held GROUP BY source ORDER BY sum(micros) DESC, source LIMIT 1
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
    whole.average, whole.min, whole.max, best.weighted, best.covered, totals.steps AS total_steps, totals.calories AS total_calories
FROM samples s CROSS JOIN whole CROSS JOIN totals LEFT JOIN best ON true
GROUP BY s.source, whole.average, whole.min, whole.max, best.weighted, best.covered, totals.steps, totals.calories
ORDER BY s.source";

/// The statistics of a range, with weights that end at `now`.
pub(crate) async fn stats(
    readers: &Readers,
    user: UserId,
    range: TimeRange,
    now: DateTime<Utc>,
) -> Result<Stats, Error> {
    let mut session = checkout(readers).await?;
    let statement = session.prepare(STATS).await.map_err(classify)?;
    let weights_end = range.end().min(now);
    let rows = session
        .client()
        .query(&statement, &[&user.get(), &range.start(), &range.end(), &weights_end])
        .await
        .map_err(classify)?;
    Ok(rows.first().map_or_else(Stats::default, |whole| {
        let sources: Vec<_> = rows.iter().map(source_totals).collect();
        let covered = chrono::TimeDelta::microseconds(whole.get::<_, Option<i64>>("covered").unwrap_or(0));
        let length = weights_end - range.start();
        Stats {
            samples: sources.iter().map(|source| source.samples).sum(),
            average_heart_rate: whole.get("average"),
            min_heart_rate: whole.get("min"),
            max_heart_rate: whole.get("max"),
            time_weighted_heart_rate: whole.get("weighted"),
            heart_rate_coverage: if covered.is_zero() {
                0.0
            } else {
                covered.as_seconds_f64() / length.as_seconds_f64()
            },
            total_steps: whole.get("total_steps"),
            total_calories: whole.get("total_calories"),
            sources,
        }
    }))
}

fn source_totals(row: &Row) -> SourceTotals {
    SourceTotals {
        source: row.get("source"),
        samples: row.get("samples"),
        steps: row.get("steps"),
        calories: row.get("calories"),
    }
}
