//! The two servers on one database, each of which may be down.

use std::{fs::File, net::SocketAddr, path::PathBuf};

use examples::{Result, server_process::ServerProcess};
use tokio::{
    process::Command,
    sync::watch,
    time::{Duration, Instant, sleep, timeout},
};

pub(crate) const SERVERS: usize = 2;

/// Longer than a start takes while PostgreSQL recovers.
const START_TIMEOUT: Duration = Duration::from_mins(2);

/// A running server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) http: SocketAddr,
    pub(crate) feed: SocketAddr,
}

/// The servers that currently run.
#[derive(Debug, Clone)]
pub(crate) struct RunningServers(watch::Receiver<[Option<Running>; SERVERS]>);

pub(crate) struct Servers {
    /// The program `health-server`. Without it, this program serves.
    program: Option<PathBuf>,
    database_url: String,
    log: PathBuf,
    processes: [Option<ServerProcess>; SERVERS],
    running: watch::Sender<[Option<Running>; SERVERS]>,
}

impl Servers {
    pub(crate) fn new(program: Option<PathBuf>, database_url: String, log: PathBuf) -> Self {
        Self {
            program,
            database_url,
            log,
            processes: Default::default(),
            running: watch::Sender::default(),
        }
    }

    pub(crate) fn running(&self) -> RunningServers {
        RunningServers(self.running.subscribe())
    }

    /// Starts each server that does not run. A server waits by itself for a PostgreSQL that recovers.
    pub(crate) async fn start_missing(&mut self) -> Result<()> {
        for index in 0..SERVERS {
            if self.processes[index].is_none() {
                self.start(index).await?;
            }
        }
        Ok(())
    }

    async fn start(&mut self, index: usize) -> Result<()> {
        let process = timeout(START_TIMEOUT, ServerProcess::start_command(self.command()?)).await;
        let process = process.map_err(|_| format!("server {} did not start within {START_TIMEOUT:?}", index + 1))?;
        let process = process.map_err(|error| {
            let log = self.log.display();
            format!("server {} did not start: {error}. Its log is {log}", index + 1)
        })?;
        let running = Running {
            pid: process.pid()?,
            http: process.http(),
            feed: process.feed(),
        };
        self.processes[index] = Some(process);
        self.running.send_modify(|servers| servers[index] = Some(running));
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        let mut command = match &self.program {
            Some(program) => {
                let mut command = Command::new(program);
                command.args(["--http", "127.0.0.1:0", "--feed", "127.0.0.1:0", "--database-url"]);
                command.arg(&self.database_url);
                command
            }
            None => ServerProcess::command(&self.database_url)?,
        };
        command.stderr(File::options().create(true).append(true).open(&self.log)?);
        Ok(command)
    }

    /// Kills a server with SIGKILL.
    pub(crate) async fn kill(&mut self, index: usize) -> Result<()> {
        if let Some(mut process) = self.take(index) {
            process.kill().await?;
        }
        Ok(())
    }

    /// Ends a server in order. It must store what it has accepted.
    pub(crate) async fn stop(&mut self, index: usize) -> Result<()> {
        let Some(mut process) = self.take(index) else {
            return Ok(());
        };
        if self.program.is_none() {
            process.stop().await?;
            return Ok(());
        }
        let status = process.terminate().await?;
        if !status.success() {
            return Err(format!("server {} ended after SIGTERM with {status}", index + 1).into());
        }
        Ok(())
    }

    fn take(&mut self, index: usize) -> Option<ServerProcess> {
        self.running.send_modify(|servers| servers[index] = None);
        self.processes[index].take()
    }

    /// Checks until a time that no server ends by itself.
    pub(crate) async fn watch_until(&mut self, end: Instant) -> Result<()> {
        while Instant::now() < end {
            for (index, process) in self.processes.iter_mut().enumerate() {
                if let Some(status) = process.as_mut().map(ServerProcess::ended).transpose()?.flatten() {
                    return Err(format!("server {} ended by itself with {status}", index + 1).into());
                }
            }
            sleep(Duration::from_millis(500).min(end - Instant::now())).await;
        }
        Ok(())
    }
}

impl RunningServers {
    /// Returns a random running server, as soon as one runs.
    pub(crate) async fn any(&self) -> Result<Running> {
        let mut servers = self.0.clone();
        let running = *servers.wait_for(|servers| servers.iter().any(Option::is_some)).await?;
        let running: Vec<Running> = running.into_iter().flatten().collect();
        Ok(running[fastrand::usize(..running.len())])
    }

    /// Returns each server that runs now.
    pub(crate) fn each(&self) -> [Option<Running>; SERVERS] {
        *self.0.borrow()
    }
}
