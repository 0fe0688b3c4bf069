//! The server under measurement, in a process of its own so that its CPU time and memory are its own.

use std::{net::SocketAddr, process::Stdio};

use health_core::{Config, Health};
use health_server::{Limits, Listeners, run};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::Outcome;

/// What the child process does: serve until its standard input ends.
pub(crate) async fn serve(url: &str) -> Outcome<()> {
    let limits = Limits::default();
    let health = Health::open(Config::from_url(url)?.limits(limits.core())).await?;
    let listeners = Listeners::bind("127.0.0.1:0", "127.0.0.1:0").await?;
    announce(&listeners);
    let parent_is_gone = async {
        let mut nothing = Vec::new();
        let _ = tokio::io::stdin().read_to_end(&mut nothing).await;
    };
    run(listeners, health, limits, parent_is_gone).await?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the parent reads the address there")]
fn announce(listeners: &Listeners) {
    println!("{listeners}");
}

pub(crate) struct Server {
    process: tokio::process::Child,
    http: SocketAddr,
}

impl Server {
    pub(crate) async fn start(database: &str) -> Outcome<Self> {
        let mut process = tokio::process::Command::new(std::env::current_exe()?)
            .args(["--serve", database])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = process.stdout.take().ok_or("the server has no output")?;
        let line = BufReader::new(stdout)
            .lines()
            .next_line()
            .await?
            .ok_or("the server ended at once")?;
        let http = line
            .split("http://")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .ok_or("the server says no address")?;
        Ok(Self {
            process,
            http: http.parse()?,
        })
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// User and system time so far.
    pub(crate) fn cpu_seconds(&self) -> Outcome<f64> {
        // Fields 14 and 15 of proc(5)'s stat, in ticks of 1/100 s on every Linux there is.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |place: usize| {
            fields
                .get(place)
                .and_then(|field| field.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        Ok((ticks(11) + ticks(12)) / 100.0)
    }

    /// The most memory it has had in use.
    pub(crate) fn peak_rss_mb(&self) -> Outcome<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .ok_or("no VmHWM")?;
        let kb: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kb / 1024.0)
    }

    pub(crate) async fn stop(&mut self) -> Outcome<()> {
        drop(self.process.stdin.take());
        self.process.wait().await?;
        Ok(())
    }

    fn pid(&self) -> Outcome<u32> {
        Ok(self.process.id().ok_or("the server has ended")?)
    }
}
