//! Queries over many samples that have no summaries yet, such as right after a large import.

use serde_json::Value;

use crate::{client::Client, database::Database, server::Server};

/// Samples of the last minutes, too young to be summarised: one each millisecond.
const SAMPLES: u64 = 200_000;

/// The most memory that the queries may add, in MiB. Kept in memory, the samples would take three times as much.
const MEMORY_MIB: u64 = 16;

/// Not through the server, so that its memory before the queries is small.
const INSERT: &str = "INSERT INTO health_metrics (user_id, timestamp, source, heart_rate, steps) \
     SELECT 7, now() - n * interval '1 millisecond', 'watch', 60 + n % 60, 1 FROM generate_series(1, 200000) AS n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_over_many_samples_without_summaries_takes_little_memory() {
    let database = Database::start().await;
    let server = Server::start(
        &["--database-url", &database.url()],
        &database.directory().join("server.log"),
    )
    .await;
    database.connect().await.batch_execute(INSERT).await.unwrap();
    let before = server.peak_memory_mib();
    let mut client = Client::connect(server.http()).await.unwrap();
    let range = "user_id=7&start=2025-01-01T00:00:00Z&end=2100-01-01T00:00:00Z";
    let (status, answer) = client.get(&format!("/metrics?{range}")).await.unwrap();
    assert_eq!((status, &answer["samples"]), (200, &Value::from(SAMPLES)));
    assert_eq!(answer["total_steps"], SAMPLES);
    let (status, percentiles) = client.get(&format!("/metrics/percentiles?{range}")).await.unwrap();
    assert_eq!((status, &percentiles["samples"]), (200, &Value::from(SAMPLES)));
    let added = server.peak_memory_mib() - before;
    assert!(added <= MEMORY_MIB, "the queries took {added} MiB");
    assert!(server.stop().await.success());
}
