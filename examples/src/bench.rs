//! What the benches share: the frame of a run, repeated rounds, statistics of times, and the table of results.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use health_core::embedded::{Cluster, Options};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{Result, ShutdownSignals, server_process};

/// Arguments of a benchmark that repeats its measurements.
#[derive(Debug, clap::Args)]
pub struct RoundArgs {
    /// How often each measurement is repeated; the table shows medians
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rounds: usize,
    /// Run only the measurements whose name contains this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub only: String,
}

/// The argument that makes a benchmark the server that another process of it measures.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Serve this database until standard input ends, and measure nothing
    #[arg(long, value_name = "URL", hide = true)]
    serve: Option<String>,
}

/// Shows what is being measured, in one line on the terminal.
#[derive(Debug, Clone)]
pub struct Progress(ProgressBar);

/// A PostgreSQL that syncs every commit to disk, in a directory that is removed afterwards.
#[derive(Debug)]
pub struct ScratchCluster {
    cluster: Cluster,
    directory: PathBuf,
}

/// One row of the table of results.
#[derive(Debug)]
pub struct Row {
    name: String,
    result: String,
    goal: Option<Goal>,
}

/// A value that a benchmark should reach.
#[derive(Debug, Clone, Copy)]
struct Goal {
    value: f64,
    bound: Bound,
    unit: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// How long each of many calls took.
#[derive(Debug, Default)]
pub struct Latencies(Vec<Duration>);

/// Runs a benchmark and prints its table, or serves a database if the command line says so.
///
/// # Errors
/// The first error of the measurements.
pub async fn run(args: &ServeArgs, measure: impl AsyncFnOnce(&Progress) -> Result<Vec<Row>>) -> Result<()> {
    if let Some(url) = &args.serve {
        return server_process::serve(url).await;
    }
    let progress = Progress::new();
    let rows = measure(&progress).await;
    progress.0.finish_and_clear();
    print(&rows?);
    Ok(())
}

impl ServeArgs {
    /// Returns the database to serve, if this process is the server.
    pub fn url(&self) -> Option<&str> {
        self.serve.as_deref()
    }
}

impl RoundArgs {
    /// Returns whether the user wants this measurement.
    pub fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }

    /// Returns the numbers of the rounds, and shows each one while it runs.
    pub fn rounds(&self, name: &str, progress: &Progress) -> impl Iterator<Item = usize> + use<> {
        let (name, progress, rounds) = (name.to_owned(), progress.clone(), self.rounds);
        (0..rounds).inspect(move |round| progress.show(format!("{name}, round {} of {rounds}", round + 1)))
    }
}

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// Replaces the line on the terminal.
    pub fn show(&self, message: impl Into<String>) {
        self.0.set_message(message.into());
    }
}

impl ScratchCluster {
    /// Starts a PostgreSQL whose directory has the name of the benchmark, and lets `work` use it. Ctrl-C and SIGTERM
    /// end `work`. However it ends, PostgreSQL is stopped and its directory removed.
    ///
    /// # Errors
    /// The error of `work`; an error if it was interrupted, or if PostgreSQL does not start or stop.
    pub async fn with<T>(bench: &str, work: impl AsyncFnOnce(&Self) -> Result<T>) -> Result<T> {
        let interruptible = async |cluster: &Self, mut signals: ShutdownSignals| {
            tokio::select! {
                result = work(cluster) => result,
                () = signals.next() => Err("interrupted: not everything was measured".into()),
            }
        };
        Self::with_signals(bench, interruptible).await
    }

    /// Does the same as [`ScratchCluster::with`], but leaves it to `work` when to end after a signal.
    ///
    /// # Errors
    /// The error of `work`, or an error if PostgreSQL does not start or stop.
    pub async fn with_signals<T>(
        bench: &str,
        work: impl AsyncFnOnce(&Self, ShutdownSignals) -> Result<T>,
    ) -> Result<T> {
        // Before the start, so that a signal during it does not leave the directory behind.
        let signals = ShutdownSignals::new()?;
        let cluster = Self::start(bench).await?;
        let result = work(&cluster, signals).await;
        cluster.stop().await?;
        result
    }

    async fn start(bench: &str) -> Result<Self> {
        // Not in a private directory: PostgreSQL may run as another user, who must be able to enter it.
        let directory = std::env::temp_dir().join(format!("health-{bench}-bench-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let cluster = Cluster::start(Options::new().data_dir(directory.join("health"))).await?;
        Ok(Self { cluster, directory })
    }

    /// Returns the URL of a database of this name, whether it exists or not.
    pub fn url(&self, database: &str) -> String {
        self.cluster.url(database)
    }

    /// Returns the directory, in which the caller may write files of its own.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the process id of PostgreSQL, which changes when PostgreSQL is started again after a crash.
    ///
    /// # Errors
    /// An error if PostgreSQL does not run.
    pub fn postgres_pid(&self) -> Result<i32> {
        let text = std::fs::read_to_string(self.directory.join("health/pgdata/postmaster.pid"))?;
        Ok(text.lines().next().unwrap_or_default().trim().parse()?)
    }

    async fn stop(self) -> Result<()> {
        self.cluster.stop().await?;
        Ok(std::fs::remove_dir_all(&self.directory)?)
    }
}

impl Row {
    /// Creates a row with a result in words, such as "512 k rows/s".
    pub fn new(name: impl Into<String>, result: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            result: result.into(),
            goal: None,
        }
    }

    /// Adds the value that the benchmark should reach at least.
    #[must_use]
    pub fn at_least(self, value: f64, bound: f64, unit: &'static str) -> Self {
        self.goal(value, Bound::AtLeast(bound), unit)
    }

    /// Adds the value that the benchmark should not exceed.
    #[must_use]
    pub fn at_most(self, value: f64, bound: f64, unit: &'static str) -> Self {
        self.goal(value, Bound::AtMost(bound), unit)
    }

    fn goal(mut self, value: f64, bound: Bound, unit: &'static str) -> Self {
        self.goal = Some(Goal { value, bound, unit });
        self
    }
}

impl Goal {
    fn is_reached(self) -> bool {
        match self.bound {
            Bound::AtLeast(bound) => self.value >= bound,
            Bound::AtMost(bound) => self.value <= bound,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, bound, unit } = self;
        let missed = if self.is_reached() { "" } else { ", MISSED" };
        match bound {
            Bound::AtLeast(bound) => write!(f, "{value:.3}{unit}, at least {bound}{unit}{missed}"),
            Bound::AtMost(bound) => write!(f, "{value:.3}{unit}, at most {bound}{unit}{missed}"),
        }
    }
}

impl Latencies {
    /// Measures one call.
    ///
    /// # Errors
    /// The error of the call.
    pub async fn measure<T>(&mut self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let start = Instant::now();
        let value = call.await?;
        self.0.push(start.elapsed());
        Ok(value)
    }

    /// Adds the calls of another client.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Returns how many calls were measured.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the time in milliseconds that this percentage of the calls did not exceed.
    pub fn percentile_ms(&self, percent: usize) -> f64 {
        percentile(self.0.iter().map(|latency| latency.as_secs_f64() * 1e3), percent)
    }
}

/// Returns the median, or NaN if there are no values.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    percentile(values, 50)
}

/// Returns the value that this percentage of the values does not exceed, or NaN if there are no values.
pub fn percentile(values: impl IntoIterator<Item = f64>, percent: usize) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let index = (sorted.len() * percent / 100).min(last);
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// Converts a count to a number that can be divided.
#[expect(clippy::cast_precision_loss, reason = "counts of rows stay far below 2^52")]
pub fn float(count: usize) -> f64 {
    count as f64
}

/// Prints the table. Every goal shows the value that it compares, and whether the value misses it.
fn print(rows: &[Row]) {
    use io::Write;
    let name_width = width(rows, |row| &row.name);
    let result_width = width(rows, |row| &row.result);
    let mut lines = vec![format!(
        "{:<name_width$}  {:>result_width$}  goal",
        "measurement", "result"
    )];
    for Row { name, result, goal } in rows {
        let goal = goal.map_or(String::new(), |goal| goal.to_string());
        lines.push(
            format!("{name:<name_width$}  {result:>result_width$}  {goal}")
                .trim_end()
                .to_owned(),
        );
    }
    // If stdout is closed, the table has no reader.
    let _ = writeln!(io::stdout(), "{}", lines.join("\n"));
}

fn width(rows: &[Row], text: impl Fn(&Row) -> &str) -> usize {
    let longest = rows.iter().map(|row| text(row).chars().count()).max();
    longest.unwrap_or(0).max("measurement".len())
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn a_measurement_that_fails_or_is_interrupted_leaves_no_postgresql_behind() {
        for is_interrupted in [false, true] {
            let mut directory = PathBuf::new();
            let work = async |cluster: &ScratchCluster| -> Result<()> {
                directory = cluster.directory().to_owned();
                if !is_interrupted {
                    return Err("it failed".into());
                }
                kill_process(getpid(), Signal::TERM)?;
                pending().await
            };
            let error = ScratchCluster::with("test", work).await.unwrap_err().to_string();
            assert_eq!(error.starts_with("interrupted"), is_interrupted, "{error}");
            assert!(directory.is_absolute() && !directory.exists());
        }
    }

    #[test]
    fn a_percentile_is_the_value_at_its_rank() {
        let values = || (0..10).map(f64::from);
        assert_eq!(median(values()).total_cmp(&5.0), std::cmp::Ordering::Equal);
        assert_eq!(percentile(values(), 100).total_cmp(&9.0), std::cmp::Ordering::Equal);
        assert!(median([]).is_nan());
    }

    #[test]
    fn a_missed_goal_says_so() {
        let goal = |row: Row| row.goal.map(|goal| goal.to_string());
        let row = || Row::new("latency", "1.5 ms");
        assert_eq!(
            goal(row().at_most(1.5, 1.0, " ms")).as_deref(),
            Some("1.500 ms, at most 1 ms, MISSED")
        );
        assert_eq!(
            goal(row().at_least(0.98, 0.95, "")).as_deref(),
            Some("0.980, at least 0.95")
        );
    }
}
