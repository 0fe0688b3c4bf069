//! Whether this program may write: a newer program may have changed the schema so that this one would break a promise.
//!
//! The migration that does so raises `health_sealing.required_version`, under the locks of the rollers and of the
//! threshold. Every transaction that changes something has taken one of these locks before it reads the number. So
//! those that have read the old number have ended before the schema changes.

use crate::{
    error::NotWritableReason,
    store::{connection::Session, error::StoreError},
};

/// The newest migration that this program knows. A test compares it with the migrations.
pub(crate) const KNOWN_VERSION: i32 = 15;

const REQUIRED_VERSION: &str = "SELECT required_version FROM health_sealing";

/// Refuses to write if a program must know a newer migration.
pub(crate) fn check(required: i32) -> Result<(), NotWritableReason> {
    if required <= KNOWN_VERSION {
        return Ok(());
    }
    Err(NotWritableReason::OutdatedProgram {
        required,
        known: KNOWN_VERSION,
    })
}

/// Reads the required version, and refuses to write if this program does not know it. The transaction must hold the
/// lock of the rollers, or the threshold lock shared.
pub(crate) async fn check_now(session: &mut Session) -> Result<(), StoreError> {
    let statement = session.prepare(REQUIRED_VERSION).await?;
    let row = session.client().query_opt(&statement, &[]).await?;
    Ok(check(row.map_or(0, |row| row.get(0)))?)
}
