//! How long answers take over HTTP, against the same from raw rows, in one run on one machine.
//!
//! `cargo run --release --example read_bench` makes one user with a year of samples every 15 seconds, scattered over the table
//! among as many of a thousand others, in a throw-away PostgreSQL, and asks a server in a process of its own over one
//! kept-alive connection. With `--every 1` the year has a sample every second (31 million, which take some minutes to make).

mod year;

use std::{
    error::Error,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use examples::{
    Connection,
    server_process::{self, ServerProcess},
};
use health_core::{
    Config,
    embedded::{Cluster, Options},
    format_timestamp, migrate,
};
use indicatif::{ProgressBar, ProgressStyle};
use tokio_postgres::{Client, NoTls};

use crate::year::{PLAIN, PLAIN_BY_DAY, USER};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Measures reading over HTTP.
#[derive(Parser)]
struct Args {
    /// Seconds between two samples of the year
    #[arg(long, default_value_t = 15.0)]
    every: f64,
    /// A database to use in place of a throw-away one, as it is or, where it is empty, filled
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Serve this database and nothing else: what the other process of a run is
    #[arg(long, hide = true)]
    serve: Option<String>,
}

/// A line of the table; times are in milliseconds.
struct Line {
    name: String,
    p50: f64,
    p95: f64,
}

/// What a run finds.
struct Figures {
    /// How long it took to summarise the year and to vacuum it.
    sealed: Duration,
    lines: Vec<Line>,
    ratios: Vec<Ratio>,
}

/// What two lines should be to each other.
struct Ratio {
    name: &'static str,
    is: f64,
    at_most: f64,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let args = Args::parse();
    if let Some(url) = &args.serve {
        return server_process::serve(url).await;
    }
    let bar = bar();
    let (cluster, url) = if let Some(url) = &args.database {
        (None, url.clone())
    } else {
        let cluster = Cluster::start(Options::throw_away()).await?;
        let url = cluster.url("postgres");
        (Some(cluster), url)
    };
    let measured = measure(&url, &args, &bar).await;
    bar.finish_and_clear();
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    print(&measured?);
    Ok(())
}

async fn measure(url: &str, args: &Args, bar: &ProgressBar) -> Outcome<Figures> {
    migrate(&Config::from_url(url)?).await?;
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    let end = year::find_or_make(&client, args.every, bar).await?;

    bar.set_message("summarising the year");
    let began = Instant::now();
    let mut server = ServerProcess::start(url).await?;
    year::sealed(&client).await?;
    let sealed = began.elapsed();
    let mut bench = Bench {
        http: Connection::open(server.http()).await?,
        client,
        end,
        bar: bar.clone(),
        lines: Vec::new(),
    };
    let ratios = bench.run().await?;
    server.stop().await?;
    Ok(Figures {
        sealed,
        lines: bench.lines,
        ratios,
    })
}

struct Bench {
    http: Connection,
    client: Client,
    end: DateTime<Utc>,
    bar: ProgressBar,
    lines: Vec<Line>,
}

impl Bench {
    async fn run(&mut self) -> Outcome<Vec<Ratio>> {
        let last = |length: TimeDelta| {
            let (start, end) = (format_timestamp(self.end - length), format_timestamp(self.end));
            format!("user_id={USER}&start={start}&end={end}")
        };
        let (hour, day, week) = (
            last(TimeDelta::hours(1)),
            last(TimeDelta::days(1)),
            last(TimeDelta::days(7)),
        );
        let year = last(TimeDelta::days(365));

        let nothing = self
            .get("/-/healthy, which asks no database", 500, "/-/healthy")
            .await?;
        self.get("/-/ready", 500, "/-/ready").await?;
        let select = self.sql("SELECT 1", 500, "SELECT 1").await?;
        let path = |query: &str| format!("/metrics?{query}");
        let of_hour = self.get("/metrics, an hour", 500, &path(&hour)).await?;
        let of_day = self.get("/metrics, a day", 500, &path(&day)).await?;
        let of_year = self.get("/metrics, a year", 200, &path(&year)).await?;
        let path = format!("/metrics/percentiles?{year}&p=50,95,99");
        let percentiles = self.get("/metrics/percentiles, a year", 200, &path).await?;
        let path = |query: &str, bucket: &str| format!("/metrics/series?{query}&bucket={bucket}&tz=Europe/Berlin");
        let days = self
            .get("/metrics/series, a year by local days", 100, &path(&year, "1d"))
            .await?;
        self.get("/metrics/series, a year by local hours", 20, &path(&year, "1h"))
            .await?;
        self.get("/metrics/series, a week by minutes", 20, &path(&week, "1m"))
            .await?;
        self.get("/users, a page of 100", 50, "/users?limit=100").await?;
        let plain = self.sql("SQL over the raw rows, a year", 5, PLAIN).await?;
        let plain_days = self
            .sql("SQL over the raw rows, a year by local days", 5, PLAIN_BY_DAY)
            .await?;

        let ratio = |name, is, at_most| Ratio { name, is, at_most };
        // `/-/ready` does more than SELECT 1; this floor is the lower one.
        let floor = nothing + select;
        Ok(vec![
            ratio("a year / an hour", of_year / of_hour, 3.0),
            ratio("a year / SQL over the raw rows", of_year / plain, 0.01),
            ratio("an hour - (/-/healthy + SELECT 1), ms", of_hour - floor, 1.0),
            ratio("a day - (/-/healthy + SELECT 1), ms", of_day - floor, 1.0),
            ratio("local days / SQL over the raw rows", days / plain_days, 0.05),
            ratio("percentiles / a year", percentiles / of_year, 2.0),
        ])
    }

    /// The median, in milliseconds.
    async fn get(&mut self, name: &str, rounds: usize, path: &str) -> Outcome<f64> {
        self.bar.set_message(name.to_owned());
        let mut times = Vec::new();
        for round in 0..rounds + WARMING_UP {
            let began = Instant::now();
            self.http.get(path).await?;
            if round >= WARMING_UP {
                times.push(began.elapsed());
            }
        }
        Ok(self.add(name, times))
    }

    /// The same of a statement.
    async fn sql(&mut self, name: &str, rounds: usize, sql: &str) -> Outcome<f64> {
        self.bar.set_message(name.to_owned());
        let statement = self.client.prepare(sql).await?;
        let (start, end) = (self.end - TimeDelta::days(365), self.end);
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&USER, &start, &end];
        let params = &params[..statement.params().len()];
        let mut times = Vec::new();
        for round in 0..rounds + WARMING_UP {
            let began = Instant::now();
            self.client.query(&statement, params).await?;
            if round >= WARMING_UP {
                times.push(began.elapsed());
            }
        }
        Ok(self.add(name, times))
    }

    fn add(&mut self, name: &str, mut times: Vec<Duration>) -> f64 {
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        self.lines.push(Line {
            name: name.to_owned(),
            p50: at(50),
            p95: at(95),
        });
        at(50)
    }
}

/// The first few prepare statements and fill caches.
const WARMING_UP: usize = 3;

fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn print(Figures { sealed, lines, ratios }: &Figures) {
    println!("summarised and vacuumed within {:.1} s\n", sealed.as_secs_f64());
    println!("{:<48} {:>10} {:>10}", "measurement", "p50, ms", "p95, ms");
    for Line { name, p50, p95 } in lines {
        println!("{name:<48} {p50:>10.3} {p95:>10.3}");
    }
    println!("\n{:<48} {:>10} {:>10}", "ratio", "is", "at most");
    for Ratio { name, is, at_most } in ratios {
        let verdict = if is <= at_most { "" } else { "   MISSED" };
        println!("{name:<48} {is:>10.4} {at_most:>10}{verdict}");
    }
}
