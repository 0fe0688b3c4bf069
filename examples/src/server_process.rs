//! The server under measurement, in a process of its own so that its CPU time and memory are its own.

use std::{error::Error, io, net::SocketAddr, process::Stdio};

use clap::Parser;
use health_core::{Config, Health, Limits};
use health_server::{Listeners, ServerLimits, run};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};

/// A process that serves one database, ended with its parent.
///
/// It is the program that is running, started again with `--serve URL`: what that does is [`serve`].
#[derive(Debug)]
pub struct ServerProcess {
    process: Child,
    http: SocketAddr,
    feed: SocketAddr,
}

/// The limits of the server, read from its `HEALTH_…` variables alone.
#[derive(Parser)]
struct Environment {
    #[command(flatten)]
    server_limits: ServerLimits,
    #[command(flatten)]
    limits: Limits,
}

/// What the child process does: serve until its standard input ends, under the limits that `HEALTH_…` variables set.
///
/// # Errors
/// What keeps it from serving.
pub async fn serve(url: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Environment { server_limits, limits } = Environment::try_parse_from(["server"])?;
    let health = Health::open(Config::from_url(url)?.limits(limits)).await?;
    let listeners = Listeners::bind("127.0.0.1:0", "127.0.0.1:0").await?;
    announce(&listeners);
    let parent_is_gone = async {
        let mut nothing = Vec::new();
        let _ = tokio::io::stdin().read_to_end(&mut nothing).await;
    };
    run(listeners, health, server_limits, parent_is_gone).await?;
    Ok(())
}

impl ServerProcess {
    /// Starts it, and comes back once it serves.
    ///
    /// # Errors
    /// Where it ends before.
    pub async fn start(database: &str) -> io::Result<Self> {
        Self::start_with(database, &[]).await
    }

    /// The same with some limits set, by the names of their `HEALTH_…` variables.
    ///
    /// # Errors
    /// Where it ends before.
    pub async fn start_with(database: &str, limits: &[(&str, &str)]) -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--serve", database])
            .envs(limits.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = process.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        let line = line.ok_or_else(|| io::Error::other("the server ended at once"))?;
        let (http, feed) = addresses(&line).ok_or_else(|| io::Error::other(format!("no addresses: {line}")))?;
        Ok(Self { process, http, feed })
    }

    /// Where it serves HTTP.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where it serves the feed.
    pub fn feed(&self) -> SocketAddr {
        self.feed
    }

    /// User and system time so far.
    ///
    /// # Errors
    /// Where the process has ended, or the system has no `/proc`; of the next two as well.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        // Fields 14 and 15 of proc(5)'s stat, in ticks of 1/100 s on every Linux there is.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |place: usize| fields.get(place).and_then(|field| field.parse().ok()).unwrap_or(0.0);
        Ok((ticks(11) + ticks(12)) / 100.0)
    }

    /// Memory in use, in MB.
    ///
    /// # Errors
    /// See [`ServerProcess::cpu_seconds`].
    pub fn rss_mb(&self) -> io::Result<f64> {
        self.status_mb("VmRSS:")
    }

    /// The most memory it has had in use, in MB.
    ///
    /// # Errors
    /// See [`ServerProcess::cpu_seconds`].
    pub fn peak_rss_mb(&self) -> io::Result<f64> {
        self.status_mb("VmHWM:")
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// Where the system cannot say.
    pub async fn stop(&mut self) -> io::Result<()> {
        drop(self.process.stdin.take());
        self.process.wait().await?;
        Ok(())
    }

    fn status_mb(&self, name: &str) -> io::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let kb: Option<f64> = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|value| value.trim().trim_end_matches("kB").trim().parse().ok());
        Ok(kb.ok_or_else(|| io::Error::other(format!("no {name} in its status")))? / 1024.0)
    }

    fn pid(&self) -> io::Result<u32> {
        self.process
            .id()
            .ok_or_else(|| io::Error::other("the server has ended"))
    }
}

#[expect(clippy::print_stdout, reason = "the parent reads the addresses there")]
fn announce(listeners: &Listeners) {
    println!("{listeners}");
}

/// Both addresses of the line that a server prints once it serves.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let rest = line.strip_prefix("listening http=http://")?;
    let (http, feed) = rest.split_once(" feed=")?;
    Some((http.parse().ok()?, feed.parse().ok()?))
}
