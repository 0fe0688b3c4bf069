//! The server under measurement, in a process of its own so that its memory is its own.

use std::process::Stdio;

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

#[expect(clippy::print_stdout, reason = "the parent reads the addresses there")]
fn announce(listeners: &Listeners) {
    println!("{listeners}");
}

pub(crate) struct Server {
    process: tokio::process::Child,
    pub(crate) http: String,
    pub(crate) feed: String,
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
        let first = BufReader::new(stdout).lines().next_line().await?;
        let line = first.ok_or("the server ended at once")?;
        let addresses = line
            .strip_prefix("listening http=http://")
            .and_then(|rest| rest.split_once(" feed="));
        let (http, feed) = addresses.ok_or("the server says no addresses")?;
        Ok(Self {
            http: http.to_owned(),
            feed: feed.to_owned(),
            process,
        })
    }

    /// Memory in use, now and at most so far, in MB.
    pub(crate) fn rss_mb(&self) -> Outcome<(f64, f64)> {
        let pid = self.process.id().ok_or("the server has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let of = |name: &str| -> Outcome<f64> {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .ok_or("no such line")?;
            Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
        };
        Ok((of("VmRSS:")?, of("VmHWM:")?))
    }

    pub(crate) async fn stop(mut self) -> Outcome<()> {
        drop(self.process.stdin.take());
        self.process.wait().await?;
        Ok(())
    }
}
