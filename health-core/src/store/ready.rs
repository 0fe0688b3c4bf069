//! Asks whether the database can store samples now.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{SimpleQueryMessage, error::SqlState};

use crate::{
    error::{Error, NotWritableReason},
    store::{
        connection::{Session, backend, other_backend},
        readers::{Readers, checkout},
        refusal::classify,
        required_version,
    },
};

/// Takes the lock that a writer needs, and asks what else would keep it from writing.
///
/// The statements are sent as one query: they are one transaction, so the lock ends with them, even if the caller has
/// stopped waiting. A database can be read-only for another reason than a lock (a standby, a setting), which only the
/// last statement tells.
const READY: &str = "SET LOCAL lock_timeout = '1s'; \
     LOCK TABLE health_metrics, health_commits, health_dirty IN ROW EXCLUSIVE MODE; \
     SELECT pg_backend_pid() AS backend_pid, pg_postmaster_start_time()::text AS server_started; \
     SELECT current_setting('transaction_read_only')::boolean, pg_is_in_recovery(), \
     has_sequence_privilege('health_batch_numbers', 'USAGE') AND (SELECT bool_and(has_table_privilege(name, privilege)) \
     FROM unnest(ARRAY['health_metrics', 'health_commits', 'health_commit_packs', 'health_erasures', 'health_dirty', \
     'health_sealing', 'health_rollups']) AS name, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege), \
     (SELECT required_version FROM health_sealing)";

/// The longest wait for the answer: twice the lock timeout of the query. A slower database stores nothing in time
/// either.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What a session has answered.
enum Answer {
    Ready,
    NotReady(Error),
    /// The session is read-only because of a setting. A newer session may not be: the setting of a database or a role
    /// holds for new sessions.
    SetToReadOnly,
}

/// Checks that a writer could get its locks, has its rights, and that the database is not read-only.
///
/// # Errors
/// [`Error::NotWritable`] with the reason, [`Error::TimedOut`], or [`Error::Unavailable`].
pub(crate) async fn ready(readers: &Readers) -> Result<(), Error> {
    loop {
        let mut session = checkout(readers).await?;
        match ask(&session).await? {
            Answer::Ready => return Ok(()),
            Answer::NotReady(error) => return Err(error),
            Answer::SetToReadOnly => {
                session.retire();
                if session.age() < ANSWER_TIMEOUT {
                    return Err(Error::NotWritable(NotWritableReason::ReadOnly));
                }
            }
        }
    }
}

async fn ask(session: &Session) -> Result<Answer, Error> {
    let answer = timeout(ANSWER_TIMEOUT, session.client().simple_query(READY)).await;
    let messages = match answer.map_err(|_| Error::TimedOut(ANSWER_TIMEOUT))? {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            return Ok(Answer::NotReady(Error::NotWritable(NotWritableReason::Locked)));
        }
        answer => answer.map_err(classify)?,
    };
    if backend(&messages).as_ref() != session.backend() {
        session.client().lose();
        return Err(other_backend());
    }
    let row = messages.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let is = |column| row.and_then(|row| row.get(column)) == Some("t");
    let (is_read_only, is_in_recovery, has_rights) = (is(0), is(1), is(2));
    let required = row.and_then(|row| row.get(3)).and_then(|number| number.parse().ok());
    let not_ready = |reason| Answer::NotReady(Error::NotWritable(reason));
    Ok(match (is_read_only, is_in_recovery, has_rights) {
        (_, true, _) => not_ready(NotWritableReason::ReadOnly),
        (true, _, _) => Answer::SetToReadOnly,
        (_, _, false) => not_ready(NotWritableReason::MissingRight),
        _ => match required_version::check(required.unwrap_or_default()) {
            Ok(()) => Answer::Ready,
            Err(reason) => not_ready(reason),
        },
    })
}
