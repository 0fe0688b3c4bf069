//! Samples, each as it was after some commit.

use health_core::{Calories, HeartRate, Sample, Steps, format_timestamp};
use tokio_postgres::Client;

/// What tells a sample from others: user, time, source.
pub(crate) type Key = (i64, String, String);

/// What a sample said after some commit. Floats as text, so that they compare.
pub(crate) type Version = (Option<String>, Option<i32>, Option<String>);

/// Everything that is ever committed, told by the database itself.
pub(crate) const AUDIT: &str = "CREATE TABLE audit AS SELECT * FROM health_metrics WITH NO DATA; \
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN \
    INSERT INTO audit SELECT NEW.*; RETURN NEW; END'; \
    CREATE TRIGGER audit AFTER INSERT OR UPDATE ON health_metrics FOR EACH ROW EXECUTE FUNCTION audit()";

/// What a table holds.
pub(crate) async fn versions(client: &Client, table: &str) -> Vec<(Key, Version)> {
    let query = format!(
        "SELECT user_id, to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), source, \
         heart_rate, steps, calories FROM {table}"
    );
    let rows = client.query(&query, &[]).await.unwrap();
    let version = |row: &tokio_postgres::Row| {
        let text = |place| row.get::<_, Option<f64>>(place).map(|value| value.to_string());
        ((row.get(0), row.get(1), row.get(2)), (text(3), row.get(4), text(5)))
    };
    rows.iter().map(version).collect()
}

/// A sample of the feed in the same terms.
pub(crate) fn version(sample: &Sample) -> (Key, Version) {
    let key = (
        sample.user_id().get(),
        format_timestamp(sample.timestamp()),
        sample.source().to_string(),
    );
    let heart_rate = sample.heart_rate().map(HeartRate::get).map(|rate| rate.to_string());
    let calories = sample.calories().map(Calories::get).map(|kcal| kcal.to_string());
    (key, (heart_rate, sample.steps().map(Steps::get), calories))
}
