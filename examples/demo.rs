//! Runs the server, simulated people and the dashboard in one program, on a PostgreSQL of its own.
//!
//! ```text
//! cargo run --release --example demo
//! cargo run --release --example demo -- --headless --for 10s
//! ```

use std::{
    fs::File,
    future::{Future, pending},
    io::{self, Write},
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    sync::Mutex,
    time::Duration,
};

use chrono::{SubsecRound, TimeDelta, Utc};
use clap::{Parser, builder::NonEmptyStringValueParser};
use examples::{
    Client, ClientError, Database, Interval, Population, Result, ServerUrl, Simulation, exit_code, shutdown_signal,
};
use health_core::{
    Config, Health, Sample, StatsResponse, counted,
    flags::{parse_command_line, parse_duration},
};
use health_server::{Listeners, ServerLimits, run};
use tokio::{sync::oneshot, task::JoinHandle, time::sleep};
use tracing::level_filters::LevelFilter;

/// The default addresses of HTTP and the feed.
const DEFAULT_ADDRESSES: (&str, &str) = ("127.0.0.1:8000", "127.0.0.1:8001");

/// Free ports, if another program has a default one.
const FREE_ADDRESSES: (&str, &str) = ("127.0.0.1:0", "127.0.0.1:0");

/// The log file in the data directory while the dashboard has the terminal.
const LOG_FILE: &str = "demo.log";

/// Runs the server, simulated people and the dashboard in one program, on a PostgreSQL of its own
#[derive(Debug, Parser)]
#[command(name = "demo", max_term_width = 100)]
struct Args {
    /// Do not show the dashboard, and print the stored samples at the end
    #[arg(long)]
    headless: bool,
    /// End after this time instead of on Ctrl-C or when you quit the dashboard
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// The number of people: users 101 and 202, then 1001, 1002 and so on
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    users: u32,
    /// The time between two samples of one person, from 10ms to 1h
    #[arg(long, value_name = "TIME", default_value = "2s")]
    interval: Interval,
    /// Also post the samples of this much of the past
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "2h")]
    backfill: Duration,
    /// Another seed makes other people with the same ids
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The database to use instead of a PostgreSQL that the demo runs itself
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, value_parser = NonEmptyStringValueParser::new())]
    database_url: Option<String>,
    /// The data directory of the PostgreSQL that the demo runs itself
    #[arg(long, env = "HEALTH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code("demo", demo(parse_command_line::<Args>()).await)
}

async fn demo(args: Args) -> Result<()> {
    if !args.headless && health_tui::check_terminal().is_err() {
        return Err(
            "the dashboard needs a terminal that can place the cursor: add --headless to run without it".into(),
        );
    }
    let mut end = pin!(shutdown_signal()?);
    let opening = open_database(args.database_url.clone(), args.data_dir.clone());
    let database = tokio::select! {
        database = opening => database?,
        // A PostgreSQL that has started by then ends with this process.
        () = &mut end => return Ok(()),
    };
    init_logging(args.headless, database.data_dir())?;
    let result = tokio::select! {
        result = run_demo(&args, &database, end) => result,
        error = database.failed() => return Err(error.into()),
    };
    database.stop().await?;
    result
}

async fn open_database(url: Option<String>, data_dir: Option<PathBuf>) -> Result<Database> {
    match url {
        Some(url) => Ok(Database::existing(url)),
        None => Ok(Database::embedded(data_dir).await?),
    }
}

/// Runs the demo until the user, the clock or an error ends it, then prints the stored samples.
async fn run_demo(args: &Args, database: &Database, end: impl Future<Output = ()>) -> Result<()> {
    let health = Health::open(Config::from_url(database.url())?).await?;
    let listeners = listen().await?;
    let (http, feed) = (listeners.http_address(), listeners.feed_address());
    let server: ServerUrl = format!("http://{http}").parse()?;
    let client = Client::new(server, &health_core::client::Credentials::default())?;
    print(&format!("{listeners}"))?;

    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(run(listeners, health, ServerLimits::default(), async {
        // A dropped sender also means the end.
        let _ = stopped.await;
    }));
    let population = Population::new(args.seed, args.users, args.interval);
    let found = total_samples(&query_stats(&client, &population).await?);
    if found > 0 {
        let location = database.data_dir().unwrap_or(Path::new("the database")).display();
        print(&format!(
            "found {} of earlier runs in {location}",
            counted(found, "sample")
        ))?;
    }
    let mut simulation = start_simulation(population.clone(), client.clone(), args);
    let result = tokio::select! {
        result = show(args, format!("http://{http}"), feed.to_string(), end) => result,
        failed = &mut simulation => failed.map_or_else(|error| Err(error.into()), |error| Err(error.into())),
    };
    simulation.abort();
    let stats = query_stats(&client, &population).await;
    drop(stop);
    serving.await??;
    let stats = stats?;
    print(&table(&stats))?;
    if args.headless && result.is_ok() && total_samples(&stats) == 0 {
        return Err("no sample was stored: the messages above say why, or --for was too short".into());
    }
    result
}

/// Binds the default ports if both are free, or else any two.
async fn listen() -> Result<Listeners> {
    match Listeners::bind(DEFAULT_ADDRESSES.0, DEFAULT_ADDRESSES.1).await {
        Ok(listeners) => Ok(listeners),
        Err(error) => {
            tracing::info!(%error, "using other ports");
            Ok(Listeners::bind(FREE_ADDRESSES.0, FREE_ADDRESSES.1).await?)
        }
    }
}

/// Posts the samples of the past, so that the dashboard has something to show, then the present ones.
///
/// The task ends only with an error that a retry cannot solve.
fn start_simulation(population: Population, client: Client, args: &Args) -> JoinHandle<ClientError> {
    let past = TimeDelta::from_std(args.backfill).unwrap_or_default();
    tokio::spawn(async move {
        let mut simulation = Simulation::new(population, client, |line| tracing::warn!("{line}"));
        let now = Utc::now().trunc_subsecs(3);
        let result = match simulation.fill(now - past, now, |_| ()).await {
            Ok(()) => simulation.live(now).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(never) => match never {},
            Err(error) => error,
        }
    })
}

/// Shows the dashboard, if there is one, until the user or the clock ends it.
async fn show(args: &Args, server: String, feed: String, end: impl Future<Output = ()>) -> Result<()> {
    let feed = feed.parse()?;
    let time_is_over = async {
        match args.duration {
            Some(duration) => sleep(duration).await,
            None => pending().await,
        }
    };
    let dashboard = async {
        if args.headless {
            return pending().await;
        }
        let options = health_tui::Options {
            server,
            feed: Some(feed),
            ..health_tui::Options::default()
        };
        health_tui::run(options).await
    };
    tokio::select! {
        result = dashboard => Ok(result?),
        () = time_is_over => Ok(()),
        () = end => Ok(()),
    }
}

/// Asks the server for the statistics of every person.
async fn query_stats(client: &Client, population: &Population) -> std::result::Result<Vec<StatsResponse>, ClientError> {
    let end = Utc::now() + TimeDelta::seconds(1);
    let mut stats = Vec::new();
    for user in population.users() {
        stats.push(client.metrics(user, Sample::EARLIEST, end).await?);
    }
    Ok(stats)
}

/// Returns a table of the statistics of every person.
fn table(users: &[StatsResponse]) -> String {
    let mut lines = vec![format!(
        "{:>10} {:>10} {:>8} {:>8} {:>8} {:>10} {:>10}",
        "user", "samples", "average", "lowest", "highest", "steps", "kcal"
    )];
    let beats = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.1}"));
    for StatsResponse { user_id, stats, .. } in users {
        lines.push(format!(
            "{:>10} {:>10} {:>8} {:>8} {:>8} {:>10} {:>10.1}",
            user_id.get(),
            stats.samples,
            beats(stats.average_heart_rate),
            beats(stats.min_heart_rate),
            beats(stats.max_heart_rate),
            stats.total_steps,
            stats.total_calories,
        ));
    }
    let samples = total_samples(users);
    lines.push(format!(
        "{}, {} stored",
        counted(users.len(), "user"),
        counted(samples, "sample")
    ));
    lines.join("\n")
}

fn total_samples(users: &[StatsResponse]) -> i64 {
    users.iter().map(|user| user.stats.samples).sum()
}

/// Writes the log to stderr without a dashboard. With one, writes it to the data directory if there is one.
fn init_logging(headless: bool, data_dir: Option<&Path>) -> io::Result<()> {
    let subscriber = tracing_subscriber::fmt().with_ansi(false);
    if headless {
        subscriber
            .with_max_level(LevelFilter::WARN)
            .with_writer(io::stderr)
            .init();
    } else if let Some(directory) = data_dir {
        let log = Mutex::new(File::create(directory.join(LOG_FILE))?);
        subscriber.with_max_level(LevelFilter::INFO).with_writer(log).init();
    }
    Ok(())
}

fn print(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
