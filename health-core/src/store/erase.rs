//! Erasing a user.

use tokio_postgres::error::SqlState;

use crate::{
    error::Error,
    sample::UserId,
    store::{
        connection::{Readers, Session, checkout},
        failure::Failure,
        rollup,
    },
};

/// How long erasing one user may take: some ten million samples a minute go.
const TIMEOUT: &str = "SET LOCAL statement_timeout = '15min'";

/// Marks of the current epoch stay: a writer may rely on one for a sample that it has not committed yet.
const MARKS: &str = "DELETE FROM health_dirty WHERE user_id = $1 AND epoch < (SELECT epoch FROM health_sealing)";

const ANY_MARK: &str = "SELECT EXISTS (SELECT FROM health_dirty WHERE user_id = $1)";

const SAMPLES: &str = "DELETE FROM health_metrics WHERE user_id = $1";

const ROLLUPS: &str = "DELETE FROM health_rollups WHERE user_id = $1";

/// Tries, where a writer and we wait for each other: both change several samples, in orders of their own.
const TRIES: usize = 5;

/// Removes everything there is of a user, and says how many samples that were.
///
/// Once begun it goes on to its end, also when whoever asked is gone.
pub(crate) async fn erase(readers: &Readers, user: UserId) -> Result<u64, Error> {
    let readers = readers.clone();
    let erasing = tokio::spawn(async move {
        let mut session = checkout(&readers).await?;
        let mut tries = 0;
        loop {
            tries += 1;
            match attempt(&mut session, user).await {
                Err(Failure::Postgres(error))
                    if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) && tries < TRIES => {}
                done => return Ok(done?),
            }
        }
    });
    match erasing.await {
        Ok(erased) => erased,
        Err(stopped) => Err(Error::Unavailable(std::sync::Arc::new(stopped))),
    }
}

async fn attempt(session: &mut Session, user: UserId) -> Result<u64, Failure> {
    let erased = inside(session, user).await;
    if erased.is_err() {
        // Should this fail too, the connection is at its end and takes the transaction with it.
        let _ = session.client().batch_execute("ROLLBACK").await;
    }
    erased
}

async fn inside(session: &mut Session, user: UserId) -> Result<u64, Failure> {
    // First, in a transaction of its own, since writers wait for its end: let go of the marks there are.
    begin(session).await?;
    let any_mark = session.prepare(ANY_MARK).await?;
    if session.client().query_one(&any_mark, &[&user.get()]).await?.get(0) {
        rollup::end_epoch(session).await?;
    }
    session.client().batch_execute("COMMIT").await?;

    begin(session).await?;
    let mut erased = [0; 3];
    for (count, sql) in erased.iter_mut().zip([MARKS, SAMPLES, ROLLUPS]) {
        let statement = session.prepare(sql).await?;
        *count = session.client().execute(&statement, &[&user.get()]).await?;
    }
    session.client().batch_execute("COMMIT").await?;
    Ok(erased[1])
}

/// With the rollers' lock no summary is made meanwhile of samples that are about to go, and the epoch stays what it is: what
/// is committed before the samples are looked for goes with its summaries, what is committed later has a mark that stays.
async fn begin(session: &mut Session) -> Result<(), Failure> {
    let begin = format!("BEGIN; {TIMEOUT}; {}", rollup::LOCK);
    Ok(session.client().batch_execute(&begin).await?)
}
