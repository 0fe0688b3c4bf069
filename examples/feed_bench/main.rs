//! How fast the live feed is, how many it serves, and what readers that sleep cost.
//!
//! `cargo run --release --example feed_bench` starts a durable PostgreSQL of its own in a fresh directory, and for each
//! measurement a fresh database and a fresh server process. Readers and posters run in this process, on the same machine.

mod clients;
mod measure;

use std::{error::Error, path::PathBuf};

use clap::Parser;
use examples::server_process;
use health_core::embedded::{Cluster, Options};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Duration;

use crate::measure::Bench;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Measures the live feed.
#[derive(Parser)]
struct Args {
    /// Rounds; the table shows medians
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long samples are posted, a round
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Readers of everyone at once
    #[arg(long, default_value_t = 1000)]
    readers: usize,
    /// Only measurements whose name contains this: latency, crowd, sleeper, sleeping crowd
    #[arg(long, default_value = "")]
    only: String,
    /// Serve this database and nothing else: what the other processes of a run are
    #[arg(long, hide = true)]
    serve: Option<String>,
}

/// A line of the table.
struct Line {
    name: String,
    figure: String,
    /// What it should be, in words, and whether it is.
    wanted: Option<(&'static str, bool)>,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let args = Args::parse();
    if let Some(url) = &args.serve {
        return server_process::serve(url).await;
    }
    let directory = scratch_directory();
    std::fs::create_dir_all(&directory)?;
    let cluster = Cluster::start(Options::new().data_dir(directory.join("health"))).await?;
    let bar = bar();
    let lines = Bench::new(&args, &cluster, &bar).run().await;
    bar.finish_and_clear();
    cluster.stop().await?;
    std::fs::remove_dir_all(&directory)?;
    print(&lines?);
    Ok(())
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A directory that the user PostgreSQL runs as can reach.
fn scratch_directory() -> PathBuf {
    std::env::temp_dir().join(format!("health-feed-bench-{}", std::process::id()))
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn print(lines: &[Line]) {
    println!("{:<72} {:>26}  wanted", "measurement", "median");
    for Line { name, figure, wanted } in lines {
        let verdict = wanted.map_or(String::new(), |(wanted, reached)| {
            format!("  {wanted}{}", if reached { "" } else { ", MISSED" })
        });
        println!("{name:<72} {figure:>26}{verdict}");
    }
}
