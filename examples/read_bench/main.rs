//! Measures how fast the server answers queries over HTTP, compared with SQL over the raw samples.
//!
//! `cargo run --release --example read_bench` stores a year of samples of one user, one every 15 seconds. They are
//! scattered over the table among as many samples of a thousand other users. The benchmark then asks a server, in a
//! process of its own, over one kept-alive connection. PostgreSQL is a temporary one that syncs nothing, because
//! nothing is written.
//!
//! With `--every 1` the year has a sample every second: 31 million, which take some minutes to store.

mod token;
mod year;

use std::{process::ExitCode, time::Instant};

use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use examples::{
    Connection, Result,
    bench::{self, Latencies, Progress, Row, ServeArgs},
    exit_code,
    server_process::ServerProcess,
};
use health_core::{
    Config,
    embedded::{Cluster, Options},
    format_timestamp, migrate,
};
use tokio_postgres::{Client, NoTls, types::ToSql};

use crate::year::{RAW_STATS, RAW_STATS_BY_DAY, USER};

/// Measures how fast the server answers queries, compared with SQL over the raw samples
#[derive(Debug, Parser)]
#[command(name = "read_bench", max_term_width = 100)]
struct Args {
    /// Seconds between two samples of the year
    #[arg(long, value_name = "SECONDS", default_value_t = 15.0)]
    every: f64,
    /// A database to use instead of a temporary one; it is filled if it is empty
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    #[command(flatten)]
    serve: ServeArgs,
}

/// The measurements of one run.
struct Bench<'a> {
    http: Connection,
    sql: Client,
    year_end: DateTime<Utc>,
    progress: &'a Progress,
    rows: Vec<Row>,
}

/// The medians that goals compare, in milliseconds.
struct Medians {
    healthy: f64,
    select_1: f64,
    hour: f64,
    day: f64,
    year: f64,
    percentiles: f64,
    local_days: f64,
    raw_year: f64,
    raw_days: f64,
}

/// Calls before each measurement, which prepare statements and fill caches.
const WARM_UP_CALLS: usize = 3;

#[tokio::main]
async fn main() -> ExitCode {
    exit_code("read_bench", run(Args::parse()).await)
}

async fn run(args: Args) -> Result<()> {
    bench::run(&args.serve, async |progress| {
        if let Some(url) = &args.database {
            return measure(url, args.every, progress).await;
        }
        let cluster = Cluster::start(Options::throw_away()).await?;
        let rows = measure(&cluster.url("postgres"), args.every, progress).await;
        cluster.stop().await?;
        rows
    })
    .await
}

async fn measure(database_url: &str, every: f64, progress: &Progress) -> Result<Vec<Row>> {
    migrate(&Config::from_url(database_url)?).await?;
    let (sql, connection) = tokio_postgres::connect(database_url, NoTls).await?;
    tokio::spawn(connection);
    let year_end = year::find_or_create(&sql, every, progress).await?;

    progress.show("summarising the year");
    let start = Instant::now();
    let server = ServerProcess::start(database_url).await?;
    year::summarise_and_vacuum(&sql).await?;
    let sealed_seconds = start.elapsed().as_secs_f64();
    let mut bench = Bench {
        http: Connection::open(server.http()).await?,
        sql,
        year_end,
        progress,
        rows: vec![Row::new("summarising and vacuuming", format!("{sealed_seconds:.1} s"))],
    };
    let medians = bench.run().await?;
    // Last, because from then on every server of the database needs the token.
    let with_token = token::compare(&mut bench, server, database_url).await?;
    let mut rows = bench.rows;
    rows.extend(medians.goals());
    rows.push(with_token);
    Ok(rows)
}

impl Bench<'_> {
    async fn run(&mut self) -> Result<Medians> {
        let [hour, day, week, year] = [1, 24, 7 * 24, 365 * 24].map(|hours| self.last(TimeDelta::hours(hours)));
        let local = "tz=Europe/Berlin";
        let healthy = self.get("/-/healthy, without the database", 500, "/-/healthy").await?;
        self.get("/-/ready", 500, "/-/ready").await?;
        let select_1 = self.query("SELECT 1", 500, "SELECT 1").await?;
        let medians = Medians {
            healthy,
            select_1,
            hour: self.get("/metrics, an hour", 500, &format!("/metrics?{hour}")).await?,
            day: self.get("/metrics, a day", 500, &format!("/metrics?{day}")).await?,
            year: self.get("/metrics, a year", 200, &format!("/metrics?{year}")).await?,
            percentiles: {
                let path = format!("/metrics/percentiles?{year}&p=50,95,99");
                self.get("/metrics/percentiles, a year", 200, &path).await?
            },
            local_days: {
                let path = format!("/metrics/series?{year}&bucket=1d&{local}");
                self.get("/metrics/series, a year by local days", 100, &path).await?
            },
            raw_year: self.query("SQL over raw samples, a year", 5, RAW_STATS).await?,
            raw_days: {
                let name = "SQL over raw samples, a year by local days";
                self.query(name, 5, RAW_STATS_BY_DAY).await?
            },
        };
        let path = format!("/metrics/series?{year}&bucket=1h&{local}");
        self.get("/metrics/series, a year by local hours", 20, &path).await?;
        let path = format!("/metrics/series?{week}&bucket=1m&{local}");
        self.get("/metrics/series, a week by minutes", 20, &path).await?;
        self.get("/users, a page of 100", 50, "/users?limit=100").await?;
        Ok(medians)
    }

    /// Returns the query parameters for the last part of the year.
    fn last(&self, length: TimeDelta) -> String {
        let (start, end) = (self.year_end - length, self.year_end);
        format!(
            "user_id={USER}&start={}&end={}",
            format_timestamp(start),
            format_timestamp(end)
        )
    }

    /// Measures a path. Returns the median in milliseconds.
    async fn get(&mut self, name: &str, calls: usize, path: &str) -> Result<f64> {
        self.progress.show(name);
        for _ in 0..WARM_UP_CALLS {
            self.http.get(path).await?;
        }
        let mut latencies = Latencies::default();
        for _ in 0..calls {
            latencies.measure(self.http.get(path)).await?;
        }
        Ok(self.add_row(name, &latencies))
    }

    /// Measures a statement over the year. Returns the median in milliseconds.
    async fn query(&mut self, name: &str, calls: usize, sql: &str) -> Result<f64> {
        self.progress.show(name);
        let statement = self.sql.prepare(sql).await?;
        let (start, end) = (self.year_end - TimeDelta::days(365), self.year_end);
        let parameters: [&(dyn ToSql + Sync); 3] = [&USER, &start, &end];
        let parameters = &parameters[..statement.params().len()];
        for _ in 0..WARM_UP_CALLS {
            self.sql.query(&statement, parameters).await?;
        }
        let mut latencies = Latencies::default();
        for _ in 0..calls {
            let call = async { Ok(self.sql.query(&statement, parameters).await?) };
            latencies.measure(call).await?;
        }
        Ok(self.add_row(name, &latencies))
    }

    fn add_row(&mut self, name: &str, latencies: &Latencies) -> f64 {
        let (p50, p95) = (latencies.percentile_ms(50), latencies.percentile_ms(95));
        self.rows
            .push(Row::new(format!("{name}: p50, p95"), format!("{p50:.3}, {p95:.3} ms")));
        p50
    }
}

impl Medians {
    fn goals(&self) -> [Row; 6] {
        // What any answer costs that asks the database once. `/-/ready` does more than SELECT 1, so this is the lower
        // one.
        let floor = self.healthy + self.select_1;
        let ratio = |name, ratio, bound| Row::new(name, "").at_most(ratio, bound, "");
        let difference = |name, difference, bound| Row::new(name, "").at_most(difference, bound, " ms");
        [
            ratio("a year, to an hour", self.year / self.hour, 3.0),
            ratio("a year, to SQL over raw samples", self.year / self.raw_year, 0.01),
            difference("an hour, minus /-/healthy and SELECT 1", self.hour - floor, 1.0),
            difference("a day, minus /-/healthy and SELECT 1", self.day - floor, 1.0),
            ratio(
                "a year by local days, to SQL over raw samples",
                self.local_days / self.raw_days,
                0.05,
            ),
            ratio("percentiles of a year, to a year", self.percentiles / self.year, 2.0),
        ]
    }
}
