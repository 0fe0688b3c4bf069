//! Brings a database into being and its schema up to date.

use std::sync::Arc;

use tokio_postgres::error::SqlState;

use crate::{
    config::Config,
    error::Error,
    store::connection::{Session, classify},
};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Two servers that start at once must not migrate at once, and refinery takes no lock of its own.
const LOCK: &str = "SELECT pg_advisory_lock(hashtext('health migrations'))";

/// Brings the schema up to date, creating the database where it is missing and this user may.
///
/// Safe to call from several programs at once: one migrates, the others wait and find nothing to do.
///
/// # Errors
/// [`Error::Unavailable`] where the database cannot be reached, [`Error::Migration`] where a step fails or the schema is
/// newer than this program.
pub async fn migrate(config: &Config) -> Result<(), Error> {
    let mut session = match Session::plain(&config.postgres).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_DATABASE) => {
            create_database(config).await?;
            Session::plain(&config.postgres).await
        }
        connected => connected,
    }
    .map_err(classify)?;

    session.client().batch_execute(LOCK).await.map_err(classify)?;
    let report = embedded::migrations::runner()
        .run_async(session.client_mut())
        .await
        .map_err(|error| Error::Migration(Arc::new(error)))?;
    for step in report.applied_migrations() {
        tracing::info!(step = %step, "migrated");
    }
    // The lock goes with the session.
    Ok(())
}

async fn create_database(config: &Config) -> Result<(), Error> {
    let name = config.postgres.get_dbname().unwrap_or_default();
    let mut maintenance = config.postgres.clone();
    maintenance.dbname("postgres");
    let session = Session::plain(&maintenance).await.map_err(classify)?;
    let create = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
    match session.client().batch_execute(&create).await {
        Ok(()) => {
            tracing::info!(database = name, "created the database");
            Ok(())
        }
        // Another program was faster.
        Err(error)
            if [Some(&SqlState::DUPLICATE_DATABASE), Some(&SqlState::UNIQUE_VIOLATION)].contains(&error.code()) =>
        {
            Ok(())
        }
        Err(error) => Err(classify(error)),
    }
}
