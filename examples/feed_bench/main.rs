//! How fast the live feed is, how many it serves, and what a reader that sleeps costs.
//!
//! `cargo run --release --example feed_bench` starts a durable PostgreSQL of its own in a fresh directory, and for each
//! measurement a fresh database and a fresh server process. Readers and posters run in this process, on the same machine.

mod clients;
mod server;

use std::{
    collections::HashMap,
    error::Error,
    path::PathBuf,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use clap::Parser;
use health_core::embedded::{Cluster, Options};
use tokio::time::{sleep, timeout};

use crate::{
    clients::{Poster, body, count, note_arrivals, post_evenly, subscribe},
    server::Server,
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Measures the live feed.
#[derive(Parser)]
struct Args {
    /// Rounds; figures are medians
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long samples are posted, a round
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Readers of everyone at once
    #[arg(long, default_value_t = 1000)]
    readers: usize,
    /// Only measurements whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Serve this database and nothing else: what the other processes of a run are
    #[arg(long, hide = true)]
    serve: Option<String>,
}

/// Samples ingested while a reader sleeps.
const WHILE_ASLEEP: usize = 200_000;

/// How long readers may take for the last lines.
const LAST_LINES: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Outcome<()> {
    let args = Args::parse();
    if let Some(url) = &args.serve {
        return server::serve(url).await;
    }
    let directory = scratch_directory();
    std::fs::create_dir_all(&directory)?;
    let cluster = Cluster::start(Options::new().data_dir(directory.join("health"))).await?;
    let measured = measure(&args, &cluster).await;
    cluster.stop().await?;
    std::fs::remove_dir_all(&directory)?;
    measured
}

async fn measure(args: &Args, cluster: &Cluster) -> Outcome<()> {
    let mut databases = (1..).map(|number| cluster.url(&format!("feed_bench_{number}")));
    let mut database = || databases.next().unwrap_or_default();
    if "latency".contains(&args.only) {
        let mut rounds = Vec::new();
        for _ in 0..args.rounds {
            rounds.push(latency(args, &database()).await?);
        }
        let of = |pick: fn(&(f64, f64)) -> f64| median(rounds.iter().map(pick).collect());
        say(&format!(
            "latency: answer to line at 5000 samples/s, 10 readers: p50 {:.2} ms (wanted < 1), p99 {:.2} ms (wanted < 10)",
            of(|round| round.0),
            of(|round| round.1)
        ));
    }
    if "crowd".contains(&args.only) {
        for _ in 0..args.rounds {
            crowd(args, &database()).await?;
        }
    }
    if "sleeper".contains(&args.only) {
        let (mut ratios, mut growths) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            let (without, grown_without) = ingest(&database(), false).await?;
            let (with, grown) = ingest(&database(), true).await?;
            say(&format!(
                "sleeper: {without:.0} samples/s without, {with:.0} with; RSS grew by {grown_without:.0} and {grown:.0} MB"
            ));
            ratios.push(with / without);
            growths.push(grown);
        }
        say(&format!(
            "sleeper: ratio {:.3} (wanted > 0.95), RSS growth {:.0} MB (wanted < 64)",
            median(ratios),
            median(growths)
        ));
    }
    Ok(())
}

/// From the answer of a post to the line at each of ten readers: p50 and p99 in milliseconds.
async fn latency(args: &Args, database: &str) -> Outcome<(f64, f64)> {
    const READERS: usize = 10;
    let server = Server::start(database).await?;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(note_arrivals(subscribe(&server.feed).await?, usize::MAX));
    }
    let time = Duration::from_secs(args.seconds);
    let answers = post_evenly(&server.http, 10, 10, 5000, time).await?;
    sleep(Duration::from_secs(1)).await;
    server.stop().await?;
    let answered: HashMap<usize, Instant> = answers.iter().copied().collect();
    let mut latencies = Vec::new();
    for reader in readers {
        let arrivals = reader.await?;
        if arrivals.len() != answers.len() * 10 {
            return Err(format!("{} of {} samples arrived", arrivals.len(), answers.len() * 10).into());
        }
        let waits = arrivals.iter().filter_map(|(number, at)| {
            let answered = answered.get(number)?;
            Some(at.saturating_duration_since(*answered).as_secs_f64() * 1000.0)
        });
        latencies.extend(waits);
    }
    latencies.sort_by(f64::total_cmp);
    let at = |part: usize| latencies[latencies.len() * part / 100];
    say(&format!(
        "latency: p50 {:.2} ms, p99 {:.2} ms of {} lines",
        at(50),
        at(99),
        latencies.len()
    ));
    Ok((at(50), at(99)))
}

/// Many readers of everyone.
async fn crowd(args: &Args, database: &str) -> Outcome<()> {
    let server = Server::start(database).await?;
    let mut readers = Vec::new();
    for _ in 0..args.readers {
        readers.push(count(subscribe(&server.feed).await?));
    }
    let time = Duration::from_secs(args.seconds);
    let posts = post_evenly(&server.http, 10, 10, 1000, time).await?;
    let wanted = u64::try_from(posts.len() * 10)?;
    let behind = || {
        readers
            .iter()
            .filter(|(heard, _)| heard.samples.load(Relaxed) < wanted)
            .count()
    };
    let all = async {
        while behind() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let began = Instant::now();
    let arrived = timeout(LAST_LINES, all).await.is_ok();
    let lagged: u64 = readers.iter().map(|(heard, _)| heard.lagged.load(Relaxed)).sum();
    let (_, peak) = server.rss_mb()?;
    say(&format!(
        "crowd: {} readers at {:.0} samples/s: {}, {lagged} lagged (wanted 0), last line {:.0} ms behind the last answer, \
         server at most {peak:.0} MB (wanted < 200)",
        args.readers,
        f64::from(u32::try_from(wanted)?) / time.as_secs_f64(),
        if arrived {
            "all lines arrived"
        } else {
            "LINES ARE MISSING"
        },
        began.elapsed().as_secs_f64() * 1000.0,
    ));
    server.stop().await
}

/// Samples a second from four connections, and by how many MB the server grew.
async fn ingest(database: &str, asleep: bool) -> Outcome<(f64, f64)> {
    const CONNECTIONS: usize = 4;
    const SAMPLES_A_POST: usize = 1000;
    let server = Server::start(database).await?;
    // Buffers and plans that every server has are no growth.
    Poster::connect(&server.http)
        .await?
        .post(&body(1, SAMPLES_A_POST, 0, 0))
        .await?;
    let sleeper = if asleep {
        Some(subscribe(&server.feed).await?)
    } else {
        None
    };
    let (before, _) = server.rss_mb()?;
    let began = Instant::now();
    let mut tasks = Vec::new();
    for connection in 0..CONNECTIONS {
        let mut poster = Poster::connect(&server.http).await?;
        tasks.push(tokio::spawn(async move {
            for second in 1..=WHILE_ASLEEP / SAMPLES_A_POST / CONNECTIONS {
                let first_user = 1 + connection * SAMPLES_A_POST;
                poster.post(&body(first_user, SAMPLES_A_POST, second, 1)).await?;
            }
            Outcome::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let rate = f64::from(u32::try_from(WHILE_ASLEEP)?) / began.elapsed().as_secs_f64();
    let (_, peak) = server.rss_mb()?;
    drop(sleeper);
    server.stop().await?;
    Ok((rate, peak - before))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn scratch_directory() -> PathBuf {
    std::env::temp_dir().join(format!("health-feed-bench-{}", std::process::id()))
}

#[expect(clippy::print_stdout, reason = "figures are what it is for")]
fn say(line: &str) {
    println!("{line}");
}
