//! Clients write while the server and PostgreSQL are killed in turn. No acknowledged sample is lost or stored twice.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use rustix::process::Signal;
use tokio::{
    sync::watch,
    task::{JoinSet, yield_now},
    time::timeout,
};

use crate::{
    client::Client,
    database::Database,
    model::{Identity, Model, Values},
    server::Server,
    writer::{CurrentServer, Writer, WriterReport},
};

const WRITERS: i64 = 8;

/// The number of faults, unless `HEALTH_TEST_ROUNDS` sets another one: each kind twice.
const ROUNDS: u64 = 16;

/// Longer than any recovery takes on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(3);

/// Some restarts of PostgreSQL take longer than this, and some do not, so that both paths are tested.
const INGEST_DEADLINE: &str = "1s";

/// What fails in a round.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The server is killed (SIGKILL).
    ServerKilled,
    /// PostgreSQL is shut down immediately (SIGQUIT).
    PostgresQuit,
    /// PostgreSQL is killed (SIGKILL).
    PostgresKilled,
    /// PostgreSQL is shut down in order and started again (SIGINT).
    PostgresRestarted,
    /// One backend of PostgreSQL is killed, so that PostgreSQL ends all connections and recovers.
    BackendKilled,
    /// An administrator ends the connections of the server.
    ConnectionsTerminated,
    /// The server and PostgreSQL are killed, as if their machine had lost its power.
    BothKilled,
    /// The server is asked to end (SIGTERM) in the middle of requests.
    ServerStopped,
}

const FAULTS: [Fault; 8] = [
    Fault::ServerKilled,
    Fault::PostgresQuit,
    Fault::PostgresKilled,
    Fault::PostgresRestarted,
    Fault::BackendKilled,
    Fault::ConnectionsTerminated,
    Fault::BothKilled,
    Fault::ServerStopped,
];

/// The server and its PostgreSQL.
struct System {
    database: Database,
    server: Option<Server>,
    /// Tells the writers where the server is.
    current: watch::Sender<CurrentServer>,
}

impl System {
    async fn start() -> Self {
        let database = Database::start().await;
        let server = start_server(&database).await;
        let current = watch::Sender::new(CurrentServer {
            generation: 0,
            http: server.http(),
        });
        Self {
            database,
            server: Some(server),
            current,
        }
    }

    /// Lets something fail. If the server has ended, starts the next one.
    async fn inject(&mut self, fault: Fault) {
        match fault {
            Fault::ServerKilled => self.kill_server().await,
            Fault::PostgresQuit => self.database.restart(Signal::QUIT).await,
            Fault::PostgresKilled => self.database.restart(Signal::KILL).await,
            Fault::PostgresRestarted => self.database.restart(Signal::INT).await,
            Fault::BackendKilled => self.database.kill_backend().await,
            Fault::ConnectionsTerminated => self.database.terminate_connections().await,
            Fault::BothKilled => {
                self.kill_server().await;
                self.database.restart(Signal::KILL).await;
            }
            Fault::ServerStopped => self.stop_server().await,
        }
        if self.server.is_none() {
            let server = start_server(&self.database).await;
            self.current.send_modify(|current| {
                current.generation += 1;
                current.http = server.http();
            });
            self.server = Some(server);
        }
    }

    async fn kill_server(&mut self) {
        self.server.take().unwrap().kill().await;
    }

    async fn stop_server(&mut self) {
        let status = self.server.take().unwrap().stop().await;
        assert_eq!(status.code(), Some(0));
    }
}

async fn start_server(database: &Database) -> Server {
    let log = database.directory().join("server.log");
    let arguments = ["--database-url", &database.url(), "--ingest-deadline", INGEST_DEADLINE];
    Server::start(&arguments, &log).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_sample_is_stored_exactly_once_whatever_is_killed() {
    let rounds = std::env::var("HEALTH_TEST_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut rng = Rng::new();
    let mut system = System::start().await;
    let acknowledged = watch::Sender::new(0_u64);
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let (server, acknowledged) = (system.current.subscribe(), acknowledged.clone());
        writers.spawn(Writer::new(number, rng.fork(), server, acknowledged, Arc::clone(&stop)).run());
    }

    let start = Instant::now();
    let mut acknowledged = acknowledged.subscribe();
    for round in 0..rounds {
        let fault = FAULTS[usize::try_from(round).unwrap() % FAULTS.len()];
        // The fault happens at a random moment, which nothing in the program can foresee.
        let count = *acknowledged.borrow() + rng.u64(0..60);
        wait_for_acknowledged(&mut acknowledged, count, &mut writers).await;
        for _ in 0..rng.u32(..200) {
            yield_now().await;
        }
        system.inject(fault).await;
        // The system recovers: a further request is acknowledged.
        let count = *acknowledged.borrow() + 1;
        wait_for_acknowledged(&mut acknowledged, count, &mut writers).await;
    }
    stop.store(true, Relaxed);
    let mut expected = Model::default();
    let mut resent = 0;
    while let Some(report) = writers.join_next().await {
        let report = report.unwrap();
        expected.samples.extend(report.model.samples);
        resent += report.resent;
    }
    // `--nocapture` shows this for runs of many rounds.
    eprintln!(
        "{rounds} rounds in {:?}: {} requests acknowledged, {resent} of them after they were sent again, {} samples",
        start.elapsed(),
        *acknowledged.borrow(),
        expected.samples.len()
    );

    assert_table_equals(&system.database, &expected).await;
    assert_statistics_equal(&system, &expected).await;
    system.stop_server().await;
}

/// Waits until so many requests are acknowledged. Panics if a writer ends before, because a check in it failed, and if
/// the server does not recover.
async fn wait_for_acknowledged(
    acknowledged: &mut watch::Receiver<u64>,
    count: u64,
    writers: &mut JoinSet<WriterReport>,
) {
    let reached = timeout(TIMEOUT, acknowledged.wait_for(|acknowledged| *acknowledged >= count));
    tokio::select! {
        reached = reached => drop(reached.expect("acknowledged requests in time").unwrap()),
        Some(ended) = writers.join_next() => panic!("a writer failed: {:?}", ended.err()),
    }
}

/// Compares the table with the model, sample by sample.
async fn assert_table_equals(database: &Database, expected: &Model) {
    let all = "SELECT user_id, extract(epoch FROM timestamp - '2025-03-02T00:00:00Z')::bigint, source, \
               heart_rate, steps, calories FROM health_metrics ORDER BY 1, 2, 3";
    let client = database.connect().await;
    let rows = client.query(all, &[]).await.unwrap();
    assert_eq!(rows.len(), expected.samples.len());
    for (row, (expected_identity, expected_values)) in rows.iter().zip(&expected.samples) {
        let source = if row.get::<_, &str>(2).is_empty() { "" } else { "watch" };
        let identity: Identity = (row.get(0), row.get(1), source);
        let values = Values {
            heart_rate: row.get(3),
            steps: row.get(4),
            calories: row.get(5),
        };
        assert_eq!((&identity, &values), (expected_identity, expected_values));
    }
}

/// Compares the number of samples that the server reports for each user with the model.
async fn assert_statistics_equal(system: &System, expected: &Model) {
    let mut client = Client::connect(system.server.as_ref().unwrap().http()).await.unwrap();
    let mut samples_by_user = BTreeMap::<i64, u64>::new();
    for (user, ..) in expected.samples.keys() {
        *samples_by_user.entry(*user).or_default() += 1;
    }
    for (user, samples) in samples_by_user {
        let path = format!("/metrics?user_id={user}&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z");
        let (status, response) = client.get(&path).await.unwrap();
        assert_eq!(
            (status, response["samples"].as_u64()),
            (200, Some(samples)),
            "{response}"
        );
    }
}
