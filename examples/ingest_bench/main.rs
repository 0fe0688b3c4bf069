//! Measures how fast the server stores samples, compared with PostgreSQL's own programs.
//!
//! `cargo run --release --example ingest_bench` starts a durable PostgreSQL in a directory of its own. Each measurement
//! has a fresh database and a fresh server process. Compare the ratios, not the rates: both sides of a ratio are
//! measured in turn, on the same machine, in the same run. `psql` and `pgbench` have to be installed.

mod baseline;
mod dataset;
mod load;
mod phones;
mod protection;
mod sealing;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use examples::{
    Result,
    bench::{self, Progress, RoundArgs, Row, ScratchCluster, ServeArgs, float, median},
    exit_code,
    server_process::ServerProcess,
};

use crate::{
    baseline::Baseline,
    dataset::{Dataset, HeartRates},
};

/// Measures how fast the server stores samples, compared with PostgreSQL's COPY and INSERT
#[derive(Debug, Parser)]
#[command(name = "ingest_bench", max_term_width = 100)]
struct Args {
    #[command(flatten)]
    rounds: RoundArgs,
    /// Samples of a bulk load
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    rows: usize,
    /// Samples of the one long body that shows the server's memory; 0 skips it
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    long_body: usize,
    /// How long single samples are posted in each round
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    seconds: u64,
    #[command(flatten)]
    serve: ServeArgs,
}

struct Bench<'a> {
    args: &'a Args,
    baseline: Baseline<'a>,
    progress: &'a Progress,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code("ingest_bench", run(Args::parse()).await)
}

async fn run(args: Args) -> Result<()> {
    bench::run(&args.serve, async |progress| {
        let measure = async |cluster: &ScratchCluster| {
            let bench = Bench {
                args: &args,
                baseline: Baseline::new(cluster)?,
                progress,
            };
            bench.run().await
        };
        ScratchCluster::with("ingest", measure).await
    })
    .await
}

impl Bench<'_> {
    async fn run(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for (name, users, connections, goal) in [
            ("bulk, 1000 users, 1 connection", 1_000, 1, 1.0),
            ("bulk, 100000 users, 1 connection", 100_000, 1, 0.8),
            ("bulk, 1000 users, 4 connections", 1_000, 4, 1.2),
            ("bulk, 100000 users, 4 connections", 100_000, 4, 1.0),
        ] {
            if self.wants(name) {
                rows.extend(self.bulk(name, users, connections, goal).await?);
            }
        }
        if self.wants("resent") {
            rows.extend(self.resent().await?);
        }
        if self.wants(phones::NAME) {
            rows.extend(self.phones().await?);
        }
        if self.wants("sealing") {
            rows.extend(self.sealing().await?);
        }
        if self.wants("single samples") {
            rows.extend(self.single_samples().await?);
        }
        if self.wants(Self::BESIDE_BULK) {
            rows.extend(self.samples_beside_bulk().await?);
        }
        if self.wants("lone client") {
            rows.push(self.lone_client().await?);
        }
        if self.wants(protection::TOKEN) {
            rows.extend(self.single_samples_with_token().await?);
        }
        if self.wants(protection::TLS) {
            rows.push(self.bulk_over_tls().await?);
        }
        if self.args.long_body > 0 && self.wants("long body") {
            rows.push(self.long_body().await?);
        }
        Ok(rows)
    }

    /// Posts samples as NDJSON, and loads the same samples with `psql \copy`.
    async fn bulk(&self, name: &str, users: usize, connections: usize, goal: f64) -> Result<Vec<Row>> {
        let dataset = Dataset::new(users, self.args.rows);
        let csv = dataset.csv();
        let bodies = dataset.bodies(connections, HeartRates::Original);
        let (mut copy_seconds, mut post_seconds) = (Vec::new(), Vec::new());
        let (mut cpu_seconds, mut peak_mb) = (Vec::new(), Vec::new());
        for _ in self.rounds(name) {
            let database = self.baseline.fresh_database().await?;
            copy_seconds.push(self.baseline.copy(&database, &csv).await?);
            let mut server = self.fresh_server().await?;
            post_seconds.push(load::post_at_once(server.http(), &bodies).await?);
            cpu_seconds.push(server.cpu_seconds()?);
            peak_mb.push(server.peak_rss_mib()?);
            server.stop().await?;
        }
        let (copy_seconds, post_seconds) = (median(copy_seconds), median(post_seconds));
        let cpu_per_million = median(cpu_seconds) / (float(self.args.rows) / 1e6);
        Ok(vec![
            Row::new(format!("{name}, to \\copy"), self.row_rate(post_seconds)).at_least(
                copy_seconds / post_seconds,
                goal,
                "",
            ),
            Row::new(
                "    server's CPU time for a million rows, peak memory",
                format!("{cpu_per_million:.2} s, {:.0} MB", median(peak_mb)),
            ),
        ])
    }

    /// Posts samples, then the same samples again, then the same with other heart rates.
    async fn resent(&self) -> Result<Vec<Row>> {
        let dataset = Dataset::new(1_000, self.args.rows);
        let original = dataset.bodies(1, HeartRates::Original);
        let corrected = dataset.bodies(1, HeartRates::Corrected);
        let mut seconds: [Vec<f64>; 3] = Default::default();
        for _ in self.rounds("resent") {
            let mut server = self.fresh_server().await?;
            for (bodies, seconds) in [&original, &original, &corrected].into_iter().zip(&mut seconds) {
                seconds.push(load::post_at_once(server.http(), bodies).await?);
            }
            server.stop().await?;
        }
        let [first, unchanged, changed] = seconds.map(median);
        let row = |name: &str, seconds: f64, goal: f64| {
            Row::new(format!("{name}, to the first upload"), self.row_rate(seconds)).at_least(first / seconds, goal, "")
        };
        Ok(vec![
            row("resent unchanged", unchanged, 0.7),
            row("resent with other values", changed, 0.3),
        ])
    }

    /// Posts one sample per request over 64 connections, and inserts one row per transaction with 64 pgbench clients.
    async fn single_samples(&self) -> Result<Vec<Row>> {
        const CLIENTS: usize = 64;
        const NAME: &str = "single samples, 64 connections";
        let (mut inserted, mut posted, mut p99) = (Vec::new(), Vec::new(), Vec::new());
        for _ in self.rounds(NAME) {
            let database = self.baseline.fresh_database().await?;
            inserted.push(self.baseline.pgbench(&database, CLIENTS, self.args.seconds).await?);
            let mut server = self.fresh_server().await?;
            let calls = load::post_single_samples(server.http(), None, CLIENTS, self.time()).await?;
            posted.push(calls.per_second);
            p99.push(calls.latencies.percentile_ms(99));
            server.stop().await?;
        }
        let (inserted, posted, p99) = (median(inserted), median(posted), median(p99));
        Ok(vec![
            Row::new(
                format!("{NAME}, to pgbench"),
                format!("{:.1} to {:.1} k/s", posted / 1e3, inserted / 1e3),
            )
            .at_least(posted / inserted, 1.5, ""),
            Row::new("    p99", format!("{p99:.1} ms")).at_most(p99, 50.0, " ms"),
        ])
    }

    const BESIDE_BULK: &'static str = "single samples beside two bulk uploads";

    /// Posts two long bodies, alone and beside clients that post single samples.
    async fn samples_beside_bulk(&self) -> Result<Vec<Row>> {
        const CLIENTS: usize = 8;
        let bodies = Dataset::new(1_000, self.args.rows).bodies(2, HeartRates::Original);
        let (mut alone, mut beside, mut p99) = (Vec::new(), Vec::new(), Vec::new());
        for _ in self.rounds(Self::BESIDE_BULK) {
            let mut server = self.fresh_server().await?;
            alone.push(load::post_at_once(server.http(), &bodies).await?);
            server.stop().await?;
            let mut server = self.fresh_server().await?;
            let (seconds, latencies) = load::post_beside_samples(server.http(), &bodies, CLIENTS).await?;
            beside.push(seconds);
            p99.push(latencies.percentile_ms(99));
            server.stop().await?;
        }
        let (alone, beside, p99) = (median(alone), median(beside), median(p99));
        Ok(vec![
            Row::new(
                format!("{}, p99 of a sample", Self::BESIDE_BULK),
                format!("{p99:.0} ms"),
            )
            .at_most(p99, 50.0, " ms"),
            Row::new("    the bulk uploads, to alone", self.row_rate(beside)).at_least(alone / beside, 0.95, ""),
        ])
    }

    /// Posts one sample after the other from one client, and inserts one row after the other.
    async fn lone_client(&self) -> Result<Row> {
        let (mut inserted, mut posted) = (Vec::new(), Vec::new());
        for _ in self.rounds("lone client") {
            let database = self.baseline.fresh_database().await?;
            let calls = self.baseline.single_inserts(&database, self.time()).await?;
            inserted.push(calls.latencies.percentile_ms(50));
            let mut server = self.fresh_server().await?;
            let calls = load::post_single_samples(server.http(), None, 1, self.time()).await?;
            posted.push(calls.latencies.percentile_ms(50));
            server.stop().await?;
        }
        let (inserted, posted) = (median(inserted), median(posted));
        let row = Row::new(
            "lone client, p50 of a sample, to one INSERT",
            format!("{posted:.2} to {inserted:.2} ms"),
        );
        Ok(row.at_most(posted / inserted, 2.5, ""))
    }

    /// Posts one long body and reads the server's peak memory.
    async fn long_body(&self) -> Result<Row> {
        let dataset = Dataset::new(1_000, self.args.long_body);
        let mut server = self.fresh_server().await?;
        let seconds = load::post_as_stream(server.http(), dataset, self.progress).await?;
        let rate = float(self.args.long_body) / seconds / 1e3;
        let row = Row::new(
            format!("long body of {} samples, peak memory", self.args.long_body),
            format!("{rate:.0} k rows/s, {:.0} MB", server.peak_rss_mib()?),
        );
        server.stop().await?;
        Ok(row)
    }

    async fn fresh_server(&self) -> Result<ServerProcess> {
        Ok(ServerProcess::start(&self.baseline.fresh_database().await?).await?)
    }

    fn row_rate(&self, seconds: f64) -> String {
        format!("{:.0} k rows/s", float(self.args.rows) / seconds / 1e3)
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.args.seconds)
    }

    fn wants(&self, name: &str) -> bool {
        self.args.rounds.wants(name)
    }

    fn rounds(&self, name: &str) -> impl Iterator<Item = usize> + use<> {
        self.args.rounds.rounds(name, self.progress)
    }
}
