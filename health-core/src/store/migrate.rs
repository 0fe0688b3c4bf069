//! Creates the database if it is missing, and brings its schema up to date.

use std::sync::Arc;

use tokio_postgres::error::SqlState;

use crate::{
    config::Config,
    error::Error,
    store::connection::{Session, classify},
};

mod schema {
    refinery::embed_migrations!("migrations");
}

/// Makes two servers that start at the same moment migrate one after the other. Refinery takes no lock of its own.
///
/// The lock ends with its transaction, so no pooler can keep it in a session that it gives to other programs. Refinery
/// runs each migration in a transaction of its own; so the lock has a connection of its own. No timeout of the role may
/// end this transaction, which waits for the lock, and then idles while the migrations run.
const LOCK: &str = "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
     SET LOCAL idle_in_transaction_session_timeout = 0; \
     SELECT set_config('transaction_timeout', '0', true) WHERE current_setting('transaction_timeout', true) <> '0'; \
     SELECT pg_advisory_xact_lock(hashtext('health migrations'))";

/// Brings the schema up to date; creates the database if it is missing and this role may create it.
///
/// Several programs may call it at the same time: one migrates, the others wait and then find nothing to do.
///
/// # Errors
/// [`Error::Unavailable`] if the database cannot be reached. [`Error::Migration`] if a migration fails or the schema is
/// newer than this program.
pub async fn migrate(config: &Config) -> Result<(), Error> {
    let mut session = match Session::plain(config).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_DATABASE) => {
            create_database(config).await?;
            Session::plain(config).await
        }
        connected => connected,
    }
    .map_err(classify)?;

    let lock = Session::plain(config).await.map_err(classify)?;
    take_lock(&lock).await?;
    let report = schema::migrations::runner()
        .run_async(session.client_mut())
        .await
        .map_err(|error| Error::Migration(Arc::new(error)))?;
    for migration in report.applied_migrations() {
        tracing::info!(%migration, "migrated");
    }
    // If this fails, the connection is lost, and the lock with it.
    let _ = lock.client().batch_execute("ROLLBACK").await;
    Ok(())
}

/// Waits for the lock of the migrations. The session holds it until its transaction ends.
async fn take_lock(session: &Session) -> Result<(), Error> {
    session.client().batch_execute(LOCK).await.map_err(classify)
}

async fn create_database(config: &Config) -> Result<(), Error> {
    let name = config.postgres.get_dbname().unwrap_or_default();
    let mut maintenance = config.clone();
    maintenance.postgres.dbname("postgres");
    let session = Session::plain(&maintenance).await.map_err(classify)?;
    let create = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
    match session.client().batch_execute(&create).await {
        Ok(()) => {
            tracing::info!(database = name, "created the database");
            Ok(())
        }
        // Another program has created it meanwhile. PostgreSQL reports either code, depending on the moment.
        Err(error)
            if [Some(&SqlState::DUPLICATE_DATABASE), Some(&SqlState::UNIQUE_VIOLATION)].contains(&error.code()) =>
        {
            Ok(())
        }
        Err(error) => Err(classify(error)),
    }
}
