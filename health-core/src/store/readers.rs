//! The pool of connections for readers: how many it opens, which one a query gets, and what a query without one is
//! told.

use std::{sync::Arc, time::Duration};

use bb8_postgres::bb8::{self, ManageConnection};
use parking_lot::Mutex;

use crate::{
    cause::Cause,
    config::{Config, Limits},
    error::{Error, TemporaryReason},
    sessions::Need,
    store::{
        awaited_users::AwaitedUsers,
        connection::{Session, connection_error},
        refusal::{classify, too_many_connections},
    },
};

/// The pool of connections for readers.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    pool: bb8::Pool<ReaderSessions>,
    config: Config,
    awaited_users: Arc<AwaitedUsers>,
}

/// Makes the connections of the pool.
pub(crate) struct ReaderSessions {
    config: Config,
    /// Set while there is no connection, because one was refused.
    need: Mutex<Option<Need>>,
}

/// How long after a refusal the pool opens no further connection. PostgreSQL starts a process and writes a line into
/// its log for each attempt.
const REFUSAL_LASTS: Duration = Duration::from_secs(1);

impl ManageConnection for ReaderSessions {
    type Connection = Session;
    type Error = Error;

    async fn connect(&self) -> Result<Session, Error> {
        let sessions = &self.config.sessions;
        if sessions.has_reader() {
            // A further connection is surplus. After a refusal a moment ago, the pool does not try again at once.
            if sessions.are_scarce() {
                return Err(too_many_connections(Arc::new(Scarce)));
            }
            let refusal = sessions.reader_failure(REFUSAL_LASTS);
            if let Some(refusal) = refusal.filter(Error::is_too_many_connections) {
                return Err(refusal);
            }
        }
        let mut session = match Session::reader(&self.config).await {
            Ok(session) => session,
            Err(error) if error.is_too_many_connections() => {
                if sessions.note_reader_failure(&error) && sessions.logs_refusal() {
                    let error = error.chain();
                    tracing::warn!(error, "queries get no further connection to the database");
                }
                if !sessions.has_reader() {
                    self.need.lock().get_or_insert_with(|| sessions.need());
                }
                return Err(error);
            }
            Err(error) => {
                sessions.note_reader_failure(&error);
                return Err(error);
            }
        };
        *self.need.lock() = None;
        // It waited in the queue of a pooler, and others need it more.
        if sessions.has_reader() && sessions.are_scarce() {
            return Err(too_many_connections(Arc::new(Scarce)));
        }
        session.count_as_reader(sessions.open_reader());
        Ok(session)
    }

    async fn is_valid(&self, session: &mut Session) -> Result<(), Error> {
        session.client().batch_execute("").await.map_err(classify)
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        let sessions = &self.config.sessions;
        session.client().is_lost() || (sessions.are_scarce() && sessions.has_surplus_reader())
    }
}

/// Returns the pool of readers. It connects on first use, so a database that is away does not prevent the start.
pub(crate) fn readers(config: &Config) -> Readers {
    let sessions = ReaderSessions {
        config: config.clone(),
        need: Mutex::default(),
    };
    let pool = bb8::Pool::builder()
        .max_size(config.limits.readers)
        // `checkout` detects broken connections. A test at each checkout would be a round trip, which takes longer than
        // many queries.
        .test_on_check_out(false)
        .connection_timeout(config.limits.connection_wait)
        .error_sink(Box::new(LogErrors))
        .build_unchecked(sessions);
    Readers {
        pool,
        config: config.clone(),
        awaited_users: Arc::default(),
    }
}

impl Readers {
    /// Returns how many connections are open, and how many of them no query uses.
    pub(crate) fn connections(&self) -> (u64, u64) {
        let state = self.pool.state();
        (state.connections.into(), state.idle_connections.into())
    }

    /// Opens a connection that is not one of the pool, for work that cannot wait until a query has ended.
    pub(crate) async fn own_session(&self) -> Result<Session, Error> {
        Session::plain(&self.config).await.map_err(connection_error)
    }

    /// The users whose queries found many dirty slices.
    pub(crate) fn awaited_users(&self) -> &Arc<AwaitedUsers> {
        &self.awaited_users
    }
}

/// Takes a connection from the pool that is not known to be broken.
///
/// After the database has restarted, every idle connection of the pool is broken; one call skips them all.
pub(crate) async fn checkout(readers: &Readers) -> Result<bb8::PooledConnection<'_, ReaderSessions>, Error> {
    loop {
        let session = readers.pool.get().await.map_err(|error| match error {
            bb8::RunError::User(error) => error,
            bb8::RunError::TimedOut => no_reader(readers),
        })?;
        // The pool discards a broken connection when it is returned.
        if !session.client().is_lost() {
            return Ok(session);
        }
    }
}

/// Closes an idle connection of the readers, unless it is the only one, so that a task that needs a connection can open
/// one.
pub(crate) async fn give_back(readers: &Readers) {
    let state = readers.pool.state();
    if state.connections > 1 && state.idle_connections > 0 {
        // The pool looks whether connections are scarce when this one is returned.
        drop(readers.pool.get().await);
    }
}

/// Returns why no connection of the pool became free in time.
fn no_reader(readers: &Readers) -> Error {
    let Limits {
        readers: max,
        connection_wait,
        ..
    } = readers.config.limits;
    if let Some(failure) = readers.config.sessions.reader_failure(connection_wait + REFUSAL_LASTS) {
        return failure;
    }
    let timed_out: Cause = Arc::new(bb8::RunError::<Error>::TimedOut);
    let state = readers.pool.state();
    if state.connections >= max && state.idle_connections == 0 {
        return Error::Temporary {
            reason: TemporaryReason::ReadersBusy,
            cause: timed_out,
        };
    }
    Error::Unavailable(timed_out)
}

/// Logs errors of connections that the pool opens by itself: no caller gets them.
#[derive(Debug, Clone, Copy)]
struct LogErrors;

impl bb8::ErrorSink<Error> for LogErrors {
    fn sink(&self, error: Error) {
        // The pool tries again at each query, and the first refusal was logged.
        if !error.is_too_many_connections() {
            tracing::warn!(error = error.chain(), "a reader could not connect to the database");
        }
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<Error>> {
        Box::new(*self)
    }
}

/// The cause of [`TemporaryReason::TooManyConnections`] for connections that are surplus.
#[derive(Debug, thiserror::Error)]
#[error("connections are scarce, and another task of this server has none")]
struct Scarce;
