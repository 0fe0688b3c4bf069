//! How fast samples go in, against PostgreSQL's own ways in, in one run on one machine.
//!
//! `cargo run --release --example ingest_bench` starts a durable PostgreSQL of its own in a fresh directory (or uses
//! `DATABASE_URL`), and for each measurement a fresh database and a fresh server process. Trust the ratios: both sides of each
//! are measured in turn.

mod child;
mod data;
mod load;
mod phone;
mod reference;
mod sealing;

use std::{error::Error, path::PathBuf, time::Duration};

use clap::Parser;
use health_core::embedded::{Cluster, Options};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    child::Server,
    data::{Rows, Values},
    reference::Reference,
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Measures ingestion against PostgreSQL's own COPY and INSERT.
#[derive(Parser)]
struct Args {
    /// Rounds; the table shows medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Rows of a bulk load.
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    /// Lines of the one long body that watches memory; 0 leaves it out.
    #[arg(long, default_value_t = 10_000_000)]
    long_body: usize,
    /// How long single samples are posted, a round.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Only measurements whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Serve this database and nothing else: what the other processes of a run are.
    #[arg(long, hide = true)]
    serve: Option<String>,
}

/// A line of the table.
struct Line {
    name: String,
    figure: String,
    ratio: Option<f64>,
    wanted: Option<f64>,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let args = Args::parse();
    if let Some(url) = &args.serve {
        return child::serve(url).await;
    }
    let directory = scratch_directory()?;
    let cluster = Cluster::start(Options::new().data_dir(directory.join("health"))).await?;
    let bench = Bench {
        reference: Reference::find(cluster.url("postgres"))?,
        args,
        bar: bar(),
    };
    let lines = bench.run().await;
    bench.bar.finish_and_clear();
    cluster.stop().await?;
    std::fs::remove_dir_all(&directory)?;
    print(&lines?);
    Ok(())
}

struct Bench {
    reference: Reference,
    args: Args,
    bar: ProgressBar,
}

impl Bench {
    async fn run(&self) -> Outcome<Vec<Line>> {
        let mut lines = Vec::new();
        for (name, users, connections, wanted) in [
            ("bulk, 1000 users, 1 connection", 1_000, 1, 1.0),
            ("bulk, 100000 users, 1 connection", 100_000, 1, 0.8),
            ("bulk, 1000 users, 4 connections", 1_000, 4, 1.2),
            ("bulk, 100000 users, 4 connections", 100_000, 4, 1.0),
        ] {
            if self.wants(name) {
                lines.extend(self.bulk(name, users, connections, wanted).await?);
            }
        }
        if self.wants("resent") {
            lines.extend(self.resent().await?);
        }
        if self.wants(phone::NAME) {
            lines.extend(self.phone().await?);
        }
        if self.wants("sealing") {
            lines.extend(self.sealing().await?);
        }
        if self.wants("single samples") {
            lines.extend(self.singles().await?);
        }
        if self.wants("lone client") {
            lines.push(self.lone().await?);
        }
        if self.args.long_body > 0 && self.wants("long body") {
            lines.extend(self.long_body().await?);
        }
        Ok(lines)
    }

    /// A million rows over HTTP against the same rows by `psql \copy`.
    async fn bulk(&self, name: &str, users: usize, connections: usize, wanted: f64) -> Outcome<Vec<Line>> {
        let rows = Rows::new(users, self.args.rows);
        let csv = rows.csv();
        let bodies = rows.bodies(connections, Values::First);
        let (mut copied, mut posted, mut cpu, mut rss) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for round in 0..self.args.rounds {
            self.say(name, round);
            let database = self.reference.fresh_database().await?;
            copied.push(self.reference.copy(&database, &csv).await?);
            let mut server = Server::start(&self.reference.fresh_database().await?).await?;
            posted.push(load::post_all(server.http(), &bodies).await?.as_secs_f64());
            cpu.push(server.cpu_seconds()?);
            rss.push(server.peak_rss_mb()?);
            server.stop().await?;
        }
        let million = float(self.args.rows) / 1e6;
        let ratio = median(&mut copied) / median(&mut posted);
        Ok(vec![
            Line {
                name: format!("{name}: against \\copy"),
                figure: format!("{:.0} k rows/s", float(self.args.rows) / median(&mut posted) / 1e3),
                ratio: Some(ratio),
                wanted: Some(wanted),
            },
            Line {
                name: "    server's CPU, memory at its peak".to_owned(),
                figure: format!(
                    "{:.2} s a million, {:.0} MB",
                    median(&mut cpu) / million,
                    median(&mut rss)
                ),
                ratio: None,
                wanted: None,
            },
        ])
    }

    /// The same samples again, unchanged and with other values, against the first time.
    async fn resent(&self) -> Outcome<Vec<Line>> {
        let rows = Rows::new(1_000, self.args.rows);
        let (first, other) = (rows.bodies(1, Values::First), rows.bodies(1, Values::Other));
        let mut seconds: [Vec<f64>; 3] = Default::default();
        for round in 0..self.args.rounds {
            self.say("resent", round);
            let mut server = Server::start(&self.reference.fresh_database().await?).await?;
            for (place, bodies) in [&first, &first, &other].into_iter().enumerate() {
                seconds[place].push(load::post_all(server.http(), bodies).await?.as_secs_f64());
            }
            server.stop().await?;
        }
        let [first, unchanged, changed] = seconds.each_mut().map(|seconds| median(seconds));
        let line = |name: &str, seconds: f64, wanted: f64| Line {
            name: format!("{name}: against the first sending"),
            figure: format!("{:.0} k rows/s", float(self.args.rows) / seconds / 1e3),
            ratio: Some(first / seconds),
            wanted: Some(wanted),
        };
        Ok(vec![
            line("resent unchanged", unchanged, 0.7),
            line("resent with other values", changed, 0.3),
        ])
    }

    /// One sample a request over 64 connections against pgbench's one row a transaction with 64 clients.
    async fn singles(&self) -> Outcome<Vec<Line>> {
        const CLIENTS: usize = 64;
        let (mut inserted, mut posted, mut p99) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..self.args.rounds {
            self.say("single samples, 64 connections", round);
            let database = self.reference.fresh_database().await?;
            inserted.push(
                self.reference
                    .pgbench(&database, CLIENTS, self.args.seconds)
                    .await?
                    .per_second,
            );
            let mut server = Server::start(&self.reference.fresh_database().await?).await?;
            let mut run = load::singles(server.http(), CLIENTS, Duration::from_secs(self.args.seconds)).await?;
            posted.push(run.per_second());
            p99.push(run.quantile_ms(990));
            server.stop().await?;
        }
        let (inserted, posted) = (median(&mut inserted), median(&mut posted));
        Ok(vec![
            Line {
                name: "single samples, 64 connections: against pgbench".to_owned(),
                figure: format!("{:.1} k/s against {:.1} k/s", posted / 1e3, inserted / 1e3),
                ratio: Some(posted / inserted),
                wanted: Some(1.5),
            },
            Line {
                name: "    p99 (wanted: under 50 ms)".to_owned(),
                figure: format!("{:.1} ms", median(&mut p99)),
                ratio: None,
                wanted: None,
            },
        ])
    }

    /// One client, one sample at a time, against one bare INSERT at a time.
    async fn lone(&self) -> Outcome<Line> {
        let (mut bare, mut posted) = (Vec::new(), Vec::new());
        for round in 0..self.args.rounds {
            self.say("lone client", round);
            let database = self.reference.fresh_database().await?;
            bare.push(
                self.reference
                    .bare_inserts(&database, Duration::from_secs(self.args.seconds))
                    .await?
                    .quantile_ms(500),
            );
            let mut server = Server::start(&self.reference.fresh_database().await?).await?;
            let mut run = load::singles(server.http(), 1, Duration::from_secs(self.args.seconds)).await?;
            posted.push(run.quantile_ms(500));
            server.stop().await?;
        }
        let (bare, posted) = (median(&mut bare), median(&mut posted));
        Ok(Line {
            name: "lone client, p50: times one bare insert (wanted: at most 2.5)".to_owned(),
            figure: format!("{posted:.2} ms against {bare:.2} ms"),
            ratio: Some(posted / bare),
            wanted: None,
        })
    }

    /// Memory while one body of many lines streams in.
    async fn long_body(&self) -> Outcome<Vec<Line>> {
        self.say("long body", 0);
        let rows = Rows::new(1_000, self.args.long_body);
        let mut server = Server::start(&self.reference.fresh_database().await?).await?;
        let seconds = load::post_stream(server.http(), rows, &self.bar).await?.as_secs_f64();
        let line = Line {
            name: format!("one body of {} lines", self.args.long_body),
            figure: format!(
                "{:.0} k rows/s, {:.0} MB at its peak",
                float(self.args.long_body) / seconds / 1e3,
                server.peak_rss_mb()?
            ),
            ratio: None,
            wanted: None,
        };
        server.stop().await?;
        Ok(vec![line])
    }

    fn wants(&self, name: &str) -> bool {
        name.contains(&self.args.only)
    }

    fn say(&self, what: &str, round: usize) {
        self.bar
            .set_message(format!("{what}, round {} of {}", round + 1, self.args.rounds));
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows stay far below 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A directory that the user PostgreSQL runs as can reach.
fn scratch_directory() -> Outcome<PathBuf> {
    let directory = std::env::temp_dir().join(format!("health-ingest-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn print(lines: &[Line]) {
    println!("{:<66} {:>32} {:>7} {:>7}", "measurement", "figure", "ratio", "wanted");
    for Line {
        name,
        figure,
        ratio,
        wanted,
    } in lines
    {
        let number = |value: &Option<f64>| value.map_or(String::new(), |value| format!("{value:.2}"));
        println!("{name:<66} {figure:>32} {:>7} {:>7}", number(ratio), number(wanted));
    }
}
