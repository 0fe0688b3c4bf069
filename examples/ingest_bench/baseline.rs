//! The same work by PostgreSQL's own programs, to compare with: `psql \copy`, `pgbench`, and a prepared INSERT.

use std::{
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use examples::{
    Result,
    bench::{Latencies, ScratchCluster},
};
use tokio::{io::AsyncWriteExt, process::Command};
use tokio_postgres::{Client, NoTls};

use crate::load::CallRate;

/// Creates databases in the benchmark's PostgreSQL and loads them without a server.
pub(crate) struct Baseline<'a> {
    cluster: &'a ScratchCluster,
    databases: AtomicU32,
}

const COLUMNS: &str = "user_id, timestamp, heart_rate, steps, calories, source";

/// Databases that exist at the same time. A measurement uses two, and the one before may still be closing its
/// connections.
const KEPT_DATABASES: u32 = 3;

impl<'a> Baseline<'a> {
    /// # Errors
    /// An error if PostgreSQL's client programs are not installed.
    pub(crate) fn new(cluster: &'a ScratchCluster) -> Result<Self> {
        for program in ["psql", "pgbench"] {
            std::process::Command::new(program)
                .arg("--version")
                .stdout(Stdio::null())
                .status()
                .map_err(|error| format!("Cannot run {program}: {error}. Install PostgreSQL's client programs."))?;
        }
        Ok(Self {
            cluster,
            databases: AtomicU32::new(0),
        })
    }

    /// Creates an empty database with the schema. A checkpoint keeps the load of the last measurement out of the next.
    pub(crate) async fn fresh_database(&self) -> Result<String> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let admin = connect(&self.cluster.url("postgres")).await?;
        if let Some(old) = number.checked_sub(KEPT_DATABASES - 1) {
            admin
                .batch_execute(&format!("DROP DATABASE IF EXISTS bench_{old} WITH (FORCE)"))
                .await?;
        }
        let name = format!("bench_{number}");
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        let url = self.cluster.url(&name);
        health_core::migrate(&health_core::Config::from_url(&url)?).await?;
        admin.batch_execute("CHECKPOINT").await?;
        Ok(url)
    }

    /// Loads CSV with `psql \copy`. Returns how many seconds that took.
    pub(crate) async fn copy(&self, database_url: &str, csv: &str) -> Result<f64> {
        let start = Instant::now();
        let mut psql = Command::new("psql")
            .args(["-q", "-X", "-v", "ON_ERROR_STOP=1", "-d", database_url, "-c"])
            .arg(format!(
                "\\copy health_metrics ({COLUMNS}) from pstdin with (format csv, force_not_null (source))"
            ))
            .stdin(Stdio::piped())
            .spawn()?;
        let mut stdin = psql.stdin.take().ok_or("psql has no stdin")?;
        stdin.write_all(csv.as_bytes()).await?;
        drop(stdin);
        if !psql.wait().await?.success() {
            return Err("psql \\copy failed".into());
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// Inserts single rows with `pgbench`, one in a transaction. Returns the transactions per second.
    pub(crate) async fn pgbench(&self, database_url: &str, clients: usize, seconds: u64) -> Result<f64> {
        let script = std::env::temp_dir().join(format!("health-pgbench-{}.sql", std::process::id()));
        let insert = format!(
            "INSERT INTO health_metrics ({COLUMNS}) VALUES (:client_id + 1, clock_timestamp(), 72, 3, 0.25, '');\n"
        );
        std::fs::write(&script, insert)?;
        let output = Command::new("pgbench")
            .args(["-n", "-M", "prepared", "-j", "2"])
            .args(["-c", &clients.to_string(), "-T", &seconds.to_string()])
            .arg("-f")
            .arg(&script)
            .arg(database_url)
            .output()
            .await?;
        std::fs::remove_file(&script)?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let tps = stdout
            .lines()
            .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        tps.ok_or_else(|| format!("pgbench failed: {stdout}{}", String::from_utf8_lossy(&output.stderr)).into())
    }

    /// Inserts single rows from one client for this long, one in a transaction.
    pub(crate) async fn single_inserts(&self, database_url: &str, time: Duration) -> Result<CallRate> {
        let client = connect(database_url).await?;
        let insert = format!("INSERT INTO health_metrics ({COLUMNS}) VALUES (1, clock_timestamp(), 72, 3, 0.25, '')");
        let statement = client.prepare(&insert).await?;
        let (start, mut latencies) = (Instant::now(), Latencies::default());
        while start.elapsed() < time {
            let insert = async { Ok(client.execute(&statement, &[]).await?) };
            latencies.measure(insert).await?;
        }
        Ok(CallRate::new(latencies, start.elapsed()))
    }
}

/// Runs a statement that returns one integer.
pub(crate) async fn query_integer(database_url: &str, sql: &str) -> Result<i64> {
    Ok(connect(database_url).await?.query_one(sql, &[]).await?.get(0))
}

async fn connect(database_url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(database_url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
