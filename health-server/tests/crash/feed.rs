//! Readers that come and go, two servers and PostgreSQL that are killed in turn, late and corrected samples: nobody misses
//! anything, and nobody hears of what was never committed.

mod pair;
mod reader;
mod version;
mod writer;

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use fastrand::Rng;
use rustix::process::Signal;
use tokio::{
    sync::watch,
    task::{JoinSet, yield_now},
    time::timeout,
};

use crate::{
    database::Database,
    feed::{
        pair::{PATIENCE, Pair},
        reader::Reader,
        version::{AUDIT, versions},
        writer::write,
    },
};

const WRITERS: i64 = 4;
const READERS: usize = 6;

/// So many kills, unless `HEALTH_TEST_ROUNDS` says otherwise.
const ROUNDS: usize = 12;

/// What happens at the end of a round.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Server(usize),
    PostgresKilled,
    PostgresQuit,
    PostgresStopped,
    Backend,
    Connections,
    Everything,
}

/// Servers in turn, and between them what they stand on.
const BLOWS: [Blow; 12] = [
    Blow::Server(0),
    Blow::Server(1),
    Blow::PostgresKilled,
    Blow::Server(0),
    Blow::Connections,
    Blow::Server(1),
    Blow::PostgresQuit,
    Blow::Server(0),
    Blow::Backend,
    Blow::Server(1),
    Blow::PostgresStopped,
    Blow::Everything,
];

async fn strike(database: &mut Database, pair: &mut Pair, blow: Blow) {
    match blow {
        Blow::Server(place) => pair.kill(place).await,
        Blow::PostgresKilled => database.strike(Signal::KILL).await,
        Blow::PostgresQuit => database.strike(Signal::QUIT).await,
        Blow::PostgresStopped => database.strike(Signal::INT).await,
        Blow::Backend => database.kill_backend().await,
        Blow::Connections => database.cut_connections().await,
        Blow::Everything => {
            pair.kill(0).await;
            pair.kill(1).await;
            database.strike(Signal::KILL).await;
        }
    }
    pair.start_missing(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_misses_anything_whoever_is_killed() {
    let rounds = std::env::var("HEALTH_TEST_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut rng = Rng::new();
    let mut database = Database::start("feed").await;
    let mut pair = Pair::default();
    pair.start_missing(&database).await;
    database.connect().await.batch_execute(AUDIT).await.unwrap();

    let (finish, done) = watch::channel(None);
    let start = pair.greeting(0).await;
    let mut readers = JoinSet::new();
    for number in 0..READERS {
        // Half of them hear of everyone.
        let users = 1..=writer::users(WRITERS);
        let some = (number % 2 == 1).then(|| users.filter(|_| rng.bool()).collect());
        readers.spawn(Reader::new(rng.fork(), some, start.clone(), pair.addresses(), done.clone()).run());
    }
    let posts = watch::Sender::new(0_usize);
    let enough = watch::Sender::new(false);
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let (posts, enough) = (posts.clone(), enough.subscribe());
        writers.spawn(write(rng.fork(), number, pair.addresses(), posts, enough));
    }

    let began = Instant::now();
    let mut posted = posts.subscribe();
    for round in 0..rounds {
        // Each in turn, at a moment that nothing in the program knows of.
        let until = *posted.borrow() + rng.usize(20..200);
        tokio::select! {
            reached = timeout(PATIENCE, posted.wait_for(|count| *count >= until)) => drop(reached.expect("posts in time").unwrap()),
            Some(ended) = writers.join_next() => panic!("a writer has ended: {ended:?}"),
            Some(ended) = readers.join_next() => panic!("a reader has ended: {ended:?}"),
        }
        for _ in 0..rng.u32(..200) {
            yield_now().await;
        }
        strike(&mut database, &mut pair, BLOWS[round % BLOWS.len()]).await;
    }
    enough.send_replace(true);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }

    let client = database.connect().await;
    let last = versions(&client, "health_metrics").await.into_iter().collect();
    let committed: BTreeSet<_> = versions(&client, "audit").await.into_iter().collect();
    finish.send_replace(Some(Arc::new(last)));
    let (mut lines, mut connections) = (0, 0);
    while let Some(reader) = readers.join_next().await {
        let heard = reader.unwrap();
        let invented: Vec<_> = heard.versions.difference(&committed).collect();
        assert!(invented.is_empty(), "never committed: {invented:?}");
        lines += heard.lines;
        connections += heard.connections;
    }
    // Shown by `--nocapture`, for runs of many rounds.
    eprintln!(
        "{rounds} kills in {:?}: {} posts, {} versions committed, {lines} lines heard over {connections} connections",
        began.elapsed(),
        *posted.borrow(),
        committed.len()
    );
}
