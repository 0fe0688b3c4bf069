//! What the sessions of one configuration know of each other: which database sessions are in use, and who waits for a
//! connection.
//!
//! A role, a database or a pooler may give out fewer connections than a server would use. Each of these tasks needs one
//! connection: the first writer, the first reader, the poller and the roller. All other connections are *surplus*.
//! While a task that needs a connection is refused one, surplus connections are closed and none is opened.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::error::Error;

/// The sessions of one configuration. All clones of a [`Config`](crate::Config) share it.
#[derive(Default)]
pub(crate) struct Sessions {
    backends: Mutex<HashMap<Backend, Weak<AtomicBool>>>,
    /// Tasks that need a connection and were refused one.
    waiting: AtomicUsize,
    /// Connections of readers that are open.
    readers: AtomicUsize,
    /// Why a reader's connection could not be opened, until one is opened.
    reader_failure: Mutex<Option<(Instant, Error)>>,
    refusal_logged: Mutex<Option<Instant>>,
}

/// A process of PostgreSQL that serves one session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Backend {
    pub(crate) pid: String,
    /// When its server was started: process ids of two servers may be the same.
    pub(crate) server_started: String,
}

/// Whether a session is lost. The session shares it with the task that drives its connection.
pub(crate) type IsLost = Arc<AtomicBool>;

/// The need of a task for a connection that it was refused. It ends when the value is dropped.
pub(crate) struct Need {
    sessions: Arc<Sessions>,
}

/// A connection of a reader, as long as it is open.
pub(crate) struct OpenReader {
    sessions: Arc<Sessions>,
}

/// How long after a refusal of a surplus connection the next one is logged again.
const LOG_EVERY: Duration = Duration::from_mins(1);

impl Sessions {
    /// Adds a session. Returns false if another open session has the same backend: that is how a pooler in transaction
    /// mode looks.
    pub(crate) fn add(&self, backend: &Backend, is_lost: &IsLost) -> bool {
        let mut backends = self.backends.lock();
        backends.retain(|_, session| session.strong_count() > 0);
        let other = backends.get(backend).and_then(Weak::upgrade);
        if other.is_some_and(|is_lost| !is_lost.load(Relaxed)) {
            return false;
        }
        backends.insert(backend.clone(), Arc::downgrade(is_lost));
        true
    }

    /// Notes that a task that needs a connection was refused one.
    pub(crate) fn need(self: &Arc<Self>) -> Need {
        self.waiting.fetch_add(1, Relaxed);
        Need {
            sessions: Arc::clone(self),
        }
    }

    /// Returns whether surplus connections have to be closed.
    pub(crate) fn are_scarce(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// Returns whether a further connection of a reader would be surplus.
    pub(crate) fn has_reader(&self) -> bool {
        self.readers.load(Relaxed) > 0
    }

    /// Returns whether one of the open connections of readers is surplus.
    pub(crate) fn has_surplus_reader(&self) -> bool {
        self.readers.load(Relaxed) > 1
    }

    /// Counts a connection of a reader that was opened.
    pub(crate) fn open_reader(self: &Arc<Self>) -> OpenReader {
        self.readers.fetch_add(1, Relaxed);
        *self.reader_failure.lock() = None;
        OpenReader {
            sessions: Arc::clone(self),
        }
    }

    /// Notes why a connection of a reader could not be opened. Returns whether the one before could.
    pub(crate) fn note_reader_failure(&self, error: &Error) -> bool {
        let before = self.reader_failure.lock().replace((Instant::now(), error.clone()));
        before.is_none()
    }

    /// Returns why a connection of a reader could not be opened, if that was no longer ago.
    pub(crate) fn reader_failure(&self, ago: Duration) -> Option<Error> {
        let failure = self.reader_failure.lock();
        let recent = failure.as_ref().filter(|(at, _)| at.elapsed() <= ago);
        recent.map(|(_, error)| error.clone())
    }

    /// Returns whether to log that readers get no further connection.
    pub(crate) fn logs_refusal(&self) -> bool {
        let mut logged = self.refusal_logged.lock();
        let logs = logged.is_none_or(|at| at.elapsed() > LOG_EVERY);
        if logs {
            *logged = Some(Instant::now());
        }
        logs
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("waiting", &self.waiting)
            .field("readers", &self.readers)
            .finish_non_exhaustive()
    }
}

impl Drop for Need {
    fn drop(&mut self) {
        self.sessions.waiting.fetch_sub(1, Relaxed);
    }
}

impl Drop for OpenReader {
    fn drop(&mut self) {
        self.sessions.readers.fetch_sub(1, Relaxed);
    }
}
