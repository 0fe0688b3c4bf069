//! Posts what plausible people's watches would: heart rate, steps and calories, day and night.
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
use examples::{Client, ClientError, Interval, Population, Server, Simulation, shutdown_signal};
use health_core::flags::parse_duration;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::sleep;

/// Posts what plausible people's watches would measure, now and in the past
#[derive(Debug, Parser)]
#[command(name = "simulate", max_term_width = 100)]
struct Args {
    /// How many people: users 101 and 202, then 1001, 1002 and so on
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    users: u32,
    /// The time between two samples of one person, 10ms to 1h
    #[arg(long, value_name = "TIME", default_value = "8s")]
    interval: Interval,
    /// Where to post to
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    server: Server,
    /// First fill so much of the past, such as 30d
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    backfill: Option<Duration>,
    /// End after so long; without it, on Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    lasting: Option<Duration>,
    /// The API token, where the server wants one
    #[arg(long, env = "HEALTH_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Other people with the same ids
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match simulate(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("simulate: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn simulate(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let mut end = pin!(shutdown_signal()?);
    let population = Population::new(args.seed, args.users, args.interval);
    let client = Client::new(args.server, args.token.as_deref())?;
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let tell = {
        let bar = bar.clone();
        move |line: &str| bar.suspend(|| say(line))
    };
    let mut simulation = Simulation::new(population.clone(), client, tell);
    let begin = Instant::now();
    let outcome = tokio::select! {
        () = &mut end => Ok(()),
        outcome = run(&mut simulation, &population, &bar, args.backfill, args.lasting) => outcome,
    };
    // A request that was on its way is not counted; the server may have taken it all the same.
    bar.finish_and_clear();
    writeln!(io::stdout(), "{}", simulation.tally().summary(begin.elapsed()))?;
    Ok(outcome?)
}

async fn run(
    simulation: &mut Simulation,
    population: &Population,
    bar: &ProgressBar,
    backfill: Option<Duration>,
    lasting: Option<Duration>,
) -> Result<(), ClientError> {
    let now = Utc::now().trunc_subsecs(3);
    if let Some(past) = backfill {
        let from = now - TimeDelta::from_std(past).unwrap_or_default();
        bar.set_length(population.due(from, now));
        bar.set_style(style());
        bar.set_draw_target(ProgressDrawTarget::stderr());
        let moved = bar.clone();
        simulation.fill(from, now, move |made| moved.set_position(made)).await?;
        bar.finish_and_clear();
        say(&format!(
            "filled the past: {}",
            simulation.tally().summary(bar.elapsed())
        ));
    }
    let lasting = async {
        match lasting {
            Some(lasting) => sleep(lasting).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = lasting => Ok(()),
        error = simulation.live(now) => error.map(|never| match never {}),
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {percent:>3} %  {human_pos} of {human_len} samples  {per_sec}  {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn say(line: &str) {
    // With stderr gone there is nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
}
