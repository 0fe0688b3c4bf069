//! Faults of the database: it is away, read-only, locked, slow or busy.

use std::{future::Future, net::SocketAddr, time::Duration};

use test_support::TestCluster;
use tokio::{
    join, select,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::prometheus::Prometheus;
use crate::{
    program::Program,
    support::{Server, record, records, until_ok},
};

/// How often a device sends while nothing can be stored.
const SEND_EVERY: Duration = Duration::from_millis(200);

/// How long a request may wait for its commit, so that a device is answered soon.
const SHORT: Duration = Duration::from_millis(500);

/// Longer than anything here takes.
const LONG: Duration = Duration::from_mins(1);

/// A commit that takes longer is slow.
const SLOW_COMMIT: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'health-server writer' \
     AND wait_event = 'SyncRep' AND clock_timestamp() - query_start > interval '0.6 s'";

/// The sessions that wait for a lock.
const LOCK_WAITS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// Sends samples and queries until something has happened.
async fn while_clients_send(server: &Server, event: impl Future<Output = ()>) {
    let mut pause = interval(SEND_EVERY);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let send = async {
        loop {
            pause.tick().await;
            server.post("json", record(1, 1)).await;
            server.get("/users").await;
        }
    };
    select! {
        () = event => {}
        () = send => {}
    }
}

/// A server with a sample, whose clients are answered soon.
async fn hasty_server() -> Server {
    let server = Server::with_limits(|_, core| {
        core.ingest_deadline = SHORT;
        core.connection_wait = SHORT;
    })
    .await;
    until_ok(|| server.post("json", record(1, 0))).await;
    server
}

/// The database refuses connections, and those that were open have ended.
async fn away(prometheus: &Prometheus, server: &Server) {
    let sql = server.sql_in("postgres").await;
    let name = server.database.name();
    let allow = |allowed| format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}");
    sql.batch_execute(&allow(false)).await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    sql.execute(end, &[&name]).await.unwrap();
    while_clients_send(server, async {
        prometheus.fires("HealthNoWriter", server.http).await;
        prometheus.fires("HealthErrors", server.http).await;
    })
    .await;
    sql.batch_execute(&allow(true)).await.unwrap();
    prometheus.ends("HealthNoWriter", server.http).await;
}

/// The database is set to read-only.
async fn read_only(prometheus: &Prometheus, server: &Server) {
    let sql = server.sql_in("postgres").await;
    let name = server.database.name();
    let set = |value| format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}");
    sql.batch_execute(&set("on")).await.unwrap();
    // The setting holds for new sessions.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    sql.execute(end, &[&name]).await.unwrap();
    while_clients_send(server, async {
        prometheus.fires("HealthReadOnly", server.http).await;
        prometheus.fires("HealthWritesFail", server.http).await;
    })
    .await;
    sql.batch_execute(&set("off")).await.unwrap();
    while_clients_send(server, prometheus.ends("HealthReadOnly", server.http)).await;
}

/// Another session has locked the samples, and devices send more than the queue holds.
async fn locked(prometheus: &Prometheus, server: &Server) {
    let mut sql = server.sql().await;
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE health_metrics").await.unwrap();
    let alerts = async {
        prometheus.fires("HealthWriterBlocked", server.http).await;
        prometheus.fires("HealthQueueFull", server.http).await;
        lock.rollback().await.unwrap();
        prometheus.ends("HealthWriterBlocked", server.http).await;
        prometheus.ends("HealthQueueFull", server.http).await;
    };
    let ((), response) = join!(alerts, server.post("x-ndjson", records(1, 95)));
    assert_eq!(response.status, 200, "{response:?}");
}

/// Queries wait for a lock and take all connections of readers.
async fn busy(prometheus: &Prometheus, server: &Server) {
    let mut sql = server.sql().await;
    let watcher = server.sql().await;
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE health_metrics").await.unwrap();
    let alerts = async {
        while watcher.query_one(LOCK_WAITS, &[]).await.unwrap().get::<_, i64>(0) < 2 {
            sleep(SHORT / 10).await;
        }
        prometheus.fires("HealthQueriesWait", server.http).await;
        lock.rollback().await.unwrap();
        prometheus.ends("HealthQueriesWait", server.http).await;
    };
    let range = "/metrics?user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";
    let ((), one, other) = join!(alerts, server.get(range), server.get(range));
    assert_eq!((one.status, other.status), (200, 200), "{one:?} {other:?}");
}

/// A synchronous standby does not answer for a while.
async fn slow(prometheus: &Prometheus, cluster: &TestCluster, server: &Program) {
    let standby = async |name| cluster.configure(&[("synchronous_standby_names", name)], "").await;
    standby("absent").await;
    let answer_later = async {
        let sql = cluster.connect().await;
        while sql.query_one(SLOW_COMMIT, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            sleep(SHORT / 10).await;
        }
        standby("").await;
    };
    let headers = [("content-type", "application/json")];
    let body = record(1, 1);
    let ((), response) = join!(
        async { timeout(LONG, answer_later).await.expect("a commit that waits") },
        server.request("POST", "/ingest", &headers, &body)
    );
    assert_eq!(response.status, 200, "{response:?}");
    prometheus.fires("HealthSlowCommits", server.http).await;
}

#[tokio::test]
async fn alerts_about_the_database_fire_at_real_faults_and_end_with_them() {
    let (away_server, read_only_server) = (hasty_server().await, hasty_server().await);
    let locked_server = Server::with_limits(|_, core| {
        core.queue_rows = 100;
        core.ingest_deadline = LONG;
    })
    .await;
    let busy_server = Server::with_limits(|_, core| core.readers = 2).await;
    let cluster = TestCluster::start().await;
    let slow_server = Program::start(&cluster.socket_url("health_db"), "warn", &[]).await;
    let servers: [SocketAddr; 5] = [
        away_server.http,
        read_only_server.http,
        locked_server.http,
        busy_server.http,
        slow_server.http,
    ];
    let Some(prometheus) = Prometheus::watch(servers.map(Into::into)).await else {
        return;
    };
    join!(
        away(&prometheus, &away_server),
        read_only(&prometheus, &read_only_server),
        locked(&prometheus, &locked_server),
        busy(&prometheus, &busy_server),
        slow(&prometheus, &cluster, &slow_server),
    );
    prometheus.stop().await;
    slow_server.stop().await;
}
