//! Records the figures of every interval, writes them as CSV, and draws them.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use examples::{Result, bench::float};
use tokio::{
    sync::watch,
    time::{Duration, Instant, MissedTickBehavior, interval, timeout},
};
use tokio_postgres::NoTls;

use crate::{
    chart,
    client::Client,
    figures::{COLUMN_COUNT, Figures, Mark, Row, column},
    ledger::Ledger,
    recorder::Recorder,
    servers::RunningServers,
};

/// The longest time for a question to PostgreSQL or to a server.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The number of intervals after which the picture is drawn again.
const DRAW_INTERVALS: usize = 12;

/// The size of the tables and of their indexes of the product, and of the write-ahead log, in bytes.
const SIZES: &str = "SELECT sum(pg_table_size(oid))::float8, sum(pg_indexes_size(oid))::float8, \
     (SELECT sum(size) FROM pg_ls_waldir())::float8 FROM pg_class WHERE relkind = 'r' AND relname LIKE 'health\\_%'";

const MIB: f64 = 1_048_576.0;

#[derive(Clone)]
pub(crate) struct Monitor {
    start: Instant,
    out: PathBuf,
    csv: Option<PathBuf>,
    database_url: String,
    servers: RunningServers,
    client: Client,
    recorder: Recorder,
    ledgers: Arc<[Ledger]>,
    figures: Arc<Mutex<Figures>>,
}

impl Monitor {
    pub(crate) fn new(
        (out, csv): (PathBuf, Option<PathBuf>),
        database_url: String,
        servers: RunningServers,
        recorder: Recorder,
        ledgers: Arc<[Ledger]>,
    ) -> Self {
        Self {
            start: Instant::now(),
            out,
            csv,
            database_url,
            client: Client::new(servers.clone()),
            servers,
            recorder,
            ledgers,
            figures: Arc::default(),
        }
    }

    /// Notes that something fails now.
    pub(crate) fn mark(&self, mark: Mark) {
        let time = self.start.elapsed().as_secs_f64();
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.marks.push((time, mark));
    }

    /// Records while the writers write. Returns only if a reader of the feed lacks a sample for minutes.
    pub(crate) async fn run(self, period: Duration, stopped: watch::Receiver<bool>) -> Result<()> {
        if let Some(csv) = &self.csv {
            fs::write(csv, Row::header()).map_err(|error| format!("cannot write {}: {error}", csv.display()))?;
        }
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let (mut last, mut last_samples) = (Instant::now(), 0);
        for number in 1_usize.. {
            ticks.tick().await;
            for ledger in &*self.ledgers {
                ledger.check()?;
            }
            if *stopped.borrow() {
                continue;
            }
            let (now, samples) = (Instant::now(), self.recorder.totals().samples);
            let seconds = (now - last).as_secs_f64();
            let row = self.measure(float(samples - last_samples) / seconds).await;
            (last, last_samples) = (now, samples);
            self.append(row, seconds)?;
            if number % DRAW_INTERVALS == 0 {
                self.draw()?;
            }
        }
        Ok(())
    }

    /// Draws what was recorded so far.
    pub(crate) fn draw(&self) -> Result<()> {
        let figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let svg = chart::draw(&figures);
        Ok(fs::write(&self.out, svg).map_err(|error| format!("cannot write {}: {error}", self.out.display()))?)
    }

    fn append(&self, row: Row, seconds: f64) -> Result<()> {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let faults = figures.marks.iter().filter(|(time, _)| *time > row.time - seconds);
        let faults: Vec<Mark> = faults.map(|(_, mark)| *mark).collect();
        if let Some(csv) = &self.csv {
            let mut file = fs::File::options().append(true).open(csv)?;
            file.write_all(row.to_csv(&faults).as_bytes())?;
        }
        figures.rows.push(row);
        Ok(())
    }

    async fn measure(&self, rate: f64) -> Row {
        let mut values = [None; COLUMN_COUNT];
        let mut set = |name: &str, value: Option<f64>| {
            if let Some(index) = column(name) {
                values[index] = value;
            }
        };
        let (posts, queries) = self.recorder.take_latencies();
        set("samples_per_second", Some(rate));
        set("post_p50_ms", posts.percentile(50));
        set("post_p99_ms", posts.percentile(99));
        set("query_p50_ms", queries.percentile(50));
        set("query_p99_ms", queries.percentile(99));
        for (index, server) in self.servers.each().into_iter().enumerate() {
            let pid = server.map(|server| server.pid.to_string());
            let number = index + 1;
            set(&format!("server{number}_rss_mib"), pid.as_deref().and_then(rss_mib));
            set(
                &format!("server{number}_descriptors"),
                pid.as_deref().and_then(descriptors),
            );
        }
        for ledger in &*self.ledgers {
            set(&format!("pending_{}", ledger.reader), Some(float(ledger.counts().1)));
        }
        set("soak_rss_mib", rss_mib("self"));
        let sizes = timeout(TIMEOUT, self.sizes()).await.ok().and_then(Result::ok);
        for (index, name) in ["tables_mib", "indexes_mib", "wal_mib"].into_iter().enumerate() {
            set(name, sizes.map(|sizes| sizes[index] / MIB));
        }
        let text = timeout(TIMEOUT, self.client.get("/-/metrics"))
            .await
            .ok()
            .and_then(Result::ok);
        let text = text
            .map(|answer| String::from_utf8_lossy(&answer.body).into_owned())
            .unwrap_or_default();
        set("sealing_lag_s", metric(&text, "health_sealing_lag_seconds"));
        set("dirty_slices", metric(&text, "health_dirty_slices"));
        Row {
            time: self.start.elapsed().as_secs_f64(),
            values,
        }
    }

    async fn sizes(&self) -> Result<[f64; 3]> {
        let (client, connection) = tokio_postgres::connect(&self.database_url, NoTls).await?;
        let connection = tokio::spawn(connection);
        let row = client.query_one(SIZES, &[]).await?;
        drop(client);
        connection.await??;
        Ok([row.try_get(0)?, row.try_get(1)?, row.try_get(2)?])
    }
}

/// Returns the value of a metric without labels.
fn metric(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value?.trim().parse().ok()
}

fn rss_mib(pid: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .ok()?;
    Some(kib / 1024.0)
}

fn descriptors(pid: &str) -> Option<f64> {
    Some(float(
        fs::read_dir(Path::new("/proc").join(pid).join("fd")).ok()?.count(),
    ))
}
