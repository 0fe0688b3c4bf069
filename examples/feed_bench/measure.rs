//! The measurements.

use std::{
    collections::HashMap,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use examples::{
    Connection, Result,
    bench::{Progress, Row, ScratchCluster, float, median, percentile},
    server_process::ServerProcess,
};
use tokio::time::{sleep, timeout};

use crate::{
    Args,
    clients::{NDJSON, Pace, Post, Transport, body, count_events, post_evenly, record_arrivals, subscribe},
    stalled::stalled,
};

/// A run of the benchmark.
pub(crate) struct Bench<'a> {
    pub(crate) args: &'a Args,
    cluster: &'a ScratchCluster,
    progress: &'a Progress,
    databases: u32,
}

/// One round of the measurement `latency`. Times are in milliseconds.
struct LatencyRound {
    /// From the response of a post to the event; negative if the event arrived first.
    after_response_p50: f64,
    after_response_p99: f64,
    /// Percent of the events that arrived before the response.
    before_response: f64,
    /// From the first byte of a post to the event.
    after_send_p50: f64,
    after_send_p99: f64,
    events: usize,
}

/// One round of the measurement `crowd`.
struct CrowdRound {
    samples_per_second: f64,
    /// `lagged` events of all subscribers.
    lagged: u64,
    /// Subscribers that did not receive every sample in time.
    incomplete: usize,
    /// From the last response of a post to the last event of the last subscriber.
    last_event_ms: f64,
    peak_mb: f64,
    cpu_share: f64,
}

/// One load of the measurement `sleeper`.
struct Load {
    samples_per_second: f64,
    memory_growth_mb: f64,
}

/// Samples of one load.
const LOAD_SAMPLES: usize = 200_000;

/// Pairs of loads in a round. A load takes only a second or two, so one pair says little.
const PAIRS_PER_ROUND: usize = 4;

/// How long many subscribers may take to receive the last events.
const LAST_EVENTS_OF_CROWD: Duration = Duration::from_secs(20);

/// The same for ten subscribers.
const LAST_EVENTS_OF_TEN: Duration = Duration::from_secs(1);

impl<'a> Bench<'a> {
    pub(crate) fn new(args: &'a Args, cluster: &'a ScratchCluster, progress: &'a Progress) -> Self {
        Self {
            args,
            cluster,
            progress,
            databases: 0,
        }
    }

    pub(crate) async fn run(mut self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        if self.args.rounds.wants("latency") {
            rows.extend(self.latency().await?);
        }
        if self.args.rounds.wants("crowd") {
            rows.extend(self.crowd().await?);
        }
        if self.args.rounds.wants("sleeper") {
            rows.extend(self.sleeper().await?);
        }
        rows.extend(stalled(&mut self).await?);
        Ok(rows)
    }

    async fn latency(&mut self) -> Result<Vec<Row>> {
        let mut rounds = Vec::new();
        for _ in self.rounds("latency") {
            rounds.push(latency_round(self.args, &self.fresh_database()).await?);
        }
        let median_of = |field: fn(&LatencyRound) -> f64| median(rounds.iter().map(field));
        let p50 = median_of(|round| round.after_response_p50);
        let p99 = median_of(|round| round.after_response_p99);
        let events: usize = rounds.iter().map(|round| round.events).sum();
        Ok(vec![
            Row::new(
                "latency: response of a post to event, 5000 samples/s, 10 subscribers, p50",
                format!("{p50:.2} ms"),
            )
            .at_most(p50, 1.0, " ms"),
            Row::new("    p99", format!("{p99:.2} ms")).at_most(p99, 10.0, " ms"),
            Row::new(
                format!("    events that arrived before the response (negative above), of {events}"),
                format!("{:.1} %", median_of(|round| round.before_response)),
            ),
            Row::new(
                "    first byte of a post to event, p50 / p99",
                format!(
                    "{:.2} / {:.2} ms",
                    median_of(|round| round.after_send_p50),
                    median_of(|round| round.after_send_p99)
                ),
            ),
        ])
    }

    async fn crowd(&mut self) -> Result<Vec<Row>> {
        let mut rounds = Vec::new();
        for _ in self.rounds("crowd") {
            rounds.push(crowd_round(self.args, &self.fresh_database()).await?);
        }
        let median_of = |field: fn(&CrowdRound) -> f64| median(rounds.iter().map(field));
        let lagged: u64 = rounds.iter().map(|round| round.lagged).sum();
        let incomplete: usize = rounds.iter().map(|round| round.incomplete).sum();
        let peak_mb = median_of(|round| round.peak_mb);
        Ok(vec![
            Row::new(
                format!(
                    "crowd: lagged events of {} subscribers at {:.0} samples/s",
                    self.args.readers,
                    median_of(|round| round.samples_per_second)
                ),
                lagged.to_string(),
            )
            .at_most(float(usize::try_from(lagged)?), 0.0, ""),
            Row::new(
                "    subscribers that did not receive every sample",
                incomplete.to_string(),
            )
            .at_most(float(incomplete), 0.0, ""),
            Row::new("    server's peak memory", format!("{peak_mb:.0} MB")).at_most(peak_mb, 200.0, " MB"),
            Row::new(
                "    last response to last event, server's CPU use",
                format!(
                    "{:.0} ms, {:.2}",
                    median_of(|round| round.last_event_ms),
                    median_of(|round| round.cpu_share)
                ),
            ),
        ])
    }

    /// Loads a server with a subscriber that does not read, and one without, in turn.
    async fn sleeper(&mut self) -> Result<Vec<Row>> {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in self.rounds("sleeper") {
            for pair in 0..PAIRS_PER_ROUND {
                // The second load of a pair finds warmer caches.
                for has_sleeper in [pair % 2 == 0, pair % 2 != 0] {
                    let load = load(&self.fresh_database(), self.args.transport(), usize::from(has_sleeper)).await?;
                    if has_sleeper { &mut with } else { &mut without }.push(load);
                }
            }
        }
        let rate = |loads: &[Load]| median(loads.iter().map(|load| load.samples_per_second));
        let growth = |loads: &[Load]| median(loads.iter().map(|load| load.memory_growth_mb));
        Ok(vec![
            Row::new(
                format!("sleeper: storing {LOAD_SAMPLES} samples with one that does not read, to without"),
                format!("{:.0} to {:.0} k samples/s", rate(&with) / 1e3, rate(&without) / 1e3),
            )
            .at_least(rate(&with) / rate(&without), 0.95, ""),
            Row::new(
                "    growth of the server's memory, with and without",
                format!("{:.0}, {:.0} MB", growth(&with), growth(&without)),
            )
            .at_most(growth(&with), 64.0, " MB"),
        ])
    }

    pub(crate) fn rounds(&self, name: &str) -> impl Iterator<Item = usize> + use<> {
        self.args.rounds.rounds(name, self.progress)
    }

    /// Returns the URL of a database that the server creates.
    pub(crate) fn fresh_database(&mut self) -> String {
        self.databases += 1;
        self.cluster.url(&format!("feed_bench_{}", self.databases))
    }
}

/// Measures the latency of the events of ten subscribers.
async fn latency_round(args: &Args, database_url: &str) -> Result<LatencyRound> {
    const SUBSCRIBERS: usize = 10;
    let mut server = ServerProcess::start(database_url).await?;
    let mut subscribers = Vec::new();
    for _ in 0..SUBSCRIBERS {
        subscribers.push(record_arrivals(subscribe(&server, args.transport()).await?));
    }
    let pace = Pace {
        connections: 10,
        samples_per_post: 10,
        samples_per_second: 5000,
        time: Duration::from_secs(args.seconds),
    };
    let posts = post_evenly(server.http(), pace).await?;
    sleep(LAST_EVENTS_OF_TEN).await;
    server.stop().await?;
    let by_number: HashMap<usize, Post> = posts.iter().map(|post| (post.number, *post)).collect();
    let expected = posts.len() * pace.samples_per_post;
    let (mut after_response, mut after_send) = (Vec::new(), Vec::new());
    for subscriber in subscribers {
        let arrivals = subscriber.await?;
        if arrivals.len() != expected {
            return Err(format!("a subscriber received {} of {expected} samples", arrivals.len()).into());
        }
        for (number, arrived) in arrivals {
            let post = by_number.get(&number).ok_or("an event is of no post of this bench")?;
            after_response.push(signed_ms(post.answered, arrived));
            after_send.push(signed_ms(post.sent, arrived));
        }
    }
    let before_response = after_response.iter().filter(|wait| **wait < 0.0).count();
    let percentile_of = |waits: &[f64], percent| percentile(waits.iter().copied(), percent);
    Ok(LatencyRound {
        after_response_p50: percentile_of(&after_response, 50),
        after_response_p99: percentile_of(&after_response, 99),
        before_response: float(before_response) / float(after_response.len()) * 100.0,
        after_send_p50: percentile_of(&after_send, 50),
        after_send_p99: percentile_of(&after_send, 99),
        events: after_response.len(),
    })
}

/// Serves many subscribers to all users.
async fn crowd_round(args: &Args, database_url: &str) -> Result<CrowdRound> {
    let mut server = ServerProcess::start(database_url).await?;
    let mut subscribers = Vec::new();
    for _ in 0..args.readers {
        subscribers.push(count_events(subscribe(&server, args.transport()).await?));
    }
    let pace = Pace {
        connections: 10,
        samples_per_post: 10,
        samples_per_second: 1000,
        time: Duration::from_secs(args.seconds),
    };
    let (start, cpu_before) = (Instant::now(), server.cpu_seconds()?);
    let posts = post_evenly(server.http(), pace).await?;
    let last_response = Instant::now();
    let expected = u64::try_from(posts.len() * pace.samples_per_post)?;
    let incomplete = || {
        let received = subscribers.iter().map(|counts| counts.samples.load(Relaxed));
        received.filter(|received| *received < expected).count()
    };
    let all_received = async {
        while incomplete() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    // The result has the number of subscribers for which this was not long enough.
    let _ = timeout(LAST_EVENTS_OF_CROWD, all_received).await;
    let round = CrowdRound {
        samples_per_second: f64::from(u32::try_from(expected)?) / pace.time.as_secs_f64(),
        lagged: subscribers.iter().map(|counts| counts.lagged.load(Relaxed)).sum(),
        incomplete: incomplete(),
        last_event_ms: last_response.elapsed().as_secs_f64() * 1e3,
        peak_mb: server.peak_rss_mib()?,
        cpu_share: (server.cpu_seconds()? - cpu_before) / start.elapsed().as_secs_f64(),
    };
    server.stop().await?;
    Ok(round)
}

/// Posts samples from four connections as fast as possible, while some subscribers do not read.
async fn load(database_url: &str, transport: Transport, sleepers: usize) -> Result<Load> {
    const CONNECTIONS: usize = 4;
    const SAMPLES_PER_POST: usize = 1000;
    let mut server = ServerProcess::start(database_url).await?;
    // A first request, because the buffers and plans that every server needs are not growth.
    let first = body(1, SAMPLES_PER_POST, 0, 0);
    Connection::open(server.http())
        .await?
        .ingest(NDJSON, first.as_bytes())
        .await?;
    let memory_before = server.rss_mib()?;
    let mut sleeping = Vec::new();
    for _ in 0..sleepers {
        sleeping.push(subscribe(&server, transport).await?);
    }
    let start = Instant::now();
    let mut clients = Vec::new();
    for client in 0..CONNECTIONS {
        let mut connection = Connection::open(server.http()).await?;
        clients.push(tokio::spawn(async move {
            for second in 1..=LOAD_SAMPLES / SAMPLES_PER_POST / CONNECTIONS {
                let body = body(1 + client * SAMPLES_PER_POST, SAMPLES_PER_POST, second, 1);
                connection.ingest(NDJSON, body.as_bytes()).await?;
            }
            Result::Ok(())
        }));
    }
    for client in clients {
        client.await??;
    }
    let load = Load {
        samples_per_second: float(LOAD_SAMPLES) / start.elapsed().as_secs_f64(),
        memory_growth_mb: server.peak_rss_mib()? - memory_before,
    };
    drop(sleeping);
    server.stop().await?;
    Ok(load)
}

/// Returns the milliseconds from one moment to another, negative if the other is earlier.
fn signed_ms(from: Instant, to: Instant) -> f64 {
    let seconds = match to.checked_duration_since(from) {
        Some(later) => later.as_secs_f64(),
        None => -(from - to).as_secs_f64(),
    };
    seconds * 1e3
}
