//! What fails, and when.

use examples::{Result, bench::ScratchCluster};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Duration, Instant, sleep, timeout};
use tokio_postgres::NoTls;

use crate::{figures::Mark, monitor::Monitor, servers::Servers};

/// What fails at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// SIGKILL to one server.
    ServerKilled(usize),
    /// SIGTERM to one server, as at an upgrade.
    ServerStopped(usize),
    /// SIGKILL to PostgreSQL. Its supervisor starts it again.
    PostgresKilled,
    /// SIGKILL to both servers and to PostgreSQL, as if the machine had lost its power.
    AllKilled,
}

/// The faults in their order. After the last one comes the first.
const FAULTS: [Fault; 6] = [
    Fault::ServerKilled(0),
    Fault::ServerKilled(1),
    Fault::PostgresKilled,
    Fault::ServerStopped(0),
    Fault::ServerKilled(1),
    Fault::AllKilled,
];

/// Longer than PostgreSQL needs to recover.
const RECOVERY_TIMEOUT: Duration = Duration::from_mins(3);

/// The longest time without a server, in seconds.
const DOWN_MAX: f64 = 8.0;

/// Lets something fail in every period, until a time. Afterwards all servers run.
pub(crate) async fn inject(
    servers: &mut Servers,
    cluster: &ScratchCluster,
    monitor: &Monitor,
    period: Duration,
    end: Instant,
) -> Result<()> {
    for fault in FAULTS.iter().cycle() {
        let next = Instant::now() + period.mul_f64(0.8 + 0.4 * fastrand::f64());
        servers.watch_until(next.min(end)).await?;
        if next >= end {
            return Ok(());
        }
        monitor.mark(fault.mark());
        match *fault {
            Fault::ServerKilled(index) => servers.kill(index).await?,
            Fault::ServerStopped(index) => servers.stop(index).await?,
            Fault::PostgresKilled => kill_postgres(cluster)?,
            Fault::AllKilled => {
                kill_postgres(cluster)?;
                servers.kill(0).await?;
                servers.kill(1).await?;
            }
        }
        let down = (DOWN_MAX * fastrand::f64()).min(period.as_secs_f64() / 4.0);
        sleep(Duration::from_secs_f64(down)).await;
        wait_for_postgres(cluster).await?;
        servers.start_missing().await?;
    }
    Ok(())
}

impl Fault {
    fn mark(self) -> Mark {
        match self {
            Self::ServerKilled(_) => Mark::ServerKilled,
            Self::ServerStopped(_) => Mark::ServerStopped,
            Self::PostgresKilled | Self::AllKilled => Mark::PostgresKilled,
        }
    }
}

fn kill_postgres(cluster: &ScratchCluster) -> Result<()> {
    let pid = Pid::from_raw(cluster.postgres_pid()?).ok_or("PostgreSQL has no process id")?;
    Ok(kill_process(pid, Signal::KILL)?)
}

async fn wait_for_postgres(cluster: &ScratchCluster) -> Result<()> {
    let url = cluster.url("postgres");
    let connected = async {
        while tokio_postgres::connect(&url, NoTls).await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let connected = timeout(RECOVERY_TIMEOUT, connected).await;
    connected.map_err(|_| format!("PostgreSQL did not recover within {RECOVERY_TIMEOUT:?}").into())
}
