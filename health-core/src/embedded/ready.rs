//! Asks whether PostgreSQL accepts connections, and waits until it does.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tokio_postgres::{Config, NoTls};

use crate::embedded::{
    error::EmbeddedError,
    instance::{CHECK_INTERVAL, RunEnd, USER},
};

/// The longest time until PostgreSQL answers. It includes the recovery after a crash, which reads up to `max_wal_size`.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_mins(2);

/// The first pause between two attempts to connect. It doubles up to [`CHECK_INTERVAL`].
const CONNECT_PAUSE_MIN: Duration = Duration::from_millis(2);

/// Where a PostgreSQL of our own listens.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// The directory of the socket, by a path that is short enough for a socket.
    pub(crate) socket_directory: PathBuf,
    /// Part of the name of the socket.
    pub(crate) port: u16,
}

/// Returns the connection parameters of a database.
pub(crate) fn connection(address: &Address, database: &str) -> Config {
    let mut config = Config::new();
    config
        .user(USER)
        .dbname(database)
        .host_path(&address.socket_directory)
        .port(address.port)
        .connect_timeout(READY_TIMEOUT);
    config
}

/// Returns whether PostgreSQL answers a statement.
pub(crate) async fn answers(address: &Address) -> bool {
    let Ok((client, connection)) = connection(address, "postgres").connect(NoTls).await else {
        return false;
    };
    let connection = tokio::spawn(connection);
    let answered = client.simple_query("SELECT 1").await.is_ok();
    drop(client);
    // Wait until the connection is closed. Whether its last message reaches the server does not matter.
    let _ = connection.await;
    answered
}

/// Waits until the PostgreSQL of a run answers.
///
/// # Errors
///
/// [`EmbeddedError::StoppedWhileStarting`] if it ends before, [`EmbeddedError::NotReady`] after two minutes.
pub(crate) async fn wait_until_ready(address: &Address, directory: &Path, end: &RunEnd) -> Result<(), EmbeddedError> {
    let connect = async {
        let mut pause = CONNECT_PAUSE_MIN;
        while !answers(address).await {
            sleep(pause).await;
            pause = (pause * 2).min(CHECK_INTERVAL);
        }
    };
    let path = || directory.to_owned();
    tokio::select! {
        status = end.status() => Err(match status {
            Some(status) => EmbeddedError::StoppedWhileStarting { directory: path(), status, log: end.log() },
            None => EmbeddedError::EndedUnexpectedly { directory: path(), status, log: end.log() },
        }),
        ready = timeout(READY_TIMEOUT, connect) => ready.map_err(|_| EmbeddedError::NotReady {
            directory: path(),
            seconds: READY_TIMEOUT.as_secs(),
            log: end.log(),
        }),
    }
}
