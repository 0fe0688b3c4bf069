//! Runs Health for hours, lets it fail again and again, and compares every answer with what was acknowledged.
//!
//! `script/soak --for 2h` starts a PostgreSQL and two servers in a directory of its own. Writers post samples at a
//! constant rate, some of them late, repeated or corrected, and erase ranges and users. Readers follow the feed over
//! TCP and HTTP. A client asks for statistics. Every few minutes servers or PostgreSQL are killed. An oracle knows what
//! was acknowledged: each difference ends the program with status 1 and a sentence. At the end, the program draws what
//! it has measured.

mod axis;
mod chart;
mod checks;
mod client;
mod erasing;
mod faults;
mod figures;
mod ledger;
mod monitor;
mod oracle;
mod panels;
mod person;
mod queries;
mod readers;
mod recorder;
mod run;
mod servers;
mod writer;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use examples::{
    Result,
    bench::{ScratchCluster, ServeArgs},
    exit_code, server_process,
};
use health_core::flags::parse_duration;
use tokio::time::Duration;

/// Runs Health for hours while servers and PostgreSQL are killed, and checks that nothing is lost
#[derive(Debug, Parser)]
#[command(name = "soak", max_term_width = 100)]
struct Args {
    /// How long to write; the comparison of everything comes afterwards
    #[arg(long = "for", value_name = "TIME", default_value = "2h", value_parser = parse_duration)]
    time: Duration,
    /// Samples in a second; the default is about half of what a small machine stores in requests of this size
    #[arg(long, value_name = "N", default_value_t = 4_000)]
    rate: u32,
    /// Users
    #[arg(long, value_name = "N", default_value_t = 400)]
    users: u32,
    /// Writers; each writes about its own users
    #[arg(long, value_name = "N", default_value_t = 16)]
    writers: u32,
    /// The time between two faults
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = parse_duration)]
    kill_every: Duration,
    /// The time between two rows of figures
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    measure_every: Duration,
    /// Where to draw the figures
    #[arg(long, value_name = "FILE", default_value = "soak.svg")]
    out: PathBuf,
    /// Where to write the figures as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Where the servers append their logs; the default is a file that is removed at the end
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The program health-server; without it, this program is the server
    #[arg(long, value_name = "PROGRAM")]
    server: Option<PathBuf>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code("soak", soak(Args::parse()).await)
}

async fn soak(args: Args) -> Result<()> {
    if let Some(url) = args.serve.url() {
        return server_process::serve(url).await;
    }
    let run = async |cluster: &ScratchCluster, signals| run::run(args, cluster, signals).await;
    ScratchCluster::with_signals("soak", run).await
}
