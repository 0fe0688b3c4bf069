//! Server, simulator and dashboard together, on a PostgreSQL of its own: what a newcomer runs first.
//!
//! ```text
//! cargo run --release --example demo
//! cargo run --release --example demo -- --headless --for 10s
//! ```

use std::{
    error::Error,
    fs::File,
    future::{Future, pending},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    sync::Mutex,
    time::Duration,
};

use chrono::{SubsecRound, TimeDelta, Utc};
use clap::Parser;
use examples::{Client, ClientError, Database, Interval, Population, Server, Simulation, shutdown_signal};
use health_core::{Config, Health, Sample, StatsResponse, embedded::EmbeddedError, flags::parse_duration};
use health_server::{Listeners, ServerLimits, run};
use tokio::{sync::oneshot, task::JoinHandle, time::sleep};
use tracing::level_filters::LevelFilter;

/// Where HTTP and the feed are served if nobody else is there.
const ADDRESSES: (&str, &str) = ("127.0.0.1:8000", "127.0.0.1:8001");

/// Where they are served then.
const FREE_ADDRESSES: (&str, &str) = ("127.0.0.1:0", "127.0.0.1:0");

/// What the program says about itself while the dashboard has the terminal, in the data directory.
const LOG_NAME: &str = "demo.log";

/// Server, simulator and dashboard together, on a PostgreSQL of its own
#[derive(Debug, Parser)]
#[command(name = "demo", max_term_width = 100)]
struct Args {
    /// No dashboard: print what was stored at the end
    #[arg(long)]
    headless: bool,
    /// End after so long; without it, on Ctrl-C or when the dashboard is quit
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    lasting: Option<Duration>,
    /// How many people: users 101 and 202, then 1001, 1002 and so on
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    users: u32,
    /// The time between two samples of one person, 10ms to 1h
    #[arg(long, value_name = "TIME", default_value = "2s")]
    interval: Interval,
    /// How much of the past to fill first
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "2h")]
    backfill: Duration,
    /// Other people with the same ids
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The PostgreSQL to use; without it, one of our own is kept
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Where the PostgreSQL of our own keeps its data
    #[arg(long, env = "HEALTH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    match demo(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With stderr gone there is nobody to tell.
            let _ = match error.downcast_ref::<EmbeddedError>() {
                // Several lines, made to be read as they stand.
                Some(error) => writeln!(io::stderr(), "{error}"),
                None => writeln!(io::stderr(), "demo: {}", chain(error.as_ref())),
            };
            ExitCode::FAILURE
        }
    }
}

async fn demo(args: Args) -> Outcome<()> {
    let has_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if !args.headless && !has_terminal {
        return Err("there is no terminal for the dashboard: add --headless to do without".into());
    }
    let mut end = pin!(shutdown_signal()?);
    let opening = open(args.database_url.clone(), args.data_dir.clone());
    let database = tokio::select! {
        database = opening => database?,
        // What was started by then ends with us.
        () = &mut end => return Ok(()),
    };
    trace(args.headless, database.data_dir())?;
    let outcome = tokio::select! {
        outcome = with_database(&args, &database, end) => outcome,
        error = database.failed() => return Err(error.into()),
    };
    database.stop().await?;
    outcome
}

async fn open(url: Option<String>, data_dir: Option<PathBuf>) -> Outcome<Database> {
    match url.filter(|url| !url.is_empty()) {
        Some(url) => Ok(Database::existing(url)),
        None => Ok(Database::embedded(data_dir).await?),
    }
}

async fn with_database(args: &Args, database: &Database, end: impl Future<Output = ()>) -> Outcome<()> {
    let health = Health::open(Config::from_url(database.url())?).await?;
    let listeners = listen().await?;
    let (http, feed) = (listeners.http_address(), listeners.feed_address());
    let server: Server = format!("http://{http}").parse()?;
    let client = Client::new(server, None)?;
    print(&format!("{listeners}"))?;

    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(run(listeners, health, ServerLimits::default(), async {
        // Dropped is as good as told.
        let _ = stopped.await;
    }));
    let population = Population::new(args.seed, args.users, args.interval);
    let found: i64 = stored(&client, &population)
        .await?
        .iter()
        .map(|user| user.stats.samples)
        .sum();
    if found > 0 {
        let place = database.data_dir().unwrap_or(Path::new("the database")).display();
        print(&format!("found {found} samples of earlier runs in {place}"))?;
    }
    let mut simulating = simulate(population.clone(), client.clone(), args);
    let shown = tokio::select! {
        shown = show(args, format!("http://{http}"), feed.to_string(), end) => shown,
        failed = &mut simulating => failed.map_or_else(|error| Err(error.into()), |error| Err(error.into())),
    };
    simulating.abort();
    let summary = stored(&client, &population).await;
    drop(stop);
    serving.await??;
    print(&table(&summary?))?;
    shown
}

/// The usual ports if both are free, else any two.
async fn listen() -> Outcome<Listeners> {
    match Listeners::bind(ADDRESSES.0, ADDRESSES.1).await {
        Ok(listeners) => Ok(listeners),
        Err(taken) => {
            tracing::info!(reason = %taken, "taking other ports");
            Ok(Listeners::bind(FREE_ADDRESSES.0, FREE_ADDRESSES.1).await?)
        }
    }
}

/// Fills a little of the past, so that there is something to see, then goes on with the present. Ends only where the server refuses it.
fn simulate(population: Population, client: Client, args: &Args) -> JoinHandle<ClientError> {
    let past = TimeDelta::from_std(args.backfill).unwrap_or_default();
    tokio::spawn(async move {
        let mut simulation = Simulation::new(population, client, |line| tracing::warn!("{line}"));
        let now = Utc::now().trunc_subsecs(3);
        let outcome = match simulation.fill(now - past, now, |_| ()).await {
            Ok(()) => simulation.live(now).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(never) => match never {},
            Err(error) => error,
        }
    })
}

/// The dashboard, or silence, until somebody or the clock says that it is enough.
async fn show(args: &Args, server: String, feed: String, end: impl Future<Output = ()>) -> Outcome<()> {
    let lasting = async {
        match args.lasting {
            Some(lasting) => sleep(lasting).await,
            None => pending().await,
        }
    };
    let dashboard = async {
        if args.headless {
            return pending().await;
        }
        let options = health_tui::Options {
            server,
            feed,
            ..health_tui::Options::default()
        };
        health_tui::run(options).await
    };
    tokio::select! {
        shown = dashboard => Ok(shown?),
        () = lasting => Ok(()),
        () = end => Ok(()),
    }
}

/// What the server has of everybody.
async fn stored(client: &Client, population: &Population) -> Result<Vec<StatsResponse>, ClientError> {
    let end = Utc::now() + TimeDelta::seconds(1);
    let mut answers = Vec::new();
    for user in population.users() {
        answers.push(client.metrics(user, Sample::EARLIEST, end).await?);
    }
    Ok(answers)
}

/// What a person reads at the end.
fn table(users: &[StatsResponse]) -> String {
    let mut lines = vec![format!(
        "{:>10} {:>10} {:>8} {:>8} {:>8} {:>10} {:>10}",
        "user", "samples", "average", "lowest", "highest", "steps", "kcal"
    )];
    let shown = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.1}"));
    for StatsResponse { user_id, stats, .. } in users {
        lines.push(format!(
            "{:>10} {:>10} {:>8} {:>8} {:>8} {:>10} {:>10.1}",
            user_id.get(),
            stats.samples,
            shown(stats.average_heart_rate),
            shown(stats.min_heart_rate),
            shown(stats.max_heart_rate),
            stats.total_steps,
            stats.total_calories,
        ));
    }
    let samples: i64 = users.iter().map(|user| user.stats.samples).sum();
    lines.push(format!("{} users, {samples} samples stored", users.len()));
    lines.join("\n")
}

/// Logs go to stderr, or where the dashboard has the terminal into the data directory, or else nowhere.
fn trace(headless: bool, data_dir: Option<&Path>) -> io::Result<()> {
    let subscriber = tracing_subscriber::fmt().with_ansi(false);
    if headless {
        subscriber
            .with_max_level(LevelFilter::WARN)
            .with_writer(io::stderr)
            .init();
    } else if let Some(directory) = data_dir {
        let log = Mutex::new(File::create(directory.join(LOG_NAME))?);
        subscriber.with_max_level(LevelFilter::INFO).with_writer(log).init();
    }
    Ok(())
}

fn print(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// The error and its causes in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
