//! One run: start everything, let it work and fail, stop, compare everything.

use std::{io, sync::Arc};

use chrono::Utc;
use examples::{Result, bench::ScratchCluster, shutdown_signal};
use health_core::UserId;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Duration, Instant, sleep},
};

use crate::{
    Args,
    client::Client,
    faults,
    ledger::Ledger,
    monitor::Monitor,
    person::Person,
    queries,
    readers::{Reader, Transport},
    recorder::Recorder,
    servers::Servers,
    writer::{Pace, Shared, Writer},
};

/// The readers of the feed. All subscribe to all users.
const READERS: [(&str, Transport); 4] = [
    ("lines1", Transport::Lines),
    ("lines2", Transport::Lines),
    ("stream1", Transport::Stream),
    ("stream2", Transport::Stream),
];

/// How often a writer compares and erases, unless the run is short.
const CHECK: Duration = Duration::from_secs(20);
const ERASE: Duration = Duration::from_mins(4);
const ERASE_USER: Duration = Duration::from_mins(10);

/// The longest time in which the feed delivers the last samples to readers that stay connected.
const LAST_SAMPLES: Duration = Duration::from_mins(2);

/// Runs the soak on a PostgreSQL.
pub(crate) async fn run(args: Args, cluster: &ScratchCluster) -> Result<()> {
    let url = cluster.url("health_db");
    let log = args
        .log
        .clone()
        .unwrap_or_else(|| cluster.directory().join("servers.log"));
    let mut servers = Servers::new(args.server.clone(), url.clone(), log);
    servers.start_missing().await?;
    // For psql, while the soak works.
    say(&format!("database {url}"))?;
    let recorder = Recorder::default();
    let ledgers: Arc<[Ledger]> = READERS.iter().map(|(name, _)| Ledger::new(name)).collect();
    let monitor = Monitor::new(
        (args.out.clone(), args.csv.clone()),
        url,
        servers.running(),
        recorder.clone(),
        Arc::clone(&ledgers),
    );
    let (stop, leaves) = (watch::Sender::new(false), watch::Sender::new(true));
    // Tasks that work until they are dropped. Each of them ends only with an error.
    let mut tasks = JoinSet::new();
    start_readers(&mut tasks, &servers, &ledgers, &leaves).await?;
    let client = Client::new(servers.running());
    tasks.spawn(queries::query(client.clone(), recorder.clone(), i64::from(args.users)));
    tasks.spawn(monitor.clone().run(args.measure_every, stop.subscribe()));
    let shared = Shared {
        client,
        ledgers: Arc::clone(&ledgers),
        recorder: recorder.clone(),
    };
    let mut writers = JoinSet::new();
    for writer in new_writers(&args, &shared)? {
        writers.spawn(writer.run(stop.subscribe()));
    }

    let end = Instant::now() + args.time;
    let interrupted = shutdown_signal()?;
    let work = async {
        tokio::select! {
            result = faults::inject(&mut servers, cluster, &monitor, args.kill_every, end) => result,
            Some(failed) = tasks.join_next() => failed?,
            Some(failed) = writers.join_next() => failed?.map(|_| ()),
            () = interrupted => Ok(()),
        }
    };
    let result = work.await;
    // The picture helps to understand a failure too.
    monitor.draw()?;
    result?;
    // An interrupted run may have ended in the middle of a fault.
    servers.start_missing().await?;
    stop.send_replace(true);
    leaves.send_replace(false);
    say("all writers stop; now everything is compared")?;
    let finish = finish(&mut writers, &ledgers);
    tokio::select! {
        result = finish => result?,
        Some(failed) = tasks.join_next() => failed??,
    }
    report(&recorder, &ledgers)
}

async fn start_readers(
    tasks: &mut JoinSet<Result<()>>,
    servers: &Servers,
    ledgers: &[Ledger],
    leaves: &watch::Sender<bool>,
) -> Result<()> {
    let subscribed = watch::Sender::new(0);
    for ((_, transport), ledger) in READERS.iter().zip(ledgers) {
        let (running, leaves) = (servers.running(), leaves.subscribe());
        let reader = Reader::new(*transport, ledger.clone(), running, leaves, subscribed.clone());
        tasks.spawn(reader.run());
    }
    // From here on, a reader must get every sample.
    subscribed
        .subscribe()
        .wait_for(|readers| *readers == READERS.len())
        .await?;
    Ok(())
}

fn new_writers(args: &Args, shared: &Shared) -> Result<Vec<Writer>> {
    let short = args.time / 5;
    let pace = Pace {
        rate: f64::from(args.rate) / f64::from(args.writers),
        check: CHECK.min(short),
        erase: ERASE.min(short),
        erase_user: ERASE_USER.min(short),
    };
    let now = Utc::now();
    let mut people: Vec<Vec<Person>> = (0..args.writers).map(|_| Vec::new()).collect();
    for (user, writer) in (1..=i64::from(args.users)).zip((0..people.len()).cycle()) {
        people[writer].push(Person::new(UserId::new(user)?, now));
    }
    let people = people.into_iter().filter(|people| !people.is_empty());
    Ok(people.map(|people| Writer::new(shared.clone(), people, pace)).collect())
}

/// Lets the writers and the readers come to their end, and compares everything that is stored.
async fn finish(writers: &mut JoinSet<Result<Writer>>, ledgers: &[Ledger]) -> Result<()> {
    let mut stopped = Vec::new();
    while let Some(writer) = writers.join_next().await {
        stopped.push(writer??);
    }
    let start = Instant::now();
    for ledger in ledgers {
        while ledger.check_complete(LAST_SAMPLES).is_err() && start.elapsed() < LAST_SAMPLES {
            sleep(Duration::from_millis(100)).await;
        }
        ledger.check_complete(LAST_SAMPLES)?;
    }
    for writer in &mut stopped {
        writer.check_all().await?;
    }
    Ok(())
}

fn report(recorder: &Recorder, ledgers: &[Ledger]) -> Result<()> {
    let totals = recorder.totals();
    say(&format!(
        "{} samples acknowledged in {} requests, {} erased in {} erasures, {} queries of 24 hours, {} comparisons of a \
         user with the oracle",
        totals.samples, totals.requests, totals.erased, totals.erasures, totals.queries, totals.checks
    ))?;
    for ledger in ledgers {
        let (received, _) = ledger.counts();
        say(&format!(
            "the feed reader {:?} received {received} samples, and misses none",
            ledger.reader
        ))?;
    }
    say("nothing acknowledged was lost or doubled, and nothing erased came back")
}

fn say(message: &str) -> Result<()> {
    use io::Write;
    Ok(writeln!(io::stdout(), "{message}")?)
}
