//! Subscribers, over TCP and over HTTP, disconnect and resume while two servers and PostgreSQL are killed in turn, and
//! clients write late and corrected samples and erase some. Every subscriber gets every committed sample that is left,
//! none that was never committed, and is told of each that was erased.

mod subscriber;
mod two_servers;
mod version;
mod writer;

use std::{collections::BTreeSet, fs, sync::Arc, time::Instant};

use fastrand::Rng;
use rustix::process::Signal;
use tokio::{
    sync::watch,
    task::{JoinSet, yield_now},
    time::timeout,
};

use crate::{
    database::Database,
    feed_crashes::{
        subscriber::{Received, Subscriber, Transport},
        two_servers::{TIMEOUT, TwoServers},
        version::{AUDIT, versions},
        writer::write,
    },
};

const WRITERS: i64 = 4;
const SUBSCRIBERS: usize = 6;

/// The subscribers of these that read server-sent events.
const STREAMS: usize = 3;

/// The number of faults, unless `HEALTH_TEST_ROUNDS` sets another one: each entry of [`FAULTS`] once.
const ROUNDS: usize = 12;

/// What fails in a round.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// One of the servers is killed (SIGKILL).
    ServerKilled(usize),
    /// PostgreSQL is killed (SIGKILL).
    PostgresKilled,
    /// PostgreSQL is shut down immediately (SIGQUIT).
    PostgresQuit,
    /// PostgreSQL is shut down in order and started again (SIGINT).
    PostgresRestarted,
    /// One backend of PostgreSQL is killed, so that PostgreSQL ends all connections and recovers.
    BackendKilled,
    /// An administrator ends the connections of both servers.
    ConnectionsTerminated,
    /// Both servers and PostgreSQL are killed, as if their machine had lost its power.
    AllKilled,
}

/// A server is killed in every second round, and PostgreSQL or its connections fail in the others.
const FAULTS: [Fault; 12] = [
    Fault::ServerKilled(0),
    Fault::ServerKilled(1),
    Fault::PostgresKilled,
    Fault::ServerKilled(0),
    Fault::ConnectionsTerminated,
    Fault::ServerKilled(1),
    Fault::PostgresQuit,
    Fault::ServerKilled(0),
    Fault::BackendKilled,
    Fault::ServerKilled(1),
    Fault::PostgresRestarted,
    Fault::AllKilled,
];

/// Lets something fail, and starts the servers that have ended.
async fn inject(fault: Fault, database: &mut Database, servers: &mut TwoServers) {
    match fault {
        Fault::ServerKilled(index) => servers.kill(index).await,
        Fault::PostgresKilled => database.restart(Signal::KILL).await,
        Fault::PostgresQuit => database.restart(Signal::QUIT).await,
        Fault::PostgresRestarted => database.restart(Signal::INT).await,
        Fault::BackendKilled => database.kill_backend().await,
        Fault::ConnectionsTerminated => database.terminate_connections().await,
        Fault::AllKilled => {
            servers.kill(0).await;
            servers.kill(1).await;
            database.restart(Signal::KILL).await;
        }
    }
    servers.start_missing(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_subscriber_gets_every_committed_sample_whatever_is_killed() {
    let rounds = std::env::var("HEALTH_TEST_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut rng = Rng::new();
    let mut database = Database::start().await;
    let mut servers = TwoServers::default();
    servers.start_missing(&database).await;
    database.connect().await.batch_execute(AUDIT).await.unwrap();

    let final_versions = watch::Sender::new(None);
    let cursor = servers.hello_cursor(0).await;
    let mut subscribers = JoinSet::new();
    for number in 0..SUBSCRIBERS {
        let (users, final_versions) = (subscribed_users(number, &mut rng), final_versions.subscribe());
        let transport = if number < STREAMS {
            Transport::Stream
        } else {
            Transport::Lines
        };
        let (rng, cursor) = (rng.fork(), cursor.clone());
        let subscriber = Subscriber::new(rng, transport, users, cursor, servers.running(), final_versions);
        subscribers.spawn(subscriber.run());
    }
    let acknowledged = watch::Sender::new(0_usize);
    let stop = watch::Sender::new(false);
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let (acknowledged, stop) = (acknowledged.clone(), stop.subscribe());
        writers.spawn(write(rng.fork(), number, servers.running(), acknowledged, stop));
    }

    let start = Instant::now();
    let mut acknowledged = acknowledged.subscribe();
    for round in 0..rounds {
        // The fault happens at a random moment, which nothing in the program can foresee.
        let count = *acknowledged.borrow() + rng.usize(20..200);
        tokio::select! {
            () = wait_for_acknowledged(&mut acknowledged, count) => {}
            Some(ended) = writers.join_next() => panic!("a writer failed: {:?}", ended.err()),
            Some(ended) = subscribers.join_next() => panic!("a subscriber failed: {:?}", ended.err()),
        }
        for _ in 0..rng.u32(..200) {
            yield_now().await;
        }
        inject(FAULTS[round % FAULTS.len()], &mut database, &mut servers).await;
    }
    stop.send_replace(true);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }

    let client = database.connect().await;
    let stored = versions(&client, "health_metrics").await.into_iter().collect();
    let committed: BTreeSet<_> = versions(&client, "audit").await.into_iter().collect();
    // From now on each subscriber knows what it must receive, and ends when it has received all of it.
    final_versions.send_replace(Some(Arc::new(stored)));
    let mut total = Received::default();
    while let Some(received) = subscribers.join_next().await {
        let received = received.unwrap();
        let invented: Vec<_> = received.versions.difference(&committed).collect();
        assert!(invented.is_empty(), "these versions were never committed: {invented:?}");
        total.samples += received.samples;
        total.erasures += received.erasures;
        total.connections += received.connections;
    }
    assert!(total.erasures > 0, "nothing was erased");
    // Writers of two servers conflict, and each conflict used to end with a `ROLLBACK` too many.
    let log = fs::read_to_string(database.directory().join("server.log")).unwrap();
    let warning = log.lines().find(|line| line.contains("no transaction in progress"));
    assert_eq!(warning, None);
    // `--nocapture` shows this for runs of many rounds.
    eprintln!(
        "{rounds} rounds in {:?}: {} requests acknowledged, {} versions committed, \
         {} samples and {} erasures received over {} connections",
        start.elapsed(),
        *acknowledged.borrow(),
        committed.len(),
        total.samples,
        total.erasures,
        total.connections
    );
}

/// Returns `None`, which means all users, for every second subscriber, and some users for the others.
fn subscribed_users(number: usize, rng: &mut Rng) -> Option<BTreeSet<i64>> {
    let all_users = 1..=writer::users(WRITERS);
    (number % 2 == 1).then(|| all_users.filter(|_| rng.bool()).collect())
}

/// Waits until so many requests are acknowledged.
async fn wait_for_acknowledged(acknowledged: &mut watch::Receiver<usize>, count: usize) {
    let reached = acknowledged.wait_for(|acknowledged| *acknowledged >= count);
    drop(
        timeout(TIMEOUT, reached)
            .await
            .expect("acknowledged requests in time")
            .unwrap(),
    );
}
