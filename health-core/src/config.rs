//! Which database, and every limit the core has.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use chrono::TimeDelta;

use crate::error::Error;

/// What [`Health::open`](crate::Health::open) needs to know.
///
/// ```
/// use health_core::{Config, Limits};
///
/// let config = Config::from_url("postgres://localhost/health_db")?.limits(Limits { writers: 4, ..Limits::default() });
/// # Ok::<(), health_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Config {
    pub(crate) postgres: tokio_postgres::Config,
    pub(crate) limits: Limits,
}

/// Every limit of the core, with its unit. The defaults suit one server on one machine.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Rows queued and being written, together. Memory is bounded by it: a row takes about 150 bytes.
    pub queue_rows: usize,
    /// Rows a writer takes into one transaction at most; a single request of more goes whole.
    pub batch_rows: usize,
    /// Connections that write. Users are split between them.
    pub writers: usize,
    /// Connections that read, at most.
    pub reader_connections: u32,
    /// How long a call waits, for room in the queue and for its commit together, before it is told to come again.
    pub ingest_deadline: Duration,
    /// How long one reading statement may run.
    pub statement_timeout: Duration,
    /// How long a reader waits for a connection.
    pub connection_wait: Duration,
    /// How long [`Health::close`](crate::Health::close) waits for what it accepted to be stored.
    pub drain_deadline: Duration,
    /// How far ahead of this machine's clock a sample's timestamp may be.
    pub max_future: TimeDelta,
    /// Samples that wait for one slow subscriber; what comes on top is skipped and reported.
    pub subscriber_queue: usize,
    /// Memory for samples that wait for subscribers, all of them together, in bytes. Where it is spent, those who are
    /// furthest behind are told what they miss.
    pub subscriber_memory: usize,
    /// How long the feed can be resumed.
    pub replay_window: Duration,
    /// How old samples have to be before they are summarised. What comes later is summarised again, which costs its writer
    /// a mark a quarter of an hour; what is not summarised yet is read sample by sample.
    pub settle: Duration,
}

/// How long a database's machine may leave bytes unacknowledged until its connections are given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_rows: 100_000,
            batch_rows: 20_000,
            writers: 2,
            reader_connections: 8,
            ingest_deadline: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(30),
            connection_wait: Duration::from_secs(3),
            drain_deadline: Duration::from_secs(30),
            max_future: TimeDelta::minutes(5),
            subscriber_queue: 32_768,
            subscriber_memory: 64 << 20,
            replay_window: Duration::from_hours(24),
            settle: Duration::from_mins(5),
        }
    }
}

impl Config {
    /// A database by its URL, or by `key=value` pairs as libpq takes them.
    ///
    /// # Errors
    /// [`Error::Config`] where it cannot be understood.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let mut postgres = tokio_postgres::Config::from_str(url).map_err(|error| Error::Config(Arc::new(error)))?;
        if postgres.get_application_name().is_none() {
            postgres.application_name("health");
        }
        if postgres.get_connect_timeout().is_none() {
            postgres.connect_timeout(Duration::from_secs(5));
        }
        // The system's own patience with a machine that is gone without a word is a quarter of an hour at best.
        if postgres.get_tcp_user_timeout().is_none() {
            postgres.tcp_user_timeout(SILENCE_MAX);
        }
        if postgres.get_keepalives_idle() > SILENCE_MAX {
            postgres.keepalives_idle(SILENCE_MAX);
        }
        Ok(Self {
            postgres,
            limits: Limits::default(),
        })
    }

    /// The same with other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// Leaves the password out.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("hosts", &self.postgres.get_hosts())
            .field("database", &self.postgres.get_dbname())
            .field("limits", &self.limits)
            .finish()
    }
}
