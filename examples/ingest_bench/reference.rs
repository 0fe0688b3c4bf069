//! PostgreSQL's own ways in: `psql \copy`, pgbench, a bare INSERT.

use std::{
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, process::Command};
use tokio_postgres::NoTls;

use crate::{Outcome, load::Run};

pub(crate) struct Reference {
    admin: String,
    databases: AtomicU32,
}

pub(crate) struct Pgbench {
    pub(crate) per_second: f64,
}

const COLUMNS: &str = "user_id, timestamp, heart_rate, steps, calories, source";

impl Reference {
    pub(crate) fn find(admin: String) -> Outcome<Self> {
        for program in ["psql", "pgbench"] {
            std::process::Command::new(program)
                .arg("--version")
                .stdout(Stdio::null())
                .status()
                .map_err(|error| format!("{program} is needed to compare with: {error}"))?;
        }
        Ok(Self {
            admin,
            databases: AtomicU32::new(0),
        })
    }

    /// A database with the schema and nothing in it, behind a checkpoint so that the one before it does not weigh on it.
    pub(crate) async fn fresh_database(&self) -> Outcome<String> {
        let name = format!("bench_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let (client, connection) = tokio_postgres::connect(&self.admin, NoTls).await?;
        tokio::spawn(connection);
        let number = self.databases.load(Ordering::Relaxed);
        if let Some(before) = number.checked_sub(3) {
            client
                .batch_execute(&format!("DROP DATABASE IF EXISTS bench_{before} WITH (FORCE)"))
                .await?;
        }
        client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        let url = self.admin.replacen("/postgres?", &format!("/{name}?"), 1);
        health_core::migrate(&health_core::Config::from_url(&url)?).await?;
        client.batch_execute("CHECKPOINT").await?;
        Ok(url)
    }

    /// A number that only PostgreSQL knows.
    pub(crate) async fn ask(database: &str, question: &str) -> Outcome<i64> {
        let (client, connection) = tokio_postgres::connect(database, NoTls).await?;
        tokio::spawn(connection);
        Ok(client.query_one(question, &[]).await?.get(0))
    }

    /// Seconds that `psql \copy` takes.
    pub(crate) async fn copy(&self, database: &str, csv: &str) -> Outcome<f64> {
        let began = Instant::now();
        let mut psql = Command::new("psql")
            .args(["-q", "-X", "-v", "ON_ERROR_STOP=1", "-d", database, "-c"])
            .arg(format!(
                "\\copy health_metrics ({COLUMNS}) from pstdin with (format csv, force_not_null (source))"
            ))
            .stdin(Stdio::piped())
            .spawn()?;
        let mut stdin = psql.stdin.take().ok_or("psql takes no input")?;
        stdin.write_all(csv.as_bytes()).await?;
        drop(stdin);
        if !psql.wait().await?.success() {
            return Err("psql failed".into());
        }
        Ok(began.elapsed().as_secs_f64())
    }

    /// One row a transaction from so many clients.
    pub(crate) async fn pgbench(&self, database: &str, clients: usize, seconds: u64) -> Outcome<Pgbench> {
        let script = std::env::temp_dir().join(format!("health-pgbench-{}.sql", std::process::id()));
        std::fs::write(
            &script,
            format!(
                "INSERT INTO health_metrics ({COLUMNS}) VALUES (:client_id + 1, clock_timestamp(), 72, 3, 0.25, '');\n"
            ),
        )?;
        let output = Command::new("pgbench")
            .args(["-n", "-M", "prepared", "-j", "2", "-c"])
            .arg(clients.to_string())
            .arg("-T")
            .arg(seconds.to_string())
            .arg("-f")
            .arg(&script)
            .arg(database)
            .output()
            .await?;
        std::fs::remove_file(&script)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let tps = text
            .lines()
            .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        let per_second =
            tps.ok_or_else(|| format!("pgbench failed: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
        Ok(Pgbench { per_second })
    }

    /// One client, one row a transaction.
    pub(crate) async fn bare_inserts(&self, database: &str, length: Duration) -> Outcome<Run> {
        let (client, connection) = tokio_postgres::connect(database, NoTls).await?;
        tokio::spawn(connection);
        let insert = format!("INSERT INTO health_metrics ({COLUMNS}) VALUES (1, clock_timestamp(), 72, 3, 0.25, '')");
        let statement = client.prepare(&insert).await?;
        let (began, mut latencies) = (Instant::now(), Vec::new());
        while began.elapsed() < length {
            let sent = Instant::now();
            client.execute(&statement, &[]).await?;
            latencies.push(sent.elapsed());
        }
        Ok(Run::new(latencies, began.elapsed()))
    }
}
