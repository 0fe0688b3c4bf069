//! What is measured.

use std::{
    collections::HashMap,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use examples::server_process::ServerProcess;
use health_core::embedded::Cluster;
use indicatif::ProgressBar;
use tokio::time::{sleep, timeout};

use crate::{
    Args, Line, Outcome,
    clients::{Posted, Poster, body, count, note_arrivals, post_evenly, subscribe},
};

/// A run of the bench.
pub(crate) struct Bench<'a> {
    args: &'a Args,
    cluster: &'a Cluster,
    bar: &'a ProgressBar,
    databases: u32,
}

/// One round of the latency, in milliseconds.
struct Latency {
    /// From the answer of the post, and so below zero where the line came first.
    p50: f64,
    p99: f64,
    /// Parts of a hundred of the lines.
    before_the_answer: f64,
    /// From the moment the post went out.
    whole_p50: f64,
    whole_p99: f64,
    lines: usize,
}

/// One round of many readers.
struct Crowd {
    rate: f64,
    lagged: u64,
    missing: usize,
    last_line_ms: f64,
    peak_mb: f64,
    cpu_share: f64,
}

/// One round of ingesting.
struct Ingested {
    rate: f64,
    growth_mb: f64,
}

/// Samples ingested while readers sleep.
const WHILE_ASLEEP: usize = 200_000;

/// They are in within a second or two, so that one pair says little.
const PAIRS_A_ROUND: usize = 4;

/// How long readers may take for the last lines.
const LAST_LINES: Duration = Duration::from_secs(20);

/// The same where there are ten of them.
const LAST_LINES_OF_FEW: Duration = Duration::from_secs(1);

impl<'a> Bench<'a> {
    pub(crate) fn new(args: &'a Args, cluster: &'a Cluster, bar: &'a ProgressBar) -> Self {
        Self {
            args,
            cluster,
            bar,
            databases: 0,
        }
    }

    pub(crate) async fn run(mut self) -> Outcome<Vec<Line>> {
        let mut lines = Vec::new();
        if self.wants("latency") {
            lines.extend(self.latency().await?);
        }
        if self.wants("crowd") && self.args.only != "sleeping crowd" {
            lines.extend(self.crowd().await?);
        }
        if self.wants("sleeper") {
            lines.extend(self.sleepers("sleeper", 1).await?);
        }
        if self.wants("sleeping crowd") {
            lines.extend(self.sleepers("sleeping crowd", self.args.readers).await?);
        }
        Ok(lines)
    }

    async fn latency(&mut self) -> Outcome<Vec<Line>> {
        let mut rounds = Vec::new();
        for round in 0..self.args.rounds {
            self.say("latency", round);
            rounds.push(latency(self.args, &self.database()).await?);
        }
        let of = |pick: fn(&Latency) -> f64| median(rounds.iter().map(pick));
        let (p50, p99) = (of(|round| round.p50), of(|round| round.p99));
        let lines: usize = rounds.iter().map(|round| round.lines).sum();
        Ok(vec![
            Line {
                name: "latency: a post's answer to the line, 5000 samples/s, 10 readers, p50".to_owned(),
                figure: format!("{p50:.2} ms"),
                wanted: Some(("under 1 ms", p50 < 1.0)),
            },
            Line {
                name: "    p99".to_owned(),
                figure: format!("{p99:.2} ms"),
                wanted: Some(("under 10 ms", p99 < 10.0)),
            },
            Line {
                name: format!("    of {lines} lines in all rounds, before the answer came (below zero above)"),
                figure: format!("{:.1} %", of(|round| round.before_the_answer)),
                wanted: None,
            },
            Line {
                name: "    the post's first byte to the line, p50 / p99".to_owned(),
                figure: format!(
                    "{:.2} / {:.2} ms",
                    of(|round| round.whole_p50),
                    of(|round| round.whole_p99)
                ),
                wanted: None,
            },
        ])
    }

    async fn crowd(&mut self) -> Outcome<Vec<Line>> {
        let mut rounds = Vec::new();
        for round in 0..self.args.rounds {
            self.say("crowd", round);
            rounds.push(crowd(self.args, &self.database()).await?);
        }
        let of = |pick: fn(&Crowd) -> f64| median(rounds.iter().map(pick));
        let lagged: u64 = rounds.iter().map(|round| round.lagged).sum();
        let missing: usize = rounds.iter().map(|round| round.missing).sum();
        let peak = of(|round| round.peak_mb);
        Ok(vec![
            Line {
                name: format!(
                    "crowd: {} readers of everyone at {:.0} samples/s, lagged in all rounds",
                    self.args.readers,
                    of(|round| round.rate)
                ),
                figure: lagged.to_string(),
                wanted: Some(("none", lagged == 0)),
            },
            Line {
                name: "    readers that did not get every line".to_owned(),
                figure: missing.to_string(),
                wanted: Some(("none", missing == 0)),
            },
            Line {
                name: "    server's memory at its peak".to_owned(),
                figure: format!("{peak:.0} MB"),
                wanted: Some(("under 200 MB", peak < 200.0)),
            },
            Line {
                name: "    the last answer to the last line of the last reader, server's CPU".to_owned(),
                figure: format!(
                    "{:.0} ms, {:.2}",
                    of(|round| round.last_line_ms),
                    of(|round| round.cpu_share)
                ),
                wanted: None,
            },
        ])
    }

    /// Ingesting with readers that subscribe and never read, against ingesting without, in turn.
    async fn sleepers(&mut self, name: &str, readers: usize) -> Outcome<Vec<Line>> {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for pair in 0..self.args.rounds * PAIRS_A_ROUND {
            self.say(name, pair / PAIRS_A_ROUND);
            // Whoever comes second finds warmer caches.
            for asleep in [pair % 2 == 0, pair % 2 != 0] {
                let database = self.database();
                let ingested = ingest(&database, if asleep { readers } else { 0 }).await?;
                if asleep { &mut with } else { &mut without }.push(ingested);
            }
        }
        let rate = |rounds: &[Ingested]| median(rounds.iter().map(|round| round.rate));
        let growth = |rounds: &[Ingested]| median(rounds.iter().map(|round| round.growth_mb));
        let ratio = rate(&with) / rate(&without);
        let alone = readers == 1;
        Ok(vec![
            Line {
                name: format!("{name}: {WHILE_ASLEEP} samples ingested beside {readers} that never read, to without"),
                figure: format!("{ratio:.3}"),
                wanted: alone.then_some(("over 0.95", ratio > 0.95)),
            },
            Line {
                name: "    samples/s with / without".to_owned(),
                figure: format!("{:.0} / {:.0} k", rate(&with) / 1e3, rate(&without) / 1e3),
                wanted: None,
            },
            Line {
                name: "    the server's memory grew with / without by".to_owned(),
                figure: format!("{:.0} / {:.0} MB", growth(&with), growth(&without)),
                wanted: alone.then(|| ("under 64 MB", growth(&with) < 64.0)),
            },
        ])
    }

    fn wants(&self, name: &str) -> bool {
        name.contains(&self.args.only)
    }

    fn say(&self, what: &str, round: usize) {
        self.bar
            .set_message(format!("{what}, round {} of {}", round + 1, self.args.rounds));
    }

    /// A fresh database's URL; the server makes it.
    fn database(&mut self) -> String {
        self.databases += 1;
        self.cluster.url(&format!("feed_bench_{}", self.databases))
    }
}

/// How long lines take to ten readers.
async fn latency(args: &Args, database: &str) -> Outcome<Latency> {
    const READERS: usize = 10;
    const SAMPLES_A_POST: usize = 10;
    let mut server = ServerProcess::start(database).await?;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(note_arrivals(subscribe(server.feed()).await?, usize::MAX));
    }
    let time = Duration::from_secs(args.seconds);
    let posts = post_evenly(server.http(), 10, SAMPLES_A_POST, 5000, time).await?;
    sleep(LAST_LINES_OF_FEW).await;
    server.stop().await?;
    let by_number: HashMap<usize, Posted> = posts.iter().map(|post| (post.number, *post)).collect();
    let (mut waits, mut whole) = (Vec::new(), Vec::new());
    for reader in readers {
        let arrivals = reader.await?;
        if arrivals.len() != posts.len() * SAMPLES_A_POST {
            return Err(format!("{} of {} samples arrived", arrivals.len(), posts.len() * SAMPLES_A_POST).into());
        }
        for (number, at) in arrivals {
            let post = by_number.get(&number).ok_or("a line nobody posted")?;
            waits.push(signed_ms(post.answered, at));
            whole.push(signed_ms(post.began, at));
        }
    }
    waits.sort_by(f64::total_cmp);
    whole.sort_by(f64::total_cmp);
    let before = waits.partition_point(|wait| *wait < 0.0);
    Ok(Latency {
        p50: percentile(&waits, 50),
        p99: percentile(&waits, 99),
        before_the_answer: float(before) / float(waits.len()) * 100.0,
        whole_p50: percentile(&whole, 50),
        whole_p99: percentile(&whole, 99),
        lines: waits.len(),
    })
}

/// Many readers of everyone.
async fn crowd(args: &Args, database: &str) -> Outcome<Crowd> {
    let mut server = ServerProcess::start(database).await?;
    let mut readers = Vec::new();
    for _ in 0..args.readers {
        readers.push(count(subscribe(server.feed()).await?));
    }
    let time = Duration::from_secs(args.seconds);
    let (began, cpu) = (Instant::now(), server.cpu_seconds()?);
    let posts = post_evenly(server.http(), 10, 10, 1000, time).await?;
    let answered = Instant::now();
    let wanted = u64::try_from(posts.len() * 10)?;
    let behind = || {
        let heard = readers.iter().map(|(heard, _)| heard.samples.load(Relaxed));
        heard.filter(|heard| *heard < wanted).count()
    };
    let all = async {
        while behind() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    // Who did not get all by then is counted below.
    let _ = timeout(LAST_LINES, all).await;
    let round = Crowd {
        rate: f64::from(u32::try_from(wanted)?) / time.as_secs_f64(),
        lagged: readers.iter().map(|(heard, _)| heard.lagged.load(Relaxed)).sum(),
        missing: behind(),
        last_line_ms: answered.elapsed().as_secs_f64() * 1e3,
        peak_mb: server.peak_rss_mb()?,
        cpu_share: (server.cpu_seconds()? - cpu) / began.elapsed().as_secs_f64(),
    };
    server.stop().await?;
    Ok(round)
}

/// Samples from four connections as fast as they go, beside readers that never read.
async fn ingest(database: &str, asleep: usize) -> Outcome<Ingested> {
    const CONNECTIONS: usize = 4;
    const SAMPLES_A_POST: usize = 1000;
    let mut server = ServerProcess::start(database).await?;
    // Buffers and plans that every server has are no growth.
    Poster::connect(server.http())
        .await?
        .post(&body(1, SAMPLES_A_POST, 0, 0))
        .await?;
    let before = server.rss_mb()?;
    let mut sleepers = Vec::new();
    for _ in 0..asleep {
        sleepers.push(subscribe(server.feed()).await?);
    }
    let began = Instant::now();
    let mut tasks = Vec::new();
    for connection in 0..CONNECTIONS {
        let mut poster = Poster::connect(server.http()).await?;
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
    let round = Ingested {
        rate: float(WHILE_ASLEEP) / began.elapsed().as_secs_f64(),
        growth_mb: server.peak_rss_mb()? - before,
    };
    drop(sleepers);
    server.stop().await?;
    Ok(round)
}

fn signed_ms(from: Instant, to: Instant) -> f64 {
    to.checked_duration_since(from)
        .map_or_else(|| -(from - to).as_secs_f64(), |wait| wait.as_secs_f64())
        * 1e3
}

fn percentile(sorted: &[f64], hundredths: usize) -> f64 {
    sorted.get(sorted.len() * hundredths / 100).copied().unwrap_or(f64::NAN)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    percentile(&values, 50)
}

#[expect(clippy::cast_precision_loss, reason = "counts of lines stay far below 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}
