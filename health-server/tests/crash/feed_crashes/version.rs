//! Versions of samples: what a sample was after one of its commits.

use health_core::{Calories, HeartRate, Sample, Steps, format_timestamp};
use tokio_postgres::Client;

/// The identity of a sample: user, timestamp, source.
pub(crate) type Identity = (i64, String, String);

/// The values of a sample after a commit: heart rate, steps, calories. Fractions are text, so that versions can be
/// ordered.
pub(crate) type Version = (Option<String>, Option<i32>, Option<String>);

/// Makes PostgreSQL itself log every version that is ever committed, in the table `audit`.
pub(crate) const AUDIT: &str = "CREATE TABLE audit AS SELECT * FROM health_metrics WITH NO DATA; \
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN \
    INSERT INTO audit SELECT NEW.*; RETURN NEW; END'; \
    CREATE TRIGGER audit AFTER INSERT OR UPDATE ON health_metrics FOR EACH ROW EXECUTE FUNCTION audit()";

/// Returns the versions that a table holds.
pub(crate) async fn versions(client: &Client, table: &str) -> Vec<(Identity, Version)> {
    let query = format!(
        "SELECT user_id, to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), source, \
         heart_rate, steps, calories FROM {table}"
    );
    let rows = client.query(&query, &[]).await.unwrap();
    let version = |row: &tokio_postgres::Row| {
        let text = |column| row.get::<_, Option<f64>>(column).map(|value| value.to_string());
        ((row.get(0), row.get(1), row.get(2)), (text(3), row.get(4), text(5)))
    };
    rows.iter().map(version).collect()
}

/// Returns the version that a sample of the feed shows.
pub(crate) fn version(sample: &Sample) -> (Identity, Version) {
    let identity = (
        sample.user_id().get(),
        format_timestamp(sample.timestamp()),
        sample.source().to_string(),
    );
    let heart_rate = sample.heart_rate().map(HeartRate::get).map(|rate| rate.to_string());
    let calories = sample.calories().map(Calories::get).map(|kcal| kcal.to_string());
    (identity, (heart_rate, sample.steps().map(Steps::get), calories))
}
