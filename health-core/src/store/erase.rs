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

const MARKS: &str = "DELETE FROM health_dirty WHERE user_id = $1";

const SAMPLES: &str = "DELETE FROM health_metrics WHERE user_id = $1";

const ROLLUPS: &str = "DELETE FROM health_rollups WHERE user_id = $1";

/// Tries, where a writer and we wait for each other: it holds samples and wants marks, we hold marks and want samples.
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
        return erased;
    }
    session.client().batch_execute("COMMIT").await?;
    erased
}

/// With the rollers' lock no summary is made meanwhile of samples that are about to go. Marks go before samples: a sample
/// that is committed in between keeps its mark. Samples go before summaries, so that none is left whose sample is gone.
async fn inside(session: &mut Session, user: UserId) -> Result<u64, Failure> {
    session
        .client()
        .batch_execute(&format!("BEGIN; {TIMEOUT}; {}", rollup::LOCK))
        .await?;
    let mut erased = [0; 3];
    for (count, sql) in erased.iter_mut().zip([MARKS, SAMPLES, ROLLUPS]) {
        let statement = session.prepare(sql).await?;
        *count = session.client().execute(&statement, &[&user.get()]).await?;
    }
    Ok(erased[1])
}
