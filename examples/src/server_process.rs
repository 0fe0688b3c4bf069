//! A server in a process of its own, so that a benchmark can measure its CPU time and its memory.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use clap::{CommandFactory, Parser};
use health_core::{Config, Health, Limits, flags::name_variable};
use health_server::{Listeners, ServerLimits, ServerTls, run};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};

use crate::Result;

/// A child process that serves one database. It ends with its parent.
///
/// The child runs the same program as its parent, with `--serve URL`. The program then calls [`serve`].
#[derive(Debug)]
pub struct ServerProcess {
    process: Child,
    http: SocketAddr,
    feed: SocketAddr,
}

/// The limits of the server, which the child reads from its `HEALTH_…` variables.
#[derive(Parser)]
struct Environment {
    #[command(flatten)]
    server_limits: ServerLimits,
    #[command(flatten)]
    limits: Limits,
    /// The PEM files of a certificate and its key.
    #[arg(long, env = "HEALTH_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    #[arg(long, env = "HEALTH_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// Serves a database until standard input ends, within the limits that `HEALTH_…` variables set.
///
/// # Errors
/// An error if the server cannot start, or cannot store all accepted samples before it ends.
pub async fn serve(url: &str) -> Result<()> {
    let Environment {
        server_limits,
        limits,
        tls_cert,
        tls_key,
    } = Environment::try_parse_from(["server"]).map_err(|error| name_variable(error, Environment::command(), &[]))?;
    let health = Health::open(Config::from_url(url)?.limits(limits)).await?;
    let mut listeners = Listeners::bind("127.0.0.1:0", "127.0.0.1:0").await?;
    if let (Some(certificate), Some(key)) = (tls_cert, tls_key) {
        listeners = listeners.with_tls(Arc::new(ServerTls::load(&certificate, &key)?));
    }
    print_addresses(&listeners);
    let parent_ended = async {
        let mut input = Vec::new();
        let _ = tokio::io::stdin().read_to_end(&mut input).await;
    };
    run(listeners, health, server_limits, parent_ended).await?;
    Ok(())
}

impl ServerProcess {
    /// Starts a server with the limits of this process's environment, and waits until it serves.
    ///
    /// # Errors
    /// An I/O error if the process ends before it serves.
    pub async fn start(database_url: &str) -> io::Result<Self> {
        Self::start_with(database_url, &[]).await
    }

    /// Starts a server with other settings: pairs of a `HEALTH_…` variable and its value.
    ///
    /// # Errors
    /// An I/O error if the process ends before it serves.
    pub async fn start_with(database_url: &str, limits: &[(&str, &str)]) -> io::Result<Self> {
        let mut command = Self::command(database_url)?;
        command.envs(limits.iter().copied());
        Self::start_command(command).await
    }

    /// Returns the command that runs this program as the server of a database.
    ///
    /// # Errors
    /// An I/O error if the system does not tell the path of this program.
    pub fn command(database_url: &str) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--serve", database_url]);
        Ok(command)
    }

    /// Starts a server by a command of the caller, and waits until it serves.
    ///
    /// # Errors
    /// See [`ServerProcess::start`].
    pub async fn start_command(mut command: Command) -> io::Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C at the terminal must not reach the server: its parent decides when it ends.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let stdout = process
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("the server has no stdout"))?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        let line = line.ok_or_else(|| io::Error::other("the server ended before it served"))?;
        let (http, feed) = parse_addresses(&line)
            .ok_or_else(|| io::Error::other(format!("the server printed no addresses but {line:?}")))?;
        Ok(Self { process, http, feed })
    }

    /// Returns the address of the HTTP listener.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Returns the address of the feed listener.
    pub fn feed(&self) -> SocketAddr {
        self.feed
    }

    /// Returns the user and system CPU time that the process has used.
    ///
    /// # Errors
    /// An I/O error if the process has ended or the system has no `/proc`.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        // Linux reports process times in ticks of 1/100 s to user space, on every architecture.
        const TICKS_PER_SECOND: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        // The name of the program, field 2, may contain spaces. `utime` and `stime` are the fields 14 and 15 of
        // proc(5). `fields` begins with field 3.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse().ok()).unwrap_or(0.0);
        Ok((ticks(14) + ticks(15)) / TICKS_PER_SECOND)
    }

    /// Returns the memory in use, in MiB.
    ///
    /// # Errors
    /// See [`ServerProcess::cpu_seconds`].
    pub fn rss_mib(&self) -> io::Result<f64> {
        self.status_mib("VmRSS:")
    }

    /// Returns the largest amount of memory that was in use, in MiB.
    ///
    /// # Errors
    /// See [`ServerProcess::cpu_seconds`].
    pub fn peak_rss_mib(&self) -> io::Result<f64> {
        self.status_mib("VmHWM:")
    }

    /// Asks the server to end, and waits for its end.
    ///
    /// # Errors
    /// An I/O error if the system cannot wait for the process.
    pub async fn stop(&mut self) -> io::Result<()> {
        drop(self.process.stdin.take());
        self.process.wait().await?;
        Ok(())
    }

    /// Kills the server with SIGKILL: no code of it runs afterwards.
    ///
    /// # Errors
    /// An I/O error if the system cannot kill the process.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.process.kill().await
    }

    /// Asks the server to end with SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// An I/O error if the process has ended already.
    pub async fn terminate(&mut self) -> io::Result<ExitStatus> {
        let pid = i32::try_from(self.pid()?).ok().and_then(Pid::from_raw);
        kill_process(pid.ok_or(io::ErrorKind::NotFound)?, Signal::TERM)?;
        self.process.wait().await
    }

    /// Returns the status of the server if it has ended.
    ///
    /// # Errors
    /// An I/O error if the system does not tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    fn status_mib(&self, name: &str) -> io::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let kb: Option<f64> = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|value| value.trim().trim_end_matches("kB").trim().parse().ok());
        Ok(kb.ok_or_else(|| io::Error::other(format!("/proc has no {name}")))? / 1024.0)
    }

    /// Returns the process id.
    ///
    /// # Errors
    /// An I/O error if the process has ended.
    pub fn pid(&self) -> io::Result<u32> {
        self.process
            .id()
            .ok_or_else(|| io::Error::other("the server has ended"))
    }
}

#[expect(clippy::print_stdout, reason = "the parent process reads the addresses from stdout")]
fn print_addresses(listeners: &Listeners) {
    println!("{listeners}");
}

/// Reads the addresses from the line that a server prints when it serves.
fn parse_addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (_, rest) = line.strip_prefix("listening http=")?.split_once("://")?;
    let (http, feed) = rest.split_once(" feed=")?;
    Some((http.parse().ok()?, feed.parse().ok()?))
}
