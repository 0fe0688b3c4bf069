//! The server's process.

use std::{
    fs::File,
    net::SocketAddr,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Longer than a start or an end ever takes.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Server {
    process: Child,
    http: SocketAddr,
    feed: SocketAddr,
    // A server whose output has no reader any more might end of that.
    _out: BufReader<ChildStdout>,
}

impl Server {
    /// Starts the program, and waits until it serves. What it logs goes to a file.
    pub(crate) async fn start(arguments: &[&str], log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_health-server"))
            .args(["--http", "127.0.0.1:0", "--feed", "127.0.0.1:0"])
            .args(arguments)
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        timeout(PATIENCE, out.read_line(&mut line))
            .await
            .expect("a server in time")
            .unwrap();
        let (http, feed) = line
            .trim_end()
            .strip_prefix("listening http=http://")
            .and_then(|rest| rest.split_once(" feed="))
            .unwrap_or_else(|| panic!("no addresses in {line:?}"));
        Self {
            process,
            http: http.parse().unwrap(),
            feed: feed.parse().unwrap(),
            _out: out,
        }
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    pub(crate) fn feed(&self) -> SocketAddr {
        self.feed
    }

    /// The most memory it has had in use, in MiB.
    pub(crate) fn memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id().unwrap())).unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    }

    /// As a machine does that loses its power.
    pub(crate) async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    /// Asks it to end, and waits for that.
    pub(crate) async fn end(mut self) -> ExitStatus {
        let id = i32::try_from(self.process.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
        self.status().await
    }

    /// Waits until it ends by itself.
    pub(crate) async fn status(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.process.wait())
            .await
            .expect("an end in time")
            .unwrap()
    }
}
