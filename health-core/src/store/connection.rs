//! Sessions: how they are opened, their settings, and what an error of opening one means to a caller.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use foldhash::HashMap;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, SimpleQueryMessage, SimpleQueryRow, Statement};

use crate::{
    config::Config,
    error::{Error, NotWritableReason},
    sessions::{Backend, OpenReader},
    store::{
        client::{ConnectionState, SessionClient},
        connect::{Driver, connect},
        connect_refusal::classify_connect,
        refusal::{session_lost, too_many_connections},
        tables::{IS_CITUS_INSTALLED, PLACE_LOCK_SHARED, SETTINGS, SETTINGS_LOCAL, Tables},
        threshold_lock::{LOCK_SHARED, PREPARED_LOCK_SHARED},
    },
};

/// A connection and the statements that it has prepared.
pub(crate) struct Session {
    client: SessionClient,
    opened_at: Instant,
    tables: Tables,
    prepared: HashMap<&'static str, Statement>,
    /// Fails if the session is another one than that which was opened.
    guard: String,
    /// Begins the transaction of a writer.
    begin_writing: String,
    backend: Option<Backend>,
    /// Set for a connection of the pool.
    reader: Option<OpenReader>,
}

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
///
/// The planner does not know how long a range is, and expects a few rows. It would collect and sort these, and the sort
/// of the 43 200 samples of a month takes longer than reading them. The primary key has them in order.
const READER_SESSION: &str = "SET enable_seqscan = off; SET enable_sort = off; SET max_parallel_workers_per_gather = 0";

/// Settings of the roller's session, in addition to those of a writer. It reads ranges of the primary key in their
/// order, see [`READER_SESSION`].
const ROLLER_SESSION: &str = "SET enable_sort = off";

/// Begins the transaction of a writer. The isolation level is explicit, because a role may have another default, and
/// every statement needs a snapshot of its own.
const BEGIN_WRITING: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Asks which process serves the session. Processes of two servers may have the same number, but the servers were not
/// started at the same microsecond.
pub(crate) const BACKEND: &str =
    "SELECT pg_backend_pid() AS backend_pid, pg_postmaster_start_time()::text AS server_started";

/// The longest time to open a connection. A stopped server, or a proxy that has lost its server, accepts
/// connections and then says nothing for ever. The value is twice the TCP connect timeout that
/// [`Config::from_url`] sets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait for the first answer of an open connection. PostgreSQL answers in a millisecond. A pooler in
/// session mode opens the connection and lets it wait until another client leaves.
const SESSION_TIMEOUT: Duration = Duration::from_secs(4);

impl Session {
    /// Connects with the settings of a writer.
    pub(crate) async fn writer(config: &Config) -> Result<Self, Error> {
        let settings = format!("{WRITER_SESSION}; PREPARE {PREPARED_LOCK_SHARED} AS {LOCK_SHARED}");
        Self::connect(config, &settings).await
    }

    /// Connects with the settings of the roller.
    pub(crate) async fn roller(config: &Config) -> Result<Self, Error> {
        Self::connect(config, &format!("{WRITER_SESSION}; {ROLLER_SESSION}")).await
    }

    /// Connects with the settings of a reader.
    pub(super) async fn reader(config: &Config) -> Result<Self, Error> {
        let timeout_ms = config.limits.statement_timeout.as_millis();
        Self::connect(
            config,
            &format!("{READER_SESSION}; SET statement_timeout = {timeout_ms}"),
        )
        .await
    }

    /// Connects with the settings of every session only. Other sessions do not know of it.
    pub(crate) async fn plain(config: &Config) -> Result<Self, tokio_postgres::Error> {
        let (client, driver) = connect(config).await?;
        Self::of(client, drive(driver), None).await
    }

    async fn connect(config: &Config, settings: &str) -> Result<Self, Error> {
        let (client, driver) = match timeout(CONNECT_TIMEOUT, connect(config)).await {
            Ok(connected) => connected.map_err(connection_error)?,
            Err(_) => return Err(Error::TimedOut(CONNECT_TIMEOUT)),
        };
        Self::registered(config, client, drive(driver), settings).await
    }

    /// Makes a session of a connection that the caller has opened. The other sessions of the configuration know of it.
    ///
    /// # Errors
    /// [`SessionLost`](crate::error::TemporaryReason::SessionLost) if another session of the configuration has the same
    /// backend. [`TooManyConnections`](crate::error::TemporaryReason::TooManyConnections) if the connection is open but
    /// gets no answer: a pooler has no session for it.
    pub(crate) async fn registered(
        config: &Config,
        client: Client,
        state: ConnectionState,
        settings: &str,
    ) -> Result<Self, Error> {
        let session = match timeout(SESSION_TIMEOUT, Self::of(client, state, Some(settings))).await {
            Ok(session) => session.map_err(connection_error)?,
            Err(_) => return Err(no_session()),
        };
        match &session.backend {
            Some(backend) if !config.sessions.add(backend, session.client.loss()) => {
                Err(session_lost(Arc::new(SharedBackend)))
            }
            _ => Ok(session),
        }
    }

    /// Makes a session of a connection that the caller has opened.
    ///
    /// The settings, the guard and the question who serves the session are one query. A pooler in transaction mode runs
    /// a query in one session of the database, so the session with the guard has the settings. Only if Citus is
    /// installed, there are one or two more.
    pub(crate) async fn of(
        client: Client,
        state: ConnectionState,
        settings: Option<&str>,
    ) -> Result<Self, tokio_postgres::Error> {
        let own = settings.map_or_else(String::new, |own| format!("{own}; {SETTINGS_LOCAL}"));
        let guard = format!("health_{:016x}", fastrand::u64(..));
        let open = format!(
            "{EVERY_SESSION}; {PLACE_LOCK_SHARED}; {own}; PREPARE {guard} AS SELECT; {IS_CITUS_INSTALLED}; {BACKEND}"
        );
        let opened = client.simple_query(&open).await?;
        let tables = Tables::of(&client, &opened).await?;
        if tables == Tables::Distributed && settings.is_some() {
            client.batch_execute(SETTINGS).await?;
        }
        let backend = backend(&opened);
        let client = SessionClient::new(client, state);
        let guard = format!("EXECUTE {guard}");
        Ok(Self {
            tables,
            client,
            opened_at: Instant::now(),
            prepared: HashMap::default(),
            begin_writing: format!("{BEGIN_WRITING}; {guard}; EXECUTE {PREPARED_LOCK_SHARED}"),
            guard,
            backend,
            reader: None,
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
        let pid = self.backend.as_ref().and_then(|backend| backend.pid.parse().ok());
        pid.unwrap_or_default()
    }

    /// How long ago it was opened.
    pub(crate) fn age(&self) -> Duration {
        self.opened_at.elapsed()
    }

    /// Notes that the session is one of the pool, for as long as it is open.
    pub(super) fn count_as_reader(&mut self, reader: OpenReader) {
        self.reader = Some(reader);
    }

    /// Lets the pool replace the session by a new one. If the setting of a database changes, read-only or back, only
    /// new sessions have the change.
    pub(crate) fn retire(&mut self) {
        self.client.lose();
    }

    /// Retires the session if it has just reported that the database is read-only.
    pub(crate) fn retire_if_read_only(&mut self, error: &Error) {
        if matches!(error, Error::NotWritable(NotWritableReason::ReadOnly)) {
            self.retire();
        }
    }

    /// Returns where the rows of users are, as it was when the session connected.
    pub(crate) fn tables(&self) -> Tables {
        self.tables
    }

    pub(crate) fn client(&self) -> &SessionClient {
        &self.client
    }

    /// Returns the client for the migration library.
    pub(crate) fn client_mut(&mut self) -> &mut Client {
        self.client.unwatched()
    }

    /// Returns a statement that fails if this is another session than the one that was opened. A transaction in which
    /// it succeeds has the settings of the session, and its prepared statements are ours.
    pub(crate) fn guard(&self) -> &str {
        &self.guard
    }

    /// Returns the statements that begin the transaction of a [writer](Self::writer), with the [guard](Self::guard) and
    /// the threshold lock.
    pub(crate) fn begin_writing(&self) -> &str {
        &self.begin_writing
    }

    /// Returns which backend served the session when it was opened.
    pub(crate) fn backend(&self) -> Option<&Backend> {
        self.backend.as_ref()
    }
}

/// Polls the driver's side of a connection until the connection ends, and then notes that it is lost. Counts its
/// warnings.
pub(crate) fn drive(mut driver: Driver) -> ConnectionState {
    let state = ConnectionState::default();
    let noted = state.clone();
    tokio::spawn(async move {
        // The calls of the client report the errors of the connection.
        while let Some(Ok(message)) = poll_fn(|context| driver.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message {
                noted.note_warning(&notice);
            }
        }
        noted.is_lost.store(true, Relaxed);
    });
    state
}

/// Reads the answer to [`BACKEND`], the last row.
pub(crate) fn backend(messages: &[SimpleQueryMessage]) -> Option<Backend> {
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => backend_of(row),
        _ => None,
    };
    messages.iter().rev().find_map(row)
}

fn backend_of(row: &SimpleQueryRow) -> Option<Backend> {
    Some(Backend {
        pid: row.try_get("backend_pid").ok()??.to_owned(),
        server_started: row.try_get("server_started").ok()??.to_owned(),
    })
}

/// Sorts an error of opening a connection. None of them is the fault of a request, so every one of them is temporary.
pub(super) fn connection_error(error: tokio_postgres::Error) -> Error {
    match classify_connect(error) {
        Error::Database(cause) | Error::Refused(cause) => Error::Unavailable(cause),
        error => error,
    }
}

/// Returns the error for a connection that is open but gets no answer.
pub(crate) fn no_session() -> Error {
    too_many_connections(Arc::new(NoSession))
}

/// The cause of [`TemporaryReason::TooManyConnections`](crate::error::TemporaryReason::TooManyConnections) if a pooler
/// lets a connection wait.
#[derive(Debug, thiserror::Error)]
#[error("a connection was opened, but got no session of the database in time: a connection pooler has none left")]
struct NoSession;

/// The cause of [`TemporaryReason::SessionLost`](crate::error::TemporaryReason::SessionLost) for a new connection.
#[derive(Debug, thiserror::Error)]
#[error("two connections have the same session of the database")]
struct SharedBackend;

/// Returns the error for a session that is not served by the backend that served it when it was opened.
pub(crate) fn other_backend() -> Error {
    #[derive(Debug, thiserror::Error)]
    #[error("another process of the database serves the connection than when it was opened")]
    struct OtherBackend;
    session_lost(Arc::new(OtherBackend))
}

#[cfg(test)]
mod tests {
    use test_support::TestDatabase;

    use super::*;
    use crate::store::readers::{checkout, readers};

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

    #[tokio::test]
    async fn a_writer_holds_the_threshold_lock_from_the_begin_of_its_transaction() {
        let database = TestDatabase::new().await;
        let config = Config::from_url(database.url()).unwrap();
        let (writer, other) = (
            Session::writer(&config).await.unwrap(),
            Session::plain(&config).await.unwrap(),
        );
        for (end, is_free) in [("SELECT 1", false), ("COMMIT", true)] {
            if !is_free {
                writer.client().batch_execute(writer.begin_writing()).await.unwrap();
            }
            writer.client().batch_execute(end).await.unwrap();
            let try_lock = "SELECT pg_try_advisory_xact_lock(hashtext('health threshold'))";
            let row = other.client().query_one(try_lock, &[]).await.unwrap();
            assert_eq!(row.get::<_, bool>(0), is_free, "{end}");
        }
    }
}
