//! Summaries that are late, because the roller is stopped or has much to do.

use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta, Utc};
use tokio::join;
use tokio_postgres::{Client, Transaction};

use super::prometheus::Prometheus;
use crate::support::Server;

/// What the rollers of all servers take in turns.
const STOP_ROLLER: &str = "SELECT pg_advisory_xact_lock(hashtext('health rollers'))";

/// The state that rollers leave that have been stopped for two hours.
const TWO_HOURS_AGO: &str = "UPDATE health_sealing SET sealed_before = sealed_before - interval '2 hours', \
     threshold = threshold - interval '2 hours', next_slice = next_slice - interval '2 hours'";

/// Slices that a backfill changes: more than the alert tolerates.
const SLICES: i32 = 50_100;

async fn stop_roller(sql: &mut Client) -> Transaction<'_> {
    let transaction = sql.transaction().await.unwrap();
    transaction.batch_execute(STOP_ROLLER).await.unwrap();
    transaction
}

async fn late(prometheus: &Prometheus, server: &Server) {
    let (mut sql, other) = (server.sql().await, server.sql().await);
    let stopped = stop_roller(&mut sql).await;
    other.batch_execute(TWO_HOURS_AGO).await.unwrap();
    prometheus.fires("HealthSealingLate", server.http).await;
    stopped.rollback().await.unwrap();
    prometheus.ends("HealthSealingLate", server.http).await;
}

/// A backfill of a year and a half, one sample for each slice, while the roller is stopped.
async fn many(prometheus: &Prometheus, server: &Server) {
    let mut sql = server.sql().await;
    let _stopped = stop_roller(&mut sql).await;
    let newest = Utc::now() - TimeDelta::hours(3);
    let line = |slice: i32| {
        let time = newest - TimeDelta::minutes(15) * slice;
        let time = time.to_rfc3339_opts(SecondsFormat::Secs, true);
        format!("{{\"user_id\":1,\"timestamp\":\"{time}\",\"steps\":1}}\n")
    };
    let response = server.post("x-ndjson", (0..SLICES).map(line).collect::<String>()).await;
    assert_eq!(response.status, 200, "{response:?}");
    prometheus.fires("HealthManyDirtySlices", server.http).await;
}

#[tokio::test]
async fn alerts_about_summaries_fire_if_the_roller_is_stopped() {
    let late_server = Server::start().await;
    // On a busy machine, so many samples take long.
    let many_server = Server::with_limits(|_, core| core.ingest_deadline = Duration::from_mins(10)).await;
    let servers = [late_server.http, many_server.http];
    let Some(prometheus) = Prometheus::watch(servers.map(Into::into)).await else {
        return;
    };
    join!(late(&prometheus, &late_server), many(&prometheus, &many_server));
    prometheus.stop().await;
}
