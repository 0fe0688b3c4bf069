//! One run: start everything, let it work and fail, stop, compare everything.

use std::{io, pin::pin, sync::Arc};

use chrono::Utc;
use examples::{Result, ShutdownSignals, bench::ScratchCluster};
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

/// Runs the soak on a PostgreSQL. The first signal ends the writing, a second one also the comparison.
pub(crate) async fn run(args: Args, cluster: &ScratchCluster, mut signals: ShutdownSignals) -> Result<()> {
    let recorder = Recorder::default();
    let ledgers: Arc<[Ledger]> = READERS.iter().map(|(name, _)| Ledger::new(name)).collect();
    let end = watch::Sender::new(false);
    let mut soak = pin!(soak(args, cluster, &recorder, &ledgers, end.subscribe()));
    tokio::select! {
        result = &mut soak => return result,
        () = signals.next() => {}
    }
    say("interrupted; a second signal ends the comparison, too")?;
    end.send_replace(true);
    tokio::select! {
        result = soak => result,
        () = signals.next() => {
            report_work(&recorder)?;
            Err("interrupted before everything was compared".into())
        }
    }
}

/// Writes until the time is over or `end` becomes true, and compares everything.
async fn soak(
    args: Args,
    cluster: &ScratchCluster,
    recorder: &Recorder,
    ledgers: &Arc<[Ledger]>,
    mut end: watch::Receiver<bool>,
) -> Result<()> {
    let url = cluster.url("health_db");
    let log = args
        .log
        .clone()
        .unwrap_or_else(|| cluster.directory().join("servers.log"));
    let mut servers = Servers::new(args.server.clone(), url.clone(), log);
    servers.start_missing().await?;
    // For psql, while the soak works.
    say(&format!("database {url}"))?;
    let monitor = Monitor::new(
        (args.out.clone(), args.csv.clone()),
        url,
        servers.running(),
        recorder.clone(),
        Arc::clone(ledgers),
    );
    let (stop, leaves) = (watch::Sender::new(false), watch::Sender::new(true));
    // Tasks that work until they are dropped. Each of them ends only with an error.
    let mut tasks = JoinSet::new();
    start_readers(&mut tasks, &servers, ledgers, &leaves).await?;
    let client = Client::new(servers.running());
    tasks.spawn(queries::query(client.clone(), recorder.clone(), i64::from(args.users)));
    tasks.spawn(monitor.clone().run(args.measure_every, stop.subscribe()));
    let shared = Shared {
        client,
        ledgers: Arc::clone(ledgers),
        recorder: recorder.clone(),
    };
    let mut writers = JoinSet::new();
    for writer in new_writers(&args, &shared)? {
        writers.spawn(writer.run(stop.subscribe()));
    }

    let last = Instant::now() + args.time;
    let work = async {
        tokio::select! {
            result = faults::inject(&mut servers, cluster, &monitor, args.kill_every, last) => result,
            Some(failed) = tasks.join_next() => failed?,
            Some(failed) = writers.join_next() => failed?.map(|_| ()),
            _ = end.wait_for(|end| *end) => Ok(()),
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
    let finish = finish(&mut writers, ledgers);
    tokio::select! {
        result = finish => result?,
        Some(failed) = tasks.join_next() => failed??,
    }
    report(recorder, ledgers)
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
    report_work(recorder)?;
    for ledger in ledgers {
        let (received, _) = ledger.counts();
        say(&format!(
            "the feed reader {:?} received {received} samples, and misses none",
            ledger.reader
        ))?;
    }
    say("nothing acknowledged was lost or doubled, and nothing erased came back")
}

fn report_work(recorder: &Recorder) -> Result<()> {
    let totals = recorder.totals();
    say(&format!(
        "{} samples acknowledged in {} requests, {} erased in {} erasures, {} queries of 24 hours, {} comparisons of a \
         user with the oracle",
        totals.samples, totals.requests, totals.erased, totals.erasures, totals.queries, totals.checks
    ))
}

fn say(message: &str) -> Result<()> {
    use io::Write;
    Ok(writeln!(io::stdout(), "{message}")?)
}
