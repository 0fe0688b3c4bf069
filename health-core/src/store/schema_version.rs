//! Which migrations this program knows, and which of them a database has.

use std::sync::Arc;

use refinery::{Migration, Runner};
use tokio_postgres::error::SqlState;

use crate::{
    error::Error,
    setup_error::SetupError,
    store::{connection::Session, database::Facts, refusal::classify},
};

mod schema {
    refinery::embed_migrations!("migrations");
}

/// Whether a migration was ever applied. Unlike a reference to the table, this is no error if there is none.
const HAS_HISTORY: &str = "SELECT to_regclass('refinery_schema_history') IS NOT NULL";

/// The applied migrations, in the table that refinery writes.
const HISTORY: &str =
    "SELECT version, coalesce(name, ''), coalesce(checksum, '') FROM refinery_schema_history ORDER BY version";

/// Returns the runner of the migrations of this program.
pub(crate) fn runner() -> Runner {
    schema::migrations::runner()
}

/// Returns the migrations of this program, in their order.
pub(crate) fn known_migrations() -> Vec<Migration> {
    let mut known = runner().get_migrations().clone();
    known.sort_by_key(Migration::version);
    known
}

/// Returns whether every migration of this program was applied.
///
/// # Errors
/// [`Error::Setup`] if this program does not know a migration that was applied.
pub(crate) async fn is_current(session: &Session, facts: &Facts) -> Result<bool, Error> {
    Ok(applied_versions(session, facts).await?.len() == known_migrations().len())
}

/// Returns the numbers of the applied migrations, ascending.
///
/// # Errors
/// [`Error::Setup`] if this program does not know one of them.
pub(crate) async fn applied_versions(session: &Session, facts: &Facts) -> Result<Vec<i32>, Error> {
    let client = session.client();
    if !client
        .query_one(HAS_HISTORY, &[])
        .await
        .map_err(classify)?
        .get::<_, bool>(0)
    {
        return Ok(Vec::new());
    }
    let rows = client
        .query(HISTORY, &[])
        .await
        .map_err(|error| read_error(error, facts))?;
    let known = known_migrations();
    for row in &rows {
        let (version, name, checksum): (i32, &str, &str) = (row.get(0), row.get(1), row.get(2));
        match known.iter().find(|migration| migration.version() == version) {
            Some(migration) if migration.name() == name && migration.checksum().to_string() == checksum => {}
            Some(_) => {
                return Err(Error::Setup(SetupError::OtherMigration {
                    database: facts.name.clone(),
                    version,
                    name: name.to_owned(),
                }));
            }
            None => {
                return Err(Error::Setup(SetupError::NewerSchema {
                    database: facts.name.clone(),
                    found: version,
                    known: known.iter().map(Migration::version).max().unwrap_or_default(),
                }));
            }
        }
    }
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Sorts an error of reading at the start: a missing right has a remedy.
pub(crate) fn read_error(error: tokio_postgres::Error, facts: &Facts) -> Error {
    if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return Error::Setup(SetupError::MayNotRead {
            database: facts.name.clone(),
            role: facts.role.clone(),
            cause: Arc::new(error),
        });
    }
    classify(error)
}
