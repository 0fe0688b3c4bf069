//! Measures the live feed: its latency, how many subscribers it serves, and what subscribers that do not read cost.
//!
//! `cargo run --release --example feed_bench` starts a durable PostgreSQL in a directory of its own. Each measurement
//! has a fresh database and a fresh server process. All clients run in this process, on the same machine.

mod clients;
mod measure;
mod stalled;

use std::process::ExitCode;

use clap::Parser;
use examples::{
    Result,
    bench::{self, RoundArgs, ScratchCluster, ServeArgs},
    exit_code,
};

use crate::{clients::Transport, measure::Bench};

/// Measures the live feed. The measurements are latency, crowd, sleeper, stalled all, stalled users, stalled every and
/// stalled resumed
#[derive(Debug, Parser)]
#[command(name = "feed_bench", max_term_width = 100)]
struct Args {
    #[command(flatten)]
    rounds: RoundArgs,
    /// How long samples are posted in each round
    #[arg(long, value_name = "SECONDS", default_value_t = 8)]
    seconds: u64,
    /// Subscribers to all users in the measurements crowd and stalled
    #[arg(long, value_name = "N", default_value_t = 1000)]
    readers: usize,
    /// The subscribers read server-sent events over HTTP in place of lines over TCP
    #[arg(long)]
    sse: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

impl Args {
    fn transport(&self) -> Transport {
        if self.sse { Transport::Streams } else { Transport::Lines }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code("feed_bench", run(Args::parse()).await)
}

async fn run(args: Args) -> Result<()> {
    bench::run(&args.serve, async |progress| {
        let measure = async |cluster: &ScratchCluster| Bench::new(&args, cluster, progress).run().await;
        ScratchCluster::with("feed", measure).await
    })
    .await
}
