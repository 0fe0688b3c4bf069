//! The configuration of a [`Health`](crate::Health): its database and its limits.

pub(crate) mod tls;
pub(crate) mod url;

use std::{
    borrow::Cow,
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::TimeDelta;
use tokio_postgres::config::Host;

#[cfg(feature = "clap")]
use crate::flags::{
    format_byte_size, format_duration, format_period, format_time_delta, parse_byte_size, parse_count, parse_duration,
    parse_period, parse_time_delta, within,
};
use crate::{
    config::{
        tls::Tls,
        url::{fault::UrlFault, settings::driver_settings},
    },
    error::Error,
    limit::LimitOutOfRange,
    outage::DatabaseStatus,
    sessions::Sessions,
};

/// The database and the limits that [`Health::open`](crate::Health::open) uses.
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
    /// The first word of the application name of our sessions; `None` if the URL sets the whole name.
    application: Option<Cow<'static, str>>,
    pub(crate) tls: Tls,
    pub(crate) limits: Limits,
    /// What the sessions of this configuration know of each other.
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) status: DatabaseStatus,
}

/// Every adjustable limit of the core. The defaults suit one server on one machine.
///
/// With the feature `clap` the fields are also command-line flags and `HEALTH_…` variables, and their comments are
/// the help texts.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "clap", derive(clap::Args), command(next_help_heading = "Limits"))]
pub struct Limits {
    /// Maximum number of samples in the queue, including those being written; each takes about 150 bytes.
    #[cfg_attr(feature = "clap", arg(long, env = "HEALTH_QUEUE_ROWS", value_name = "ROWS",
        value_parser = within(parse_count, QUEUE_ROWS, count), default_value_t = Self::DEFAULT.queue_rows))]
    pub queue_rows: usize,
    /// Number of samples from which a transaction takes no further request; 500 000 at most.
    #[cfg_attr(feature = "clap", arg(long, env = "HEALTH_BATCH_ROWS", value_name = "ROWS",
        value_parser = within(parse_count, BATCH_ROWS, count), default_value_t = Self::DEFAULT.batch_rows))]
    pub batch_rows: usize,
    /// Number of database connections that write; few clients are served by one of them.
    #[cfg_attr(feature = "clap", arg(long, env = "HEALTH_WRITERS", value_name = "N",
        value_parser = within(parse_count, WRITERS, count), default_value_t = Self::DEFAULT.writers))]
    pub writers: usize,
    /// Maximum number of database connections that read.
    #[cfg_attr(feature = "clap", arg(long, env = "HEALTH_READERS", value_name = "N",
        value_parser = within(parse_count, READERS, count), default_value_t = Self::DEFAULT.readers))]
    pub readers: u32,
    /// How long an ingest request waits for room in the queue and for its commit; then the client must retry.
    #[cfg_attr(feature = "clap", arg(long, env = "HEALTH_INGEST_DEADLINE", value_name = "TIME",
        value_parser = within(parse_duration, WAIT, format_duration), default_value = format_duration(Self::DEFAULT.ingest_deadline)))]
    pub ingest_deadline: Duration,
    /// How long one reading SQL statement may run.
    #[cfg_attr(feature = "clap", arg(long, env = "HEALTH_STATEMENT_TIMEOUT", value_name = "TIME",
        value_parser = within(parse_duration, STATEMENT_TIMEOUT, format_duration), default_value = format_duration(Self::DEFAULT.statement_timeout)))]
    pub statement_timeout: Duration,
    /// How long a query waits for a free database connection.
    #[cfg_attr(feature = "clap", arg(long, env = "HEALTH_CONNECTION_WAIT", value_name = "TIME",
        value_parser = within(parse_duration, WAIT, format_duration), default_value = format_duration(Self::DEFAULT.connection_wait)))]
    pub connection_wait: Duration,
    /// How long a shutdown may take to store every sample that was accepted.
    #[cfg_attr(feature = "clap", arg(long, env = "HEALTH_DRAIN_TIMEOUT", value_name = "TIME",
        value_parser = within(parse_duration, ANY, format_duration), default_value = format_duration(Self::DEFAULT.drain_timeout)))]
    pub drain_timeout: Duration,
    /// How far a sample's timestamp may be ahead of this machine's clock.
    #[cfg_attr(feature = "clap", arg(long, env = "HEALTH_MAX_FUTURE", value_name = "TIME",
        value_parser = within(parse_time_delta, FUTURE, format_time_delta), default_value = format_time_delta(Self::DEFAULT.max_future)))]
    pub max_future: TimeDelta,
    /// Maximum number of recent samples in memory for all feed subscribers. A subscriber that is slower misses samples
    /// and gets `lagged`.
    #[cfg_attr(feature = "clap", arg(long, env = "HEALTH_SUBSCRIBER_QUEUE", value_name = "SAMPLES",
        value_parser = within(parse_count, SUBSCRIBER_QUEUE, count), default_value_t = Self::DEFAULT.subscriber_queue))]
    pub subscriber_queue: usize,
    /// Memory for these samples; if it is full, the oldest are evicted.
    #[cfg_attr(feature = "clap", arg(long, env = "HEALTH_SUBSCRIBER_MEMORY", value_name = "BYTES",
        value_parser = within(parse_byte_size, SUBSCRIBER_MEMORY, format_byte_size), default_value = format_byte_size(Self::DEFAULT.subscriber_memory)))]
    pub subscriber_memory: usize,
    /// How long after a disconnect a feed subscriber can resume from its cursor.
    #[cfg_attr(feature = "clap", arg(long, env = "HEALTH_REPLAY_WINDOW", value_name = "TIME",
        value_parser = within(parse_duration, ANY, format_duration), default_value = format_duration(Self::DEFAULT.replay_window)))]
    pub replay_window: Duration,
    /// How old samples must be before they are summarised; later changes cause another summary.
    #[cfg_attr(feature = "clap", arg(long, env = "HEALTH_SETTLE", value_name = "TIME",
        value_parser = within(parse_duration, ANY, format_duration), default_value = format_duration(Self::DEFAULT.settle)))]
    pub settle: Duration,
    /// Erase samples that are older than this, such as 90d, 26w or 2y (a year is 365 days); at least a day, and at
    /// least the replay window. Without it, samples are kept for ever.
    #[cfg_attr(feature = "clap", arg(long, env = "HEALTH_RETAIN", value_name = "TIME",
        value_parser = within(parse_period, RETAIN, format_period)))]
    pub retain: Option<Duration>,
}

/// The rows of the queue. The upper end is 15 GB of samples.
const QUEUE_ROWS: RangeInclusive<usize> = 1..=100_000_000;

/// The upper end leaves half of the ids of a batch to the last request that it takes.
const BATCH_ROWS: RangeInclusive<usize> = 1..=500_000;

/// More writers than this only wait for each other's commits.
const WRITERS: RangeInclusive<usize> = 1..=32;

/// PostgreSQL allows 100 connections by default, and hardly a server more than a thousand.
const READERS: RangeInclusive<u32> = 1..=1000;

/// Within less than the lower end hardly any request is answered. The upper end is a hundred years.
const WAIT: RangeInclusive<Duration> = Duration::from_millis(100)..=LONGEST;

/// PostgreSQL takes less than 2^31 ms, and 0 would mean no limit.
const STATEMENT_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(24 * 24);

/// Any length of time works, also none.
const ANY: RangeInclusive<Duration> = Duration::ZERO..=LONGEST;

/// Less than a day is probably a mistake, and what is erased does not come back.
const RETAIN: RangeInclusive<Duration> = Duration::from_hours(24)..=LONGEST;

const FUTURE: RangeInclusive<TimeDelta> = TimeDelta::zero()..=TimeDelta::days(100 * 366);

const SUBSCRIBER_QUEUE: RangeInclusive<usize> = 1..=100_000_000;

const SUBSCRIBER_MEMORY: RangeInclusive<usize> = 1..=1 << 40;

/// A hundred years. Deadlines and times computed from it cannot overflow.
const LONGEST: Duration = Duration::from_hours(100 * 366 * 24);

#[cfg(feature = "clap")]
fn count<N: fmt::Display>(number: N) -> String {
    number.to_string()
}

impl Limits {
    /// Checks that each limit is within its range. The flags have the same ranges.
    ///
    /// # Errors
    /// The first limit that is not.
    pub fn check(&self) -> Result<(), LimitOutOfRange> {
        use LimitOutOfRange as Limit;
        Limit::check("queue_rows", &self.queue_rows, &QUEUE_ROWS)?;
        Limit::check("batch_rows", &self.batch_rows, &BATCH_ROWS)?;
        Limit::check("writers", &self.writers, &WRITERS)?;
        Limit::check("readers", &self.readers, &READERS)?;
        Limit::check("ingest_deadline", &self.ingest_deadline, &WAIT)?;
        Limit::check("statement_timeout", &self.statement_timeout, &STATEMENT_TIMEOUT)?;
        Limit::check("connection_wait", &self.connection_wait, &WAIT)?;
        Limit::check("drain_timeout", &self.drain_timeout, &ANY)?;
        Limit::check("max_future", &self.max_future, &FUTURE)?;
        Limit::check("subscriber_queue", &self.subscriber_queue, &SUBSCRIBER_QUEUE)?;
        Limit::check("subscriber_memory", &self.subscriber_memory, &SUBSCRIBER_MEMORY)?;
        Limit::check("replay_window", &self.replay_window, &ANY)?;
        Limit::check("settle", &self.settle, &ANY)?;
        let Some(retain) = &self.retain else { return Ok(()) };
        Limit::check("retain", retain, &RETAIN)?;
        // A client that resumes would miss samples without having been away for too long.
        Limit::check("retain", retain, &(self.replay_window..=LONGEST))
            .map_err(|error| error.because("a client of the feed may resume within the replay window"))
    }

    const DEFAULT: Self = Self {
        queue_rows: 100_000,
        batch_rows: 20_000,
        writers: 2,
        readers: 8,
        ingest_deadline: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(30),
        connection_wait: Duration::from_secs(3),
        drain_timeout: Duration::from_secs(30),
        max_future: TimeDelta::minutes(5),
        subscriber_queue: 262_144,
        subscriber_memory: 64 << 20,
        replay_window: Duration::from_hours(24),
        settle: Duration::from_mins(5),
        retain: None,
    };

    /// The defaults for tests on a machine that is busy with other tests: nothing fails because the machine is slow.
    /// Unit tests of this crate cannot use `test_support::patient_limits`, which returns the type of another build.
    #[cfg(test)]
    pub(crate) fn patient() -> Self {
        const LONG: Duration = Duration::from_secs(90);
        Self {
            ingest_deadline: LONG,
            statement_timeout: LONG,
            connection_wait: LONG,
            drain_timeout: LONG,
            ..Self::DEFAULT
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Config {
    /// Creates a configuration from a database URL, or from `key=value` pairs in libpq's form.
    ///
    /// Parts that are missing have libpq's defaults: the socket of this machine, the user of the system, and the
    /// database with the name of the user. The variables of libpq (`PGHOST` and others) are not read.
    ///
    /// `sslmode` is `prefer` if the URL has none, and means what it means to libpq:
    ///
    /// | `sslmode` | connection in the network | server's certificate |
    /// |---|---|---|
    /// | `disable` | plain text | |
    /// | `prefer` | TLS, and plain text if that fails | as for `require` |
    /// | `require` | TLS | checked as for `verify-ca` if there is a file of root certificates |
    /// | `verify-ca` | TLS | must come from an authority in `sslrootcert` |
    /// | `verify-full` | TLS | as for `verify-ca`, and must name the host |
    ///
    /// `sslrootcert` is a PEM file (default `~/.postgresql/root.crt`) or `system`, for the authorities that the machine
    /// trusts. `sslcert` and `sslkey` (default `~/.postgresql/postgresql.crt` and `.key`) identify this client.
    /// Certificates are read again for each connection. A socket never uses TLS.
    ///
    /// ```
    /// use health_core::Config;
    ///
    /// let config = Config::from_url("postgres://health:secret@db.example/health_db?sslmode=require")?;
    /// assert_eq!(config.to_string(), "database health_db on db.example:5432 as role health with sslmode=require");
    /// # Ok::<(), health_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if the text has a fault, or if a file that it names cannot be used. The message names the part
    /// and the remedy, never the password.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let home = std::env::home_dir();
        Self::with_home(url, home.as_deref()).map_err(|fault| Error::Config(Arc::new(fault)))
    }

    fn with_home(url: &str, home: Option<&Path>) -> Result<Self, UrlFault> {
        let parameters = url::parse(url)?;
        let postgres = driver_settings(&parameters)?;
        let application = parameters.text("application_name")?.is_none().then(|| {
            let fallback = parameters.text("fallback_application_name").ok().flatten();
            fallback.map_or(Cow::Borrowed("health"), |name| Cow::Owned(name.to_owned()))
        });
        Ok(Self {
            tls: Tls::new(&parameters, &postgres, home)?,
            postgres,
            application,
            limits: Limits::default(),
            sessions: Arc::default(),
            status: DatabaseStatus::default(),
        })
    }

    /// Sets the name of this program that `pg_stat_activity` shows, together with what a session does: "NAME writer".
    /// It has no effect if the URL has an `application_name`.
    #[must_use]
    pub fn application(mut self, name: &'static str) -> Self {
        self.application = self.application.map(|_| Cow::Borrowed(name));
        self
    }

    /// The role as which we connect.
    pub(crate) fn role(&self) -> String {
        self.postgres.get_user().unwrap_or_default().to_owned()
    }

    /// The name of the database.
    pub(crate) fn database(&self) -> String {
        self.postgres.get_dbname().unwrap_or_default().to_owned()
    }

    /// Returns the configuration for sessions of one purpose, such as "writer".
    pub(crate) fn for_sessions(&self, purpose: &str) -> Self {
        let mut config = self.clone();
        if let Some(application) = &self.application {
            config.postgres.application_name(format!("{application} {purpose}"));
        }
        config
    }

    /// Replaces the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the status that the supervisor of the database reports to.
    #[must_use]
    pub fn status(mut self, status: DatabaseStatus) -> Self {
        self.status = status;
        self
    }
}

/// Names the database, the hosts, the role and the kind of TLS. Omits the password.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.postgres.get_dbname().unwrap_or_default();
        let role = self.postgres.get_user().unwrap_or_default();
        write!(f, "database {name} on {} as role {role}", self.hosts())?;
        let has_network_host = self
            .postgres
            .get_hosts()
            .iter()
            .any(|host| matches!(host, Host::Tcp(_)));
        if has_network_host {
            write!(f, " with sslmode={}", self.tls.mode.name())?;
        }
        Ok(())
    }
}

impl Config {
    fn hosts(&self) -> String {
        let ports = self.postgres.get_ports();
        let hosts = self.postgres.get_hosts().iter().enumerate().map(|(index, host)| {
            let port = ports.get(index).or(ports.first()).unwrap_or(&DEFAULT_PORT);
            match host {
                Host::Tcp(host) if host.contains(':') => format!("[{host}]:{port}"),
                Host::Tcp(host) => format!("{host}:{port}"),
                Host::Unix(directory) => format!("the socket {}", socket(directory, *port).display()),
            }
        });
        let hosts: Vec<_> = hosts.collect();
        if hosts.is_empty() {
            "the socket of this machine".to_owned()
        } else {
            hosts.join(", ")
        }
    }
}

/// The port of PostgreSQL if the URL names none.
pub(crate) const DEFAULT_PORT: u16 = 5432;

/// Returns the path of PostgreSQL's socket in a directory.
pub(crate) fn socket(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

/// Omits the password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("hosts", &self.postgres.get_hosts())
            .field("user", &self.postgres.get_user())
            .field("database", &self.postgres.get_dbname())
            .field("application", &self.application)
            .field("tls", &self.tls)
            .field("limits", &self.limits)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
