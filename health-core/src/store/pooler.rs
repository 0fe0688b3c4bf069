//! Recognises a connection pooler that does not keep sessions.
//!
//! This program keeps prepared statements, settings and `LISTEN` in its sessions. A pooler in transaction mode gives a
//! connection to another session of the database after each transaction.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;

use crate::{
    config::Config,
    error::Error,
    sessions::Backend,
    setup_error::SetupError,
    store::{
        connect::connect,
        connect_refusal::classify_connect,
        connection::{BACKEND, backend, drive, no_session},
        refusal::classify,
    },
};

/// Some poolers keep the session of a connection from its first `SET` on. The setting is ours alone, so it means
/// nothing to other programs that get the session.
const PIN: &str = "SET health.session = 'kept'";

/// How long the second connection and all answers may take. A pooler in session mode that has one session only lets the
/// second connection wait for the first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often both connections are asked. A pooler that chooses among two idle sessions at random stays unnoticed once
/// in 100 starts; other poolers show themselves in the first round.
const ROUNDS: usize = 2;

/// Fails if two open connections are served by the same process, or one of them by different ones. Returns false if
/// none can be opened: the database may be missing yet.
///
/// No session does this that belongs to one connection, direct or through a pooler in session mode. `PgBouncer` in
/// transaction mode gives the second connection the session that the first one has just left, also if it has only one.
/// Other poolers take turns, so that the process of a connection changes.
///
/// The connections have no other settings, because a pooler in transaction mode would give them to other programs.
///
/// # Errors
/// [`SetupError::TransactionPooler`], or that of the database.
pub(crate) async fn check(config: &Config) -> Result<bool, Error> {
    let Ok(one) = open(config).await else {
        return Ok(false);
    };
    let asking = async {
        let other = open(config).await.map_err(classify_connect)?;
        let pin = format!("{PIN}; {BACKEND}");
        let first = (ask(&one, &pin).await?, ask(&other, &pin).await?);
        let (Some(_), Some(_)) = first else {
            return Ok(true); // The database does not tell.
        };
        for _ in 0..ROUNDS {
            let (second, first_again) = (ask(&other, BACKEND).await?, ask(&one, BACKEND).await?);
            if first.0 == first.1 || (first_again, second) != first {
                return Err(Error::Setup(SetupError::TransactionPooler));
            }
        }
        Ok(true)
    };
    let answer = timeout(ANSWER_TIMEOUT, asking).await;
    answer.unwrap_or_else(|_| Err(no_session()))
}

async fn open(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, driver) = connect(config).await?;
    drive(driver);
    Ok(client)
}

async fn ask(client: &Client, sql: &str) -> Result<Option<Backend>, Error> {
    Ok(backend(&client.simple_query(sql).await.map_err(classify)?))
}
