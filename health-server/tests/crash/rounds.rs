//! Rounds of writing and killing.

use std::{
    sync::{Arc, atomic::AtomicBool, atomic::Ordering::Relaxed},
    time::Instant,
};

use fastrand::Rng;
use rustix::process::Signal;
use tokio::{
    sync::watch,
    task::{JoinSet, yield_now},
};

use crate::{
    client::Client,
    database::Database,
    model::{Key, Model, Row},
    server::Server,
    writer::{Place, Writer},
};

const WRITERS: i64 = 8;

/// So many kills, unless `HEALTH_TEST_ROUNDS` says otherwise.
const ROUNDS: u64 = 16;

/// A deadline that a restart of PostgreSQL sometimes fits into, and sometimes does not.
const INGEST_DEADLINE: &str = "1s";

/// What happens at the end of a round.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Server,
    PostgresQuit,
    PostgresKilled,
    PostgresStopped,
    Backend,
    Connections,
    Both,
    ServerEnds,
}

const BLOWS: [Blow; 8] = [
    Blow::Server,
    Blow::PostgresQuit,
    Blow::PostgresKilled,
    Blow::PostgresStopped,
    Blow::Backend,
    Blow::Connections,
    Blow::Both,
    Blow::ServerEnds,
];

/// What is under attack.
struct Target {
    database: Database,
    server: Option<Server>,
    number: u64,
    place: watch::Sender<Place>,
}

impl Target {
    async fn start() -> Self {
        let database = Database::start("crash").await;
        let server = serve(&database).await;
        let place = watch::Sender::new((0, server.http()));
        Self {
            database,
            server: Some(server),
            number: 0,
            place,
        }
    }

    async fn take(&mut self, blow: Blow) {
        match blow {
            Blow::Server => self.kill_server().await,
            Blow::PostgresQuit => self.database.strike(Signal::QUIT).await,
            Blow::PostgresKilled => self.database.strike(Signal::KILL).await,
            Blow::PostgresStopped => self.database.strike(Signal::INT).await,
            Blow::Backend => self.database.kill_backend().await,
            Blow::Connections => self.database.cut_connections().await,
            Blow::ServerEnds => {
                if let Some(server) = self.server.take() {
                    assert_eq!(server.end().await.code(), Some(0));
                }
            }
            Blow::Both => {
                self.kill_server().await;
                self.database.strike(Signal::KILL).await;
            }
        }
        if self.server.is_none() {
            let server = serve(&self.database).await;
            self.number += 1;
            self.place.send_replace((self.number, server.http()));
            self.server = Some(server);
        }
    }

    async fn kill_server(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill().await;
        }
    }
}

async fn serve(database: &Database) -> Server {
    let log = database.directory().join("server.log");
    let arguments = ["--database-url", &database.url(), "--ingest-deadline", INGEST_DEADLINE];
    Server::start(&arguments, &log).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_stored_once_whatever_was_killed() {
    let rounds = std::env::var("HEALTH_TEST_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut rng = Rng::new();
    let mut target = Target::start().await;
    let acknowledged = watch::Sender::new(0_u64);
    let enough = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let (place, acknowledged) = (target.place.subscribe(), acknowledged.clone());
        writers.spawn(Writer::new(number, rng.fork(), place, acknowledged, Arc::clone(&enough)).run());
    }

    let began = Instant::now();
    let mut answers = acknowledged.subscribe();
    for round in 0..rounds {
        // Each kind in turn, at a moment that nothing in the program knows of.
        let until = *answers.borrow() + rng.u64(0..60);
        tokio::select! {
            reached = answers.wait_for(|count| *count >= until) => drop(reached.unwrap()),
            Some(ended) = writers.join_next() => panic!("a writer has ended: {ended:?}"),
        }
        for _ in 0..rng.u32(..200) {
            yield_now().await;
        }
        let blow = BLOWS[usize::try_from(round).unwrap() % BLOWS.len()];
        target.take(blow).await;
        // Alive: something is answered after every blow.
        let before = *answers.borrow();
        tokio::select! {
            reached = answers.wait_for(|count| *count > before) => drop(reached.unwrap()),
            Some(ended) = writers.join_next() => panic!("after {blow:?} a writer has ended: {ended:?}"),
        }
    }
    enough.store(true, Relaxed);
    let mut expected = Model::default();
    let mut resent = 0;
    while let Some(writer) = writers.join_next().await {
        let (model, more) = writer.unwrap();
        expected.rows.extend(model.rows);
        resent += more;
    }
    tell(rounds, began, *answers.borrow(), resent, expected.rows.len());

    compare(&target.database, &expected).await;
    compare_statistics(&target, &expected).await;
    let status = target.server.take().unwrap().end().await;
    assert_eq!(status.code(), Some(0));
}

/// The table is what the model says, row by row.
async fn compare(database: &Database, expected: &Model) {
    let all = "SELECT user_id, extract(epoch FROM timestamp - '2025-03-02T00:00:00Z')::bigint, source, heart_rate, steps, calories \
               FROM health_metrics ORDER BY 1, 2, 3";
    let client = database.connect().await;
    let stored = client.query(all, &[]).await.unwrap();
    assert_eq!(stored.len(), expected.rows.len());
    for (row, (key, expected)) in stored.iter().zip(&expected.rows) {
        let found: Key = (
            row.get(0),
            row.get(1),
            if row.get::<_, &str>(2).is_empty() { "" } else { "watch" },
        );
        let values = Row {
            heart_rate: row.get(3),
            steps: row.get(4),
            calories: row.get(5),
        };
        assert_eq!((&found, &values), (key, expected));
    }
}

/// And so is what the server says of each user.
async fn compare_statistics(target: &Target, expected: &Model) {
    let mut client = Client::connect(target.server.as_ref().unwrap().http()).await.unwrap();
    let mut samples = std::collections::BTreeMap::<i64, u64>::new();
    for (user, ..) in expected.rows.keys() {
        *samples.entry(*user).or_default() += 1;
    }
    for (user, samples) in samples {
        let path = format!("/metrics?user_id={user}&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z");
        let (status, answer) = client.get(&path).await.unwrap();
        assert_eq!((status, answer["samples"].as_u64()), (200, Some(samples)), "{answer}");
    }
}

/// Shown by `--nocapture`, for runs of many rounds.
fn tell(rounds: u64, began: Instant, answers: u64, resent: u64, rows: usize) {
    let took = began.elapsed();
    eprintln!("{rounds} rounds in {took:?}: {answers} requests acknowledged, {resent} of them sent again, {rows} rows");
}
