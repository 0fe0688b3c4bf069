//! Says in the log whom a session waits for, if it waits for a lock for long.

use std::{fmt, pin::pin, time::Duration};

use tokio::time::{Instant, timeout};

use crate::{config::Config, store::connection::Session};

/// How long a session waits before the log says for whom. Locks of this program are held for some milliseconds.
pub(crate) const REPORT_AFTER: Duration = Duration::from_secs(2);

/// The pause between two reports of the same wait.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// How long the question may take. If the database has no connection left, there is no report.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// The lock that a session waits for, and the sessions that hold it.
///
/// `pg_blocking_pids` also names sessions that wait in front. A prepared transaction has the number 0. PostgreSQL shows
/// when a session of another role began its transaction only to roles that may read all statistics.
const BLOCKERS: &str = "SELECT coalesce('the table ' || waiting.relation::regclass::text, waiting.locktype), blocking.pid, \
     coalesce(session.application_name, ''), coalesce(session.usename::text, ''), \
     to_char(coalesce(session.xact_start, session.state_change, session.backend_start), 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
     FROM pg_locks AS waiting CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocking (pid) \
     LEFT JOIN pg_stat_activity AS session ON session.pid = blocking.pid \
     WHERE waiting.pid = $1 AND NOT waiting.granted ORDER BY 2";

/// A session that keeps another one waiting.
#[derive(Debug)]
struct Blocker {
    pid: i32,
    application: String,
    role: String,
    since: Option<String>,
}

/// What a session waits for.
#[derive(Debug)]
pub(crate) struct LockWait {
    lock: String,
    blockers: Vec<Blocker>,
}

/// Runs work of a session to its end. If the work takes long because of a lock, the log says who holds it.
///
/// `who` is the subject of the log line, such as "a writer". `on_wait` is called after each question, with what was
/// found.
pub(crate) async fn report_waits<T>(
    config: &Config,
    pid: i32,
    who: &str,
    mut on_wait: impl FnMut(Option<&LockWait>, Duration),
    work: impl Future<Output = T>,
) -> T {
    let began = Instant::now();
    let mut work = pin!(work);
    let mut pause = REPORT_AFTER;
    loop {
        if let Ok(done) = timeout(pause, &mut work).await {
            return done;
        }
        let wait = tokio::select! {
            biased;
            done = &mut work => return done,
            wait = ask(config, pid) => wait,
        };
        if let Some(wait) = &wait {
            tracing::warn!("{who} waits for {wait}");
        }
        on_wait(wait.as_ref(), began.elapsed());
        pause = REPORT_EVERY;
    }
}

/// Asks in a session of its own, because the other one is waiting. Returns `None` if it does not wait for a lock, or if
/// there is no answer.
async fn ask(config: &Config, pid: i32) -> Option<LockWait> {
    let asking = async {
        let session = Session::plain(&config.for_sessions("diagnosis")).await?;
        session.client().query(BLOCKERS, &[&pid]).await
    };
    let rows = match timeout(ASK_TIMEOUT, asking).await.ok()? {
        Ok(rows) => rows,
        Err(error) => {
            tracing::debug!(%error, "cannot find out who holds a lock");
            return None;
        }
    };
    let lock = rows.first()?.get(0);
    let blockers = rows.iter().map(|row| Blocker {
        pid: row.get(1),
        application: row.get(2),
        role: row.get(3),
        since: row.get(4),
    });
    Some(LockWait {
        lock,
        blockers: blockers.collect(),
    })
}

impl fmt::Display for LockWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lock, blockers } = self;
        match lock.strip_prefix("the table ") {
            Some(_) => write!(f, "a lock on {lock}, held by ")?,
            None => write!(f, "a lock ({lock}), held by ")?,
        }
        for (index, blocker) in blockers.iter().enumerate() {
            let separator = if index == 0 { "" } else { " and " };
            write!(f, "{separator}{blocker}")?;
        }
        write!(f, ". It goes on when that transaction or session ends")?;
        match blockers.iter().find(|blocker| blocker.pid != 0) {
            Some(blocker) => write!(f, "; to end the session: SELECT pg_terminate_backend({})", blocker.pid),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pid,
            application,
            role,
            since,
        } = self;
        if *pid == 0 {
            return write!(f, "a prepared transaction (see pg_prepared_xacts)");
        }
        write!(f, "process {pid} (application {application:?}, role {role:?}")?;
        match since {
            Some(since) => write!(f, ", since {since})"),
            None => write!(f, ", since a time that this role may not see)"),
        }
    }
}
