//! Connections: how they are made, what they are told at first, and what their errors mean.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bb8::ManageConnection;
use bb8_postgres::PostgresConnectionManager;
use tokio_postgres::{Client, NoTls, Statement, error::SqlState};

use crate::{config::Config, error::Error};

/// One connection, with the statements it has prepared.
pub(crate) struct Session {
    client: Client,
    prepared: HashMap<&'static str, Statement>,
}

/// The connections readers share.
pub(crate) type Readers = bb8::Pool<ReaderSessions>;

/// Makes the readers' connections.
#[derive(Debug)]
pub(crate) struct ReaderSessions {
    postgres: PostgresConnectionManager<NoTls>,
    statement_timeout: Duration,
}

/// What every session is told. Plans that pay off after seconds of compiling never do here.
const EVERY_SESSION: &str = "SET jit = off; SET TimeZone = 'UTC'; SET client_min_messages = warning";

/// Writers look rows up by their whole key, thousands at a time from arrays whose length the planner cannot see: nothing
/// but the key's index is right, and the plan never changes. Acknowledged means durable, also where the server's default
/// is not; stricter defaults (`remote_apply`) stay.
const WRITER_SESSION: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
     SET plan_cache_mode = force_generic_plan; \
     SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// Readers ask for stretches of keys, given as arrays: plans never change, and planning would cost more than most answers.
const READER_SESSION: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; \
     SET max_parallel_workers_per_gather = 0";

impl Session {
    /// A connection for a writer of its own.
    pub(crate) async fn writer(config: &Config) -> Result<Self, tokio_postgres::Error> {
        let session = Self::connect(&PostgresConnectionManager::new(config.postgres.clone(), NoTls)).await?;
        session.client.batch_execute(WRITER_SESSION).await?;
        Ok(session)
    }

    /// A connection for anything else.
    pub(crate) async fn plain(postgres: &tokio_postgres::Config) -> Result<Self, tokio_postgres::Error> {
        Self::connect(&PostgresConnectionManager::new(postgres.clone(), NoTls)).await
    }

    async fn connect(postgres: &PostgresConnectionManager<NoTls>) -> Result<Self, tokio_postgres::Error> {
        Self::of(postgres.connect().await?).await
    }

    /// Over a connection that was made elsewhere.
    pub(crate) async fn of(client: Client) -> Result<Self, tokio_postgres::Error> {
        client.batch_execute(EVERY_SESSION).await?;
        Ok(Self {
            client,
            prepared: HashMap::new(),
        })
    }

    /// The statement for `sql`, prepared on first use.
    pub(crate) async fn prepare(&mut self, sql: &'static str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.prepared.insert(sql, statement.clone());
        Ok(statement)
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
        let session = Session::connect(&self.postgres).await?;
        let timeout = self.statement_timeout.as_millis();
        let limit = format!("{READER_SESSION}; SET statement_timeout = {timeout}");
        session.client.batch_execute(&limit).await?;
        Ok(session)
    }

    async fn is_valid(&self, session: &mut Session) -> Result<(), Self::Error> {
        session.client.batch_execute("").await
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.client.is_closed()
    }
}

/// The pool of readers. It connects when first asked, so that a database that is away now is no reason not to start.
pub(crate) fn readers(config: &Config) -> Readers {
    let sessions = ReaderSessions {
        postgres: PostgresConnectionManager::new(config.postgres.clone(), NoTls),
        statement_timeout: config.limits.statement_timeout,
    };
    bb8::Pool::builder()
        .max_size(config.limits.readers)
        // A broken connection shows when it is used; a round trip at each checkout would be the dearest part of a query.
        .test_on_check_out(false)
        .connection_timeout(config.limits.connection_wait)
        .error_sink(Box::new(LogErrors))
        .build_unchecked(sessions)
}

/// A connection to read with: one that still stands, so that a database that has returned is one at once.
pub(crate) async fn checkout(readers: &Readers) -> Result<bb8::PooledConnection<'_, ReaderSessions>, Error> {
    loop {
        let session = readers.get().await.map_err(|error| match error {
            bb8::RunError::User(error) => classify(error),
            bb8::RunError::TimedOut => Error::Unavailable(Arc::new(bb8::RunError::<tokio_postgres::Error>::TimedOut)),
        })?;
        // The pool throws a broken one away when it gets it back.
        if !session.client.is_closed() {
            return Ok(session);
        }
    }
}

/// Connection errors of the pool's own tasks have nobody else to go to.
#[derive(Debug, Clone, Copy)]
struct LogErrors;

impl bb8::ErrorSink<tokio_postgres::Error> for LogErrors {
    fn sink(&self, error: tokio_postgres::Error) {
        tracing::warn!(error = classify(error).chain(), "a reader could not connect");
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<tokio_postgres::Error>> {
        Box::new(*self)
    }
}

/// What a caller can do about an error of PostgreSQL's.
pub(crate) fn classify(error: tokio_postgres::Error) -> Error {
    let Some(code) = error.code() else {
        // Without a code it came from the connection: refused, reset, closed.
        return Error::Unavailable(Arc::new(error));
    };
    let passing = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::READ_ONLY_SQL_TRANSACTION, // a standby that has not been promoted yet
        SqlState::IO_ERROR,
        SqlState::QUERY_CANCELED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    // Class 08: the connection. Class 53: out of connections, memory or disk.
    if passing.contains(code) || code.code().starts_with("08") || code.code().starts_with("53") {
        Error::Unavailable(Arc::new(error))
    } else {
        Error::Database(Arc::new(error))
    }
}
