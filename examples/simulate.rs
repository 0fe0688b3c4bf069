//! Posts the heart rate, steps and calories of simulated people to a server.
//!
//! ```text
//! cargo run --release --example simulate -- --users 20 --interval 2s --backfill 30d
//! ```

use std::{
    io::{self, Write},
    pin::pin,
    process::ExitCode,
    time::{Duration, Instant},
};

use chrono::{SubsecRound, TimeDelta, Utc};
use clap::Parser;
use examples::{
    Client, ClientError, CredentialArgs, Interval, Population, Result, ServerUrl, Simulation, exit_code,
    shutdown_signal,
};
use health_core::flags::{parse_command_line, parse_duration};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::sleep;

/// Posts the heart rate, steps and calories of simulated people to a server
#[derive(Debug, Parser)]
#[command(name = "simulate", max_term_width = 100)]
struct Args {
    /// The number of people: users 101 and 202, then 1001, 1002 and so on
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    users: u32,
    /// The time between two samples of one person, from 10ms to 1h
    #[arg(long, value_name = "TIME", default_value = "8s")]
    interval: Interval,
    /// The server to post to
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    server: ServerUrl,
    /// First post the samples of this much of the past, for example 30d
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    backfill: Option<Duration>,
    /// End after this time instead of on Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    #[command(flatten)]
    credentials: CredentialArgs,
    /// Another seed makes other people with the same ids
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code("simulate", simulate(parse_command_line::<Args>()).await)
}

async fn simulate(args: Args) -> Result<()> {
    let mut end = pin!(shutdown_signal()?);
    let population = Population::new(args.seed, args.users, args.interval);
    let client = Client::new(args.server, &args.credentials.into())?;
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let notify = {
        let bar = bar.clone();
        move |message: &str| bar.suspend(|| log(message))
    };
    let mut simulation = Simulation::new(population.clone(), client, notify);
    let start = Instant::now();
    let result = tokio::select! {
        () = &mut end => Ok(()),
        result = run(&mut simulation, &population, &bar, args.backfill, args.duration) => result,
    };
    // The totals do not include a request under way, which the server may still store.
    bar.finish_and_clear();
    writeln!(io::stdout(), "{}", simulation.totals().summary(start.elapsed()))?;
    result?;
    Ok(simulation.check_complete()?)
}

/// Posts the past, then the present until the given duration is over.
async fn run(
    simulation: &mut Simulation,
    population: &Population,
    bar: &ProgressBar,
    backfill: Option<Duration>,
    duration: Option<Duration>,
) -> std::result::Result<(), ClientError> {
    let now = Utc::now().trunc_subsecs(3);
    if let Some(past) = backfill {
        let from = now - TimeDelta::from_std(past).unwrap_or_default();
        bar.set_length(population.samples_max(from, now));
        bar.set_style(progress_style());
        bar.set_draw_target(ProgressDrawTarget::stderr());
        let progress = bar.clone();
        simulation
            .fill(from, now, move |sent| progress.set_position(sent))
            .await?;
        bar.finish_and_clear();
        log(&format!(
            "posted the past: {}",
            simulation.totals().summary(bar.elapsed())
        ));
    }
    let time_is_over = async {
        match duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = time_is_over => Ok(()),
        error = simulation.live(now) => error.map(|never| match never {}),
    }
}

fn progress_style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {percent:>3} %  {human_pos} of {human_len} samples  {per_sec}  {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn log(message: &str) {
    // If stderr is closed, there is no other way to tell the user.
    let _ = writeln!(io::stderr(), "{message}");
}
