//! The plans that PostgreSQL chooses: for statements that read long ranges, before it has statistics, and for small
//! batches.

use test_support::TestDatabase;

use crate::{
    config::Config,
    health::Health,
    store::{
        connection::Session,
        read,
        readers::{checkout, readers},
        summarise, write,
    },
};

/// Stores 20 000 samples of ten users. No `ANALYZE` runs: a bulk load is read before autovacuum looks at it, for sure.
const FILL: &str = "ALTER TABLE health_metrics SET (autovacuum_enabled = off); \
     ALTER TABLE health_dirty SET (autovacuum_enabled = off); \
     INSERT INTO health_metrics (user_id, timestamp, steps) \
     SELECT n % 10, timestamptz '2025-01-01T00:00:00Z' + n * interval '1 min', 1 FROM generate_series(1, 20000) AS n; \
     INSERT INTO health_dirty (user_id, slice, epoch) \
     SELECT n % 10, timestamptz '2025-01-01T00:00:00Z' + n * interval '15 min', 1 FROM generate_series(1, 20000) AS n";

/// Returns the plan of a statement with some parameters.
async fn plan(session: &Session, statement: &str, params: &str) -> String {
    let client = session.client();
    client.batch_execute("DEALLOCATE ALL").await.unwrap();
    client
        .batch_execute(&format!("PREPARE explained AS {statement}"))
        .await
        .unwrap();
    let rows = client
        .query(&format!("EXPLAIN (COSTS OFF) EXECUTE explained ({params})"), &[])
        .await;
    let lines: Vec<String> = rows.unwrap().iter().map(|row| row.get(0)).collect();
    lines.join("\n")
}

#[tokio::test]
async fn long_ranges_are_read_in_the_order_of_a_key_and_not_sorted() {
    let database = TestDatabase::new().await;
    let config = Config::from_url(database.url()).unwrap();
    Health::open(config.clone()).await.unwrap().close().await.unwrap();
    let roller = Session::roller(&config).await.unwrap();
    roller.client().batch_execute(FILL).await.unwrap();
    let readers = readers(&config);
    let reader = checkout(&readers).await.unwrap();
    let sealed = (read::SEALED, "1, '2025-01-01Z', '2025-02-01Z', '{}'");
    let samples = (read::SAMPLES, "1, '{2025-01-01Z}', '{2025-02-01Z}'");
    let to_summarise = (
        summarise::SAMPLES_LOCAL,
        "'{1}', '{2025-01-01Z}', '{2025-02-01Z}', 1000000",
    );
    for (session, (statement, params)) in [(&*reader, sealed), (&*reader, samples), (&roller, to_summarise)] {
        let plan = plan(session, statement, params).await;
        assert!(!plan.contains("Sort"), "{plan}");
        assert!(plan.contains("Index Only Scan"), "{plan}");
    }
}

/// A function in `FROM` stores all that it returns before the first row is read.
#[tokio::test]
async fn the_arrays_of_a_small_batch_are_unpacked_row_by_row() {
    let database = TestDatabase::new().await;
    let config = Config::from_url(database.url()).unwrap();
    Health::open(config.clone()).await.unwrap().close().await.unwrap();
    let session = Session::writer(&config).await.unwrap();
    let columns = "'{1}', '{1}', '{2025-01-01Z}', '{60}', '{1}', '{1}', '{watch}'";
    let recent = format!("{columns}, '2025-01-01Z', 13");
    for (statement, params) in [(write::INSERT, columns), (write::INSERT_RECENT, &recent)] {
        let plan = plan(&session, statement, params).await;
        assert!(plan.contains("ProjectSet"), "{plan}");
        assert!(!plan.contains("Function Scan"), "{plan}");
    }
}
