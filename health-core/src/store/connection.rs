//! Connections: how they are made, their session settings, and what their errors mean to a caller.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bb8::ManageConnection;
use tokio_postgres::{
    Client, NoTls, SimpleQueryMessage, Socket, Statement,
    error::{DbError, SqlState},
    tls::NoTlsStream,
};

use crate::{
    config::Config,
    error::{Error, NotWritableReason, TemporaryReason},
    store::tables::Tables,
};

/// A connection and the statements that it has prepared.
pub(crate) struct Session {
    client: Client,
    /// The process of PostgreSQL that serves it.
    pid: i32,
    opened_at: Instant,
    /// It is not to be used again, although the connection is intact.
    is_stale: bool,
    tables: Tables,
    prepared: HashMap<&'static str, Statement>,
}

/// The pool of connections for readers.
pub(crate) type Readers = bb8::Pool<ReaderSessions>;

/// Makes the connections of the pool.
#[derive(Debug)]
pub(crate) struct ReaderSessions {
    config: Config,
}

/// The driver's side of a connection. It moves the bytes, so a task must poll it until the connection ends.
pub(crate) type Driver = tokio_postgres::Connection<Socket, NoTlsStream>;

/// Settings of every session. JIT compilation takes longer than any statement of ours runs. UTC makes `date_bin`
/// and text forms of times independent of the server's time zone.
///
/// What this program reports as done is durable, in every session: ingest, erasing, migrations. If the default of the
/// server, the database or the role for `synchronous_commit` is weaker than `on`, it becomes `on`; a stricter default
/// stays. Only a session that commits nothing of value may weaken it again.
const EVERY_SESSION: &str = "SET jit = off; SET TimeZone = 'UTC'; SET client_min_messages = warning; \
     SELECT set_config('synchronous_commit', 'on', false) \
     WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// Settings of a writer's session.
///
/// Writers look up thousands of rows by their whole key, from arrays whose length the planner cannot see. Only the
/// key's index is right for that, so other plans are off.
const WRITER_SESSION: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off";

/// Settings of a reader's session. Readers ask for ranges of keys given as arrays, so the plan is always the same, and
/// planning or starting parallel workers would take longer than most answers.
const READER_SESSION: &str = "SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0";

/// Opens a connection. Every connection to the database begins here, so that all of them use the same TLS settings.
pub(crate) async fn connect(config: &Config) -> Result<(Client, Driver), tokio_postgres::Error> {
    config.postgres.connect(NoTls).await
}

impl Session {
    /// Connects with the settings of a writer.
    pub(crate) async fn writer(config: &Config) -> Result<Self, tokio_postgres::Error> {
        let session = Self::plain(config).await?;
        let settings = format!("{WRITER_SESSION}; {}", session.tables.settings());
        session.client.batch_execute(&settings).await?;
        Ok(session)
    }

    /// Connects with the settings of every session only.
    pub(crate) async fn plain(config: &Config) -> Result<Self, tokio_postgres::Error> {
        let (client, driver) = connect(config).await?;
        // The client's calls report the errors of the connection, so nobody needs them here.
        tokio::spawn(async move { driver.await.ok() });
        Self::of(client).await
    }

    /// Makes a session of a connection that the caller has opened.
    pub(crate) async fn of(client: Client) -> Result<Self, tokio_postgres::Error> {
        let settings = format!("{EVERY_SESSION}; SELECT pg_backend_pid()");
        let messages = client.simple_query(&settings).await?;
        let pid = messages.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        Ok(Self {
            tables: Tables::of(&client).await?,
            client,
            pid: pid.unwrap_or_default(),
            opened_at: Instant::now(),
            is_stale: false,
            prepared: HashMap::new(),
        })
    }

    /// Returns the statement for `sql`, and prepares it on first use.
    pub(crate) async fn prepare(&mut self, sql: &'static str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        #[cfg(test)]
        crate::store::shape_rules::assert_allowed(self.tables, sql);
        let statement = self.client.prepare(sql).await?;
        self.prepared.insert(sql, statement.clone());
        Ok(statement)
    }

    /// The process of PostgreSQL that serves the session.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// How long ago it was opened.
    pub(crate) fn age(&self) -> Duration {
        self.opened_at.elapsed()
    }

    /// Lets the pool replace the session by a new one. A database that was set to read-only, and back, tells only new
    /// sessions.
    pub(crate) fn retire(&mut self) {
        self.is_stale = true;
    }

    /// Does the same if the session has just reported that the database is read-only.
    pub(crate) fn retire_if_read_only(&mut self, error: &Error) {
        self.is_stale |= matches!(error, Error::NotWritable(NotWritableReason::ReadOnly));
    }

    /// Returns where the rows of users are, as it was when the session connected.
    pub(crate) fn tables(&self) -> Tables {
        self.tables
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl ManageConnection for ReaderSessions {
    type Connection = Session;
    type Error = tokio_postgres::Error;

    async fn connect(&self) -> Result<Session, Self::Error> {
        let session = Session::plain(&self.config).await?;
        let timeout_ms = self.config.limits.statement_timeout.as_millis();
        let settings = format!(
            "{READER_SESSION}; {}; SET statement_timeout = {timeout_ms}",
            session.tables.settings()
        );
        session.client.batch_execute(&settings).await?;
        Ok(session)
    }

    async fn is_valid(&self, session: &mut Session) -> Result<(), Self::Error> {
        session.client.batch_execute("").await
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.client.is_closed() || session.is_stale
    }
}

/// Returns the pool of readers. It connects on first use, so a database that is away does not prevent the start.
pub(crate) fn readers(config: &Config) -> Readers {
    let sessions = ReaderSessions { config: config.clone() };
    bb8::Pool::builder()
        .max_size(config.limits.readers)
        // `checkout` detects broken connections. A test at each checkout would be a round trip, which takes longer than
        // many queries.
        .test_on_check_out(false)
        .connection_timeout(config.limits.connection_wait)
        .error_sink(Box::new(LogErrors))
        .build_unchecked(sessions)
}

/// Takes a connection from the pool that is not known to be broken.
///
/// After the database has restarted, every idle connection of the pool is broken; one call skips them all.
pub(crate) async fn checkout(readers: &Readers) -> Result<bb8::PooledConnection<'_, ReaderSessions>, Error> {
    loop {
        let session = readers.get().await.map_err(|error| match error {
            bb8::RunError::User(error) => classify(error),
            bb8::RunError::TimedOut => Error::Unavailable(Arc::new(bb8::RunError::<tokio_postgres::Error>::TimedOut)),
        })?;
        // The pool discards a broken connection when it is returned.
        if !session.client.is_closed() {
            return Ok(session);
        }
    }
}

/// Logs errors of connections that the pool opens by itself: no caller gets them.
#[derive(Debug, Clone, Copy)]
struct LogErrors;

impl bb8::ErrorSink<tokio_postgres::Error> for LogErrors {
    fn sink(&self, error: tokio_postgres::Error) {
        tracing::warn!(
            error = classify(error).chain(),
            "a reader could not connect to the database"
        );
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<tokio_postgres::Error>> {
        Box::new(*self)
    }
}

/// Sorts an error of the driver by what a caller can do about it.
pub(crate) fn classify(error: tokio_postgres::Error) -> Error {
    let Some(refusal) = error.as_db_error() else {
        // The error comes from the connection: refused, reset, closed.
        return Error::Unavailable(Arc::new(error));
    };
    let not_writable = match *refusal.code() {
        // A standby that has not been promoted yet, or a setting.
        SqlState::READ_ONLY_SQL_TRANSACTION => Some(NotWritableReason::ReadOnly),
        SqlState::DISK_FULL => Some(NotWritableReason::DiskFull),
        SqlState::INSUFFICIENT_PRIVILEGE if !is_about_one_row(refusal) => Some(NotWritableReason::MissingRight),
        _ => None,
    };
    if let Some(reason) = not_writable {
        return Error::NotWritable(reason);
    }
    match temporary_reason(refusal.code()) {
        Some(reason) => Error::Temporary {
            reason,
            cause: Arc::new(error),
        },
        None if is_out_of_reach(refusal.code()) => Error::Unavailable(Arc::new(error)),
        None => Error::Database(Arc::new(error)),
    }
}

/// Returns whether PostgreSQL refused one row and may accept the others of the same statement.
///
/// The classes are data exceptions, violated constraints, and errors raised by a trigger. Row-level security reports a row
/// with the code of a missing right.
pub(crate) fn is_about_one_row(refusal: &DbError) -> bool {
    let code = refusal.code();
    let class = code.code().get(..2).unwrap_or_default();
    ["22", "23", "44", "P0"].contains(&class)
        || (*code == SqlState::INSUFFICIENT_PRIVILEGE && refusal.routine() == Some("ExecWithCheckOptions"))
}

fn temporary_reason(code: &SqlState) -> Option<TemporaryReason> {
    Some(match *code {
        SqlState::QUERY_CANCELED => TemporaryReason::Cancelled,
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => TemporaryReason::Conflict,
        SqlState::LOCK_NOT_AVAILABLE => TemporaryReason::Locked,
        SqlState::TOO_MANY_CONNECTIONS => TemporaryReason::TooManyConnections,
        SqlState::IO_ERROR => TemporaryReason::Io,
        // Class 53: insufficient resources.
        _ if code.code().starts_with("53") => TemporaryReason::OutOfResources,
        _ => return None,
    })
}

/// Returns whether PostgreSQL is starting or stopping, or has lost the connection (class 08).
fn is_out_of_reach(code: &SqlState) -> bool {
    let codes = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
    ];
    codes.contains(code) || code.code().starts_with("08")
}

#[cfg(test)]
mod tests {
    use test_support::TestDatabase;

    use super::*;

    /// Erasing and packing use the pool, writers and the roller sessions of writers, and migrations plain sessions.
    #[tokio::test]
    async fn no_session_reports_a_commit_before_it_is_durable() {
        let database = TestDatabase::new().await;
        let config = Config::from_url(database.url()).unwrap();
        let admin = Session::plain(&config).await.unwrap();
        for (default, expected) in [
            ("off", "on"),
            ("local", "on"),
            ("on", "on"),
            ("remote_apply", "remote_apply"),
        ] {
            let set = format!("ALTER DATABASE {} SET synchronous_commit = {default}", database.name());
            admin.client().batch_execute(&set).await.unwrap();
            let readers = readers(&config);
            let reader = checkout(&readers).await.unwrap();
            let writer = Session::writer(&config).await.unwrap();
            let plain = Session::plain(&config).await.unwrap();
            for session in [&*reader, &writer, &plain] {
                let row = session
                    .client()
                    .query_one("SHOW synchronous_commit", &[])
                    .await
                    .unwrap();
                assert_eq!(row.get::<_, &str>(0), expected, "default {default}");
            }
        }
    }
}
