//! Keeps the commit log short: packs old records, and deletes packs that are older than the replay window.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

use crate::{
    error::{Error, NotWritableReason},
    store::{
        commit_log,
        readers::{Readers, checkout},
    },
};

/// The pause between two runs. A thousand commits a second make 10 000 records in that time, which take some
/// milliseconds to pack.
const PAUSE: Duration = Duration::from_secs(10);

/// Runs until the handle is closed or dropped. Every server runs this task; they take turns.
pub(crate) async fn run(readers: Readers, window: Duration, mut closing: watch::Receiver<bool>) {
    // The channel is closed if the handle was dropped.
    while timeout(PAUSE, closing.wait_for(|closing| *closing)).await.is_err() {
        match maintain(&readers, window).await {
            // The log says already that nothing can be stored.
            Ok(())
            | Err(Error::NotWritable(NotWritableReason::ReadOnly | NotWritableReason::OutdatedProgram { .. })) => {}
            Err(error) => tracing::warn!(error = error.chain(), "cannot pack the commit log; trying again"),
        }
    }
}

async fn maintain(readers: &Readers, window: Duration) -> Result<(), Error> {
    let mut session = checkout(readers).await?;
    loop {
        match commit_log::maintain(&mut session, window).await.map_err(Error::from) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                session.retire_if_read_only(&error);
                return Err(error);
            }
        }
    }
}
